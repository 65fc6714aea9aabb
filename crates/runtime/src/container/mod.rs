//! Containers: what is known of one, on disk and of its process. [`making`] makes them, [`life`] leads them to their end.

mod life;
mod making;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::libc;
use parking_lot::Mutex;
use tiphys_cri::v1::{
    self, ContainerConfig, ContainerEventType, ContainerMetadata, ContainerResources, ContainerUser,
    ImageSpec, LinuxContainerResources, LinuxContainerUser,
};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::image::Store;
use crate::record::{ContainerRecord, read_message};
use crate::runtime::Inner;
use crate::sandbox::Sandbox;
use crate::shim::protocol::Exit;
use crate::{cgroup, clock, files, spec};

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
                    making::unmount_all(&dir)?;
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
