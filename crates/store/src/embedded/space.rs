//! The disk's free space, looked at before each group of writes.

use std::{io, path::Path, path::PathBuf};

use crate::{
    Change, Error, Write,
    embedded::{FreeSpace, Options},
};

/// How many bytes an unprivileged process may still write.
pub(super) fn free(dir: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(dir)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

pub(super) struct Space {
    dir: PathBuf,
    reserve: u64,
    free: FreeSpace,
}

impl Space {
    pub(super) fn new(dir: PathBuf, options: &Options) -> Self {
        Self { dir, reserve: options.reserve, free: options.free_space.clone() }
    }

    /// How much is free now.
    pub(super) fn look(&self) -> Result<Room<'_>, Error> {
        let free = (self.free)(&self.dir).map_err(Error::io("looking for free space"))?;
        Ok(Room { space: self, free })
    }
}

/// What was free when it was looked at.
pub(super) struct Room<'a> {
    space: &'a Space,
    free: u64,
}

impl Room<'_> {
    /// Deletions are let into the reserve (down to a quarter of it): they are how room comes back.
    pub(super) fn admit(&self, writes: &[Write]) -> Result<(), Error> {
        let deletes = writes.iter().all(|write| matches!(write.change, Change::Delete));
        let needed = if deletes { self.space.reserve / 4 } else { self.space.reserve };
        if self.free >= needed {
            return Ok(());
        }
        Err(Error::NoSpace { dir: self.space.dir.display().to_string(), free: self.free, needed })
    }
}
