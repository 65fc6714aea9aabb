//! What a watch asks for and gets.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tiphys_store::Revision;
use tokio::sync::Notify;

use super::{At, Collection, Error, Filter, Object, collection::Group, list};

/// Where a watch starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what happens from now on.
    Now,
    /// With everything later than this revision.
    After(Revision),
    /// With an `Added` for each object that exists, then what happens.
    State(At),
    /// As `State`, with a bookmark between (for a watcher that asked for bookmarks) which says that these were
    /// the initial events.
    Initial(At),
}

impl Start {
    /// Reads the parameters of a watch as upstream documents them; an absent revision is empty.
    ///
    /// # Errors
    /// It is no revision.
    pub fn read(resource_version: &str, send_initial_events: Option<bool>) -> Result<Self, Error> {
        match (send_initial_events, At::get(resource_version)?) {
            (Some(true), at) => Ok(Self::Initial(at)),
            (_, At::NotOlderThan(revision)) => Ok(Self::After(revision)),
            (Some(false), _) => Ok(Self::Now),
            (None, at) => Ok(Self::State(at)),
        }
    }
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

impl Change {
    /// How a watcher sees a change, given what it selects of the object before and after it: an object that it begins or
    /// ceases to select comes or goes. A deleted one is told as it was before.
    pub(crate) fn seen<T>(before: Option<T>, now: Option<T>) -> Option<(Self, T)> {
        match (before, now) {
            (None, Some(now)) => Some((Self::Added, now)),
            (Some(_), Some(now)) => Some((Self::Modified, now)),
            (Some(before), None) => Some((Self::Deleted, before)),
            (None, None) => None,
        }
    }
}

/// One thing that a watcher is told.
#[derive(Clone, Debug)]
pub enum Notice {
    /// `object` is what the watcher should see, with the change's own revision; for [`Change::Deleted`], the
    /// last state. A watcher with a rough filter is told what was there `before` a [`Change::Modified`], too, as it would be
    /// told of its deletion.
    Object { change: Change, object: Arc<Object>, before: Option<Arc<Object>>, frames: Arc<Frames> },
    /// Everything up to `revision` was seen. `initial` marks the end of the initial events
    /// (`k8s.io/initial-events-end`).
    Bookmark { revision: Revision, initial: bool },
}

/// What a notice counts for, besides its object.
const NOTICE: usize = 128;

impl Notice {
    fn size(&self) -> usize {
        match self {
            Self::Object { object, before, .. } => {
                NOTICE + object.size() + before.as_ref().map_or(0, |before| before.size())
            }
            Self::Bookmark { .. } => NOTICE,
        }
    }
}

/// The encoded frames of one notice, shared by all its watchers.
#[derive(Debug, Default)]
pub struct Frames {
    made: Mutex<Vec<(Box<str>, Bytes)>>,
}

/// More encodings than this are made anew for each watcher, so that a notice stays bounded.
const ENCODINGS: usize = 4;

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
        let mut made = self.made.lock();
        if let Some((_, frame)) = made.iter().find(|(e, _)| e.as_ref() == encoding) {
            return Ok(frame.clone());
        }
        let frame = make()?;
        if made.len() < ENCODINGS {
            made.push((encoding.into(), frame.clone()));
        }
        Ok(frame)
    }
}

/// A watcher as the collection knows it.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) filter: Filter,
    pub(super) bookmarks: bool,
    /// The backlog may have this many bytes.
    budget: usize,
    queue: Mutex<Queue>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    notices: VecDeque<Notice>,
    size: usize,
    ended: Option<Error>,
}

impl Watcher {
    /// A watcher that is told `backlog` first, which does not count against its budget.
    pub(super) fn new(options: &WatchOptions, budget: usize, backlog: VecDeque<Notice>) -> Self {
        Self {
            filter: options.filter.clone(),
            bookmarks: options.bookmarks,
            budget,
            queue: Mutex::new(Queue { notices: backlog, size: 0, ended: None }),
            bell: Notify::new(),
        }
    }

    /// Tells the watcher something; a backlog over its budget ends it. Says whether that has happened now.
    pub(super) fn tell(&self, notice: Notice) -> bool {
        let mut queue = self.queue.lock();
        if queue.ended.is_some() {
            return false;
        }
        queue.size += notice.size();
        let slow = queue.size > self.budget;
        if slow {
            *queue = Queue { ended: Some(Error::Slow), ..Queue::default() };
        } else {
            queue.notices.push_back(notice);
        }
        drop(queue);
        self.bell.notify_one();
        slow
    }

    /// Ends the watch after what was told already.
    pub(super) fn end(&self, error: Error) {
        self.queue.lock().ended.get_or_insert(error);
        self.bell.notify_one();
    }
}

/// The objects that existed when the watch began.
#[derive(Debug)]
pub(super) struct Initial {
    pub(super) objects: list::Matching,
    /// Marks their end.
    pub(super) end: Option<Revision>,
}

/// How many initial events are told at once.
const INITIAL: usize = 256;

/// A watcher. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    pub(super) collection: Weak<Collection>,
    pub(super) group: Group,
    pub(super) id: u64,
    pub(super) watcher: Arc<Watcher>,
    pub(super) initial: Option<Initial>,
}

impl Watch {
    /// Waits for the next notices and takes all that are there.
    ///
    /// # Errors
    /// The watch is over. [`Error::Slow`]: this watcher did not call often enough; it may resume.
    pub async fn next(&mut self) -> Result<Vec<Notice>, Error> {
        loop {
            let notices = self.take()?;
            if !notices.is_empty() {
                return Ok(notices);
            }
            self.watcher.bell.notified().await;
        }
    }

    /// What is there now.
    fn take(&mut self) -> Result<Vec<Notice>, Error> {
        if let Some(initial) = &mut self.initial {
            let added = |object| Notice::Object {
                change: Change::Added,
                object,
                before: None,
                frames: Arc::default(),
            };
            let mut notices: Vec<_> = initial.objects.by_ref().take(INITIAL).map(added).collect();
            if notices.len() < INITIAL {
                notices.extend(initial.end.map(|revision| Notice::Bookmark { revision, initial: true }));
                self.initial = None;
            }
            if !notices.is_empty() {
                return Ok(notices);
            }
        }
        let mut queue = self.watcher.queue.lock();
        if queue.notices.is_empty()
            && let Some(error) = &queue.ended
        {
            return Err(error.clone());
        }
        queue.size = 0;
        Ok(std::mem::take(&mut queue.notices).into())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(collection) = self.collection.upgrade() {
            collection.forget(&self.group, self.id);
        }
    }
}
