//! The living keys, in memory: what a write is judged by.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
    ops::Bound,
    time::Duration,
};

use crate::{
    Key, Revision,
    log::{Entry, Noted},
};

/// When a record is to be deleted, in milliseconds of the engine's clock, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(NonZeroU64);

impl Deadline {
    /// A moment in milliseconds; `None` for zero, which the log uses for "never".
    pub(crate) fn from_millis(millis: u64) -> Option<Self> {
        NonZeroU64::new(millis).map(Self)
    }

    pub(crate) fn after(now_millis: u64, ttl: Duration) -> Self {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Self(NonZeroU64::MIN.saturating_add(now_millis.saturating_add(ttl).saturating_sub(1)))
    }

    pub(crate) fn millis(self) -> u64 {
        self.0.get()
    }
}

/// The newest record of a living key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) revision: Revision,
    pub(crate) expires: Option<Deadline>,
    /// The newest record that has a note.
    pub(crate) noted: Noted,
}

/// Every living key with its newest revision, and what is to expire when.
#[derive(Debug, Default)]
pub(crate) struct Index {
    live: BTreeMap<Key, Live>,
    deadlines: BTreeSet<(Deadline, Key)>,
    newest: Revision,
}

impl Index {
    pub(crate) fn newest(&self) -> Revision {
        self.newest
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Live> {
        self.live.get(key).copied()
    }

    /// Living keys that start with `prefix`, later than `after`, in order.
    pub(crate) fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a Key>,
    ) -> impl Iterator<Item = (&'a Key, Live)> {
        let start = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        self.live
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.as_str().starts_with(prefix))
            .map(|(key, live)| (key, *live))
    }

    /// Takes in a committed change. Changes come in revision order.
    pub(crate) fn apply(&mut self, entry: &Entry) {
        self.set(entry.key.clone(), entry.live());
        self.reached(entry.revision);
    }

    /// Sets what a key is, as read from disk.
    pub(crate) fn set(&mut self, key: Key, live: Option<Live>) {
        let old = match live {
            Some(live) => self.live.insert(key.clone(), live),
            None => self.live.remove(&key),
        };
        if let Some(at) = old.and_then(|o| o.expires) {
            self.deadlines.remove(&(at, key.clone()));
        }
        if let Some(at) = live.and_then(|l| l.expires) {
            self.deadlines.insert((at, key));
        }
    }

    /// `revision` has happened.
    pub(crate) fn reached(&mut self, revision: Revision) {
        self.newest = self.newest.max(revision);
    }

    /// When the next record expires.
    pub(crate) fn next_deadline(&self) -> Option<Deadline> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Up to `limit` records whose time has come.
    pub(crate) fn due(&self, now_millis: u64, limit: usize) -> Vec<(Key, Revision)> {
        self.deadlines
            .iter()
            .take_while(|(at, _)| at.millis() <= now_millis)
            .filter_map(|(_, key)| self.live.get(key).map(|live| (key.clone(), live.revision)))
            .take(limit)
            .collect()
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
