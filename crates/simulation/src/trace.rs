//! Everything that happens, in order: the steps of a run, and what they come to.

use std::{collections::VecDeque, fmt};

use parking_lot::Mutex;

use crate::seams;

/// How many steps are shown before a failure.
const LAST: usize = 60;

#[derive(Default)]
struct State {
    steps: u64,
    hash: u64,
    last: VecDeque<String>,
    failure: Option<String>,
}

/// The steps so far. Two runs of a seed have the same hash.
pub(crate) struct Trace {
    /// Prints each step.
    shown: bool,
    state: Mutex<State>,
    failed: tokio::sync::Notify,
}

/// FNV-1a.
pub(crate) fn hash(from: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(from, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The hash of nothing.
pub(crate) const NOTHING: u64 = 0xcbf2_9ce4_8422_2325;

impl Trace {
    pub(crate) fn new(shown: bool) -> Self {
        let state = State { hash: NOTHING, ..State::default() };
        Self { shown, state: Mutex::new(state), failed: tokio::sync::Notify::new() }
    }

    pub(crate) fn step(&self, what: fmt::Arguments<'_>) {
        let mut state = self.state.lock();
        state.steps += 1;
        let line = format!("{:>6} {:>11.6} {what}", state.steps, seams::elapsed().as_secs_f64());
        state.hash = hash(state.hash, line.as_bytes());
        if self.shown {
            println!("{line}");
        }
        if state.last.len() == LAST {
            state.last.pop_front();
        }
        state.last.push_back(line);
    }

    /// A law was broken, or something did not come to its end. The first failure counts.
    pub(crate) fn fail(&self, why: String) {
        self.step(format_args!("FAILED: {why}"));
        self.state.lock().failure.get_or_insert(why);
        self.failed.notify_one();
    }

    /// Waits for a failure.
    pub(crate) async fn failed(&self) {
        self.failed.notified().await;
    }

    /// How many steps there were, and their hash.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.steps, state.hash)
    }

    /// Why the run failed, and the steps before.
    pub(crate) fn failure(&self) -> Option<(String, Vec<String>)> {
        let state = self.state.lock();
        state.failure.clone().map(|why| (why, state.last.iter().cloned().collect()))
    }
}
