//! How soon a failed daemon pod is made anew: later each time, node by node.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Copy, Debug)]
struct Wait {
    delay: Duration,
    since: Instant,
}

impl Wait {
    /// A node that has been well for this long starts anew.
    fn is_over(self) -> bool {
        self.since.elapsed() > 2 * LONGEST
    }
}

/// By the UID of a set and the name of a node.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<BTreeMap<(String, String), Wait>>);

impl Backoff {
    /// How much longer a failed pod is kept; zero if it may go.
    pub(super) fn left(&self, set: &str, node: &str) -> Duration {
        let waits = self.0.lock();
        let wait = waits.get(&(set.to_owned(), node.to_owned()));
        wait.map_or(Duration::ZERO, |w| w.delay.saturating_sub(w.since.elapsed()))
    }

    /// A failed pod has been deleted.
    pub(super) fn failed(&self, set: &str, node: &str) {
        let mut waits = self.0.lock();
        waits.retain(|_, wait| !wait.is_over());
        let key = (set.to_owned(), node.to_owned());
        let delay = waits.get(&key).map_or(FIRST, |w| (2 * w.delay).min(LONGEST));
        waits.insert(key, Wait { delay, since: Instant::now() });
    }

    /// The set is gone.
    pub(super) fn forget(&self, set: &str) {
        self.0.lock().retain(|(uid, _), _| uid != set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_failure_doubles_the_wait_until_all_was_well_for_long() {
        let all = Backoff::default();
        assert_eq!(all.left("s", "n"), Duration::ZERO);
        all.failed("s", "n");
        assert_eq!(all.left("s", "n"), FIRST);
        assert_eq!(all.left("s", "other"), Duration::ZERO);
        tokio::time::advance(FIRST).await;
        assert_eq!(all.left("s", "n"), Duration::ZERO);
        all.failed("s", "n");
        assert_eq!(all.left("s", "n"), 2 * FIRST);
        for _ in 0..20 {
            all.failed("s", "n");
        }
        assert_eq!(all.left("s", "n"), LONGEST);
        tokio::time::advance(2 * LONGEST + FIRST).await;
        all.failed("s", "n");
        assert_eq!(all.left("s", "n"), FIRST);
        all.forget("s");
        assert!(all.0.lock().is_empty());
    }
}
