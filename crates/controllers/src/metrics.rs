//! What the loops count, under upstream's names.
//!
//! As in every program of Kubernetes, these are counts of the process.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use tiphys_metrics::{Exposition, Histogram, Kind, Table};

/// Each twice the one before, from four milliseconds.
static SYNCS: [f64; 15] = [
    0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384, 32.768,
    65.536,
];
static SKEWS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// Sets of labels that are counted apart.
const SERIES: usize = 1024;

static COUNTS: LazyLock<Counts> = LazyLock::new(|| Counts {
    job_syncs: Table::new(SERIES),
    jobs_finished: Table::new(SERIES),
    job_pods: Table::new(SERIES),
    job_policies: Table::new(SERIES),
    tracked: Table::new(SERIES),
    skew: Histogram::new(&SKEWS),
    evictions: Table::new(SERIES),
});

struct Counts {
    /// By completion mode, result and action.
    job_syncs: Table<3, Histogram>,
    /// By completion mode, result and reason.
    jobs_finished: Table<3, AtomicU64>,
    /// By completion mode and result.
    job_pods: Table<2, AtomicU64>,
    /// By the action of the rule.
    job_policies: Table<1, AtomicU64>,
    /// By event.
    tracked: Table<1, AtomicU64>,
    skew: Histogram,
    /// By zone.
    evictions: Table<1, AtomicU64>,
}

fn mode(job: &Job) -> &str {
    let mode = job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref());
    mode.unwrap_or("NonIndexed")
}

/// A Job was looked at; `action` says what that came to.
pub(crate) fn job_looked_at(job: &Job, done: bool, action: &str, took: Duration) {
    let result = if done { "success" } else { "error" };
    let syncs = COUNTS.job_syncs.entry([mode(job), result, action], || Histogram::new(&SYNCS));
    syncs.observe_time(took);
}

/// A Job has come to its end, as the condition says.
pub(crate) fn job_finished(job: &Job, condition: &JobCondition) {
    let result = if condition.type_ == "Complete" { "succeeded" } else { "failed" };
    let reason = condition.reason.as_deref().unwrap_or_default();
    COUNTS.jobs_finished.entry([mode(job), result, reason], AtomicU64::default).fetch_add(1, Relaxed);
}

/// A Job's status was written over the one that it has, and counts more pods.
pub(crate) fn job_pods_counted(job: &Job, status: &JobStatus) {
    let old = job.status.as_ref();
    for (result, before, now) in [
        ("succeeded", old.and_then(|old| old.succeeded), status.succeeded),
        ("failed", old.and_then(|old| old.failed), status.failed),
    ] {
        let more = now.unwrap_or(0).saturating_sub(before.unwrap_or(0));
        if let Ok(more @ 1..) = u64::try_from(more) {
            COUNTS.job_pods.entry([mode(job), result], AtomicU64::default).fetch_add(more, Relaxed);
        }
    }
}

/// A rule with this action decided about a pod of a Job that has failed.
pub(crate) fn job_policy_applied(action: &str) {
    COUNTS.job_policies.entry([action], AtomicU64::default).fetch_add(1, Relaxed);
}

/// A finished pod is tracked (`add`), or not any more (`delete`).
pub(crate) fn job_tracks(event: &str) {
    COUNTS.tracked.entry([event], AtomicU64::default).fetch_add(1, Relaxed);
}

/// A CronJob's Job was made so long after it was due.
pub(crate) fn cron_job_started(late: Duration) {
    COUNTS.skew.observe_time(late);
}

/// The pods of a node in this zone are driven away.
pub(crate) fn node_given_up(zone: &str) {
    COUNTS.evictions.entry([zone], AtomicU64::default).fetch_add(1, Relaxed);
}

/// Adds everything that was counted in this process.
pub fn expose(text: &mut Exposition) {
    let counts = &*COUNTS;
    let syncs = counts.job_syncs.entries();
    let names = ["completion_mode", "result", "action"];
    text.family("job_controller_job_syncs_total", Kind::Counter, "Looks at Jobs.");
    for (of, seconds) in &syncs {
        text.sample(&labels(names, *of), seconds.count() as f64);
    }
    let help = "How long looks at Jobs took.";
    text.family("job_controller_job_sync_duration_seconds", Kind::Histogram, help);
    for (of, seconds) in &syncs {
        text.histogram(&labels(names, *of), seconds);
    }
    let names = ["completion_mode", "result", "reason"];
    counter(
        text,
        "job_controller_jobs_finished_total",
        "Jobs that have ended.",
        names,
        &counts.jobs_finished,
    );
    let (names, help) = (["completion_mode", "result"], "Pods that Jobs have counted.");
    counter(text, "job_controller_job_pods_finished_total", help, names, &counts.job_pods);
    let help = "Failed pods that a rule of their Job decided about.";
    let name = "job_controller_pod_failures_handled_by_failure_policy_total";
    counter(text, name, help, ["action"], &counts.job_policies);
    let help = "Finished pods that are tracked, and that are not any more.";
    let name = "job_controller_terminated_pods_tracking_finalizer_total";
    counter(text, name, help, ["event"], &counts.tracked);
    let help = "How long after they were due Jobs of CronJobs were made.";
    text.family("cronjob_controller_job_creation_skew_duration_seconds", Kind::Histogram, help);
    text.histogram(&[], &counts.skew);
    let help = "Nodes whose pods were driven away.";
    counter(text, "node_collector_evictions_total", help, ["zone"], &counts.evictions);
}

fn labels<'a, const L: usize>(
    names: [&'static str; L],
    values: [&'a str; L],
) -> Vec<(&'static str, &'a str)> {
    names.into_iter().zip(values).collect()
}

fn counter<const L: usize>(
    text: &mut Exposition,
    name: &str,
    help: &str,
    names: [&'static str; L],
    counts: &Table<L, AtomicU64>,
) {
    text.family(name, Kind::Counter, help);
    for (of, count) in counts.entries() {
        text.sample(&labels(names, of), count.load(Relaxed) as f64);
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
