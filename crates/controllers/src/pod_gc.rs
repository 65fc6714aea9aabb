//! Pods that nobody will ever delete: of nodes that are gone or out of service, never placed and going, or too many
//! finished.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch},
};
use parking_lot::Mutex;
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};
use tokio::time::Instant;

use crate::{
    claim::{gone_is_fine, only},
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
    pod::Pod,
    pods::{disrupted, is_finished, node_of},
};

/// The taint by which somebody vouches that nothing on the node runs any more (KEP-2268).
pub(crate) const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Upstream's `--terminated-pod-gc-threshold`.
const MOST_FINISHED: usize = 12_500;
/// Nothing tells that a pod has become too many; everything is looked at this often.
const PERIOD: Duration = Duration::from_secs(20);
/// A node that is gone may be about to come back under its name.
const QUARANTINE: Duration = Duration::from_secs(40);

pub(crate) struct PodGc {
    client: Client,
    queue: Queue<ObjectKey>,
    nodes: Reader<Node>,
    pods: Reader<Pod>,
    /// Since when nodes that pods name have been missed.
    missed: Mutex<BTreeMap<String, Instant>>,
}

/// The one key of the queue: a look is at all pods.
fn all() -> ObjectKey {
    ObjectKey::new("", "")
}

impl PodGc {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.nodes.on_change({
            let queue = queue.clone();
            move |change| match &change.new {
                None => queue.add(all()),
                Some(node) if out_of_service(node) => queue.add(all()),
                Some(_) => {}
            }
        });
        informers.pods.on_change({
            let queue = queue.clone();
            move |change| {
                if change.new.as_ref().is_some_and(|p| p.is_going() || is_finished(p)) {
                    queue.add_after(all(), PERIOD);
                }
            }
        });
        queue.add(all());
        let (nodes, pods) = (informers.nodes.reader(), informers.pods.reader());
        Self { client: tools.client, queue, nodes, pods, missed: Mutex::default() }
    }

    /// How it stands with a node that a pod names.
    fn standing(&self, name: &str, now: Instant) -> Standing {
        let mut missed = self.missed.lock();
        match self.nodes.get(&ObjectKey::new("", name)) {
            Some(node) => {
                missed.remove(name);
                if out_of_service(&node) { Standing::OutOfService } else { Standing::Serves }
            }
            None => {
                let since = *missed.entry(name.to_owned()).or_insert(now);
                let left = QUARANTINE.saturating_sub(now - since);
                if left.is_zero() { Standing::Gone } else { Standing::Missed(left) }
            }
        }
    }
}

/// How it stands with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Serves,
    /// It is not ready, and somebody vouches that nothing runs there.
    OutOfService,
    /// It was not there so short a time ago that it may come back; in this time it is gone.
    Missed(Duration),
    Gone,
}

fn out_of_service(node: &Node) -> bool {
    let tainted = node.spec.iter().flat_map(|s| s.taints.iter().flatten()).any(|t| t.key == OUT_OF_SERVICE);
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    tainted && !conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The pods to delete at once, by how it stands with their nodes.
fn doomed(pods: &[Arc<Pod>], standing: impl Fn(&str) -> Standing) -> Vec<Arc<Pod>> {
    let finished = |p: &&Arc<Pod>| is_finished(p) && !p.is_going();
    let mut old: Vec<_> = pods.iter().filter(finished).cloned().collect();
    let excess = old.len().saturating_sub(MOST_FINISHED);
    old.sort_by_key(|p| p.metadata.creation_timestamp.as_ref().map(|t| t.0));
    old.truncate(excess);
    let lost = pods.iter().filter(|p| match node_of(p) {
        None => p.is_going(),
        Some(name) => match standing(name) {
            Standing::Gone => true,
            Standing::OutOfService => p.is_going(),
            Standing::Serves | Standing::Missed(_) => false,
        },
    });
    lost.cloned().chain(old).collect()
}

impl Controller for PodGc {
    const NAME: &'static str = "pod-garbage-collector";
    const SWITCH: &'static str = "pod-garbage-collector-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.nodes.synced().await;
        self.pods.synced().await;
    }

    async fn look(&self, _: &ObjectKey) -> Result<Verdict, kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let (now, pods) = (Instant::now(), self.pods.list());
        let names: BTreeSet<&str> = pods.iter().filter_map(|p| node_of(p)).collect();
        let standings: BTreeMap<&str, Standing> =
            names.into_iter().map(|name| (name, self.standing(name, now))).collect();
        let standing = |name: &str| standings.get(name).copied().unwrap_or(Standing::Serves);
        self.missed.lock().retain(|name, _| standings.contains_key(&**name));
        for pod in doomed(&pods, standing) {
            let node = node_of(&pod).unwrap_or_default();
            // The informer may only be late to show a new node.
            if standing(node) == Standing::Gone && !is_finished(&pod) && nodes.get_opt(node).await?.is_some()
            {
                continue;
            }
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), pod.namespace());
            if !is_finished(&pod) {
                let mut patch = json!({"metadata": {"uid": pod.uid()}, "status": {"phase": "Failed"}});
                if standing(node) == Standing::Gone {
                    let why = "PodGC: node no longer exists";
                    patch["status"]["conditions"] =
                        json!([disrupted("DeletionByPodGC", why, Timestamp::now())]);
                }
                let patch = Patch::Strategic(patch);
                gone_is_fine(pods.patch_status(pod.name(), &Default::default(), &patch).await)?;
            }
            let at_once = DeleteParams { grace_period_seconds: Some(0), ..only(pod.uid()) };
            gone_is_fine(pods.delete(pod.name(), &at_once).await)?;
        }
        let next = standings.values().filter_map(|s| match s {
            Standing::Missed(left) => Some(*left),
            _ => None,
        });
        Ok(next.min().map_or(Verdict::Done, Verdict::After))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lost_pods_are_doomed() {
        let pod = |name: &str, node: &str, phase: &str, going: bool| -> Arc<Pod> {
            let mut pod = json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase}});
            if going {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        };
        let pods = [
            pod("running", "n", "Running", false),
            pod("going", "n", "Running", true),
            pod("finished", "n", "Succeeded", false),
            pod("waiting", "", "Pending", false),
            pod("lost", "gone", "Running", false),
            pod("unplaced", "", "Pending", true),
            pod("left", "missed", "Running", true),
            pod("stays", "out", "Running", false),
            pod("leaves", "out", "Running", true),
        ];
        let standing = |name: &str| match name {
            "n" => Standing::Serves,
            "gone" => Standing::Gone,
            "out" => Standing::OutOfService,
            _ => Standing::Missed(Duration::from_secs(1)),
        };
        let doomed = doomed(&pods, standing);
        assert_eq!(doomed.iter().map(|p| p.name()).collect::<Vec<_>>(), ["lost", "unplaced", "leaves"]);
    }

    #[test]
    fn somebody_must_vouch_for_a_node_that_is_not_ready() {
        let node = |ready: &str, key: &str| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "n"},
                "spec": {"taints": [{"key": key, "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
            .expect("a node")
        };
        assert!(out_of_service(&node("Unknown", OUT_OF_SERVICE)));
        assert!(!out_of_service(&node("True", OUT_OF_SERVICE)));
        assert!(!out_of_service(&node("Unknown", "other")));
    }

    #[test]
    fn the_oldest_finished_pods_beyond_the_limit_go() {
        let pods: Vec<Arc<Pod>> = (0..MOST_FINISHED + 3)
            .map(|i| {
                let made = time(i).to_string();
                let pod = json!({"metadata": {"name": format!("p{i}"), "creationTimestamp": made},
                    "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Failed"}});
                Arc::new(serde_json::from_value(pod).expect("a pod"))
            })
            .collect();
        let doomed = doomed(&pods, |_| Standing::Serves);
        assert_eq!(doomed.iter().map(|p| p.name()).collect::<Vec<_>>(), ["p0", "p1", "p2"]);
    }

    fn time(i: usize) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_700_000_000 + i64::try_from(i).expect("small")).expect("a time")
    }
}
