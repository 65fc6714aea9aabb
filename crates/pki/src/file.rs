//! Files that hold secrets: mode 0600, and whole or absent whatever happens while they are written.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { step, path, source }
}

/// Makes `dir` with its parents, readable by its owner only; tightens one that is there.
pub(crate) fn private_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create directory", dir))?;
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed("set permissions of", dir))
}

/// The file's text, or `None` if there is no such file. One that others could read is closed to them.
pub(crate) fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let mode = fs::metadata(path).map_err(failed("look at", path))?.permissions().mode();
            if mode & 0o077 != 0 {
                fs::set_permissions(path, Permissions::from_mode(0o600))
                    .map_err(failed("set permissions of", path))?;
            }
            Ok(Some(text))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Replaces the file by one with this content and mode 0600: written aside, synced, then renamed, so that a
/// crash leaves the old file or the new one.
///
/// Two writers of one path must not run at the same time.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    // One left behind by a crash may have been made with another mode.
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &aside)(e)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .map_err(failed("create", &aside))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed("write", &aside))?;
    fs::rename(&aside, path).map_err(failed("rename into place", path))?;
    File::open(&parent).and_then(|dir| dir.sync_all()).map_err(failed("sync directory", &parent))
}
