//! What is counted of webhooks, under upstream's names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tiphys_api::status::Status;
use tiphys_metrics::{Exposition, Histogram, Kind, Table};

use super::{Failed, Phase};
use crate::admission::Operation;

const SECONDS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
const SERIES: usize = 2048;

/// The calls of all webhooks.
pub struct Counts {
    /// By name, type, operation and whether the request was refused for it.
    took: Table<4, Histogram>,
    /// The same with the code of the answer.
    requests: Table<5, AtomicU64>,
    /// By name, type, operation, sort of error and code.
    rejections: Table<5, AtomicU64>,
    /// Failures that changed nothing, by name and type.
    failed_open: Table<2, AtomicU64>,
}

/// What went wrong with a call that nobody answered.
const NO_ANSWER: u16 = 503;

impl Default for Counts {
    fn default() -> Self {
        Self {
            took: Table::new(SERIES),
            requests: Table::new(SERIES),
            rejections: Table::new(SERIES),
            failed_open: Table::new(SERIES),
        }
    }
}

fn kind(phase: Phase) -> &'static str {
    match phase {
        Phase::Mutating => "admit",
        Phase::Validating => "validating",
    }
}

fn verb(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

impl Counts {
    /// A call has ended; `ignored` tells that a failure changes nothing.
    pub(super) fn ended<T>(
        &self,
        (name, phase, operation): (&str, Phase, Operation),
        outcome: &Result<T, Failed>,
        ignored: bool,
        took: Duration,
    ) {
        let (kind, verb) = (kind(phase), verb(operation));
        let (code, error) = match outcome {
            Ok(_) => (200, None),
            Err(Failed::Refused(status)) => (Status::code(status), Some("no_error")),
            Err(Failed::Call(_)) => (NO_ANSWER, Some("calling_webhook_error")),
        };
        let code = code.to_string();
        let called = matches!(outcome, Err(Failed::Call(_)));
        let rejected = error.is_some() && !(called && ignored);
        let word = if rejected { "true" } else { "false" };
        let count = AtomicU64::default;
        self.took.entry([name, kind, verb, word], || Histogram::new(&SECONDS)).observe_time(took);
        self.requests.entry([name, kind, verb, &code, word], count).fetch_add(1, Relaxed);
        match error {
            Some(error) if rejected => {
                self.rejections.entry([name, kind, verb, error, &code], count).fetch_add(1, Relaxed);
            }
            Some(_) => {
                self.failed_open.entry([name, kind], count).fetch_add(1, Relaxed);
            }
            None => {}
        }
    }

    pub(crate) fn expose(&self, text: &mut Exposition) {
        let family = |text: &mut Exposition, name: &str, kind, help| {
            text.family(&format!("apiserver_admission_webhook_{name}"), kind, help);
        };
        family(text, "admission_duration_seconds", Kind::Histogram, "Time that a webhook took.");
        for ([name, kind, verb, rejected], took) in self.took.entries() {
            let labels = [("name", name), ("type", kind), ("operation", verb), ("rejected", rejected)];
            text.histogram(&labels, took);
        }
        family(text, "request_total", Kind::Counter, "Calls of webhooks.");
        for ([name, kind, verb, code, rejected], count) in self.requests.entries() {
            let labels =
                [("name", name), ("type", kind), ("operation", verb), ("code", code), ("rejected", rejected)];
            text.sample(&labels, count.load(Relaxed) as f64);
        }
        family(text, "rejection_count", Kind::Counter, "Requests that were refused for a webhook.");
        for ([name, kind, verb, error, code], count) in self.rejections.entries() {
            let labels = [
                ("name", name),
                ("type", kind),
                ("operation", verb),
                ("error_type", error),
                ("rejection_code", code),
            ];
            text.sample(&labels, count.load(Relaxed) as f64);
        }
        family(text, "fail_open_count", Kind::Counter, "Failures of webhooks that changed nothing.");
        for ([name, kind], count) in self.failed_open.entries() {
            text.sample(&[("name", name), ("type", kind)], count.load(Relaxed) as f64);
        }
    }
}
