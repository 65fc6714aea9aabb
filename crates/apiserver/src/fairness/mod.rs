//! API Priority and Fairness (`flowcontrol.apiserver.k8s.io`): who may be worked on now, and who waits for it.
//!
//! A request is of the flow that the first matching FlowSchema gives it, and has the seats of that flow's priority
//! level. As long as a level has not used up what nobody else can borrow from it, a request takes its seats with one
//! atomic operation. Beyond that, [`level`] decides under a lock who borrows what, and [`queues`] whose turn is next.

mod counts;
mod keeper;
mod level;
mod matching;
mod objects;
mod queues;
mod settings;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::HeaderValue;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tiphys_api::status::{Details, Reason, Status};
use tiphys_metrics::Exposition;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::authz::Target;
use crate::identity::Identity;

use counts::{Counts, Flows};
use level::{Level, Pool, Turn};
use matching::Schema;
use settings::Settings;

pub(crate) use keeper::{keep, look};
pub(crate) use objects::bootstrap;

/// The API group of both kinds.
pub(crate) const GROUP: &str = "flowcontrol.apiserver.k8s.io";
pub(crate) const SCHEMAS: &str = "flowschemas";
pub(crate) const LEVELS: &str = "prioritylevelconfigurations";

/// The seats of all levels together: upstream's bounds of requests that read and that write.
const SEATS: u32 = 400 + 200;
/// A request that has no seat by then is turned away: a quarter of the time that it may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Clients are told to try again after as many seconds.
const RETRY: u32 = 1;

/// Lets requests in.
pub(crate) struct Fairness {
    schemas: RwLock<Arc<Vec<Schema>>>,
    pool: Mutex<Pool>,
    /// Requests that wait, of all levels.
    waiting: Arc<AtomicUsize>,
    flows: Flows,
    hasher: std::hash::RandomState,
    start: Instant,
}

/// A place among the requests that are worked on, given back when it is dropped.
pub(crate) struct Seat {
    fairness: Arc<Fairness>,
    level: Arc<Level>,
    counts: Arc<Counts>,
    seats: u32,
    begun: Instant,
    /// Who gave the request its turn, where it had to wait for one.
    turn: Option<Turn>,
}

/// What a request was found to be.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// The UIDs of the FlowSchema and of its priority level, for the headers of the answer.
    pub(crate) schema_uid: HeaderValue,
    pub(crate) level_uid: HeaderValue,
    /// How long it waited for its turn.
    pub(crate) waited: Duration,
}

impl Fairness {
    /// Everything by upstream's own objects, until [`Self::configure`] brings those of the cluster.
    pub(crate) fn new() -> Arc<Self> {
        let waiting = Arc::<AtomicUsize>::default();
        let fairness = Self {
            schemas: RwLock::default(),
            pool: Mutex::new(Pool::new(SEATS, Arc::clone(&waiting))),
            waiting,
            flows: Flows::new(),
            hasher: Default::default(),
            start: Instant::now(),
        };
        let (levels, schemas) = (objects::levels(), objects::schemas());
        fairness.configure(levels.iter(), schemas.iter());
        Arc::new(fairness)
    }

    /// Takes over what the objects say. Requests that wait go on waiting where they now belong; an object that makes
    /// no sense is left out.
    pub(crate) fn configure<'a>(
        &self,
        levels: impl Iterator<Item = &'a Value>,
        schemas: impl Iterator<Item = &'a Value>,
    ) {
        let settings: Vec<Settings> = levels.filter_map(Settings::read).collect();
        let mut pool = self.pool.lock();
        pool.configure(settings, self.now());
        let mut compiled: Vec<Schema> = schemas
            .filter_map(|schema| Schema::read(schema, |level| pool.level(level), &self.flows))
            .collect();
        compiled.sort_by(|a, b| a.order().cmp(&b.order()));
        // While the pool is locked, so that nobody waits at a level that is no more.
        *self.schemas.write() = Arc::new(compiled);
        pool.dispatch(self.now());
    }

    /// Waits for the turn of a request that is as wide as `seats` says when it knows the level's own bound.
    ///
    /// # Errors
    /// 429: too many wait already, or it waited for too long.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        user: &Identity,
        verb: &str,
        target: &Target<'_>,
        seats: u32,
    ) -> (Flow, Result<Seat, Status>) {
        let schemas = Arc::clone(&self.schemas.read());
        let Some(schema) = schemas.iter().find(|schema| schema.fits(user, verb, target)) else {
            // The catch-all is put back at once should somebody delete it.
            let nobody = || HeaderValue::from_static("");
            let flow = Flow { schema_uid: nobody(), level_uid: nobody(), waited: Duration::ZERO };
            return (flow, Err(too_many()));
        };
        let mut flow = schema.flow();
        let seats = seats.clamp(1, schema.level.widest());
        let seat = |turn: Option<Turn>| Seat {
            fairness: Arc::clone(self),
            level: Arc::clone(turn.as_ref().map_or(&schema.level, |turn| &turn.level)),
            counts: Arc::clone(&schema.counts),
            seats,
            begun: Instant::now(),
            turn,
        };
        if schema.level.enter_freely(seats) {
            schema.counts.dispatched(seats);
            return (flow, Ok(seat(None)));
        }
        let hash = self.hasher.hash_one((schema.name(), schema.distinguisher(user, target)));
        let begun = Instant::now();
        let turn = self.turn(schema, hash, seats).await;
        let waited = begun.elapsed();
        flow.waited = waited;
        let entered = match turn {
            Ok(turn) => {
                schema.counts.waited(waited, true);
                schema.counts.dispatched(seats);
                Ok(seat(turn))
            }
            Err(reason) => {
                schema.counts.waited(waited, false);
                schema.counts.rejected(reason);
                Err(too_many())
            }
        };
        (flow, entered)
    }

    /// Gets in line. The error is upstream's word for why the request is turned away.
    async fn turn(&self, schema: &Schema, hash: u64, seats: u32) -> Result<Option<Turn>, level::Refusal> {
        let (answer, answered) = oneshot::channel();
        let spot = {
            let mut pool = self.pool.lock();
            let now = self.now();
            if !pool.queues(&schema.level) {
                return pool.take_now(&schema.level, seats).map(|()| None);
            }
            let spot = pool.join(&schema.level, now, hash, seats, answer)?;
            pool.dispatch(now);
            spot
        };
        let line = Line { fairness: self, level: &schema.level, spot: Some(spot), answered, seats };
        schema.counts.queued(seats, 1);
        let turn = line.wait().await;
        schema.counts.queued(seats, -1);
        turn.map(Some)
    }

    /// Adds what happens in the levels.
    pub(crate) fn expose(&self, text: &mut Exposition) {
        self.flows.expose(text);
        self.pool.lock().expose(text);
    }

    /// Nanoseconds since this was made.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A request in line. Dropping it leaves the line, or gives back a turn that has just come.
struct Line<'a> {
    fairness: &'a Fairness,
    level: &'a Arc<Level>,
    spot: Option<level::Spot>,
    answered: oneshot::Receiver<Turn>,
    seats: u32,
}

impl Line<'_> {
    async fn wait(mut self) -> Result<Turn, level::Refusal> {
        match tokio::time::timeout(PATIENCE, &mut self.answered).await {
            Ok(Ok(turn)) => {
                self.spot = None;
                Ok(turn)
            }
            // Its level was taken away while it waited.
            Ok(Err(_)) => Err(level::Refusal::Cancelled),
            Err(_) => Err(level::Refusal::TimeOut),
        }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let Some(spot) = self.spot.take() else { return };
        let mut pool = self.fairness.pool.lock();
        let now = self.fairness.now();
        if !pool.leave(self.level, spot)
            && let Ok(turn) = self.answered.try_recv()
        {
            turn.level.leave(self.seats);
            pool.ended(now, &turn, self.seats, 0);
        }
        pool.dispatch(now);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self { fairness, level, counts, seats, begun, turn } = self;
        let took = begun.elapsed();
        level.leave(*seats);
        counts.ended(*seats, took);
        // Whoever waits was counted before it looked for free seats, so that one of both sees the other.
        if turn.is_none() && fairness.waiting.load(SeqCst) == 0 {
            return;
        }
        let mut pool = fairness.pool.lock();
        let now = fairness.now();
        if let Some(turn) = turn {
            let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            pool.ended(now, turn, *seats, took);
        }
        pool.dispatch(now);
    }
}

fn too_many() -> Status {
    Status::new(Reason::TooManyRequests, "too many requests, please try again later")
        .with_details(Details { retry_after_seconds: RETRY, ..Details::default() })
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
