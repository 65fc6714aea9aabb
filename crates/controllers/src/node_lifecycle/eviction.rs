//! Deletes pods that do not bear a `NoExecute` taint of their node, when they have borne it for as long as they say
//! they will.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{Api, Client, api::Patch};
use parking_lot::Mutex;
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder, placement::tolerates};

use crate::{
    claim::{gone_is_fine, only},
    controller::{Controller, Tools},
    informers::{BY_NODE, Informers},
    object::Object,
    pod::Pod,
    pods::{condition, disrupted, is_finished, node_of},
};

/// Since when nodes have had those of their taints that do not say so themselves, by key and value.
type Since = BTreeMap<ObjectKey, BTreeMap<(String, Option<String>), Timestamp>>;

pub(crate) struct TaintEviction {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    nodes: Reader<Node>,
    pods: Reader<Pod>,
    since: Arc<Mutex<Since>>,
    /// The pods whose time runs.
    condemned: Mutex<BTreeSet<ObjectKey>>,
}

fn driving(node: Option<&Node>) -> Vec<Taint> {
    let taints = node.and_then(|n| n.spec.as_ref()?.taints.as_ref());
    taints.into_iter().flatten().filter(|t| t.effect == "NoExecute").cloned().collect()
}

/// Takes in the taints that a node has now.
fn note(since: &mut Since, node: &ObjectKey, taints: &[Taint], now: Timestamp) {
    let silent = taints.iter().filter(|t| t.time_added.is_none());
    let names: Vec<_> = silent.map(|t| (t.key.clone(), t.value.clone())).collect();
    if names.is_empty() {
        since.remove(node);
        return;
    }
    let noted = since.entry(node.clone()).or_default();
    noted.retain(|name, _| names.contains(name));
    for name in names {
        noted.entry(name).or_insert(now);
    }
}

/// When the pod came to its node.
fn arrived(pod: &Pod) -> Option<Timestamp> {
    let placed = condition(pod, "PodScheduled").filter(|c| c.status == "True");
    let placed = placed.and_then(|c| c.last_transition_time.as_ref());
    placed.or(pod.metadata.creation_timestamp.as_ref()).map(|t| t.0)
}

/// How long the pod may stay: `None` for as long as it likes. `since` tells of taints when they came.
fn stays(
    pod: &Pod,
    taints: &[Taint],
    since: impl Fn(&Taint) -> Option<Timestamp>,
    now: Timestamp,
) -> Option<Duration> {
    let tolerations = pod.spec.as_ref().map(|s| &*s.tolerations).unwrap_or_default();
    let mut shortest: Option<Duration> = None;
    for taint in taints {
        // Of several tolerations the first counts; one without a time has all the patience.
        let Some(borne) = tolerations.iter().find(|t| tolerates(t, taint)) else {
            return Some(Duration::ZERO);
        };
        let Some(seconds) = borne.toleration_seconds else { continue };
        let begun = since(taint).max(arrived(pod)).unwrap_or(now);
        let been = Duration::try_from(now.duration_since(begun)).unwrap_or_default();
        let left = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).saturating_sub(been);
        shortest = Some(shortest.map_or(left, |s| s.min(left)));
    }
    shortest
}

impl TaintEviction {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        let (nodes, pods) = (informers.nodes.reader(), informers.pods.reader());
        let since = Arc::<Mutex<Since>>::default();
        informers.nodes.on_change({
            let (queue, pods, since) = (queue.clone(), pods.clone(), since.clone());
            move |change| {
                let taints = driving(change.new.as_deref());
                if driving(change.old.as_deref()) != taints {
                    let mut since = since.lock();
                    note(&mut since, &change.key, &taints, Timestamp::now());
                    pods.indexed(BY_NODE, &change.key.name).iter().for_each(|p| queue.add(p.key()));
                }
            }
        });
        informers.pods.on_change({
            let queue = queue.clone();
            move |change| {
                let read = |p: &Option<Arc<Pod>>| {
                    let spec = p.as_ref().and_then(|p| p.spec.as_ref());
                    spec.map(|s| (s.node_name.clone(), s.tolerations.clone()))
                };
                if read(&change.old) != read(&change.new) {
                    queue.add(change.key.clone());
                }
            }
        });
        let Tools { client, events } = tools;
        Self { client, events, queue, nodes, pods, since, condemned: Mutex::default() }
    }

    /// How long a pod may stay where it is.
    fn stay(&self, pod: &Pod) -> Option<Duration> {
        let key = ObjectKey::new("", node_of(pod)?);
        let taints = driving(self.nodes.get(&key).as_deref());
        if taints.is_empty() || pod.is_going() || is_finished(pod) {
            return None;
        }
        let since = self.since.lock();
        let noted = since.get(&key);
        let came = |t: &Taint| match &t.time_added {
            Some(time) => Some(time.0),
            None => noted?.get(&(t.key.clone(), t.value.clone())).copied(),
        };
        stays(pod, &taints, came, Timestamp::now())
    }

    /// Notes whether the pod's time runs, and tells whether it did.
    fn condemn(&self, key: &ObjectKey, condemned: bool) -> bool {
        let mut all = self.condemned.lock();
        if condemned { !all.insert(key.clone()) } else { all.remove(key) }
    }
}

impl Controller for TaintEviction {
    const NAME: &'static str = "taint-eviction-controller";
    // Upstream has no role of its own for it either.
    const ACCOUNT: &'static str = "node-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.nodes.synced().await;
        self.pods.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(pod) = self.pods.get(key) else {
            self.condemn(key, false);
            return Ok(Verdict::Done);
        };
        match self.stay(&pod) {
            None => {
                if self.condemn(key, false) && !pod.is_going() {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.events.normal(&pod.as_reference(), "TaintManagerEviction", message);
                }
                Ok(Verdict::Done)
            }
            Some(left) if !left.is_zero() => {
                self.condemn(key, true);
                Ok(Verdict::After(left))
            }
            Some(_) => {
                let message = format!("Marking for deletion Pod {key}");
                self.events.normal(&pod.as_reference(), "TaintManagerEviction", message);
                let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
                let why = "Taint manager: deleting due to NoExecute taint";
                let condition = disrupted("DeletionByTaintManager", why, Timestamp::now());
                let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
                let told = pods.patch_status(&key.name, &Default::default(), &Patch::Strategic(patch)).await;
                gone_is_fine(told)?;
                gone_is_fine(pods.delete(&key.name, &only(pod.uid())).await)?;
                self.condemn(key, false);
                Ok(Verdict::Done)
            }
        }
    }
}

#[cfg(test)]
#[path = "eviction_tests.rs"]
mod tests;
