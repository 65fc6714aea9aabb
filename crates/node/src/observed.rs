//! What the runtime says about one pod, in the few words that plans and statuses need.

use std::cmp::Reverse;
use std::fmt;

use jiff::Timestamp;
use tiphys_cri::v1;

use crate::labels;
use crate::resize::Actual;

/// The runtime's name for a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(pub String);

/// The runtime's name for a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SandboxId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pod's sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    /// The runtime's name for it.
    pub id: SandboxId,
    /// How many came before it.
    pub attempt: u32,
    /// Whether its namespaces are there.
    pub ready: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its addresses, the primary first; empty in the host's network.
    pub ips: Vec<String>,
    /// The runtime's handler that made it; empty for the default one.
    pub handler: String,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Made, never started.
    Created,
    /// Its first process lives.
    Running {
        /// When it was started.
        started_at: Timestamp,
    },
    /// Its first process ended, or could not be started.
    Exited(Exit),
    /// The runtime has lost track of it.
    Unknown,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The exit code, 128 + n for signal n.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, …
    pub reason: String,
    /// What the runtime or the container itself said last.
    pub message: String,
}

/// One instance of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// The runtime's name for it.
    pub id: ContainerId,
    /// The sandbox it is in.
    pub sandbox: SandboxId,
    /// Its name in the pod.
    pub name: String,
    /// How many instances of it came before.
    pub attempt: u32,
    /// Where it is in its life.
    pub state: State,
    /// When it was made.
    pub created_at: Timestamp,
    /// The image as it was asked for.
    pub image: String,
    /// The image that it runs, by digest where known.
    pub image_ref: String,
    /// Hash of its spec when it was made; empty when it carries none.
    pub hash: String,
    /// Where it was told to leave its last words.
    pub termination_path: String,
    /// Whether its log stands in for last words that it did not leave.
    pub fallback_to_logs: bool,
    /// Grace period of its pod when it was made.
    pub grace_seconds: Option<i64>,
    /// User and groups of its first process.
    pub user: Option<(i64, i64, Vec<i64>)>,
    /// Absolute path of its log.
    pub log_path: String,
    /// What the runtime has set for it, if it tells.
    pub resources: Option<Actual>,
    /// The signal that ends it, as the API names it; empty where the runtime does not tell.
    pub stop_signal: String,
    /// Whether the node stopped it for its next instance to start, which it does however this one ends.
    pub again: bool,
}

impl Container {
    /// Whether its first process lives.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

/// Everything the runtime has of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Newest first.
    pub containers: Vec<Container>,
}

impl Observed {
    /// Puts sandboxes and containers in order, newest first.
    pub fn new(mut sandboxes: Vec<Sandbox>, mut containers: Vec<Container>) -> Self {
        sandboxes.sort_by_key(|s| Reverse((s.created_at, s.attempt)));
        containers.sort_by_key(|c| Reverse((c.created_at, c.attempt)));
        Self { sandboxes, containers }
    }

    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first()
    }

    /// The instances of a container, newest first.
    pub fn instances<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Container> {
        self.containers.iter().filter(move |c| c.name == name)
    }

    /// The newest instance of a container.
    pub fn newest<'a>(&'a self, name: &'a str) -> Option<&'a Container> {
        self.instances(name).next()
    }

    /// The containers that run.
    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|c| c.is_running())
    }

    /// The container of that id.
    pub fn by_id(&self, id: &ContainerId) -> Option<&Container> {
        self.containers.iter().find(|c| c.id == *id)
    }
}

/// CRI counts nanoseconds from 1970; zero means never.
fn time(nanoseconds: i64) -> Option<Timestamp> {
    if nanoseconds <= 0 {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()
}

impl Sandbox {
    /// Reads the runtime's answer.
    pub fn from_cri(status: &v1::PodSandboxStatus) -> Self {
        let network = status.network.as_ref();
        let primary = network.map(|n| n.ip.clone()).into_iter();
        let others = network.into_iter().flat_map(|n| n.additional_ips.iter().map(|p| p.ip.clone()));
        Self {
            id: SandboxId(status.id.clone()),
            attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
            ready: status.state == v1::PodSandboxState::SandboxReady as i32,
            created_at: time(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
            ips: primary.chain(others).filter(|ip| !ip.is_empty()).collect(),
            handler: status.runtime_handler.clone(),
        }
    }
}

impl Container {
    /// Reads the runtime's answer; `sandbox` comes from the list, the status does not name it.
    pub fn from_cri(sandbox: &str, status: &v1::ContainerStatus) -> Self {
        let note = |name: &str| status.annotations.get(name).map(String::as_str).unwrap_or_default();
        let metadata = status.metadata.clone().unwrap_or_default();
        let created_at = time(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH);
        let started_at = time(status.started_at);
        let state = match v1::ContainerState::try_from(status.state) {
            Ok(v1::ContainerState::ContainerCreated) => State::Created,
            Ok(v1::ContainerState::ContainerRunning) => {
                State::Running { started_at: started_at.unwrap_or(created_at) }
            }
            Ok(v1::ContainerState::ContainerExited) => State::Exited(Exit {
                started_at,
                finished_at: time(status.finished_at).unwrap_or(created_at),
                code: status.exit_code,
                reason: exit_reason(status),
                message: status.message.clone(),
            }),
            _ => State::Unknown,
        };
        let user = status.user.as_ref().and_then(|u| u.linux.as_ref());
        Self {
            id: ContainerId(status.id.clone()),
            sandbox: SandboxId(sandbox.to_owned()),
            name: status.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or(metadata.name),
            attempt: note(labels::RESTART_COUNT).parse().unwrap_or(metadata.attempt),
            state,
            created_at,
            image: image_name(status.image.as_ref()),
            image_ref: if status.image_ref.is_empty() {
                status.image_id.clone()
            } else {
                status.image_ref.clone()
            },
            hash: note(labels::CONTAINER_HASH).to_owned(),
            termination_path: note(labels::TERMINATION_PATH).to_owned(),
            fallback_to_logs: note(labels::TERMINATION_POLICY) == "FallbackToLogsOnError",
            grace_seconds: note(labels::POD_GRACE).parse().ok(),
            user: user.map(|u| (u.uid, u.gid, u.supplemental_groups.clone())),
            log_path: status.log_path.clone(),
            resources: status.resources.as_ref().and_then(|r| r.linux.as_ref()).map(Actual::of),
            stop_signal: signal_name(status.stop_signal()),
            again: false,
        }
    }
}

fn signal_name(signal: v1::Signal) -> String {
    match signal {
        v1::Signal::RuntimeDefault => String::new(),
        signal => {
            signal.as_str_name().trim_start_matches("SIGNAL_").replace("PLUS", "+").replace("MINUS", "-")
        }
    }
}

fn image_name(image: Option<&v1::ImageSpec>) -> String {
    let Some(image) = image else { return String::new() };
    if image.user_specified_image.is_empty() {
        image.image.clone()
    } else {
        image.user_specified_image.clone()
    }
}

fn exit_reason(status: &v1::ContainerStatus) -> String {
    match (status.reason.as_str(), status.exit_code) {
        ("", 0) => "Completed".to_owned(),
        ("", _) => "Error".to_owned(),
        (reason, _) => reason.to_owned(),
    }
}
