//! A piece of a volume, reached without ever leaving it.
//!
//! The content of a volume belongs to containers, which may put links there. The path is therefore resolved by the
//! kernel with the volume as its root, and what was opened is bound to a place of ours; nobody resolves it again.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, fchmod, mkdirat};

use super::mounts;

/// Binds `volume`/`sub` onto `target`; directories that are missing are made, unless the volume is read-only.
pub fn bind(volume: &Path, sub: &str, target: &Path, may_create: bool) -> io::Result<PathBuf> {
    // An earlier instance of the container keeps what it has; the next one gets what the path names now.
    mounts::unmount_below(target)?;
    let found = resolve(volume, sub, may_create)?;
    let parent = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    let through = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    if fs::metadata(&through)?.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        fs::File::options().create(true).append(true).open(target)?;
    }
    mounts::bind(&through, target)?;
    Ok(target.to_owned())
}

/// The text of the file that `sub` names inside `volume`, no more than `most` bytes of it; `None` if there is none.
///
/// # Errors
/// For what is no plain file, is longer, or is no UTF-8, beside the kernel's own.
pub fn read(volume: &Path, sub: &str, most: u64) -> io::Result<Option<String>> {
    let found = match resolve(volume, sub, false) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let through = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let metadata = fs::metadata(&through)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if metadata.len() > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {most} bytes")));
    }
    let mut text = String::new();
    fs::File::open(&through)?.take(most).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Opens what `sub` names inside `root`, links included but never beyond `root`.
fn resolve(root: &Path, sub: &str, may_create: bool) -> io::Result<OwnedFd> {
    let sub = Path::new(sub);
    if sub.is_absolute() || sub.components().any(|c| matches!(c, Component::ParentDir)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of the volume"));
    }
    let mode = fs::metadata(root)?.permissions().mode() & 0o777;
    let root = open(root, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = || {
        OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS)
    };
    match openat2(&root, sub, how()) {
        Ok(found) => return Ok(found),
        Err(nix::errno::Errno::ENOENT) if may_create => {}
        Err(error) => return Err(error.into()),
    }
    let mut made = PathBuf::new();
    for part in sub.components() {
        let parent =
            if made.as_os_str().is_empty() { root.try_clone()? } else { openat2(&root, &made, how())? };
        made.push(part);
        if let Component::Normal(name) = part {
            // Who may use the volume may use what is made in it, whatever this process masks out.
            match mkdirat(&parent, name, Mode::from_bits_truncate(mode)) {
                Ok(()) => {
                    let own = how().flags(OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC);
                    let made = openat2(&parent, name, own)?;
                    fchmod(&made, Mode::from_bits_truncate(mode))?;
                }
                Err(nix::errno::Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(openat2(&root, sub, how())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn never_leaves_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir_all(volume.join("in")).unwrap();
        fs::write(volume.join("in/f"), "inside").unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
        symlink("/in", volume.join("absolute")).unwrap();
        symlink("../secret", volume.join("escape")).unwrap();
        let read = |sub: &str| {
            let fd = resolve(&volume, sub, false)?;
            fs::read_to_string(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        };
        assert_eq!(read("in/f").unwrap(), "inside");
        assert_eq!(read("absolute/f").unwrap(), "inside");
        assert!(read("escape").is_err());
        assert!(read("../secret").is_err());
        assert!(read("/in/f").is_err());
        assert_eq!(super::read(&volume, "in/f", 6).unwrap().as_deref(), Some("inside"));
        assert_eq!(super::read(&volume, "in/none", 6).unwrap(), None);
        assert_eq!(super::read(&volume, "escape", 9).unwrap(), None);
        assert!(super::read(&volume, "in", 9).is_err() && super::read(&volume, "in/f", 5).is_err());
        assert!(resolve(&volume, "new/deep", false).is_err());
        resolve(&volume, "new/deep", true).unwrap();
        assert!(volume.join("new/deep").is_dir());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&volume.join("new/deep")) & 0o777, mode(&volume) & 0o777);
    }
}
