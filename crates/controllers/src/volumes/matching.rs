//! Which volume fits a claim.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::core::{Selector, SelectorExt};
use tiphys_client::{placement, storage::class_of};

use crate::object::Object;

/// The class that a claim wants; `Some("")`: none at all, `None`: the default one.
pub(super) fn class_of_claim(claim: &PersistentVolumeClaim) -> Option<&str> {
    class_of(&claim.metadata, claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()))
}

/// The class of a volume; empty: none.
pub(super) fn class_of_volume(volume: &PersistentVolume) -> &str {
    let named = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    class_of(&volume.metadata, named).unwrap_or_default()
}

/// Whether a volume names a claim as its own; one that it names without a UID is any that comes by that name.
pub(super) fn names(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(named) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    let same = |named: &Option<String>, is: &str| named.as_deref().unwrap_or_default() == is;
    same(&named.name, claim.name())
        && same(&named.namespace, claim.namespace())
        && (named.uid.as_deref().unwrap_or_default().is_empty() || same(&named.uid, claim.uid()))
}

fn storage(of: Option<&BTreeMap<String, Quantity>>) -> i64 {
    of.and_then(|amounts| amounts.get("storage")).and_then(placement::units).unwrap_or_default()
}

pub(super) fn capacity(volume: &PersistentVolume) -> i64 {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

/// The bytes that a claim has been told that it has.
pub(super) fn has(claim: &PersistentVolumeClaim) -> i64 {
    storage(claim.status.as_ref().and_then(|status| status.capacity.as_ref()))
}

pub(super) fn requested(claim: &PersistentVolumeClaim) -> i64 {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    storage(resources.and_then(|resources| resources.requests.as_ref()))
}

/// What keeps a volume, chosen by name, from serving a claim.
pub(super) fn misfit(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    if capacity(volume) < requested(claim) {
        Some("requested PV is too small")
    } else if class_of_volume(volume) != class_of_claim(claim).unwrap_or_default() {
        Some("storageClassName does not match")
    } else if attributes_class(
        volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()),
    ) != attributes_class(
        claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()),
    ) {
        Some("volumeAttributesClassName does not match")
    } else if !has_mode(volume, claim) {
        Some("incompatible volumeMode")
    } else if !has_access(volume, claim) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

fn attributes_class(name: Option<&String>) -> &str {
    name.map_or("", String::as_str)
}

fn has_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    const USUAL: &str = "Filesystem";
    let of_volume = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    let of_claim = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    of_volume.unwrap_or(USUAL) == of_claim.unwrap_or(USUAL)
}

fn has_access(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let offered = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    wanted.into_iter().flatten().all(|mode| offered.is_some_and(|offered| offered.contains(mode)))
}

/// The volume for a claim that names none: one that names the claim, or the smallest of those that fit. While the claim
/// waits for its first consumer only one that names it will do.
pub(super) fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    waits: bool,
) -> Option<&'a Arc<PersistentVolume>> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.clone());
    // A selector that makes no sense selects nothing.
    let selector = selector.map(|selector| Selector::try_from(selector).ok());
    let selected = |volume: &PersistentVolume| match &selector {
        None => true,
        Some(None) => false,
        Some(Some(selector)) => selector.matches(volume.metadata.labels.as_ref().unwrap_or(&NONE)),
    };
    let serves = |volume: &PersistentVolume| capacity(volume) >= requested(claim) && has_mode(volume, claim);
    let own = volumes.iter().find(|volume| names(volume, claim) && serves(volume));
    if own.is_some() || waits {
        return own;
    }
    let free = |volume: &&Arc<PersistentVolume>| {
        let is_free = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_none());
        // It is shown as available once it was looked at; before, it may be about to be given to another.
        let is_available =
            volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available");
        is_free && is_available && !volume.is_going() && misfit(volume, claim).is_none() && selected(volume)
    };
    volumes.iter().filter(free).min_by_key(|volume| (capacity(volume), volume.name().to_owned()))
}
