//! The status of a pod as the API shows it, computed from what is seen.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, HostIP, LinuxContainerUser, Pod, PodCondition, PodIP, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::features::Features;
use crate::make;
use crate::observed::{Container, ContainerId, Exit, Observed, State};
use crate::plan::{self, Health, Waiting};
use crate::pod::{self, ContainerSpec, Role};
use crate::qos;
use crate::resize::{self, Pending};

/// Why a pod ended before its containers did, or never started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `DeadlineExceeded`, `OutOfcpu`, `NodeAffinity`, …
    pub reason: String,
    /// The message beside it.
    pub message: String,
}

/// How a change of a pod's resources goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resize<'a> {
    /// Why the pod was not given what it wants.
    pub pending: Option<&'a Pending>,
    /// Whether something has other limits than it was given.
    pub under_way: bool,
    /// Why the last try to change limits failed.
    pub error: Option<&'a str>,
}

/// What a status is computed from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The pod as its source has it; its status is where transition times and others' conditions are kept.
    pub pod: &'a Pod,
    /// The status last computed here, if any; otherwise the one in the pod counts.
    pub last: Option<&'a PodStatus>,
    /// The pod as the runtime has it.
    pub observed: &'a Observed,
    /// Containers that wait for a reason of their own.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Verdicts on running containers.
    pub health: &'a BTreeMap<ContainerId, Health>,
    /// Set when the node ended the pod.
    pub verdict: Option<&'a Verdict>,
    /// Whether nothing of the pod will run any more.
    pub finished: bool,
    /// Addresses of the node, the primary first.
    pub host_ips: &'a [String],
    /// Scheme of container ids, the runtime's name.
    pub runtime: &'a str,
    /// What runtime and kernel can do.
    pub features: &'a Features,
    /// How a change of its resources goes.
    pub resize: Resize<'a>,
    /// The time.
    pub now: Timestamp,
}

/// Computes the status.
pub fn compute(facts: &Facts<'_>) -> PodStatus {
    let pod = facts.pod;
    let empty = PodStatus::default();
    let old = facts.last.or(pod.status.as_ref()).unwrap_or(&empty);
    if never_began(facts, old) {
        return refused(facts, old);
    }
    let lists = Lists {
        init: pod::init_containers(pod).map(|c| container_status(facts, old, &c)).collect(),
        main: pod::main_containers(pod).map(|c| container_status(facts, old, &c)).collect(),
        ephemeral: pod::ephemeral_containers(pod).map(|c| container_status(facts, old, &c)).collect(),
    };
    let phase = if pod::is_terminal_phase(old.phase.as_deref()) {
        old.phase.clone().unwrap_or_default()
    } else if facts.verdict.is_some() {
        // The containers of a pod that the node ends are still being stopped: it fails when they have.
        if facts.finished { "Failed".to_owned() } else { phase(facts, &lists).to_owned() }
    } else {
        phase(facts, &lists).to_owned()
    };
    let mut status = PodStatus {
        host_ip: facts.host_ips.first().cloned(),
        host_ips: non_empty(facts.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        nominated_node_name: old.nominated_node_name.clone(),
        observed_generation: pod.metadata.generation,
        qos_class: Some(qos::class(pod).as_str().to_owned()),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        extended_resource_claim_status: old.extended_resource_claim_status.clone(),
        start_time: start_time(facts, old),
        ..PodStatus::default()
    };
    if facts.finished || phase == "Failed" {
        status.reason = facts.verdict.map(|v| v.reason.clone()).or(old.reason.clone());
        status.message = facts.verdict.map(|v| v.message.clone()).or(old.message.clone());
    }
    let ips = addresses(facts, old);
    status.pod_ip = ips.first().cloned();
    status.pod_ips = non_empty(ips.into_iter().map(|ip| PodIP { ip }).collect());
    status.conditions = Some(conditions(facts, old, &phase, &lists));
    status.phase = Some(phase);
    status.init_container_statuses = non_empty(lists.init);
    status.container_statuses = non_empty(lists.main);
    status.ephemeral_container_statuses = non_empty(lists.ephemeral);
    status
}

/// Whether the pod has ended without a trace of a container, here or in the API.
fn never_began(facts: &Facts<'_>, old: &PodStatus) -> bool {
    let ended = facts.verdict.is_some() || pod::is_terminal_phase(old.phase.as_deref());
    let traces = [&old.init_container_statuses, &old.container_statuses, &old.ephemeral_container_statuses];
    ended
        && facts.observed.sandboxes.is_empty()
        && facts.observed.containers.is_empty()
        && traces.into_iter().all(|list| list.as_ref().is_none_or(Vec::is_empty))
}

/// What is told of such a pod: why, and as upstream nothing of its containers, nor any condition of the node's own.
fn refused(facts: &Facts<'_>, old: &PodStatus) -> PodStatus {
    let ended = old.phase.clone().filter(|phase| pod::is_terminal_phase(Some(phase)));
    PodStatus {
        conditions: Some(conditions_of_others(old)),
        message: facts.verdict.map(|v| v.message.clone()).or(old.message.clone()),
        nominated_node_name: old.nominated_node_name.clone(),
        observed_generation: facts.pod.metadata.generation,
        phase: ended.or(Some("Failed".to_owned())),
        qos_class: Some(qos::class(facts.pod).as_str().to_owned()),
        reason: facts.verdict.map(|v| v.reason.clone()).or(old.reason.clone()),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        extended_resource_claim_status: old.extended_resource_claim_status.clone(),
        start_time: start_time(facts, old),
        ..PodStatus::default()
    }
}

fn start_time(facts: &Facts<'_>, old: &PodStatus) -> Option<Time> {
    old.start_time.clone().or(Some(Time(whole_second(facts.now))))
}

/// The API keeps times in whole seconds.
pub fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn non_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

struct Lists {
    init: Vec<ContainerStatus>,
    main: Vec<ContainerStatus>,
    ephemeral: Vec<ContainerStatus>,
}

/// The pod's addresses: the host's in its network; the sandbox's; after its end those it had.
fn addresses(facts: &Facts<'_>, old: &PodStatus) -> Vec<String> {
    if pod::host_network(facts.pod) {
        return if facts.observed.sandboxes.is_empty() && old.pod_ip.is_none() {
            vec![]
        } else {
            facts.host_ips.to_vec()
        };
    }
    match facts.observed.sandbox() {
        Some(sandbox) if !sandbox.ips.is_empty() => sandbox.ips.clone(),
        _ if facts.finished || facts.pod.metadata.deletion_timestamp.is_some() => {
            old.pod_ips.iter().flatten().map(|p| p.ip.clone()).collect()
        }
        _ => vec![],
    }
}

fn container_status(facts: &Facts<'_>, old: &PodStatus, c: &ContainerSpec<'_>) -> ContainerStatus {
    let name = c.name();
    let list = match c.role {
        Role::Init | Role::Sidecar => &old.init_container_statuses,
        Role::Main => &old.container_statuses,
        Role::Ephemeral => &old.ephemeral_container_statuses,
    };
    let old = list.iter().flatten().find(|s| s.name == name);
    let mut status = ContainerStatus {
        name: name.to_owned(),
        image: c.image().to_owned(),
        state: Some(waiting_state(default_reason(facts, c), "")),
        last_state: Some(ContainerState::default()),
        started: Some(false),
        ..ContainerStatus::default()
    };
    match facts.observed.newest(name) {
        Some(newest) => from_instance(facts, c, old, newest, &mut status),
        None => from_record(facts, old, &mut status),
    }
    if let Some(waiting) = facts.waiting.get(name) {
        let ran = status.state.replace(waiting_state(&waiting.reason, &waiting.message));
        if ran.as_ref().is_some_and(|s| s.terminated.is_some()) {
            status.last_state = ran;
        }
        status.ready = false;
        status.started = Some(false);
    }
    if c.role == Role::Ephemeral {
        status.started = None;
    }
    status.volume_mounts = volume_mounts(facts, c);
    status
}

fn volume_mounts(facts: &Facts<'_>, c: &ContainerSpec<'_>) -> Option<Vec<VolumeMountStatus>> {
    let handler = facts.observed.sandbox().map_or("", |sandbox| sandbox.handler.as_str());
    let supported = facts.features.recursive_read_only(handler);
    let mounts = c.spec.volume_mounts.iter().flatten().map(|m| VolumeMountStatus {
        mount_path: m.mount_path.clone(),
        name: m.name.clone(),
        read_only: m.read_only.filter(|r| *r),
        recursive_read_only: m.read_only.filter(|r| *r).map(|_| {
            let recursive = make::recursive_read_only(m, supported).unwrap_or(false);
            if recursive { "Enabled" } else { "Disabled" }.to_owned()
        }),
        volume_status: None,
    });
    non_empty(mounts.collect())
}

fn default_reason(facts: &Facts<'_>, c: &ContainerSpec<'_>) -> &'static str {
    let has_init =
        facts.pod.spec.as_ref().is_some_and(|s| s.init_containers.as_ref().is_some_and(|i| !i.is_empty()));
    if has_init && c.role != Role::Ephemeral { "PodInitializing" } else { "ContainerCreating" }
}

fn waiting_state(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            message: (!message.is_empty()).then(|| message.to_owned()),
            reason: Some(reason.to_owned()),
        }),
        ..ContainerState::default()
    }
}

fn terminated_state(runtime: &str, id: &ContainerId, exit: &Exit) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("{runtime}://{id}")),
            exit_code: exit.code,
            finished_at: Some(Time(whole_second(exit.finished_at))),
            message: (!exit.message.is_empty()).then(|| exit.message.clone()),
            reason: Some(exit.reason.clone()),
            signal: None,
            started_at: exit.started_at.map(|t| Time(whole_second(t))),
        }),
        ..ContainerState::default()
    }
}

fn from_instance(
    facts: &Facts<'_>,
    c: &ContainerSpec<'_>,
    old: Option<&ContainerStatus>,
    newest: &Container,
    status: &mut ContainerStatus,
) {
    let id = format!("{}://{}", facts.runtime, newest.id);
    status.restart_count = i32::try_from(newest.attempt).unwrap_or(i32::MAX);
    status.container_id = Some(id);
    if !newest.image.is_empty() {
        status.image = newest.image.clone();
    }
    status.image_id = newest.image_ref.clone();
    resize::tell(facts.pod, c, newest.is_running(), newest.resources.as_ref(), status);
    status.user = newest.user.clone().map(|(uid, gid, groups)| ContainerUser {
        linux: Some(LinuxContainerUser { gid, supplemental_groups: non_empty(groups), uid }),
    });
    status.stop_signal = Some(newest.stop_signal.clone()).filter(|signal| !signal.is_empty());
    let health = facts.health.get(&newest.id);
    match &newest.state {
        State::Running { started_at } => {
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning { started_at: Some(Time(whole_second(*started_at))) }),
                ..ContainerState::default()
            });
            status.started = Some(health.is_some_and(|h| h.started));
            status.ready = match c.role {
                Role::Main | Role::Sidecar => health.is_some_and(|h| h.started && h.ready),
                Role::Init | Role::Ephemeral => false,
            };
        }
        State::Exited(exit) => {
            status.state = Some(terminated_state(facts.runtime, &newest.id, exit));
            status.ready = c.role == Role::Init && exit.code == 0;
        }
        State::Created => {}
        State::Unknown => {
            let exit = lost(newest.created_at, facts.now);
            status.state = Some(terminated_state(facts.runtime, &newest.id, &exit));
        }
    }
    let before = facts.observed.instances(&newest.name).skip(1).find_map(|p| Some((&p.id, p.exit()?)));
    status.last_state = match before {
        Some((id, exit)) => Some(terminated_state(facts.runtime, id, exit)),
        None if newest.attempt > 0 => old
            .filter(|o| o.restart_count == status.restart_count)
            .and_then(|o| o.last_state.clone())
            .or_else(|| old.and_then(|o| o.state.clone()).filter(|s| s.terminated.is_some()))
            .or_else(|| Some(ContainerState::default())),
        None => Some(ContainerState::default()),
    };
}

fn lost(created_at: Timestamp, now: Timestamp) -> Exit {
    Exit {
        started_at: Some(created_at),
        finished_at: now,
        code: 137,
        reason: "ContainerStatusUnknown".to_owned(),
        message: "The container could not be located when the pod was terminated".to_owned(),
    }
}

/// The runtime has no trace of the container: what the API remembers of it stays true.
fn from_record(facts: &Facts<'_>, old: Option<&ContainerStatus>, status: &mut ContainerStatus) {
    let Some(old) = old.filter(|o| o.container_id.as_deref().is_some_and(|id| !id.is_empty())) else {
        return;
    };
    status.restart_count = old.restart_count;
    status.container_id = old.container_id.clone();
    status.image_id = old.image_id.clone();
    status.last_state = old.last_state.clone();
    let state = old.state.clone().unwrap_or_default();
    if state.terminated.is_some() {
        status.ready = old.ready;
        status.state = Some(state);
    } else if state.running.is_some() {
        let gone = ContainerState {
            terminated: Some(ContainerStateTerminated {
                container_id: old.container_id.clone(),
                exit_code: 137,
                message: Some("The container could not be located when the pod was terminated".to_owned()),
                reason: Some("ContainerStatusUnknown".to_owned()),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        };
        if facts.finished {
            status.state = Some(gone);
        } else {
            status.last_state = Some(gone);
        }
    }
}

fn is_terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

fn ended_before(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.last_state.as_ref()?.terminated.as_ref()
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some())
}

fn phase(facts: &Facts<'_>, lists: &Lists) -> &'static str {
    let pod = facts.pod;
    let initialized = is_initialized(pod, lists);
    if plan::init_failed(pod, facts.observed) {
        return "Failed";
    }
    let done: Vec<Option<bool>> = pod::main_containers(pod)
        .zip(&lists.main)
        .map(|(c, status)| {
            let end = is_terminated(status)?;
            let again = facts.observed.newest(c.name()).is_some_and(|newest| newest.again);
            let over = facts.finished || !again && !pod::restarts(pod, &c, end.exit_code);
            over.then_some(end.exit_code == 0)
        })
        .collect();
    if done.iter().all(Option::is_some) {
        return if done.iter().all(|d| *d == Some(true)) { "Succeeded" } else { "Failed" };
    }
    if facts.finished {
        // Something never ran and never will.
        return "Failed";
    }
    let ran = |s: &ContainerStatus| is_running(s) || is_terminated(s).is_some() || ended_before(s).is_some();
    if initialized && lists.main.iter().all(ran) { "Running" } else { "Pending" }
}

/// Whether every init container has succeeded and every sidecar has started, or main containers already ran.
fn is_initialized(pod: &Pod, lists: &Lists) -> bool {
    let main_ran = lists.main.iter().any(|s| s.container_id.is_some());
    main_ran || incomplete(pod, lists).is_empty()
}

fn incomplete<'a>(pod: &Pod, lists: &'a Lists) -> Vec<&'a str> {
    pod::init_containers(pod)
        .zip(&lists.init)
        .filter(|(c, s)| match c.role {
            Role::Sidecar => !s.started.unwrap_or(false),
            _ => is_terminated(s).is_none_or(|t| t.exit_code != 0),
        })
        .map(|(_, s)| s.name.as_str())
        .collect()
}

/// A condition before its transition time is known.
struct Condition {
    kind: &'static str,
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Condition {
    fn is_true(kind: &'static str) -> Self {
        Self { kind, status: true, reason: None, message: None }
    }

    fn is_false(kind: &'static str, reason: &'static str, message: impl Into<Option<String>>) -> Self {
        Self { kind, status: false, reason: Some(reason), message: message.into() }
    }
}

fn conditions(facts: &Facts<'_>, old: &PodStatus, phase: &str, lists: &Lists) -> Vec<PodCondition> {
    let containers = containers_ready(facts.pod, phase, lists);
    let mut list = vec![
        sandbox_condition(facts),
        initialized(facts.pod, phase, lists),
        ready(facts, old, phase, &containers),
        containers,
        Condition::is_true("PodScheduled"),
    ];
    if !facts.finished {
        list.extend(resize_conditions(&facts.resize));
    }
    let before = old.conditions.as_deref().unwrap_or_default();
    let mut all: Vec<PodCondition> = list
        .into_iter()
        .map(|c| {
            let status = if c.status { "True" } else { "False" };
            let same = before.iter().find(|o| o.type_ == c.kind && o.status == status);
            PodCondition {
                last_probe_time: None,
                last_transition_time: same
                    .and_then(|o| o.last_transition_time.clone())
                    .or(Some(Time(whole_second(facts.now)))),
                message: c.message,
                observed_generation: facts.pod.metadata.generation,
                reason: c.reason.map(str::to_owned),
                status: status.to_owned(),
                type_: c.kind.to_owned(),
            }
        })
        .collect();
    all.extend(conditions_of_others(old));
    all
}

fn conditions_of_others(old: &PodStatus) -> Vec<PodCondition> {
    let all = old.conditions.iter().flatten();
    all.filter(|condition| !OWN_CONDITIONS.contains(&condition.type_.as_str())).cloned().collect()
}

/// The types of conditions that the node owns; all others belong to somebody else.
pub const OWN_CONDITIONS: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    PENDING,
    IN_PROGRESS,
];
/// The two that are there while a change of resources is.
const PENDING: &str = "PodResizePending";
const IN_PROGRESS: &str = "PodResizeInProgress";

fn resize_conditions(resize: &Resize<'_>) -> Vec<Condition> {
    let mut list = Vec::new();
    if let Some(pending) = resize.pending {
        let message = Some(pending.message.clone());
        list.push(Condition { reason: Some(pending.reason), message, ..Condition::is_true(PENDING) });
    }
    if resize.under_way {
        let message = resize.error.map(str::to_owned);
        list.push(Condition {
            reason: resize.error.map(|_| "Error"),
            message,
            ..Condition::is_true(IN_PROGRESS)
        });
    }
    list
}

fn sandbox_condition(facts: &Facts<'_>) -> Condition {
    let up = facts
        .observed
        .sandbox()
        .is_some_and(|s| s.ready && (pod::host_network(facts.pod) || !s.ips.is_empty()));
    Condition { kind: "PodReadyToStartContainers", status: up, reason: None, message: None }
}

fn initialized(pod: &Pod, phase: &str, lists: &Lists) -> Condition {
    const KIND: &str = "Initialized";
    let incomplete = incomplete(pod, lists);
    if phase == "Succeeded" {
        return Condition { reason: Some("PodCompleted"), ..Condition::is_true(KIND) };
    }
    if incomplete.is_empty() || is_initialized(pod, lists) {
        return Condition::is_true(KIND);
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Condition::is_false(KIND, "ContainersNotInitialized", message)
}

fn containers_ready(pod: &Pod, phase: &str, lists: &Lists) -> Condition {
    const KIND: &str = "ContainersReady";
    match phase {
        "Succeeded" => return Condition::is_false(KIND, "PodCompleted", None),
        "Failed" => return Condition::is_false(KIND, "PodFailed", None),
        _ => {}
    }
    let sidecars =
        pod::init_containers(pod).zip(&lists.init).filter(|(c, _)| c.role == Role::Sidecar).map(|(_, s)| s);
    let unready: Vec<&str> =
        sidecars.chain(&lists.main).filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    if unready.is_empty() {
        return Condition::is_true(KIND);
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Condition::is_false(KIND, "ContainersNotReady", message)
}

/// Ready is ContainersReady and every readiness gate.
fn ready(facts: &Facts<'_>, old: &PodStatus, phase: &str, containers: &Condition) -> Condition {
    const KIND: &str = "Ready";
    if !containers.status {
        return Condition {
            kind: KIND,
            status: false,
            reason: containers.reason,
            message: containers.message.clone(),
        };
    }
    debug_assert!(phase != "Succeeded" && phase != "Failed");
    let given = facts.pod.status.as_ref().unwrap_or(old).conditions.as_deref().unwrap_or_default();
    let gates = pod::spec(facts.pod).readiness_gates.iter().flatten();
    let problems: Vec<String> = gates
        .filter_map(|gate| match given.iter().find(|c| c.type_ == gate.condition_type) {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(c) if c.status != "True" => Some(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, c.status
            )),
            Some(_) => None,
        })
        .collect();
    if problems.is_empty() {
        return Condition::is_true(KIND);
    }
    Condition::is_false(KIND, "ReadinessGatesNotReady", problems.join(", "))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
