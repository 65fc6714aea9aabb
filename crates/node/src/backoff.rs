//! Exponential back-off that forgets after a while of good behaviour.

use std::time::Duration;

use jiff::Timestamp;

/// Shortest delay.
pub const INITIAL: Duration = Duration::from_secs(10);
/// Longest delay.
pub const MAX: Duration = Duration::from_secs(300);

/// How often something failed in a row. A fresh one permits the next try at once, then 10 s, 20 s, … 300 s;
/// a try that comes more than ten minutes after the one before starts over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    last: Option<(Timestamp, Duration)>,
}

impl Backoff {
    /// The delay to wait, counted from `since`; zero when there is no reason to wait.
    pub fn delay(&self, since: Timestamp) -> Duration {
        match self.last {
            Some((at, delay)) if !forgotten(at, since) => delay,
            _ => Duration::ZERO,
        }
    }

    /// When the next try may start after a failure at `failed`.
    pub fn ready_at(&self, failed: Timestamp) -> Timestamp {
        failed.saturating_add(self.delay(failed)).unwrap_or(Timestamp::MAX)
    }

    /// The state after another try at `now`.
    pub fn next(self, now: Timestamp) -> Self {
        let delay = match self.last {
            Some((at, delay)) if !forgotten(at, now) => (delay * 2).min(MAX),
            _ => INITIAL,
        };
        Self { last: Some((now, delay)) }
    }
}

fn forgotten(last: Timestamp, now: Timestamp) -> bool {
    now.duration_since(last).unsigned_abs() > MAX * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn doubles_up_to_the_cap() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.ready_at(at(0)), at(0));
        let mut seen = vec![];
        for i in 0..7 {
            backoff = backoff.next(at(i));
            seen.push(backoff.delay(at(i)).as_secs());
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn starts_over_after_ten_quiet_minutes() {
        let backoff = Backoff::default().next(at(0)).next(at(1));
        assert_eq!(backoff.delay(at(601)).as_secs(), 20);
        assert_eq!(backoff.delay(at(602)).as_secs(), 0);
        assert_eq!(backoff.next(at(602)).delay(at(602)).as_secs(), 10);
    }
}
