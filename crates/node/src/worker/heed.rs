//! What a worker learns: from the sources of pods, from the runtime, and of its own operations that are through.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::mailbox::Inbox;
use super::operations::{Done, StartError};
use super::publish::{self, PublishError};
use super::{Life, RETRY, SHORT_RETRY, Worker};
use crate::context::about_pod;
use crate::plan::{Busy, Failure};
use crate::pod;
use crate::resize::{self, Pending};
use crate::status::Verdict;

impl Worker {
    pub(super) fn receive(&mut self, inbox: Inbox) {
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

    pub(super) fn retry_soon(&mut self) {
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
    pub(super) fn end(&mut self, verdict: Verdict) {
        if self.verdict.is_none() && !pod::is_terminal_phase(self.phase()) {
            self.ctx.events.warning(&about_pod(&self.pod), &verdict.reason, verdict.message.clone());
            self.verdict = Some(verdict);
        }
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
