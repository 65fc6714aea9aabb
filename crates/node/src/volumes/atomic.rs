//! Changes all files of a volume at once.
//!
//! Files lie in a directory of their own, named for the moment they were written; `..data` points to it, and what a
//! container sees are links through `..data`. A change writes a new directory and swaps `..data` by one rename, so
//! that a reader sees all of the old or all of the new. The layout is upstream's: programs watch `..data`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use jiff::Timestamp;
use nix::unistd::{Gid, Uid, chown};

use super::{FileContent, Files, VolumeError};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes the volume at `dir` hold exactly `files`. Answers whether anything had to change.
pub fn write(dir: &Path, files: &Files, fs_group: Option<u32>) -> Result<bool, VolumeError> {
    for name in files.keys() {
        check_name(name).map_err(|_| VolumeError::Io {
            step: "use as a path inside the volume",
            path: name.into(),
            source: io::ErrorKind::InvalidInput.into(),
        })?;
    }
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && same(&dir.join(old), files)
    {
        return Ok(false);
    }
    let stamp = Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%f").to_string();
    let fresh = dir.join(&stamp);
    make_dir(&fresh, fs_group)?;
    for (name, content) in files {
        let path = fresh.join(name);
        let mut parent = fresh.clone();
        for part in Path::new(name).parent().into_iter().flat_map(Path::components) {
            parent.push(part);
            if !parent.is_dir() {
                make_dir(&parent, fs_group)?;
            }
        }
        write_file(&path, content, fs_group)?;
    }
    let swap = dir.join(DATA_NEW);
    match fs::remove_file(&swap) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(VolumeError::io("remove", &swap)(error));
        }
        _ => {}
    }
    symlink(&stamp, &swap).map_err(VolumeError::io("link", &swap))?;
    fs::rename(&swap, dir.join(DATA)).map_err(VolumeError::io("rename", &swap))?;
    relink(dir, files)?;
    clear_old(dir, &stamp);
    Ok(true)
}

/// A path of plain names; none of them may be taken for one of ours.
fn check_name(name: &str) -> Result<(), ()> {
    let path = Path::new(name);
    let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
    if name.is_empty() || !plain || name.starts_with("..") || name.len() > 4096 { Err(()) } else { Ok(()) }
}

fn make_dir(path: &Path, fs_group: Option<u32>) -> Result<(), VolumeError> {
    fs::create_dir(path).map_err(VolumeError::io("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(VolumeError::io("chmod", path))?;
    super::give_to_group(path, fs_group)
}

fn write_file(path: &Path, content: &FileContent, fs_group: Option<u32>) -> Result<(), VolumeError> {
    fs::write(path, &content.data).map_err(VolumeError::io("write", path))?;
    if content.owner.is_some() || fs_group.is_some() {
        chown(path, content.owner.map(Uid::from_raw), fs_group.map(Gid::from_raw))
            .map_err(|e| VolumeError::io("chown", path)(e.into()))?;
    }
    let mode = content.mode | if fs_group.is_some() { 0o440 } else { 0 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(VolumeError::io("chmod", path))
}

/// Whether a directory already holds these files and no others.
fn same(dir: &Path, files: &Files) -> bool {
    let mut found = BTreeSet::new();
    collect(dir, dir, &mut found);
    found.iter().map(String::as_str).eq(files.keys().map(String::as_str))
        && files.iter().all(|(name, content)| fs::read(dir.join(name)).is_ok_and(|data| data == content.data))
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect(root, &path, found);
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.insert(relative.to_string_lossy().into_owned());
        }
    }
}

/// Links the first element of every path through `..data`, and removes links to what is gone.
fn relink(dir: &Path, files: &Files) -> Result<(), VolumeError> {
    let first = |name: &String| name.split('/').next().unwrap_or_default().to_owned();
    let wanted: BTreeSet<String> = files.keys().map(first).collect();
    for name in &wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).map_err(VolumeError::io("link", &link))?;
        }
    }
    for entry in fs::read_dir(dir).map_err(VolumeError::io("list", dir))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let link = entry.file_type().is_ok_and(|t| t.is_symlink());
        if link && !name.starts_with("..") && !wanted.contains(&name) {
            fs::remove_file(entry.path()).map_err(VolumeError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Removes the directories of earlier contents, those of an interrupted change included. What can't be removed now
/// goes with the volume.
fn clear_old(dir: &Path, current: &str) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name.starts_with("..") && entry.file_type().is_ok_and(|t| t.is_dir());
        if ours
            && name != current
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::debug!(path = %entry.path().display(), %error, "earlier content not removed");
        }
    }
}
