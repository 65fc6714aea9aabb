//! What authentication, authorization and admission see of the cluster's objects.
//!
//! They decide from memory and never wait, so this is all that they need of the watch cache, and a table of
//! objects can stand in for it in tests.

use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tiphys_store::Revision;
use tokio::sync::watch;

use crate::cache::{Cache, Object};

/// One object as of the revision that wrote it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Empty for a cluster-scoped object.
    pub namespace: String,
    pub name: String,
    pub revision: Revision,
    /// The object in its storage version.
    pub json: Bytes,
}

impl Entry {
    /// The parts of the object that `T` names; `None` if the object is not of that shape.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.json).ok()
    }

    /// The whole object; `Null` should it not be JSON.
    pub fn tree(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }
}

/// Objects by storage group and resource, as they are now. Only [`Source::settle`] and [`Source::changed`] wait.
///
/// A resource that is not kept is one without objects.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Entry>;

    /// The revision of the object that [`Source::get`] gives, for less.
    fn revision(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Revision> {
        self.get(group, resource, namespace, name).map(|entry| entry.revision)
    }

    /// In key order; of all namespaces where none is given.
    fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Entry>;

    /// The pods that are bound to a node.
    fn pods_on(&self, node: &str) -> Vec<Entry>;

    /// Grows with every change of the resource.
    fn version(&self, group: &str, resource: &str) -> Revision;

    /// Tells [`Source::version`] from now on, also after the source has ended; `None` where that is not to be had.
    fn changes(&self, _group: &str, _resource: &str) -> Option<watch::Receiver<Revision>> {
        None
    }

    /// Waits until everything is seen that was committed before the call, but not for long: for callers who are
    /// about to refuse a request because something is not there.
    async fn settle(&self);

    /// Waits until the resource's version is later than `version`. Without an end if it never is.
    async fn changed(&self, group: &str, resource: &str, version: Revision);
}

impl From<&Object> for Entry {
    fn from(object: &Object) -> Self {
        Self {
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            revision: object.revision(),
            json: object.json().clone(),
        }
    }
}

#[async_trait]
impl Source for Cache {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Entry> {
        let found = self.collection(group, resource)?.get(namespace, name)?;
        (!found.is_uninitialized()).then(|| Entry::from(&*found))
    }

    fn revision(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Revision> {
        let found = self.collection(group, resource)?.get(namespace, name)?;
        (!found.is_uninitialized()).then(|| found.revision())
    }

    fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Entry> {
        let Some(collection) = self.collection(group, resource) else { return Vec::new() };
        collection.iter(namespace).map(|object| Entry::from(&*object)).collect()
    }

    fn pods_on(&self, node: &str) -> Vec<Entry> {
        let Some(pods) = self.collection("", "pods") else { return Vec::new() };
        pods.by_field("spec.nodeName", node).map(|object| Entry::from(&*object)).collect()
    }

    fn version(&self, group: &str, resource: &str) -> Revision {
        self.collection(group, resource).map_or(Revision::ZERO, |c| *c.changes().borrow())
    }

    fn changes(&self, group: &str, resource: &str) -> Option<watch::Receiver<Revision>> {
        Some(self.collection(group, resource)?.changes())
    }

    async fn settle(&self) {
        // Should the cache not keep up, the caller decides by what it has.
        let _ = self.wait_newest().await;
    }

    async fn changed(&self, group: &str, resource: &str, version: Revision) {
        let Some(collection) = self.collection(group, resource) else { return std::future::pending().await };
        let mut changes = collection.changes();
        if changes.wait_for(|newest| *newest > version).await.is_err() {
            // The collection is gone for good.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicU64, Ordering},
    };

    use parking_lot::Mutex;

    use super::*;

    type Key = (String, String, String, String);

    /// A table of objects that a test changes by hand.
    #[derive(Default)]
    pub(crate) struct Table {
        objects: Mutex<BTreeMap<Key, Entry>>,
        versions: Mutex<BTreeMap<(String, String), Revision>>,
        clock: AtomicU64,
        ticked: tokio::sync::Notify,
    }

    fn text(object: &Value, key: &str) -> String {
        object["metadata"][key].as_str().unwrap_or_default().to_owned()
    }

    impl Table {
        pub(crate) fn with(objects: &[(&str, &str, Value)]) -> Self {
            let table = Self::default();
            for (group, resource, object) in objects {
                table.put(group, resource, object.clone());
            }
            table
        }

        fn tick(&self, group: &str, resource: &str) -> Revision {
            let next = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
            let revision = Revision::parse(&next.to_string()).unwrap();
            self.versions.lock().insert((group.to_owned(), resource.to_owned()), revision);
            self.ticked.notify_waiters();
            revision
        }

        pub(crate) fn put(&self, group: &str, resource: &str, object: Value) {
            let (namespace, name) = (text(&object, "namespace"), text(&object, "name"));
            let key = (group.to_owned(), resource.to_owned(), namespace.clone(), name.clone());
            let mut objects = self.objects.lock();
            let revision = self.tick(group, resource);
            let entry = Entry { namespace, name, revision, json: Bytes::from(object.to_string()) };
            objects.insert(key, entry);
        }

        /// Has nothing from now on, as a cache whose store was closed.
        pub(crate) fn end(&self) {
            self.objects.lock().clear();
            self.versions.lock().clear();
        }

        pub(crate) fn remove(&self, group: &str, resource: &str, namespace: &str, name: &str) {
            let key = (group.to_owned(), resource.to_owned(), namespace.to_owned(), name.to_owned());
            self.objects.lock().remove(&key).unwrap();
            self.tick(group, resource);
        }
    }

    #[async_trait]
    impl Source for Table {
        fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Entry> {
            let key = (group.to_owned(), resource.to_owned(), namespace.to_owned(), name.to_owned());
            self.objects.lock().get(&key).cloned()
        }

        fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Entry> {
            let objects = self.objects.lock();
            let wanted = objects.iter().filter(|((g, r, n, _), _)| {
                g == group && r == resource && namespace.is_none_or(|namespace| namespace == n)
            });
            wanted.map(|(_, entry)| entry.clone()).collect()
        }

        fn pods_on(&self, node: &str) -> Vec<Entry> {
            let mut pods = self.list("", "pods", None);
            pods.retain(|pod| pod.tree()["spec"]["nodeName"] == node);
            pods
        }

        fn version(&self, group: &str, resource: &str) -> Revision {
            let key = (group.to_owned(), resource.to_owned());
            self.versions.lock().get(&key).copied().unwrap_or(Revision::ZERO)
        }

        async fn settle(&self) {}

        async fn changed(&self, group: &str, resource: &str, version: Revision) {
            loop {
                let ticked = self.ticked.notified();
                if self.version(group, resource) > version {
                    return;
                }
                ticked.await;
            }
        }
    }
}
