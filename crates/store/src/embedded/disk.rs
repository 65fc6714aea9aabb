//! The log as fjall keyspaces.

use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use super::{Faults, Step};
use crate::{
    Error, Key, Revision,
    engine::{Medium, Progress, Recovered, Useless, View},
    index::Index,
    log::{self, Entry},
};

/// The least that fjall allows. Closed journals go once both keyspaces have flushed what is in them.
const JOURNAL: u64 = 64 << 20;
const LOG_MEMTABLE: u64 = 4 << 20;
/// The rows of the index, and all others, are a fiftieth of the log's: a smaller memtable keeps it from holding journals back.
const INDEX_MEMTABLE: u64 = 1 << 20;
const BLOCK_CACHE: u64 = 1 << 20;
const OPEN_FILES: usize = 64;

/// Rows of the keyspace `marks`.
const FLOOR: &str = "floor";
const PROGRESS: &str = "progress";

pub(crate) struct Disk {
    db: Database,
    log: Keyspace,
    index: Keyspace,
    graves: Keyspace,
    marks: Keyspace,
    faults: Faults,
}

impl Disk {
    /// How many bytes all of it takes.
    pub(super) fn size(&self) -> Result<u64, Error> {
        self.db.disk_space().map_err(Error::engine("asking for the size"))
    }

    pub(super) fn open(dir: &Path, faults: &Faults) -> Result<(Self, Recovered), Error> {
        let failed = || Error::engine("opening the log");
        let db = Database::builder(dir)
            .cache_size(BLOCK_CACHE)
            .max_journaling_size(JOURNAL)
            .max_cached_files(Some(OPEN_FILES))
            .worker_threads(1)
            .manual_journal_persist(true)
            .open()
            .map_err(failed())?;
        let keyspace = |name, memtable| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable);
            db.keyspace(name, options).map_err(failed())
        };
        let disk = Self {
            log: keyspace("log", LOG_MEMTABLE)?,
            index: keyspace("index", INDEX_MEMTABLE)?,
            graves: keyspace("graves", INDEX_MEMTABLE)?,
            marks: keyspace("marks", INDEX_MEMTABLE)?,
            faults: faults.clone(),
            db,
        };
        disk.db.persist(PersistMode::SyncAll).map_err(failed())?;
        let recovered = disk.recover()?;
        Ok((disk, recovered))
    }

    fn recover(&self) -> Result<Recovered, Error> {
        let failed = || Error::engine("reading the index");
        let mut index = Index::default();
        for row in self.index.iter() {
            let (key, live) = row.into_inner().map_err(failed())?;
            let key = std::str::from_utf8(&key)
                .map_err(|_| Error::damaged("reading the index", "a key is no text"))?;
            index.set(Key::new(key), Some(log::decode_live(&live)?));
        }
        let floor = self.mark(FLOOR)?.map_or(Ok(Revision::ZERO), |row| log::decode_revision(&row))?;
        let progress =
            self.mark(PROGRESS)?.map_or(Ok(Progress::default()), |row| log::decode_progress(&row))?;
        // The newest entry may be a deletion that the sweep has taken; then the floor is as new.
        index.reached(floor);
        if let Some(last) = self.log.last_key_value() {
            index.reached(log::revision_of(&last.key().map_err(Error::engine("reading the log"))?)?);
        }
        Ok(Recovered { index, floor, progress })
    }

    fn mark(&self, name: &str) -> Result<Option<fjall::Slice>, Error> {
        self.marks.get(name).map_err(Error::engine("reading the marks"))
    }
}

impl Medium for Disk {
    const BLOCKS: bool = true;
    type View = DiskView;

    fn append(&self, entries: &[Entry]) -> Result<(), Error> {
        let fault = |step| (self.faults)(step).map_err(Error::io("appending to the log"));
        fault(Step::Write)?;
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        let mut value = Vec::new();
        for entry in entries {
            entry.encode_value(&mut value);
            batch.insert(&self.log, log::log_key(entry.revision, &entry.key), value.as_slice());
            match entry.live() {
                Some(live) => batch.insert(&self.index, entry.key.as_str(), log::encode_live(live)),
                None => batch.remove(&self.index, entry.key.as_str()),
            }
            if entry.is_grave() {
                batch.insert(&self.graves, log::grave(&entry.key, entry.revision), []);
            }
        }
        batch.commit().map_err(Error::engine("appending to the log"))?;
        fault(Step::Sync)
    }

    fn view(&self) -> DiskView {
        DiskView { snapshot: self.db.snapshot(), log: self.log.clone(), graves: self.graves.clone() }
    }

    // Neither mark is synced: the journal keeps their order, so the floor is never lost before what it lets go.
    fn raise_floor(&self, floor: Revision) -> Result<(), Error> {
        let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
        batch.insert(&self.marks, FLOOR, floor.get().to_be_bytes());
        batch.commit().map_err(Error::engine("raising the floor"))
    }

    fn forget(&self, entries: &[Useless], progress: Progress) -> Result<(), Error> {
        let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
        for Useless { revision, key, is_grave } in entries {
            batch.remove(&self.log, log::log_key(*revision, key));
            if *is_grave {
                batch.remove(&self.graves, log::grave(key, *revision));
            }
        }
        batch.insert(&self.marks, PROGRESS, log::encode_progress(progress));
        batch.commit().map_err(Error::engine("sweeping the log"))
    }
}

pub(crate) struct DiskView {
    snapshot: Snapshot,
    log: Keyspace,
    graves: Keyspace,
}

impl View for DiskView {
    fn entry(&self, key: &Key, revision: Revision) -> Result<Option<Entry>, Error> {
        let log_key = log::log_key(revision, key);
        let row = self.snapshot.get(&self.log, &log_key).map_err(Error::engine("reading the log"))?;
        row.map(|value| Entry::decode(&log_key, Bytes::from_owner(value))).transpose()
    }

    fn entries(&self, after: Revision, to: Revision) -> impl Iterator<Item = Result<Entry, Error>> {
        let rows = self.snapshot.range(&self.log, log::log_key_after(after)..log::log_key_after(to));
        rows.map(|row| {
            let (key, value) = row.into_inner().map_err(Error::engine("reading the log"))?;
            Entry::decode(&key, Bytes::from_owner(value))
        })
    }

    fn graves(&self, key: &Key) -> Result<Vec<Revision>, Error> {
        let failed = || Error::engine("reading the graves");
        let rows = self.snapshot.prefix(&self.graves, [key.as_str().as_bytes(), &[0]].concat()).rev();
        rows.map(|row| log::grave_revision(&row.key().map_err(failed())?)).collect()
    }
}
