//! Small file operations that must not leave half of anything behind.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Replaces `path` in one step: a reader sees the old content or the new, also after this process is killed.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, content, |_| Ok(()))
}

/// Like [`write_json`], and the new content is there after a loss of power too.
pub(crate) fn write_json_durably<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(Error::parse(path.display().to_string()))?;
    replace(path, &text, fs::File::sync_all)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::File::open(directory).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", directory))
}

fn replace(path: &Path, content: &[u8], settle: impl Fn(&fs::File) -> io::Result<()>) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(content)?;
        settle(&file)?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // What a full disk did not take is no use to anyone; the error that is told is the first.
        let _ = fs::remove_file(&temporary);
        Error::io("write", path)(error)
    })
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(Error::parse(path.display().to_string()))?;
    write_atomically(path, &text)
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(Error::parse(path.display().to_string()))
}

/// Like [`read_json`], but an absent file is `None`.
pub(crate) fn read_json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(Error::parse(path.display().to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

pub(crate) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create directory", path))
}

/// Removes a directory and all below it; that it is gone already is success.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Detaches whatever is mounted on `path`; that nothing is mounted there is success.
pub(crate) fn unmount(path: &Path) -> Result<()> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Mounts may lie on top of one another.
            Ok(()) => continue,
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(Error::io("unmount", path)(error)),
        }
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
