//! What is counted of each FlowSchema.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tiphys_metrics::{Exposition, Histogram, Kind, Table};

use super::level::Refusal;

const SECONDS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
/// Pairs of a level and a FlowSchema that are counted apart.
const SERIES: usize = 1024;

/// The counts of all FlowSchemas, by the names of level and schema.
pub(super) struct Flows(Table<2, Arc<Counts>>);

/// The counts of one FlowSchema.
pub(super) struct Counts {
    dispatched: AtomicU64,
    rejected: [AtomicU64; Refusal::ALL.len()],
    executing: AtomicI64,
    executing_seats: AtomicI64,
    queued: AtomicI64,
    queued_seats: AtomicI64,
    /// Of those that were turned away, and of those that were not.
    waited: [Histogram; 2],
    took: Histogram,
}

impl Counts {
    fn new() -> Self {
        Self {
            dispatched: AtomicU64::default(),
            rejected: Default::default(),
            executing: AtomicI64::default(),
            executing_seats: AtomicI64::default(),
            queued: AtomicI64::default(),
            queued_seats: AtomicI64::default(),
            waited: [Histogram::new(&SECONDS), Histogram::new(&SECONDS)],
            took: Histogram::new(&SECONDS),
        }
    }

    pub(super) fn dispatched(&self, seats: u32) {
        self.dispatched.fetch_add(1, Relaxed);
        self.executing.fetch_add(1, Relaxed);
        self.executing_seats.fetch_add(i64::from(seats), Relaxed);
    }

    pub(super) fn ended(&self, seats: u32, took: Duration) {
        self.executing.fetch_sub(1, Relaxed);
        self.executing_seats.fetch_sub(i64::from(seats), Relaxed);
        self.took.observe_time(took);
    }

    pub(super) fn rejected(&self, why: Refusal) {
        self.rejected[why as usize].fetch_add(1, Relaxed);
    }

    /// A request comes to a queue (1), or leaves it (-1).
    pub(super) fn queued(&self, seats: u32, change: i64) {
        self.queued.fetch_add(change, Relaxed);
        self.queued_seats.fetch_add(change * i64::from(seats), Relaxed);
    }

    pub(super) fn waited(&self, time: Duration, executes: bool) {
        self.waited[usize::from(executes)].observe_time(time);
    }
}

fn labels([level, schema]: [&str; 2]) -> [(&'static str, &str); 2] {
    [("priority_level", level), ("flow_schema", schema)]
}

impl Flows {
    pub(super) fn new() -> Self {
        Self(Table::new(SERIES))
    }

    pub(super) fn counts(&self, level: &str, schema: &str) -> Arc<Counts> {
        Arc::clone(self.0.entry([level, schema], || Arc::new(Counts::new())))
    }

    pub(super) fn expose(&self, text: &mut Exposition) {
        let entries = self.0.entries();
        text.family(
            "apiserver_flowcontrol_dispatched_requests_total",
            Kind::Counter,
            "Requests that were let in.",
        );
        for (names, counts) in &entries {
            text.sample(&labels(*names), counts.dispatched.load(Relaxed) as f64);
        }
        text.family("apiserver_flowcontrol_rejected_requests_total", Kind::Counter, "Requests turned away.");
        for (names, counts) in &entries {
            for (why, count) in Refusal::ALL.into_iter().zip(&counts.rejected) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let [level, schema] = labels(*names);
                    text.sample(&[level, schema, ("reason", why.as_str())], count as f64);
                }
            }
        }
        type Read = fn(&Counts) -> &AtomicI64;
        let gauges: [(&str, &str, Read); 4] = [
            ("current_executing_requests", "Requests being worked on.", |c| &c.executing),
            ("current_executing_seats", "Their seats.", |c| &c.executing_seats),
            ("current_inqueue_requests", "Requests that wait.", |c| &c.queued),
            ("current_inqueue_seats", "The seats that they wait for.", |c| &c.queued_seats),
        ];
        for (name, help, read) in gauges {
            text.family(&format!("apiserver_flowcontrol_{name}"), Kind::Gauge, help);
            for (names, counts) in &entries {
                text.sample(&labels(*names), read(counts).load(Relaxed) as f64);
            }
        }
        let help = "How long requests waited for their turn, where they had to.";
        text.family("apiserver_flowcontrol_request_wait_duration_seconds", Kind::Histogram, help);
        for (names, counts) in &entries {
            for (execute, waited) in ["false", "true"].into_iter().zip(&counts.waited) {
                let [level, schema] = labels(*names);
                text.histogram(&[level, schema, ("execute", execute)], waited);
            }
        }
        let help = "How long requests were worked on.";
        text.family("apiserver_flowcontrol_request_execution_seconds", Kind::Histogram, help);
        for (names, counts) in &entries {
            text.histogram(&labels(*names), &counts.took);
        }
    }
}
