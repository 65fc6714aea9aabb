//! A VolumeAttributesClass stays for as long as a claim or a volume has it, is to get it, or asks for it (KEP-3751).

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::VolumeAttributesClass,
};
use kube::{Api, Client};
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};

use super::protection::{change, finalizers};
use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    informers::{BY_ATTRIBUTES, Informers},
    object::Object,
};

const PROTECTION: &str = "kubernetes.io/vac-protection";

/// The classes that a claim names, in any of its roles.
pub(super) fn of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let status = claim.status.as_ref();
    let named = [
        claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()),
        status.and_then(|status| status.current_volume_attributes_class_name.as_ref()),
        status
            .and_then(|status| status.modify_volume_status.as_ref())
            .and_then(|modify| modify.target_volume_attributes_class_name.as_ref()),
    ];
    let mut named: Vec<_> = named.into_iter().flatten().filter(|name| !name.is_empty()).cloned().collect();
    named.sort();
    named.dedup();
    named
}

/// The class that a volume has.
pub(super) fn of_volume(volume: &PersistentVolume) -> Vec<String> {
    let named = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    named.filter(|name| !name.is_empty()).into_iter().collect()
}

pub(crate) struct AttributesProtection {
    client: Client,
    queue: Queue<ObjectKey>,
    classes: Reader<VolumeAttributesClass>,
    claims: Reader<PersistentVolumeClaim>,
    volumes: Reader<PersistentVolume>,
}

impl AttributesProtection {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.attributes_classes.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        informers.volume_claims.on_change({
            let queue = queue.clone();
            move |change| {
                let before = change.old.iter().flat_map(|claim| of_claim(claim));
                before.for_each(|class| queue.add(ObjectKey::new("", &class)));
            }
        });
        informers.volumes.on_change({
            let queue = queue.clone();
            move |change| {
                let before = change.old.iter().flat_map(|volume| of_volume(volume));
                before.for_each(|class| queue.add(ObjectKey::new("", &class)));
            }
        });
        Self {
            client: tools.client,
            queue,
            classes: informers.attributes_classes.reader(),
            claims: informers.volume_claims.reader(),
            volumes: informers.volumes.reader(),
        }
    }
}

impl Controller for AttributesProtection {
    const NAME: &'static str = "volumeattributesclass-protection-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.classes.synced().await;
        self.claims.synced().await;
        self.volumes.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(class) = self.classes.get(key) else { return Ok(Verdict::Done) };
        let in_use = !self.claims.indexed(BY_ATTRIBUTES, &key.name).is_empty()
            || !self.volumes.indexed(BY_ATTRIBUTES, &key.name).is_empty();
        if let Some(finalizers) = finalizers(&*class, PROTECTION, in_use) {
            let classes: Api<VolumeAttributesClass> = Api::all(self.client.clone());
            let change = change(&*class, &finalizers);
            gone_is_fine(classes.patch(class.name(), &Default::default(), &change).await)?;
        }
        Ok(Verdict::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_class_is_in_use_in_each_of_its_roles() {
        let claim = |claim: Value| of_claim(&serde_json::from_value(claim).expect("a claim"));
        assert_eq!(claim(json!({"metadata": {}, "spec": {}})), Vec::<String>::new());
        assert_eq!(
            claim(json!({"metadata": {}, "spec": {"volumeAttributesClassName": ""}})),
            Vec::<String>::new()
        );
        let modified = json!({"metadata": {}, "spec": {"volumeAttributesClassName": "gold"},
            "status": {"currentVolumeAttributesClassName": "silver",
                "modifyVolumeStatus": {"status": "InProgress", "targetVolumeAttributesClassName": "gold"}}});
        assert_eq!(claim(modified), ["gold", "silver"]);
        let volume = json!({"metadata": {}, "spec": {"volumeAttributesClassName": "gold"}});
        assert_eq!(of_volume(&serde_json::from_value(volume).expect("a volume")), ["gold"]);
    }
}
