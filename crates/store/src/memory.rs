//! The engine for tests and simulations: the log is a map. Its time is tokio's, so a paused clock pauses it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, iter,
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    Error, Events, History, Key, Outcome, Page, Range, Record, Records, Retention, Revision, Store, Write,
    engine::{Engine, Medium, Progress, Recovered, Useless, View},
    index::Index,
    log::Entry,
    watch,
};

/// How many records expire in one transaction's time.
const DUE: usize = 256;

/// A store that lives as long as its handle.
pub struct Memory {
    engine: Arc<Engine<Log>>,
    clock: Clock,
    /// Rung when a record with a deadline was written.
    bell: Arc<Notify>,
    history: Retention,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Memory {
    /// An empty store. Must be called in a tokio runtime, where what expires is waited for.
    pub fn new() -> Self {
        Self::keeping(Retention::default())
    }

    /// An empty store that keeps so much history.
    pub fn keeping(history: Retention) -> Self {
        let engine = Engine::new(Log::default(), Recovered::default());
        let (clock, bell) = (Clock(Instant::now()), Arc::new(Notify::new()));
        tokio::spawn(expire(Arc::downgrade(&engine), clock, Arc::clone(&bell)));
        Self { engine, clock, bell, history }
    }
}

impl Memory {
    /// How many entries the log has.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.engine.medium().map_or(0, |log| log.view().log.len())
    }

    /// A store over what this one has made durable, and with its clock: what a crash leaves. This one is closed. `None`
    /// if it was closed before. Must be called in a tokio runtime.
    pub fn reopen(&self) -> Option<Self> {
        let log = self.engine.close()?.entries();
        self.bell.notify_one();
        let recovered = log.recover();
        let engine = Engine::new(Log { entries: Mutex::new(log) }, recovered);
        let bell = Arc::new(Notify::new());
        tokio::spawn(expire(Arc::downgrade(&engine), self.clock, Arc::clone(&bell)));
        Some(Self { engine, clock: self.clock, bell, history: self.history })
    }

    /// Ends all watches; nothing can be read or written any more.
    pub fn close(&self) {
        self.engine.close();
        self.bell.notify_one();
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.close();
    }
}

/// Milliseconds since the store was made.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Deletes what expires, until the store is gone.
async fn expire(engine: std::sync::Weak<Engine<Log>>, clock: Clock, bell: Arc<Notify>) {
    loop {
        let Some(open) = engine.upgrade() else { return };
        let due = open.due(clock.now(), DUE);
        if !due.is_empty() && open.commit(due, clock.now()).iter().any(Result::is_err) {
            return;
        }
        let next = open.next_deadline();
        drop(open);
        match next {
            Some(at) => {
                let at = clock.0 + Duration::from_millis(at.millis());
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = bell.notified() => {}
                }
            }
            None => bell.notified().await,
        }
    }
}

#[async_trait]
impl Store for Memory {
    async fn revision(&self) -> Result<Revision, Error> {
        self.engine.newest()
    }

    async fn mended(&self) -> Result<(), Error> {
        self.engine.mended().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        self.engine.get(key)
    }

    async fn range(&self, range: Range, at: Option<Revision>) -> Result<Page, Error> {
        self.engine.range(&range, at)
    }

    async fn scan(&self, prefix: String, at: Revision) -> Result<Records, Error> {
        self.engine.scan(prefix, at).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Outcome, Error> {
        let mut outcomes = self.engine.commit(vec![writes], self.clock.now());
        self.bell.notify_one();
        outcomes.pop().unwrap_or(Err(Error::Closed))
    }

    async fn watch(&self, prefix: String, after: Revision) -> Result<Events, Error> {
        self.engine.can_watch(after)?;
        Ok(watch::events(Arc::clone(&self.engine), self.engine.head(), &prefix, after))
    }

    async fn versions(&self, key: &Key, until: Option<Revision>, limit: usize) -> Result<History, Error> {
        self.engine.versions(key, until, limit)
    }

    async fn compact(&self, floor: Revision) -> Result<(), Error> {
        self.engine.compact(floor, self.clock.now(), self.history).await
    }

    async fn size(&self) -> Result<u64, Error> {
        Ok(0)
    }
}

#[derive(Clone, Default)]
struct Entries {
    log: BTreeMap<(Revision, Key), Entry>,
    graves: BTreeSet<(Key, Revision)>,
    /// Entries may have gone, even the newest; what has happened stays.
    newest: Revision,
    floor: Revision,
    progress: Progress,
}

impl Entries {
    /// What these entries say, and nothing else.
    fn recover(&self) -> Recovered {
        let mut index = Index::default();
        self.log.values().for_each(|entry| index.apply(entry));
        index.reached(self.newest);
        Recovered { index, floor: self.floor, progress: self.progress }
    }
}

/// The log as a map; shared, because views must not see later changes.
#[derive(Default)]
struct Log {
    entries: Mutex<Arc<Entries>>,
}

impl Log {
    fn entries(&self) -> Arc<Entries> {
        Arc::clone(&self.entries.lock())
    }

    fn change(&self, change: impl FnOnce(&mut Entries)) {
        let mut entries = self.entries.lock();
        change(Arc::make_mut(&mut entries));
    }
}

impl Medium for Log {
    const BLOCKS: bool = false;
    type View = Arc<Entries>;

    fn append(&self, entries: &[Entry]) -> Result<(), Error> {
        self.change(|all| {
            all.newest = entries.last().map_or(all.newest, |entry| entry.revision);
            all.log.extend(entries.iter().map(|e| ((e.revision, e.key.clone()), e.clone())));
            let graves = entries.iter().filter(|e| e.is_grave());
            all.graves.extend(graves.map(|e| (e.key.clone(), e.revision)));
        });
        Ok(())
    }

    fn view(&self) -> Arc<Entries> {
        self.entries()
    }

    fn raise_floor(&self, floor: Revision) -> Result<(), Error> {
        self.change(|all| all.floor = floor);
        Ok(())
    }

    fn forget(&self, entries: &[Useless], progress: Progress) -> Result<(), Error> {
        self.change(|all| {
            all.progress = progress;
            for Useless { revision, key, .. } in entries {
                all.log.remove(&(*revision, key.clone()));
                all.graves.remove(&(key.clone(), *revision));
            }
        });
        Ok(())
    }
}

impl View for Arc<Entries> {
    fn entry(&self, key: &Key, revision: Revision) -> Result<Option<Entry>, Error> {
        Ok(self.log.get(&(revision, key.clone())).cloned())
    }

    fn entries(&self, after: Revision, to: Revision) -> impl Iterator<Item = Result<Entry, Error>> {
        let start = Bound::Included((after.next(), Key::new("")));
        let mut later = self.log.range((start, Bound::Unbounded));
        iter::from_fn(move || later.next().filter(|((revision, _), _)| *revision <= to))
            .map(|(_, entry)| Ok(entry.clone()))
    }

    fn graves(&self, key: &Key) -> Result<Vec<Revision>, Error> {
        let all = (key.clone(), Revision::ZERO)..=(key.clone(), Revision(u64::MAX));
        Ok(self.graves.range(all).rev().map(|(_, revision)| *revision).collect())
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
