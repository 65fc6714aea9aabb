//! The log's entries and their bytes on disk.
//!
//! All numbers are big endian.
//! Keyspace `log`: revision (8 bytes) and key → flags (1 put, 2 noted), the revision that this entry superseded
//! (8, 0 for none), deadline (8, 0 for none), the noted revision before this one (8, 0 for none) and the size of
//! its value (4); of a noted entry, when it was written (8), the size of its note (2), the note; the value.
//! Keyspace `index`: key → newest revision, deadline, newest noted revision, the size of its value. A deleted
//! key has no row.
//! Keyspace `graves`: key, zero and revision → nothing, for each noted deletion that the log still has.

use bytes::{Buf, BufMut, Bytes};

use crate::{
    Error, Event, Key, Note, Record, Revision, Version,
    engine::Progress,
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
    /// The key's last noted entry before this one.
    pub(crate) prior: Noted,
    pub(crate) note: Option<Stamp>,
    /// `None`: deleted.
    pub(crate) value: Option<Bytes>,
}

/// A note, and the engine's time in milliseconds when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) at: u64,
    pub(crate) note: Note,
}

/// Where a key's history goes on; at revision zero it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) revision: Revision,
    /// How many bytes its value has.
    pub(crate) size: u32,
}

impl Noted {
    pub(crate) fn exists(self) -> bool {
        self.revision > Revision::ZERO
    }
}

const PUT: u8 = 1;
const NOTED: u8 = 2;

impl Entry {
    pub(crate) fn event(&self) -> Event {
        Event { key: self.key.clone(), revision: self.revision, value: self.value.clone() }
    }

    /// `None` for a deletion.
    pub(crate) fn into_record(self) -> Option<Record> {
        let Self { key, revision, value, .. } = self;
        value.map(|value| Record { key, value, revision })
    }

    pub(crate) fn into_version(self) -> Version {
        Version { revision: self.revision, value: self.value, note: self.note.map(|stamp| stamp.note) }
    }

    /// What the index says of the key after this entry.
    pub(crate) fn live(&self) -> Option<Live> {
        let Self { revision, expires, .. } = *self;
        self.value.as_ref().map(|_| Live { revision, expires, noted: self.noted() })
    }

    /// Where the history of the next change of this key goes on.
    pub(crate) fn noted(&self) -> Noted {
        match (&self.note, &self.value) {
            // What a new object is named after does not belong to it; it is found by its grave.
            (_, None) => Noted::default(),
            (None, Some(_)) => self.prior,
            (Some(_), Some(value)) => {
                Noted { revision: self.revision, size: u32::try_from(value.len()).unwrap_or(u32::MAX) }
            }
        }
    }

    /// Whether this is a deletion that the history tells.
    pub(crate) fn is_grave(&self) -> bool {
        self.value.is_none() && (self.note.is_some() || self.prior.exists())
    }

    /// Roughly what the entry takes in memory.
    pub(crate) fn size(&self) -> usize {
        self.key.as_str().len() + self.value.as_ref().map_or(0, Bytes::len) + 64
    }

    pub(crate) fn encode_value(&self, into: &mut Vec<u8>) {
        into.clear();
        let flag = |flag, set| if set { flag } else { 0 };
        into.push(flag(PUT, self.value.is_some()) | flag(NOTED, self.note.is_some()));
        into.put_u64(self.before.get());
        into.put_u64(self.expires.map_or(0, Deadline::millis));
        into.put_u64(self.prior.revision.get());
        into.put_u32(self.prior.size);
        if let Some(Stamp { at, note }) = &self.note {
            into.put_u64(*at);
            into.put_u16(u16::try_from(note.0.len()).expect("a note is at most 4 KiB"));
            into.put_slice(&note.0);
        }
        into.put_slice(self.value.as_deref().unwrap_or_default());
    }

    /// Reads a row of the keyspace `log`.
    pub(crate) fn decode(key: &[u8], mut value: Bytes) -> Result<Self, Error> {
        let (revision, key) = split_u64(key).ok_or_else(cut_short)?;
        let key =
            std::str::from_utf8(key).map_err(|_| Error::damaged("reading the log", "a key is no text"))?;
        let flags = value.try_get_u8().map_err(|_| cut_short())?;
        let before = number(&mut value)?;
        let expires = number(&mut value)?;
        let prior = number(&mut value)?;
        let size = value.try_get_u32().map_err(|_| cut_short())?;
        let note = if flags & NOTED == 0 {
            None
        } else {
            let at = number(&mut value)?;
            let length = usize::from(value.try_get_u16().map_err(|_| cut_short())?);
            if length > value.len() {
                return Err(cut_short());
            }
            Some(Stamp { at, note: Note(value.split_to(length)) })
        };
        Ok(Self {
            revision: Revision(revision),
            key: Key::new(key),
            before: Revision(before),
            expires: Deadline::from_millis(expires),
            prior: Noted { revision: Revision(prior), size },
            note,
            value: (flags & PUT != 0).then_some(value),
        })
    }
}

fn cut_short() -> Error {
    Error::damaged("reading the log", "an entry is cut short")
}

fn number(from: &mut Bytes) -> Result<u64, Error> {
    from.try_get_u64().map_err(|_| cut_short())
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
pub(crate) fn encode_live(live: Live) -> [u8; 28] {
    let mut row = [0; 28];
    let mut into = &mut row[..];
    into.put_u64(live.revision.get());
    into.put_u64(live.expires.map_or(0, Deadline::millis));
    into.put_u64(live.noted.revision.get());
    into.put_u32(live.noted.size);
    row
}

pub(crate) fn decode_live(mut row: &[u8]) -> Result<Live, Error> {
    let mut read = || {
        Some(Live {
            revision: Revision(row.try_get_u64().ok()?),
            expires: Deadline::from_millis(row.try_get_u64().ok()?),
            noted: Noted { revision: Revision(row.try_get_u64().ok()?), size: row.try_get_u32().ok()? },
        })
    };
    read().ok_or_else(|| Error::damaged("reading the index", "a row is cut short"))
}

/// A row of the keyspace `graves`. The keys of graves of one key lie together, and in order.
pub(crate) fn grave(key: &Key, revision: Revision) -> Vec<u8> {
    [key.as_str().as_bytes(), &[0], &revision.get().to_be_bytes()].concat()
}

/// The revision of a row of `graves`.
pub(crate) fn grave_revision(row: &[u8]) -> Result<Revision, Error> {
    let at = row.len().saturating_sub(8);
    let (revision, _) = row
        .get(at..)
        .and_then(split_u64)
        .ok_or_else(|| Error::damaged("reading the graves", "a row is cut short"))?;
    Ok(Revision(revision))
}

pub(crate) fn decode_revision(row: &[u8]) -> Result<Revision, Error> {
    let (revision, _) =
        split_u64(row).ok_or_else(|| Error::damaged("reading the marks", "a row is cut short"))?;
    Ok(Revision(revision))
}

/// The row of the sweeps' progress.
pub(crate) fn encode_progress(progress: Progress) -> [u8; 24] {
    let mut row = [0; 24];
    let mut into = &mut row[..];
    into.put_u64(progress.swept.get());
    into.put_u64(progress.past.get());
    into.put_u64(progress.kept);
    row
}

pub(crate) fn decode_progress(mut row: &[u8]) -> Result<Progress, Error> {
    let mut read = || {
        Some(Progress {
            swept: Revision(row.try_get_u64().ok()?),
            past: Revision(row.try_get_u64().ok()?),
            kept: row.try_get_u64().ok()?,
        })
    };
    read().ok_or_else(|| Error::damaged("reading the marks", "a row is cut short"))
}

fn split_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*head), rest))
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
