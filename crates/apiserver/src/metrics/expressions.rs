//! How long expressions take to be compiled and evaluated.
//!
//! Whoever holds an expression knows no server, and a process seldom has two: all of a process are counted together.

use std::sync::LazyLock;
use std::time::Instant;

use tiphys_metrics::{Exposition, Histogram, Kind};

const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

static COMPILED: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(&SECONDS));
static EVALUATED: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(&SECONDS));

fn timed<T>(histogram: &Histogram, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    histogram.observe_time(begun.elapsed());
    done
}

/// Compiles, and counts it.
pub(crate) fn compiling<T>(work: impl FnOnce() -> T) -> T {
    timed(&COMPILED, work)
}

/// Evaluates, and counts it.
pub(crate) fn evaluating<T>(work: impl FnOnce() -> T) -> T {
    timed(&EVALUATED, work)
}

pub(super) fn expose(text: &mut Exposition) {
    for (name, help, histogram) in [
        ("apiserver_cel_compilation_duration_seconds", "Time that compiling an expression took.", &COMPILED),
        ("apiserver_cel_evaluation_duration_seconds", "Time that evaluating an expression took.", &EVALUATED),
    ] {
        text.family(name, Kind::Histogram, help);
        text.histogram(&[], histogram);
    }
}
