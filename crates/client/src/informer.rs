//! A local, ordered copy of one collection, kept by list and watch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, pin_mut};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use crate::{follow::follow, key::ObjectKey};

/// One change of one object. Never both `None`.
#[derive(Debug)]
pub struct Change<T> {
    pub key: ObjectKey,
    pub old: Option<Arc<T>>,
    pub new: Option<Arc<T>>,
}

/// Names the groups an object is found under: its owner's UID, its node, a label's value.
pub type IndexFn<T> = fn(&T) -> Vec<String>;

/// An informer that is this far behind is taken to have lost the change.
pub const LOST_AFTER: Duration = Duration::from_secs(30);

type Handler<T> = Box<dyn Fn(&Change<T>) + Send + Sync>;

struct Index<T> {
    name: &'static str,
    of: IndexFn<T>,
    groups: BTreeMap<String, BTreeSet<ObjectKey>>,
}

/// An object, and the version that it is of.
struct Known<T> {
    version: u64,
    object: Arc<T>,
}

/// A version that a reader has written.
struct Written {
    version: u64,
    at: Instant,
}

struct State<T> {
    objects: BTreeMap<ObjectKey, Known<T>>,
    /// Later than what is known; of living objects alone.
    written: BTreeMap<ObjectKey, Written>,
    indexes: Vec<Index<T>>,
}

impl<T> State<T> {
    fn get(&self, key: &ObjectKey) -> Option<Arc<T>> {
        self.objects.get(key).map(|known| known.object.clone())
    }

    fn set(&mut self, key: &ObjectKey, new: Option<Known<T>>) -> Option<Arc<T>> {
        if self.written.get(key).is_some_and(|w| new.as_ref().is_none_or(|n| n.version >= w.version)) {
            self.written.remove(key);
        }
        let object = new.as_ref().map(|known| known.object.clone());
        let old = match new {
            Some(known) => self.objects.insert(key.clone(), known),
            None => self.objects.remove(key),
        };
        let (old, new) = (old.map(|known| known.object), object);
        for index in &mut self.indexes {
            if let Some(old) = &old {
                for group in (index.of)(old) {
                    if let Some(members) = index.groups.get_mut(&group) {
                        members.remove(key);
                        if members.is_empty() {
                            index.groups.remove(&group);
                        }
                    }
                }
            }
            if let Some(new) = &new {
                for group in (index.of)(new) {
                    index.groups.entry(group).or_default().insert(key.clone());
                }
            }
        }
        old
    }
}

/// Reads what an informer holds. Cheap to clone; every answer is what the informer knew at that moment.
pub struct Reader<T> {
    state: Arc<RwLock<State<T>>>,
    synced: watch::Receiver<bool>,
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), synced: self.synced.clone() }
    }
}

impl<T> Reader<T> {
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<T>> {
        self.state.read().get(key)
    }

    /// The reader has written this version of an object; who asks whether the informer is behind is told so until it
    /// shows that one, or a later one.
    pub fn wrote(&self, meta: &ObjectMeta) {
        let (key, version) = (ObjectKey::of(meta), version(meta));
        let mut state = self.state.write();
        // What is gone, or has been shown meanwhile, need not be waited for.
        if state.objects.get(&key).is_some_and(|known| known.version < version) {
            state.written.insert(key, Written { version, at: Instant::now() });
        }
    }

    /// Whether the informer does not show yet what the reader has written. The change that shows it will come to the
    /// handlers; a plan made before would do the same again. After [`LOST_AFTER`] what is shown counts.
    pub fn is_behind(&self, key: &ObjectKey) -> bool {
        self.state.read().written.get(key).is_some_and(|written| written.at.elapsed() < LOST_AFTER)
    }

    /// Everything, in key order.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.state.read().objects.values().map(|known| known.object.clone()).collect()
    }

    /// Everything in one namespace, in name order.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<T>> {
        let from = ObjectKey::new(namespace, "");
        self.state
            .read()
            .objects
            .range((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| &*key.namespace == namespace)
            .map(|(_, known)| known.object.clone())
            .collect()
    }

    /// What the named index has under `group`, in key order; nothing for an index that does not exist.
    pub fn indexed(&self, index: &str, group: &str) -> Vec<Arc<T>> {
        let state = self.state.read();
        let Some(keys) = state.indexes.iter().find(|i| i.name == index).and_then(|i| i.groups.get(group))
        else {
            return Vec::new();
        };
        keys.iter().filter_map(|key| state.get(key)).collect()
    }

    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until the first complete list has arrived. Handlers have seen all of it by then.
    pub async fn synced(&self) {
        let mut synced = self.synced.clone();
        // The sender is gone only when the informer was dropped, and then nobody reads on.
        if synced.wait_for(|done| *done).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Follows one collection and keeps `T`, what its readers need of each object.
///
/// Guarantees: handlers are called in the order of changes, one at a time, after readers can see the
/// change; a change that a broken watch swallowed is made up for by the next list, as one change from the
/// last state seen to the newest.
pub struct Informer<K, T> {
    api: Api<K>,
    config: watcher::Config,
    project: fn(K) -> T,
    reader: Reader<T>,
    handlers: Vec<Handler<T>>,
    synced: watch::Sender<bool>,
}

impl<K, T> Informer<K, T>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Send + Sync + 'static,
{
    /// `project` keeps of an object what readers need; everything else is dropped at once.
    pub fn new(api: Api<K>, config: watcher::Config, project: fn(K) -> T) -> Self {
        let (synced, seen) = watch::channel(false);
        let state = Arc::new(RwLock::new(State {
            objects: BTreeMap::new(),
            written: BTreeMap::new(),
            indexes: Vec::new(),
        }));
        Self { api, config, project, reader: Reader { state, synced: seen }, handlers: Vec::new(), synced }
    }

    #[must_use]
    pub fn index(self, name: &'static str, of: IndexFn<T>) -> Self {
        self.reader.state.write().indexes.push(Index { name, of, groups: BTreeMap::new() });
        self
    }

    /// Calls `handler` for every change. It must not block: it runs on the watch.
    pub fn on_change(&mut self, handler: impl Fn(&Change<T>) + Send + Sync + 'static) {
        self.handlers.push(Box::new(handler));
    }

    pub fn reader(&self) -> Reader<T> {
        self.reader.clone()
    }

    /// Follows the collection for as long as the future is polled.
    pub async fn run(self) {
        let events = follow(self.api.clone(), self.config.clone()).default_backoff();
        pin_mut!(events);
        // While a list arrives: the keys it has named, all others being gone when it is complete.
        let mut listed: Option<BTreeSet<ObjectKey>> = None;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed = Some(BTreeSet::new()),
                Ok(Event::InitApply(object)) => {
                    let key = ObjectKey::of(object.meta());
                    if let Some(listed) = &mut listed {
                        listed.insert(key.clone());
                    }
                    self.apply(key, Some(object));
                }
                Ok(Event::InitDone) => {
                    let present = listed.take().unwrap_or_default();
                    let gone: Vec<_> = {
                        let state = self.reader.state.read();
                        state.objects.keys().filter(|key| !present.contains(*key)).cloned().collect()
                    };
                    for key in gone {
                        self.apply(key, None);
                    }
                    self.synced.send_replace(true);
                }
                Ok(Event::Apply(object)) => self.apply(ObjectKey::of(object.meta()), Some(object)),
                Ok(Event::Delete(object)) => self.apply(ObjectKey::of(object.meta()), None),
                Err(error) => {
                    warn!(resource = %K::plural(&()), %error, "watch interrupted");
                }
            }
        }
    }

    fn apply(&self, key: ObjectKey, object: Option<K>) {
        let known = object.map(|object| {
            let version = version(object.meta());
            Known { version, object: Arc::new((self.project)(object)) }
        });
        let new = known.as_ref().map(|known| known.object.clone());
        let old = self.reader.state.write().set(&key, known);
        if old.is_none() && new.is_none() {
            return;
        }
        let change = Change { key, old, new };
        for handler in &self.handlers {
            handler(&change);
        }
    }
}

/// The version of an object as a number, as KEP-5504 has it; zero for one that is none.
fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
#[path = "informer_tests.rs"]
mod tests;
