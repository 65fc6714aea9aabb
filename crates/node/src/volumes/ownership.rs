//! Whose the files of a volume are: those of a local volume go to the pod's fsGroup.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use super::{VolumeError, fs_group, mounts};
use crate::pod;

/// Directories let the group do everything and pass it on, files let it read and write.
const DIRECTORY: u32 = 0o2770;
const FILE: u32 = 0o660;

/// The group that a pod gives its volumes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    id: u32,
    /// A volume whose own directory is as it should be is left as it is (`fsGroupChangePolicy: OnRootMismatch`).
    only_on_mismatch: bool,
}

impl Group {
    /// The pod's, if it names one.
    pub fn of(pod: &Pod) -> Option<Self> {
        let context = pod::spec(pod).security_context.as_ref();
        let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
        Some(Self { id: fs_group(pod)?, only_on_mismatch: policy == Some("OnRootMismatch") })
    }

    /// Gives it the volume at `path`, unless a pod of this node has that below `pods`: then the answer is the group
    /// that the volume stays with, if it is another.
    pub fn take(self, path: &Path, pods: &Path) -> Result<Option<u32>, VolumeError> {
        let found = fs::metadata(path).map_err(VolumeError::io("stat", path))?;
        if is_mounted(&found, pods).map_err(VolumeError::io("look for mounts below", pods))? {
            return Ok(Some(found.gid()).filter(|gid| *gid != self.id));
        }
        if !(self.only_on_mismatch && self.has(&found)) {
            // A link at the top stands for what it leads to; those below are given themselves.
            let root = path.canonicalize().map_err(VolumeError::io("resolve", path))?;
            self.take_all(&root)?;
        }
        Ok(None)
    }

    fn has(self, root: &Metadata) -> bool {
        root.is_dir() && root.gid() == self.id && root.mode() & DIRECTORY == DIRECTORY
    }

    /// The root comes last: one that is as it should be says that everything is. Other file systems below are
    /// not part of the volume.
    fn take_all(self, root: &Path) -> Result<(), VolumeError> {
        let found = fs::symlink_metadata(root).map_err(VolumeError::io("stat", root))?;
        let mut directories: Vec<PathBuf> = found.is_dir().then(|| root.to_owned()).into_iter().collect();
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).map_err(VolumeError::io("list", &directory))? {
                let path = entry.map_err(VolumeError::io("list", &directory))?.path();
                let child = fs::symlink_metadata(&path).map_err(VolumeError::io("stat", &path))?;
                if child.dev() != found.dev() {
                    continue;
                }
                self.take_one(&path, &child)?;
                if child.is_dir() {
                    directories.push(path);
                }
            }
        }
        self.take_one(root, &found)
    }

    fn take_one(self, path: &Path, found: &Metadata) -> Result<(), VolumeError> {
        lchown(path, None, Some(self.id)).map_err(VolumeError::io("chown", path))?;
        if found.is_symlink() {
            return Ok(());
        }
        let mode = found.mode() | if found.is_dir() { DIRECTORY } else { FILE };
        fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))
            .map_err(VolumeError::io("chmod", path))
    }
}

fn is_mounted(found: &Metadata, below: &Path) -> io::Result<bool> {
    let same = |point: &PathBuf| {
        fs::metadata(point).is_ok_and(|other| (other.dev(), other.ino()) == (found.dev(), found.ino()))
    };
    Ok(mounts::below(below)?.iter().any(same))
}

#[cfg(test)]
#[path = "ownership_tests.rs"]
mod tests;
