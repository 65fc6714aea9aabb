//! What both engines are made of: the judge of transactions, the reader of history, the source of watches.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{StreamExt, future::ready, stream};
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::watch;

use crate::{
    Batch, Change, Error, Expect, History, Key, Outcome, Page, Range, Record, Records, Retention, Revision,
    Write,
    index::{Deadline, Index, Live},
    log::{Entry, Noted, Stamp},
    tail::{Step, Tail},
};

/// Where the log lies.
pub(crate) trait Medium: Send + Sync + 'static {
    /// Whether reading can take so long that it needs a thread of its own.
    const BLOCKS: bool;
    type View: View;

    /// Makes the entries and what they do to the index durable, all or none.
    fn append(&self, entries: &[Entry]) -> Result<(), Error>;
    /// Everything as it is now, undisturbed by what happens later.
    fn view(&self) -> Self::View;
    /// Notes the floor before anything below it goes.
    fn raise_floor(&self, floor: Revision) -> Result<(), Error>;
    /// Removes entries from the log, and notes how far that has come.
    fn forget(&self, entries: &[Useless], progress: Progress) -> Result<(), Error>;
}

/// An entry that nobody needs any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Useless {
    pub(crate) revision: Revision,
    pub(crate) key: Key,
    pub(crate) is_grave: bool,
}

/// How far the log has been swept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Up to here nothing is left but what lives and what the history tells.
    pub(crate) swept: Revision,
    /// Up to here nothing is left but what lives. Never later than `swept`.
    pub(crate) past: Revision,
    /// How many bytes of superseded values the history holds.
    pub(crate) kept: u64,
}

/// A snapshot of the log.
pub(crate) trait View: Send + Sync + 'static {
    fn entry(&self, key: &Key, revision: Revision) -> Result<Option<Entry>, Error>;
    /// Entries later than `after`, up to `to`, in order.
    fn entries(&self, after: Revision, to: Revision) -> impl Iterator<Item = Result<Entry, Error>>;
    /// The deletions of a key that the history tells, the newest first.
    fn graves(&self, key: &Key) -> Result<Vec<Revision>, Error>;
}

/// What a medium held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) floor: Revision,
    pub(crate) progress: Progress,
}

/// How far the log goes, or why it goes no further.
///
/// `Open` goes on to later revisions; a failed write makes it `Poisoned`, and what can be read again afterwards
/// `Open` at the same revision or a later one. `Lost` and `Closed` are ends.
#[derive(Clone, Debug)]
pub(crate) enum Head {
    Open(Revision),
    Poisoned,
    Lost(Error),
    Closed,
}

impl Head {
    pub(crate) fn revision(&self) -> Result<Revision, Error> {
        match self {
            Self::Open(revision) => Ok(*revision),
            Self::Poisoned => Err(Error::Poisoned),
            Self::Lost(error) => Err(error.clone()),
            Self::Closed => Err(Error::Closed),
        }
    }
}

/// What the tail holds at most, in bytes.
const TAIL: usize = 2 << 20;
/// What one batch of history holds at most (and one revision more), in bytes.
const HISTORY: usize = 1 << 20;
/// How many entries one step of a sweep looks at.
const SWEEP: usize = 512;
/// How many records one piece of a scan has, and how many pieces are read ahead.
const PIECE: usize = 512;
const AHEAD: usize = 2;
/// Of how many revisions one must be wanted for all of them to be read.
const DENSE: usize = 4;
/// What one answer of versions holds at most (and one version more), in bytes.
const VERSIONS: usize = 8 << 20;

pub(crate) struct Engine<M> {
    /// Empty while poisoned and once closed. One that is put in belongs to the index as it is then.
    medium: RwLock<Option<Arc<M>>>,
    index: RwLock<Index>,
    tail: Mutex<Tail>,
    head: watch::Sender<Head>,
    floor: AtomicU64,
    /// Held by whoever commits.
    committing: Mutex<()>,
    /// Held by whoever sweeps.
    progress: tokio::sync::Mutex<Progress>,
}

impl<M: Medium> Engine<M> {
    pub(crate) fn new(medium: M, recovered: Recovered) -> Arc<Self> {
        let newest = recovered.index.newest();
        Arc::new(Self {
            medium: RwLock::new(Some(Arc::new(medium))),
            tail: Mutex::new(Tail::new(newest, TAIL)),
            head: watch::Sender::new(Head::Open(newest)),
            index: RwLock::new(recovered.index),
            floor: AtomicU64::new(recovered.floor.get()),
            committing: Mutex::new(()),
            progress: tokio::sync::Mutex::new(recovered.progress),
        })
    }

    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock()
    }

    pub(crate) fn index(&self) -> impl std::ops::Deref<Target = Index> + '_ {
        self.index.read()
    }

    pub(crate) fn newest(&self) -> Result<Revision, Error> {
        self.head.borrow().revision()
    }

    pub(crate) fn head(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    fn floor(&self) -> Revision {
        Revision(self.floor.load(Ordering::Acquire))
    }

    pub(crate) fn medium(&self) -> Result<Arc<M>, Error> {
        let medium = self.medium.read().clone();
        // A medium that is there again since was not there when it was asked for.
        medium.ok_or_else(|| self.newest().err().unwrap_or(Error::Poisoned))
    }

    /// Ends all watches and lets go of the medium.
    pub(crate) fn close(&self) -> Option<Arc<M>> {
        self.head.send_replace(Head::Closed);
        self.medium.write().take()
    }

    /// Moves the head from one state to another; a store that has ended stays so.
    fn turn(&self, to: Head) {
        self.head.send_if_modified(|head| {
            let goes_on = matches!(head, Head::Open(_) | Head::Poisoned);
            if goes_on {
                *head = to;
            }
            goes_on
        });
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        matches!(*self.head.borrow(), Head::Poisoned)
    }

    /// Waits while the engine is poisoned.
    pub(crate) async fn mended(&self) -> Result<(), Error> {
        let mut head = self.head();
        let head = head.wait_for(|head| !matches!(head, Head::Poisoned)).await.map_err(|_| Error::Closed)?;
        head.revision().map(drop)
    }

    /// Lets go of the medium of a poisoned engine; readers may have it a moment longer.
    pub(crate) fn suspend(&self) {
        let _index = self.index.write();
        self.medium.write().take();
    }

    /// Goes on with what a poisoned engine's medium holds. What was read from it must be durable.
    ///
    /// # Errors
    /// Revisions that were told to somebody are not there: the engine can't go on.
    pub(crate) fn resume(&self, medium: M, recovered: Recovered) -> Result<(), Error> {
        let newest = recovered.index.newest();
        // Held first, as a compaction does, which fails while there is no medium.
        let mut progress = self.progress.blocking_lock();
        let mut index = self.index.write();
        if newest < index.newest() {
            return Err(Error::damaged("opening the log again", "revisions that were durable are gone"));
        }
        *progress = recovered.progress;
        *index = recovered.index;
        self.floor.fetch_max(recovered.floor.get(), Ordering::AcqRel);
        *self.tail() = Tail::new(newest, TAIL);
        *self.medium.write() = Some(Arc::new(medium));
        drop(index);
        self.turn(Head::Open(newest));
        Ok(())
    }

    /// Gives up a poisoned engine.
    pub(crate) fn lose(&self, why: Error) {
        self.turn(Head::Lost(Error::Lost { source: Arc::new(why) }));
    }

    /// Runs a reading job where it may block.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Error> {
        if !M::BLOCKS {
            return Ok(job(self));
        }
        let engine = Arc::clone(self);
        tokio::task::spawn_blocking(move || job(&engine))
            .await
            .map_err(|source| Error::Engine { step: "reading", source: Arc::new(source) })
    }

    /// Commits transactions one after the other and makes them durable together. Each gets its own answer,
    /// given only after what it depends on is durable.
    pub(crate) fn commit(&self, transactions: Vec<Vec<Write>>, now: u64) -> Vec<Result<Outcome, Error>> {
        let _alone = self.committing.lock();
        let count = transactions.len();
        self.try_commit(transactions, now).unwrap_or_else(|error| vec![Err(error); count])
    }

    fn try_commit(
        &self,
        transactions: Vec<Vec<Write>>,
        now: u64,
    ) -> Result<Vec<Result<Outcome, Error>>, Error> {
        self.newest()?;
        let medium = self.medium()?;
        let (verdicts, entries) = {
            let index = self.index();
            let mut draft = Draft::new(&index, &*medium, now);
            let verdicts: Vec<_> = transactions.into_iter().map(|t| draft.judge(t)).collect();
            (verdicts, draft.entries)
        };
        if let Some(last) = entries.last() {
            let newest = last.revision;
            if let Err(error) = medium.append(&entries) {
                self.turn(Head::Poisoned);
                return Err(error);
            }
            let mut index = self.index.write();
            entries.iter().for_each(|entry| index.apply(entry));
            drop(index);
            let mut tail = self.tail();
            for step in entries.chunk_by(|a, b| a.revision == b.revision) {
                let size = step.iter().map(Entry::size).sum();
                tail.push(Step::new(step[0].revision, step.iter().map(Entry::event).collect(), size));
            }
            drop(tail);
            self.turn(Head::Open(newest));
        }
        Ok(verdicts)
    }

    /// Transactions that delete what has expired.
    pub(crate) fn due(&self, now: u64, limit: usize) -> Vec<Vec<Write>> {
        let due = self.index().due(now, limit);
        due.into_iter()
            .map(|(key, revision)| {
                vec![Write { key, expect: Expect::At(revision), change: Change::Delete, note: None }]
            })
            .collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Deadline> {
        self.index().next_deadline()
    }

    pub(crate) fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        let (live, view) = {
            let index = self.index();
            (index.get(key), self.medium()?.view())
        };
        let Some(live) = live else { return Ok(None) };
        record(&view, key, live.revision).map(Some)
    }

    pub(crate) fn range(&self, range: &Range, at: Option<Revision>) -> Result<Page, Error> {
        let limit = range.limit.unwrap_or(usize::MAX);
        let Found { keys, view, revision } = self.find(range, at)?;
        let records = keys.iter().take(limit).map(|(key, revision)| record(&view, key, *revision));
        Ok(Page { records: records.collect::<Result<_, _>>()?, revision, more: keys.len() > limit })
    }

    /// Which keys there were, and at which revisions: at least one more than the range's limit, if there are as
    /// many. What they are is in the view.
    fn find(&self, range: &Range, at: Option<Revision>) -> Result<Found<M::View>, Error> {
        let Range { prefix, after, limit } = range;
        // Only keys are collected while the index is locked. One key too many tells whether there is more; a
        // page of the past needs all of them, because which of them were there is not known yet.
        let (keys, newest, view) = {
            let index = self.index();
            let newest = index.newest();
            let past = at.is_some_and(|at| at < newest);
            let take =
                if past { usize::MAX } else { limit.map_or(usize::MAX, |limit| limit.saturating_add(1)) };
            let keys = index.range(prefix, after.as_ref()).take(take);
            let keys: Vec<_> = keys.map(|(key, live)| (key.clone(), live.revision)).collect();
            (keys, newest, self.medium()?.view())
        };
        let revision = at.unwrap_or(newest);
        if revision > newest {
            return Err(Error::Future { newest });
        }
        // The view is whole from the floor on, and the floor is raised before anything goes.
        self.not_compacted(revision)?;
        let keys = if revision < newest {
            let wanted = |key: &Key| {
                key.as_str().starts_with(prefix.as_str()) && after.as_ref().is_none_or(|a| key > a)
            };
            rewind(keys, view.entries(revision, newest), wanted)?
        } else {
            keys
        };
        Ok(Found { keys, view, revision })
    }

    /// Everything under `prefix` as of `at`, in the order in which it was written: so the log is read once, from its
    /// beginning to its end.
    pub(crate) async fn scan(self: &Arc<Self>, prefix: String, at: Revision) -> Result<Records, Error> {
        let range = Range { prefix, ..Range::default() };
        let Found { mut keys, view, .. } = self.read(move |engine| engine.find(&range, Some(at))).await??;
        let view = Arc::new(view);
        keys.sort_unstable_by(|(key, revision), (other, at)| (revision, key).cmp(&(at, other)));
        let mut pieces = Vec::with_capacity(keys.len().div_ceil(PIECE));
        while !keys.is_empty() {
            pieces.push(keys.split_off(keys.len().saturating_sub(1) / PIECE * PIECE));
        }
        pieces.reverse();
        let engine = Arc::clone(self);
        let read = move |piece: Vec<(Key, Revision)>| {
            let (engine, view) = (Arc::clone(&engine), Arc::clone(&view));
            let records = move |_: &Self| records(&*view, &piece);
            async move { engine.read(records).await? }
        };
        let records = stream::iter(pieces).map(read).buffered(AHEAD);
        Ok(records.scan(false, |ended, piece| ready(end_after_error(ended, piece))).boxed())
    }

    /// The events under `prefix` later than `after`, as many as fit in one batch.
    pub(crate) fn history(&self, prefix: &str, after: Revision, newest: Revision) -> Result<Batch, Error> {
        let view = self.medium()?.view();
        self.not_compacted(after)?;
        let mut batch = Batch { events: Vec::new(), revision: newest };
        let (mut size, mut last) = (0, after);
        for entry in view.entries(after, newest) {
            let entry = entry?;
            if size >= HISTORY && entry.revision > last {
                batch.revision = last;
                break;
            }
            last = entry.revision;
            if entry.key.as_str().starts_with(prefix) {
                size += entry.size();
                batch.events.push(entry.event());
            }
        }
        Ok(batch)
    }

    /// What a key was, its present first, then, life by life, what came before.
    pub(crate) fn versions(
        &self,
        key: &Key,
        until: Option<Revision>,
        limit: usize,
    ) -> Result<History, Error> {
        let (live, view) = {
            let index = self.index();
            (index.get(key), self.medium()?.view())
        };
        let mut history = History::default();
        let mut size = 0;
        for life in live.map(|live| live.revision).into_iter().chain(view.graves(key)?) {
            let mut at = life;
            while at > Revision::ZERO {
                // What the history held before that is gone.
                let Some(entry) = view.entry(key, at)? else { break };
                at = entry.prior.revision;
                if until.is_some_and(|until| entry.revision > until) {
                    continue;
                }
                if history.versions.len() >= limit || size >= VERSIONS {
                    history.more = true;
                    return Ok(history);
                }
                size += entry.size();
                history.versions.push(entry.into_version());
            }
        }
        Ok(history)
    }

    /// Whether a watch can start there.
    pub(crate) fn can_watch(&self, after: Revision) -> Result<(), Error> {
        let newest = self.newest()?;
        if after > newest {
            return Err(Error::Future { newest });
        }
        self.not_compacted(after)
    }

    fn not_compacted(&self, revision: Revision) -> Result<(), Error> {
        let floor = self.floor();
        if revision < floor { Err(Error::Compacted { floor }) } else { Ok(()) }
    }

    /// Raises the floor and removes what only the changes below it needed; then what the history need not tell
    /// any more. Should it be cut short, the next one starts where it stopped.
    pub(crate) async fn compact(
        self: &Arc<Self>,
        floor: Revision,
        now: u64,
        keep: Retention,
    ) -> Result<(), Error> {
        let mut progress = self.progress.lock().await;
        let newest = self.newest()?;
        if floor > newest {
            return Err(Error::Future { newest });
        }
        if floor > self.floor() {
            self.medium()?.raise_floor(floor)?;
            self.floor.store(floor.get(), Ordering::Release);
        }
        let floor = self.floor();
        while progress.swept < floor {
            let from = *progress;
            *progress = self.read(move |engine| engine.sweep(from, floor)).await??;
        }
        loop {
            let from = *progress;
            *progress = self.read(move |engine| engine.forget_past(from, now, keep)).await??;
            if progress.past == from.past {
                return Ok(());
            }
        }
    }

    /// One step of a sweep below the floor.
    ///
    /// An entry makes the one that it superseded useless, unless the history tells that one; a deletion that
    /// the history does not tell is useless itself. So the sweep looks at the entries between the last floor
    /// and the new one, and nothing else.
    fn sweep(&self, from: Progress, floor: Revision) -> Result<Progress, Error> {
        let medium = self.medium()?;
        let mut step = Sweep::new(from, from.swept);
        let mut swept = floor;
        for entry in medium.view().entries(from.swept, floor) {
            let entry = entry?;
            if step.is_full(&entry) {
                swept = step.last;
                break;
            }
            step.look(&entry);
            if entry.before > Revision::ZERO && entry.before == entry.prior.revision {
                step.progress.kept += u64::from(entry.prior.size);
            } else if entry.before > Revision::ZERO {
                step.forget(entry.before, &entry.key, false);
            }
            if entry.value.is_none() && !entry.is_grave() {
                step.forget(entry.revision, &entry.key, false);
            }
        }
        let progress = Progress { swept, ..step.progress };
        medium.forget(&step.useless, progress)?;
        Ok(progress)
    }

    /// One step of a sweep of the history: what was superseded or deleted too long ago goes, and the oldest
    /// where there is too much.
    fn forget_past(&self, from: Progress, now: u64, keep: Retention) -> Result<Progress, Error> {
        let medium = self.medium()?;
        let Retention { period, bytes } = keep;
        let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        let mut step = Sweep::new(from, from.past);
        let mut past = from.swept;
        for entry in medium.view().entries(from.past, from.swept) {
            let entry = entry?;
            let is_kept = entry.note.as_ref().is_some_and(|stamp| stamp.at.saturating_add(period) > now);
            if step.is_full(&entry) || is_kept && step.progress.kept <= bytes {
                past = step.take_back(entry.revision);
                break;
            }
            step.look(&entry);
            if entry.prior.exists() {
                step.forget(entry.prior.revision, &entry.key, false);
                if entry.note.is_some() || entry.value.is_none() {
                    step.progress.kept = step.progress.kept.saturating_sub(u64::from(entry.prior.size));
                }
            }
            if entry.is_grave() {
                step.forget(entry.revision, &entry.key, true);
            }
        }
        let progress = Progress { past, ..step.progress };
        if progress != from {
            medium.forget(&step.useless, progress)?;
        }
        Ok(progress)
    }
}

/// What a step of a sweep has seen. No revision is split between two steps.
struct Sweep {
    progress: Progress,
    useless: Vec<Useless>,
    seen: usize,
    /// The revision that is being looked at, and what was before it.
    last: Revision,
    before: (Revision, u64, usize),
}

impl Sweep {
    fn new(progress: Progress, after: Revision) -> Self {
        Self { progress, useless: Vec::new(), seen: 0, last: after, before: (after, progress.kept, 0) }
    }

    fn is_full(&self, next: &Entry) -> bool {
        self.seen >= SWEEP && next.revision > self.last
    }

    fn look(&mut self, entry: &Entry) {
        if entry.revision > self.last {
            self.before = (self.last, self.progress.kept, self.useless.len());
        }
        (self.last, self.seen) = (entry.revision, self.seen + 1);
    }

    fn forget(&mut self, revision: Revision, key: &Key, is_grave: bool) {
        self.useless.push(Useless { revision, key: key.clone(), is_grave });
    }

    /// Leaves a revision to another step, of which this one may have seen a part; answers how far this one
    /// went.
    fn take_back(&mut self, revision: Revision) -> Revision {
        if revision > self.last {
            return self.last;
        }
        let (last, kept, useless) = self.before;
        self.progress.kept = kept;
        self.useless.truncate(useless);
        last
    }
}

/// What a range is made of.
struct Found<V> {
    keys: Vec<(Key, Revision)>,
    view: V,
    revision: Revision,
}

/// `None` for what follows an error.
fn end_after_error<T>(ended: &mut bool, item: Result<T, Error>) -> Option<Result<T, Error>> {
    (!std::mem::replace(ended, item.is_err())).then_some(item)
}

/// Turns the newest keys back into what they were before `entries`, the changes since then.
fn rewind(
    now: Vec<(Key, Revision)>,
    entries: impl Iterator<Item = Result<Entry, Error>>,
    wanted: impl Fn(&Key) -> bool,
) -> Result<Vec<(Key, Revision)>, Error> {
    let mut keys: BTreeMap<Key, Revision> = now.into_iter().collect();
    let mut seen = HashSet::new();
    for entry in entries {
        let Entry { key, before, .. } = entry?;
        // The first change of a key knows what was there before.
        if !wanted(&key) || !seen.insert(key.clone()) {
            continue;
        }
        if before > Revision::ZERO {
            keys.insert(key, before);
        } else {
            keys.remove(&key);
        }
    }
    Ok(keys.into_iter().collect())
}

fn record(view: &impl View, key: &Key, revision: Revision) -> Result<Record, Error> {
    view.entry(key, revision)?.and_then(Entry::into_record).ok_or_else(lacking)
}

fn lacking() -> Error {
    Error::damaged("reading a record", "the index names an entry that the log lacks")
}

/// The records of these keys, given in the order of the log. Where the log holds little else between them it is read
/// on, which is cheaper than to look for each.
fn records(view: &impl View, keys: &[(Key, Revision)]) -> Result<Vec<Record>, Error> {
    let (Some((_, first)), Some((_, last))) = (keys.first(), keys.last()) else { return Ok(Vec::new()) };
    let span = usize::try_from(last.get() - first.get()).unwrap_or(usize::MAX);
    if span > keys.len() * DENSE {
        return keys.iter().map(|(key, revision)| record(view, key, *revision)).collect();
    }
    let mut found = Vec::with_capacity(keys.len());
    let mut wanted = keys.iter().peekable();
    for entry in view.entries(Revision(first.get().saturating_sub(1)), *last) {
        let entry = entry?;
        if wanted.next_if(|(key, revision)| entry.revision == *revision && entry.key == *key).is_some() {
            found.push(entry.into_record().ok_or_else(lacking)?);
        }
    }
    wanted.next().map_or(Ok(found), |_| Err(lacking()))
}

/// Transactions that were judged, but are not durable yet. Later ones see what earlier ones do.
struct Draft<'a, M> {
    index: &'a Index,
    medium: &'a M,
    now: u64,
    newest: Revision,
    entries: Vec<Entry>,
    /// Where the newest entry of a key lies.
    at: HashMap<Key, usize>,
}

impl<'a, M: Medium> Draft<'a, M> {
    fn new(index: &'a Index, medium: &'a M, now: u64) -> Self {
        Self { index, medium, now, newest: index.newest(), entries: Vec::new(), at: HashMap::new() }
    }

    /// A key's newest record; `None` where there is none.
    fn current(&self, key: &Key) -> Option<Live> {
        match self.at.get(key) {
            Some(&i) => self.entries[i].live(),
            None => self.index.get(key),
        }
    }

    fn current_record(&self, key: &Key) -> Result<Option<Record>, Error> {
        match self.at.get(key) {
            Some(&i) => Ok(self.entries[i].clone().into_record()),
            None => match self.index.get(key) {
                Some(live) => record(&self.medium.view(), key, live.revision).map(Some),
                None => Ok(None),
            },
        }
    }

    fn judge(&mut self, writes: Vec<Write>) -> Result<Outcome, Error> {
        let mut keys = HashSet::with_capacity(writes.len());
        for Write { key, expect, .. } in &writes {
            if !keys.insert(key) {
                return Err(Error::DuplicateKey { key: key.clone() });
            }
            let holds = match (expect, self.current(key)) {
                (Expect::Absent, None) => true,
                (Expect::At(expected), Some(current)) => *expected == current.revision,
                _ => false,
            };
            if !holds {
                return Ok(Outcome::Conflict { key: key.clone(), current: self.current_record(key)? });
            }
        }
        let revision = self.newest.next();
        for Write { key, expect, change, note } in writes {
            let (value, expires) = match change {
                Change::Put { value, ttl } => (Some(value), ttl.map(|ttl| Deadline::after(self.now, ttl))),
                // To delete what is not there is to do nothing.
                Change::Delete if expect == Expect::Absent => continue,
                Change::Delete => (None, None),
            };
            let (before, prior) = self
                .current(&key)
                .map_or((Revision::ZERO, Noted::default()), |current| (current.revision, current.noted));
            let note = note.map(|note| Stamp { at: self.now, note });
            self.at.insert(key.clone(), self.entries.len());
            self.entries.push(Entry { revision, key, before, expires, prior, note, value });
            self.newest = revision;
        }
        Ok(Outcome::Committed(self.newest))
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
