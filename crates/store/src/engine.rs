//! What both engines are made of: a log on a medium, its index, and the source of watches.
//!
//! Transactions are judged by [`draft`], the present and the past are read by [`read`], and what nobody needs any more
//! goes by [`sweep`].

mod draft;
mod read;
mod sweep;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::watch;

use self::draft::Draft;
pub(crate) use self::sweep::{Progress, Useless};
use crate::{
    Change, Error, Expect, Key, Outcome, Revision, Write,
    index::{Deadline, Index},
    log::Entry,
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
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
