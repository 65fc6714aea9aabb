//! Whether nodes are alive, told by conditions and taints, and what becomes of pods on nodes that are not.

mod eviction;
mod plan;
mod zones;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, Client, api::Patch};
use parking_lot::Mutex;
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder};
use tokio::time::Instant;

pub(crate) use self::eviction::TaintEviction;
use self::{
    plan::{UNREACHABLE, is_lost, is_ready, status},
    zones::{Zone, Zones},
};
use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    informers::{BY_NODE, Informers},
    metrics,
    object::Object,
    pod::Pod,
    pods,
};

/// When nodes are given up, and how fast. The defaults are upstream's.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// A node that has been silent for longer is taken for dead (`--node-monitor-grace-period`).
    pub monitor_grace: Duration,
    /// The same for a node that has never told its status (`--node-startup-grace-period`).
    pub startup_grace: Duration,
    /// How many nodes of a zone are given up each second (`--node-eviction-rate`).
    pub eviction_rate: f64,
    /// The same for a disturbed zone of many nodes (`--secondary-node-eviction-rate`).
    pub secondary_eviction_rate: f64,
    /// A disturbed zone of no more nodes than this gives none up (`--large-cluster-size-threshold`).
    pub large_cluster_threshold: usize,
    /// The share of nodes that are not ready from which a zone is disturbed, of 1 (`--unhealthy-zone-threshold`).
    pub unhealthy_zone_threshold: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            monitor_grace: Duration::from_secs(50),
            startup_grace: Duration::from_secs(60),
            eviction_rate: 0.1,
            secondary_eviction_rate: 0.01,
            large_cluster_threshold: 50,
            unhealthy_zone_threshold: 0.55,
        }
    }
}

/// What is known of nodes beside their objects.
#[derive(Default)]
struct Known {
    /// When each was last heard of. Only what was seen here counts, by this clock: while nobody listened, a node's
    /// silence told nothing, and its own clock may be wrong.
    heard: BTreeMap<ObjectKey, Instant>,
    zones: Zones,
}

pub(crate) struct NodeLifecycle {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    nodes: Reader<Node>,
    leases: Reader<Lease>,
    pods: Reader<Pod>,
    settings: Settings,
    known: Arc<Mutex<Known>>,
}

/// When the node itself last told how it is, by its own clock.
fn beat(node: &Node) -> Option<&NodeCondition> {
    status(node, "Ready").filter(|c| c.status != "Unknown")
}

impl NodeLifecycle {
    pub(crate) fn new(tools: Tools, informers: &mut Informers, settings: Settings) -> Self {
        let queue = Queue::new();
        let known = Arc::<Mutex<Known>>::default();
        let Tools { client, events } = tools;
        informers.nodes.on_change({
            let (queue, known, settings, events) =
                (queue.clone(), known.clone(), settings.clone(), events.clone());
            move |change| {
                let now = Instant::now();
                let mut known = known.lock();
                match (&change.old, &change.new) {
                    (Some(old), None) => {
                        known.heard.remove(&change.key);
                        events.normal(&old.as_reference(), "RemovingNode", told(old, "Removing", "from"));
                    }
                    (None, Some(new)) => {
                        known.heard.insert(change.key.clone(), now);
                        events.normal(&new.as_reference(), "RegisteredNode", told(new, "Registered", "in"));
                    }
                    (Some(old), Some(new)) if beat(new).is_some() && beat(old) != beat(new) => {
                        known.heard.insert(change.key.clone(), now);
                    }
                    _ => {}
                }
                let node = change.new.as_ref().map(|node| (Zone::of(node), is_ready(node)));
                let concerned = known.zones.see(&settings, &change.key, node, now);
                if concerned.back {
                    known.heard.values_mut().for_each(|at| *at = now);
                }
                concerned.nodes.into_iter().for_each(|key| queue.add(key));
                queue.add(change.key.clone());
            }
        });
        let (nodes, leases, pods) =
            (informers.nodes.reader(), informers.node_leases.reader(), informers.pods.reader());
        informers.node_leases.on_change({
            let (queue, nodes, known) = (queue.clone(), nodes.clone(), known.clone());
            move |change| {
                let renewed = |lease: &Option<Arc<Lease>>| lease.as_ref()?.spec.as_ref()?.renew_time.clone();
                if change.new.is_none() || renewed(&change.old) == renewed(&change.new) {
                    return;
                }
                let key = ObjectKey::new("", &change.key.name);
                if let Some(at) = known.lock().heard.get_mut(&key) {
                    *at = Instant::now();
                }
                // A renewed lease matters only to a node that was given up; others are looked at in time.
                let given_up = nodes.get(&key).is_some_and(|n| {
                    n.spec.iter().flat_map(|s| s.taints.iter().flatten()).any(|t| t.key == UNREACHABLE)
                });
                if given_up {
                    queue.add(key);
                }
            }
        });
        informers.pods.on_change({
            let (queue, nodes) = (queue.clone(), nodes.clone());
            move |change| {
                let ready = |pod: &Option<Arc<Pod>>| pod.as_ref().is_some_and(|p| pods::is_ready(p));
                if ready(&change.old) || !ready(&change.new) {
                    return;
                }
                let node = change.new.as_ref().and_then(|p| p.spec.as_ref()?.node_name.clone());
                let key = ObjectKey::new("", &node.unwrap_or_default());
                if nodes.get(&key).is_some_and(|n| is_lost(&n)) {
                    queue.add(key);
                }
            }
        });
        Self { client, events, queue, nodes, leases, pods, settings, known }
    }

    /// Tells of the pods on a node that nothing is heard of that they are not ready, so that nobody is sent there.
    async fn unready(&self, node: &str) -> Result<(), kube::Error> {
        for pod in self.pods.indexed(BY_NODE, node).iter().filter(|p| pods::is_ready(p)) {
            let condition =
                json!({"type": "Ready", "status": "False", "lastTransitionTime": Time(Timestamp::now())});
            let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
            let api: Api<Pod> = Api::namespaced(self.client.clone(), pod.namespace());
            self.events.warning(&pod.as_reference(), "NodeNotReady", "Node is not ready");
            let told = api.patch_status(pod.name(), &Default::default(), &Patch::Strategic(patch)).await;
            gone_is_fine(told)?;
        }
        Ok(())
    }
}

fn told(node: &Node, what: &str, how: &str) -> String {
    let name = node.name();
    format!("Node {name} event: {what} Node {name} {how} Controller")
}

impl Controller for NodeLifecycle {
    const NAME: &'static str = "node-controller";
    const SWITCH: &'static str = "node-lifecycle-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.nodes.synced().await;
        self.leases.synced().await;
        self.pods.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(node) = self.nodes.get(key) else { return Ok(Verdict::Done) };
        let plan = {
            let mut known = self.known.lock();
            let now = Instant::now();
            let silence = now - known.heard.get(key).copied().unwrap_or(now);
            let (zones, wall) = (&mut known.zones, Timestamp::now());
            let cut_off = zones.cut_off();
            plan::plan(&self.settings, &node, silence, wall, cut_off, || zones.turn(key, now))
        };
        let nodes: Api<Node> = Api::all(self.client.clone());
        if plan.lost {
            let message = format!("Node {} status is now: NodeNotReady", node.name());
            self.events.normal(&node.as_reference(), "NodeNotReady", message);
        }
        if !plan.unknown.is_empty() {
            let patch = json!({"metadata": {"uid": node.uid()}, "status": {"conditions": plan.unknown}});
            gone_is_fine(nodes.patch_status(&key.name, &Default::default(), &Patch::Strategic(patch)).await)?;
            // All else is for the next look, at the node as it is from now on.
            return Ok(plan.look_again.map_or(Verdict::Done, Verdict::After));
        }
        if let Some(taints) = plan.taints {
            let patch = json!({
                "metadata": {"uid": node.uid(), "resourceVersion": node.metadata.resource_version},
                "spec": {"taints": taints},
            });
            nodes.patch(&key.name, &Default::default(), &Patch::Merge(patch)).await?;
            if plan.gives_up {
                metrics::node_given_up(&Zone::of(&node).to_string());
            }
        }
        if plan.silent {
            self.unready(&key.name).await?;
        }
        Ok(plan.look_again.map_or(Verdict::Done, Verdict::After))
    }
}
