//! What becomes of a set's claims when it shrinks or goes: told by who owns them, so that the garbage collector acts on it.

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{self, PersistentVolumeClaim},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::Resource;

use super::identity::{ordinal, range};
use crate::{object::Object, pod::Pod};

/// When claims are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Retention {
    with_set: bool,
    when_scaled: bool,
}

impl Retention {
    pub(super) fn of(set: &StatefulSet) -> Self {
        let policy = set.spec.persistent_volume_claim_retention_policy.clone().unwrap_or_default();
        let deletes = |when: Option<String>| when.as_deref() == Some("Delete");
        Self { with_set: deletes(policy.when_deleted), when_scaled: deletes(policy.when_scaled) }
    }
}

/// The owners that a claim should have, where it has others; `None` where all is well or another controller has a say.
///
/// A claim that goes with the set is the set's. One of a pod that the set has no place for any more is the pod's, if it is to go with it.
pub(super) fn owners(
    set: &StatefulSet,
    pod: &Pod,
    claim: &PersistentVolumeClaim,
) -> Option<Vec<OwnerReference>> {
    let present = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let ours = |o: &&OwnerReference| o.uid == set.uid() || o.uid == pod.uid();
    if present.iter().any(|o| o.controller == Some(true) && !ours(&o)) {
        return None;
    }
    let policy = Retention::of(set);
    let condemned = ordinal(set, pod.name()).is_none_or(|n| !range(set).contains(&n));
    let wanted = if condemned && policy.when_scaled {
        Some(pod.as_controller())
    } else if policy.with_set {
        Some(set.as_controller())
    } else {
        None
    };
    let mut owners: Vec<_> = present.iter().filter(|o| !ours(o)).cloned().collect();
    owners.extend(wanted);
    // The order says nothing.
    let same = owners.len() == present.len() && owners.iter().all(|o| present.contains(o));
    (!same).then_some(owners)
}

/// Whether the claim goes with a pod of this name that was there before, and is gone.
pub(super) fn is_stale(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &str) -> bool {
    let kind = v1::Pod::kind(&());
    let owners = claim.metadata.owner_references.iter().flatten();
    Retention::of(set).when_scaled
        && owners.into_iter().any(|o| o.kind == kind && o.api_version == "v1" && o.name == pod)
}
