use std::io::Cursor;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::{Limits, unpack};
use crate::error::Error;

/// One entry: kind, path, link or content.
type Row<'a> = (EntryType, &'a str, &'a str);

/// A tar stream as an attacker would write it: paths are taken as they are.
fn stream(rows: &[Row<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, path, text) in rows {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        let raw = header.as_old_mut();
        raw.name[..path.len()].copy_from_slice(path.as_bytes());
        let content = if *kind == EntryType::Regular { text.as_bytes() } else { b"" };
        if *kind != EntryType::Regular {
            raw.linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpacked(rows: &[Row<'_>]) -> (tempfile::TempDir, Result<(), Error>) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(dir.path().join("outside"), "untouched").unwrap();
    let result = unpack(Cursor::new(stream(rows)), &root, Limits::default()).map(drop);
    assert_eq!(std::fs::read_to_string(dir.path().join("outside")).unwrap(), "untouched", "{rows:?}");
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "something was made outside: {names:?}");
    (dir, result)
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: layers are unpacked by root");
    }
    root
}

use EntryType::{Directory, Link, Regular, Symlink};

#[test]
fn no_entry_leaves_the_layer() {
    if !root() {
        return;
    }
    for rows in [
        &[(Regular, "../outside", "evil")][..],
        &[(Regular, "a/../../outside", "evil")],
        &[(Symlink, "link", ".."), (Regular, "link/outside", "evil")],
        &[(Symlink, "link", "../outside"), (Regular, "link", "evil")],
        &[(Link, "hard", "../outside"), (Regular, "hard", "evil")],
        &[(Symlink, "link", ".."), (Link, "hard", "link/outside"), (Regular, "hard", "evil")],
        &[(Symlink, "link", "../new"), (Directory, "link", "")],
        &[(Symlink, "d", ".."), (Directory, "d/made", "")],
        &[(Symlink, "d", "/"), (Regular, "d/etc/evil", "evil")],
        &[(Regular, "sub/.wh...", "")],
        &[(Regular, "sub/.wh..", "")],
    ] {
        let (_dir, _) = unpacked(rows);
        assert!(!Path::new("/etc/evil").exists());
    }
}

#[test]
fn links_are_followed_inside_the_layer() {
    if !root() {
        return;
    }
    let (dir, result) = unpacked(&[
        (Directory, "usr/lib", ""),
        (Symlink, "lib", "/usr/lib"),
        (Regular, "lib/a", "text"),
        (Link, "b", "lib/a"),
    ]);
    result.unwrap();
    let root = dir.path().join("root");
    assert_eq!(std::fs::read_to_string(root.join("usr/lib/a")).unwrap(), "text");
    let inode = |path: &str| std::fs::metadata(root.join(path)).unwrap().ino();
    assert_eq!(inode("b"), inode("usr/lib/a"));
    assert_eq!(std::fs::metadata(root.join("usr/lib/a")).unwrap().mtime(), 1_000_000);
}

#[test]
fn whiteouts_become_overlayfs_own() {
    if !root() {
        return;
    }
    let (dir, result) = unpacked(&[
        (Directory, "gone-below", ""),
        (Regular, "d/.wh.file", ""),
        (Regular, "o/.wh..wh..opq", ""),
        (Regular, "o/new", "x"),
        (Regular, ".wh.again", ""),
        (Directory, "again", ""),
    ]);
    result.unwrap();
    let root = dir.path().join("root");
    let whiteout = std::fs::symlink_metadata(root.join("d/file")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    let opaque = |path: &str| {
        let path = std::ffi::CString::new(root.join(path).to_str().unwrap()).unwrap();
        let mut value = [0u8; 4];
        // SAFETY: both strings are terminated and the buffer is as long as it says.
        let size = unsafe {
            nix::libc::getxattr(
                path.as_ptr(),
                c"trusted.overlay.opaque".as_ptr(),
                value.as_mut_ptr().cast(),
                value.len(),
            )
        };
        size == 1 && value[0] == b'y'
    };
    assert!(opaque("o") && opaque("again") && !opaque("d") && !opaque("gone-below"));
    assert!(!root.join("d/.wh.file").exists() && !root.join("o/.wh..wh..opq").exists());
}

#[test]
fn a_layer_has_bounds() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let rows = [(Regular, "a", "12345"), (Regular, "b", "12345")];
    let try_with = |limits| unpack(Cursor::new(stream(&rows)), dir.path(), limits).map(drop);
    assert!(matches!(try_with(Limits { bytes: 9, entries: 10 }), Err(Error::Archive(_))));
    assert!(matches!(try_with(Limits { bytes: 100_000, entries: 1 }), Err(Error::Archive(_))));
    assert!(try_with(Limits { bytes: 100_000, entries: 2 }).is_ok());
}

#[test]
fn a_stream_that_is_cut_or_garbled_is_refused() {
    if !root() {
        return;
    }
    let whole = stream(&[(Regular, "a", "12345")]);
    let dir = tempfile::tempdir().unwrap();
    let attempt = |bytes: &[u8]| unpack(Cursor::new(bytes.to_vec()), dir.path(), Limits::default());
    assert!(attempt(&whole[..514]).is_err());
    let mut garbled = whole.clone();
    garbled[150] ^= 0x55;
    assert!(attempt(&garbled).is_err());
}
