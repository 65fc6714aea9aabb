//! What the scheduler follows besides pods and nodes: one informer a kind, each keeping what plugins ask for.

use std::{future::Future, marker::PhantomData, pin::Pin, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, StatefulSet},
        core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, ReplicationController, Service},
        policy::v1::PodDisruptionBudget,
        resource::v1::{DeviceClass, DeviceTaintRule, ResourceClaim, ResourceSlice},
        scheduling::v1beta1::PodGroup,
        storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass},
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::{Api, Client, Resource, runtime::watcher};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tiphys_client::{Change, Informer, ObjectKey, lean};

use crate::{
    devices::kinds,
    event::Event,
    gang::SCHEDULED,
    selector::Selector,
    snapshot::{Budget, Policy, Snapshot},
    volumes::{self, Capacity, Claim, Class, Volume},
};

/// An object that selects pods, of which only the selector is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "")]
struct Selecting<K> {
    #[serde(default, deserialize_with = "lean::metadata::<lean::NoAnnotations, _>")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: SelectingSpec,
    #[serde(skip)]
    kind: PhantomData<K>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct SelectingSpec {
    #[serde(default)]
    selector: Value,
}

tiphys_client::resource_of!(K, Selecting<K>, K: Resource<DynamicType = ()>);

/// By labels, as Services and ReplicationControllers select; nothing, if it has no selector.
fn by_labels<K>(object: Selecting<K>) -> Selector {
    let labels: Option<crate::selector::Labels> = serde_json::from_value(object.spec.selector).ok();
    labels.map_or_else(|| Selector::of(None), |labels| Selector::exactly(labels.iter()))
}

fn by_selector<K>(object: Selecting<K>) -> Selector {
    let selector: Option<LabelSelector> = serde_json::from_value(object.spec.selector).ok();
    Selector::of(selector.as_ref())
}

fn budget(budget: PodDisruptionBudget) -> Budget {
    let status = budget.status.unwrap_or_default();
    let selector = budget.spec.and_then(|spec| spec.selector);
    Budget {
        selector: Selector::of(selector.as_ref()),
        left: status.disruptions_allowed.map_or(0, i64::from),
        going: status.disrupted_pods.into_iter().flatten().map(|(name, _)| name.into()).collect(),
    }
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Ends when the first list has arrived.
pub(crate) type Synced = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes a change into the snapshot.
pub(crate) trait Sink: Send + Sync + 'static {
    fn take(&self, event: Option<Event<'_>>, change: &mut dyn FnMut(&mut Snapshot));
}

struct Sources<S> {
    client: Client,
    sink: Arc<S>,
    running: Vec<(Running, Synced)>,
}

impl<S: Sink> Sources<S> {
    fn add<K, T>(
        &mut self,
        project: fn(K) -> T,
        event: Option<Event<'static>>,
        apply: impl Fn(&mut Snapshot, &Change<T>) + Send + Sync + 'static,
    ) where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
        T: PartialEq + Send + Sync + 'static,
    {
        self.add_telling(project, move |_| event, apply);
    }

    /// Like [`Sources::add`]; `event` tells what a change is to pods that wait.
    fn add_telling<K, T>(
        &mut self,
        project: fn(K) -> T,
        event: impl Fn(&Change<T>) -> Option<Event<'_>> + Send + Sync + 'static,
        apply: impl Fn(&mut Snapshot, &Change<T>) + Send + Sync + 'static,
    ) where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
        T: PartialEq + Send + Sync + 'static,
    {
        let mut informer = Informer::new(Api::all(self.client.clone()), watcher::Config::default(), project);
        let sink = self.sink.clone();
        informer.on_change(move |change| {
            // Most updates change nothing that is read here.
            if change.old != change.new {
                sink.take(event(change), &mut |all| apply(all, change));
            }
        });
        let reader = informer.reader();
        self.running.push((Box::pin(informer.run()), Box::pin(async move { reader.synced().await })));
    }

    /// What owners of one kind select.
    fn add_owner<K>(&mut self, kind: &'static str, project: fn(Selecting<K>) -> Selector)
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + 'static,
    {
        self.add(project, Some(Event::SelectorsChanged), move |all, change| {
            let key = (kind, change.key.clone());
            put(&mut all.surroundings_mut().owners, key, &change.new);
        });
    }
}

fn put<K: Ord, T>(map: &mut std::collections::BTreeMap<K, Arc<T>>, key: K, new: &Option<Arc<T>>) {
    match new {
        Some(new) => drop(map.insert(key, new.clone())),
        None => drop(map.remove(&key)),
    }
}

fn name(key: &ObjectKey) -> Box<str> {
    (&*key.name).into()
}

fn policy(group: PodGroup) -> Policy {
    let gang = group.spec.scheduling_policy.gang.map(|gang| usize::try_from(gang.min_count).unwrap_or(0));
    let conditions = group.status.and_then(|status| status.conditions).into_iter().flatten();
    let mut told =
        conditions.filter(|c| c.type_ == SCHEDULED).map(|c| (c.status == "True", c.message.into()));
    Policy { gang, told: told.next() }
}

/// Informers to run, each with what waits for its first list.
pub(crate) fn all<S: Sink>(client: Client, sink: Arc<S>) -> Vec<(Running, Synced)> {
    let mut sources = Sources { client, sink, running: Vec::new() };
    let storage = Some(Event::StorageChanged);
    let labels = |namespace: Namespace| namespace.metadata.labels.unwrap_or_default();
    sources.add(labels, Some(Event::NamespaceChanged), |all, change| {
        all.set_namespace(&change.key.name, change.new.as_deref().cloned());
    });
    sources.add(Claim::new as fn(PersistentVolumeClaim) -> _, storage, |all, change| {
        put(&mut all.storage().claims, change.key.clone(), &change.new);
    });
    sources.add(Volume::new as fn(PersistentVolume) -> Volume, storage, |all, change: &Change<Volume>| {
        let storage = all.storage();
        if change.new.as_ref().is_none_or(|volume| volume.claim.is_some()) {
            // What was promised is done, or has come to nothing.
            storage.promised.remove(&*change.key.name);
        }
        put(&mut storage.volumes, name(&change.key), &change.new);
    });
    sources.add(Class::new as fn(StorageClass) -> _, storage, |all, change| {
        put(&mut all.storage().classes, name(&change.key), &change.new);
    });
    sources.add(volumes::limits as fn(CSINode) -> _, storage, |all, change| {
        put(&mut all.storage().limits, name(&change.key), &change.new);
    });
    sources.add(
        |driver: CSIDriver| driver.spec.storage_capacity == Some(true),
        storage,
        |all, change| {
            let measured = &mut all.storage().measured;
            match change.new.as_deref() {
                Some(true) => drop(measured.insert(name(&change.key))),
                _ => drop(measured.remove(&*change.key.name)),
            }
        },
    );
    sources.add(Capacity::new as fn(CSIStorageCapacity) -> _, storage, |all, change| {
        put(&mut all.storage().capacities, change.key.clone(), &change.new);
    });
    let devices = Some(Event::DevicesChanged);
    sources.add(kinds::Slice::new as fn(ResourceSlice) -> _, devices, |all, change| {
        all.devices().set_slice(&change.key.name, change.old.as_deref(), change.new.as_ref());
    });
    let class = Some(Event::DeviceClassChanged);
    sources.add(kinds::Class::new as fn(DeviceClass) -> _, class, |all, change| {
        all.set_device_class(&change.key.name, change.new.clone());
    });
    sources.add(kinds::Rule::new as fn(DeviceTaintRule) -> _, devices, |all, change| {
        put(&mut all.devices().rules, name(&change.key), &change.new);
    });
    sources.add_telling(
        kinds::Claim::new as fn(ResourceClaim) -> _,
        |change: &Change<kinds::Claim>| {
            // The claim for a pod's extended resources keeps it waiting as long as it is there.
            let frees = change.old.as_ref().is_some_and(|old| match &change.new {
                Some(new) => old.allocation.is_some() && new.allocation.is_none(),
                None => old.allocation.is_some() || old.for_resources_of().is_some(),
            });
            Some(Event::DeviceClaimChanged { claim: &change.key, frees })
        },
        |all, change| all.devices().set_claim(&change.key, change.new.clone()),
    );
    sources.add(budget, None, |all, change| {
        put(&mut all.surroundings_mut().budgets, change.key.clone(), &change.new);
    });
    sources.add(policy, Some(Event::GroupsChanged), |all, change| {
        all.set_group(&change.key, change.new.clone());
    });
    sources.add(by_labels::<Service>, Some(Event::SelectorsChanged), |all, change| {
        put(&mut all.surroundings_mut().services, change.key.clone(), &change.new);
    });
    sources.add_owner("ReplicationController", by_labels::<ReplicationController>);
    sources.add_owner("ReplicaSet", by_selector::<ReplicaSet>);
    sources.add_owner("StatefulSet", by_selector::<StatefulSet>);
    sources.running
}
