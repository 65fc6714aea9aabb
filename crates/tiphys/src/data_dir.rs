//! A cluster's directory: who runs it, and what its kernel objects are named after.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};
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

    fn open(&self, name: &str) -> Result<File> {
        let path = self.join(name);
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))
    }

    /// Takes the directory for a cluster of this process, or for its end; it is free again when the process
    /// ends, however it does. A command that works on the images of the directory is waited for.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let mut file = self.open(LOCK)?;
        if !lock(&file, &TAKEN, false).with_context(|| self.locking())? {
            let holder =
                self.holder()?.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            bail!(
                "{0} is in use by {holder}; stop it with `tiphys down --data-dir {0}`, or choose another --data-dir",
                self.path.display(),
            )
        }
        file.set_len(0).context("emptying the lock file")?;
        write!(file, "{}", std::process::id()).context("writing the lock file")?;
        lock(&file, &NAMED, false).with_context(|| self.locking())?;
        let images = self.open(IMAGES_LOCK)?;
        if !lock(&images, &TAKEN, false).with_context(|| self.locking())? {
            eprintln!("waiting for a `tiphys image` that works on {}", self.path.display());
            lock(&images, &TAKEN, true).with_context(|| self.locking())?;
        }
        Ok(Lock { _files: vec![file, images] })
    }

    /// Takes the images of the directory, if nobody has them.
    pub(crate) fn lock_images(&self) -> Result<Option<Lock>> {
        let file = self.open(IMAGES_LOCK)?;
        let locked = lock(&file, &TAKEN, false).with_context(|| self.locking())?;
        Ok(locked.then(|| Lock { _files: vec![file] }))
    }

    /// The process that has taken the directory, if one has. Looking does not get in another's way.
    pub(crate) fn holder(&self) -> Result<Option<nix::unistd::Pid>> {
        let mut file = self.open(LOCK)?;
        let mut found = NAMED;
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found)).with_context(|| self.locking())?;
        if found.l_type == UNLOCKED {
            return Ok(None);
        }
        let mut holder = String::new();
        file.read_to_string(&mut holder).context("reading the lock file")?;
        let pid = holder.trim().parse().context("the lock file does not name a process")?;
        Ok(Some(nix::unistd::Pid::from_raw(pid)))
    }

    fn locking(&self) -> String {
        format!("locking {}", self.path.display())
    }
}

const LOCK: &str = "lock";
const IMAGES_LOCK: &str = "images.lock";

/// A lock file's first byte is locked by who has it, the second once the file names that process.
const TAKEN: libc::flock = byte(0);
const NAMED: libc::flock = byte(1);

/// An exclusive lock of one byte, which belongs to the open file and ends with it.
const fn byte(start: libc::off_t) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: 1,
        l_pid: 0,
    }
}
const UNLOCKED: libc::c_short = libc::F_UNLCK as libc::c_short;

/// Whether the lock was taken; it was not if another has it.
fn lock(file: &File, what: &libc::flock, wait: bool) -> nix::Result<bool> {
    loop {
        match fcntl(file, if wait { FcntlArg::F_OFD_SETLKW(what) } else { FcntlArg::F_OFD_SETLK(what) }) {
            Ok(_) => return Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Holds the directory, or its images, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _files: Vec<File>,
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
        assert!(data.lock_images().expect("readable").is_none());
        drop(held);
        assert_eq!(data.holder().expect("readable"), None);

        let images = data.lock_images().expect("readable").expect("free");
        assert_eq!(data.holder().expect("readable"), None);
        let other = DataDir { path: data.path().to_owned() };
        let waiting = std::thread::spawn(move || other.lock().map(drop));
        while data.holder().expect("readable").is_none() {
            std::thread::yield_now();
        }
        assert!(!waiting.is_finished(), "a cluster does not start while a command has its images");
        drop(images);
        waiting.join().expect("no panic").expect("taken");
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
