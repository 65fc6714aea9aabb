//! The few mounts that a node makes itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The mount points at or below a directory, the deepest first.
pub fn below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let mut points: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|point| point.starts_with(path))
        .collect();
    points.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    Ok(points)
}

/// Whether something is mounted exactly there.
pub fn is_mount_point(path: &Path) -> bool {
    below(path).is_ok_and(|points| points.iter().any(|p| p == path))
}

/// The kernel writes blanks and backslashes of a path as three octal digits.
fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code =
            octal.and_then(|o| std::str::from_utf8(o).ok()).and_then(|o| u8::from_str_radix(o, 8).ok());
        match code {
            Some(code) => {
                out.push(code);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

/// Mounts a tmpfs; `size` in bytes, unbounded (half of memory) without.
pub fn mount_tmpfs(path: &Path, size: Option<i64>, mode: &str) -> io::Result<()> {
    let size = size.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(format!("mode={mode}{size}").as_str()))?;
    Ok(())
}

/// Binds a directory onto itself and shares its mounts with those who bind it, as mount propagation needs.
pub fn make_shared(path: &Path) -> io::Result<()> {
    if !is_mount_point(path) {
        mount(Some(path), path, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    }
    mount(None::<&str>, path, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)?;
    Ok(())
}

/// Binds `from` onto `to`, which must exist.
pub fn bind(from: &Path, to: &Path) -> io::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

/// Unmounts everything at or below a directory; what is in use goes when its last user does.
pub fn unmount_below(path: &Path) -> io::Result<()> {
    for point in below(path)? {
        match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Shared mounts go away together: one may be gone by the time its turn comes.
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_escaped_paths() {
        assert_eq!(unescape(r"/a\040b\134c"), PathBuf::from("/a b\\c"));
        assert_eq!(unescape(r"/a\0"), PathBuf::from(r"/a\0"));
    }

    #[test]
    fn knows_mount_points() {
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/proc/self")));
    }
}
