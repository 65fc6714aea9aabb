//! From an image and a configuration to what a process can be started in.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};
use parking_lot::Mutex;
use tiphys_cri::v1::{ContainerConfig, ContainerEventType, NamespaceMode};
use tokio::sync::watch;

use super::{Container, State};
use crate::error::{Error, Result};
use crate::image::{ImageRecord, mount_overlay, mount_to_read};
use crate::record::{ContainerRecord, new_id, write_message};
use crate::runtime::Runtime;
use crate::sandbox::{Sandbox, blocking};
use crate::spec::{self, Blueprint};
use crate::{clock, files};

impl Runtime {
    pub(crate) async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<String> {
        let inner = &self.inner;
        let sandbox = inner.sandbox(sandbox)?;
        let _one = sandbox.changing.lock().await;
        if !sandbox.is_ready() {
            return Err(Error::Precondition(format!("sandbox {} isn't ready", sandbox.id)));
        }
        let wanted = config.image.clone().unwrap_or_default().image;
        let image = inner.images.find(&wanted)?;
        let id = new_id();
        let made = {
            let (runtime, sandbox, id) = (self.clone(), sandbox.clone(), id.clone());
            blocking(move || runtime.make_container(&sandbox, &id, config, &image)).await
        };
        let container = match made {
            Ok(container) => container,
            Err(error) => {
                let dir = sandbox.dir.join("c").join(&id);
                blocking(move || {
                    unmount_all(&dir)?;
                    files::remove_dir(&dir)
                })
                .await?;
                return Err(error);
            }
        };
        inner.containers.lock().insert(id.clone(), Arc::new(container));
        inner.announce(ContainerEventType::ContainerCreatedEvent, &id, &sandbox.id);
        Ok(id)
    }

    fn make_container(
        &self,
        sandbox: &Arc<Sandbox>,
        id: &str,
        config: ContainerConfig,
        image: &ImageRecord,
    ) -> Result<Container> {
        let inner = &self.inner;
        let dir = sandbox.dir.join("c").join(id);
        let (rootfs, upper, work) = (dir.join("rootfs"), dir.join("upper"), dir.join("work"));
        for dir in [&rootfs, &upper, &work] {
            files::create_dir(dir)?;
        }
        mount_overlay(&inner.config.root, &image.layers, &upper, &work, &rootfs)?;
        let mut layers = image.layers.clone();
        let image_volumes = self.mount_images(&dir, &config, &mut layers)?;
        let group = format!("{}/{id}", sandbox.group(&inner.config.instance));
        let image_config = inner.images.config(image)?;
        let target = self.target_of(&config)?;
        let network = sandbox.network();
        let built = spec::build(&Blueprint {
            config: &config,
            sandbox: &sandbox.config,
            image: &image_config,
            image_volumes: &image_volumes,
            bundle: &dir,
            sandbox_dir: &sandbox.dir,
            pause: sandbox.pause(),
            network: network.as_deref(),
            target,
            cgroup: &group,
            host: &inner.host,
            bounding: &inner.bounding,
        })?;
        if let Some(cwd) = built.spec["process"]["cwd"].as_str() {
            make_inside(&rootfs, Path::new(cwd))?;
        }
        files::write_json(&dir.join("config.json"), &built.spec)?;
        files::write_json(&dir.join("launch.json"), &built.launch)?;
        write_message(&dir.join("container.pb"), &config)?;
        let record = ContainerRecord {
            created_at: clock::now_nanos(),
            started_at: 0,
            image: image.id.clone(),
            image_ref: image.digests.first().unwrap_or(&image.id).clone(),
            layers,
            user: built.user,
            stop_signal: spec::stop_signal(&built.stop_signal),
            cgroup: group,
        };
        // Last, since it is what makes the container exist.
        files::write_json(&dir.join("container.json"), &record)?;
        Ok(Container {
            id: id.to_owned(),
            sandbox: sandbox.clone(),
            dir,
            config,
            record: Mutex::new(record),
            state: watch::Sender::new(State::Created),
            changing: tokio::sync::Mutex::new(()),
        })
    }

    /// Mounts the images that the container has as volumes (KEP-4639) below its directory, and answers where each lies, by
    /// the mount's place in the configuration. Their layers are the container's as well.
    fn mount_images(
        &self,
        dir: &Path,
        config: &ContainerConfig,
        layers: &mut Vec<String>,
    ) -> Result<BTreeMap<usize, PathBuf>> {
        let mut places = BTreeMap::new();
        for (index, mount) in config.mounts.iter().enumerate() {
            let Some(wanted) = mount.image.as_ref().filter(|image| !image.image.is_empty()) else { continue };
            let image = self.inner.images.find(&wanted.image)?;
            let place = dir.join(IMAGES).join(index.to_string());
            files::create_dir(&place)?;
            mount_to_read(&self.inner.config.root, &image.layers, &place)?;
            places.insert(index, find_inside(&place, &mount.image_sub_path)?);
            layers.extend(image.layers);
        }
        Ok(places)
    }

    /// The process whose process IDs the container shares, where it asks for another container's.
    fn target_of(&self, config: &ContainerConfig) -> Result<Option<i32>> {
        let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let Some(options) = security.and_then(|security| security.namespace_options.as_ref()) else {
            return Ok(None);
        };
        if options.pid() != NamespaceMode::Target {
            return Ok(None);
        }
        let target = self.inner.container(&options.target_id)?;
        let pid = target.pid();
        pid.map(Some)
            .ok_or_else(|| Error::Precondition(format!("target container {} isn't running", target.id)))
    }
}

/// Where the images that a container has as volumes are mounted, below its directory.
const IMAGES: &str = "images";

/// Detaches what is mounted below a container's directory.
pub(super) fn unmount_all(dir: &Path) -> Result<()> {
    files::unmount(&dir.join("rootfs"))?;
    let images = dir.join(IMAGES);
    let entries = match fs::read_dir(&images) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("list", &images))?,
    };
    for entry in entries {
        files::unmount(&entry.map_err(Error::io("list", &images))?.path())?;
    }
    Ok(())
}

/// A directory that paths are looked up in as if it were `/`, and how to do so.
fn as_root(dir: &Path) -> Result<(OwnedFd, OpenHow)> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let base = open(dir, flags, Mode::empty()).map_err(Error::io("open", dir))?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok((base, how))
}

/// What `path` names inside a mounted image: links lead nowhere else, and none is left in the answer.
fn find_inside(root: &Path, path: &str) -> Result<PathBuf> {
    if path.is_empty() {
        return Ok(root.to_owned());
    }
    let (base, how) = as_root(root)?;
    let found = openat2(&base, path, how).map_err(Error::io("find in the image", Path::new(path)))?;
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found));
    fs::read_link(&name).map_err(Error::io("look at", Path::new(&name)))
}

/// Makes the directory inside the container's root, whatever links the image has on the way.
fn make_inside(root: &Path, path: &Path) -> Result<()> {
    let (base, how) = as_root(root)?;
    match openat2(&base, path, how) {
        Ok(_) => return Ok(()),
        Err(Errno::ENOENT) => {}
        Err(error) => return Err(Error::io("look at", &root.join(path))(error)),
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::Invalid(format!("working directory {} can't be made", path.display())));
    };
    make_inside(root, parent)?;
    let parent = openat2(&base, parent, how).map_err(Error::io("look at", parent))?;
    match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(Error::io("create working directory", path)(error)),
    }
}

#[cfg(test)]
#[path = "making_tests.rs"]
mod tests;
