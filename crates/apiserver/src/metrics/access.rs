//! How many have proven who they are, and were permitted what they asked for, and how long that took.

use std::time::Duration;

use tiphys_metrics::{Exposition, Histogram, Kind};

/// Each twice the one before, from a millisecond.
const SECONDS: [f64; 15] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Authenticated,
    Unauthenticated,
    Allowed,
    Denied,
    NoOpinion,
    Failed,
}

/// Attempts by their outcome.
pub(crate) struct Access([Histogram; 6]);

impl Access {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Histogram::new(&SECONDS)))
    }

    pub(crate) fn ended(&self, outcome: Outcome, took: Duration) {
        self.0[outcome as usize].observe_time(took);
    }

    pub(crate) fn expose(&self, text: &mut Exposition) {
        let [authenticated, unauthenticated, allowed, denied, no_opinion, failed] = &self.0;
        let who = [("success", authenticated), ("failure", unauthenticated)];
        let may = [("allowed", allowed), ("denied", denied), ("no-opinion", no_opinion), ("error", failed)];
        for (attempts, seconds, results, help) in [
            ("authentication_attempts", "authentication_duration_seconds", &who[..], "proving who one is"),
            (
                "authorization_attempts_total",
                "authorization_duration_seconds",
                &may[..],
                "asking for permission",
            ),
        ] {
            let happened = || results.iter().filter(|(_, took)| took.count() > 0);
            text.family(attempts, Kind::Counter, &format!("Attempts at {help}."));
            for (result, took) in happened() {
                text.sample(&[("result", result)], took.count() as f64);
            }
            text.family(seconds, Kind::Histogram, &format!("Time that {help} took."));
            for (result, took) in happened() {
                text.histogram(&[("result", result)], took);
            }
        }
    }
}
