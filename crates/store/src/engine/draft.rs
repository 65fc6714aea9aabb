//! Transactions are judged one after the other, before they are durable.

use std::collections::{HashMap, HashSet};

use super::{Medium, read::record};
use crate::{
    Change, Error, Expect, Key, Outcome, Record, Revision, Write,
    index::{Deadline, Index, Live},
    log::{Entry, Noted, Stamp},
};

/// Transactions that were judged, but are not durable yet. Later ones see what earlier ones do.
pub(super) struct Draft<'a, M> {
    index: &'a Index,
    medium: &'a M,
    now: u64,
    newest: Revision,
    pub(super) entries: Vec<Entry>,
    /// Where the newest entry of a key lies.
    at: HashMap<Key, usize>,
}

impl<'a, M: Medium> Draft<'a, M> {
    pub(super) fn new(index: &'a Index, medium: &'a M, now: u64) -> Self {
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

    pub(super) fn judge(&mut self, writes: Vec<Write>) -> Result<Outcome, Error> {
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
