//! Pods that nobody will ever delete: of nodes that are gone, never placed and going, or too many finished.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, Preconditions},
};
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};

use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
    pod::Pod,
    pods::{disrupted, phase},
};

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
            move |change| {
                if change.new.is_none() {
                    queue.add_after(all(), QUARANTINE);
                }
            }
        });
        informers.pods.on_change({
            let queue = queue.clone();
            move |change| {
                if change
                    .new
                    .as_ref()
                    .is_some_and(|p| p.is_going() || matches!(phase(p), "Succeeded" | "Failed"))
                {
                    queue.add_after(all(), PERIOD);
                }
            }
        });
        queue.add(all());
        Self { client: tools.client, queue, nodes: informers.nodes.reader(), pods: informers.pods.reader() }
    }
}

/// The pods to delete at once. `exists` says whether a node does.
fn doomed(pods: &[Arc<Pod>], exists: impl Fn(&str) -> bool) -> Vec<Arc<Pod>> {
    let node = |p: &Pod| p.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
    let finished = |p: &&Arc<Pod>| matches!(phase(p), "Succeeded" | "Failed") && !p.is_going();
    let mut old: Vec<_> = pods.iter().filter(finished).cloned().collect();
    let excess = old.len().saturating_sub(MOST_FINISHED);
    old.sort_by_key(|p| p.metadata.creation_timestamp.as_ref().map(|t| t.0));
    old.truncate(excess);
    let lost = pods.iter().filter(|p| match node(p).as_str() {
        "" => p.is_going(),
        name => !exists(name),
    });
    lost.cloned().chain(old).collect()
}

impl Controller for PodGc {
    const NAME: &'static str = "pod-garbage-collector";
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
        for pod in doomed(&self.pods.list(), |name| self.nodes.get(&ObjectKey::new("", name)).is_some()) {
            let node = pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
            // The informer may only be late to show a new node.
            if !node.is_empty()
                && !matches!(phase(&pod), "Succeeded" | "Failed")
                && nodes.get_opt(&node).await?.is_some()
            {
                continue;
            }
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), pod.namespace());
            if !matches!(phase(&pod), "Succeeded" | "Failed") {
                let mut patch = json!({"metadata": {"uid": pod.uid()}, "status": {"phase": "Failed"}});
                if !node.is_empty() {
                    let why = "PodGC: node no longer exists";
                    patch["status"]["conditions"] =
                        json!([disrupted("DeletionByPodGC", why, Timestamp::now())]);
                }
                let patch = Patch::Strategic(patch);
                gone_is_fine(pods.patch_status(pod.name(), &Default::default(), &patch).await)?;
            }
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions {
                    uid: Some(pod.uid().to_owned()),
                    resource_version: None,
                }),
                ..Default::default()
            };
            gone_is_fine(pods.delete(pod.name(), &params).await)?;
        }
        Ok(Verdict::Done)
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
        ];
        let doomed = doomed(&pods, |name| name == "n");
        assert_eq!(doomed.iter().map(|p| p.name()).collect::<Vec<_>>(), ["lost", "unplaced"]);
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
        let doomed = doomed(&pods, |_| true);
        assert_eq!(doomed.iter().map(|p| p.name()).collect::<Vec<_>>(), ["p0", "p1", "p2"]);
    }

    fn time(i: usize) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_700_000_000 + i64::try_from(i).expect("small")).expect("a time")
    }
}
