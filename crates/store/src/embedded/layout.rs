//! The data directory itself: its lock and the version of its layout.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What `layout` says in a directory that this version of the engine writes.
const LAYOUT: &str = "tiphys store 2\n";

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by another process", dir.display())]
    Locked { dir: PathBuf },
    #[error("{} has the layout {found:?}, which this version does not know", dir.display())]
    Layout { dir: PathBuf, found: String },
    #[error("{step} {}: {source}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("opening the log: {0}")]
    Log(#[from] crate::Error),
}

fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { step, path: path.to_owned(), source }
}

/// A directory that this process has locked.
#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
    _lock: File,
}

impl Dir {
    pub(super) fn open(path: PathBuf) -> Result<Self, OpenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(io_error("making the directory", &path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error("opening", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: path }),
            Err(TryLockError::Error(source)) => {
                Err(OpenError::Io { step: "locking", path: lock_path, source })
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn db(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Whether a store was made here before.
    pub(super) fn is_made(&self) -> Result<bool, OpenError> {
        let path = self.path.join("layout");
        match fs::read_to_string(&path) {
            Ok(found) if found == LAYOUT => Ok(true),
            Ok(found) => Err(OpenError::Layout { dir: self.path.clone(), found }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("reading", &path)(error)),
        }
    }

    /// Removes what a first start that did not finish has left.
    pub(super) fn clear(&self) -> Result<(), OpenError> {
        let db = self.db();
        match fs::remove_dir_all(&db) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("removing", &db)(error)),
            _ => Ok(()),
        }
    }

    /// Says that a store was made here, durably and at once or not at all.
    pub(super) fn mark(&self) -> Result<(), OpenError> {
        let (new, path) = (self.path.join("layout.new"), self.path.join("layout"));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(LAYOUT.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(io_error("writing", &path))
    }
}
