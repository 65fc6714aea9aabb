//! What is in use does not go: a finalizer keeps a claim that a pod has, and a volume that is bound.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, Client,
    api::{ListParams, Patch},
};
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};

use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    informers::{BY_CLAIM, Informers},
    object::Object,
    pod::Pod,
    pods::{is_finished, node_of},
};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

/// What is to become of an object's finalizers; `None`: nothing.
pub(super) fn finalizers(object: &impl Object, ours: &str, in_use: bool) -> Option<Vec<String>> {
    let mut all = object.meta().finalizers.clone().unwrap_or_default();
    let has = all.iter().any(|name| name == ours);
    match (object.is_going(), has) {
        (true, true) if !in_use => all.retain(|name| name != ours),
        (false, false) => all.push(ours.to_owned()),
        _ => return None,
    }
    Some(all)
}

/// A change of finalizers that fails where somebody else was faster.
pub(super) fn change(object: &impl Object, finalizers: &[String]) -> Patch<serde_json::Value> {
    let version = &object.meta().resource_version;
    Patch::Merge(json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}}))
}

/// A pod that is over, or was never placed, holds no claim.
fn holds(pod: &Pod) -> bool {
    node_of(pod).is_some() && !is_finished(pod)
}

pub(crate) struct ClaimProtection {
    client: Client,
    queue: Queue<ObjectKey>,
    claims: Reader<PersistentVolumeClaim>,
    pods: Reader<Pod>,
}

impl ClaimProtection {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.volume_claims.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        informers.pods.on_change({
            let queue = queue.clone();
            move |change| {
                for pod in [&change.old, &change.new].into_iter().flatten() {
                    let claims = pod.spec.iter().flat_map(|spec| spec.claims.iter());
                    claims.for_each(|claim| queue.add(ObjectKey::new(pod.namespace(), &claim.name(pod))));
                }
            }
        });
        let claims = informers.volume_claims.reader();
        Self { client: tools.client, queue, claims, pods: informers.pods.reader() }
    }

    /// Whether a pod has the claim, as the API says: an informer may not have heard of a pod yet.
    async fn is_held(&self, claim: &ObjectKey) -> Result<bool, kube::Error> {
        if self.pods.indexed(BY_CLAIM, &claim.to_string()).iter().any(|pod| holds(pod)) {
            return Ok(true);
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &claim.namespace);
        let pods = pods.list(&ListParams::default()).await?;
        let has = |pod: &Pod| {
            let mut claims = pod.spec.iter().flat_map(|spec| spec.claims.iter());
            claims.any(|one| *one.name(pod) == *claim.name)
        };
        Ok(pods.items.iter().any(|pod| holds(pod) && has(pod)))
    }
}

impl Controller for ClaimProtection {
    const NAME: &'static str = "pvc-protection-controller";
    const SWITCH: &'static str = "persistentvolumeclaim-protection-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.claims.synced().await;
        self.pods.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(claim) = self.claims.get(key) else { return Ok(Verdict::Done) };
        let in_use = claim.is_going() && self.is_held(key).await?;
        if let Some(finalizers) = finalizers(&*claim, CLAIM, in_use) {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), claim.namespace());
            let change = change(&*claim, &finalizers);
            gone_is_fine(claims.patch(claim.name(), &Default::default(), &change).await)?;
        }
        Ok(Verdict::Done)
    }
}

pub(crate) struct VolumeProtection {
    client: Client,
    queue: Queue<ObjectKey>,
    volumes: Reader<PersistentVolume>,
}

impl VolumeProtection {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.volumes.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        Self { client: tools.client, queue, volumes: informers.volumes.reader() }
    }
}

impl Controller for VolumeProtection {
    const NAME: &'static str = "pv-protection-controller";
    const SWITCH: &'static str = "persistentvolume-protection-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.volumes.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(volume) = self.volumes.get(key) else { return Ok(Verdict::Done) };
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        if let Some(finalizers) = finalizers(&*volume, VOLUME, phase == Some("Bound")) {
            let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
            let change = change(&*volume, &finalizers);
            gone_is_fine(volumes.patch(volume.name(), &Default::default(), &change).await)?;
        }
        Ok(Verdict::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(finalizers: &[&str], going: bool) -> PersistentVolumeClaim {
        let mut claim = json!({"metadata": {"name": "c", "finalizers": finalizers}});
        if going {
            claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(claim).expect("a claim")
    }

    #[test]
    fn only_what_goes_and_nobody_uses_is_let_go() {
        let protected = ["other", CLAIM];
        assert_eq!(finalizers(&claim(&protected, true), CLAIM, true), None);
        assert_eq!(finalizers(&claim(&protected, true), CLAIM, false), Some(vec!["other".to_owned()]));
        assert_eq!(finalizers(&claim(&protected, false), CLAIM, false), None);
    }

    #[test]
    fn what_has_no_protection_gets_it_unless_it_goes() {
        assert_eq!(finalizers(&claim(&[], false), CLAIM, false), Some(vec![CLAIM.to_owned()]));
        assert_eq!(finalizers(&claim(&["other"], true), CLAIM, false), None);
    }

    #[test]
    fn only_placed_pods_that_go_on_hold_claims() {
        let pod = |node: Option<&str>, phase: &str| -> Pod {
            let pod = json!({"metadata": {}, "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase}});
            serde_json::from_value(pod).expect("a pod")
        };
        assert!(holds(&pod(Some("n"), "Pending")));
        assert!(!holds(&pod(None, "Pending")));
        assert!(!holds(&pod(Some("n"), "Succeeded")));
    }
}
