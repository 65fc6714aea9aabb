//! How a log is opened again after a write to it has failed.
//!
//! After a failed sync the kernel may take pages for clean that never reached the disk: what is read back is
//! then not what a loss of power would leave, and a later sync does not tell. So the journals, which are all
//! that commits rest on, are written anew before anybody is told what is in them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    iter,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Faults, Step, disk::Disk};
use crate::{Error, engine::Recovered};

/// How long is waited between two attempts, about ten seconds together.
pub(super) fn delays() -> impl Iterator<Item = Duration> {
    const FIRST: Duration = Duration::from_millis(20);
    const LAST: Duration = Duration::from_secs(6);
    iter::successors(Some(FIRST), |delay| Some(*delay * 2)).take_while(|delay| *delay <= LAST)
}

pub(super) struct Mender {
    db: PathBuf,
    faults: Faults,
}

impl Mender {
    pub(super) fn new(db: PathBuf, faults: Faults) -> Self {
        Self { db, faults }
    }

    /// What the disk holds, durably.
    ///
    /// # Errors
    /// The disk still fails, or somebody still reads from the log as it was.
    pub(super) fn reopen(&self) -> Result<(Disk, Recovered), Error> {
        (self.faults)(Step::Reopen).map_err(Error::io("opening the log again"))?;
        rewrite_journals(&self.db).map_err(Error::io("writing the journals anew"))?;
        Disk::open(&self.db, &self.faults)
    }
}

/// Replaces every journal by a copy that is on disk. The names are fjall's.
fn rewrite_journals(db: &Path) -> io::Result<()> {
    // Free as soon as nobody has the log open any more.
    let lock = OpenOptions::new().write(true).open(db.join("lock"))?;
    lock.try_lock()?;
    let journals = fs::read_dir(db)?.map(|entry| entry.map(|entry| entry.path()));
    let journals =
        journals.filter(|path| path.as_ref().map_or(true, |p| p.extension().is_some_and(|e| e == "jnl")));
    let journals: Vec<PathBuf> = journals.collect::<Result<_, _>>()?;
    if journals.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the log has no journal"));
    }
    // Beside the log, where a copy that was cut short is not taken for a journal.
    let new = db.with_file_name("journal.new");
    for path in journals {
        copy(&path, &new)?;
        fs::rename(&new, &path)?;
    }
    File::open(db)?.sync_all()
}

/// Copies a file durably. What is empty in a journal, which is made long before it is filled, stays a hole.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    const CHUNK: usize = 64 << 10;
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut chunk = vec![0; CHUNK];
    let mut length = 0;
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        if chunk[..read].iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(length))?;
            to.write_all(&chunk[..read])?;
        }
        length += read as u64;
    }
    to.set_len(length)?;
    to.sync_all()
}

#[cfg(test)]
#[path = "mend_tests.rs"]
mod tests;
