//! A cluster's directory: who runs it, and what its kernel objects are named after.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Flag {
    /// Where the cluster's state is kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tiphys", global = true)]
    pub(crate) data_dir: PathBuf,
}

/// An existing data directory, by its one canonical path.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
}

impl DataDir {
    /// Makes the directory if it is missing, for its owner alone.
    pub(crate) fn make(flag: &Flag) -> Result<Self> {
        let path = &flag.data_dir;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("making {}", path.display()))?;
        Self::find(flag)?.with_context(|| format!("{} went away", path.display()))
    }

    /// The directory, if there is one.
    pub(crate) fn find(flag: &Flag) -> Result<Option<Self>> {
        match fs::canonicalize(&flag.data_dir) {
            Ok(path) => Ok(Some(Self { path })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("finding {}", flag.data_dir.display())),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.join("admin.kubeconfig")
    }

    /// Where the embedded runtime keeps everything.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.join("runtime")
    }

    /// Where pods' volumes and logs lie.
    pub(crate) fn node(&self) -> PathBuf {
        self.join("node")
    }

    /// Tells this cluster's kernel objects from those of others on the host: eight hexadecimal digits that
    /// follow from the path, so that they can be found after a crash.
    pub(crate) fn instance(&self) -> String {
        let digest = Sha256::digest(self.path.as_os_str().as_encoded_bytes());
        digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The cgroup that all pods of this cluster are below.
    pub(crate) fn pods_cgroup(&self) -> String {
        format!("/kubepods-{}", self.instance())
    }

    fn lock_file(&self) -> Result<File> {
        let path = self.join("lock");
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))
    }

    /// Takes the directory for this process; it is free again when the process ends, however it does.
    pub(crate) fn lock(&self) -> Result<Lock> {
        match Flock::lock(self.lock_file()?, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                file.set_len(0).and_then(|()| file.rewind()).context("emptying the lock file")?;
                write!(file, "{}", std::process::id()).context("writing the lock file")?;
                Ok(Lock { _file: file })
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).context("reading the lock file")?;
                bail!(
                    "{} is in use by process {holder}; stop it with `tiphys down --data-dir {}`, \
                     or choose another --data-dir",
                    self.path.display(),
                    self.path.display()
                )
            }
            Err((_, error)) => Err(error).with_context(|| format!("locking {}", self.path.display())),
        }
    }

    /// The process that has taken the directory, if one has.
    pub(crate) fn holder(&self) -> Result<Option<nix::unistd::Pid>> {
        match Flock::lock(self.lock_file()?, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(None),
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).context("reading the lock file")?;
                let pid = holder.trim().parse().context("the lock file does not name a process")?;
                Ok(Some(nix::unistd::Pid::from_raw(pid)))
            }
            Err((_, error)) => Err(error).with_context(|| format!("locking {}", self.path.display())),
        }
    }
}

/// Holds the directory for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(path: &Path) -> Flag {
        Flag { data_dir: path.to_owned() }
    }

    #[test]
    fn one_process_at_a_time_has_the_directory() {
        let dir = std::env::temp_dir().join(format!("tiphys-lock-{}", std::process::id()));
        assert!(DataDir::find(&flag(&dir)).expect("readable").is_none());
        let data = DataDir::make(&flag(&dir)).expect("made");
        assert_eq!(data.holder().expect("readable"), None);
        let held = data.lock().expect("free");
        assert_eq!(data.holder().expect("readable"), Some(nix::unistd::Pid::this()));
        let refused = data.lock().expect_err("taken").to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        assert_eq!(data.holder().expect("readable"), None);
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn the_instance_follows_from_the_path() {
        let (a, b) = (DataDir { path: "/a".into() }, DataDir { path: "/b".into() });
        assert_eq!(a.instance().len(), 8);
        assert_eq!(a.instance(), DataDir { path: "/a".into() }.instance());
        assert_ne!(a.instance(), b.instance());
    }
}
