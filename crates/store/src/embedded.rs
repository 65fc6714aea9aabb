//! The engine on disk: one writer thread with group commit over fjall, an LSM tree with a journal.
//!
//! A data directory holds `lock`, `layout` and `db/`. The layout's version is written last when a directory
//! is made: a directory without it was never used, and is made anew.

mod disk;
mod layout;
mod mend;
mod space;
mod writer;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use parking_lot::Mutex;

pub use layout::OpenError;

use self::{disk::Disk, layout::Dir, mend::Mender, space::Space, writer::Writer};
use crate::{
    Error, Events, History, Key, Outcome, Page, Range, Record, Records, Retention, Revision, Store, Write,
    engine::Engine, watch,
};

/// Tells the time in milliseconds since 1970; deadlines are kept in it across restarts.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;
/// Tells how many bytes are free on the disk that a directory is on.
pub type FreeSpace = Arc<dyn Fn(&Path) -> std::io::Result<u64> + Send + Sync>;

/// Is asked before each step of writing, and may say that it failed.
pub type Faults = Arc<dyn Fn(Step) -> std::io::Result<()> + Send + Sync>;

/// A moment at which a disk can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A group of transactions is about to be written.
    Write,
    /// It was written and synced, but nobody has been told.
    Sync,
    /// The log is about to be opened again after a failure.
    Reopen,
}

/// How a store is opened. The seams for clock and disk are the real ones by default.
#[derive(Clone)]
pub struct Options {
    /// Writes that need room are refused while less than this many bytes are free. The journal, a flush and a
    /// compaction must fit.
    pub reserve: u64,
    /// What is kept of the past while there is room on the disk: twice the reserve.
    pub history: Retention,
    pub clock: Clock,
    pub free_space: FreeSpace,
    pub faults: Faults,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reserve: 256 << 20,
            history: Retention::default(),
            clock: Arc::new(wall_clock),
            free_space: Arc::new(space::free),
            faults: Arc::new(|_| Ok(())),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("reserve", &self.reserve).finish_non_exhaustive()
    }
}

pub(crate) fn wall_clock() -> u64 {
    // A clock before 1970 makes everything expire later, which harms nothing.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// An open data directory.
///
/// After a write to disk has failed, every call answers [`Error::Poisoned`] until the log was opened again: only
/// then is it known what reached the disk. Where that does not succeed for ten seconds, the store ends with
/// [`Error::Lost`].
pub struct Embedded {
    engine: Arc<Engine<Disk>>,
    writer: Writer,
    thread: Mutex<Option<JoinHandle<()>>>,
    options: Options,
    /// Locks the directory against other processes for as long as the store is open.
    dir: Mutex<Option<Dir>>,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in `dir`, or makes one there. Blocks while the journal is read.
    ///
    /// # Errors
    /// Another process has the directory open, it is of a layout that this version does not know, or the disk
    /// fails.
    pub fn open(dir: impl Into<PathBuf>, options: Options) -> Result<Self, OpenError> {
        let dir = Dir::open(dir.into())?;
        let (disk, recovered) = match dir.is_made()? {
            true => Disk::open(&dir.db(), &options.faults)?,
            false => {
                dir.clear()?;
                let made = Disk::open(&dir.db(), &options.faults)?;
                dir.mark()?;
                made
            }
        };
        let engine = Engine::new(disk, recovered);
        let thread = writer::Thread {
            engine: Arc::clone(&engine),
            space: Space::new(dir.path().to_owned(), &options),
            clock: Arc::clone(&options.clock),
            mender: Mender::new(dir.db(), Arc::clone(&options.faults)),
        };
        let (writer, thread) = thread.start().map_err(|source| OpenError::Io {
            step: "starting the writer",
            path: dir.path().into(),
            source,
        })?;
        Ok(Self { engine, writer, thread: Mutex::new(Some(thread)), options, dir: Mutex::new(Some(dir)) })
    }

    /// Finishes the commits that are under way, ends all watches and lets the directory go.
    pub async fn close(&self) {
        self.writer.stop();
        let thread = self.thread.lock().take();
        let (engine, dir) = (Arc::clone(&self.engine), self.take_dir());
        let closing = tokio::task::spawn_blocking(move || finish(&engine, thread, dir));
        if let Err(error) = closing.await {
            tracing::error!(%error, "closing the store");
        }
    }

    /// History makes room before writes have to be refused.
    fn retention(&self) -> Retention {
        let Options { history, reserve, free_space, .. } = &self.options;
        let dir = self.dir.lock();
        let free = dir.as_ref().and_then(|dir| free_space(dir.path()).ok());
        let is_short = free.is_some_and(|free| free < reserve.saturating_mul(2));
        if is_short { Retention { bytes: 0, ..*history } } else { *history }
    }

    fn take_dir(&self) -> Option<Dir> {
        self.dir.lock().take()
    }
}

/// The directory is let go last.
fn finish(engine: &Engine<Disk>, thread: Option<JoinHandle<()>>, dir: Option<Dir>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("the store's writer has panicked");
    }
    drop(engine.close());
    drop(dir);
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.writer.stop();
        let thread = self.thread.lock().take();
        finish(&self.engine, thread, self.take_dir());
    }
}

#[async_trait]
impl Store for Embedded {
    async fn revision(&self) -> Result<Revision, Error> {
        self.engine.newest()
    }

    async fn mended(&self) -> Result<(), Error> {
        self.engine.mended().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        let key = key.clone();
        self.engine.read(move |engine| engine.get(&key)).await?
    }

    async fn range(&self, range: Range, at: Option<Revision>) -> Result<Page, Error> {
        self.engine.read(move |engine| engine.range(&range, at)).await?
    }

    async fn scan(&self, prefix: String, at: Revision) -> Result<Records, Error> {
        self.engine.scan(prefix, at).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Outcome, Error> {
        self.writer.commit(writes).await
    }

    async fn watch(&self, prefix: String, after: Revision) -> Result<Events, Error> {
        self.engine.can_watch(after)?;
        Ok(watch::events(Arc::clone(&self.engine), self.engine.head(), &prefix, after))
    }

    async fn versions(&self, key: &Key, until: Option<Revision>, limit: usize) -> Result<History, Error> {
        let key = key.clone();
        self.engine.read(move |engine| engine.versions(&key, until, limit)).await?
    }

    async fn compact(&self, floor: Revision) -> Result<(), Error> {
        self.engine.compact(floor, (self.options.clock)(), self.retention()).await
    }

    async fn size(&self) -> Result<u64, Error> {
        self.engine.read(|engine| engine.medium()?.size()).await?
    }
}

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;
