//! Files that count as they are now, not as they were when the program started.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::inotify::AddWatchFlags;
use tiphys_node::DirectoryWatch;

/// Has `apply` take in the file's text whenever it is no longer `known`. What cannot be read or applied is told, and
/// changes nothing.
///
/// The file's directory is watched: editors, and whoever mounts a ConfigMap, put another file in its place.
pub(crate) async fn follow(
    file: PathBuf,
    mut known: Vec<u8>,
    apply: impl Fn(&[u8]) -> Result<()>,
) -> Result<()> {
    let directory = match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let changes = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE;
    let watch = DirectoryWatch::new(directory, changes)
        .with_context(|| format!("watching {}", directory.display()))?;
    loop {
        match std::fs::read(&file) {
            Ok(text) if text == known => {}
            Ok(text) => {
                match apply(&text) {
                    Ok(()) => tracing::info!(file = %file.display(), "took in a changed configuration"),
                    Err(error) => {
                        let error = format!("{error:#}");
                        tracing::error!(file = %file.display(), error, "keeping the configuration before");
                    }
                }
                known = text;
            }
            Err(error) => tracing::error!(file = %file.display(), %error, "cannot read a configuration"),
        }
        watch.changed().await.with_context(|| format!("watching {}", directory.display()))?;
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
