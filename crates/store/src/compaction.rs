//! When history goes.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::{Error, Revision, Store};

/// How long history is kept at least: as long as clients may take to resume.
pub const KEEP: Duration = Duration::from_secs(300);

/// Lets history go that is older than `keep`, and all of what is older than twice that, until the store is
/// closed. A store that doesn't change is not touched.
pub async fn run(store: Arc<dyn Store>, keep: Duration) {
    let mut ticks = interval_at(Instant::now(), keep);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The newest revision at the last tick, and what the floor is.
    let (mut last, mut floor) = (Revision::ZERO, Revision::ZERO);
    loop {
        ticks.tick().await;
        match compact(&*store, last, floor).await {
            Ok(newest) => (floor, last) = (last, newest),
            Err(Error::Closed | Error::Lost { .. }) => return,
            // The floor that was not reached is below the next one.
            Err(error) => tracing::warn!(%error, "compacting the store"),
        }
    }
}

/// Raises the floor where that changes something; answers the newest revision.
async fn compact(store: &dyn Store, to: Revision, floor: Revision) -> Result<Revision, Error> {
    let newest = store.revision().await?;
    if to > floor {
        store.compact(to).await?;
        tracing::debug!(%to, "the store's log is compacted");
    }
    Ok(newest)
}

#[cfg(test)]
#[path = "compaction_tests.rs"]
mod tests;
