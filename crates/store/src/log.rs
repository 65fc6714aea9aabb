//! The log's entries and their bytes on disk.
//!
//! Keyspace `log`: revision (8 bytes, big endian) and key → flag (1 put, 0 delete), the revision that this
//! entry superseded (8 bytes, 0 for none), deadline (8 bytes, 0 for none), value.
//! Keyspace `index`: key → newest revision, deadline. A deleted key has no row.

use bytes::Bytes;

use crate::{
    Error, Event, Key, Record, Revision,
    index::{Deadline, Live},
};

/// One change in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) revision: Revision,
    pub(crate) key: Key,
    /// The entry of the same key that this one superseded; zero where the key did not exist.
    pub(crate) before: Revision,
    pub(crate) expires: Option<Deadline>,
    /// `None`: deleted.
    pub(crate) value: Option<Bytes>,
}

const HEADER: usize = 17;

impl Entry {
    pub(crate) fn event(&self) -> Event {
        Event { key: self.key.clone(), revision: self.revision, value: self.value.clone() }
    }

    /// `None` for a deletion.
    pub(crate) fn into_record(self) -> Option<Record> {
        let Self { key, revision, value, .. } = self;
        value.map(|value| Record { key, value, revision })
    }

    /// Roughly what the entry takes in memory.
    pub(crate) fn size(&self) -> usize {
        self.key.as_str().len() + self.value.as_ref().map_or(0, Bytes::len) + 64
    }

    pub(crate) fn encode_value(&self, into: &mut Vec<u8>) {
        into.clear();
        into.push(u8::from(self.value.is_some()));
        into.extend_from_slice(&self.before.get().to_be_bytes());
        into.extend_from_slice(&self.expires.map_or(0, Deadline::millis).to_be_bytes());
        into.extend_from_slice(self.value.as_deref().unwrap_or_default());
    }

    /// Reads a row of the keyspace `log`.
    pub(crate) fn decode(key: &[u8], value: Bytes) -> Result<Self, Error> {
        let damaged = || Error::damaged("reading the log", "an entry is cut short");
        let (revision, key) = split_u64(key).ok_or_else(damaged)?;
        let key =
            std::str::from_utf8(key).map_err(|_| Error::damaged("reading the log", "a key is no text"))?;
        let (&put, rest) = value.split_first().ok_or_else(damaged)?;
        let (before, rest) = split_u64(rest).ok_or_else(damaged)?;
        let (expires, _) = split_u64(rest).ok_or_else(damaged)?;
        Ok(Self {
            revision: Revision(revision),
            key: Key::new(key),
            before: Revision(before),
            expires: Deadline::from_millis(expires),
            value: (put == 1).then(|| value.slice(HEADER..)),
        })
    }
}

/// The log's key of an entry.
pub(crate) fn log_key(revision: Revision, key: &Key) -> Vec<u8> {
    [&revision.get().to_be_bytes(), key.as_str().as_bytes()].concat()
}

/// The first log key that an entry later than `revision` can have.
pub(crate) fn log_key_after(revision: Revision) -> [u8; 8] {
    revision.get().saturating_add(1).to_be_bytes()
}

/// The revision in a log key.
pub(crate) fn revision_of(log_key: &[u8]) -> Result<Revision, Error> {
    let (revision, _) =
        split_u64(log_key).ok_or_else(|| Error::damaged("reading the log", "a key is cut short"))?;
    Ok(Revision(revision))
}

/// A row's value in the keyspace `index`.
pub(crate) fn encode_live(live: Live) -> [u8; 16] {
    let mut row = [0; 16];
    row[..8].copy_from_slice(&live.revision.get().to_be_bytes());
    row[8..].copy_from_slice(&live.expires.map_or(0, Deadline::millis).to_be_bytes());
    row
}

pub(crate) fn decode_live(row: &[u8]) -> Result<Live, Error> {
    let damaged = || Error::damaged("reading the index", "a row is cut short");
    let (revision, rest) = split_u64(row).ok_or_else(damaged)?;
    let (expires, _) = split_u64(rest).ok_or_else(damaged)?;
    Ok(Live { revision: Revision(revision), expires: Deadline::from_millis(expires) })
}

pub(crate) fn decode_revision(row: &[u8]) -> Result<Revision, Error> {
    let (revision, _) =
        split_u64(row).ok_or_else(|| Error::damaged("reading the marks", "a row is cut short"))?;
    Ok(Revision(revision))
}

fn split_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*head), rest))
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
