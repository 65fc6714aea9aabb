//! What is remembered of each sandbox, a file each.
//!
//! A file appears whole (written aside, then renamed), so a crash at any moment leaves either what was or what is to
//! be. Nothing is synced to the medium: after power loss the sandboxes are gone as well, and a torn file counts for
//! none.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// What failed with the files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{step} {}: {source}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("sandbox id {0:?} is not a file name of letters, digits, '.', '_' and '-'")]
    InvalidSandbox(String),
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { step, path, source }
}

/// A directory of such files.
#[derive(Debug)]
pub(crate) struct SandboxFiles {
    dir: PathBuf,
}

impl SandboxFiles {
    /// Makes the directory if it is missing, and removes what a crash left half written.
    pub(crate) fn open(dir: &Path) -> Result<SandboxFiles, Error> {
        fs::create_dir_all(dir).map_err(failed("creating", dir))?;
        let files = SandboxFiles { dir: dir.to_owned() };
        for name in files.names()? {
            if name.starts_with('.') {
                files.unlink(&dir.join(name))?;
            }
        }
        Ok(files)
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, sandbox: &str) -> Result<Option<T>, Error> {
        let path = self.path(sandbox)?;
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            content => Ok(serde_json::from_slice(&content.map_err(failed("reading", &path))?).ok()),
        }
    }

    pub(crate) fn put<T: Serialize>(&self, sandbox: &str, value: &T) -> Result<(), Error> {
        let path = self.path(sandbox)?;
        let aside = self.dir.join(format!(".{sandbox}"));
        let content = serde_json::to_vec(value).map_err(io::Error::from);
        content
            .and_then(|content| fs::write(&aside, content))
            .and_then(|()| fs::rename(&aside, &path))
            .map_err(failed("writing", &path))
    }

    /// A file that is not there is no error.
    pub(crate) fn remove(&self, sandbox: &str) -> Result<(), Error> {
        self.unlink(&self.path(sandbox)?)
    }

    /// The sandboxes that have a file, whole or not.
    pub(crate) fn sandboxes(&self) -> Result<Vec<String>, Error> {
        Ok(self.names()?.into_iter().filter(|name| self.path(name).is_ok()).collect())
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let entries = fs::read_dir(&self.dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(failed("listing", &self.dir))?;
        Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn unlink(&self, path: &Path) -> Result<(), Error> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(failed("removing", path)),
        }
    }

    fn path(&self, sandbox: &str) -> Result<PathBuf, Error> {
        let mut bytes = sandbox.bytes();
        let valid = sandbox.len() <= 128
            && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
            && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        match valid {
            true => Ok(self.dir.join(sandbox)),
            false => Err(Error::InvalidSandbox(sandbox.to_owned())),
        }
    }
}
