//! Directories of this node as volumes: the provisioner of the cluster's own storage class.
//!
//! Each claim of the class gets a directory and a volume that is tied to the node which the scheduler chose for the
//! claim's first pod. When the claim goes, so do they, unless the class says `Retain`. A directory is made before its
//! volume and removed before it, so whatever is cut short is done by the next look. Capacity is not enforced, so a volume
//! grows when its claim asks: the volume first, then what the claim says that it has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, Patch, PostParams, Preconditions};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tiphys_client::placement::units;
use tiphys_client::storage::{self, DEFAULT_CLASS, PROVISIONED_BY, SELECTED_NODE, class_of};
use tiphys_client::{Informer, ObjectKey, Queue, Reader, Recorder, Verdict};

/// The service account that the provisioner works as.
pub const NAME: &str = "local-path-provisioner";
/// What classes name.
const PROVISIONER: &str = "tiphys.io/local-path";
/// The class that claims get who name none.
const CLASS: &str = "local-path";
/// How long a server is left alone that would not take the class.
const OFFER_AGAIN: Duration = Duration::from_secs(5);
/// Keeps a volume until its directory is gone.
const FINALIZER: &str = "tiphys.io/local-path";
/// On a claim: who is to make its volume.
const ASKED: &str = storage::PROVISIONER[0];
const HOSTNAME: &str = "kubernetes.io/hostname";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("{step} {path}: {source}")]
    Disk { step: &'static str, path: PathBuf, source: std::io::Error },
}

/// Makes and removes the directories below `dir` until the future is dropped.
pub async fn run(client: Client, node: String, dir: PathBuf) {
    let (events, sink) = Recorder::new(client.clone(), NAME, &node);
    let mut claims = Informer::<PersistentVolumeClaim, _>::new(
        Api::all(client.clone()),
        watcher::Config::default(),
        whole,
    );
    let mut volumes =
        Informer::<PersistentVolume, _>::new(Api::all(client.clone()), watcher::Config::default(), whole);
    let mut classes =
        Informer::<StorageClass, _>::new(Api::all(client.clone()), watcher::Config::default(), whole);
    let queue = Queue::new();
    claims.on_change({
        let queue = queue.clone();
        move |change| queue.add(change.key.clone())
    });
    volumes.on_change({
        let queue = queue.clone();
        move |change| queue.add(change.key.clone())
    });
    // A claim may be seen before its class.
    classes.on_change({
        let (queue, claims) = (queue.clone(), claims.reader());
        move |_| claims.list().iter().for_each(|claim| queue.add(ObjectKey::of(&claim.metadata)))
    });
    let provisioner = Arc::new(Provisioner {
        client,
        events,
        node,
        dir,
        claims: claims.reader(),
        volumes: volumes.reader(),
        classes: classes.reader(),
    });
    let work = {
        let provisioner = Arc::clone(&provisioner);
        async move {
            provisioner.synced().await;
            let look = move |key: ObjectKey| {
                let provisioner = Arc::clone(&provisioner);
                async move { provisioner.look(&key).await }
            };
            queue.run(NAME, 1, look).await;
        }
    };
    tokio::join!(claims.run(), volumes.run(), classes.run(), sink.run(), provisioner.offer(), work);
}

fn whole<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

struct Provisioner {
    client: Client,
    events: Recorder,
    node: String,
    dir: PathBuf,
    claims: Reader<PersistentVolumeClaim>,
    volumes: Reader<PersistentVolume>,
    classes: Reader<StorageClass>,
}

impl Provisioner {
    async fn synced(&self) {
        self.claims.synced().await;
        self.volumes.synced().await;
        self.classes.synced().await;
    }

    /// Sees to it that there is the class; what somebody made of it stays.
    async fn offer(&self) {
        let class = json!({
            "metadata": {"name": CLASS, "annotations": {DEFAULT_CLASS[0]: "true"}},
            "provisioner": PROVISIONER,
            "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": "Delete",
            "allowVolumeExpansion": true,
        });
        let Ok(class) = serde_json::from_value::<StorageClass>(class) else { return };
        let classes: Api<StorageClass> = Api::all(self.client.clone());
        loop {
            match classes.create(&PostParams::default(), &class).await {
                Err(kube::Error::Api(status)) if status.code == 409 => return,
                Err(error) => tracing::warn!(%error, "making the storage class {CLASS}"),
                Ok(_) => return,
            }
            tokio::time::sleep(OFFER_AGAIN).await;
        }
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, Error> {
        if key.namespace.is_empty() {
            if let Some(volume) = self.volumes.get(key) {
                self.clear(&volume).await?;
            }
        } else if let Some(claim) = self.claims.get(key) {
            let spec = claim.spec.as_ref();
            let class = class_of(&claim.metadata, spec.and_then(|spec| spec.storage_class_name.as_deref()));
            let class = class.and_then(|name| self.classes.get(&ObjectKey::new("", name)));
            if let Some(class) = class
                && is_ours(&claim, &class, &self.node)
            {
                self.provide(&claim, &class).await?;
            }
            let volume = spec.and_then(|spec| spec.volume_name.as_deref());
            if let Some(volume) = volume.and_then(|name| self.volumes.get(&ObjectKey::new("", name)))
                && let Some(size) = growth(&claim, &volume, &self.node)
            {
                self.grow(&claim, &volume, size).await?;
            }
        }
        Ok(Verdict::Done)
    }

    /// Tells volume and claim their new size.
    async fn grow(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
        size: &Quantity,
    ) -> Result<(), Error> {
        let capacity = json!({"storage": size});
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let change = Patch::Merge(json!({"metadata": {"uid": volume.uid()}, "spec": {"capacity": capacity}}));
        volumes.patch(&volume.name_any(), &Default::default(), &change).await?;
        let namespace = claim.namespace().unwrap_or_default();
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &namespace);
        let status = json!({"capacity": capacity, "allocatedResources": capacity});
        let change = Patch::Merge(json!({"metadata": {"uid": claim.uid()}, "status": status}));
        claims.patch_status(&claim.name_any(), &Default::default(), &change).await?;
        self.events.normal(&reference(claim), "VolumeResizeSuccessful", "Resize volume succeeded");
        Ok(())
    }

    async fn provide(&self, claim: &PersistentVolumeClaim, class: &StorageClass) -> Result<(), Error> {
        let about = reference(claim);
        let volume = match volume(claim, class, &self.node, &self.dir) {
            Ok(volume) => volume,
            Err(why) => {
                let message =
                    format!("failed to provision volume with StorageClass {:?}: {why}", class.name_any());
                self.events.warning(&about, "ProvisioningFailed", message);
                return Ok(());
            }
        };
        let path = path_of(&volume).unwrap_or_default();
        make(&path).await.map_err(|source| Error::Disk { step: "make", path, source })?;
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        match volumes.create(&PostParams::default(), &volume).await {
            // An earlier look has made it.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            made => {
                let message = format!("Successfully provisioned volume {}", made?.name_any());
                self.events.normal(&about, "ProvisioningSucceeded", message);
            }
        }
        Ok(())
    }

    /// Removes the directory of a volume that nobody claims any more, then the volume.
    async fn clear(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let Some(end) = end_of(volume, &self.node) else { return Ok(()) };
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        if end == End::WithItsData {
            // Of paths that somebody has changed we know nothing.
            if let Some(path) = path_of(volume).filter(|path| path.parent() == Some(&self.dir)) {
                remove(&path).await.map_err(|source| Error::Disk { step: "remove", path, source })?;
            }
        }
        let kept: Vec<_> = volume.finalizers().iter().filter(|name| *name != FINALIZER).collect();
        let meta = json!({"finalizers": kept, "resourceVersion": volume.metadata.resource_version});
        let change = Patch::Merge(json!({"metadata": meta}));
        let name = volume.name_any();
        if kept.len() < volume.finalizers().len() {
            gone_is_fine(volumes.patch(&name, &Default::default(), &change).await)?;
        }
        if volume.metadata.deletion_timestamp.is_none() {
            let this = Preconditions { uid: volume.uid(), resource_version: None };
            let params = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
            gone_is_fine(volumes.delete(&name, &params).await)?;
        }
        Ok(())
    }
}

fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

async fn make(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    tokio::fs::create_dir_all(path).await?;
    // Any user of any container may write, as with an emptyDir.
    tokio::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).await
}

async fn remove(path: &Path) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether this node is to make the volume of a claim.
fn is_ours(claim: &PersistentVolumeClaim, class: &StorageClass, node: &str) -> bool {
    let asked = claim.annotations().get(ASKED).map(String::as_str) == Some(PROVISIONER);
    let unbound = claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_none());
    let chosen = claim.annotations().get(SELECTED_NODE);
    // A class that binds at once leaves the choice to whoever is first; the volume's name allows for one.
    let here =
        chosen.map_or(class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer"), |c| c == node);
    class.provisioner == PROVISIONER
        && asked
        && unbound
        && here
        && claim.metadata.deletion_timestamp.is_none()
}

/// The size that a claim asks for and does not have yet, of a volume that this node has made for it.
fn growth<'a>(
    claim: &'a PersistentVolumeClaim,
    volume: &PersistentVolume,
    node: &str,
) -> Option<&'a Quantity> {
    let status = claim.status.as_ref().filter(|status| status.phase.as_deref() == Some("Bound"))?;
    let claimed_by = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let asks = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")?;
    let has = status.capacity.as_ref()?.get("storage")?;
    let is_its = is_made_by_us(volume, node) && claimed_by.uid.is_some() && claimed_by.uid == claim.uid();
    (is_its && units(asks)? > units(has)?).then_some(asks)
}

/// The volume for a claim, or why there can be none.
fn volume(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: &str,
    dir: &Path,
) -> Result<PersistentVolume, &'static str> {
    let spec = claim.spec.clone().unwrap_or_default();
    if spec.selector.is_some() {
        return Err("claim Selector is not supported");
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err("block volumes are not supported");
    }
    let modes = spec.access_modes.unwrap_or_default();
    if modes.iter().any(|mode| !matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod")) {
        return Err("only the access modes ReadWriteOnce and ReadWriteOncePod are supported");
    }
    let requests = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let storage: BTreeMap<_, _> = requests.into_iter().filter(|(name, _)| name == "storage").collect();
    let uid = claim.uid().ok_or("the claim has no UID")?;
    let name = format!("pvc-{uid}");
    let mut claimed_by = reference(claim);
    claimed_by.resource_version.clone_from(&claim.metadata.resource_version);
    let terms = json!([{"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [node]}]}]);
    let volume = json!({
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}, "finalizers": [FINALIZER]},
        "spec": {
            "accessModes": modes,
            "capacity": storage,
            "claimRef": claimed_by,
            "local": {"path": dir.join(&name)},
            "mountOptions": class.mount_options,
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.name_any(),
            "volumeMode": "Filesystem",
        },
    });
    serde_json::from_value(volume).map_err(|_| "the claim makes no volume")
}

fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: claim.namespace(),
        name: claim.metadata.name.clone(),
        uid: claim.uid(),
        ..ObjectReference::default()
    }
}

fn path_of(volume: &PersistentVolume) -> Option<PathBuf> {
    Some(PathBuf::from(&volume.spec.as_ref()?.local.as_ref()?.path))
}

/// How a volume ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    WithItsData,
    /// The directory stays for whoever wants to look at it.
    Alone,
}

/// Whether a volume is a directory of this node that this provisioner has made.
fn is_made_by_us(volume: &PersistentVolume, node: &str) -> bool {
    let ours = volume.annotations().get(PROVISIONED_BY).is_some_and(|by| by == PROVISIONER);
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    let terms = required.into_iter().flat_map(|required| &required.node_selector_terms);
    let mut wants = terms.flat_map(|term| term.match_expressions.iter().flatten());
    ours && wants.any(|want| want.key == HOSTNAME && want.values.iter().flatten().any(|name| name == node))
}

/// Whether it is for this node to end a volume.
fn end_of(volume: &PersistentVolume, node: &str) -> Option<End> {
    if !is_made_by_us(volume, node) {
        return None;
    }
    let spec = volume.spec.as_ref()?;
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let deletes = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    let going = volume.metadata.deletion_timestamp.is_some();
    match (phase, going) {
        // It was claimed when somebody deleted it: its data stays for as long as the claim does.
        (Some("Bound"), _) => None,
        (_, true) if deletes => Some(End::WithItsData),
        (_, true) => Some(End::Alone),
        (Some("Released"), false) if deletes => Some(End::WithItsData),
        _ => None,
    }
}

#[cfg(test)]
#[path = "local_path_tests.rs"]
mod tests;
