//! What there is, what there was, and what happened in between.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use futures::{StreamExt, future::ready, stream};

use super::{Engine, Medium, View};
use crate::{Batch, Error, History, Key, Page, Range, Record, Records, Revision, log::Entry};

/// What one batch of history holds at most (and one revision more), in bytes.
const HISTORY: usize = 1 << 20;
/// How many records one piece of a scan has, and how many pieces are read ahead.
const PIECE: usize = 512;
const AHEAD: usize = 2;
/// Of how many revisions one must be wanted for all of them to be read.
const DENSE: usize = 4;
/// What one answer of versions holds at most (and one version more), in bytes.
const VERSIONS: usize = 8 << 20;

impl<M: Medium> Engine<M> {
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

pub(super) fn record(view: &impl View, key: &Key, revision: Revision) -> Result<Record, Error> {
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
