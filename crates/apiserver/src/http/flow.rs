//! How many requests are worked on at the same time.

use std::sync::Arc;
use std::time::Duration;

use tiphys_api::status::{Details, Reason, Status};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounds the work in flight. Requests that only read and requests that write don't wait for each other, and
/// those that live long (watches, streams) are not counted.
pub(super) struct Flow {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// A place among the requests being worked on, given up by dropping it.
pub(super) struct Place(#[allow(dead_code, reason = "held for its end")] Option<OwnedSemaphorePermit>);

/// Upstream's bounds.
const READS: usize = 400;
const WRITES: usize = 200;
/// Requests that wait for a place; each may hold a body later, so they are bounded, too.
const WAITING: usize = 2000;
/// A request that has no place by then is turned away.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a request is to the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Read,
    Write,
    Long,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self {
            reads: Arc::new(Semaphore::new(READS)),
            writes: Arc::new(Semaphore::new(WRITES)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }

    /// Waits for a place, in the order of arrival.
    ///
    /// # Errors
    /// 429 if too many wait already, or for too long.
    pub(super) async fn enter(&self, class: Class) -> Result<Place, Status> {
        let places = match class {
            Class::Read => &self.reads,
            Class::Write => &self.writes,
            Class::Long => return Ok(Place(None)),
        };
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(Place(Some(place)));
        }
        let _waits = self.waiting.try_acquire().map_err(|_| too_many())?;
        match tokio::time::timeout(PATIENCE, Arc::clone(places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(Place(Some(place))),
            _ => Err(too_many()),
        }
    }
}

fn too_many() -> Status {
    Status::new(Reason::TooManyRequests, "too many requests, please try again later")
        .with_details(Details { retry_after_seconds: 1, ..Details::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_beyond_the_bound_wait_and_are_turned_away() {
        let flow = Flow::new();
        let mut places = Vec::new();
        for _ in 0..WRITES {
            places.push(flow.enter(Class::Write).await.unwrap());
        }
        assert_eq!(flow.enter(Class::Write).await.err().map(|s| s.code()), Some(429));
        assert!(flow.enter(Class::Read).await.is_ok() && flow.enter(Class::Long).await.is_ok());
        places.pop();
        assert!(flow.enter(Class::Write).await.is_ok());
    }
}
