//! Laws of Jobs: what has ended is counted once.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Change, Laws, Verdict, World, at, condition, is_active, is_finished, number, owner, uid};

/// The pods of a Job that have ended, by how, and those that its status has ever listed.
#[derive(Default)]
pub(super) struct Ended {
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
    listed: BTreeSet<String>,
}

const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// The pods that a Job has still to count, by how they have ended.
pub(super) fn uncounted<'a>(job: &'a Value, how: &str) -> Vec<&'a str> {
    let listed = job.pointer(&format!("/status/uncountedTerminatedPods/{how}")).and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn is_tracked(pod: &Value) -> bool {
    let finalizers = pod.pointer("/metadata/finalizers").and_then(Value::as_array);
    finalizers.into_iter().flatten().any(|finalizer| finalizer == TRACKING)
}

fn has_ended(job: &Value) -> bool {
    condition(job, "Complete") || condition(job, "Failed")
}

impl World {
    pub(super) fn remember_ended(&mut self, change: &Change<'_>) {
        if let (Some(job), "batch/jobs") = (change.new, change.kind) {
            let ended = self.ended.entry(uid(job).to_owned()).or_default();
            let listed = uncounted(job, "succeeded").into_iter().chain(uncounted(job, "failed"));
            ended.listed.extend(listed.map(str::to_owned));
        }
        let pod = change.new.or(change.old).filter(|_| change.kind == "core/pods");
        if let Some((pod, (_, job))) =
            pod.and_then(|pod| owner(pod).filter(|(kind, _)| *kind == "Job").map(|of| (pod, of)))
        {
            let ended = self.ended.entry(job.to_owned()).or_default();
            let ends = match at(pod, "/status/phase") {
                "Succeeded" => &mut ended.succeeded,
                // One that is going counts as failed.
                _ if !is_active(pod) || change.new.is_none() => &mut ended.failed,
                _ => return,
            };
            ends.insert(uid(pod).to_owned());
        }
    }
}

/// A Job's numbers are those of pods that have ended, each once, and never go back.
pub(super) fn counts(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let Some(job) = change.new.filter(|_| change.kind == "batch/jobs") else { return Ok(()) };
    let Some(ended) = world.ended.get(uid(job)) else { return Ok(()) };
    for (how, pods) in [("succeeded", &ended.succeeded), ("failed", &ended.failed)] {
        let counted = number(job, &format!("/status/{how}"));
        let waiting = i64::try_from(uncounted(job, how).len()).unwrap_or(i64::MAX);
        let there = i64::try_from(pods.len()).unwrap_or(i64::MAX);
        if counted + waiting > there {
            return Err(format!("{counted} and {waiting} pods have {how}, of {there}"));
        }
        let before = change.old.filter(|old| uid(old) == uid(job));
        if before.is_some_and(|old| number(old, &format!("/status/{how}")) > counted) {
            return Err(format!("fewer pods have {how} than before"));
        }
    }
    let (completions, succeeded) = (number(job, "/spec/completions"), number(job, "/status/succeeded"));
    if condition(job, "Complete") && succeeded < completions && job.pointer("/spec/successPolicy").is_none() {
        return Err(format!("complete with {succeeded} of {completions}"));
    }
    Ok(())
}

/// No more pods work than a Job wants at a time.
pub(super) fn parallelism(laws: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let Some(pod) = change.new.filter(|_| change.kind == "core/pods" && change.old.is_none()) else {
        return Ok(());
    };
    let Some((_, job)) = owner(pod).filter(|(kind, _)| *kind == "Job") else { return Ok(()) };
    let Some((_, most, _)) = world.bounds(job) else { return Ok(()) };
    let there = world.pods_of(change.namespace, job).filter(|pod| is_active(pod)).count();
    let allowed = most + laws.untold(change.namespace);
    if i64::try_from(there).unwrap_or(i64::MAX) > allowed {
        return Err(format!("{there} pods at work where {allowed} may be"));
    }
    Ok(())
}

/// When a Job says that it has ended, nothing of it runs any more.
pub(super) fn end(laws: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let Some(job) = change.new.filter(|job| change.kind == "batch/jobs" && has_ended(job)) else {
        return Ok(());
    };
    if change.old.is_some_and(has_ended) {
        return Ok(());
    }
    let there = world.pods_of(change.namespace, uid(job)).filter(|pod| !is_finished(pod)).count();
    if i64::try_from(there).unwrap_or(i64::MAX) > laws.untold(change.namespace) {
        return Err(format!("it has ended, and {there} of its pods have not"));
    }
    Ok(())
}

/// A pod that succeeded is let go only once its Job knows of it.
pub(super) fn finalizers(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let Some(old) = change.old.filter(|old| change.kind == "core/pods" && is_tracked(old)) else {
        return Ok(());
    };
    if change.new.is_some_and(is_tracked)
        || change.user != "job-controller"
        || at(old, "/status/phase") != "Succeeded"
    {
        return Ok(());
    }
    let Some((_, job)) = owner(old) else { return Ok(()) };
    let Some(stored) = world.by_uid(job).filter(|job| !super::is_going(job) && !has_ended(job)) else {
        return Ok(());
    };
    let is_known = world.ended.get(job).is_some_and(|ended| ended.listed.contains(uid(old)));
    if !is_known && at(stored, "/spec/completionMode") != "Indexed" {
        return Err("let go before it was counted".to_owned());
    }
    Ok(())
}
