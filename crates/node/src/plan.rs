//! What to do next for one pod, decided from what is seen and nothing else.
//!
//! [`plan`] is called after every change. It never remembers anything: operations under way, failures and back-off
//! come in through the [`View`], so that the same view always gives the same plan, also after a restart of the node.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::backoff::Backoff;
use crate::config_hash;
use crate::observed::{Container, ContainerId, Observed, Sandbox, SandboxId, State};
use crate::pod::{self, ContainerSpec, Role};
use crate::resize::{self, Step};

/// Shortest time between SIGTERM and SIGKILL that a container gets, whatever the pod asks for.
pub const MINIMUM_GRACE: Duration = Duration::from_secs(2);

/// Where a pod is on this node. It only ever moves down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// Its containers are to run as the spec says.
    Running,
    /// They are to stop, by `deadline` at the latest.
    Terminating {
        /// When SIGKILL takes over.
        deadline: Timestamp,
    },
}

/// An operation that is under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Busy {
    /// Directories, cgroup and volumes are being made.
    Prepare,
    /// A sandbox is being made.
    Sandbox,
    /// A sandbox is being stopped.
    StopSandbox(SandboxId),
    /// The container of that name is being made and started.
    Start(String),
    /// The container of that name is being stopped.
    Kill(ContainerId),
    /// Limits of running containers, and of the pod's group, are being changed.
    Resize,
}

/// Why the last try to start a container came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Shown at first, `ErrImagePull` for instance.
    pub reason: &'static str,
    /// The message beside it.
    pub message: String,
    /// Shown from the middle of the wait on, `ImagePullBackOff` and its message for instance.
    pub later: Option<(&'static str, String)>,
    /// When it failed.
    pub at: Timestamp,
    /// When to try again.
    pub retry_at: Timestamp,
}

impl Failure {
    /// Reason and message to show now, and when they change.
    fn shown(&self, now: Timestamp) -> (Waiting, Timestamp) {
        let turn = self.at.saturating_add(self.retry_at.duration_since(self.at) / 2).unwrap_or(self.retry_at);
        match &self.later {
            Some((reason, message)) if now >= turn => {
                (Waiting { reason: (*reason).into(), message: message.clone() }, self.retry_at)
            }
            Some(_) => (Waiting { reason: self.reason.into(), message: self.message.clone() }, turn),
            None => (Waiting { reason: self.reason.into(), message: self.message.clone() }, self.retry_at),
        }
    }
}

/// What the worker remembers of a container between its instances.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attempts {
    /// Grows with every start after an exit.
    pub crash: Backoff,
    /// Grows with every failed pull.
    pub pull: Backoff,
    /// The last try, if it failed.
    pub failure: Option<Failure>,
}

/// What probes and hooks have found out about a running container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Its startup probe succeeded once, or it has none; and its postStart hook is through.
    pub started: bool,
    /// Its readiness probe says so, or it has none.
    pub ready: bool,
    /// Why it must be killed.
    pub unhealthy: Option<Unhealthy>,
}

/// A verdict that ends a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Unhealthy {
    /// `liveness` or `startup` for probes, `postStart` for the hook.
    pub what: &'static str,
    /// The probe's own grace period.
    pub grace_seconds: Option<i64>,
}

/// Everything a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The pod as its source wants it.
    pub pod: &'a Pod,
    /// The pod as the runtime has it.
    pub observed: &'a Observed,
    /// Where it is in its life.
    pub stage: Stage,
    /// Whether directories, cgroup and volumes are there.
    pub prepared: bool,
    /// What is being done, and until when at the latest.
    pub busy: &'a BTreeMap<Busy, Timestamp>,
    /// Why the last try to prepare or to make a sandbox failed.
    pub pod_failure: Option<&'a Failure>,
    /// Memory of each container.
    pub attempts: &'a BTreeMap<String, Attempts>,
    /// Verdicts on running containers.
    pub health: &'a BTreeMap<ContainerId, Health>,
    /// Whether the pod's group has the limits that the pod asks for.
    pub group_fits: bool,
    /// Why the last try to change limits failed.
    pub resize_failure: Option<&'a Failure>,
    /// The time.
    pub now: Timestamp,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make directories, cgroup and volumes.
    Prepare,
    /// Make a sandbox.
    CreateSandbox {
        /// How many came before it.
        attempt: u32,
    },
    /// Stop a sandbox and all that is left in it.
    StopSandbox {
        /// Which.
        id: SandboxId,
    },
    /// Make and start a container.
    Start {
        /// Its name in the pod.
        name: String,
        /// How many instances came before it.
        attempt: u32,
        /// The sandbox it goes into.
        sandbox: SandboxId,
        /// Back-off after this start.
        crash: Backoff,
    },
    /// Stop a container.
    Kill {
        /// Which.
        id: ContainerId,
        /// Its name in the pod.
        name: String,
        /// Whether its next instance starts then, however this one ends.
        again: bool,
        /// Time from SIGTERM to SIGKILL, the preStop hook included.
        grace: Duration,
        /// What the event says.
        message: String,
    },
    /// Change the limits of the pod's group and of these running containers.
    Resize {
        /// Their ids and names in the pod.
        containers: Vec<(ContainerId, String)>,
    },
    /// Nothing of a terminating pod runs any more.
    Finish,
}

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The API's reason.
    pub reason: String,
    /// The message beside it.
    pub message: String,
}

/// What to do now, what to show meanwhile, and when to look again without being told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Steps that may all be taken at once.
    pub actions: Vec<Action>,
    /// Containers that wait for a reason of their own.
    pub waiting: BTreeMap<String, Waiting>,
    /// Whether something has other limits than it was given.
    pub resizing: bool,
    /// The next moment at which the plan changes by time alone.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at)));
    }
}

/// Decides the next steps for a pod.
pub fn plan(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    match view.stage {
        Stage::Running => running(view, &mut plan),
        Stage::Terminating { deadline } => terminating(view, deadline, &mut plan),
    }
    plan
}

/// Whether every main container, or an init container that may not be repeated, has come to its end.
pub fn is_done(pod: &Pod, observed: &Observed) -> bool {
    let finished = |c: &ContainerSpec<'_>| {
        observed
            .newest(c.name())
            .is_some_and(|instance| instance.exit().is_some_and(|exit| !goes_on(pod, c, instance, exit.code)))
    };
    pod::main_containers(pod).all(|c| finished(&c)) || init_failed(pod, observed)
}

/// Whether a container whose newest instance has ended with `code` is started once more.
fn goes_on(pod: &Pod, c: &ContainerSpec<'_>, newest: &Container, code: i32) -> bool {
    newest.again || pod::restarts(pod, c, code)
}

/// Whether an init container failed for good.
pub fn init_failed(pod: &Pod, observed: &Observed) -> bool {
    pod::init_containers(pod).filter(|c| c.role == Role::Init).any(|c| {
        let exit = observed.newest(c.name()).and_then(Container::exit);
        exit.is_some_and(|exit| exit.code != 0 && !pod::restarts(pod, &c, exit.code))
    })
}

fn running(view: &View<'_>, plan: &mut Plan) {
    let (pod, observed) = (view.pod, view.observed);
    if is_done(pod, observed) {
        return;
    }
    if !view.prepared {
        if retry_pod(view, plan) && !view.busy.contains_key(&Busy::Prepare) {
            plan.actions.push(Action::Prepare);
        }
        return;
    }
    for old in observed.sandboxes.iter().skip(1).filter(|s| s.ready) {
        stop_sandbox(view, plan, &old.id);
    }
    match observed.sandbox() {
        Some(sandbox) if usable(pod, sandbox) => containers(view, sandbox, plan),
        other => new_sandbox(view, other, plan),
    }
}

/// A sandbox serves while its namespaces live and it has an address where it should have one.
fn usable(pod: &Pod, sandbox: &Sandbox) -> bool {
    sandbox.ready && (pod::host_network(pod) || !sandbox.ips.is_empty())
}

fn new_sandbox(view: &View<'_>, old: Option<&Sandbox>, plan: &mut Plan) {
    if view.busy.contains_key(&Busy::Sandbox) {
        return;
    }
    if let Some(old) = old
        && (old.ready || view.observed.running().any(|c| c.sandbox == old.id))
    {
        stop_sandbox(view, plan, &old.id);
        return;
    }
    if retry_pod(view, plan) {
        plan.actions.push(Action::CreateSandbox { attempt: old.map_or(0, |s| s.attempt + 1) });
    }
}

/// Whether a failed preparation may be tried again now.
fn retry_pod(view: &View<'_>, plan: &mut Plan) -> bool {
    match view.pod_failure {
        Some(failure) if view.now < failure.retry_at => {
            plan.wake(failure.retry_at);
            false
        }
        _ => true,
    }
}

fn stop_sandbox(view: &View<'_>, plan: &mut Plan, id: &SandboxId) {
    if !view.busy.contains_key(&Busy::StopSandbox(id.clone())) {
        plan.actions.push(Action::StopSandbox { id: id.clone() });
    }
}

fn containers(view: &View<'_>, sandbox: &Sandbox, plan: &mut Plan) {
    let pod = view.pod;
    for c in pod::ephemeral_containers(pod) {
        if view.observed.newest(c.name()).is_none() {
            start(view, sandbox, &c, None, plan);
        }
    }
    if initialize(view, sandbox, plan) {
        for c in pod::main_containers(pod) {
            keep_running(view, sandbox, &c, view.observed.newest(c.name()), plan);
        }
    }
    resize(view, sandbox, plan);
}

/// Leads the limits of running containers to what they were given. One whose policy asks for it starts anew; until that
/// is done the others wait, so that limits of the group are narrowed last.
fn resize(view: &View<'_>, sandbox: &Sandbox, plan: &mut Plan) {
    let pod = view.pod;
    let mut changes = Vec::new();
    let mut ending = view.busy.keys().any(|busy| matches!(busy, Busy::Kill(_)));
    for c in pod::init_containers(pod).filter(|c| c.role == Role::Sidecar).chain(pod::main_containers(pod)) {
        let Some(instance) = newest_here(view, sandbox, c.name()).filter(|i| i.is_running()) else {
            continue;
        };
        let Some(actual) = &instance.resources else { continue };
        match resize::step(pod, &c, actual) {
            Step::Keep => {}
            Step::Change => changes.push((instance.id.clone(), instance.name.clone())),
            Step::Restart => {
                let planned = |a: &Action| matches!(a, Action::Kill { id, .. } if *id == instance.id);
                if !plan.actions.iter().any(planned) {
                    let message = format!("Container {} resize requires restart", c.name());
                    kill(view, plan, instance, true, seconds(pod::grace_seconds(pod)), message);
                }
                (ending, plan.resizing) = (true, true);
            }
        }
    }
    plan.resizing |= !changes.is_empty() || !view.group_fits;
    if !plan.resizing || ending || view.busy.contains_key(&Busy::Resize) {
        return;
    }
    match view.resize_failure {
        Some(failure) if view.now < failure.retry_at => plan.wake(failure.retry_at),
        _ => plan.actions.push(Action::Resize { containers: changes }),
    }
}

/// The newest instance of a container in the sandbox; those of earlier sandboxes count for nothing here.
fn newest_here<'a>(view: &View<'a>, sandbox: &Sandbox, name: &str) -> Option<&'a Container> {
    view.observed.containers.iter().find(|c| c.name == name && c.sandbox == sandbox.id)
}

/// Runs init containers in order, keeps sidecars alive; true once the main containers may run.
fn initialize(view: &View<'_>, sandbox: &Sandbox, plan: &mut Plan) -> bool {
    let initialized = pod::main_containers(view.pod).any(|c| newest_here(view, sandbox, c.name()).is_some());
    for c in pod::init_containers(view.pod) {
        let newest = newest_here(view, sandbox, c.name());
        match c.role {
            Role::Sidecar => {
                keep_running(view, sandbox, &c, newest, plan);
                let started = newest
                    .is_some_and(|n| n.is_running() && view.health.get(&n.id).is_some_and(|h| h.started));
                if !started && !initialized {
                    return false;
                }
            }
            _ if initialized => {}
            _ => match newest.and_then(Container::exit) {
                Some(exit) if exit.code == 0 => {}
                _ => {
                    keep_running(view, sandbox, &c, newest, plan);
                    return false;
                }
            },
        }
    }
    true
}

/// Starts a container that should run and does not; kills one that should not go on as it is.
fn keep_running(
    view: &View<'_>,
    sandbox: &Sandbox,
    c: &ContainerSpec<'_>,
    newest: Option<&Container>,
    plan: &mut Plan,
) {
    let Some(instance) = newest else {
        return start(view, sandbox, c, view.observed.newest(c.name()), plan);
    };
    match &instance.state {
        State::Running { .. } => {
            let health = view.health.get(&instance.id).and_then(|h| h.unhealthy.as_ref());
            let changed = !instance.hash.is_empty() && instance.hash != config_hash::of(&c.spec);
            let (mut message, grace, again) = if changed && c.role != Role::Init {
                (format!("Container {} definition changed", c.name()), None, true)
            } else if let Some(unhealthy) = health {
                let message = match unhealthy.what {
                    "postStart" => "FailedPostStartHook".to_owned(),
                    probe => format!("Container {} failed {probe} probe", c.name()),
                };
                (message, unhealthy.grace_seconds, pod::may_restart(view.pod, c))
            } else {
                return;
            };
            if again {
                message.push_str(", will be restarted");
            }
            let grace = seconds(grace.unwrap_or_else(|| pod::grace_seconds(view.pod)));
            kill(view, plan, instance, again, grace, message);
        }
        State::Exited(exit) if !goes_on(view.pod, c, instance, exit.code) => {}
        State::Exited(_) | State::Created | State::Unknown => start(view, sandbox, c, Some(instance), plan),
    }
}

/// Starts the next instance of a container unless it is under way or has to wait.
fn start(
    view: &View<'_>,
    sandbox: &Sandbox,
    c: &ContainerSpec<'_>,
    previous: Option<&Container>,
    plan: &mut Plan,
) {
    let name = c.name();
    if view.busy.contains_key(&Busy::Start(name.to_owned())) {
        return;
    }
    let attempts = view.attempts.get(name).cloned().unwrap_or_default();
    if let Some(failure) = attempts.failure.as_ref().filter(|f| view.now < f.retry_at) {
        let (waiting, until) = failure.shown(view.now);
        plan.waiting.insert(name.to_owned(), waiting);
        return plan.wake(until);
    }
    let mut crash = attempts.crash;
    if let Some(exit) = previous.and_then(Container::exit) {
        let ready_at = crash.ready_at(exit.finished_at);
        if view.now < ready_at {
            plan.waiting.insert(name.to_owned(), crash_loop(view.pod, name, crash.delay(exit.finished_at)));
            return plan.wake(ready_at);
        }
        crash = crash.next(exit.finished_at);
    }
    let attempt = previous.map_or_else(|| restarts_on_record(view.pod, name), |p| p.attempt + 1);
    plan.actions.push(Action::Start { name: name.to_owned(), attempt, sandbox: sandbox.id.clone(), crash });
}

fn crash_loop(pod: &Pod, container: &str, delay: Duration) -> Waiting {
    let meta = &pod.metadata;
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let message = format!(
        "back-off {} restarting failed container={container} pod={}_{}({})",
        go_duration(delay),
        text(&meta.name),
        text(&meta.namespace),
        text(&meta.uid)
    );
    Waiting { reason: "CrashLoopBackOff".into(), message }
}

/// Restarts that the API remembers of a container that the runtime has no trace of.
fn restarts_on_record(pod: &Pod, name: &str) -> u32 {
    let status = pod.status.as_ref();
    let lists = status.into_iter().flat_map(|s| [&s.init_container_statuses, &s.container_statuses]);
    let on_record = lists.flatten().flatten().find(|s| s.name == name);
    let ran = on_record.filter(|s| s.container_id.as_deref().is_some_and(|id| !id.is_empty()));
    ran.map_or(0, |s| u32::try_from(s.restart_count).unwrap_or(0).saturating_add(1))
}

fn kill(
    view: &View<'_>,
    plan: &mut Plan,
    container: &Container,
    again: bool,
    grace: Duration,
    message: String,
) {
    let grace = grace.max(MINIMUM_GRACE);
    let until = view.now.saturating_add(grace + Duration::from_secs(1)).unwrap_or(Timestamp::MAX);
    let soon_enough = |already: &Timestamp| *already <= until;
    if view.busy.get(&Busy::Kill(container.id.clone())).is_some_and(soon_enough) {
        return;
    }
    plan.actions.push(Action::Kill {
        id: container.id.clone(),
        name: container.name.clone(),
        again,
        grace,
        message,
    });
}

/// Main containers first, then the sidecars from the last to the first, each with what is left of the time.
fn terminating(view: &View<'_>, deadline: Timestamp, plan: &mut Plan) {
    let left = deadline.duration_since(view.now);
    let left = if left.is_negative() { Duration::ZERO } else { left.unsigned_abs() };
    let position = |name: &str| {
        pod::init_containers(view.pod).find(|c| c.name() == name && c.role == Role::Sidecar).map(|c| c.index)
    };
    let starting = view.busy.keys().any(|b| matches!(b, Busy::Start(_) | Busy::Sandbox | Busy::Prepare));
    let running: Vec<&Container> = view.observed.running().collect();
    let (sidecars, mains): (Vec<&Container>, Vec<&Container>) =
        running.iter().partition(|c| position(&c.name).is_some());
    let now: Vec<&Container> = if left.is_zero() {
        running.clone()
    } else if mains.is_empty() && !starting {
        sidecars.into_iter().max_by_key(|c| position(&c.name)).into_iter().collect()
    } else {
        mains
    };
    for container in &now {
        kill(view, plan, container, false, left, format!("Stopping container {}", container.name));
    }
    if !running.is_empty() {
        if left > Duration::ZERO {
            plan.wake(deadline);
        }
        return;
    }
    if starting || view.busy.keys().any(|b| matches!(b, Busy::StopSandbox(_))) {
        return;
    }
    let mut ready = view.observed.sandboxes.iter().filter(|s| s.ready).peekable();
    if ready.peek().is_none() {
        plan.actions.push(Action::Finish);
    }
    for sandbox in ready {
        plan.actions.push(Action::StopSandbox { id: sandbox.id.clone() });
    }
}

fn seconds(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

/// A whole number of seconds as Go prints durations: `10s`, `2m40s`, `5m0s`.
pub fn go_duration(duration: Duration) -> String {
    let s = duration.as_secs();
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
