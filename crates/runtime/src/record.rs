//! What the runtime writes down of sandboxes and containers, so that a later process takes them over.
//!
//! ```text
//! pods/<sandbox>/sandbox.pb        the CRI configuration
//! pods/<sandbox>/sandbox.json      [`SandboxRecord`]
//! pods/<sandbox>/netns             the network namespace, mounted
//! pods/<sandbox>/shm               /dev/shm, mounted
//! pods/<sandbox>/c/<container>/container.pb, container.json ([`ContainerRecord`]), rootfs (mounted), upper, work
//! ```

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::spec::user::User;

/// A sandbox's way through its life; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Being made. Found after a crash, it is taken down.
    Making,
    /// Its namespaces are there and its shim answers.
    Ready,
    /// Stopped, or lost: its containers have ended and its namespaces are gone.
    Stopped,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SandboxRecord {
    pub(crate) phase: Phase,
    pub(crate) created_at: i64,
    /// Identifies the run of the kernel that it lives in; none of its processes outlives that.
    pub(crate) boot: String,
    pub(crate) pause: i32,
    pub(crate) host_network: bool,
    pub(crate) addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerRecord {
    pub(crate) created_at: i64,
    /// Zero until it was started.
    pub(crate) started_at: i64,
    /// The image's ID.
    pub(crate) image: String,
    /// What CRI calls the image's reference: a name with a digest, or the ID.
    pub(crate) image_ref: String,
    /// Chain IDs of its layers, which mustn't be removed.
    pub(crate) layers: Vec<String>,
    pub(crate) user: User,
    pub(crate) stop_signal: i32,
    pub(crate) cgroup: String,
}

/// Identifies this run of the kernel.
pub(crate) fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(text.trim().to_owned())
}

/// Reads a CRI message that was written by [`write_message`].
pub(crate) fn read_message<T: Message + Default>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    T::decode(bytes.as_slice()).map_err(|error| Error::Io {
        step: "decode",
        path: path.to_owned(),
        source: std::io::Error::other(error),
    })
}

pub(crate) fn write_message<T: Message>(path: &Path, message: &T) -> Result<()> {
    crate::files::write_atomically(path, &message.encode_to_vec())
}

/// A new ID: 64 hexadecimal digits, which is what users of container runtimes expect to see.
pub(crate) fn new_id() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}
