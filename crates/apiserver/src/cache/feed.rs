//! What keeps all collections fresh: one watch of the store's log.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use futures::StreamExt;
use parking_lot::RwLock;
use tiphys_store::{Batch, Event, Events, Record, Revision, Store};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{
    At, Collection, Error, Limits, Object, Spec, collection::Incoming, projection::Projection, state::Root,
};
use crate::apart::apart;

/// What every key of the API starts with.
const REGISTRY: &str = "/registry/";
/// How many pieces of what is loaded are read at once.
const AHEAD: usize = 2;

/// What the feed's task shares with the readers.
pub(super) struct Feed {
    store: Arc<dyn Store>,
    limits: Limits,
    /// By key prefix.
    collections: RwLock<HashMap<Box<str>, Arc<Collection>>>,
    fresh: watch::Sender<Fresh>,
}

/// Everything up to `revision` is applied; `ended` says why there will be no more.
#[derive(Clone, Debug)]
struct Fresh {
    revision: Revision,
    ended: Option<Error>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("fresh", &*self.fresh.borrow()).finish_non_exhaustive()
    }
}

/// What the task is asked to do between two batches, so that a collection begins exactly where the feed is.
pub(super) enum Command {
    Add(Spec, oneshot::Sender<Result<Arc<Collection>, Error>>),
    Remove(Box<str>, oneshot::Sender<()>),
}

impl Feed {
    pub(super) fn new(store: Arc<dyn Store>, limits: Limits) -> Arc<Self> {
        let fresh = Fresh { revision: Revision::ZERO, ended: None };
        Arc::new(Self { store, limits, collections: RwLock::default(), fresh: watch::Sender::new(fresh) })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn revision(&self) -> Revision {
        self.fresh.borrow().revision
    }

    pub(super) fn collection(&self, prefix: &str) -> Option<Arc<Collection>> {
        self.collections.read().get(prefix).cloned()
    }

    fn all(&self) -> Vec<Arc<Collection>> {
        self.collections.read().values().cloned().collect()
    }

    fn insert(&self, collection: &Arc<Collection>) {
        let prefix = collection.spec().prefix().into();
        let mut all = self.collections.write();
        all.insert(prefix, Arc::clone(collection));
    }

    fn remove(&self, prefix: &str) -> Option<Arc<Collection>> {
        self.collections.write().remove(prefix)
    }

    /// Waits until every change up to `revision` is applied.
    pub(super) async fn wait(&self, revision: Revision) -> Result<(), Error> {
        if self.revision() >= revision {
            return Ok(());
        }
        let mut fresh = self.fresh.subscribe();
        let known = fresh.wait_for(|fresh| fresh.ended.is_some() || fresh.revision >= revision);
        // In vain is only the first of two ways to fail: the sender lives as long as `self`.
        let Ok(Ok(fresh)) = timeout(self.limits.future, known).await else {
            return Err(Error::Future { asked: revision, current: self.revision() });
        };
        match &fresh.ended {
            Some(error) if fresh.revision < revision => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> Error {
        let mut fresh = self.fresh.subscribe();
        let ended = fresh.wait_for(|fresh| fresh.ended.is_some()).await;
        ended.ok().and_then(|fresh| fresh.ended.clone()).unwrap_or(Error::Unavailable)
    }

    /// Waits until a read may be served.
    pub(super) async fn wait_at(&self, at: &At) -> Result<(), Error> {
        match at {
            At::Any | At::Continue(_) => Ok(()),
            At::NotOlderThan(revision) | At::Exact(revision) => self.wait(*revision).await,
            At::Newest => self.wait(self.store.revision().await?).await,
        }
    }

    /// Loads the collections as they were some time ago, and lets the log lead them to the present.
    pub(super) async fn start(
        self: &Arc<Self>,
        specs: Vec<Spec>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<tokio::task::JoinHandle<()>, Error> {
        /// How often others who share the store may compact it while it is read.
        const ATTEMPTS: usize = 5;
        let mut attempts = 1..ATTEMPTS;
        let events = loop {
            match self.catch_up(specs.clone()).await {
                Err(Error::Store(tiphys_store::Error::Compacted { .. })) if attempts.next().is_some() => {}
                events => break events?,
            }
        };
        Ok(tokio::spawn(Arc::clone(self).run(events, commands)))
    }

    async fn catch_up(self: &Arc<Self>, specs: Vec<Spec>) -> Result<Events, Error> {
        let horizon = self.horizon().await?;
        let shelves: Vec<_> = specs.into_iter().map(Shelf::new).collect();
        let roots = self.read(REGISTRY, &shelves, horizon).await?;
        for (shelf, root) in shelves.into_iter().zip(roots) {
            self.insert(&Collection::new(shelf.spec, shelf.projection, Arc::clone(self), root, horizon));
        }
        let mut events = self.store.watch(REGISTRY.to_owned(), horizon).await?;
        self.reach(horizon);
        let newest = self.store.revision().await?;
        while self.revision() < newest {
            match events.next().await {
                Some(batch) => self.apply(batch?),
                None => return Err(tiphys_store::Error::Closed.into()),
            }
        }
        Ok(events)
    }

    /// The revision to start from: the oldest that the store has, unless more has happened since than the
    /// rings would keep.
    async fn horizon(&self) -> Result<Revision, Error> {
        let newest = self.store.revision().await?;
        let replay = u64::try_from(self.limits.ring_events).unwrap_or(u64::MAX);
        Ok(self.oldest().await?.max(newest.earlier(replay)))
    }

    async fn oldest(&self) -> Result<Revision, Error> {
        // A watch that nobody polls costs nothing.
        match self.store.watch(REGISTRY.to_owned(), Revision::ZERO).await {
            Ok(_) => Ok(Revision::ZERO),
            Err(tiphys_store::Error::Compacted { floor }) => Ok(floor),
            Err(error) => Err(error.into()),
        }
    }

    fn reach(&self, revision: Revision) {
        self.fresh.send_modify(|fresh| fresh.revision = revision);
    }

    /// Adds a collection as it is at `revision`.
    async fn load(self: &Arc<Self>, spec: Spec, revision: Revision) -> Result<Arc<Collection>, Error> {
        let shelves = [Shelf::new(spec)];
        let mut roots = self.read(&shelves[0].spec.prefix(), &shelves, revision).await?;
        let [Shelf { spec, projection }] = shelves;
        let root = roots.pop().unwrap_or_else(|| Root::new(&spec));
        let collection = Collection::new(spec, projection, Arc::clone(self), root, revision);
        self.insert(&collection);
        Ok(collection)
    }

    /// Reads what stands on all these shelves at `revision`, of keys that start with `prefix`: one root for each.
    /// A damaged record is left out, and told.
    async fn read(
        &self,
        prefix: &str,
        shelves: &[Shelf],
        revision: Revision,
    ) -> Result<Vec<Root>, tiphys_store::Error> {
        let mut roots: Vec<_> = shelves.iter().map(|shelf| Root::new(&shelf.spec)).collect();
        let places = shelves.iter().enumerate();
        let places = places.map(|(place, s)| (s.spec.prefix(), (place, Arc::clone(&s.projection))));
        let places: Arc<HashMap<String, (usize, Arc<Projection>)>> = Arc::new(places.collect());
        let records = self.store.scan(prefix.to_owned(), revision).await?;
        let objects = records.map(|piece| {
            let places = Arc::clone(&places);
            async move {
                let piece = piece?;
                // A thread of its own for each piece: there may be many, and nothing else goes on.
                apart(move || piece.iter().filter_map(|record| placed(&places, record)).collect::<Vec<_>>())
                    .await
                    .map_err(|source| tiphys_store::Error::Engine {
                        step: "reading objects",
                        source: Arc::new(source),
                    })
            }
        });
        let objects = objects.buffered(AHEAD);
        futures::pin_mut!(objects);
        while let Some(piece) = objects.next().await {
            for (place, object) in piece? {
                // Whatever was there before was never seen.
                drop(roots[place].set(object.key(), Some(&object)));
            }
        }
        Ok(roots)
    }

    async fn run(self: Arc<Self>, mut events: Events, mut commands: mpsc::Receiver<Command>) {
        let every = self.limits.bookmarks;
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Of each tick in the window, when it was and what was newest then.
        let mut ticked: VecDeque<(Instant, Revision)> = VecDeque::new();
        let mut horizon = Revision::ZERO;
        loop {
            tokio::select! {
                batch = events.next() => match batch.unwrap_or(Err(tiphys_store::Error::Closed)) {
                    Ok(batch) => self.apply(batch),
                    Err(error) => match self.recover(error).await {
                        Ok(again) => events = again,
                        Err(error) => return self.end(&error),
                    },
                },
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    // The cache was dropped.
                    None => return self.end(&Error::Unavailable),
                },
                _ = ticks.tick() => {
                    let (now, revision) = (Instant::now(), self.revision());
                    let window = self.limits.window;
                    while let Some((_, old)) = ticked.pop_front_if(|(when, _)| now.duration_since(*when) >= window) {
                        horizon = old;
                    }
                    ticked.push_back((now, revision));
                    self.all().iter().for_each(|collection| collection.tick(revision, horizon));
                }
            }
        }
    }

    /// Applies a batch. Of each collection all changes of the batch become visible at once.
    fn apply(&self, batch: Batch) {
        let mut changes: HashMap<&str, (Arc<Collection>, Vec<Incoming>)> = HashMap::new();
        for event in &batch.events {
            let Some(prefix) = prefix_of(event.key.as_str()) else { continue };
            let (collection, changes) = match changes.get_mut(prefix) {
                Some(found) => found,
                None => match self.collection(prefix) {
                    Some(collection) => changes.entry(prefix).or_insert((collection, Vec::new())),
                    None => continue,
                },
            };
            changes.extend(incoming(collection, prefix, event));
        }
        for (collection, changes) in changes.into_values() {
            collection.apply(changes);
        }
        self.reach(batch.revision);
    }

    async fn obey(self: &Arc<Self>, command: Command) {
        match command {
            Command::Add(spec, answer) => {
                let added = match self.collection(&spec.prefix()) {
                    Some(there) => Ok(there),
                    None => self.load(spec, self.revision()).await,
                };
                // Whoever asked may have gone; the collection stays.
                drop(answer.send(added));
            }
            Command::Remove(prefix, answer) => {
                if let Some(collection) = self.remove(&prefix) {
                    collection.end(&Error::Removed);
                }
                // Whoever asked may have gone.
                let _ = answer.send(());
            }
        }
    }

    /// Goes on where it was, once a store that failed or was away is there again; after the log has moved past the
    /// feed, everything is loaded anew. Nothing else can be repaired.
    async fn recover(&self, mut error: tiphys_store::Error) -> Result<Events, Error> {
        loop {
            let again = match error {
                tiphys_store::Error::Poisoned | tiphys_store::Error::Unavailable { .. } => {
                    match self.store.mended().await {
                        Ok(()) => self.store.watch(REGISTRY.to_owned(), self.revision()).await,
                        Err(error) => Err(error),
                    }
                }
                tiphys_store::Error::Compacted { .. } => self.reload().await,
                end => return Err(end.into()),
            };
            match again {
                Ok(events) => return Ok(events),
                Err(next) => error = next,
            }
        }
    }

    async fn reload(&self) -> Result<Events, tiphys_store::Error> {
        tracing::warn!("the watch cache fell behind the store's log and is loaded anew");
        let revision = self.store.revision().await?;
        let events = self.store.watch(REGISTRY.to_owned(), revision).await?;
        let all = self.all();
        let shelves: Vec<_> = all.iter().map(|collection| collection.shelf()).collect();
        let roots = self.read(REGISTRY, &shelves, revision).await?;
        for (collection, root) in all.iter().zip(roots) {
            collection.reset(root, revision);
        }
        self.reach(revision);
        Ok(events)
    }

    fn end(&self, error: &Error) {
        tracing::debug!(%error, "the watch cache's feed has ended");
        self.fresh.send_modify(|fresh| fresh.ended = Some(error.clone()));
        // The collections know the feed, so it has to forget them.
        let all = std::mem::take(&mut *self.collections.write());
        all.values().for_each(|collection| collection.end(error));
    }
}

/// What is known of a collection before its objects are.
pub(super) struct Shelf {
    pub(super) spec: Spec,
    pub(super) projection: Arc<Projection>,
}

impl Shelf {
    fn new(spec: Spec) -> Self {
        let projection = Arc::new(Projection::new(&spec.fields));
        Self { spec, projection }
    }
}

/// The object of a record, and the place of its collection. `None` for what no collection holds, and for a damaged
/// record, which is told.
fn placed(
    places: &HashMap<String, (usize, Arc<Projection>)>,
    record: &Record,
) -> Option<(usize, Arc<Object>)> {
    let prefix = prefix_of(record.key.as_str())?;
    let (place, projection) = places.get(prefix)?;
    let key = record.key.as_str()[prefix.len()..].into();
    match Object::read(projection, key, record.revision, &record.value) {
        Ok(object) => Some((*place, Arc::new(object))),
        Err(why) => {
            tracing::error!(key = %record.key, why, "a record is damaged");
            None
        }
    }
}

/// `/registry/<group>/<resource>/` of a key.
fn prefix_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(REGISTRY)?;
    let (slash, _) = rest.match_indices('/').nth(1)?;
    Some(&key[..=REGISTRY.len() + slash])
}

/// `None` for a damaged record, which is told and otherwise ignored.
fn incoming(collection: &Collection, prefix: &str, event: &Event) -> Option<Incoming> {
    let key: Arc<str> = event.key.as_str()[prefix.len()..].into();
    let object = match &event.value {
        None => None,
        Some(value) => match Object::read(collection.projection(), Arc::clone(&key), event.revision, value) {
            Ok(object) => Some(Arc::new(object)),
            Err(why) => {
                tracing::error!(key = %event.key, why, "a record is damaged");
                return None;
            }
        },
    };
    Some(Incoming { key, revision: event.revision, object })
}
