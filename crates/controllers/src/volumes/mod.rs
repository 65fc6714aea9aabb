//! Claims and volumes: which belong together, who makes what is missing, and when either may go.
//!
//! The rules are those of <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>. A claim and a volume are bound
//! when each names the other. The volume is written first, under the version that was seen, so of two claims only one
//! gets it; whatever is left half done by a crash is the same look's next step.

mod binder;
mod binding;
mod ephemeral;
mod matching;
mod protection;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::object::Object;

pub(crate) use self::{
    binder::Binder,
    ephemeral::EphemeralVolumes,
    protection::{ClaimProtection, VolumeProtection},
};

/// On a claim: both sides are bound.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On either side: it was the binder who chose the other.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: the provisioner that made it, and so deletes it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: the provisioner that is to make its volume, by the new name and the old.
const PROVISIONER: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// On a claim: the node that the scheduler chose for its first consumer.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The class of old manifests, before there was a field.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// On a class: claims that name none have this one, by the new name and the old.
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// The provisioner of classes whose volumes somebody makes by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The group of a claim in the index of those that are not bound.
pub(crate) fn unbound(claim: &PersistentVolumeClaim) -> Vec<String> {
    match claim.annotation(BIND_COMPLETED) {
        Some(_) => Vec::new(),
        None => vec![String::new()],
    }
}

/// The group of a volume in the index by claim.
pub(crate) fn claim_named(volume: &PersistentVolume) -> Vec<String> {
    binder::named(volume).map(|claim| claim.to_string()).into_iter().collect()
}
