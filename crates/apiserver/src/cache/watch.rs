//! What a watch asks for and gets.

use std::sync::Arc;

use bytes::Bytes;
use tiphys_store::Revision;

use super::{Error, Filter, Object};

/// Where a watch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what happens from now on (no `resourceVersion`, or "0", with `sendInitialEvents` false).
    Now,
    /// With everything later than this revision.
    After(Revision),
    /// With an `Added` for each object that exists, at least as new as the revision (`None`: as the newest
    /// commit), then a bookmark that says so, then what happens.
    Initial(Option<Revision>),
}

#[derive(Clone, Debug)]
pub struct WatchOptions {
    pub start: Start,
    pub filter: Filter,
    /// Whether the watcher wants to be told how far it has seen.
    pub bookmarks: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

/// One thing that a watcher is told.
#[derive(Clone, Debug)]
pub enum Notice {
    /// `object` is what the watcher should see, with the change's own revision; for [`Change::Deleted`], the
    /// last state.
    Object { change: Change, object: Arc<Object>, frames: Arc<Frames> },
    /// Everything up to `revision` was seen. `initial` marks the end of the initial events
    /// (`k8s.io/initial-events-end`).
    Bookmark { revision: Revision, initial: bool },
}

/// The encoded frames of one notice, shared by all its watchers.
#[derive(Debug, Default)]
pub struct Frames {
    made: std::sync::Mutex<Vec<(Box<str>, Bytes)>>,
}

impl Frames {
    /// The frame for `encoding` (version and media type, as the caller writes them), made once.
    ///
    /// Whoever sends the storage version as JSON needs no frame: the object's own bytes between two constant
    /// slices are one.
    pub fn get_or_make<E>(
        &self,
        encoding: &str,
        make: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let mut made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, frame)) = made.iter().find(|(e, _)| e.as_ref() == encoding) {
            return Ok(frame.clone());
        }
        let frame = make()?;
        made.push((encoding.into(), frame.clone()));
        Ok(frame)
    }
}

/// A watcher. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    _private: (),
}

impl Watch {
    /// Waits for the next notices and takes all that are there. After an error the watch is over.
    pub async fn next(&mut self) -> Result<Vec<Notice>, Error> {
        Err(Error::Unavailable)
    }
}
