//! The watch cache: every read of the API comes from here, never from the store.
//!
//! One feed follows the store's log from the oldest revision that it still has, so that clients resume
//! their watches after a restart too. The feed applies each change to the [`Collection`] that it belongs
//! to; once all changes of a revision are applied, the cache is *fresh* up to it. An object is held once,
//! as the JSON that clients see in the storage version, beside the few values that selectors need.
//!
//! A collection is a persistent ordered map: a list takes its root, and what changes later makes a new
//! root that shares nearly everything with the old one. A ring of recent changes serves watches that
//! resume and lists at an exact revision.

use std::{sync::Arc, time::Duration};

use tiphys_api::kind::{Kind, SelectableField, Storage};
use tiphys_store::{Revision, Store};

mod collection;
mod error;
mod feed;
mod list;
mod object;
mod projection;
mod state;

mod watch;

pub use collection::Collection;
pub use error::Error;
pub use list::{At, Filter, ListOptions, Page};
pub use object::{Labels, Object};
pub use watch::{Change, Frames, Notice, Start, Watch, WatchOptions};

use feed::{Command, Feed};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// What bounds the cache of one collection.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A change stays in the ring no longer than this, on an idle cluster too.
    pub window: Duration,
    /// At most this many changes stay in the ring.
    pub ring_events: usize,
    /// The ring's objects may have at most this many bytes together.
    pub ring_bytes: usize,
    /// A watcher whose backlog is larger is ended.
    pub watcher_bytes: usize,
    /// A read of a revision that has not happened yet waits this long for it.
    pub future: Duration,
    /// How many paged lists keep their root; beyond it the oldest goes on inconsistently.
    pub pins: usize,
    /// How often watchers who asked for bookmarks are told how far they have seen, and old changes are let go.
    pub bookmarks: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(300),
            ring_events: 10_000,
            ring_bytes: 16 << 20,
            watcher_bytes: 4 << 20,
            future: Duration::from_secs(3),
            pins: 64,
            bookmarks: Duration::from_secs(60),
        }
    }
}

fn prefix(group: &str, resource: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("/registry/{group}/{resource}/")
}

/// What the cache must know of a collection: where it is stored and what can be selected by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Group and resource of the storage; they make the key prefix.
    pub group: String,
    pub resource: String,
    pub namespaced: bool,
    /// Of all kinds that share the storage.
    pub fields: Vec<SelectableField>,
    /// Labels of those fields that are looked up by value (`spec.nodeName`).
    pub indexed: Vec<String>,
}

impl Spec {
    /// The collection that `kind` is stored in; `None` for a kind that is never kept.
    pub fn of(kind: &Kind) -> Option<Self> {
        let Storage { group, resource, .. } = kind.storage.as_ref()?;
        let indexed = kind.fields.iter().filter(|f| f.label == "spec.nodeName");
        Some(Self {
            group: group.to_string(),
            resource: resource.to_string(),
            namespaced: kind.is_namespaced(),
            indexed: indexed.map(|f| f.label.to_string()).collect(),
            fields: kind.fields.clone(),
        })
    }

    /// What the keys of the collection start with: `/registry/<group>/<resource>/`.
    pub fn prefix(&self) -> String {
        prefix(&self.group, &self.resource)
    }

    /// One spec for each storage, with the fields of all kinds that share it.
    fn merge(specs: Vec<Self>) -> Vec<Self> {
        let mut merged: Vec<Self> = Vec::new();
        for spec in specs {
            match merged.iter_mut().find(|m| m.group == spec.group && m.resource == spec.resource) {
                None => merged.push(spec),
                Some(there) => {
                    let new = |f: &SelectableField| !there.fields.iter().any(|t| t.label == f.label);
                    let fields: Vec<_> = spec.fields.into_iter().filter(new).collect();
                    there.fields.extend(fields);
                    let new = |i: &String| !there.indexed.contains(i);
                    let indexed: Vec<_> = spec.indexed.into_iter().filter(new).collect();
                    there.indexed.extend(indexed);
                }
            }
        }
        merged
    }

    /// The store's key of an object; `namespace` is empty for a cluster-scoped kind.
    pub fn key(&self, namespace: &str, name: &str) -> tiphys_store::Key {
        let prefix = self.prefix();
        tiphys_store::Key::new(if namespace.is_empty() {
            format!("{prefix}{name}")
        } else {
            format!("{prefix}{namespace}/{name}")
        })
    }
}

/// All collections, fed by one watch of the store.
#[derive(Debug)]
pub struct Cache {
    feed: Arc<Feed>,
    commands: mpsc::Sender<Command>,
    compaction: JoinHandle<()>,
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.compaction.abort();
    }
}

impl Cache {
    /// Loads `specs` from the store and follows it until the cache is dropped. Specs of one storage become one
    /// collection. The store's history is let go when it is older than the cache's window: nobody but the cache
    /// reads it.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn start(store: Arc<dyn Store>, specs: Vec<Spec>, limits: Limits) -> Result<Arc<Self>, Error> {
        let window = limits.window;
        let feed = Feed::new(Arc::clone(&store), limits);
        let (commands, queue) = mpsc::channel(1);
        // The task ends by itself when `commands` is dropped.
        let _task = feed.start(Spec::merge(specs), queue).await?;
        let compaction = tokio::spawn(tiphys_store::compaction::run(store, window));
        Ok(Arc::new(Self { feed, commands, compaction }))
    }

    /// Adds a collection, or finds the one that has its storage, as it is.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn add(&self, spec: Spec) -> Result<Arc<Collection>, Error> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Add(spec, answer)).await.map_err(|_| Error::Unavailable)?;
        answered.await.map_err(|_| Error::Unavailable)?
    }

    /// Drops a collection and ends its watches.
    pub async fn remove(&self, group: &str, resource: &str) {
        let (answer, answered) = oneshot::channel();
        let remove = Command::Remove(prefix(group, resource).into(), answer);
        // A feed that has ended has ended all watches.
        if self.commands.send(remove).await.is_ok() {
            answered.await.unwrap_or_default();
        }
    }

    /// The collection of a storage.
    pub fn collection(&self, group: &str, resource: &str) -> Option<Arc<Collection>> {
        self.feed.collection(&prefix(group, resource))
    }

    /// Every change up to this revision is applied.
    pub fn revision(&self) -> Revision {
        self.feed.revision()
    }

    /// Waits until the cache can't go on, because the store has failed or was closed, and tells why. All
    /// collections are gone then, and the server has to start again.
    pub async fn ended(&self) -> Error {
        self.feed.ended().await
    }

    /// Waits until every change up to `revision` is applied, at most [`Limits::future`].
    ///
    /// # Errors
    /// It did not happen in time.
    pub async fn wait(&self, revision: Revision) -> Result<(), Error> {
        self.feed.wait(revision).await
    }

    /// Waits until everything that was committed before this call is applied.
    ///
    /// # Errors
    /// The store can't be asked, or the cache is too far behind.
    pub async fn wait_newest(&self) -> Result<(), Error> {
        self.feed.wait_at(&At::Newest).await
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
