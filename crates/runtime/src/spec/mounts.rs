//! What a container finds mounted: its own kernel file systems, the sandbox's files, and the kubelet's volumes.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};
use tiphys_cri::v1::{
    LinuxContainerSecurityContext, Mount, MountPropagation, NamespaceMode, NamespaceOption,
};

use super::Blueprint;
use crate::cgroup;
use crate::error::{Error, Result};

pub(super) struct Mounts {
    pub(super) mounts: Vec<Value>,
    /// How mounts travel between host and container: `shared` when one volume must show the host what the container
    /// mounts, else `slave`. libcontainer knows this for the container as a whole only.
    pub(super) propagation: &'static str,
}

pub(super) fn all(
    from: &Blueprint<'_>,
    security: &LinuxContainerSecurityContext,
    options: &NamespaceOption,
) -> Result<Mounts> {
    let asked = &from.config.mounts;
    let mut volumes = Vec::new();
    for (index, mount) in asked.iter().enumerate() {
        let volume = match from.image_volumes.get(&index) {
            Some(place) => image_volume(mount, place)?,
            None => volume(mount)?,
        };
        volumes.push((clean(&mount.container_path)?, volume));
    }
    let taken = |path: &str| volumes.iter().any(|(destination, _)| destination == Path::new(path));
    let mut mounts: Vec<(PathBuf, Value)> = Vec::new();
    for (destination, mount) in kernel(security, options).into_iter().chain(groups(from, security)) {
        if !taken(&destination) {
            mounts.push((PathBuf::from(destination), mount));
        }
    }
    let shm = if options.ipc() == NamespaceMode::Node {
        PathBuf::from("/dev/shm")
    } else {
        from.sandbox_dir.join("shm")
    };
    let mut files = vec![("/dev/shm", shm, "rw")];
    let mode = if security.readonly_rootfs { "ro" } else { "rw" };
    for (destination, name) in [("/etc/resolv.conf", "resolv.conf"), ("/etc/hostname", "hostname")] {
        files.push((destination, from.sandbox_dir.join(name), mode));
    }
    for (destination, source, mode) in files {
        if !taken(destination) && source.exists() {
            mounts.push((PathBuf::from(destination), bind(destination, &source, &["rbind", mode])));
        }
    }
    mounts.extend(volumes);
    // A mount must not be hidden by one above it that comes later.
    mounts.sort_by_key(|(destination, _)| destination.components().count());
    let shares = asked.iter().any(|mount| mount.propagation() == MountPropagation::PropagationBidirectional);
    Ok(Mounts {
        mounts: mounts.into_iter().map(|(_, mount)| mount).collect(),
        propagation: if shares { "shared" } else { "slave" },
    })
}

fn bind(destination: &str, source: &Path, options: &[&str]) -> Value {
    json!({ "destination": destination, "source": source, "type": "bind", "options": options })
}

fn clean(path: &str) -> Result<PathBuf> {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                return Err(Error::Invalid(format!("mount path {path:?} must not have '..' in it")));
            }
            _ => {}
        }
    }
    if clean == Path::new("/") {
        return Err(Error::Invalid(format!("mount path {path:?} is the root of the container")));
    }
    Ok(clean)
}

fn volume(mount: &Mount) -> Result<Value> {
    let source = Path::new(&mount.host_path);
    if !source.is_absolute() {
        return Err(Error::Invalid(format!("mount source {:?} isn't absolute", mount.host_path)));
    }
    match fs::metadata(source) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(source).map_err(Error::io("create mount source", source))?;
        }
        Err(error) => return Err(Error::io("look at mount source", source)(error)),
    }
    let mut options = vec!["rbind"];
    options.push(if mount.readonly { "ro" } else { "rw" });
    if mount.recursive_read_only {
        if !mount.readonly || mount.propagation() != MountPropagation::PropagationPrivate {
            let text = "a recursive read-only mount must be read-only and private";
            return Err(Error::Invalid(text.into()));
        }
        options.push("rro");
    }
    let destination = clean(&mount.container_path)?;
    Ok(json!({ "destination": destination, "source": source, "type": "bind", "options": options }))
}

/// An image's files, mounted at `place`: to be read, and nothing else.
fn image_volume(mount: &Mount, place: &Path) -> Result<Value> {
    if !mount.host_path.is_empty() {
        return Err(Error::Invalid("a mount can't be of an image and of the host".into()));
    }
    let options = ["rbind", "ro", "nosuid", "nodev", "noexec"];
    let destination = clean(&mount.container_path)?;
    Ok(json!({ "destination": destination, "source": place, "type": "bind", "options": options }))
}

fn kernel(security: &LinuxContainerSecurityContext, options: &NamespaceOption) -> Vec<(String, Value)> {
    let mount = |destination: &str, kind: &str, options: &[&str]| {
        let value = json!({ "destination": destination, "source": kind, "type": kind, "options": options });
        (destination.to_owned(), value)
    };
    let sys = if security.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", sys]),
    ];
    if options.ipc() == NamespaceMode::Node {
        let source = Path::new("/dev/mqueue");
        if source.exists() {
            mounts.push(("/dev/mqueue".into(), bind("/dev/mqueue", source, &["rbind", "rw"])));
        }
    } else {
        mounts.push(mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    }
    mounts
}

/// The container's own control groups, to be read: a program sizes itself by its limits. On version 1 libcontainer
/// would mount them writable, so each is bound here.
fn groups(from: &Blueprint<'_>, security: &LinuxContainerSecurityContext) -> Vec<(String, Value)> {
    let mode = if security.privileged { "rw" } else { "ro" };
    let root = "/sys/fs/cgroup";
    match from.host {
        cgroup::Host::Unified => {
            let options = ["nosuid", "noexec", "nodev", "relatime", mode];
            vec![(
                root.to_owned(),
                json!({ "destination": root, "source": "cgroup", "type": "cgroup", "options": options }),
            )]
        }
        cgroup::Host::Legacy { controllers } => {
            let options = ["nosuid", "noexec", "nodev", "mode=755", "size=64k"];
            let mut mounts = vec![(
                root.to_owned(),
                json!({ "destination": root, "source": "tmpfs", "type": "tmpfs", "options": options }),
            )];
            for (name, dir) in controllers {
                let destination = format!("{root}/{name}");
                let source = dir.join(from.cgroup.trim_start_matches('/'));
                let mount = bind(&destination, &source, &["bind", "nosuid", "noexec", "nodev", mode]);
                mounts.push((destination, mount));
            }
            mounts
        }
    }
}
