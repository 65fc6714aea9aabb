//! ConfigMaps and Secrets that pods of this node refer to, kept up to date by one watch an object.
//!
//! A node may read only what its pods name, so there is no watch of a whole collection. The watch of an object
//! lives as long as a pod that refers to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::key::PodKey;
use crate::pod;

/// How long a pod waits for the first answer about an object.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which of the two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Plain configuration.
    ConfigMap,
    /// Configuration that is kept off disks.
    Secret,
}

impl Kind {
    /// `configmap` or `secret`, as messages have it.
    pub fn lower(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

/// The identity of such an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, always the pod's.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.lower(), self.namespace, self.name)
    }
}

/// What such an object holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// Values by key; text and binary alike.
    pub data: BTreeMap<String, Bytes>,
    /// The type of a Secret.
    pub type_: String,
}

/// The answers about the objects that a pod refers to; `None` for one that does not exist.
pub type Contents = BTreeMap<ContentId, Option<Arc<Content>>>;

/// No answer about an object came in time.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to sync {} cache: timed out waiting for {id}", .id.kind.lower())]
pub struct NotSynced {
    id: ContentId,
}

#[derive(Clone, Debug)]
enum Answer {
    Pending,
    Absent,
    Present(Arc<Content>),
}

struct Entry {
    answer: watch::Receiver<Answer>,
    users: BTreeSet<PodKey>,
    _task: AbortOnDropHandle<()>,
}

/// Called with a pod when something that it refers to has changed.
pub type Notify = Arc<dyn Fn(&PodKey) + Send + Sync>;

/// All objects that pods of this node refer to.
pub struct ContentStore {
    client: kube::Client,
    entries: Arc<Mutex<HashMap<ContentId, Entry>>>,
    notify: Notify,
}

impl ContentStore {
    /// An empty store that calls `notify` after each change.
    pub fn new(client: kube::Client, notify: Notify) -> Self {
        Self { client, entries: Arc::default(), notify }
    }

    /// Says which objects a pod refers to from now on; none when it is gone.
    pub fn set_references(&self, user: &PodKey, wanted: &BTreeSet<ContentId>) {
        let mut entries = self.entries.lock();
        entries.retain(|id, entry| {
            if !wanted.contains(id) {
                entry.users.remove(user);
            }
            !entry.users.is_empty() || wanted.contains(id)
        });
        for id in wanted {
            let entry = entries.entry(id.clone()).or_insert_with(|| self.follow(id.clone()));
            entry.users.insert(user.clone());
        }
    }

    /// What the objects hold now. Waits for the first answer about each.
    pub async fn get(&self, ids: &BTreeSet<ContentId>) -> Result<Contents, NotSynced> {
        let mut contents = Contents::new();
        for id in ids {
            let answer = {
                let entries = self.entries.lock();
                entries.get(id).map(|e| e.answer.clone())
            };
            let Some(mut answer) = answer else { return Err(NotSynced { id: id.clone() }) };
            let wait = answer.wait_for(|a| !matches!(a, Answer::Pending));
            let Ok(Ok(found)) = tokio::time::timeout(PATIENCE, wait).await else {
                return Err(NotSynced { id: id.clone() });
            };
            let content = match &*found {
                Answer::Present(content) => Some(content.clone()),
                Answer::Absent | Answer::Pending => None,
            };
            drop(found);
            contents.insert(id.clone(), content);
        }
        Ok(contents)
    }

    fn follow(&self, id: ContentId) -> Entry {
        let (say, answer) = watch::channel(Answer::Pending);
        let client = self.client.clone();
        let entries = Arc::downgrade(&self.entries);
        let notify = self.notify.clone();
        let of = id.clone();
        let tell = move |content: Option<Content>| {
            let new = content.map_or(Answer::Absent, |c| Answer::Present(Arc::new(c)));
            let first = matches!(*say.borrow(), Answer::Pending);
            let same = match (&*say.borrow(), &new) {
                (Answer::Absent, Answer::Absent) => true,
                (Answer::Present(a), Answer::Present(b)) => a == b,
                _ => false,
            };
            if same {
                return;
            }
            say.send_replace(new);
            if first {
                return;
            }
            let users = entries.upgrade().map(|entries| {
                let entries = entries.lock();
                entries.get(&of).map(|e| e.users.clone()).unwrap_or_default()
            });
            for user in users.into_iter().flatten() {
                notify(&user);
            }
        };
        let task = tokio::spawn(async move {
            match id.kind {
                Kind::ConfigMap => {
                    watch_one(Api::namespaced(client, &id.namespace), &id, config_map, tell).await
                }
                Kind::Secret => watch_one(Api::namespaced(client, &id.namespace), &id, secret, tell).await,
            }
        });
        Entry { answer, users: BTreeSet::new(), _task: AbortOnDropHandle::new(task) }
    }
}

/// Tells what one object holds, now and after each change, until it is dropped.
async fn watch_one<K>(
    api: Api<K>,
    id: &ContentId,
    read: fn(K) -> Content,
    mut tell: impl FnMut(Option<Content>),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    let mut events = std::pin::pin!(watcher::watch_object(api, &id.name).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(object) => tell(object.map(read)),
            Err(error) => tracing::debug!(object = %id, %error, "watch interrupted"),
        }
    }
}

fn config_map(object: ConfigMap) -> Content {
    let text = object.data.into_iter().flatten().map(|(k, v)| (k, Bytes::from(v)));
    let binary = object.binary_data.into_iter().flatten().map(|(k, v)| (k, Bytes::from(v.0)));
    Content { data: text.chain(binary).collect(), type_: String::new() }
}

fn secret(object: Secret) -> Content {
    let data = object.data.into_iter().flatten().map(|(k, v)| (k, Bytes::from(v.0)));
    Content { data: data.collect(), type_: object.type_.unwrap_or_default() }
}

/// Every ConfigMap and Secret that a pod's spec names.
pub fn references(pod: &Pod) -> BTreeSet<ContentId> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut ids = BTreeSet::new();
    let mut add = |kind, name: &str| {
        if !name.is_empty() {
            ids.insert(ContentId { kind, namespace: namespace.clone(), name: name.to_owned() });
        }
    };
    let spec = pod::spec(pod);
    for secret in spec.image_pull_secrets.iter().flatten() {
        add(Kind::Secret, &secret.name);
    }
    for container in pod::all_containers(pod) {
        for from in container.spec.env_from.iter().flatten() {
            if let Some(source) = &from.config_map_ref {
                add(Kind::ConfigMap, &source.name);
            }
            if let Some(source) = &from.secret_ref {
                add(Kind::Secret, &source.name);
            }
        }
        for from in container.spec.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            if let Some(source) = &from.config_map_key_ref {
                add(Kind::ConfigMap, &source.name);
            }
            if let Some(source) = &from.secret_key_ref {
                add(Kind::Secret, &source.name);
            }
        }
    }
    for volume in spec.volumes.iter().flatten() {
        if let Some(source) = &volume.config_map {
            add(Kind::ConfigMap, &source.name);
        }
        if let Some(source) = &volume.secret {
            add(Kind::Secret, source.secret_name.as_deref().unwrap_or_default());
        }
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            if let Some(source) = &source.config_map {
                add(Kind::ConfigMap, &source.name);
            }
            if let Some(source) = &source.secret {
                add(Kind::Secret, &source.name);
            }
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_from;
    use serde_json::json;

    #[test]
    fn finds_every_reference() {
        let pod = pod_from(json!({"metadata": {"namespace": "ns"}, "spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "c1"}}, {"secretRef": {"name": "s1"}}]}],
            "containers": [{"name": "m", "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c2", "key": "k"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}}]}],
            "volumes": [
                {"name": "a", "configMap": {"name": "c3"}},
                {"name": "b", "secret": {"secretName": "s3"}},
                {"name": "c", "projected": {"sources": [{"configMap": {"name": "c4"}}, {"secret": {"name": "s4"}}]}}]}}));
        let names: Vec<String> = references(&pod).into_iter().map(|id| id.to_string()).collect();
        assert_eq!(
            names.join(","),
            "configmap ns/c1,configmap ns/c2,configmap ns/c3,configmap ns/c4,\
             secret ns/pull,secret ns/s1,secret ns/s2,secret ns/s3,secret ns/s4"
        );
    }
}
