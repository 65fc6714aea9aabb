//! Claims and volumes: which belong together, who makes what is missing, and when either may go.
//!
//! The rules are those of <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>. A claim and a volume are bound
//! when each names the other. The volume is written first, under the version that was seen, so of two claims only one
//! gets it; whatever is left half done by a crash is the same look's next step.

mod attributes;
mod binder;
mod binding;
mod ephemeral;
mod expand;
mod matching;
mod protection;
mod recycle;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use tiphys_client::{ObjectKey, storage::BIND_COMPLETED};

use crate::object::Object;

pub(crate) use self::{
    attributes::AttributesProtection,
    binder::Binder,
    ephemeral::EphemeralVolumes,
    expand::Expansion,
    protection::{ClaimProtection, VolumeProtection},
};

/// The group of a claim in the index of those that are not bound.
pub(crate) fn unbound(claim: &PersistentVolumeClaim) -> Vec<String> {
    match claim.annotation(BIND_COMPLETED) {
        Some(_) => Vec::new(),
        None => vec![String::new()],
    }
}

/// The groups of a claim in the index by VolumeAttributesClass.
pub(crate) fn attributes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    attributes::of_claim(claim)
}

/// The group of a volume in the index by VolumeAttributesClass.
pub(crate) fn attributes_of_volume(volume: &PersistentVolume) -> Vec<String> {
    attributes::of_volume(volume)
}

/// The claim that a volume names.
pub(crate) fn claim_named(volume: &PersistentVolume) -> Option<ObjectKey> {
    let named = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(ObjectKey::new(named.namespace.as_deref()?, named.name.as_deref()?))
}

/// The group of a volume in the index by claim.
pub(crate) fn by_claim_named(volume: &PersistentVolume) -> Vec<String> {
    claim_named(volume).map(|claim| claim.to_string()).into_iter().collect()
}
