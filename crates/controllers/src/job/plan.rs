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
    api::batch::v1::{Job, JobCondition, JobSpec, JobStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    indexes::Indexes,
    policy::{self, Consequence},
};
use crate::{
    object::Object,
    pod::Pod,
    pod_control::BURST,
    pods::{finished_at, is_active, is_finished, is_ready, node_of, phase},
};

pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
pub(crate) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the pod's index had failed before it, where each index has its own limit; and how often without counting.
pub(crate) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(crate) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// After the first failure the next pod waits this long, after each further one twice as long.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_secs(10 * 60);
/// At most so many UIDs wait in the status to be counted.
const MOST_UNCOUNTED: usize = 500;

/// A pod to create.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NewPod {
    /// Its completion index in an indexed Job.
    pub(super) index: Option<u32>,
    /// Of its index before it, where each index has a back-off limit of its own.
    pub(super) failures: Option<Failures>,
}

/// How often an index has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) counted: u32,
    pub(super) ignored: u32,
}

impl Failures {
    fn before(pod: &Pod) -> Self {
        let number = |name| pod.annotation(name).and_then(|n| n.parse().ok()).unwrap_or(0);
        Self { counted: number(FAILURES), ignored: number(IGNORED_FAILURES) }
    }

    fn and(self, consequence: &Consequence) -> Self {
        match consequence {
            Consequence::Ignored => Self { ignored: self.ignored.saturating_add(1), ..self },
            _ => Self { counted: self.counted.saturating_add(1), ..self },
        }
    }

    fn all(self) -> u32 {
        self.counted.saturating_add(self.ignored)
    }
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    /// To be written first, where it differs.
    pub(super) status: JobStatus,
    /// To be freed of the finalizer once the status is written.
    pub(super) free: Vec<Arc<Pod>>,
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) create: Vec<NewPod>,
    pub(super) look_again: Option<Duration>,
    /// Conditions that have just come to be and are worth an event.
    pub(super) news: Vec<JobCondition>,
    /// The actions of the rules that decided about pods which are to be counted now.
    pub(super) handled: Vec<&'static str>,
}

/// The Job is coming to its end, and waits for its last pods to stop.
const FAILING: &str = "FailureTarget";
const SUCCEEDING: &str = "SuccessCriteriaMet";

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

/// Sets a condition; whether that changed anything.
fn set(status: &mut JobStatus, new: JobCondition) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) if old.status == new.status && old.reason == new.reason => return false,
        Some(old) => *old = new,
        None => conditions.push(new),
    }
    true
}

/// Why a Job comes to its end.
struct End {
    reason: &'static str,
    message: String,
}

impl End {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// `pods` are all that the Job owns; `caught_up` says whether they show its own last writes.
pub(super) fn plan(job: &Job, pods: &[Arc<Pod>], caught_up: bool, now: Timestamp) -> Plan {
    let spec = job.spec.clone().unwrap_or_default();
    let mut plan = Plan { status: job.status.clone().unwrap_or_default(), ..Plan::default() };
    if ended(job).is_some() || job.is_going() {
        // The work is over, but finalizers must not outlive it, nor a pod whose creation nobody was told of.
        plan.free = pods.iter().filter(|p| is_tracked(p)).cloned().collect();
        if ended(job).is_some() {
            plan.delete = pods.iter().filter(|p| is_active(p)).cloned().collect();
        }
        return plan;
    }
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let count = Count::take(&mut plan, &spec, pods, indexed);
    let active: Vec<Arc<Pod>> = pods.iter().filter(|p| is_active(p)).cloned().collect();
    let terminating = pods.iter().filter(|p| !is_finished(p) && p.is_going()).count();
    // A pod that is still to be seen may be at work.
    let unseen = usize::from(!caught_up);
    let suspended = spec.suspend == Some(true);
    if plan.status.start_time.is_none() && !suspended {
        plan.status.start_time = Some(Time(now));
    }
    let numbers = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    plan.status.active = Some(numbers(active.len()));
    plan.status.ready = Some(numbers(active.iter().filter(|p| is_ready(p)).count()));
    plan.status.terminating = Some(numbers(terminating));

    if !has(&plan.status, FAILING) && !has(&plan.status, SUCCEEDING) {
        // What is decided once stays decided.
        let failure = count.failure(&spec, &plan.status, pods, &active, now).map(|end| (FAILING, end));
        let end = failure.or_else(|| Some((SUCCEEDING, count.success(&spec, active.len())?)));
        if let Some((kind, end)) = end {
            set(&mut plan.status, condition(kind, "True", end.reason, &end.message, now));
        }
    }
    if has(&plan.status, FAILING) {
        plan.finish(active, terminating + unseen, FAILING, "Failed", now);
    } else if has(&plan.status, SUCCEEDING) {
        plan.finish(active, terminating + unseen, SUCCEEDING, "Complete", now);
    } else if suspended {
        plan.announce(condition("Suspended", "True", "JobSuspended", "Job suspended", now));
        plan.status.start_time = None;
        plan.discard(active);
    } else {
        if plan.status.conditions.iter().flatten().any(|c| c.type_ == "Suspended") {
            plan.announce(condition("Suspended", "False", "JobResumed", "Job resumed", now));
        }
        if caught_up {
            plan.manage(&spec, count, active, pods, now);
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
    /// Indexes that have succeeded, and those that have failed for good.
    done: Indexes,
    lost: Indexes,
    completions: u32,
    /// The last failed pod of each index that has a back-off limit of its own. It keeps its finalizer until another
    /// pod of the index can carry its number of failures on.
    replaced: BTreeMap<u32, Arc<Pod>>,
    /// Failures since the last success, and the time of the last.
    in_a_row: usize,
    last_failure: Option<Timestamp>,
}

/// Whether the pod has come to its end as a failure, or never will come to any.
fn has_failed(spec: &JobSpec, pod: &Pod) -> bool {
    match phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => {
            let waits = spec.pod_replacement_policy.as_deref() == Some("Failed");
            pod.is_going() && (!waits || node_of(pod).is_none())
        }
    }
}

impl Count {
    /// Takes newly finished pods into the status, and those whose finalizers are gone into its counts.
    fn take(plan: &mut Plan, spec: &JobSpec, pods: &[Arc<Pod>], indexed: bool) -> Self {
        let status = &mut plan.status;
        let mut waiting = status.uncounted_terminated_pods.take().unwrap_or_default();
        let tracked: Vec<&Arc<Pod>> = pods.iter().filter(|p| is_tracked(p)).collect();
        let uids: BTreeSet<&str> = tracked.iter().map(|p| p.uid()).collect();
        let settle = |list: &mut Option<Vec<String>>, total: &mut Option<i32>| {
            let before = list.as_ref().map_or(0, Vec::len);
            if let Some(list) = list {
                list.retain(|uid| uids.contains(uid.as_str()));
            }
            let gone = before - list.as_ref().map_or(0, Vec::len);
            // Nothing to count is said by leaving the list out.
            *list = list.take().filter(|list| !list.is_empty());
            *total = Some(total.unwrap_or(0).saturating_add(i32::try_from(gone).unwrap_or(i32::MAX)));
        };
        settle(&mut waiting.succeeded, &mut status.succeeded);
        settle(&mut waiting.failed, &mut status.failed);

        let completions = spec.completions.and_then(|c| u32::try_from(c).ok()).unwrap_or(0);
        let index = |pod: &Pod| index_of(pod).filter(|i| *i < completions);
        let mut told = Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions);
        let mut done = told.clone();
        let mut lost = Indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), completions);
        let mut replaced: BTreeMap<u32, Arc<Pod>> = BTreeMap::new();
        if indexed {
            for i in tracked.iter().filter(|p| phase(p) == "Succeeded").filter_map(|p| index(p)) {
                done.insert(i);
            }
        }
        if let Some(limit) = spec.backoff_limit_per_index.filter(|_| indexed) {
            let limit = u32::try_from(limit).unwrap_or(0);
            let failures = || tracked.iter().filter(|p| has_failed(spec, p));
            for (i, pod) in failures().filter_map(|p| Some((index(p)?, p))) {
                let gives_up = match policy::consequence(spec, pod) {
                    Consequence::FailsIndex => true,
                    Consequence::Ignored => false,
                    _ => Failures::before(pod).counted >= limit,
                };
                if gives_up && !done.contains(i) {
                    lost.insert(i);
                }
            }
            let at_work: BTreeSet<u32> =
                pods.iter().filter(|p| is_active(p)).filter_map(|p| index_of(p)).collect();
            let open = |i: &u32| !done.contains(*i) && !lost.contains(*i) && !at_work.contains(i);
            for (i, pod) in failures().filter_map(|p| Some((index(p).filter(open)?, *p))) {
                let last = replaced.entry(i).or_insert_with(|| Arc::clone(pod));
                if Failures::before(pod).all() >= Failures::before(last).all() {
                    *last = Arc::clone(pod);
                }
            }
            status.failed_indexes = Some(lost.to_string());
        }

        let known: BTreeSet<String> =
            waiting.succeeded.iter().chain(&waiting.failed).flatten().cloned().collect();
        let mut room = MOST_UNCOUNTED.saturating_sub(known.len());
        let ending = has(status, FAILING) || has(status, SUCCEEDING);
        for pod in tracked {
            let (succeeded, failed) = (phase(pod) == "Succeeded", has_failed(spec, pod));
            let kept = index(pod).and_then(|i| replaced.get(&i)).is_some_and(|last| last.uid() == pod.uid());
            let carries_on = kept && !ending;
            if !(succeeded || failed) || carries_on || (!known.contains(pod.uid()) && room == 0) {
                continue;
            }
            if !known.contains(pod.uid()) {
                plan.handled.extend(policy::action(spec, pod).filter(|_| failed));
                let counts = if succeeded {
                    // A second success of one index is nothing new.
                    !indexed || index(pod).is_some_and(|i| told.insert(i))
                } else {
                    // What is stopped because enough have succeeded has not failed.
                    (!indexed || index(pod).is_some())
                        && (phase(pod) == "Failed" || !has(status, SUCCEEDING))
                        && policy::consequence(spec, pod) != Consequence::Ignored
                };
                if counts {
                    room -= 1;
                    let list = if succeeded { &mut waiting.succeeded } else { &mut waiting.failed };
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
            status.completed_indexes = Some(told.to_string()).filter(|t| !t.is_empty());
            succeeded = done.len();
        }
        status.uncounted_terminated_pods = Some(waiting);
        let last = |kind: &str| pods.iter().filter(|p| phase(p) == kind).filter_map(|p| finished_at(p)).max();
        let last_success = last("Succeeded");
        let since = |p: &&Arc<Pod>| phase(p) == "Failed" && finished_at(p) > last_success;
        let in_a_row = pods.iter().filter(since).count();
        Self { succeeded, failed, done, lost, completions, replaced, in_a_row, last_failure: last("Failed") }
    }

    fn failure(
        &self,
        spec: &JobSpec,
        status: &JobStatus,
        pods: &[Arc<Pod>],
        active: &[Arc<Pod>],
        now: Timestamp,
    ) -> Option<End> {
        let by_policy =
            pods.iter().filter(|p| has_failed(spec, p)).find_map(|p| match policy::consequence(spec, p) {
                Consequence::FailsJob(message) => Some(End::new("PodFailurePolicy", message)),
                _ => None,
            });
        if by_policy.is_some() {
            return by_policy;
        }
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
            return Some(End::new("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
        }
        let running_for = status.start_time.as_ref().map(|t| now.duration_since(t.0).as_secs());
        let late = spec.active_deadline_seconds.zip(running_for).is_some_and(|(limit, been)| been >= limit);
        if late && spec.suspend != Some(true) {
            return Some(End::new("DeadlineExceeded", "Job was active longer than specified deadline"));
        }
        let most = spec.max_failed_indexes.and_then(|m| usize::try_from(m).ok());
        if most.is_some_and(|most| self.lost.len() > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(End::new("MaxFailedIndexesExceeded", message));
        }
        let all = usize::try_from(self.completions).unwrap_or(usize::MAX);
        (self.lost.len() > 0 && self.lost.len() + self.done.len() >= all)
            .then(|| End::new("FailedIndexes", "Job has failed indexes"))
    }

    fn success(&self, spec: &JobSpec, active: usize) -> Option<End> {
        if let Some(rule) = policy::success(spec, &self.done, self.completions) {
            return Some(End::new("SuccessPolicy", format!("Matched rules at index {rule}")));
        }
        let reached = match spec.completions.and_then(|c| usize::try_from(c).ok()) {
            Some(completions) => self.succeeded >= completions,
            // A work queue is empty when one worker says so and the others have ended too.
            None => self.succeeded > 0 && active == 0,
        };
        reached.then(|| End::new("CompletionsReached", "Reached expected number of succeeded pods"))
    }
}

/// How much of the time that a next pod waits after so many failures, the last at `last`, is left.
fn left_to_wait(failures: usize, last: Option<Timestamp>, now: Timestamp) -> Duration {
    let Some(last) = last.filter(|_| failures > 0) else { return Duration::ZERO };
    let times = u32::try_from(failures - 1).unwrap_or(u32::MAX).min(10);
    let wait = FIRST_BACKOFF.saturating_mul(1 << times).min(LAST_BACKOFF);
    wait.saturating_sub(Duration::try_from(now.duration_since(last)).unwrap_or_default())
}

impl Plan {
    fn wait(&mut self, time: Duration) {
        self.look_again = Some(self.look_again.map_or(time, |t| t.min(time)));
    }

    /// Stops pods that are wanted no more: they have neither succeeded nor failed.
    fn discard(&mut self, pods: Vec<Arc<Pod>>) {
        self.free.extend(pods.iter().filter(|p| is_tracked(p)).cloned());
        self.delete.extend(pods);
    }

    /// Sets a condition and has it told, if it is new.
    fn announce(&mut self, condition: JobCondition) {
        if set(&mut self.status, condition.clone()) {
            self.news.push(condition);
        }
    }

    /// Ends the Job, for the reason of its condition `target`, as soon as no pod of it runs and every one is counted.
    fn finish(
        &mut self,
        active: Vec<Arc<Pod>>,
        still_there: usize,
        target: &str,
        kind: &str,
        now: Timestamp,
    ) {
        let counted = self.status.uncounted_terminated_pods.as_ref().is_none_or(|u| *u == Default::default());
        let settled = active.is_empty() && still_there == 0 && counted;
        match target {
            SUCCEEDING => self.discard(active),
            _ => self.delete = active,
        }
        if !settled || !self.free.is_empty() {
            return;
        }
        let because = self.status.conditions.iter().flatten().find(|c| c.type_ == target).cloned();
        let (reason, message) = because.map(|c| (c.reason, c.message)).unwrap_or_default();
        let text = |t: Option<String>| t.unwrap_or_default();
        if kind == "Complete" {
            self.status.completion_time = Some(Time(now));
        }
        self.announce(condition(kind, "True", &text(reason), &text(message), now));
    }

    /// Keeps as many pods at work as there may be.
    fn manage(
        &mut self,
        spec: &JobSpec,
        count: Count,
        active: Vec<Arc<Pod>>,
        pods: &[Arc<Pod>],
        now: Timestamp,
    ) {
        let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let completions = spec.completions.and_then(|c| usize::try_from(c).ok());
        let wanted = match completions {
            Some(all) => parallelism.min(all.saturating_sub(count.succeeded + count.lost.len())),
            None if count.succeeded > 0 => parallelism.min(active.len()),
            None => parallelism,
        };
        let indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let open = |i: u32| i < count.completions && !count.done.contains(i) && !count.lost.contains(i);
        let (keep, surplus) = choose(active, wanted, indexed.then_some(&open));
        self.discard(surplus);
        // A pod that is still stopping is replaced only when it has stopped, where the Job says so.
        let at_work = || pods.iter().filter(|p| !is_finished(p) && !has_failed(spec, p));
        let stopping = at_work().filter(|p| p.is_going()).count();
        let missing = wanted.saturating_sub(keep.len() + stopping).min(BURST);
        if missing == 0 {
            return;
        }
        let each_for_itself = indexed && spec.backoff_limit_per_index.is_some();
        if !each_for_itself {
            let left = left_to_wait(count.in_a_row, count.last_failure, now);
            if !left.is_zero() {
                return self.wait(left);
            }
        }
        if !indexed {
            self.create = vec![NewPod::default(); missing];
            return;
        }
        let busy: BTreeSet<u32> = at_work().filter_map(|p| index_of(p)).collect();
        for index in (0..count.completions).filter(|i| !busy.contains(i) && open(*i)) {
            if self.create.len() == missing {
                break;
            }
            let mut new = NewPod { index: Some(index), failures: None };
            if each_for_itself {
                let last = count.replaced.get(&index);
                let failures = last.map_or_else(Failures::default, |pod| {
                    Failures::before(pod).and(&policy::consequence(spec, pod))
                });
                let all = usize::try_from(failures.all()).unwrap_or(usize::MAX);
                let left = left_to_wait(all, last.and_then(|pod| finished_at(pod)), now);
                if !left.is_zero() {
                    self.wait(left);
                    continue;
                }
                new.failures = Some(failures);
            }
            self.create.push(new);
        }
    }
}

/// The pods to keep and those to delete: in an indexed Job those whose index is not `open` and second pods of an
/// index go, then those that have run the least.
fn choose(
    mut active: Vec<Arc<Pod>>,
    wanted: usize,
    open: Option<&impl Fn(u32) -> bool>,
) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    active.sort_by_key(|p| {
        let created = p.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (!is_ready(p), phase(p) != "Running", created)
    });
    let mut taken: BTreeSet<u32> = BTreeSet::new();
    let (mut keep, mut surplus) = (Vec::new(), Vec::new());
    for pod in active {
        let fits = open.is_none_or(|open| index_of(&pod).is_some_and(|i| open(i) && taken.insert(i)));
        if fits && keep.len() < wanted { keep.push(pod) } else { surplus.push(pod) }
    }
    (keep, surplus)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
