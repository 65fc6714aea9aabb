//! What a CronJob needs next: a pure function of the CronJob, its Jobs and the time.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use tiphys_api::schedule::{Schedule, zone};

use crate::object::Object;

/// Added to each wait: a clock that is a little slow must not find that nothing is due yet.
const PADDING: Duration = Duration::from_millis(100);
/// More times missed than this are worth a warning.
const MANY: usize = 100;

/// An event, less the object that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

fn normal(reason: &'static str, message: String) -> News {
    News { warning: false, reason, message }
}

fn warning(reason: &'static str, message: String) -> News {
    News { warning: true, reason, message }
}

/// A Job to start.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Start {
    pub(super) due: Timestamp,
    /// The time when it is due as the schedule's clock shows it, with its offset.
    pub(super) shown: String,
    /// Those that are to give way.
    pub(super) replaced: Vec<ObjectReference>,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Before the start.
    pub(super) status: CronJobStatus,
    pub(super) news: Vec<News>,
    pub(super) start: Option<Start>,
    /// Finished Jobs beyond what is kept.
    pub(super) delete: Vec<Arc<Job>>,
    pub(super) look_again: Option<Duration>,
}

/// What became of a finished Job: `Complete` or `Failed`.
fn end(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let end = conditions.iter().find(|c| matches!(&*c.type_, "Complete" | "Failed") && c.status == "True");
    end.map(|c| &*c.type_)
}

/// `jobs` are all that the CronJob owns. `lost` are the UIDs of those it believes to run that the API does not have any more.
pub(super) fn plan(cron: &CronJob, jobs: &[Arc<Job>], lost: &BTreeSet<String>, now: Timestamp) -> Plan {
    let mut plan = Plan { status: cron.status.clone().unwrap_or_default(), ..Plan::default() };
    plan.reconcile(jobs, lost);
    if cron.is_going() {
        return plan;
    }
    plan.schedule(cron, now);
    plan.delete = surplus(cron, jobs);
    plan
}

impl Plan {
    /// Brings what the status says of Jobs up to date with them.
    fn reconcile(&mut self, jobs: &[Arc<Job>], lost: &BTreeSet<String>) {
        let mut active = self.status.active.take().unwrap_or_default();
        for job in jobs {
            let listed = active.iter().any(|j| j.uid.as_deref() == Some(job.uid()));
            let Some(end) = end(job) else {
                if !listed {
                    let message =
                        format!("Saw a job that the controller did not create or forgot: {}", job.name());
                    self.news.push(warning("UnexpectedJob", message));
                }
                continue;
            };
            if listed {
                active.retain(|j| j.uid.as_deref() != Some(job.uid()));
                let message = format!("Saw completed job: {}, condition: {end}", job.name());
                self.news.push(normal("SawCompletedJob", message));
            }
            let completed = job.status.as_ref().and_then(|s| s.completion_time.as_ref());
            if end == "Complete"
                && let Some(at) = completed
                && self.status.last_successful_time.as_ref().is_none_or(|last| last.0 < at.0)
            {
                self.status.last_successful_time = Some(at.clone());
            }
        }
        active.retain(|job| {
            let gone = job.uid.as_ref().is_some_and(|uid| lost.contains(uid));
            if gone {
                let name = job.name.as_deref().unwrap_or_default();
                self.news.push(normal("MissingJob", format!("Active job went missing: {name}")));
            }
            !gone
        });
        self.status.active = Some(active).filter(|a| !a.is_empty());
    }

    fn schedule(&mut self, cron: &CronJob, now: Timestamp) {
        let spec = &cron.spec;
        if spec.suspend == Some(true) {
            return;
        }
        let clock = match &spec.time_zone {
            None => TimeZone::UTC,
            Some(name) => match zone(name) {
                Some(zone) => zone,
                None => {
                    let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
                    return self.news.push(warning("UnknownTimeZone", message));
                }
            },
        };
        let schedule = match Schedule::parse(&spec.schedule) {
            Ok(schedule) => schedule,
            Err(error) => {
                let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
                return self.news.push(warning("UnparseableSchedule", message));
            }
        };
        let last = self.status.last_schedule_time.as_ref().or(cron.metadata.creation_timestamp.as_ref());
        let last = last.map_or(now, |t| t.0);
        let deadline = spec.starting_deadline_seconds.map(|s| jiff::SignedDuration::from_secs(s.max(0)));
        let due = schedule.latest(last, now, MANY, &clock);
        // A clock that was set back leads to no time twice.
        let from = due.map_or(last, |(due, _)| due);
        let next = match schedule.next(from, &clock) {
            Some(next) if next > now => Some(next),
            _ => schedule.next(now, &clock),
        };
        self.look_again = next.map(|next| {
            let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
            wait.saturating_add(PADDING)
        });
        let Some((due, many)) = due else { return };
        // Times before the deadline are not missed any more.
        let oldest = deadline.and_then(|d| now.checked_sub(d).ok());
        if oldest.is_some_and(|oldest| due < oldest) {
            let message = due.strftime("Missed scheduled time to start a job: %a, %d %b %Y %H:%M:%S %z");
            return self.news.push(warning("MissSchedule", message.to_string()));
        }
        let since = |oldest| schedule.latest(oldest, now, MANY, &clock).is_some_and(|(_, many)| many);
        if many && oldest.is_none_or(since) {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.news.push(warning("TooManyMissedTimes", message.to_owned()));
        }
        let active = self.status.active.as_deref().unwrap_or_default();
        let name = job_name(cron, due);
        let started = self.status.last_schedule_time.as_ref().is_some_and(|t| t.0 == due);
        if started || active.iter().any(|j| j.name.as_deref() == Some(&name)) {
            return;
        }
        let replaced = match spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let message =
                    "Not starting job because prior execution is running and concurrency policy is Forbid";
                return self.news.push(normal("JobAlreadyActive", message.to_owned()));
            }
            Some("Replace") => active.to_vec(),
            _ => Vec::new(),
        };
        let shown = due.to_zoned(clock);
        let shown = match &spec.time_zone {
            None => shown.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            Some(_) if shown.offset().is_zero() => shown.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            Some(_) => shown.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        };
        self.start = Some(Start { due, shown, replaced });
    }

    /// The status after the start: the Job runs.
    pub(super) fn started(&mut self, due: Timestamp, job: ObjectReference) {
        let active = self.status.active.get_or_insert_default();
        if active.iter().all(|j| j.uid != job.uid) {
            active.push(job);
        }
        self.status.last_schedule_time = Some(Time(due));
    }

    /// The status after a Job was replaced.
    pub(super) fn gave_way(&mut self, uid: Option<&str>) {
        let active = self.status.active.take().map(|mut active| {
            active.retain(|j| j.uid.as_deref() != uid);
            active
        });
        self.status.active = active.filter(|a| !a.is_empty());
    }
}

/// The same for the same time, so that no time leads to two Jobs.
pub(super) fn job_name(cron: &CronJob, due: Timestamp) -> String {
    format!("{}-{}", cron.name(), due.as_second().div_euclid(60))
}

/// The oldest of the finished Jobs, of each kind, that are more than are kept.
fn surplus(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let spec = &cron.spec;
    let mut surplus = Vec::new();
    for (kind, limit) in
        [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)]
    {
        let Some(limit) = limit.and_then(|n| usize::try_from(n).ok()) else { continue };
        let finished = jobs.iter().filter(|job| end(job) == Some(kind) && !job.is_going());
        let mut finished: Vec<_> = finished.cloned().collect();
        let begun = |job: &Job| job.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
        // What never began is not old.
        finished.sort_by_cached_key(|job| (begun(job).is_none(), begun(job), job.name().to_owned()));
        finished.truncate(finished.len().saturating_sub(limit));
        surplus.extend(finished);
    }
    surplus
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
