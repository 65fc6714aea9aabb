//! Volumes by claim: which path of the host a claim stands for.
//!
//! A claim's directory or file is bound below the pod's own directory, so that it goes with the pod's other mounts, and
//! the containers of a pod keep what they have when the claim is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, Volume,
};
use kube::{Api, Client};
use tiphys_client::storage::ephemeral_claim;

use super::ownership::Group;
use super::{PodDir, VolumeError, mounts};
use crate::pod;

/// Why a claim can't be mounted.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The API refused to tell of it.
    #[error("get {what}: {source}")]
    Api {
        /// The claim or the volume.
        what: String,
        /// Why it failed.
        source: kube::Error,
    },
    /// There is none of that name.
    #[error("persistentvolumeclaim {0:?} not found")]
    NoClaim(String),
    /// It has no volume, or one that does not name it.
    #[error("PVC is not bound")]
    NotBound,
    /// It is about to go.
    #[error("PVC is being deleted")]
    Going,
    /// A claim of that name was there before the pod, and is not its own.
    #[error("PVC {0:?} was not created for the pod (the pod is not owner)")]
    NotOwned(String),
    /// A raw device was claimed.
    #[error("volume has volumeMode Block, which this node has no driver for")]
    Block,
    /// The volume is of a kind that this node has no driver for.
    #[error("no volume plugin matched volume {0:?}")]
    Unsupported(String),
}

/// Where the volume of a claim is bound.
pub(super) fn place(dir: &PodDir, volume: &Volume) -> PathBuf {
    dir.volume("claim", &volume.name)
}

/// What a claim stands for.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// The name of its volume.
    pub(crate) volume: String,
    path: HostPathVolumeSource,
    /// What is in a local volume is its pods', by their fsGroup; what a hostPath leads to stays the host's.
    local: bool,
}

/// What the claims of a pod stand for, by the name of the volume.
pub(crate) type Resolved = BTreeMap<String, Claimed>;

/// The claim that a volume is by, if it is one.
pub(crate) fn claim_of(pod: &Pod, volume: &Volume) -> Option<String> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some(claim.claim_name.clone());
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    volume.ephemeral.as_ref().map(|_| ephemeral_claim(name, &volume.name))
}

/// Asks the API what the claims of a pod stand for that are not there yet.
pub(crate) async fn resolve(
    client: &Client,
    pod: &Pod,
    dir: &PodDir,
) -> Result<Resolved, (String, ClaimError)> {
    let mut resolved = Resolved::new();
    for volume in pod::spec(pod).volumes.iter().flatten() {
        let Some(claim) = claim_of(pod, volume) else { continue };
        if mounts::is_mount_point(&place(dir, volume)) {
            continue;
        }
        let claimed = one(client, pod, volume, &claim).await.map_err(|error| (volume.name.clone(), error))?;
        resolved.insert(volume.name.clone(), claimed);
    }
    Ok(resolved)
}

async fn one(client: &Client, pod: &Pod, volume: &Volume, name: &str) -> Result<Claimed, ClaimError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let failed = |what: String| move |source| ClaimError::Api { what, source };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let claim = claims.get_opt(name).await.map_err(failed(format!("persistentvolumeclaim {name:?}")))?;
    let claim = claim.ok_or_else(|| ClaimError::NoClaim(name.to_owned()))?;
    if volume.ephemeral.is_some() && !is_owned(&claim, pod) {
        return Err(ClaimError::NotOwned(name.to_owned()));
    }
    if claim.metadata.deletion_timestamp.is_some() && claim.metadata.finalizers.is_none() {
        return Err(ClaimError::Going);
    }
    let is_bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let bound_to = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    let bound_to = bound_to.filter(|_| is_bound).ok_or(ClaimError::NotBound)?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = volumes.get(&bound_to).await.map_err(failed(format!("persistentvolume {bound_to:?}")))?;
    source_of(&volume, &claim)
}

fn is_owned(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let owners = claim.metadata.owner_references.iter().flatten();
    owners.map(|owner| &owner.uid).any(|uid| Some(uid) == pod.metadata.uid.as_ref())
}

/// The path that a volume is, if the claim has it.
fn source_of(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<Claimed, ClaimError> {
    let spec = volume.spec.as_ref().ok_or(ClaimError::NotBound)?;
    let owner = spec.claim_ref.as_ref().and_then(|claim| claim.uid.as_ref());
    if owner.is_none() || owner != claim.metadata.uid.as_ref() {
        return Err(ClaimError::NotBound);
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(ClaimError::Block);
    }
    let volume = volume.metadata.name.clone().unwrap_or_default();
    match (&spec.host_path, &spec.local) {
        (Some(path), _) => Ok(Claimed { volume, path: path.clone(), local: false }),
        // The directory of a local volume was there before.
        (None, Some(local)) => {
            let path = HostPathVolumeSource { path: local.path.clone(), type_: Some("Directory".to_owned()) };
            Ok(Claimed { volume, path, local: true })
        }
        (None, None) => Err(ClaimError::Unsupported(volume)),
    }
}

/// Binds what a claim stands for to its place below the pod's directory. A local volume is given to the group first;
/// the answer is the group that it stays with, if it is another pod's.
pub(crate) fn bind(
    claimed: &Claimed,
    to: &Path,
    dir: &PodDir,
    group: Option<Group>,
) -> Result<Option<u32>, VolumeError> {
    super::check_host_path(&claimed.path)?;
    let from = PathBuf::from(&claimed.path.path);
    let stays = match group.filter(|_| claimed.local) {
        Some(group) => group.take(&from, dir.all())?,
        None => None,
    };
    if fs::metadata(&from).map_err(VolumeError::io("stat", &from))?.is_dir() {
        fs::create_dir_all(to).map_err(VolumeError::io("create", to))?;
    } else {
        let parent = to.parent().unwrap_or(to);
        fs::create_dir_all(parent).map_err(VolumeError::io("create", parent))?;
        let file = fs::File::options().create(true).append(true).open(to);
        file.map_err(VolumeError::io("create", to))?;
    }
    mounts::bind(&from, to).map_err(VolumeError::io("bind a claim's volume to", to))?;
    Ok(stays)
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
