//! A pod's volumes: made before its first container, kept up to date while it runs, removed after its last.
//!
//! Everything of a pod lies below `pods/<uid>` of the node's directory, in upstream's layout. Volumes that show API
//! content (configMap, secret, downwardAPI, projected) are one kind here: a projection of sources into files.

pub mod atomic;
pub mod claims;
pub mod mounts;
pub mod ownership;
pub mod projection;
pub mod subpath;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, HostPathVolumeSource, ImageVolumeSource, Pod, Volume,
};
use nix::unistd::{Gid, Uid};
use tiphys_client::placement;

use crate::key::PodUid;
use crate::pod;

/// Why a volume is not there.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A file operation failed.
    #[error("{step} {path}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The host has something else at that path.
    #[error("hostPath type check failed: {path} is not {wanted}")]
    HostPathType {
        /// The path on the host.
        path: PathBuf,
        /// What the volume asked for.
        wanted: &'static str,
    },
    /// A volume of a kind that this node has no driver for.
    #[error("volume {0:?}: no volume plugin matched")]
    Unsupported(String),
    /// What is claimed can't be had.
    #[error(transparent)]
    Claim(#[from] claims::ClaimError),
    /// The content to be shown can't be had.
    #[error(transparent)]
    Projection(#[from] projection::ProjectionError),
    /// What is below a mount can't be made read-only with it here.
    #[error(
        "failed to resolve recursive read-only mode: volume {0:?} requested recursive read-only mode, but it is not supported by the runtime"
    )]
    RecursiveReadOnly(String),
    /// A path inside a volume leads out of it, or is none.
    #[error("failed to prepare subPath for volumeMount {mount:?}: {source}")]
    SubPath {
        /// The name of the mounted volume.
        mount: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl VolumeError {
    pub(crate) fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { step, path, source }
    }
}

/// The directories of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodDir(PathBuf);

impl PodDir {
    /// The directory of a pod below the node's.
    pub fn new(node_dir: &Path, uid: &PodUid) -> Self {
        Self(node_dir.join("pods").join(uid.as_str()))
    }

    /// Where the directories of all pods are.
    pub fn all(&self) -> &Path {
        self.0.parent().unwrap_or(&self.0)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The managed hosts file.
    pub fn hosts_file(&self) -> PathBuf {
        self.0.join("etc-hosts")
    }

    /// Where an instance of a container leaves its last words.
    pub fn last_words(&self, container: &str, attempt: u32) -> PathBuf {
        self.0.join("containers").join(container).join(attempt.to_string())
    }

    /// Where a volume of a kind is.
    pub fn volume(&self, kind: &str, name: &str) -> PathBuf {
        self.0.join("volumes").join(format!("kubernetes.io~{kind}")).join(name)
    }

    /// Where a piece of a volume is bound for one mount of one container.
    pub fn subpath(&self, volume: &str, container: &str, index: usize) -> PathBuf {
        self.0.join("volume-subpaths").join(volume).join(container).join(index.to_string())
    }
}

/// What a volume is to this node.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// A directory of the pod's own.
    EmptyDir(&'a EmptyDirVolumeSource),
    /// Something of the host's.
    HostPath(&'a HostPathVolumeSource),
    /// What a claim stands for, read-only or not.
    Claim { read_only: bool },
    /// Files with content from the API.
    Projection(projection::Projection),
    /// The files of an image, which the runtime mounts (KEP-4639).
    Image(&'a ImageVolumeSource),
}

/// Sorts a volume; `None` for those of kinds that this node has no driver for.
pub fn source<'a>(pod: &Pod, volume: &'a Volume) -> Option<Source<'a>> {
    if let Some(source) = &volume.empty_dir {
        Some(Source::EmptyDir(source))
    } else if let Some(source) = &volume.host_path {
        Some(Source::HostPath(source))
    } else if let Some(source) = &volume.image {
        Some(Source::Image(source))
    } else if claims::claim_of(pod, volume).is_some() {
        let read_only = volume.persistent_volume_claim.as_ref().and_then(|claim| claim.read_only);
        Some(Source::Claim { read_only: read_only.unwrap_or(false) })
    } else {
        projection::of(pod, volume).map(Source::Projection)
    }
}

/// Where a volume is on the host.
pub fn host_path(dir: &PodDir, volume: &Volume, source: &Source<'_>) -> PathBuf {
    match source {
        Source::EmptyDir(_) => dir.volume("empty-dir", &volume.name),
        Source::HostPath(source) => PathBuf::from(&source.path),
        Source::Claim { .. } => claims::place(dir, volume),
        Source::Projection(p) => dir.volume(p.plugin, &volume.name),
        Source::Image(_) => dir.volume("image", &volume.name),
    }
}

/// The pod's fsGroup.
pub fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod::spec(pod).security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// Makes the directory of an emptyDir; one in memory becomes a tmpfs bounded by `sizeLimit` and the pod's own limit.
pub fn make_empty_dir(
    path: &Path,
    source: &EmptyDirVolumeSource,
    fs_group: Option<u32>,
    memory_limit: Option<i64>,
) -> Result<(), VolumeError> {
    let fresh = !path.exists();
    fs::create_dir_all(path).map_err(VolumeError::io("create", path))?;
    if source.medium.as_deref() == Some("Memory") && !mounts::is_mount_point(path) {
        let limit = source.size_limit.as_ref().and_then(placement::units).filter(|l| *l > 0);
        let size = [limit, memory_limit].into_iter().flatten().min();
        mounts::mount_tmpfs(path, size, "0777").map_err(VolumeError::io("mount a tmpfs on", path))?;
    }
    if fresh {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))
            .map_err(VolumeError::io("chmod", path))?;
        give_to_group(path, fs_group)?;
    }
    Ok(())
}

/// Gives a directory to a group so that what is made in it belongs to the group as well.
pub fn give_to_group(path: &Path, group: Option<u32>) -> Result<(), VolumeError> {
    let Some(group) = group else { return Ok(()) };
    nix::unistd::chown(path, None::<Uid>, Some(Gid::from_raw(group)))
        .map_err(|e| VolumeError::io("chown", path)(e.into()))?;
    let mode = fs::metadata(path).map_err(VolumeError::io("stat", path))?.permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o2770))
        .map_err(VolumeError::io("chmod", path))
}

/// Checks a hostPath, and makes what its type says may be made.
pub fn check_host_path(source: &HostPathVolumeSource) -> Result<(), VolumeError> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" if !path.exists() => {
            return fs::create_dir_all(path).map_err(VolumeError::io("create", path));
        }
        "FileOrCreate" if !path.exists() => {
            return fs::File::options()
                .create_new(true)
                .write(true)
                .open(path)
                .map(drop)
                .map_err(VolumeError::io("create", path));
        }
        _ => {}
    }
    let found = fs::metadata(path);
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_ok_and(|m| test(&m.file_type()));
    let (fits, wanted) = match kind {
        "" => return Ok(()),
        "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "a directory"),
        "File" | "FileOrCreate" => (is(fs::FileType::is_file), "a file"),
        "Socket" => (is(fs::FileType::is_socket), "a socket file"),
        "CharDevice" => (is(fs::FileType::is_char_device), "a character device"),
        "BlockDevice" => (is(fs::FileType::is_block_device), "a block device"),
        _ => (false, "of a known type"),
    };
    if fits { Ok(()) } else { Err(VolumeError::HostPathType { path: path.to_owned(), wanted }) }
}

/// Unmounts everything below a pod's directory and removes it. A hostPath is never below it; what a container bound
/// there is unmounted first, and nothing is removed while a mount is left.
pub fn remove(dir: &PodDir) -> Result<(), VolumeError> {
    let path = dir.path();
    mounts::unmount_below(path).map_err(VolumeError::io("unmount what is below", path))?;
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(VolumeError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Files by path relative to the volume.
pub type Files = BTreeMap<String, FileContent>;

/// One file of a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// Its bytes.
    pub data: bytes::Bytes,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner, if not root.
    pub owner: Option<u32>,
}

#[cfg(test)]
#[path = "volumes_tests.rs"]
mod tests;
