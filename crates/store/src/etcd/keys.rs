//! What the engine writes into etcd: names and values.
//!
//! A record `/registry/…` has that name after the cluster's prefix. What the engine keeps for itself is named
//! `~…` after the prefix, where no record can be:
//! - `~history<key>/<count><v|d>`: a version of a key that is no more, or (`d`) its end. The count runs down from the
//!   highest number by the revision of the version, so that the newest comes first.
//! - `~ledger/<time>-<revision>-<bytes>`: a page of such names, one a line: when they became history, up to which
//!   change, and how many bytes of values they hold. Numbers in names have sixteen hexadecimal digits.
//! - `~progress`: the revision, in decimal, up to which what was superseded is in the history.
//! - `~turn`: there while one of the servers compacts.
//!
//! A value is followed by its note and the note's length in two bytes, all ones where there is none.

use bytes::{BufMut, Bytes, BytesMut};

use super::wire::KeyValue;
use crate::{Error, Key, Note, Record, Revision};

const NO_NOTE: u16 = u16::MAX;

/// Where one cluster's keys are.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// Whether a name in the history is that of a version or of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    Version,
    End,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    pub(super) fn name(&self, key: &str) -> Bytes {
        Bytes::from([&self.prefix, key].concat())
    }

    /// The record that has this name.
    pub(super) fn key<'a>(&self, name: &'a [u8]) -> Option<&'a str> {
        let key = std::str::from_utf8(name).ok()?.strip_prefix(&*self.prefix)?;
        key.starts_with('/').then_some(key)
    }

    /// Where the names of records begin whose keys start with `prefix`, and where they end.
    pub(super) fn under(&self, prefix: &str) -> (Bytes, Bytes) {
        let start = self.name(if prefix.is_empty() { "/" } else { prefix });
        let end = end_of(&start);
        (start, end)
    }

    pub(super) fn turn(&self) -> Bytes {
        self.name("~turn")
    }

    pub(super) fn progress(&self) -> Bytes {
        self.name("~progress")
    }

    pub(super) fn ledger(&self) -> Bytes {
        self.name("~ledger/")
    }

    /// What all names in a key's history start with.
    pub(super) fn pasts(&self, key: &str) -> Bytes {
        Bytes::from([&self.prefix, "~history", key, "/"].concat())
    }

    /// The name of a version of a key, or of the end of that version.
    pub(super) fn past(&self, key: &str, revision: Revision, what: Past) -> Bytes {
        let (count, what) = (!revision.get(), if what == Past::Version { 'v' } else { 'd' });
        Bytes::from(format!("{}~history{key}/{count:016x}{what}", self.prefix))
    }

    /// What a name says that follows [`Self::pasts`].
    pub(super) fn read_past(rest: &[u8]) -> Option<(Revision, Past)> {
        let (count, what) = std::str::from_utf8(rest).ok()?.split_at_checked(16)?;
        let revision = Revision(!u64::from_str_radix(count, 16).ok()?);
        match what {
            "v" => Some((revision, Past::Version)),
            "d" => Some((revision, Past::End)),
            _ => None,
        }
    }

    /// Whether this is the name of a key's end.
    pub(super) fn is_end(&self, name: &[u8]) -> bool {
        let rest = name.strip_prefix(self.prefix.as_bytes()).and_then(|rest| rest.strip_prefix(b"~history"));
        rest.is_some_and(|rest| rest.ends_with(b"d"))
    }

    pub(super) fn record(&self, found: KeyValue) -> Result<Record, Error> {
        let key = self.key(&found.key).ok_or_else(|| damaged("a name is not that of a record"))?;
        let (key, revision) = (Key::new(key), revision(found.mod_revision));
        Ok(Record { key, value: open(found.value)?.0, revision })
    }
}

/// The first name after all that start with `prefix`.
pub(super) fn end_of(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    // There is none: zero stands for "no end".
    Bytes::from_static(&[0])
}

/// A revision as etcd has it. Etcd's first is that of nothing.
pub(super) fn revision(number: i64) -> Revision {
    let number = u64::try_from(number).unwrap_or_default();
    if number <= 1 { Revision::ZERO } else { Revision(number) }
}

/// The number that etcd knows a revision by.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.get()).unwrap_or(i64::MAX).max(1)
}

/// A value with its note, as it is stored.
pub(super) fn seal(value: &[u8], note: Option<&Note>) -> Bytes {
    let text: &[u8] = note.map_or(&[], |note| note.text());
    let mut stored = BytesMut::with_capacity(value.len() + text.len() + 2);
    stored.put_slice(value);
    stored.put_slice(text);
    // A note is at most 4 KiB.
    stored.put_u16(note.map_or(NO_NOTE, |_| u16::try_from(text.len()).unwrap_or(NO_NOTE)));
    stored.freeze()
}

/// A stored value and its note.
pub(super) fn open(mut stored: Bytes) -> Result<(Bytes, Option<Note>), Error> {
    let cut_short = || damaged("a value is cut short");
    let at = stored.len().checked_sub(2).ok_or_else(cut_short)?;
    let length = stored.split_off(at);
    let length = u16::from_be_bytes([length[0], length[1]]);
    if length == NO_NOTE {
        return Ok((stored, None));
    }
    let at = stored.len().checked_sub(usize::from(length)).ok_or_else(cut_short)?;
    let note = stored.split_off(at);
    Ok((stored, Some(Note::new(note).ok_or_else(|| damaged("a note is too long"))?)))
}

/// Whether a stored value has a note.
pub(super) fn is_noted(stored: &[u8]) -> bool {
    stored.last_chunk::<2>().is_some_and(|length| u16::from_be_bytes(*length) != NO_NOTE)
}

pub(super) fn damaged(what: &'static str) -> Error {
    Error::damaged("reading from etcd", what)
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
