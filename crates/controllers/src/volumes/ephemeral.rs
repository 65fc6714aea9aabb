//! Claims for generic ephemeral volumes (KEP-1698): made for a pod, owned by it, and gone with it.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod as WholePod};
use kube::{Api, Client};
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder, storage::ephemeral_claim};

use crate::{
    claim::exists,
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
    pod::{ClaimUse, Pod},
};

pub(crate) struct EphemeralVolumes {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    pods: Reader<Pod>,
    claims: Reader<PersistentVolumeClaim>,
}

/// The pod's volumes that want a claim of their own, and the names of these.
fn wanted(pod: &Pod) -> Vec<String> {
    let claims = pod.spec.iter().flat_map(|spec| spec.claims.iter());
    claims
        .filter(|claim| matches!(claim, ClaimUse::Ephemeral(_)))
        .map(|claim| claim.name(pod).into_owned())
        .collect()
}

fn belongs(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    claim.metadata.owner_references.iter().flatten().any(|owner| owner.uid == pod.uid())
}

impl EphemeralVolumes {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.pods.on_change({
            let queue = queue.clone();
            move |change| {
                if change.new.as_ref().is_some_and(|pod| !wanted(pod).is_empty()) {
                    queue.add(change.key.clone());
                }
            }
        });
        informers.volume_claims.on_change({
            let queue = queue.clone();
            move |change| {
                let claim = change.old.as_ref().filter(|_| change.new.is_none());
                for owner in claim.iter().flat_map(|c| c.metadata.owner_references.iter().flatten()) {
                    if owner.kind == "Pod" {
                        queue.add(ObjectKey::new(&change.key.namespace, &owner.name));
                    }
                }
            }
        });
        let Tools { client, events } = tools;
        Self {
            client,
            events,
            queue,
            pods: informers.pods.reader(),
            claims: informers.volume_claims.reader(),
        }
    }

    async fn make(&self, pod: &Pod, name: &str) -> Result<(), kube::Error> {
        // Of the templates only the API knows.
        let pods: Api<WholePod> = Api::namespaced(self.client.clone(), pod.namespace());
        let Some(whole) = pods.get_opt(pod.name()).await?.filter(|whole| whole.uid() == pod.uid()) else {
            return Ok(());
        };
        let mut volumes = whole.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let template = volumes
            .find(|volume| ephemeral_claim(pod.name(), &volume.name) == name)
            .and_then(|volume| volume.ephemeral.as_ref()?.volume_claim_template.as_ref());
        let Some(template) = template else { return Ok(()) };
        let meta = template.metadata.clone().unwrap_or_default();
        let claim = json!({
            "metadata": {
                "name": name, "labels": meta.labels, "annotations": meta.annotations,
                "ownerReferences": [pod.as_controller()],
            },
            "spec": template.spec,
        });
        let claim = serde_json::from_value(claim).map_err(kube::Error::SerdeError)?;
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), pod.namespace());
        match claims.create(&Default::default(), &claim).await {
            // The next look tells whether it is the pod's.
            Err(error) if exists(&error) => Ok(()),
            Err(error) => {
                let message = format!("ephemeral volume controller: create PVC {name}: {error}");
                self.events.warning(&pod.as_reference(), "EphemeralVolumeCreateFailed", message);
                Err(error)
            }
            Ok(_) => Ok(()),
        }
    }
}

impl Controller for EphemeralVolumes {
    const NAME: &'static str = "ephemeral-volume-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.pods.synced().await;
        self.claims.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| !pod.is_going()) else { return Ok(Verdict::Done) };
        for name in wanted(&pod) {
            match self.claims.get(&ObjectKey::new(pod.namespace(), &name)) {
                None => self.make(&pod, &name).await?,
                Some(claim) if belongs(&claim, &pod) => {}
                Some(_) => {
                    let message = format!(
                        "PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
                        pod.namespace(),
                        pod.namespace(),
                        pod.name()
                    );
                    self.events.warning(&pod.as_reference(), "EphemeralVolumeConflict", message);
                }
            }
        }
        Ok(Verdict::Done)
    }
}
