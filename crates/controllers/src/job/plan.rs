//! What a Job needs: a pure function of the Job and its pods.
//!
//! A finished pod is counted exactly once, though the status, the pods and this process can each be lost in
//! between (KEP-2307): its UID is first written to the status, then its finalizer is removed, and only when
//! the finalizer is seen gone does the UID become part of a count.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobSpec, JobStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::indexes::Indexes;
use crate::{
    object::Object,
    pods::{is_ready, phase},
};

pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// After the first failure the next pod waits this long, after each further one twice as long.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_secs(6 * 60);
/// At most so many UIDs wait in the status to be counted.
const MOST_UNCOUNTED: usize = 500;
/// At most so many pods are created or deleted at a time.
const BURST: usize = 500;

#[derive(Debug, Default)]
pub(super) struct Plan {
    /// To be written first, where it differs.
    pub(super) status: JobStatus,
    /// To be freed of the finalizer once the status is written.
    pub(super) free: Vec<Arc<Pod>>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// One pod each, with its completion index in an indexed Job.
    pub(super) create: Vec<Option<u32>>,
    pub(super) look_again: Option<Duration>,
    /// The Job has just ended this way.
    pub(super) ended: Option<JobCondition>,
}

fn is_finished_pod(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == TRACKING)
}

fn index_of(pod: &Pod) -> Option<u32> {
    pod.annotation(INDEX)?.parse().ok()
}

/// How the Job has ended, if it has.
pub(crate) fn ended(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")
}

fn has(status: &JobStatus, kind: &str) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True")
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        message: (!message.is_empty()).then(|| message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn set(status: &mut JobStatus, new: JobCondition) {
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) if old.status == new.status && old.reason == new.reason => {}
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// Why a Job stops before all its work is done.
enum Failure {
    Backoff,
    Deadline,
}

/// `pods` are all that the Job owns; `caught_up` says whether they show its own last writes.
pub(super) fn plan(job: &Job, pods: &[Arc<Pod>], caught_up: bool, now: Timestamp) -> Plan {
    let spec = job.spec.clone().unwrap_or_default();
    let mut plan = Plan { status: job.status.clone().unwrap_or_default(), ..Plan::default() };
    if ended(job).is_some() || job.is_going() {
        // The work is over, but finalizers must not outlive it.
        plan.free = pods.iter().filter(|p| is_tracked(p)).cloned().collect();
        return plan;
    }
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let count = Count::take(&mut plan, &spec, pods, indexed);
    let active: Vec<Arc<Pod>> =
        pods.iter().filter(|p| !is_finished_pod(p) && !p.is_going()).cloned().collect();
    let terminating = pods.iter().filter(|p| !is_finished_pod(p) && p.is_going()).count();
    let suspended = spec.suspend == Some(true);
    if plan.status.start_time.is_none() && !suspended {
        plan.status.start_time = Some(Time(now));
    }
    let numbers = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    plan.status.active = Some(numbers(active.len()));
    plan.status.ready = Some(numbers(active.iter().filter(|p| is_ready(p)).count()));
    plan.status.terminating = Some(numbers(terminating));

    let failure = count.failure(&spec, &plan.status, &active, now);
    let success = count.success(&spec, active.len());
    if has(&plan.status, "FailureTarget") || (failure.is_some() && !has(&plan.status, "SuccessCriteriaMet")) {
        plan.fail(failure, now);
        plan.finish(active, terminating, "Failed", now);
    } else if has(&plan.status, "SuccessCriteriaMet") || success {
        let (reason, message) = ("CompletionsReached", "Reached expected number of succeeded pods");
        set(&mut plan.status, condition("SuccessCriteriaMet", "True", reason, message, now));
        plan.finish(active, terminating, "Complete", now);
    } else if suspended {
        set(&mut plan.status, condition("Suspended", "True", "JobSuspended", "Job suspended", now));
        plan.status.start_time = None;
        plan.delete = active;
    } else {
        if plan.status.conditions.iter().flatten().any(|c| c.type_ == "Suspended") {
            set(&mut plan.status, condition("Suspended", "False", "JobResumed", "Job resumed", now));
        }
        if caught_up {
            plan.manage(&spec, &count, active, pods, now);
        }
        if let (Some(limit), Some(start)) = (spec.active_deadline_seconds, &plan.status.start_time) {
            let been = Duration::try_from(now.duration_since(start.0)).unwrap_or_default();
            let left = Duration::from_secs(u64::try_from(limit).unwrap_or(0)).saturating_sub(been);
            plan.wait(left);
        }
    }
    plan
}

/// What has been done so far, counted or still to be counted.
struct Count {
    succeeded: usize,
    failed: usize,
    done: Indexes,
    last_failure: Option<Timestamp>,
}

impl Count {
    /// Takes newly finished pods into the status, and those whose finalizers are gone into its counts.
    fn take(plan: &mut Plan, spec: &JobSpec, pods: &[Arc<Pod>], indexed: bool) -> Self {
        let status = &mut plan.status;
        let mut waiting = status.uncounted_terminated_pods.take().unwrap_or_default();
        let tracked: BTreeSet<&str> = pods.iter().filter(|p| is_tracked(p)).map(|p| p.uid()).collect();
        let limit = spec.completions.and_then(|c| u32::try_from(c).ok()).unwrap_or(0);
        let mut done = Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), limit);
        let settle = |list: &mut Option<Vec<String>>, total: &mut Option<i32>| {
            let before = list.as_ref().map_or(0, Vec::len);
            if let Some(list) = list {
                list.retain(|uid| tracked.contains(uid.as_str()));
            }
            let gone = before - list.as_ref().map_or(0, Vec::len);
            // Nothing to count is said by leaving the list out.
            *list = list.take().filter(|list| !list.is_empty());
            *total = Some(total.unwrap_or(0).saturating_add(i32::try_from(gone).unwrap_or(i32::MAX)));
        };
        settle(&mut waiting.succeeded, &mut status.succeeded);
        settle(&mut waiting.failed, &mut status.failed);
        let known: BTreeSet<String> =
            waiting.succeeded.iter().chain(&waiting.failed).flatten().cloned().collect();
        let mut room = MOST_UNCOUNTED.saturating_sub(known.len());
        for pod in pods.iter().filter(|p| is_tracked(p)) {
            let ended = is_finished_pod(pod)
                || (pod.is_going() && spec.pod_replacement_policy.as_deref() != Some("Failed"));
            if !ended || (!known.contains(pod.uid()) && room == 0) {
                continue;
            }
            let succeeded = phase(pod) == "Succeeded";
            if !known.contains(pod.uid()) {
                room -= 1;
                // A second success of one index is nothing new.
                let counts = !indexed || !succeeded || index_of(pod).is_some_and(|i| done.insert(i));
                let list = if succeeded { &mut waiting.succeeded } else { &mut waiting.failed };
                if counts {
                    list.get_or_insert_default().push(pod.uid().to_owned());
                }
            }
            plan.free.push(pod.clone());
        }
        let length = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
        let total =
            |counted: Option<i32>, list| usize::try_from(counted.unwrap_or(0)).unwrap_or(0) + length(list);
        let (mut succeeded, failed) =
            (total(status.succeeded, &waiting.succeeded), total(status.failed, &waiting.failed));
        if indexed {
            status.completed_indexes = Some(done.to_string()).filter(|t| !t.is_empty());
            succeeded = done.len();
        }
        if waiting != Default::default() {
            status.uncounted_terminated_pods = Some(waiting);
        }
        let ends = |p: &Arc<Pod>| {
            let statuses = p.status.as_ref()?.container_statuses.as_ref()?;
            statuses
                .iter()
                .filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
                .map(|t| t.0)
                .max()
        };
        let last_failure = pods.iter().filter(|p| phase(p) == "Failed").filter_map(ends).max();
        Self { succeeded, failed, done, last_failure }
    }

    fn failure(
        &self,
        spec: &JobSpec,
        status: &JobStatus,
        active: &[Arc<Pod>],
        now: Timestamp,
    ) -> Option<Failure> {
        let limit = usize::try_from(spec.backoff_limit.unwrap_or(6)).unwrap_or(usize::MAX);
        let restarts = || -> usize {
            let statuses = active.iter().filter_map(|p| p.status.as_ref());
            let all = statuses
                .flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten());
            all.map(|c| usize::try_from(c.restart_count).unwrap_or(0)).sum()
        };
        let on_failure =
            spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) == Some("OnFailure");
        if self.failed > limit || (on_failure && restarts() > 0 && restarts() >= limit.max(1)) {
            return Some(Failure::Backoff);
        }
        let (limit, start) = (spec.active_deadline_seconds?, status.start_time.as_ref()?);
        (now.duration_since(start.0).as_secs() >= limit).then_some(Failure::Deadline)
    }

    fn success(&self, spec: &JobSpec, active: usize) -> bool {
        match spec.completions.and_then(|c| usize::try_from(c).ok()) {
            Some(completions) => self.succeeded >= completions,
            // A work queue is empty when one worker says so and the others have ended too.
            None => self.succeeded > 0 && active == 0,
        }
    }

    fn backoff(&self) -> Duration {
        let times = u32::try_from(self.failed.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
        FIRST_BACKOFF.saturating_mul(1 << times).min(LAST_BACKOFF)
    }
}

impl Plan {
    fn wait(&mut self, time: Duration) {
        self.look_again = Some(self.look_again.map_or(time, |t| t.min(time)));
    }

    fn fail(&mut self, failure: Option<Failure>, now: Timestamp) {
        let (reason, message) = match failure {
            Some(Failure::Backoff) => ("BackoffLimitExceeded", "Job has reached the specified backoff limit"),
            Some(Failure::Deadline) => ("DeadlineExceeded", "Job was active longer than specified deadline"),
            None => return,
        };
        set(&mut self.status, condition("FailureTarget", "True", reason, message, now));
    }

    /// Ends the Job as soon as no pod of it runs and every one is counted.
    fn finish(&mut self, active: Vec<Arc<Pod>>, terminating: usize, kind: &str, now: Timestamp) {
        let settled =
            active.is_empty() && terminating == 0 && self.status.uncounted_terminated_pods.is_none();
        self.delete = active;
        if !settled || !self.free.is_empty() {
            return;
        }
        let target = if kind == "Complete" { "SuccessCriteriaMet" } else { "FailureTarget" };
        let because = self.status.conditions.iter().flatten().find(|c| c.type_ == target).cloned();
        let (reason, message) = because.map(|c| (c.reason, c.message)).unwrap_or_default();
        let text = |t: Option<String>| t.unwrap_or_default();
        let condition = condition(kind, "True", &text(reason), &text(message), now);
        set(&mut self.status, condition.clone());
        if kind == "Complete" {
            self.status.completion_time = Some(Time(now));
        }
        self.ended = Some(condition);
    }

    /// Keeps as many pods at work as there may be.
    fn manage(
        &mut self,
        spec: &JobSpec,
        count: &Count,
        active: Vec<Arc<Pod>>,
        pods: &[Arc<Pod>],
        now: Timestamp,
    ) {
        let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let completions = spec.completions.and_then(|c| usize::try_from(c).ok());
        let wanted = match completions {
            Some(completions) => parallelism.min(completions.saturating_sub(count.succeeded)),
            None if count.succeeded > 0 => parallelism.min(active.len()),
            None => parallelism,
        };
        let indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let (keep, surplus) = choose(active, wanted, indexed.then_some(&count.done));
        self.delete.extend(surplus);
        let missing = wanted.saturating_sub(keep.len()).min(BURST);
        if missing == 0 {
            return;
        }
        if count.failed > 0
            && let Some(last) = count.last_failure
        {
            let been = Duration::try_from(now.duration_since(last)).unwrap_or_default();
            let left = count.backoff().saturating_sub(been);
            if !left.is_zero() {
                return self.wait(left);
            }
        }
        if !indexed {
            self.create = vec![None; missing];
            return;
        }
        // A terminating pod still has its index.
        let busy = pods.iter().filter(|p| !is_finished_pod(p)).filter_map(|p| index_of(p));
        let busy: BTreeSet<u32> = busy.collect();
        let all = 0..u32::try_from(completions.unwrap_or(0)).unwrap_or(u32::MAX);
        let free = all.filter(|i| !busy.contains(i) && !count.done.contains(*i));
        self.create = free.take(missing).map(Some).collect();
    }
}

/// The pods to keep and those to delete: second pods of an index go, then those that have run the least.
fn choose(
    mut active: Vec<Arc<Pod>>,
    wanted: usize,
    done: Option<&Indexes>,
) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    active.sort_by_key(|p| {
        let created = p.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (!is_ready(p), phase(p) != "Running", created)
    });
    let mut taken: BTreeMap<u32, ()> = BTreeMap::new();
    let (mut keep, mut surplus) = (Vec::new(), Vec::new());
    for pod in active {
        let fits = done.is_none_or(|done| {
            index_of(&pod).is_some_and(|i| !done.contains(i) && taken.insert(i, ()).is_none())
        });
        if fits && keep.len() < wanted { keep.push(pod) } else { surplus.push(pod) }
    }
    (keep, surplus)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
