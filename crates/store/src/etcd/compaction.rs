//! Compaction, and the history that is written down before.
//!
//! Whoever compacts follows the log from the last compaction to the new one and copies each version with a note that
//! was superseded meanwhile; what is later than that, etcd still has. Copies are listed in pages by age, so that what
//! is too old, or too much, is found without looking at it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use tokio::time::timeout;
use tonic::Code;

use super::{
    Inner, Keys, Past, compare, delete,
    keys::{self, end_of},
    put, told,
    watch::{self, Changes},
    wire::{
        self, CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, RangeRequest, RequestOp, TxnRequest,
        event::EventType, kv_client::KvClient, lease_client::LeaseClient,
    },
};
use crate::{Error, Retention, Revision};

/// How long one server may compact before another may begin, in seconds, and how long it tries.
const TURN: i64 = 300;
const TRY: Duration = Duration::from_secs(240);
/// What one transaction of ours has at most; etcd allows 128 operations and 1.5 MiB.
const OPERATIONS: usize = 60;
const BYTES: usize = 512 << 10;
/// How many names of pages are asked for at once.
const NAMES: i64 = 4096;

/// Writes down what the history will tell of what is older than `floor`, and lets it go; then lets go what the
/// history need not tell any more. Does nothing while another server does it.
pub(super) async fn compact(inner: &Arc<Inner>, floor: Revision) -> Result<(), Error> {
    let newest = inner.revision().await?;
    if floor > newest {
        return Err(Error::Future { newest });
    }
    if floor <= inner.archived().await? {
        return Ok(());
    }
    let turn = match Turn::take(inner).await {
        Ok(Some(turn)) => turn,
        Ok(None) => return Ok(()),
        // The history makes room before writes have to be refused.
        Err(Error::Full { .. }) => return forget(inner, floor).await,
        Err(error) => return Err(error),
    };
    let done = timeout(TRY, turn.compact(floor)).await;
    turn.end().await;
    // What was not reached is below the next floor.
    done.unwrap_or_else(|late| {
        Err(Error::Engine { step: "writing down the history", source: Arc::new(late) })
    })
}

/// Lets etcd forget what is older.
async fn forget(inner: &Inner, floor: Revision) -> Result<(), Error> {
    let revision = keys::number(floor);
    let compact =
        |channel| async move { KvClient::new(channel).compact(CompactionRequest { revision }).await };
    match inner.client.read(compact).await {
        Ok(_) => Ok(()),
        // Etcd may compact by itself, too.
        Err(failure) if failure.refused() == Some(Code::OutOfRange) => Ok(()),
        Err(failure) => Err(failure.of_read("compacting")),
    }
}

/// The right to compact; it ends by itself should its holder not come back.
struct Turn<'a> {
    inner: &'a Arc<Inner>,
    lease: i64,
    /// The revision of the turn, by which etcd knows that it is still this one.
    since: i64,
}

/// What goes into the history in one transaction.
#[derive(Default)]
struct Page {
    /// The names that the page lists.
    names: Vec<Bytes>,
    /// Those of them that are yet to be written, with their values.
    records: Vec<(Bytes, Bytes)>,
    /// How long all of them are.
    bytes: usize,
}

impl<'a> Turn<'a> {
    /// `None`: it is another's.
    async fn take(inner: &'a Arc<Inner>) -> Result<Option<Self>, Error> {
        const STEP: &str = "taking the turn to compact";
        let grant =
            |channel| async { LeaseClient::new(channel).lease_grant(LeaseGrantRequest { ttl: TURN }).await };
        let lease = match inner.client.read(grant).await {
            Ok(granted) => granted.id,
            Err(failure) => return Err(inner.client.of_write(STEP, failure, 0).await),
        };
        let name = inner.keys.turn();
        let txn = TxnRequest {
            compare: vec![compare(name.clone(), 0)],
            success: vec![put(name, Bytes::new(), lease)],
            failure: Vec::new(),
        };
        let turn = Self { inner, lease, since: 0 };
        match inner.txn(&txn).await {
            Ok(answer) if answer.succeeded => {
                Ok(Some(Self { since: keys::number(told(answer.header.as_ref())), ..turn }))
            }
            Ok(_) => {
                turn.end().await;
                Ok(None)
            }
            Err(failure) => {
                turn.end().await;
                Err(inner.client.of_write(STEP, failure, txn.encoded_len()).await)
            }
        }
    }

    async fn end(&self) {
        let id = self.lease;
        let revoke =
            |channel| async move { LeaseClient::new(channel).lease_revoke(LeaseRevokeRequest { id }).await };
        if let Err(failure) = self.inner.client.once(revoke).await {
            tracing::debug!(?failure, "the turn to compact ends by itself");
        }
    }

    async fn compact(&self, floor: Revision) -> Result<(), Error> {
        match self.write_down(floor).await {
            Ok(()) => {}
            Err(error @ Error::Full { .. }) => tracing::warn!(%error, "a part of the history is not kept"),
            Err(error) => return Err(error),
        }
        forget(self.inner, floor).await?;
        self.let_go().await
    }

    /// Commits, if the turn is still ours.
    async fn commit(&self, success: Vec<RequestOp>) -> Result<(), Error> {
        const STEP: &str = "writing down the history";
        let compare = vec![compare(self.inner.keys.turn(), self.since)];
        let txn = TxnRequest { compare, success, failure: Vec::new() };
        match self.inner.txn(&txn).await {
            Ok(answer) if answer.succeeded => Ok(()),
            Ok(_) => {
                Err(Error::io(STEP)(std::io::Error::other("another server has taken the turn to compact")))
            }
            Err(failure) => Err(self.inner.client.of_write(STEP, failure, txn.encoded_len()).await),
        }
    }

    async fn write_down(&self, floor: Revision) -> Result<(), Error> {
        let mut changes = Changes::new(Arc::clone(self.inner), self.inner.archived().await?, true);
        let (mut page, mut reached) = (Page::default(), Revision::ZERO);
        while reached < floor {
            let events = match changes.next().await {
                Ok(events) => events,
                Err(Error::Compacted { floor }) => {
                    tracing::warn!(%floor, "etcd was compacted by others: a part of the history is not kept");
                    changes = Changes::new(Arc::clone(self.inner), floor, true);
                    reached = floor;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for event in events {
                let at = watch::revision(&event);
                if at > reached && page.is_full() {
                    self.write(&mut page, reached).await?;
                }
                if at > floor {
                    break;
                }
                reached = at;
                page.add(&self.inner.keys, event);
            }
            if changes.reached() >= floor {
                reached = floor;
            }
        }
        self.write(&mut page, floor).await
    }

    /// Writes a page, which leads up to a revision.
    async fn write(&self, page: &mut Page, reached: Revision) -> Result<(), Error> {
        let Page { names, records, bytes } = std::mem::take(page);
        let keys = &self.inner.keys;
        for piece in pieces(records) {
            let is_one = piece.len() == 1;
            let writes = piece.into_iter().map(|(name, value)| put(name, value, 0)).collect();
            match self.commit(writes).await {
                // With its longer name it is more than etcd takes.
                Err(Error::TooLarge { .. }) if is_one => tracing::warn!("a version is too long to be kept"),
                written => written?,
            }
        }
        let mut last = vec![put(keys.progress(), Bytes::from(reached.to_string()), 0)];
        if !names.is_empty() {
            let now = (self.inner.options.clock)();
            let name =
                [&keys.ledger()[..], format!("{now:016x}-{:016x}-{bytes:016x}", reached.get()).as_bytes()]
                    .concat();
            last.push(put(name.into(), names.join(&b'\n').into(), 0));
        }
        self.commit(last).await
    }

    /// Lets go what is too old, and the oldest where there is too much.
    async fn let_go(&self) -> Result<(), Error> {
        let inner = self.inner;
        let failed = |failure: super::Failure| failure.of_read("reading the history's pages");
        let ledger = inner.keys.ledger();
        let (mut start, end) = (ledger.clone(), end_of(&ledger));
        let mut pages = Vec::new();
        loop {
            let request = RangeRequest {
                key: start,
                range_end: end.clone(),
                limit: NAMES,
                keys_only: true,
                ..RangeRequest::default()
            };
            let answer = inner.ask(request).await.map_err(failed)?;
            let read = answer.kvs.iter().filter_map(|kv| Kept::read(&kv.key[ledger.len()..]));
            let names = answer.kvs.iter().map(|kv| kv.key.clone());
            pages.extend(read.zip(names));
            match answer.kvs.last() {
                Some(last) if answer.more => start = [&last.key[..], &[0]].concat().into(),
                _ => break,
            }
        }
        let kept: Vec<Kept> = pages.iter().map(|(kept, _)| *kept).collect();
        let count = too_many(&kept, (inner.options.clock)(), inner.options.history);
        for (_, name) in pages.into_iter().take(count) {
            let Some(page) = inner.get(name.clone(), None).await.map_err(failed)? else { continue };
            let names = page.value.split(|byte| *byte == b'\n').filter(|name| !name.is_empty());
            let mut deletes: Vec<_> = names.map(|name| delete(page.value.slice_ref(name))).collect();
            // The page itself goes last.
            deletes.push(delete(name));
            while !deletes.is_empty() {
                let rest = deletes.split_off(deletes.len().min(OPERATIONS));
                self.commit(std::mem::replace(&mut deletes, rest)).await?;
            }
        }
        Ok(())
    }
}

impl Page {
    /// Takes in what a change makes history.
    fn add(&mut self, keys: &Keys, event: wire::Event) {
        let is_put = event.r#type() == EventType::Put;
        let Some(kv) = event.kv else { return };
        if let Some(before) = event.prev_kv
            && let Some(key) = keys.key(&before.key)
            && keys::is_noted(&before.value)
        {
            let name = keys.past(key, keys::revision(before.mod_revision), Past::Version);
            self.bytes += name.len() + before.value.len();
            self.records.push((name.clone(), before.value));
            self.names.push(name);
        } else if is_put && keys.is_end(&kv.key) {
            self.bytes += kv.key.len();
            self.names.push(kv.key);
        }
    }

    fn is_full(&self) -> bool {
        self.names.len() >= OPERATIONS || self.bytes >= BYTES
    }
}

/// Records as one transaction each may have them.
fn pieces(records: Vec<(Bytes, Bytes)>) -> Vec<Vec<(Bytes, Bytes)>> {
    let mut pieces: Vec<Vec<(Bytes, Bytes)>> = Vec::new();
    let mut size = 0;
    for (name, value) in records {
        size += name.len() + value.len();
        match pieces.last_mut() {
            Some(piece) if piece.len() < OPERATIONS && size <= BYTES => piece.push((name, value)),
            _ => {
                size = name.len() + value.len();
                pieces.push(vec![(name, value)]);
            }
        }
    }
    pieces
}

/// A page of the ledger, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    /// When it was written, in milliseconds since 1970.
    at: u64,
    bytes: u64,
}

impl Kept {
    fn read(name: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(name).ok()?.split('-');
        let at = u64::from_str_radix(parts.next()?, 16).ok()?;
        let bytes = u64::from_str_radix(parts.nth(1)?, 16).ok()?;
        Some(Self { at, bytes })
    }
}

/// How many of the pages, the oldest first, are to go.
fn too_many(pages: &[Kept], now: u64, keep: Retention) -> usize {
    let period = u64::try_from(keep.period.as_millis()).unwrap_or(u64::MAX);
    let mut bytes: u64 = pages.iter().map(|page| page.bytes).sum();
    let goes = |page: &&Kept| {
        let goes = bytes > keep.bytes || page.at.saturating_add(period) <= now;
        bytes = bytes.saturating_sub(page.bytes);
        goes
    };
    pages.iter().take_while(goes).count()
}

#[cfg(test)]
#[path = "compaction_tests.rs"]
mod tests;
