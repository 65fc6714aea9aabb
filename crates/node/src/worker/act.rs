//! What a worker has done: a plan of what it knows, and an operation for each action.

use jiff::Timestamp;

use super::operations::{self, Done, Job};
use super::{Life, Worker};
use crate::backoff::Backoff;
use crate::context::{about_container, about_pod};
use crate::observed::SandboxId;
use crate::plan::{self, Action, Busy, Plan, Stage, View, Waiting};
use crate::pod;
use crate::qos;
use crate::resize;

impl Worker {
    pub(super) fn act(&mut self, now: Timestamp) {
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
    pub(super) fn refresh_volumes(&mut self, now: Timestamp) {
        let due = self.refresh || self.refresh_at.is_some_and(|at| now >= at);
        if !due || self.refreshing || !self.prepared || self.life != Life::Running {
            return;
        }
        self.refresh = false;
        self.refresh_at = None;
        self.refreshing = true;
        self.spawn(operations::refresh(self.job(), self.ips()), Done::Refreshed);
    }
}
