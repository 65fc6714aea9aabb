//! Whether nodes are alive, told by taints, and what becomes of pods on nodes that are not.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition, Taint},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, Preconditions},
};
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder, placement::tolerates};

use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    informers::{BY_NODE, Informers, LEASES},
    object::Object,
    pod::Pod,
    pods::{disrupted, phase},
};

/// A node whose lease is older is taken for dead: upstream's `--node-monitor-grace-period`.
const GRACE: Duration = Duration::from_secs(50);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The taints that this controller owns: it sets and removes them, and leaves all others alone.
const OWNED: [&str; 7] = [
    NOT_READY,
    UNREACHABLE,
    UNSCHEDULABLE,
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
];

/// What a node needs.
#[derive(Debug, PartialEq)]
struct Plan {
    /// The taints that it should have, if they are others than it has.
    taints: Option<Vec<Taint>>,
    /// Its conditions are to become `Unknown`: the kubelet has stopped telling.
    lost: bool,
    look_again: Duration,
}

fn status<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// The last sign of life: the lease's renewal, a heartbeat, or that the node was made.
fn last_sign(node: &Node, lease: Option<&Lease>) -> Option<Timestamp> {
    let renewed = lease.and_then(|l| l.spec.as_ref()).and_then(|s| s.renew_time.as_ref()).map(|t| t.0);
    let beat = status(node, "Ready").filter(|c| c.status != "Unknown");
    let beat = beat.and_then(|c| c.last_heartbeat_time.as_ref()).map(|t| t.0);
    let made = node.metadata.creation_timestamp.as_ref().map(|t| t.0);
    renewed.max(beat).max(made)
}

/// A node is dead when it has been silent for long enough, of which only the time since `watching` counts: while
/// nobody listened, a node's silence told nothing.
fn plan(node: &Node, lease: Option<&Lease>, watching: Timestamp, now: Timestamp) -> Plan {
    let age = last_sign(node, lease)
        .max(Some(watching))
        .map_or(Duration::ZERO, |t| Duration::try_from(now.duration_since(t)).unwrap_or_default());
    let ready = status(node, "Ready").map(|c| c.status.as_str());
    let dead = age >= GRACE;
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    if dead || ready == Some("Unknown") {
        wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]);
    } else if ready != Some("True") {
        wanted.push((NOT_READY, "NoSchedule"));
        // A node that was never ready has nothing that could be evicted.
        if ready.is_some() {
            wanted.push((NOT_READY, "NoExecute"));
        }
    }
    for (condition, taint) in [
        ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
        ("DiskPressure", "node.kubernetes.io/disk-pressure"),
        ("PIDPressure", "node.kubernetes.io/pid-pressure"),
        ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
    ] {
        if status(node, condition).is_some_and(|c| c.status == "True") {
            wanted.push((taint, "NoSchedule"));
        }
    }
    if node.spec.as_ref().is_some_and(|s| s.unschedulable == Some(true)) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let present = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let is_wanted = |t: &Taint| wanted.contains(&(t.key.as_str(), t.effect.as_str()));
    let mut taints: Vec<Taint> =
        present.iter().filter(|t| !OWNED.contains(&t.key.as_str()) || is_wanted(t)).cloned().collect();
    for (key, effect) in &wanted {
        if !taints.iter().any(|t| t.key == *key && t.effect == *effect) {
            let time_added = (*effect == "NoExecute").then_some(Time(now));
            taints.push(Taint {
                key: (*key).to_owned(),
                effect: (*effect).to_owned(),
                value: None,
                time_added,
            });
        }
    }
    let lost = dead && ready.is_some_and(|r| r != "Unknown");
    let look_again = if dead { GRACE } else { GRACE - age + Duration::from_millis(100) };
    Plan { taints: (taints != present).then_some(taints), lost, look_again }
}

pub(crate) struct NodeLifecycle {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    nodes: Reader<Node>,
    leases: Reader<Lease>,
    watching: Timestamp,
}

impl NodeLifecycle {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.nodes.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        // A renewed lease matters only to a node that was given up; others are looked at in time.
        let (nodes, leases) = (informers.nodes.reader(), informers.node_leases.reader());
        informers.node_leases.on_change({
            let (queue, nodes) = (queue.clone(), nodes.clone());
            move |change| {
                let key = ObjectKey::new("", &change.key.name);
                let given_up = nodes.get(&key).is_some_and(|n| {
                    n.spec.iter().flat_map(|s| s.taints.iter().flatten()).any(|t| t.key == UNREACHABLE)
                });
                if given_up {
                    queue.add(key);
                }
            }
        });
        let watching = Timestamp::now();
        Self { client: tools.client, events: tools.events, queue, nodes, leases, watching }
    }
}

impl Controller for NodeLifecycle {
    const NAME: &'static str = "node-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.nodes.synced().await;
        self.leases.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(node) = self.nodes.get(key) else { return Ok(Verdict::Done) };
        let now = Timestamp::now();
        let lease = self.leases.get(&ObjectKey::new(LEASES, &key.name));
        let Plan { taints, lost, look_again } = plan(&node, lease.as_deref(), self.watching, now);
        let nodes: Api<Node> = Api::all(self.client.clone());
        if lost {
            let message = format!("Node {} status is now: NodeNotReady", node.name());
            self.events.normal(&node.as_reference(), "NodeNotReady", message);
            let now = Time(now);
            let conditions: Vec<_> = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
                .map(|kind| {
                    json!({"type": kind, "status": "Unknown", "reason": "NodeStatusUnknown",
                    "message": "Kubelet stopped posting node status.", "lastTransitionTime": now})
                })
                .into();
            let patch = json!({"metadata": {"uid": node.uid()}, "status": {"conditions": conditions}});
            gone_is_fine(nodes.patch_status(&key.name, &Default::default(), &Patch::Strategic(patch)).await)?;
        }
        if let Some(taints) = taints {
            let patch = json!({
                "metadata": {"uid": node.uid(), "resourceVersion": node.metadata.resource_version},
                "spec": {"taints": taints},
            });
            nodes.patch(&key.name, &Default::default(), &Patch::Merge(patch)).await?;
        }
        Ok(Verdict::After(look_again))
    }
}

/// Deletes pods that do not bear a `NoExecute` taint of their node, when they have borne it for as long as
/// they say they will.
pub(crate) struct TaintEviction {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    nodes: Reader<Node>,
    pods: Reader<Pod>,
}

/// How long the pod may stay: `None` for as long as it likes.
fn stays(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<Duration> {
    let tolerations = pod.spec.as_ref().map(|s| &*s.tolerations).unwrap_or_default();
    let mut shortest: Option<Duration> = None;
    for taint in taints.iter().filter(|t| t.effect == "NoExecute") {
        let mut borne = tolerations.iter().filter(|t| tolerates(t, taint)).peekable();
        if borne.peek().is_none() {
            return Some(Duration::ZERO);
        }
        // Of several tolerations the least patient counts; one without a time has all the patience.
        let Some(seconds) = borne.filter_map(|t| t.toleration_seconds).min() else { continue };
        let since = taint.time_added.as_ref().map_or(now, |t| t.0);
        let been = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let left = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).saturating_sub(been);
        shortest = Some(shortest.map_or(left, |s| s.min(left)));
    }
    shortest
}

impl TaintEviction {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        let (nodes, pods) = (informers.nodes.reader(), informers.pods.reader());
        informers.nodes.on_change({
            let (queue, pods) = (queue.clone(), pods.clone());
            move |change| {
                let taints = |n: &Option<Arc<Node>>| n.as_ref().and_then(|n| n.spec.as_ref()?.taints.clone());
                if taints(&change.old) != taints(&change.new) {
                    pods.indexed(BY_NODE, &change.key.name).iter().for_each(|p| queue.add(p.key()));
                }
            }
        });
        informers.pods.on_change({
            let queue = queue.clone();
            move |change| {
                let node = |p: &Option<Arc<Pod>>| p.as_ref().and_then(|p| p.spec.as_ref()?.node_name.clone());
                if change.new.is_some() && node(&change.old) != node(&change.new) {
                    queue.add(change.key.clone());
                }
            }
        });
        Self { client: tools.client, events: tools.events, queue, nodes, pods }
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
        let Some(pod) = self.pods.get(key) else { return Ok(Verdict::Done) };
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default();
        let Some(node) = self.nodes.get(&ObjectKey::new("", node)) else { return Ok(Verdict::Done) };
        if pod.is_going() || matches!(phase(&pod), "Succeeded" | "Failed") {
            return Ok(Verdict::Done);
        }
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
        match stays(&pod, taints, Timestamp::now()) {
            None => Ok(Verdict::Done),
            Some(left) if !left.is_zero() => Ok(Verdict::After(left)),
            Some(_) => {
                let message = format!("Marking for deletion Pod {key}");
                self.events.normal(&pod.as_reference(), "TaintManagerEviction", message);
                let precondition = Preconditions { uid: Some(pod.uid().to_owned()), resource_version: None };
                let params = DeleteParams { preconditions: Some(precondition), ..Default::default() };
                let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
                let why = "Taint manager: deleting due to NoExecute taint";
                let condition = disrupted("DeletionByTaintManager", why, Timestamp::now());
                let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
                let told = pods.patch_status(&key.name, &Default::default(), &Patch::Strategic(patch)).await;
                gone_is_fine(told)?;
                gone_is_fine(pods.delete(&key.name, &params).await)?;
                Ok(Verdict::Done)
            }
        }
    }
}

#[cfg(test)]
#[path = "node_lifecycle_tests.rs"]
mod tests;
