//! The time that admission takes.

use std::time::Instant;

use tiphys_metrics::{Exposition, Histogram, Kind, Table};

use crate::admission::Operation;
use crate::trace;

const SECONDS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
/// Plug-ins by phase, operation and outcome.
const SERIES: usize = 1024;

/// What a step of admission does: the values of the label `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Admit,
    Validate,
}

/// How long plug-ins took, and all of them together.
pub(crate) struct Admission {
    plugins: Table<4, Histogram>,
    steps: Table<3, Histogram>,
}

/// The clock of one step, which stops after each plug-in.
pub(crate) struct Step<'a> {
    admission: &'a Admission,
    phase: &'static str,
    operation: &'static str,
    begun: Instant,
    lap: Instant,
    traced: Option<trace::Step>,
}

fn seconds() -> Histogram {
    Histogram::new(&SECONDS)
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self { plugins: Table::new(SERIES), steps: Table::new(SERIES) }
    }

    pub(crate) fn step(&self, phase: Phase, operation: Operation) -> Step<'_> {
        let begun = Instant::now();
        let phase = match phase {
            Phase::Admit => "admit",
            Phase::Validate => "validate",
        };
        let operation = match operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        };
        Step { admission: self, phase, operation, begun, lap: begun, traced: trace::step(phase) }
    }

    pub(crate) fn expose(&self, text: &mut Exposition) {
        let help = "Time that a plug-in of admission took.";
        text.family("apiserver_admission_controller_admission_duration_seconds", Kind::Histogram, help);
        for ([name, phase, operation, rejected], histogram) in self.plugins.entries() {
            let labels = [("name", name), ("type", phase), ("operation", operation), ("rejected", rejected)];
            text.histogram(&labels, histogram);
        }
        let help = "Time that a phase of admission took.";
        text.family("apiserver_admission_step_admission_duration_seconds", Kind::Histogram, help);
        for ([phase, operation, rejected], histogram) in self.steps.entries() {
            text.histogram(&[("type", phase), ("operation", operation), ("rejected", rejected)], histogram);
        }
    }
}

fn word(rejected: bool) -> &'static str {
    if rejected { "true" } else { "false" }
}

impl Step<'_> {
    /// A plug-in has had its turn.
    pub(crate) fn lap(&mut self, plugin: &str, rejected: bool) {
        let now = Instant::now();
        let labels = [plugin, self.phase, self.operation, word(rejected)];
        self.admission.plugins.entry(labels, seconds).observe_time(now - self.lap);
        self.lap = now;
    }

    /// All have had their turn, or one has refused.
    pub(crate) fn end(self, rejected: bool) {
        let labels = [self.phase, self.operation, word(rejected)];
        self.admission.steps.entry(labels, seconds).observe_time(self.lap - self.begun);
        if let Some(traced) = self.traced {
            traced.end(rejected);
        }
    }
}
