//! One task a pod: looks, plans, has it done, tells.
//!
//! ```text
//! Running ──▶ Stopping ──▶ Cleaning ──▶ Ended ──▶ Removing ──▶ Deleting ──▶ Gone
//! ```
//! A pod that ran to its end waits in `Ended`, with its containers for their logs, until it is deleted. The worker
//! keeps nothing that can't be found again: after a restart of the node it looks, and goes on from what it sees.

mod health;
pub(crate) mod mailbox;
pub(crate) mod operations;
pub(crate) mod publish;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::backoff::Backoff;
use crate::certificates::Certificates;
use crate::context::{Context, about_container, about_pod};
use crate::key::PodKey;
use crate::labels;
use crate::observed::{ContainerId, Observed, SandboxId};
use crate::plan::{self, Action, Attempts, Busy, Failure, Health, Plan, Stage, View, Waiting};
use crate::pod;
use crate::probes::Purpose;
use crate::qos::{self, PodResources};
use crate::resize::{self, Pending};
use crate::runtime::{Lens, Words};
use crate::status::{self, Facts, Verdict};
use mailbox::{Inbox, Mailbox};
use operations::{Done, Job, StartError, Tokens};
use publish::PublishError;

/// From a failure of preparation or configuration to the next try.
const RETRY: Duration = Duration::from_secs(10);
/// From a failure of the API or the runtime to the next try.
const SHORT_RETRY: Duration = Duration::from_secs(1);

/// From an instance's end to that being told where another follows it at once. Upstream's kubelet looks no more often.
const UNTOLD: Duration = Duration::from_secs(1);

/// Where a pod is in its life on this node. It only moves down.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    /// Its containers run as the spec says.
    Running,
    /// They are being stopped.
    Stopping { deadline: Timestamp },
    /// Volumes and cgroup are being removed.
    Cleaning,
    /// Nothing is left but the record in runtime and API.
    Ended,
    /// The runtime's record is being removed.
    Removing,
    /// The API's record is being removed.
    Deleting,
    /// Nothing is left.
    Gone,
}

/// A pod's worker.
pub(crate) struct Worker {
    ctx: Arc<Context>,
    key: PodKey,
    mailbox: Arc<Mailbox>,
    pod: Arc<Pod>,
    /// The API's image of a static pod.
    mirror: Option<Arc<Pod>>,
    /// Whether the source has no such pod any more.
    gone: bool,
    life: Life,
    stop: CancellationToken,
    verdict: Option<Verdict>,

    lens: Lens,
    observed: Observed,
    /// Whether the runtime has been looked at since it last had news.
    looked: bool,
    adopted: bool,

    prepared: bool,
    refresh_at: Option<Timestamp>,
    refresh: bool,
    pod_failure: Option<Failure>,
    attempts: BTreeMap<String, Attempts>,
    health: BTreeMap<ContainerId, Health>,
    /// Containers that were stopped for their next instances to start.
    again: BTreeSet<ContainerId>,
    probes: HashMap<(ContainerId, Purpose), AbortOnDropHandle<()>>,
    busy: BTreeMap<Busy, Timestamp>,
    tokens: Arc<Mutex<Tokens>>,
    certificates: Arc<Mutex<Certificates>>,
    /// Set while volumes are refreshed, removed, or the API is told.
    refreshing: bool,
    ending: bool,
    publishing: Option<PodStatus>,
    mirroring: bool,

    /// Why the pod was not given the resources that it wants.
    pending: Option<Pending>,
    /// What its group is limited to, as far as that is known.
    group: Option<PodResources>,
    resizing: bool,
    resize_failure: Option<Failure>,

    waiting: BTreeMap<String, Waiting>,
    status: Option<PodStatus>,
    published: Option<PodStatus>,
    retry_at: Option<Timestamp>,
    wake_at: Option<Timestamp>,
}

impl Worker {
    /// A worker for a pod. `adopted` says that the node has just started and the pod may be running already.
    pub(crate) fn new(
        ctx: Arc<Context>,
        key: PodKey,
        pod: Arc<Pod>,
        mailbox: Arc<Mailbox>,
        adopted: bool,
    ) -> Self {
        Self {
            ctx,
            key,
            mailbox,
            published: pod.status.clone(),
            pod,
            mirror: None,
            gone: false,
            life: Life::Running,
            stop: CancellationToken::new(),
            verdict: None,
            lens: Lens::default(),
            observed: Observed::default(),
            looked: false,
            adopted,
            prepared: false,
            refresh_at: None,
            refresh: false,
            pod_failure: None,
            attempts: BTreeMap::new(),
            health: BTreeMap::new(),
            again: BTreeSet::new(),
            probes: HashMap::new(),
            busy: BTreeMap::new(),
            tokens: Arc::default(),
            certificates: Arc::default(),
            refreshing: false,
            ending: false,
            publishing: None,
            mirroring: false,
            pending: None,
            group: None,
            resizing: false,
            resize_failure: None,
            waiting: BTreeMap::new(),
            status: None,
            retry_at: None,
            wake_at: None,
        }
    }

    /// Runs until nothing is left of the pod.
    pub(crate) async fn run(mut self) {
        loop {
            let inbox = self.mailbox.take();
            self.receive(inbox);
            if !self.looked {
                self.look().await;
            }
            self.step(Timestamp::now());
            if self.life == Life::Gone {
                return;
            }
            // Volumes are brought up to date only while the pod runs, and not twice at once.
            let refresh_at = self.refresh_at.filter(|_| self.life == Life::Running && !self.refreshing);
            let wake = self.wake_at.into_iter().chain(self.retry_at).chain(refresh_at).min();
            tokio::select! {
                () = self.mailbox.rung() => {}
                () = until(wake) => {
                    if self.retry_at.is_some_and(|at| at <= Timestamp::now()) {
                        self.retry_at = None;
                    }
                }
            }
        }
    }

    async fn look(&mut self) {
        let dir = self.ctx.pod_dir(&self.key);
        match self.lens.look(&self.ctx.cri, &self.key.uid, &Words { dir: &dir }).await {
            Ok(mut observed) => {
                self.again.retain(|id| observed.by_id(id).is_some());
                for container in &mut observed.containers {
                    container.again = self.again.contains(&container.id);
                }
                self.observed = observed;
                self.looked = true;
            }
            Err(error) => {
                tracing::warn!(pod = %self.key, %error, "the runtime did not answer");
                self.retry_soon();
            }
        }
    }

    fn receive(&mut self, inbox: Inbox) {
        if let Some(pod) = inbox.pod {
            self.refresh |= shown(&pod) != shown(&self.pod);
            self.heed_resize(&pod, inbox.pending);
            if let (Some(published), Some(said)) = (&mut self.published, &pod.status) {
                publish::heed(published, said);
            }
            self.pod = pod;
            self.gone = false;
        }
        if let Some(mirror) = inbox.mirror {
            self.published = mirror.as_ref().and_then(|m| m.status.clone());
            self.mirror = mirror;
        }
        self.gone |= inbox.gone;
        if let Some(verdict) = inbox.verdict {
            self.end(verdict);
        }
        if inbox.runtime {
            self.looked = false;
        }
        self.refresh |= inbox.content;
        if inbox.content {
            self.forgive_configuration();
        }
        for news in inbox.probes {
            self.judge(&news);
        }
        for done in inbox.done {
            self.finish(done);
        }
    }

    /// Takes note of other resources, given or refused.
    fn heed_resize(&mut self, pod: &Pod, pending: Option<(Pending, Arc<Pod>)>) {
        if pod.spec != self.pod.spec {
            self.resize_failure = None;
        }
        if let Some((new, wanted)) = pending.as_ref().filter(|(new, _)| Some(new) != self.pending.as_ref()) {
            let reason = if new.reason == "Infeasible" { "ResizeInfeasible" } else { "ResizeDeferred" };
            let resources = resize::summary(wanted, Some(&new.message));
            let message = format!("Pod resize {}: {resources}", new.reason);
            self.ctx.events.warning(&about_pod(pod), reason, message);
        }
        self.pending = pending.map(|(pending, _)| pending);
    }

    /// Says when a change of limits begins and when all have what they were given.
    fn say_resizing(&mut self, resizing: bool) {
        if resizing != self.resizing {
            let (reason, what) =
                if resizing { ("ResizeStarted", "started") } else { ("ResizeCompleted", "completed") };
            let message = format!("Pod resize {what}: {}", resize::summary(&self.pod, None));
            self.ctx.events.normal(&about_pod(&self.pod), reason, message);
        }
        self.resizing = resizing;
    }

    /// What was missing may be there now: no need to wait out the delay.
    fn forgive_configuration(&mut self) {
        for attempts in self.attempts.values_mut() {
            if attempts.failure.as_ref().is_some_and(|f| f.reason == "CreateContainerConfigError") {
                attempts.failure = None;
            }
        }
        self.pod_failure = None;
    }

    /// Takes note of an operation that is through.
    fn finish(&mut self, done: Done) {
        let now = Timestamp::now();
        match done {
            Done::Prepared(result) => {
                self.busy.remove(&Busy::Prepare);
                match result {
                    Ok(prepared) => {
                        self.prepared = true;
                        self.refresh_at = prepared.due;
                        self.group = prepared.group;
                        self.pod_failure = None;
                    }
                    Err(message) => self.pod_failure = Some(failure("FailedMount", message, now)),
                }
            }
            Done::Refreshed(result) => {
                self.refreshing = false;
                match result {
                    Ok(due) => self.refresh_at = due,
                    Err(error) => {
                        tracing::warn!(pod = %self.key, error, "volumes were not brought up to date");
                        self.refresh_at = now.checked_add(RETRY).ok();
                    }
                }
            }
            Done::Resized(group, result) => {
                self.busy.remove(&Busy::Resize);
                self.looked = false;
                self.group = result.is_ok().then_some(group);
                self.resize_failure = result.err().map(|message| {
                    let text = format!("Pod resize error: {}", resize::summary(&self.pod, Some(&message)));
                    self.ctx.events.warning(&about_pod(&self.pod), "ResizeError", text);
                    failure("Error", message, now)
                });
            }
            Done::Sandbox(result) => {
                self.busy.remove(&Busy::Sandbox);
                self.looked = false;
                self.pod_failure = result.err().map(|m| failure("FailedCreatePodSandBox", m, now));
            }
            Done::SandboxStopped(id, result) => {
                self.busy.remove(&Busy::StopSandbox(id));
                self.again(result, "a sandbox was not stopped");
            }
            Done::Started(name, result) => {
                self.busy.remove(&Busy::Start(name.clone()));
                self.looked = false;
                self.started(name, result, now);
            }
            Done::Killed(id, result) => {
                self.busy.remove(&Busy::Kill(id));
                self.again(result, "a container was not stopped");
            }
            Done::Cleaned(result) => {
                self.ending = false;
                if result.is_ok() {
                    self.life = Life::Ended;
                }
                self.again(result, "volumes and cgroup were not removed");
            }
            Done::Removed(result) => {
                self.ending = false;
                if result.is_ok() {
                    self.life = if self.own_record().is_some() { Life::Deleting } else { Life::Gone };
                }
                self.again(result, "the runtime's record was not removed");
            }
            Done::Deleted(result) => {
                self.ending = false;
                if result.is_ok() {
                    self.life = Life::Gone;
                }
                self.again(result, "the pod was not deleted from the API");
            }
            Done::Published(result) => self.told(result),
            Done::Mirrored(result) => {
                self.mirroring = false;
                self.again(result, "the mirror pod was not made");
            }
        }
    }

    fn again(&mut self, result: Result<(), String>, what: &str) {
        self.looked = false;
        if let Err(error) = result {
            tracing::warn!(pod = %self.key, error, "{what}");
            self.retry_soon();
        }
    }

    fn retry_soon(&mut self) {
        self.retry_at = Timestamp::now().checked_add(SHORT_RETRY).ok();
    }

    fn started(&mut self, name: String, result: Result<(), StartError>, now: Timestamp) {
        let attempts = self.attempts.entry(name).or_default();
        let Err(error) = result else {
            attempts.failure = None;
            return;
        };
        match error.image {
            Some(image) => {
                attempts.pull = attempts.pull.next(now);
                let message =
                    format!("Back-off pulling image \"{image}\": {}: {}", error.reason, error.message);
                attempts.failure = Some(Failure {
                    reason: error.reason,
                    message: error.message,
                    later: Some(("ImagePullBackOff", message)),
                    at: now,
                    retry_at: attempts.pull.ready_at(now),
                });
            }
            // The runtime has such a container as exited: it is the crash back-off that makes it wait.
            None if matches!(error.reason, "RunContainerError" | "PostStartHookError") => {
                let retry_at = now.saturating_add(SHORT_RETRY).unwrap_or(now);
                attempts.failure = Some(Failure { retry_at, ..failure(error.reason, error.message, now) });
            }
            None => attempts.failure = Some(failure(error.reason, error.message, now)),
        }
    }

    fn told(&mut self, result: Result<(), PublishError>) {
        let sent = self.publishing.take();
        match result {
            Ok(()) => self.published = sent,
            // The watch will say so; until then there is nobody to tell.
            Err(PublishError::Gone) => self.published = sent,
            Err(PublishError::Api(error)) => {
                tracing::debug!(pod = %self.key, %error, "the API was not told");
                self.retry_soon();
            }
        }
    }

    /// The node ends the pod.
    fn end(&mut self, verdict: Verdict) {
        if self.verdict.is_none() && !pod::is_terminal_phase(self.phase()) {
            self.ctx.events.warning(&about_pod(&self.pod), &verdict.reason, verdict.message.clone());
            self.verdict = Some(verdict);
        }
    }

    fn phase(&self) -> Option<&str> {
        let last = self.status.as_ref().or(self.pod.status.as_ref());
        last.and_then(|s| s.phase.as_deref())
    }

    /// Decides and acts. Never waits.
    fn step(&mut self, now: Timestamp) {
        self.wake_at = None;
        self.check_deadline(now);
        self.move_on(now);
        self.watch_health();
        if matches!(self.life, Life::Running | Life::Stopping { .. }) && self.looked {
            self.act(now);
        }
        self.refresh_volumes(now);
        self.tell(now);
        self.wind_up();
    }

    fn check_deadline(&mut self, now: Timestamp) {
        let Some(seconds) = pod::spec(&self.pod).active_deadline_seconds else { return };
        let started = self.status.as_ref().or(self.pod.status.as_ref()).and_then(|s| s.start_time.clone());
        let Some(started) = started else { return };
        let deadline = started
            .0
            .saturating_add(Duration::from_secs(seconds.max(0).unsigned_abs()))
            .unwrap_or(Timestamp::MAX);
        if now < deadline {
            self.wake(deadline);
        } else if self.life == Life::Running && !pod::is_terminal_phase(self.phase()) {
            self.end(Verdict {
                reason: "DeadlineExceeded".to_owned(),
                message: "Pod was active on the node longer than the specified deadline".to_owned(),
            });
        }
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at)));
    }

    /// From Running to Stopping, and to a nearer deadline if a later deletion names one.
    fn move_on(&mut self, now: Timestamp) {
        let deleted = self.pod.metadata.deletion_timestamp.is_some();
        let over =
            pod::is_terminal_phase(self.phase()) || (self.looked && plan::is_done(&self.pod, &self.observed));
        if !(deleted || self.gone || over || self.verdict.is_some()) {
            return;
        }
        let grace = Duration::from_secs(pod::grace_seconds(&self.pod).unsigned_abs());
        let deadline = now.saturating_add(grace).unwrap_or(Timestamp::MAX);
        match self.life {
            Life::Running => {
                self.stop.cancel();
                self.life = Life::Stopping { deadline };
                self.probes.retain(|(_, purpose), _| *purpose == Purpose::Readiness);
            }
            Life::Stopping { deadline: old } if deadline < old => self.life = Life::Stopping { deadline },
            _ => {}
        }
    }

    /// The address by which the pod is reached.
    fn ip(&self) -> String {
        self.ips().into_iter().next().unwrap_or_default()
    }

    fn ips(&self) -> Vec<String> {
        if pod::host_network(&self.pod) {
            return self.ctx.config.host_ips();
        }
        self.observed.sandbox().map(|s| s.ips.clone()).unwrap_or_default()
    }

    fn act(&mut self, now: Timestamp) {
        let stage = match self.life {
            Life::Stopping { deadline } => Stage::Terminating { deadline },
            _ => Stage::Running,
        };
        let Plan { actions, waiting, resizing, wake_at } = plan::plan(&View {
            pod: &self.pod,
            observed: &self.observed,
            stage,
            prepared: self.prepared,
            busy: &self.busy,
            pod_failure: self.pod_failure.as_ref(),
            attempts: &self.attempts,
            health: &self.health,
            group_fits: self.group == Some(qos::pod_resources(&self.pod)),
            resize_failure: self.resize_failure.as_ref(),
            now,
        });
        self.say_resizing(resizing);
        for (name, why) in &waiting {
            if self.waiting.get(name).is_none_or(|old| old.reason != why.reason) {
                self.say_waiting(name, why);
            }
        }
        self.waiting = waiting;
        if let Some(at) = wake_at {
            self.wake(at);
        }
        for action in actions {
            self.perform(action, now);
        }
    }

    fn say_waiting(&self, name: &str, why: &Waiting) {
        let about = about_container(&self.pod, name);
        match why.reason.as_str() {
            "CrashLoopBackOff" => {
                let message =
                    format!("Back-off restarting failed container {name} in pod {}", self.key.long());
                self.ctx.events.warning(&about, "BackOff", message);
            }
            "ImagePullBackOff" => {
                self.ctx.events.normal(&about, "BackOff", why.message.clone());
                self.ctx.events.warning(&about, "Failed", "Error: ImagePullBackOff");
            }
            _ => {}
        }
    }

    fn job(&self) -> Job {
        Job {
            ctx: self.ctx.clone(),
            key: self.key.clone(),
            pod: self.pod.clone(),
            tokens: self.tokens.clone(),
            certificates: self.certificates.clone(),
            stop: self.stop.clone(),
        }
    }

    /// Runs an operation beside the worker; its end reaches the mailbox, whatever happens to it.
    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        done: impl FnOnce(T) -> Done + Send + 'static,
    ) {
        let mailbox = self.mailbox.clone();
        tokio::spawn(async move {
            let result = work.await;
            mailbox.put(|inbox| inbox.done.push_back(done(result)));
        });
    }

    fn perform(&mut self, action: Action, now: Timestamp) {
        let job = self.job();
        match action {
            Action::Prepare => {
                self.busy.insert(Busy::Prepare, Timestamp::MAX);
                self.spawn(operations::prepare(job, self.ips()), Done::Prepared);
            }
            Action::CreateSandbox { attempt } => {
                if attempt > 0 && self.pod_failure.is_none() {
                    let message = "Pod sandbox changed, it will be killed and re-created.";
                    self.ctx.events.normal(&about_pod(&self.pod), "SandboxChanged", message);
                }
                self.busy.insert(Busy::Sandbox, Timestamp::MAX);
                self.spawn(operations::create_sandbox(job, attempt), Done::Sandbox);
            }
            Action::StopSandbox { id } => {
                self.busy.insert(Busy::StopSandbox(id.clone()), Timestamp::MAX);
                let which = id.clone();
                self.spawn(operations::stop_sandbox(job, id), move |r| Done::SandboxStopped(which, r));
            }
            Action::Start { name, attempt, sandbox, crash } => {
                self.begin(job, name, attempt, &sandbox, crash)
            }
            Action::Kill { id, name, again, grace, message } => {
                if again {
                    self.again.insert(id.clone());
                }
                let until = now.saturating_add(grace).unwrap_or(Timestamp::MAX);
                self.busy.insert(Busy::Kill(id.clone()), until);
                let which = id.clone();
                let work = operations::kill(job, id, name, grace, message, self.ip());
                self.spawn(work, move |r| Done::Killed(which, r));
            }
            Action::Resize { containers } => {
                self.busy.insert(Busy::Resize, Timestamp::MAX);
                let group = qos::pod_resources(&self.pod);
                self.spawn(operations::resize(job, containers), move |r| Done::Resized(group, r));
            }
            Action::Finish => self.life = Life::Cleaning,
        }
    }

    fn begin(&mut self, job: Job, name: String, attempt: u32, sandbox: &SandboxId, crash: Backoff) {
        let Some(sandbox) = self.observed.sandboxes.iter().find(|s| s.id == *sandbox).cloned() else {
            return;
        };
        self.busy.insert(Busy::Start(name.clone()), Timestamp::MAX);
        let attempts = self.attempts.entry(name.clone()).or_default();
        attempts.crash = crash;
        attempts.failure = None;
        let wanted = pod::spec(&self.pod).ephemeral_containers.iter().flatten().find(|e| e.name == name);
        let target = wanted.and_then(|e| e.target_container_name.as_deref());
        let target = target.and_then(|t| self.observed.newest(t)).map(|c| c.id.0.clone());
        let which = name.clone();
        self.spawn(operations::start(job, name, attempt, sandbox, target), move |r| Done::Started(which, r));
    }

    /// Brings the files of volumes up to date when something that they show has changed or a token is due.
    fn refresh_volumes(&mut self, now: Timestamp) {
        let due = self.refresh || self.refresh_at.is_some_and(|at| now >= at);
        if !due || self.refreshing || !self.prepared || self.life != Life::Running {
            return;
        }
        self.refresh = false;
        self.refresh_at = None;
        self.refreshing = true;
        self.spawn(operations::refresh(self.job(), self.ips()), Done::Refreshed);
    }

    /// Computes the status and has the API told when it has changed.
    fn tell(&mut self, now: Timestamp) {
        if !self.looked || matches!(self.life, Life::Removing | Life::Deleting | Life::Gone) {
            return;
        }
        let finished = matches!(self.life, Life::Cleaning | Life::Ended);
        let host_ips = self.ctx.config.host_ips();
        let status = status::compute(&Facts {
            pod: &self.pod,
            last: self.status.as_ref().or(self.mirror.as_ref().and_then(|m| m.status.as_ref())),
            observed: &self.observed,
            waiting: &self.waiting,
            health: &self.health,
            verdict: self.verdict.as_ref(),
            finished,
            host_ips: &host_ips,
            runtime: &self.ctx.runtime,
            features: &self.ctx.features,
            resize: status::Resize {
                pending: self.pending.as_ref(),
                under_way: self.resizing,
                error: self.resize_failure.as_ref().map(|failure| failure.message.as_str()),
            },
            now,
        });
        self.status = Some(status.clone());
        if self.publishing.is_some() || self.retry_at.is_some() {
            return;
        }
        let Some(uid) = self.uid_in_api() else { return };
        let old = self.published.clone().unwrap_or_default();
        if self.gone || publish::same(&old, &status) {
            return;
        }
        if let Some(later) = self.replaced_until(now) {
            return self.wake(later);
        }
        self.publishing = Some(status.clone());
        self.spawn(publish::publish(self.job(), uid, old, status), Done::Published);
    }

    /// Until when nothing is told because an instance ended to make room for its next, which takes milliseconds: who asks
    /// meanwhile need not take the pod for one that is not ready.
    fn replaced_until(&self, now: Timestamp) -> Option<Timestamp> {
        let replaced = self.observed.containers.iter().filter(|c| {
            self.life == Life::Running
                && c.again
                && self.observed.newest(&c.name).is_some_and(|n| n.id == c.id)
        });
        let until = replaced.filter_map(|c| c.exit()?.finished_at.saturating_add(UNTOLD).ok());
        until.filter(|until| now < *until).max()
    }

    /// The UID under which the API knows the pod. A static pod's mirror is made on the way.
    fn uid_in_api(&mut self) -> Option<String> {
        if !pod::is_static(&self.pod) {
            return Some(self.key.uid.to_string());
        }
        let mirror = self.mirror.as_ref();
        let current =
            mirror.filter(|m| pod::annotation(m, labels::CONFIG_MIRROR) == Some(self.key.uid.as_str()));
        let current = current.filter(|m| m.metadata.deletion_timestamp.is_none());
        if let Some(current) = current {
            return current.metadata.uid.clone();
        }
        if !self.mirroring && !self.gone && self.life == Life::Running {
            self.mirroring = true;
            let stale = mirror.and_then(|m| m.metadata.uid.clone());
            self.spawn(publish::mirror(self.job(), stale), Done::Mirrored);
        }
        None
    }

    /// The last steps: clean up, wait for the deletion, remove, delete.
    fn wind_up(&mut self) {
        if self.ending || self.retry_at.is_some() {
            return;
        }
        let told = self.gone
            || self.publishing.is_none()
                && self
                    .status
                    .as_ref()
                    .is_some_and(|s| self.published.as_ref().is_some_and(|p| publish::same(p, s)));
        let removed =
            self.gone || (self.pod.metadata.deletion_timestamp.is_some() && !pod::is_static(&self.pod));
        match self.life {
            // Volumes are removed when nothing touches them any more.
            Life::Cleaning if !self.refreshing => {
                self.ending = true;
                self.probes.clear();
                self.spawn(operations::clean(self.job()), Done::Cleaned);
            }
            Life::Ended if removed && told && self.looked => {
                self.life = Life::Removing;
                self.ending = true;
                let sandboxes = self.observed.sandboxes.iter().map(|s| s.id.clone()).collect();
                self.spawn(operations::remove(self.job(), sandboxes), Done::Removed);
            }
            Life::Removing => {
                self.ending = true;
                let sandboxes = self.observed.sandboxes.iter().map(|s| s.id.clone()).collect();
                self.spawn(operations::remove(self.job(), sandboxes), Done::Removed);
            }
            Life::Deleting => match self.own_record() {
                Some(uid) => {
                    self.ending = true;
                    self.spawn(publish::delete(self.job(), uid), Done::Deleted);
                }
                None => self.life = Life::Gone,
            },
            _ => {}
        }
    }

    /// The UID of what is to be removed from the API: the pod itself, or the mirror of this very manifest.
    fn own_record(&self) -> Option<String> {
        if !pod::is_static(&self.pod) {
            return (!self.gone).then(|| self.key.uid.to_string());
        }
        let mirror = self.mirror.as_ref()?;
        let own = pod::annotation(mirror, labels::CONFIG_MIRROR) == Some(self.key.uid.as_str());
        mirror.metadata.uid.clone().filter(|_| own)
    }
}

type Entries = Option<BTreeMap<String, String>>;

/// What a pod's volumes may show of it that can change: its labels, annotations and resources.
fn shown(pod: &Pod) -> (&Entries, &Entries, &Option<PodSpec>) {
    (&pod.metadata.labels, &pod.metadata.annotations, &pod.spec)
}

fn failure(reason: &'static str, message: String, now: Timestamp) -> Failure {
    let retry_at = now.saturating_add(RETRY).unwrap_or(Timestamp::MAX);
    Failure { reason, message, later: None, at: now, retry_at }
}

/// Sleeps until a moment; forever without one.
async fn until(at: Option<Timestamp>) {
    match at {
        None => std::future::pending().await,
        Some(at) => {
            let left = at.duration_since(Timestamp::now());
            let left = if left.is_negative() { Duration::ZERO } else { left.unsigned_abs() };
            // A little late rather than a little early, which would plan the same again.
            tokio::time::sleep(left + Duration::from_millis(1)).await;
        }
    }
}
