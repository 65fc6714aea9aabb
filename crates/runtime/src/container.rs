//! Containers: from an image and a configuration to a process, its end, and its removal.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::libc;
use nix::sys::stat::{Mode, mkdirat};
use parking_lot::Mutex;
use tiphys_cri::v1::{
    self, ContainerConfig, ContainerEventType, ContainerMetadata, ContainerResources, ContainerUser,
    ImageSpec, LinuxContainerResources, LinuxContainerUser, NamespaceMode,
};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::image::{ImageRecord, Store, mount_overlay, mount_to_read};
use crate::record::{ContainerRecord, new_id, read_message, write_message};
use crate::runtime::{Inner, Runtime};
use crate::sandbox::{Sandbox, blocking, remove_groups};
use crate::shim::client::{self, Connection};
use crate::shim::protocol::{Exit, Reply, Request};
use crate::spec::{self, Blueprint};
use crate::{cgroup, clock, files};

/// A container's way through its life; it never goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its files are there, its process isn't.
    Created,
    Running {
        pid: i32,
    },
    Exited(Exit),
}

pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) dir: PathBuf,
    pub(crate) config: ContainerConfig,
    record: Mutex<ContainerRecord>,
    /// As told by the shim; waiting for an end is waiting for a change of this.
    state: watch::Sender<State>,
    /// Calls that start, stop or remove it come one after the other.
    changing: tokio::sync::Mutex<()>,
}

/// How long a killed process may take to be gone. It is the kernel's time: disks that hang, for example.
const KILL_PATIENCE: Duration = Duration::from_secs(60);

/// The exit code of a container that was killed, or whose end nobody saw.
const KILLED: i32 = 128 + libc::SIGKILL;

impl Container {
    fn update(&self, change: impl FnOnce(&mut ContainerRecord)) -> Result<()> {
        let mut record = self.record.lock();
        change(&mut record);
        files::write_json(&self.dir.join("container.json"), &*record)
    }

    pub(crate) fn created_at(&self) -> i64 {
        self.record.lock().created_at
    }

    pub(crate) fn layers(&self) -> Vec<String> {
        self.record.lock().layers.clone()
    }

    pub(crate) fn group(&self) -> String {
        self.record.lock().cgroup.clone()
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        match *self.state.borrow() {
            State::Running { pid } => Some(pid),
            _ => None,
        }
    }

    pub(crate) fn metadata(&self) -> ContainerMetadata {
        self.config.metadata.clone().unwrap_or_default()
    }

    pub(crate) fn kill_group(&self, host: &cgroup::Host) {
        cgroup::kill_all(&host.directories(&self.group()));
    }

    /// The container has ended; `false` when that was known.
    fn settle(&self, exit: Exit) -> bool {
        self.state.send_if_modified(|state| {
            if matches!(state, State::Exited(_)) {
                return false;
            }
            *state = State::Exited(exit);
            true
        })
    }

    /// Nobody saw the container end, but its shim's record may say how it did.
    pub(crate) fn settle_lost(&self) {
        if matches!(self.state(), State::Exited(_)) {
            return;
        }
        let path = self.dir.join("exit.json");
        let exit = match files::read_json_if_there::<Exit>(&path) {
            Ok(Some(exit)) => exit,
            other => {
                if let Err(error) = other {
                    tracing::warn!(container = %self.id, %error, "exit record");
                }
                Exit {
                    code: KILLED,
                    finished_at: clock::now_nanos(),
                    reason: "ContainerStatusUnknown".into(),
                    message: "the pod's shim or its host went away before the container's end was recorded"
                        .into(),
                }
            }
        };
        if let Err(error) = files::write_json(&path, &exit) {
            tracing::warn!(container = %self.id, %error, "exit record");
        }
        self.settle(exit);
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> Exit {
        let mut state = self.state.subscribe();
        loop {
            if let State::Exited(exit) = &*state.borrow_and_update() {
                return exit.clone();
            }
            // The sender lives as long as `self`, so this can't fail.
            if state.changed().await.is_err() {
                return Exit::default();
            }
        }
    }

    pub(crate) fn cri_state(&self) -> v1::ContainerState {
        match *self.state.borrow() {
            State::Created => v1::ContainerState::ContainerCreated,
            State::Running { .. } => v1::ContainerState::ContainerRunning,
            State::Exited(_) => v1::ContainerState::ContainerExited,
        }
    }

    fn image_name(&self, images: &Store) -> String {
        let record = self.record.lock().image.clone();
        let known = images.find(&record).ok();
        known.and_then(|image| image.names.first().cloned()).unwrap_or(record)
    }

    pub(crate) fn status(&self, images: &Store) -> v1::ContainerStatus {
        let image = self.image_name(images);
        let record = self.record.lock().clone();
        let (started_at, exit) = match self.state() {
            State::Created => (0, None),
            State::Running { .. } => (record.started_at, None),
            State::Exited(exit) => (record.started_at, Some(exit)),
        };
        let exit = exit.unwrap_or_default();
        v1::ContainerStatus {
            id: self.id.clone(),
            metadata: Some(self.metadata()),
            state: self.cri_state() as i32,
            created_at: record.created_at,
            started_at,
            finished_at: exit.finished_at,
            exit_code: exit.code,
            image: Some(ImageSpec { image, ..ImageSpec::default() }),
            image_ref: record.image_ref,
            image_id: record.image,
            reason: exit.reason,
            message: exit.message,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: self.log_path().map(|path| path.display().to_string()).unwrap_or_default(),
            resources: Some(ContainerResources { linux: self.resources() }),
            user: Some(ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: record.user.uid.into(),
                    gid: record.user.gid.into(),
                    supplemental_groups: record.user.groups.iter().map(|group| i64::from(*group)).collect(),
                }),
            }),
            stop_signal: spec::signal_of(record.stop_signal) as i32,
        }
    }

    /// The limits as they are now: those it was created with, or what they were changed to.
    pub(crate) fn resources(&self) -> Option<LinuxContainerResources> {
        let changed = read_message(&self.dir.join("resources.pb")).ok();
        changed.or_else(|| self.config.linux.as_ref().and_then(|linux| linux.resources.clone()))
    }

    fn log_path(&self) -> Option<PathBuf> {
        if self.config.log_path.is_empty() {
            return None;
        }
        Some(Path::new(&self.sandbox.config.log_directory).join(&self.config.log_path))
    }

    pub(crate) fn summary(&self, images: &Store) -> v1::Container {
        let image = self.image_name(images);
        let record = self.record.lock().clone();
        v1::Container {
            id: self.id.clone(),
            pod_sandbox_id: self.sandbox.id.clone(),
            metadata: Some(self.metadata()),
            image: Some(ImageSpec { image, ..ImageSpec::default() }),
            image_ref: record.image_ref,
            image_id: record.image,
            state: self.cri_state() as i32,
            created_at: record.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
        }
    }

    /// Reads the containers of a sandbox from disk. What a crash left half made is removed.
    pub(crate) fn read_all(sandbox: &Arc<Sandbox>) -> Result<Vec<Arc<Self>>> {
        let dir = sandbox.dir.join("c");
        let mut containers = Vec::new();
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let dir = entry.map_err(Error::io("list", &dir))?.path();
            let record = match files::read_json_if_there::<ContainerRecord>(&dir.join("container.json")) {
                Ok(Some(record)) => record,
                // A crash came before it existed, or a loss of power took the record.
                Ok(None) | Err(Error::Parse { .. }) => {
                    unmount_all(&dir)?;
                    files::remove_dir(&dir)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let state = match files::read_json_if_there(&dir.join("exit.json")) {
                Ok(Some(exit)) => State::Exited(exit),
                // Without a readable record the shim knows better, if it lives.
                Ok(None) | Err(Error::Parse { .. }) => State::Created,
                Err(error) => return Err(error),
            };
            containers.push(Arc::new(Self {
                id: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                sandbox: sandbox.clone(),
                config: read_message(&dir.join("container.pb"))?,
                record: Mutex::new(record),
                state: watch::Sender::new(state),
                changing: tokio::sync::Mutex::new(()),
                dir,
            }));
        }
        Ok(containers)
    }
}

impl Inner {
    /// The shim says that a container has ended.
    pub(crate) fn ended(&self, id: &str, exit: Exit) {
        let Ok(container) = self.container(id) else { return };
        if container.settle(exit) {
            self.announce(ContainerEventType::ContainerStoppedEvent, id, &container.sandbox.id);
        }
    }

    /// The shim says that a container runs: after a start, or when it is taken over.
    pub(crate) fn is_running(&self, id: &str, pid: i32) {
        let Ok(container) = self.container(id) else { return };
        container.state.send_if_modified(|state| {
            let fresh = *state == State::Created;
            if fresh {
                *state = State::Running { pid };
            }
            fresh
        });
    }
}

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

    pub(crate) async fn start_container(&self, id: &str) -> Result<()> {
        let inner = &self.inner;
        let container = inner.container(id)?;
        let _one = container.changing.lock().await;
        if container.state() != State::Created {
            return Err(Error::Precondition(format!("container {} was started before", container.id)));
        }
        inner.host.create(&container.group())?;
        container.update(|record| record.started_at = clock::now_nanos())?;
        let request = Request::Start { container: container.id.clone() };
        match client::ask(&container.sandbox.dir, &request).await {
            Ok(Reply::Started { pid }) => {
                inner.is_running(&container.id, pid);
                let sandbox = &container.sandbox.id;
                inner.announce(ContainerEventType::ContainerStartedEvent, &container.id, sandbox);
                Ok(())
            }
            Ok(other) => Err(Error::Shim(format!("unexpected answer {other:?}"))),
            Err(Error::Shim(message)) => {
                let exit = Exit {
                    code: crate::shim::START_FAILED,
                    finished_at: clock::now_nanos(),
                    reason: "StartError".into(),
                    message: message.clone(),
                };
                files::write_json(&container.dir.join("exit.json"), &exit)?;
                inner.ended(&container.id, exit);
                Err(Error::Start(message))
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()> {
        match self.inner.container(id) {
            Ok(container) => self.stop(&container, timeout).await,
            Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks the container to end, waits, and then makes it. One that has ended is stopped.
    pub(crate) async fn stop(&self, container: &Arc<Container>, timeout: Duration) -> Result<()> {
        let signal = |signal, everyone| Request::Signal { container: container.id.clone(), signal, everyone };
        if container.state() == State::Created {
            let _one = container.changing.lock().await;
            if container.state() == State::Created {
                let exit = Exit {
                    code: KILLED,
                    finished_at: clock::now_nanos(),
                    reason: "Error".into(),
                    message: "stopped before it was started".into(),
                };
                files::write_json(&container.dir.join("exit.json"), &exit)?;
                self.inner.ended(&container.id, exit);
            }
        }
        if matches!(container.state(), State::Exited(_)) {
            return Ok(());
        }
        let dir = &container.sandbox.dir;
        if !timeout.is_zero() {
            let stop_signal = container.record.lock().stop_signal;
            // It may end, or its shim, before it is told: the state says so, and what comes next finds out.
            let _ = client::ask(dir, &signal(stop_signal, false)).await;
            if tokio::time::timeout(timeout, container.ended()).await.is_ok() {
                return Ok(());
            }
        }
        // As above.
        let _ = client::ask(dir, &signal(libc::SIGKILL, true)).await;
        match tokio::time::timeout(KILL_PATIENCE, container.ended()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Deadline(format!("container {} doesn't die", container.id))),
        }
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<()> {
        let inner = &self.inner;
        let container = match inner.container(id) {
            Ok(container) => container,
            Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.stop(&container, Duration::ZERO).await?;
        let _one = container.changing.lock().await;
        // A shim that is gone has forgotten it.
        let _ =
            client::ask(&container.sandbox.dir, &Request::Forget { container: container.id.clone() }).await;
        remove_groups(inner.host.directories(&container.group())).await?;
        let dir = container.dir.clone();
        blocking(move || {
            unmount_all(&dir)?;
            // First what makes it exist, so that a crash from here on leaves nothing that counts.
            files::remove_file(&dir.join("container.json"))?;
            files::remove_dir(&dir)
        })
        .await?;
        inner.containers.lock().remove(&container.id);
        inner.announce(ContainerEventType::ContainerDeletedEvent, &container.id, &container.sandbox.id);
        Ok(())
    }

    pub(crate) async fn reopen_log(&self, id: &str) -> Result<()> {
        let container = self.inner.container(id)?;
        if container.pid().is_none() {
            return Err(Error::Precondition(format!("container {} isn't running", container.id)));
        }
        client::ask(&container.sandbox.dir, &Request::ReopenLog { container: container.id.clone() }).await?;
        Ok(())
    }

    /// Changes a container's limits. libcontainer isn't needed for that: they are files.
    pub(crate) async fn update_resources(&self, id: &str, asked: LinuxContainerResources) -> Result<()> {
        let container = self.inner.container(id)?;
        let _one = container.changing.lock().await;
        if matches!(container.state(), State::Exited(_)) {
            return Err(Error::Precondition(format!("container {} has ended", container.id)));
        }
        let merged = merge(container.resources().unwrap_or_default(), asked);
        if container.pid().is_some() {
            cgroup::apply(&self.inner.host, &container.group(), &merged)?;
        } else {
            let path = container.dir.join("config.json");
            let mut spec: serde_json::Value = files::read_json(&path)?;
            let devices = spec["linux"]["resources"]["devices"].as_array().cloned().unwrap_or_default();
            spec["linux"]["resources"] = spec::limits(&merged, &devices, &self.inner.host);
            files::write_json(&path, &spec)?;
        }
        write_message(&container.dir.join("resources.pb"), &merged)
    }

    /// Runs a command in the container. `fds` are its three streams; none with a terminal, which then comes back.
    pub(crate) async fn exec(
        &self,
        container: &Container,
        command: &[String],
        fds: Option<[OwnedFd; 3]>,
    ) -> Result<(Connection, Option<OwnedFd>)> {
        if container.pid().is_none() {
            return Err(Error::Precondition(format!("container {} isn't running", container.id)));
        }
        let spec: serde_json::Value = files::read_json(&container.dir.join("config.json"))?;
        let tty = fds.is_none();
        let name = format!("exec-{}.json", uuid::Uuid::new_v4().simple());
        let path = container.dir.join(&name);
        files::write_json(&path, &spec::exec_process(&spec, command, tty)?)?;
        let connection = Connection::open(&container.sandbox.dir)?;
        let request = Request::Exec { container: container.id.clone(), process: name, tty };
        let fds: Vec<OwnedFd> = fds.into_iter().flatten().collect();
        let answer = connection.ask(&request, &crate::shim::packet::borrow(&fds)).await;
        files::remove_file(&path)?;
        match answer {
            Ok((Reply::Started { .. }, fds)) => Ok((connection, fds.into_iter().next())),
            Ok((other, _)) => Err(Error::Shim(format!("unexpected answer {other:?}"))),
            Err(Error::Shim(problem)) => Err(Error::Start(format!("failed to exec in container: {problem}"))),
            Err(error) => Err(error),
        }
    }
}

/// What is zero or empty isn't asked for, and stays as it was.
fn merge(mut old: LinuxContainerResources, new: LinuxContainerResources) -> LinuxContainerResources {
    let number = |old: &mut i64, new: i64| {
        if new != 0 {
            *old = new;
        }
    };
    number(&mut old.cpu_period, new.cpu_period);
    number(&mut old.cpu_quota, new.cpu_quota);
    number(&mut old.cpu_shares, new.cpu_shares);
    number(&mut old.memory_limit_in_bytes, new.memory_limit_in_bytes);
    number(&mut old.memory_swap_limit_in_bytes, new.memory_swap_limit_in_bytes);
    number(&mut old.oom_score_adj, new.oom_score_adj);
    if !new.cpuset_cpus.is_empty() {
        old.cpuset_cpus = new.cpuset_cpus;
    }
    if !new.cpuset_mems.is_empty() {
        old.cpuset_mems = new.cpuset_mems;
    }
    if !new.hugepage_limits.is_empty() {
        old.hugepage_limits = new.hugepage_limits;
    }
    old.unified.extend(new.unified);
    old
}

/// Where the images that a container has as volumes are mounted, below its directory.
const IMAGES: &str = "images";

/// Detaches what is mounted below a container's directory.
fn unmount_all(dir: &Path) -> Result<()> {
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

/// What `path` names inside a mounted image: links lead nowhere else, and none is left in the answer.
fn find_inside(root: &Path, path: &str) -> Result<PathBuf> {
    if path.is_empty() {
        return Ok(root.to_owned());
    }
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let base = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(Error::io("open", root))?;
    let found = openat2(&base, path, how).map_err(Error::io("find in the image", Path::new(path)))?;
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found));
    fs::read_link(&name).map_err(Error::io("look at", Path::new(&name)))
}

/// Makes the directory inside the container's root, whatever links the image has on the way.
fn make_inside(root: &Path, path: &Path) -> Result<()> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let base = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(Error::io("open", root))?;
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
#[path = "container_tests.rs"]
mod tests;
