//! Who a pod of a StatefulSet is: its ordinal, its names, and the claims that are its own.

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{self, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{history::REVISION, object::Object, pods::from_template};

pub(super) const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
pub(super) const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The number in a pod's name, if the name is one that the set gives.
pub(super) fn ordinal(set: &StatefulSet, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set.name())?.strip_prefix('-')?;
    let ordinal: i32 = digits.parse().ok().filter(|n| *n >= 0)?;
    // No pod answers to two names.
    (digits == ordinal.to_string()).then_some(ordinal)
}

/// The ordinals that a set should have.
pub(super) fn range(set: &StatefulSet) -> std::ops::Range<i32> {
    let start = set.spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0).max(0);
    start..start.saturating_add(set.spec.replicas.unwrap_or(1).max(0))
}

pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.name())
}

pub(super) fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.name(), set.name())
}

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.volume_claim_templates.as_deref().unwrap_or_default()
}

/// The names of the claims of one pod.
pub(super) fn claim_names(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = String> {
    templates(set).iter().map(move |template| claim_name(set, template, ordinal))
}

/// The claims that one pod needs, as they are made. They have the labels by which the set finds its pods.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = PersistentVolumeClaim> {
    templates(set).iter().map(move |template| {
        let mut labels = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(claim_name(set, template, ordinal)),
                namespace: set.metadata.namespace.clone(),
                labels: Some(labels).filter(|l| !l.is_empty()),
                annotations: template.metadata.annotations.clone(),
                finalizers: template.metadata.finalizers.clone(),
                ..Default::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    })
}

/// The pod of an ordinal, made from the template of the revision.
pub(super) fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> v1::Pod {
    let name = pod_name(set, ordinal);
    let mut pod = from_template(template, "", set.namespace(), set.as_controller());
    pod.metadata.generate_name = None;
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(REVISION.to_owned(), revision.to_owned());
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(name.clone());
        spec.subdomain.clone_from(&set.spec.service_name);
        // A claim takes the place of a volume of its name.
        let own: Vec<Volume> = templates(set)
            .iter()
            .map(|template| Volume {
                name: template.name().to_owned(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim_name(set, template, ordinal),
                    read_only: None,
                }),
                ..Default::default()
            })
            .collect();
        let volumes = spec.volumes.get_or_insert_default();
        volumes.retain(|v| own.iter().all(|o| o.name != v.name));
        volumes.splice(0..0, own);
        if volumes.is_empty() {
            spec.volumes = None;
        }
    }
    pod.metadata.name = Some(name);
    pod
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
