//! What is counted of validating policies, under upstream's names: what they refused, warned of or noted, and errors that
//! changed nothing.

use std::time::Duration;

use tiphys_metrics::{Exposition, Histogram, Kind, Table};

const SECONDS: [f64; 5] = [5e-7, 0.001, 0.01, 0.1, 1.0];
const SERIES: usize = 2048;

/// What was wrong with an expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It was evaluated.
    #[default]
    Nothing,
    /// It could not be compiled.
    Compiling,
    /// It could not be evaluated.
    Evaluating,
    /// It cost too much.
    Cost,
}

impl Wrong {
    fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "no_error",
            Self::Compiling => "compile_error",
            Self::Evaluating => "invalid_error",
            Self::Cost => "out_of_budget",
        }
    }
}

/// Checks by policy, binding, sort of error and what was done.
pub struct Counts(Table<4, Histogram>);

impl Default for Counts {
    fn default() -> Self {
        Self(Table::new(SERIES))
    }
}

impl Counts {
    /// `action`: `allow`, `deny`, `warn` or `audit`.
    pub(super) fn checked(&self, [policy, binding]: [&str; 2], wrong: Wrong, action: &str, took: Duration) {
        let labels = [policy, binding, wrong.as_str(), action];
        self.0.entry(labels, || Histogram::new(&SECONDS)).observe_time(took);
    }

    pub(crate) fn expose(&self, text: &mut Exposition) {
        const NAMES: [&str; 4] = ["policy", "policy_binding", "error_type", "enforcement_action"];
        let all = self.0.entries();
        let name = |what: &str| format!("apiserver_validating_admission_policy_check_{what}");
        text.family(&name("total"), Kind::Counter, "Checks of policies that came to something.");
        for (labels, took) in &all {
            let labels: Vec<_> = NAMES.into_iter().zip(*labels).collect();
            text.sample(&labels, took.count() as f64);
        }
        text.family(&name("duration_seconds"), Kind::Histogram, "Time that these checks took.");
        for (labels, took) in &all {
            let labels: Vec<_> = NAMES.into_iter().zip(*labels).collect();
            text.histogram(&labels, took);
        }
    }
}
