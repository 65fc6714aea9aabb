//! One task a pod: looks, plans, has it done, tells.
//!
//! ```text
//! Running ──▶ Stopping ──▶ Cleaning ──▶ Ended ──▶ Removing ──▶ Deleting ──▶ Gone
//! ```
//! A pod that ran to its end waits in `Ended`, with its containers for their logs, until it is deleted. The worker
//! keeps nothing that can't be found again: after a restart of the node it looks, and goes on from what it sees.

mod act;
mod health;
mod heed;
pub(crate) mod mailbox;
pub(crate) mod operations;
pub(crate) mod publish;
mod tell;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::certificates::Certificates;
use crate::context::Context;
use crate::key::PodKey;
use crate::labels;
use crate::observed::{ContainerId, Observed};
use crate::plan::{self, Attempts, Busy, Failure, Health, Waiting};
use crate::pod;
use crate::probes::Purpose;
use crate::qos::PodResources;
use crate::resize::Pending;
use crate::runtime::{Lens, Words};
use crate::status::Verdict;
use mailbox::Mailbox;
use operations::{Done, Job, Tokens};

/// From a failure of preparation or configuration to the next try.
const RETRY: Duration = Duration::from_secs(10);
/// From a failure of the API or the runtime to the next try.
const SHORT_RETRY: Duration = Duration::from_secs(1);

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
                self.remove();
            }
            Life::Removing => self.remove(),
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

    /// Has the runtime's record removed.
    fn remove(&mut self) {
        self.ending = true;
        let sandboxes = self.observed.sandboxes.iter().map(|s| s.id.clone()).collect();
        self.spawn(operations::remove(self.job(), sandboxes), Done::Removed);
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
