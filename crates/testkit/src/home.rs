//! Where the cluster of a test lives, and who clears it away.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

/// Waits until its input ends, takes the cluster down and removes the directory, which may be a mount.
const KEEPER: &str = r#"cat; "$0" down --data-dir "$1/data" || exit; umount -l "$1" 2>/dev/null; rm -rf --one-file-system "$1""#;

/// A directory for one cluster.
///
/// When it is dropped, or the test ends in whatever other way (a test that hangs is killed), a process of its own takes
/// down the cluster whose data directory is in it and removes it.
pub struct Home {
    path: PathBuf,
    keeper: Child,
}

impl Home {
    pub fn new(tiphys: &Path) -> Result<Self> {
        let path = tempfile::Builder::new().prefix("tiphys-scenario-").tempdir_in("/var/tmp")?.keep();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER]).args([tiphys, &path]).stdin(Stdio::piped()).stdout(Stdio::null());
        // It must outlive the group of the test, which is killed as a whole.
        keeper.process_group(0);
        Ok(Self { path, keeper: keeper.spawn().context("starting who clears up")? })
    }

    /// Nothing more than `size` fits into this one, in the words of tmpfs' option.
    pub fn small(tiphys: &Path, size: &str) -> Result<Self> {
        let home = Self::new(tiphys)?;
        let (tmpfs, size) = (Some("tmpfs"), format!("size={size}"));
        mount(tmpfs, &home.path, tmpfs, MsFlags::empty(), Some(&*size)).context("mounting a tmpfs")?;
        Ok(home)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Takes the cluster down and removes the directory.
    pub(crate) fn clear(&mut self) {
        // The keeper waits for the end of this.
        if self.keeper.stdin.take().is_none() {
            return;
        }
        match self.keeper.wait() {
            Ok(status) if status.success() => {}
            result => eprintln!("{} is not cleared away: {result:?}", self.path.display()),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.clear();
    }
}
