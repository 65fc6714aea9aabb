//! How many pods there should be: the sum of what the owners of those that there are ask for.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::ReplicationController,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::Client;
use serde_json::Value;
use tiphys_client::{ObjectKey, Reader, key::controller_of};

use crate::{
    informers::Informers,
    object::Object,
    pod::Pod,
    scale::{Collection, find, path},
};

/// Why it cannot be told, in upstream's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Unknown {
    #[error("found no controllers for pod {0:?}")]
    NoOwner(String),
    #[error("{0} does not implement the scale subresource")]
    NoScale(String),
}

impl Unknown {
    /// That of its event.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoOwner(_) => "NoControllers",
            Self::NoScale(_) => "NoScale",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) pods: i32,
    /// Some pods have no owner, and are not counted.
    pub(super) unmanaged: bool,
}

pub(super) struct Owners {
    client: Client,
    deployments: Reader<Deployment>,
    replica_sets: Reader<ReplicaSet>,
    stateful_sets: Reader<StatefulSet>,
    controllers: Reader<ReplicationController>,
}

/// An owner, and what it asks for.
type Scale = (String, i32);

impl Owners {
    pub(super) fn new(client: Client, informers: &Informers) -> Self {
        Self {
            client,
            deployments: informers.deployments.reader(),
            replica_sets: informers.replica_sets.reader(),
            stateful_sets: informers.stateful_sets.reader(),
            controllers: informers.replication_controllers.reader(),
        }
    }

    pub(super) async fn synced(&self) {
        self.deployments.synced().await;
        self.replica_sets.synced().await;
        self.stateful_sets.synced().await;
        self.controllers.synced().await;
    }

    /// Each owner counts once, however many pods it has.
    pub(super) async fn expected(&self, pods: &[Arc<Pod>]) -> Result<Result<Expected, Unknown>, kube::Error> {
        let mut expected = Expected::default();
        // By the UID of what a pod names; several ReplicaSets may be of one Deployment.
        let mut asked: BTreeMap<&str, ()> = BTreeMap::new();
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            let Some(owner) = controller_of(&pod.metadata) else {
                expected.unmanaged = true;
                continue;
            };
            if asked.insert(&owner.uid, ()).is_some() {
                continue;
            }
            let scale = match self.known(owner, pod.namespace()) {
                Some(scale) => Some(scale),
                None => match self.ask(owner, pod.namespace()).await? {
                    Ok(scale) => scale,
                    Err(unknown) => return Ok(Err(unknown)),
                },
            };
            let Some((uid, scale)) = scale else { return Ok(Err(Unknown::NoOwner(pod.name().to_owned()))) };
            scales.insert(uid, scale);
        }
        expected.pods = scales.values().fold(0, |sum: i32, scale| sum.saturating_add(*scale));
        Ok(Ok(expected))
    }

    /// What an owner of a kind that is followed asks for.
    fn known(&self, owner: &OwnerReference, namespace: &str) -> Option<Scale> {
        let key = ObjectKey::new(namespace, &owner.name);
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let scale = |uid: &str, replicas: Option<i32>| (uid.to_owned(), replicas.unwrap_or(1));
        match (group, &*owner.kind) {
            ("apps" | "extensions", "ReplicaSet") => {
                let set = self.replica_sets.get(&key).filter(|s| s.uid() == owner.uid)?;
                let higher = controller_of(&set.metadata).filter(|o| o.kind == "Deployment");
                let deployment = higher
                    .and_then(|o| self.deployments.get(&ObjectKey::new(namespace, &o.name)))
                    .filter(|d| higher.is_some_and(|o| o.uid == d.uid()));
                Some(match deployment {
                    Some(deployment) => scale(deployment.uid(), deployment.spec.replicas),
                    None => scale(set.uid(), set.spec.replicas),
                })
            }
            ("apps", "StatefulSet") => {
                let set = self.stateful_sets.get(&key).filter(|s| s.uid() == owner.uid)?;
                Some(scale(set.uid(), set.spec.replicas))
            }
            ("", "ReplicationController") => {
                let set = self.controllers.get(&key).filter(|s| s.uid() == owner.uid)?;
                Some(scale(set.uid(), set.spec.as_ref().and_then(|s| s.replicas)))
            }
            _ => None,
        }
    }

    /// What any other owner says at its `/scale`; nothing if it is gone.
    async fn ask(
        &self,
        owner: &OwnerReference,
        namespace: &str,
    ) -> Result<Result<Option<Scale>, Unknown>, kube::Error> {
        let version = &owner.api_version;
        let plural = match find(&self.client, version, &owner.kind).await? {
            Collection::Nothing => return Ok(Ok(None)),
            Collection::Fixed(plural) => {
                let group = version.split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
                return Ok(Err(Unknown::NoScale(format!("{plural}{group}"))));
            }
            Collection::Scalable(plural) => plural,
        };
        let path = path(version, namespace, &plural, &owner.name);
        let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        match self.client.request::<Value>(request).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Ok(None)),
            scale => {
                let scale = scale?;
                let replicas = scale["spec"]["replicas"].as_i64().and_then(|n| i32::try_from(n).ok());
                let same = scale["metadata"]["uid"] == *owner.uid;
                Ok(Ok(same.then(|| (owner.uid.clone(), replicas.unwrap_or(0)))))
            }
        }
    }
}
