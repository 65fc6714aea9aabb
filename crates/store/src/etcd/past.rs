//! What a key was: what is written down of it, and what etcd itself still has.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Inner, Keys, Past,
    keys::{self, end_of},
    wire::{KeyValue, RangeRequest},
};
use crate::{Error, History, Key, Revision, Version};

/// What one answer of versions holds at most (and one version more), in bytes.
const VERSIONS: usize = 8 << 20;
/// How many versions are asked for at once.
const PIECE: i64 = 16;
/// How far back one life is followed in etcd's own past, and how often an answer is begun again because the past
/// was compacted meanwhile.
const STEPS: usize = 1024;
const ATTEMPTS: usize = 3;

/// The past while it is put together: by revision, the newest last.
#[derive(Default)]
struct Found {
    versions: BTreeMap<Revision, Version>,
    bytes: usize,
    more: bool,
}

impl Found {
    fn add(&mut self, version: Version) {
        self.bytes += version.value.as_ref().map_or(0, Bytes::len);
        self.versions.insert(version.revision, version);
    }

    /// What is told of it. The end of a life of which nothing is told is not.
    fn told(self, now: Option<Revision>, until: Option<Revision>, limit: usize) -> History {
        let mut told: Vec<Version> = Vec::new();
        let mut is_told = false;
        for version in self.versions.into_values() {
            let is_end = version.value.is_none();
            let is_noted = version.note.is_some();
            if is_noted || Some(version.revision) == now || is_end && is_told {
                told.push(version);
            }
            is_told = !is_end && (is_told || is_noted);
        }
        told.reverse();
        told.retain(|version| until.is_none_or(|until| version.revision <= until));
        let mut history = History { more: self.more || told.len() > limit, versions: told };
        history.versions.truncate(limit);
        history
    }
}

impl Inner {
    pub(super) async fn versions(
        &self,
        key: &Key,
        until: Option<Revision>,
        limit: usize,
    ) -> Result<History, Error> {
        let (mut attempts, mut floor) = (1..=ATTEMPTS, Revision::ZERO);
        loop {
            // What was compacted by now is written down, or is gone if it was etcd's own doing.
            let archived = self.archived().await?.max(floor);
            match self.try_versions(key.as_str(), archived, until, limit).await {
                Err(Error::Compacted { floor: now }) if attempts.next().is_some() => floor = now,
                answer => return answer,
            }
        }
    }

    /// `archived`: what was superseded up to then is found where it is written down.
    async fn try_versions(
        &self,
        key: &str,
        archived: Revision,
        until: Option<Revision>,
        limit: usize,
    ) -> Result<History, Error> {
        let mut found = Found::default();
        // At which revisions a version was superseded that is followed further back.
        let mut lives = Vec::new();
        let now = self.get(self.keys.name(key), None).await;
        let now = now.map_err(|failure| failure.of_read("reading a history"))?;
        let now_at = now.as_ref().map(|kv| keys::revision(kv.mod_revision));
        if let Some(now) = now {
            lives.extend((!is_first(&now)).then_some(keys::revision(now.mod_revision)));
            found.add(version(now)?);
        }
        self.written_down(key, until, limit, &mut found, &mut lives).await?;
        for superseded in lives {
            self.follow(key, superseded, archived, until, &mut found).await?;
        }
        Ok(found.told(now_at, until, limit))
    }

    /// Reads what is written down, the newest first, and which lives have ended.
    async fn written_down(
        &self,
        key: &str,
        until: Option<Revision>,
        limit: usize,
        found: &mut Found,
        lives: &mut Vec<Revision>,
    ) -> Result<(), Error> {
        let pasts = self.keys.pasts(key);
        let from = self.keys.past(key, until.unwrap_or(Revision(u64::MAX)), Past::End);
        let (mut start, end) = (from, end_of(&pasts));
        // One more tells whether there is more.
        while found.versions.len() <= limit && found.bytes < VERSIONS {
            let request =
                RangeRequest { key: start, range_end: end.clone(), limit: PIECE, ..RangeRequest::default() };
            let answer = self.ask(request).await.map_err(|failure| failure.of_read("reading a history"))?;
            let Some(last) = answer.kvs.last() else { return Ok(()) };
            start = [&last.key[..], &[0]].concat().into();
            for kv in answer.kvs {
                let Some((revision, what)) = Keys::read_past(&kv.key[pasts.len()..]) else { continue };
                let ended = keys::revision(kv.mod_revision);
                let (value, note) = keys::open(kv.value)?;
                match what {
                    Past::Version => found.add(Version { revision, value: Some(value), note }),
                    Past::End => {
                        lives.push(ended);
                        found.add(Version { revision: ended, value: None, note });
                    }
                }
            }
            if !answer.more {
                return Ok(());
            }
        }
        found.more = true;
        Ok(())
    }

    /// Reads what was superseded at a revision, and what came before it, back to where it is written down.
    async fn follow(
        &self,
        key: &str,
        mut superseded: Revision,
        archived: Revision,
        until: Option<Revision>,
        found: &mut Found,
    ) -> Result<(), Error> {
        for _ in 0..STEPS {
            if superseded <= archived {
                return Ok(());
            }
            if found.bytes >= VERSIONS {
                break;
            }
            // Nothing later is wanted, and nothing earlier is there for sure.
            let at = superseded.earlier(1).min(until.unwrap_or(superseded)).max(archived);
            let kv = match self.get(self.keys.name(key), Some(at)).await {
                Ok(Some(kv)) => kv,
                Ok(None) => return Ok(()),
                Err(failure) => return Err(self.out_of(at, "reading a history", failure).await),
            };
            superseded = keys::revision(kv.mod_revision);
            let is_first = is_first(&kv);
            if !found.versions.contains_key(&superseded) {
                found.add(version(kv)?);
            }
            if is_first {
                return Ok(());
            }
        }
        found.more = true;
        Ok(())
    }

    /// Everything that was superseded up to here is written down.
    pub(super) async fn archived(&self) -> Result<Revision, Error> {
        let kv = self.get(self.keys.progress(), None).await;
        let kv = kv.map_err(|failure| failure.of_read("reading how far the history is written down"))?;
        let Some(kv) = kv else { return Ok(Revision::ZERO) };
        std::str::from_utf8(&kv.value)
            .ok()
            .and_then(Revision::parse)
            .ok_or_else(|| keys::damaged("the progress of the history is no number"))
    }
}

/// Whether the key was not there before.
fn is_first(kv: &KeyValue) -> bool {
    kv.create_revision == kv.mod_revision
}

fn version(kv: KeyValue) -> Result<Version, Error> {
    let (value, note) = keys::open(kv.value)?;
    Ok(Version { revision: keys::revision(kv.mod_revision), value: Some(value), note })
}

#[cfg(test)]
#[path = "past_tests.rs"]
mod tests;
