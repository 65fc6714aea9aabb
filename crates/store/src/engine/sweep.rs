//! What goes from the log: superseded entries below the floor, and what the history need not tell any more.

use std::sync::{Arc, atomic::Ordering};

use super::{Engine, Medium, View};
use crate::{Error, Key, Retention, Revision, log::Entry};

/// How many entries one step of a sweep looks at.
pub(super) const SWEEP: usize = 512;

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

impl<M: Medium> Engine<M> {
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
