//! Pods that a Job once tracked and that no Job will count any more are let go, so that they can end.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::{Api, Client};
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, key::controller_of};

use super::{plan::is_tracked, release};
use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    informers::{BY_CONTROLLER, Informers},
    metrics,
    object::Object,
    pod::Pod,
    pods::is_finished,
};

pub(crate) struct OrphanedPods {
    client: Client,
    queue: Queue<ObjectKey>,
    jobs: Reader<Job>,
    pods: Reader<Pod>,
}

impl OrphanedPods {
    /// Queues tracked pods without a Job as they come, and those of a Job when it is gone.
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        let (jobs, pods) = (informers.jobs.reader(), informers.pods.reader());
        informers.pods.on_change({
            let (queue, jobs) = (queue.clone(), jobs.clone());
            move |change| {
                let holds =
                    |pod: &Option<Arc<Pod>>| pod.as_ref().is_some_and(|p| is_finished(p) && is_tracked(p));
                match (holds(&change.old), holds(&change.new)) {
                    (false, true) => metrics::job_tracks("add"),
                    (true, false) => metrics::job_tracks("delete"),
                    _ => {}
                }
                if change.new.as_ref().is_some_and(|pod| is_orphan(pod, |key| jobs.get(key))) {
                    queue.add(change.key.clone());
                }
            }
        });
        informers.jobs.on_change({
            let (queue, pods) = (queue.clone(), pods.clone());
            move |change| {
                let gone = change
                    .old
                    .as_ref()
                    .filter(|old| change.new.as_ref().is_none_or(|new| new.uid() != old.uid()));
                for pod in gone.iter().flat_map(|job| pods.indexed(BY_CONTROLLER, job.uid())) {
                    queue.add(pod.key());
                }
            }
        });
        Self { client: tools.client, queue, jobs, pods }
    }
}

/// Whether the pod is held for a Job, and its owner is none that there is.
fn is_orphan(pod: &Pod, job: impl FnOnce(&ObjectKey) -> Option<Arc<Job>>) -> bool {
    let mine = || {
        let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "Job")?;
        job(&ObjectKey::new(pod.namespace(), &owner.name)).filter(|job| job.uid() == owner.uid)
    };
    is_tracked(pod) && mine().is_none()
}

impl Controller for OrphanedPods {
    const NAME: &'static str = "job-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.jobs.synced().await;
        self.pods.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| is_orphan(pod, |job| self.jobs.get(job))) else {
            return Ok(Verdict::Done);
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        // A conflict is a change, which queues the pod again.
        gone_is_fine(release(&pods, &pod).await)?;
        Ok(Verdict::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::TRACKING, *};

    #[test]
    fn tracked_pods_are_orphans_unless_their_very_job_is_there() {
        let job = |uid: &str| -> Arc<Job> {
            let metadata = json!({"name": "sums", "namespace": "ns", "uid": uid});
            Arc::new(serde_json::from_value(json!({"metadata": metadata})).expect("a Job"))
        };
        let pod = |finalizers: Value, owners: Value| -> Pod {
            let metadata =
                json!({"name": "p", "namespace": "ns", "finalizers": finalizers, "ownerReferences": owners});
            serde_json::from_value(json!({"metadata": metadata})).expect("a pod")
        };
        let owned = || json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "sums", "uid": "1", "controller": true}]);
        let tracked = || json!(["example.com/mine", TRACKING]);
        let known = |key: &ObjectKey| (*key == ObjectKey::new("ns", "sums")).then(|| job("1"));
        assert!(!is_orphan(&pod(tracked(), owned()), known));
        assert!(is_orphan(&pod(tracked(), owned()), |_| None), "the Job is gone");
        assert!(is_orphan(&pod(tracked(), owned()), |_| Some(job("2"))), "another has its name");
        assert!(is_orphan(&pod(tracked(), json!([])), known), "the Job has let it go");
        assert!(!is_orphan(&pod(json!(["example.com/mine"]), json!([])), |_| None), "not ours to let go");
    }
}
