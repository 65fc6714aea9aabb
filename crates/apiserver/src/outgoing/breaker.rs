//! What keeps a dead endpoint from taking everybody's time.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many failures in a row open the breaker.
const FAILURES: u32 = 5;
/// How long it stays open at first, and at most; each probe that fails doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// Counts failures in a row. After too many, calls fail at once for a while; then one call is let through, and
/// what becomes of it decides for the others.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// When the breaker is open: until when, and for how long in all.
    open: Option<(Instant, Duration)>,
    probing: bool,
}

/// A call that was let through. One that is dropped has taught nothing.
pub(super) struct Ticket<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    /// Lets a call through; `None` while the breaker is open.
    pub(super) fn enter(&self, now: Instant) -> Option<Ticket<'_>> {
        let mut state = self.0.lock();
        let probe = match state.open {
            None => false,
            Some((until, _)) if now < until || state.probing => return None,
            Some(_) => true,
        };
        state.probing |= probe;
        Some(Ticket { breaker: self, probe })
    }
}

impl Ticket<'_> {
    pub(super) fn worked(self) {
        let mut state = self.breaker.0.lock();
        state.failures = 0;
        state.open = None;
    }

    pub(super) fn failed(self, now: Instant) {
        let mut state = self.breaker.0.lock();
        state.failures = state.failures.saturating_add(1);
        state.open = match state.open {
            Some((_, pause)) if self.probe => {
                let pause = (pause * 2).min(LONGEST_PAUSE);
                Some((now + pause, pause))
            }
            // Calls that were under way when it opened say nothing new.
            Some(open) => Some(open),
            None if state.failures >= FAILURES => Some((now + FIRST_PAUSE, FIRST_PAUSE)),
            None => None,
        };
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.0.lock().probing = false;
        }
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
