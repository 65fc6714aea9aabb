//! Waits for changes in a directory.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::unix::AsyncFd;

/// An inotify watch of one directory.
pub struct DirectoryWatch {
    inotify: Inotify,
    ready: AsyncFd<OwnedFd>,
}

impl DirectoryWatch {
    /// Watches a directory for `changes` from now on.
    ///
    /// # Errors
    /// It cannot be watched.
    pub fn new(directory: &Path, changes: AddWatchFlags) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(directory, changes)?;
        let fd = inotify.as_fd().try_clone_to_owned()?;
        // SAFETY: the registration owns `fd`, a duplicate that nobody else can close.
        let ready = unsafe { AsyncFd::register(fd) }.map_err(io::Error::other)?;
        Ok(Self { inotify, ready })
    }

    /// Waits for a change. May answer without any.
    ///
    /// # Errors
    /// The watch has ended.
    pub async fn changed(&self) -> io::Result<Vec<InotifyEvent>> {
        let mut guard = self.ready.readable().await?;
        match self.inotify.read_events() {
            Ok(events) => Ok(events),
            Err(nix::errno::Errno::EAGAIN) => {
                guard.clear_ready();
                Ok(vec![])
            }
            Err(error) => Err(error.into()),
        }
    }
}
