//! One version of a collection, and the ring of changes that leads to the newest.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tiphys_api::tree::{Iter, Tree};
use tiphys_store::Revision;
use tokio::time::Instant;

use super::{Change, Filter, Frames, Notice, Object, Spec, list::Matching};

/// All objects as of one revision, by key and by the values of indexed fields. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Root {
    namespaced: bool,
    objects: Tree<Arc<Object>>,
    /// One for each of [`Spec::indexed`]; keys are the value, a zero byte and the object's key.
    indexes: Vec<(Arc<str>, Tree<Arc<Object>>)>,
}

fn index_key(value: &str, key: &str) -> String {
    format!("{value}\0{key}")
}

impl Root {
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn new(spec: &Spec) -> Self {
        let indexes = spec.indexed.iter().map(|field| (field.as_str().into(), Tree::default())).collect();
        Self { namespaced: spec.namespaced, objects: Tree::default(), indexes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.len() == 0
    }

    pub(super) fn get(&self, key: &str) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// Sets what a key is; returns what it was.
    pub(super) fn set(&mut self, key: &Arc<str>, object: Option<&Arc<Object>>) -> Option<Arc<Object>> {
        let before = match object {
            Some(object) => self.objects.insert(Arc::clone(key), Arc::clone(object)),
            None => self.objects.remove(key),
        };
        for (field, index) in &mut self.indexes {
            let old = before.as_ref().and_then(|o| o.field(field));
            let new = object.and_then(|o| o.field(field));
            if let Some(old) = old.filter(|old| new != Some(old)) {
                index.remove(&index_key(old, key));
            }
            if let (Some(new), Some(object)) = (new, object) {
                index.insert(index_key(new, key).into(), Arc::clone(object));
            }
        }
        before
    }

    /// The objects from `start` on that the filter lets through, in key order.
    pub(super) fn matching(&self, filter: Filter, start: &str, limit: usize) -> Matching {
        let scope = filter.only_key(self.namespaced).unwrap_or_else(|| filter.prefix());
        let start = if start > scope.as_str() { start } else { &scope };
        let indexed =
            self.indexes.iter().find_map(|(field, index)| Some((filter.fields.exact(field)?, index)));
        let (entries, prefix): (Iter<_>, _) = match indexed {
            Some((value, index)) => (index.iter_from(&index_key(value, start)), index_key(value, &scope)),
            None => (self.objects.iter_from(start), scope),
        };
        Matching { entries, prefix, filter, limit }
    }

    /// The objects whose indexed field has this value; none for a field that is not indexed.
    pub(super) fn by_field(
        &self,
        field: &str,
        value: &str,
    ) -> impl Iterator<Item = Arc<Object>> + Send + use<> {
        let index = self.indexes.iter().find(|(f, _)| **f == *field).map(|(_, index)| index);
        let prefix = index_key(value, "");
        let entries = index.map(|index| index.iter_from(&prefix));
        entries.into_iter().flatten().take_while(move |(key, _)| key.starts_with(&prefix)).map(|(_, o)| o)
    }

    /// How many keys with this prefix there are from `start` on.
    pub(super) fn count(&self, prefix: &str, start: &str) -> usize {
        // '0' is the character after '/': every key of the namespace is before it, all later ones are not.
        let end = prefix.strip_suffix('/').map(|namespace| format!("{namespace}0"));
        let end = end.map_or(self.objects.len(), |end| self.objects.rank(&end));
        end.saturating_sub(self.objects.rank(start.max(prefix)))
    }
}

/// One change of one object.
#[derive(Debug)]
pub(super) struct Happened {
    pub(super) revision: Revision,
    pub(super) key: Arc<str>,
    pub(super) before: Option<Arc<Object>>,
    /// `None`: deleted.
    pub(super) now: Option<Arc<Object>>,
    when: Instant,
    /// What was there before, as it is told to those whose filter it leaves.
    gone: OnceLock<Arc<Object>>,
}

/// The frames of one change for all who are told of it at once. They live as long as somebody has still to
/// send them; the ring keeps none.
#[derive(Debug, Default)]
pub(super) struct Shared {
    added: Arc<Frames>,
    modified: Arc<Frames>,
    deleted: Arc<Frames>,
}

impl Happened {
    pub(super) fn new(
        revision: Revision,
        key: Arc<str>,
        before: Option<Arc<Object>>,
        now: Option<Arc<Object>>,
        when: Instant,
    ) -> Self {
        Self { revision, key, before, now, when, gone: OnceLock::new() }
    }

    /// What a watcher with this filter is told.
    pub(super) fn notice(&self, filter: &Filter, frames: &Shared) -> Option<Notice> {
        let before = self.before.as_ref().filter(|o| filter.matches(o));
        let now = self.now.as_ref().filter(|o| filter.matches(o));
        let gone =
            |before: &Object| self.gone.get_or_init(|| Arc::new(before.deleted_at(self.revision))).clone();
        let (change, object) = Change::seen(before, now)?;
        let (object, frames) = match change {
            Change::Added => (Arc::clone(object), &frames.added),
            Change::Modified => (Arc::clone(object), &frames.modified),
            Change::Deleted => (gone(object), &frames.deleted),
        };
        let before = before.filter(|_| filter.rough && change == Change::Modified).map(|before| gone(before));
        Some(Notice::Object { change, object, before, frames: Arc::clone(frames) })
    }

    fn size(&self) -> usize {
        let size = |object: &Option<Arc<Object>>| object.as_ref().map_or(0, |o| o.size());
        size(&self.before) + size(&self.now)
    }
}

/// The last changes without a gap.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Arc<Happened>>,
    size: usize,
    /// Changes up to here are no longer known.
    floor: Revision,
}

impl Ring {
    pub(super) fn new(floor: Revision) -> Self {
        Self { events: VecDeque::new(), size: 0, floor }
    }

    /// The oldest revision that a watch can start after.
    pub(super) fn floor(&self) -> Revision {
        self.floor
    }

    pub(super) fn push(&mut self, event: Arc<Happened>, max_events: usize, max_size: usize) {
        self.size += event.size();
        self.events.push_back(event);
        while self.events.len() > max_events || self.size > max_size {
            if self.pop().is_none() {
                break;
            }
        }
    }

    /// Lets go what is older than `window`.
    pub(super) fn age(&mut self, now: Instant, window: Duration) {
        while self.events.front().is_some_and(|e| now.saturating_duration_since(e.when) >= window) {
            self.pop();
        }
    }

    fn pop(&mut self) -> Option<()> {
        let old = self.events.pop_front()?;
        self.size -= old.size();
        self.floor = self.floor.max(old.revision);
        Some(())
    }

    /// The changes later than a revision, which must not be below the floor.
    pub(super) fn after(&self, revision: Revision) -> impl DoubleEndedIterator<Item = &Arc<Happened>> {
        let from = self.events.partition_point(|e| e.revision <= revision);
        self.events.range(from..)
    }

    /// What the collection was at a revision, which must not be below the floor.
    pub(super) fn rewind(&self, newest: &Root, revision: Revision) -> Root {
        let mut root = newest.clone();
        for event in self.after(revision).rev() {
            root.set(&event.key, event.before.as_ref());
        }
        root
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
