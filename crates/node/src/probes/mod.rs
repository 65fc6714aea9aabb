//! Startup, liveness and readiness probes.
//!
//! One task a probe of a running container. It reports only when the verdict changes; what follows from a verdict
//! is the plan's business.

mod grpc;
pub mod handlers;
mod http;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Probe;
use rand::Rng as _;

use crate::counts::Tries;
use crate::observed::ContainerId;

pub use handlers::{Handler, HttpRequest, Target};

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Holds the others back until it succeeds once; its failure ends the container.
    Startup,
    /// Its failure ends the container.
    Liveness,
    /// Decides whether the container is given work.
    Readiness,
}

impl Purpose {
    /// `startup`, `liveness`, `readiness`.
    pub fn lower(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }

    /// `Startup`, `Liveness`, `Readiness`.
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// How one try went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Success,
    /// It succeeded, but somebody should know how.
    Warning(String),
    /// It failed, and how.
    Failure(String),
    /// It could not be tried; the verdict stays as it is.
    Unknown(String),
}

/// Times and thresholds of a probe, with the API's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From the container's start to the first try.
    pub initial_delay: Duration,
    /// From try to try.
    pub period: Duration,
    /// How long a try may take.
    pub timeout: Duration,
    /// Successes in a row that change the verdict.
    pub successes: u32,
    /// Failures in a row that change it.
    pub failures: u32,
}

impl Schedule {
    /// Reads a probe's.
    pub fn of(probe: &Probe) -> Self {
        let number = |n: Option<i32>, default: u32| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(default);
        let at_least_one = |n: Option<i32>, default: u32| number(n, default).max(1);
        let seconds = |n: u32| Duration::from_secs(u64::from(n));
        Self {
            initial_delay: seconds(number(probe.initial_delay_seconds, 0)),
            period: seconds(at_least_one(probe.period_seconds, 10)),
            timeout: seconds(at_least_one(probe.timeout_seconds, 1)),
            successes: at_least_one(probe.success_threshold, 1),
            failures: at_least_one(probe.failure_threshold, 3),
        }
    }
}

/// Counts outcomes into a verdict.
#[derive(Clone, Debug)]
pub struct Tracker {
    schedule: Schedule,
    verdict: bool,
    row: (bool, u32),
}

impl Tracker {
    /// Starts from a verdict.
    pub fn new(schedule: Schedule, verdict: bool) -> Self {
        Self { schedule, verdict, row: (verdict, 0) }
    }

    /// Takes an outcome; the verdict if it changes, or if a container must be ended (which is said each time).
    pub fn take(&mut self, purpose: Purpose, outcome: &Outcome) -> Option<bool> {
        let good = match outcome {
            Outcome::Success | Outcome::Warning(_) => true,
            Outcome::Failure(_) => false,
            Outcome::Unknown(_) => return None,
        };
        self.row = if self.row.0 == good { (good, self.row.1.saturating_add(1)) } else { (good, 1) };
        let needed = if good { self.schedule.successes } else { self.schedule.failures };
        if self.row.1 < needed {
            return None;
        }
        let changed = self.verdict != good || (!good && purpose == Purpose::Startup);
        self.verdict = good;
        changed.then_some(good)
    }
}

/// News from a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Of which container.
    pub container: ContainerId,
    /// By which probe.
    pub purpose: Purpose,
    /// Whether the container passes.
    pub good: bool,
}

/// What a probe's task needs.
pub struct Task {
    /// The container.
    pub container: ContainerId,
    /// When it was started.
    pub started_at: Timestamp,
    /// What the probe is for.
    pub purpose: Purpose,
    /// Its times.
    pub schedule: Schedule,
    /// How to try.
    pub handler: Handler,
    /// Whom.
    pub target: Target,
    /// The verdict to start from: after a restart of the node a container that was ready stays so.
    pub verdict: bool,
    /// Where tries are counted.
    pub(crate) tries: Arc<Tries>,
    /// Spreads first tries over a period, where many containers are adopted at once.
    pub spread: bool,
}

impl Task {
    /// Probes until it is dropped, or until a startup probe succeeds or the container is given up. `report` takes
    /// changes of the verdict; `tell` takes reason and text of an event for each try that did not simply succeed.
    pub async fn run(self, report: impl Fn(News) + Send, tell: impl Fn(&'static str, String) + Send) {
        let since = Timestamp::now().duration_since(self.started_at);
        let since = if since.is_negative() { Duration::ZERO } else { since.unsigned_abs() };
        let mut wait = self.schedule.initial_delay.saturating_sub(since);
        if self.spread {
            wait += self.schedule.period.mul_f64(rand::rng().random_range(0.0..1.0));
        }
        tokio::time::sleep(wait).await;
        let mut tracker = Tracker::new(self.schedule, self.verdict);
        let mut ticks = tokio::time::interval(self.schedule.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let outcome = self.handler.attempt(&self.target, self.schedule.timeout).await;
            self.tries.count(&outcome);
            let title = self.purpose.title();
            match &outcome {
                Outcome::Success => {}
                Outcome::Warning(text) => tell("ProbeWarning", format!("{title} probe warning: {text}")),
                Outcome::Failure(text) => tell("Unhealthy", format!("{title} probe failed: {text}")),
                Outcome::Unknown(text) => {
                    let text = format!("{title} probe errored and resulted in unknown state: {text}");
                    tell("Unhealthy", text);
                }
            }
            let Some(good) = tracker.take(self.purpose, &outcome) else { continue };
            report(News { container: self.container.clone(), purpose: self.purpose, good });
            if self.purpose == Purpose::Startup || (self.purpose == Purpose::Liveness && !good) {
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "probes_tests.rs"]
mod tests;
