//! What a claim or a volume needs next. Pure: what is seen goes in, what is to be done comes out.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use serde_json::{Value, json};

use tiphys_client::storage::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, DEFAULT_CLASS, MIGRATED_TO, NO_PROVISIONER, PROVISIONED_BY,
    PROVISIONER, SELECTED_NODE,
};

use super::matching;
use crate::object::Object;

/// One step. Those of a plan are done in order, and none after one that fails.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Merges into a volume, if it still is as it was seen.
    Volume { seen: Arc<PersistentVolume>, change: Value },
    /// Merges into a volume's status.
    VolumeStatus { of: Arc<PersistentVolume>, status: Value },
    /// Merges into the claim, if it still is as it was seen.
    Claim { change: Value },
    /// Merges into the claim's status.
    ClaimStatus { status: Value },
    /// The volume is to be emptied, by steps that [`super::recycle`] knows.
    Recycle,
    /// An event about what is looked at.
    Tell { severity: Severity, reason: &'static str, message: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Normal,
    Warning,
}

/// What there is beside the claim.
pub(super) struct Seen<'a> {
    pub(super) volumes: &'a [Arc<PersistentVolume>],
    pub(super) classes: &'a [Arc<StorageClass>],
    /// A pod that mounts the claim, if there is one.
    pub(super) consumer: Option<&'a str>,
}

impl Seen<'_> {
    fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.iter().find(|volume| volume.name() == name)
    }

    fn class(&self, name: &str) -> Option<&StorageClass> {
        self.classes.iter().find(|class| class.name() == name).map(Arc::as_ref)
    }

    /// The class of claims that name none: of several the youngest.
    fn default_class(&self) -> Option<&StorageClass> {
        let is_default = |class: &&Arc<StorageClass>| {
            DEFAULT_CLASS.iter().any(|name| class.annotation(name) == Some("true"))
        };
        let age = |class: &Arc<StorageClass>| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let youngest = |class: &&Arc<StorageClass>| (std::cmp::Reverse(age(class)), class.name().to_owned());
        self.classes.iter().filter(is_default).min_by_key(youngest).map(Arc::as_ref)
    }
}

/// What a claim needs.
pub(super) fn claim(claim: &PersistentVolumeClaim, seen: &Seen<'_>) -> Vec<Action> {
    if claim.is_going() && claim.annotation(BIND_COMPLETED).is_none() {
        return Vec::new();
    }
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    match (claim.annotation(BIND_COMPLETED), wanted) {
        (None, "") => unbound(claim, seen),
        (None, wanted) => wants(claim, seen.volume(wanted)),
        (Some(_), "") => lost(claim, "ClaimLost", "Bound claim has lost reference to PersistentVolume."),
        (Some(_), wanted) => match seen.volume(wanted) {
            None => lost(claim, "ClaimLost", "Bound claim has lost its PersistentVolume."),
            Some(volume) if matching::names(volume, claim) || claim_ref(volume).is_none() => {
                bind(claim, volume)
            }
            Some(_) => {
                let misbound = "Two claims are bound to the same volume, this one is bound incorrectly";
                become_lost(claim, "ClaimMisbound", misbound.to_owned())
            }
        },
    }
}

/// A claim that names no volume.
fn unbound(claim: &PersistentVolumeClaim, seen: &Seen<'_>) -> Vec<Action> {
    let class_name = matching::class_of_claim(claim);
    if class_name.is_none()
        && let Some(class) = seen.default_class()
    {
        return vec![Action::Claim { change: json!({"spec": {"storageClassName": class.name()}}) }];
    }
    let class_name = class_name.unwrap_or_default();
    let class = seen.class(class_name);
    let waits_for_first =
        class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    let waits = waits_for_first && claim.annotation(SELECTED_NODE).is_none();
    if let Some(volume) = matching::best(claim, seen.volumes, waits) {
        return bind(claim, volume);
    }
    let mut actions = phase(claim, "Pending");
    let mut tell = |severity, reason, message| actions.push(Action::Tell { severity, reason, message });
    if class_name.is_empty() {
        let none = "no persistent volumes available for this claim and no storage class is set";
        tell(Severity::Normal, "FailedBinding", none.to_owned());
        return actions;
    }
    if waits {
        match seen.consumer {
            Some(pod) => {
                let message = format!("waiting for pod {pod} to be scheduled");
                tell(Severity::Normal, "WaitForPodScheduled", message);
            }
            None => {
                let message = "waiting for first consumer to be created before binding";
                tell(Severity::Normal, "WaitForFirstConsumer", message.to_owned());
            }
        }
        return actions;
    }
    let Some(class) = class else {
        let message = format!("storageclass.storage.k8s.io {class_name:?} not found");
        tell(Severity::Warning, "ProvisioningFailed", message);
        return actions;
    };
    if class.provisioner == NO_PROVISIONER {
        return actions;
    }
    tell(
        Severity::Normal,
        "ExternalProvisioning",
        format!(
            "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
            class.provisioner
        ),
    );
    if PROVISIONER.iter().any(|name| claim.annotation(name) != Some(&class.provisioner)) {
        let annotations = PROVISIONER.map(|name| (name.to_owned(), json!(class.provisioner)));
        let annotations: serde_json::Map<_, _> = annotations.into_iter().collect();
        // First, as it is about the claim that was seen.
        actions.insert(0, Action::Claim { change: json!({"metadata": {"annotations": annotations}}) });
    }
    actions
}

/// A claim that names its volume, by its maker's wish or since a bind was cut short.
fn wants(claim: &PersistentVolumeClaim, volume: Option<&Arc<PersistentVolume>>) -> Vec<Action> {
    let Some(volume) = volume else { return phase(claim, "Pending") };
    if matching::names(volume, claim) {
        return bind(claim, volume);
    }
    let mut actions = phase(claim, "Pending");
    let why = match claim_ref(volume) {
        Some(_) => format!("volume {:?} already bound to a different claim.", volume.name()),
        None => match matching::misfit(volume, claim) {
            None => return bind(claim, volume),
            Some(misfit) => {
                let message = format!("Cannot bind to requested volume {:?}: {misfit}", volume.name());
                actions.push(Action::Tell { severity: Severity::Warning, reason: "VolumeMismatch", message });
                return actions;
            }
        },
    };
    actions.push(Action::Tell { severity: Severity::Warning, reason: "FailedBinding", message: why });
    actions
}

fn lost(claim: &PersistentVolumeClaim, reason: &'static str, why: &str) -> Vec<Action> {
    become_lost(claim, reason, format!("{why} Data on the volume is lost!"))
}

/// Said once: a claim that is lost stays so.
fn become_lost(claim: &PersistentVolumeClaim, reason: &'static str, message: String) -> Vec<Action> {
    let mut actions = phase(claim, "Lost");
    if !actions.is_empty() {
        actions.push(Action::Tell { severity: Severity::Warning, reason, message });
    }
    actions
}

fn phase(claim: &PersistentVolumeClaim, phase: &str) -> Vec<Action> {
    let is = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let gone = json!({"phase": phase, "accessModes": null, "capacity": null});
    if is == Some(phase) { Vec::new() } else { vec![Action::ClaimStatus { status: gone }] }
}

fn claim_ref(volume: &PersistentVolume) -> Option<&k8s_openapi::api::core::v1::ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// What is left to do until each names the other.
fn bind(claim: &PersistentVolumeClaim, volume: &Arc<PersistentVolume>) -> Vec<Action> {
    let mut actions = Vec::new();
    let named = claim_ref(volume);
    if named.and_then(|named| named.uid.as_deref()) != Some(claim.uid()) {
        let mut change = json!({"spec": {"claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace(), "name": claim.name(), "uid": claim.uid(),
            "resourceVersion": claim.metadata.resource_version,
        }}});
        if named.is_none() {
            change["metadata"] = json!({"annotations": {BOUND_BY_CONTROLLER: "yes"}});
        }
        actions.push(Action::Volume { seen: Arc::clone(volume), change });
    }
    actions.extend(volume_phase(volume, "Bound", None));
    let names = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if names != volume.name() || claim.annotation(BIND_COMPLETED).is_none() {
        let mut annotations = json!({BIND_COMPLETED: "yes"});
        if names.is_empty() {
            annotations[BOUND_BY_CONTROLLER] = json!("yes");
        }
        let spec = json!({"volumeName": volume.name()});
        actions
            .push(Action::Claim { change: json!({"metadata": {"annotations": annotations}, "spec": spec}) });
    }
    let status = claim.status.as_ref();
    let access = volume.spec.as_ref().and_then(|spec| spec.access_modes.clone());
    let is_shown = status.is_some_and(|status| {
        status.phase.as_deref() == Some("Bound")
            && status.access_modes == access
            // It may be larger by now: who expands a volume tells of it.
            && status.capacity.is_some()
    });
    if !is_shown {
        let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.clone());
        let status = json!({"phase": "Bound", "accessModes": access, "capacity": capacity});
        actions.push(Action::ClaimStatus { status });
    }
    actions
}

fn volume_phase(volume: &Arc<PersistentVolume>, phase: &str, message: Option<&str>) -> Option<Action> {
    let is = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let status = json!({"phase": phase, "message": message});
    (is != Some(phase)).then(|| Action::VolumeStatus { of: Arc::clone(volume), status })
}

/// What a volume needs. `claim` is the one of the name that it names, as it is now.
pub(super) fn volume(volume: &Arc<PersistentVolume>, claim: Option<&PersistentVolumeClaim>) -> Vec<Action> {
    let Some(named) = claim_ref(volume) else {
        return volume_phase(volume, "Available", None).into_iter().collect();
    };
    let Some(uid) = named.uid.as_deref().filter(|uid| !uid.is_empty()) else {
        // It is kept for a claim that may yet come.
        return volume_phase(volume, "Available", None).into_iter().collect();
    };
    let Some(claim) = claim.filter(|claim| claim.uid() == uid) else { return released(volume) };
    match claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default() {
        // The claim's own look goes on with it.
        "" => Vec::new(),
        bound if bound == volume.name() => volume_phase(volume, "Bound", None).into_iter().collect(),
        _ => outrun(volume),
    }
}

/// The claim took another volume.
fn outrun(volume: &Arc<PersistentVolume>) -> Vec<Action> {
    if volume.annotation(PROVISIONED_BY).is_some() && policy(volume) == "Delete" {
        // It was made for that claim alone.
        return released(volume);
    }
    unbind(volume)
}

/// Nobody claims the volume; who chose it by name may come again.
pub(super) fn unbind(volume: &Arc<PersistentVolume>) -> Vec<Action> {
    let change = if volume.annotation(BOUND_BY_CONTROLLER).is_some() {
        json!({"metadata": {"annotations": {BOUND_BY_CONTROLLER: null}}, "spec": {"claimRef": null}})
    } else {
        json!({"spec": {"claimRef": {"uid": null, "resourceVersion": null}}})
    };
    let mut actions = vec![Action::Volume { seen: Arc::clone(volume), change }];
    actions.extend(volume_phase(volume, "Available", None));
    actions
}

fn policy(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}

/// Its claim is gone. A provisioner deletes what it has made when it sees the phase.
fn released(volume: &Arc<PersistentVolume>) -> Vec<Action> {
    let has_failed = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed");
    let mut actions: Vec<_> =
        if has_failed { Vec::new() } else { volume_phase(volume, "Released", None).into_iter().collect() };
    // What upstream's own provisioners have made nobody else deletes.
    let provisioner = volume.annotation(PROVISIONED_BY).filter(|by| !by.starts_with("kubernetes.io/"));
    match policy(volume) {
        // It is for a driver, in place of what has made it.
        _ if volume.annotation(MIGRATED_TO).is_some() => {}
        "Recycle" => actions.push(Action::Recycle),
        "Delete" if provisioner.is_none() && !has_failed && !volume.is_going() => {
            let none = "error getting deleter volume plugin for volume: no deletable volume plugin matched";
            actions.extend(volume_phase(volume, "Failed", Some(none)));
            let (severity, message) = (Severity::Warning, none.to_owned());
            actions.push(Action::Tell { severity, reason: "VolumeFailedDelete", message });
        }
        _ => {}
    }
    actions
}

#[cfg(test)]
#[path = "binding_tests.rs"]
mod tests;
