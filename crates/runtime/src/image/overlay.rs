use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::store::short;
use crate::error::{Error, Result};

/// Mounts the layers (chain IDs, lowest first) with a writable directory of its own on `target`.
///
/// `upper` must be an empty directory below the same root as the layers, with `work` on the same file system.
/// Paths are given to the kernel relative to `root`, because the options of a mount are one page: the working
/// directory belongs to the process, so a thread of its own leaves the others' alone.
pub(crate) fn mount_overlay(
    root: &Path,
    layers: &[String],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> Result<()> {
    let relative = |path: &Path| -> Result<String> {
        let inside = path.strip_prefix(root).ok().and_then(Path::to_str);
        inside
            .filter(|text| !text.contains([',', ':', '\\']))
            .map(str::to_owned)
            .ok_or_else(|| Error::Invalid(format!("{} can't be part of an overlay", path.display())))
    };
    let options = format!("{},upperdir={},workdir={}", below(layers), relative(upper)?, relative(work)?);
    // Device nodes that an image brings are of no use: a container has those of its own /dev.
    mount_from(root, &options, MsFlags::MS_NODEV, target)
}

/// Mounts the layers on `target` to be looked at: nothing there can be changed or run.
pub(crate) fn mount_to_read(root: &Path, layers: &[String], target: &Path) -> Result<()> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    // Without a writable directory the kernel asks for two others.
    mount_from(root, &format!("{}:layers/none", below(layers)), flags, target)
}

fn below(layers: &[String]) -> String {
    let mut lower: Vec<String> =
        layers.iter().rev().map(|chain| format!("layers/{}", short(chain))).collect();
    if lower.is_empty() {
        lower.push("layers/none".into());
    }
    format!("lowerdir={}", lower.join(":"))
}

fn mount_from(root: &Path, options: &str, flags: MsFlags, target: &Path) -> Result<()> {
    if options.len() >= 4096 {
        return Err(Error::Invalid("the image has too many layers for one mount".into()));
    }
    let mounting = || -> Result<()> {
        unshare(CloneFlags::CLONE_FS).map_err(Error::call("unshare the working directory"))?;
        nix::unistd::chdir(root).map_err(Error::io("enter", root))?;
        mount(Some("overlay"), target, Some("overlay"), flags, Some(options))
            .map_err(Error::io("mount overlay on", target))
    };
    std::thread::scope(|scope| {
        scope.spawn(mounting).join().unwrap_or_else(|_| Err(Error::Invalid("overlay thread panicked".into())))
    })
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
