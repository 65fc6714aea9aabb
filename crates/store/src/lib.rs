//! A revisioned key-value store: the trait and its engines.
//!
//! One global, strictly increasing [`Revision`] orders every change; it is what clients know as
//! `resourceVersion`. Only the API server opens a store.
//!
//! Two engines share one core, which judges transactions, keeps the index of living keys in memory and
//! serves watches: [`embedded`] keeps the log on disk, [`memory`] in a map, for tests and simulations. The third,
//! [`etcd`], is that of several API servers.
//! Values lie in the log only. Whoever needs them at hand keeps them, as the API server's watch cache does;
//! what the store itself needs for a write (is the key there, since which revision) never touches the disk.

use std::{borrow::Borrow, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub mod compaction;
pub mod embedded;
mod engine;
pub mod etcd;
#[cfg(test)]
mod history_tests;
mod index;
mod log;
pub mod memory;
mod tail;
mod watch;

pub use embedded::Embedded;
pub use etcd::Etcd;
pub use memory::Memory;

/// A point in the store's history. Revisions can be compared, shown and counted back from; nobody but the
/// store makes a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// Before the first write.
    pub const ZERO: Self = Self(0);

    /// Reads a `resourceVersion`; `None` unless it is a plain decimal number.
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok().map(Self) } else { None }
    }

    /// The number, for encoding.
    pub fn get(self) -> u64 {
        self.0
    }

    /// So many transactions earlier, or the beginning.
    #[must_use]
    pub fn earlier(self, transactions: u64) -> Self {
        Self(self.0.saturating_sub(transactions))
    }

    /// The revision of the transaction after this one.
    fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a record: `/registry/<group>/<resource>/<namespace>/<name>`, the group of the core API
/// being `core`, and the namespace left out for a cluster-scoped kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        Self(key.into())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One key's value as of `revision`, the revision that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Key,
    pub value: Bytes,
    pub revision: Revision,
}

/// What must hold of a key for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Absent,
    /// The key's newest record was written at this revision.
    At(Revision),
}

#[derive(Clone, Debug)]
pub enum Change {
    /// Sets the value; with `ttl`, the store deletes the record that long after this write, or somewhat later.
    Put {
        value: Bytes,
        ttl: Option<Duration>,
    },
    Delete,
}

/// A compare-and-put of one key.
#[derive(Clone, Debug)]
pub struct Write {
    pub key: Key,
    pub expect: Expect,
    pub change: Change,
    /// What the key's history tells of this change: who made it, and when. A change without a note is no part
    /// of the history: once it is superseded, only those who resume a watch can still see it.
    pub note: Option<Note>,
}

/// A few words of the writer's own, which the store doesn't read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(Bytes);

impl Note {
    /// The longest note, in bytes.
    pub const MAX: usize = 4 << 10;

    /// `None` for one that is too long.
    pub fn new(text: impl Into<Bytes>) -> Option<Self> {
        let text = text.into();
        (text.len() <= Self::MAX).then_some(Self(text))
    }

    pub fn text(&self) -> &Bytes {
        &self.0
    }
}

/// What a key was at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub revision: Revision,
    /// `None`: deleted.
    pub value: Option<Bytes>,
    /// What the key is now can lack one, and so can the end of one that has expired.
    pub note: Option<Note>,
}

/// A page of what a key was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The newest first.
    pub versions: Vec<Version>,
    /// There is more, from the revision before the last of these on.
    pub more: bool,
}

/// How much history is kept for [`Store::versions`].
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// How long what was superseded or deleted is kept.
    pub period: Duration,
    /// How many bytes of superseded values are kept at most; the oldest go first.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { period: Duration::from_secs(24 * 3600), bytes: 1 << 30 }
    }
}

/// What came of a transaction.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All writes are durable, at this one revision. (A transaction without writes commits at the newest.)
    Committed(Revision),
    /// Nothing was written: `key` was not as expected; `current` is what it is.
    Conflict { key: Key, current: Option<Record> },
}

/// What to read: keys that start with `prefix`, after `after` where given, at most `limit` of them.
#[derive(Clone, Debug, Default)]
pub struct Range {
    pub prefix: String,
    pub after: Option<Key>,
    pub limit: Option<usize>,
}

/// Records in key order, all as of `revision`.
#[derive(Clone, Debug)]
pub struct Page {
    pub records: Vec<Record>,
    pub revision: Revision,
    pub more: bool,
}

/// One change of one key. What was there before is not told: who follows the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub key: Key,
    pub revision: Revision,
    /// `None`: deleted.
    pub value: Option<Bytes>,
}

/// A step of a watch: its events in revision order. Nothing up to `revision` is missing, and no revision
/// is split between two batches. A batch without events tells progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub events: Vec<Event>,
    pub revision: Revision,
}

/// The batches of a watch; ends after the first error.
pub type Events = BoxStream<'static, Result<Batch, Error>>;

/// Records in key order, piece by piece; ends after the first error.
pub type Records = BoxStream<'static, Result<Vec<Record>, Error>>;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The history before `floor` is gone; a reader must start again from a range.
    #[error("the requested revision has been compacted; the oldest available is {floor}")]
    Compacted { floor: Revision },
    /// The revision has not happened yet.
    #[error("the requested revision is in the future; the newest is {newest}")]
    Future { newest: Revision },
    /// A transaction names a key twice.
    #[error("the key {key} is written twice in one transaction")]
    DuplicateKey { key: Key },
    /// The disk is nearly full: writes that need room are refused before data is at risk.
    #[error("no space left for the store: {free} bytes free in {dir}, {needed} are kept in reserve")]
    NoSpace { dir: String, free: u64, needed: u64 },
    /// The store is somewhere else and is not reached; nothing was written. It may be there again soon.
    #[error("the store cannot be reached: {source}")]
    Unavailable { source: Arc<dyn std::error::Error + Send + Sync> },
    /// The store was asked to write and has not answered: whether it did, or will, is not known.
    #[error("the store has not answered, and whether the write happened is not known: {source}")]
    InDoubt { source: Arc<dyn std::error::Error + Send + Sync> },
    /// The store takes no writes until somebody makes room in it.
    #[error("no space left for the store: {source}")]
    Full { source: Arc<dyn std::error::Error + Send + Sync> },
    /// The store takes no transaction of that size.
    #[error("the write is more than the store takes at once: {source}")]
    TooLarge { source: Arc<dyn std::error::Error + Send + Sync> },
    /// The engine failed at `step`. Whether an unacknowledged write happened is not known.
    #[error("store: {step}: {source}")]
    Engine { step: &'static str, source: Arc<dyn std::error::Error + Send + Sync> },
    /// A write failed, what is on disk is in doubt, and the store is being opened again: try later.
    #[error("a write to the store failed, and what is on disk is being read again")]
    Poisoned,
    /// After a failed write the store could not be opened again. It stays so.
    #[error("the store could not be opened again after a failed write: {source}")]
    Lost { source: Arc<dyn std::error::Error + Send + Sync> },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    fn engine(step: &'static str) -> impl FnOnce(fjall::Error) -> Self {
        move |source| Self::Engine { step, source: Arc::new(source) }
    }

    fn io(step: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Engine { step, source: Arc::new(source) }
    }

    fn damaged(step: &'static str, what: &'static str) -> Self {
        Self::io(step)(std::io::Error::new(std::io::ErrorKind::InvalidData, what))
    }
}

/// What every engine promises.
///
/// - A transaction is atomic, isolated and, once [`Outcome::Committed`] is returned, durable.
/// - Revisions are never reused, after a crash either.
/// - A watch sees every event after its start exactly once and in order, or ends with an error.
/// - After a failed write to its own disk, of which nobody can tell whether it happened, every call answers
///   [`Error::Poisoned`] until what is on disk was read again and is durable. A watch that ended for it can be
///   resumed where it was: what was once told stays true.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest committed revision.
    async fn revision(&self) -> Result<Revision, Error>;
    async fn get(&self, key: &Key) -> Result<Option<Record>, Error>;
    /// Waits while the store is [`Error::Poisoned`] or [`Error::Unavailable`].
    ///
    /// # Errors
    /// The store has ended for good.
    async fn mended(&self) -> Result<(), Error>;
    /// Reads as of `at`, or the newest revision.
    async fn range(&self, range: Range, at: Option<Revision>) -> Result<Page, Error>;
    /// Reads all keys that start with `prefix`, as of `at`, in whatever order is cheap; pieces are read ahead of the
    /// reader. No compaction of this process's own store disturbs it; where others share the store, theirs end it with
    /// [`Error::Compacted`].
    async fn scan(&self, prefix: String, at: Revision) -> Result<Records, Error>;
    async fn commit(&self, writes: Vec<Write>) -> Result<Outcome, Error>;
    /// Every event of keys under `prefix` later than `after`, which may not be in the future.
    ///
    /// A watcher holds no queue: one that falls behind reads the log, and ends with [`Error::Compacted`] only
    /// when the log has moved past it.
    async fn watch(&self, prefix: String, after: Revision) -> Result<Events, Error>;
    /// What the key was and is, the newest first: the changes with a note since the last compaction that was
    /// later than [`Retention`] allows, and what the key is now. At most `limit` of them, or some megabytes, and
    /// none later than `until`.
    async fn versions(&self, key: &Key, until: Option<Revision>, limit: usize) -> Result<History, Error>;
    /// Lets history before `floor` go: reads at `floor` and watches after it still work. A floor at or below
    /// the present one changes nothing; where others share the store, neither does one while another compacts. What [`Store::versions`] tells goes by its [`Retention`].
    async fn compact(&self, floor: Revision) -> Result<(), Error>;
    /// How many bytes the store takes where it is kept; none in memory.
    async fn size(&self) -> Result<u64, Error>;
}
