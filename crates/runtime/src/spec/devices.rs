//! Device nodes of a container and what its device group allows.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};
use serde_json::{Value, json};
use tiphys_cri::v1::Device;

use crate::error::{Error, Result};

#[derive(Debug, Default)]
pub(super) struct Devices {
    /// `linux.devices`.
    pub(super) nodes: Vec<Value>,
    /// `linux.resources.devices`.
    pub(super) rules: Vec<Value>,
}

/// How deep `/dev` is looked through for a privileged container.
const MAX_DEPTH: u32 = 4;

/// The devices asked for; a privileged container has all of the host's.
pub(super) fn wanted(asked: &[Device], privileged: bool) -> Result<Devices> {
    let mut devices = Devices::default();
    devices.rules.push(json!({ "allow": privileged, "access": "rwm" }));
    if privileged {
        collect(Path::new("/dev"), 0, &mut devices);
    }
    for device in asked {
        let host = Path::new(&device.host_path);
        let metadata = fs::metadata(host).map_err(Error::io("look at device", host))?;
        let (Some(mut node), Some(mut rule)) =
            (node(Path::new(&device.container_path), &metadata), rule(&metadata))
        else {
            return Err(Error::Invalid(format!("{} is no device", host.display())));
        };
        let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
        if !access.chars().all(|letter| "rwm".contains(letter)) {
            return Err(Error::Invalid(format!("device permissions {access:?} aren't made of r, w and m")));
        }
        rule["access"] = json!(access);
        node["fileMode"] = json!(metadata.mode() & 0o777);
        devices.nodes.push(node);
        devices.rules.push(rule);
    }
    Ok(devices)
}

fn node(path: &Path, metadata: &fs::Metadata) -> Option<Value> {
    let kind = if metadata.file_type().is_char_device() {
        "c"
    } else if metadata.file_type().is_block_device() {
        "b"
    } else {
        return None;
    };
    Some(json!({
        "path": path, "type": kind,
        "major": major(metadata.rdev()), "minor": minor(metadata.rdev()),
        "fileMode": metadata.mode() & 0o777, "uid": metadata.uid(), "gid": metadata.gid(),
    }))
}

fn rule(metadata: &fs::Metadata) -> Option<Value> {
    let kind = if metadata.file_type().is_char_device() { "c" } else { "b" };
    Some(json!({
        "allow": true, "type": kind, "access": "rwm",
        "major": major(metadata.rdev()), "minor": minor(metadata.rdev()),
    }))
}

/// All nodes below `dir`, without those that every container has of its own. What can't be read isn't there.
fn collect(dir: &Path, depth: u32, into: &mut Devices) {
    const OWN: [&str; 6] = ["pts", "shm", "fd", "mqueue", "console", "ptmx"];
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if depth == 0 && OWN.iter().any(|own| name == *own) {
            continue;
        }
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        if metadata.is_dir() && depth < MAX_DEPTH {
            collect(&entry.path(), depth + 1, into);
        } else if let Some(node) = node(&entry.path(), &metadata) {
            into.nodes.push(node);
        }
    }
}
