//! Claims that ask for more than they have: whoever made the volume lets it grow, and the claim says for whom it waits.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder};

use super::matching::{has, names, requested};
use crate::{
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
};

pub(crate) struct Expansion {
    events: Recorder,
    queue: Queue<ObjectKey>,
    claims: Reader<PersistentVolumeClaim>,
    volumes: Reader<PersistentVolume>,
}

/// Whether a claim waits for its volume to grow.
fn waits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let is_bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    is_bound && names(volume, claim) && requested(claim) > has(claim)
}

impl Expansion {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.volume_claims.on_change({
            let queue = queue.clone();
            move |change| {
                let asked = change.old.as_deref().map(requested);
                // Told when somebody asks, not at each change of the claim.
                if change
                    .new
                    .as_deref()
                    .is_some_and(|claim| asked.is_none_or(|before| requested(claim) > before))
                {
                    queue.add(change.key.clone());
                }
            }
        });
        let (claims, volumes) = (informers.volume_claims.reader(), informers.volumes.reader());
        Self { events: tools.events, queue, claims, volumes }
    }
}

impl Controller for Expansion {
    const NAME: &'static str = "volume_expand";
    const SWITCH: &'static str = "persistentvolume-expander-controller";
    const ACCOUNT: &'static str = "expand-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.claims.synced().await;
        self.volumes.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(claim) = self.claims.get(key) else { return Ok(Verdict::Done) };
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        let volume = volume.and_then(|name| self.volumes.get(&ObjectKey::new("", name)));
        if volume.is_some_and(|volume| waits(&claim, &volume)) {
            let message = "waiting for an external controller to expand this PVC";
            self.events.normal(&claim.as_reference(), "ExternalExpanding", message);
        }
        Ok(Verdict::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bound_claim_that_asks_for_more_than_it_has_waits() {
        let volume = |uid: &str| -> PersistentVolume {
            let volume = json!({"metadata": {"name": "v"},
                "spec": {"claimRef": {"namespace": "a", "name": "data", "uid": uid}}});
            serde_json::from_value(volume).expect("a volume")
        };
        let claim = |phase: &str, asks: &str, has: &str| -> PersistentVolumeClaim {
            let claim = json!({"metadata": {"namespace": "a", "name": "data", "uid": "u"},
                "spec": {"volumeName": "v", "resources": {"requests": {"storage": asks}}},
                "status": {"phase": phase, "capacity": {"storage": has}}});
            serde_json::from_value(claim).expect("a claim")
        };
        assert!(waits(&claim("Bound", "2Gi", "1Gi"), &volume("u")));
        assert!(!waits(&claim("Bound", "1024Mi", "1Gi"), &volume("u")));
        assert!(!waits(&claim("Pending", "2Gi", "1Gi"), &volume("u")));
        assert!(!waits(&claim("Bound", "2Gi", "1Gi"), &volume("another")));
    }
}
