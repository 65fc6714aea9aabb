//! The ReplicaSets of a Deployment: which is the new one, how one is made, what their annotations tell.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::numbers::Bounds;
use crate::object::{Object, hash, safe_encode};

pub(super) const HASH_LABEL: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotations of a Deployment that are about itself and not copied to its sets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

pub(super) type Annotations = BTreeMap<String, String>;

pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

pub(super) fn revision(meta: &ObjectMeta) -> i64 {
    meta.annotations.as_ref().and_then(|a| a.get(REVISION)).and_then(|r| r.parse().ok()).unwrap_or(0)
}

pub(super) fn newest_first(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|t| t.0);
    created(b).cmp(&created(a)).then_with(|| a.name().cmp(b.name()))
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    template
}

fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let (a, b) = (without_hash(a), without_hash(b));
    let meta = |t: &PodTemplateSpec| {
        let meta = t.metadata.clone().unwrap_or_default();
        (meta.labels.unwrap_or_default(), meta.annotations.unwrap_or_default())
    };
    a.spec == b.spec && meta(&a) == meta(&b)
}

/// The set that is to run what the Deployment now describes, and all others.
///
/// Of several equal ones, the oldest: that is how every reader chooses the same.
pub(super) fn new_and_old(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
) -> (Option<Arc<ReplicaSet>>, Vec<Arc<ReplicaSet>>) {
    let template = &deployment.spec.template;
    let mut sorted = sets.to_vec();
    sorted.sort_by(|a, b| newest_first(b, a));
    let is_new =
        |set: &Arc<ReplicaSet>| set.spec.template.as_ref().is_some_and(|t| same_template(t, template));
    let new = sorted.iter().position(is_new).map(|i| sorted.remove(i));
    (new, sorted)
}

/// The revision that the new set gets: one more than any old one has.
pub(super) fn next_revision(old: &[Arc<ReplicaSet>]) -> i64 {
    old.iter().map(|s| revision(&s.metadata)).max().unwrap_or(0) + 1
}

/// The new set's annotations, from those that it has.
pub(super) fn annotations(
    deployment: &Deployment,
    current: Option<&Annotations>,
    next: i64,
    bounds: Bounds,
) -> Annotations {
    let mut result = current.cloned().unwrap_or_default();
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&name.as_str()) {
            result.insert(name.clone(), value.clone());
        }
    }
    let had = result.get(REVISION).and_then(|r| r.parse::<i64>().ok());
    if had.is_none_or(|had| had < next) {
        let before = result.insert(REVISION.to_owned(), next.to_string());
        if let Some(before) = before {
            let history = result.entry(REVISION_HISTORY.to_owned()).or_default();
            if !history.is_empty() {
                history.push(',');
            }
            history.push_str(&before);
        }
    }
    size_annotations(&mut result, bounds);
    result
}

/// What a later change of the wanted number is measured against.
pub(super) fn size_annotations(annotations: &mut Annotations, bounds: Bounds) {
    annotations.insert(DESIRED_REPLICAS.to_owned(), bounds.wanted.to_string());
    annotations.insert(MAX_REPLICAS.to_owned(), bounds.wanted.saturating_add(bounds.surge).to_string());
}

/// The set for what the Deployment now describes. Its name holds a hash of the template and of how many
/// such names have been found taken.
pub(super) fn make(deployment: &Deployment, next: i64, bounds: Bounds, size: i32) -> ReplicaSet {
    let spec = deployment.spec.clone();
    let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
    let salt = collisions.map(|n| n.to_le_bytes().to_vec()).unwrap_or_default();
    let mut template = without_hash(&spec.template);
    let suffix = safe_encode(hash(&template, &salt));
    let meta = template.metadata.get_or_insert_default();
    meta.labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), suffix.clone());
    let labels = meta.labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), suffix.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{suffix}", deployment.name())),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some(annotations(deployment, None, next, bounds)),
            owner_references: Some(vec![deployment.as_controller()]),
            ..Default::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(size),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    }
}
