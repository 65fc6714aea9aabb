//! Volumes: what pods use, and what the cluster has.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{NodeSelector, PersistentVolume, PersistentVolumeClaim, PodSpec, TopologySelectorTerm},
    storage::v1::{CSINode, CSIStorageCapacity, StorageClass},
};
use tiphys_client::{
    ObjectKey, placement,
    storage::{BIND_COMPLETED, NO_PROVISIONER, class_of, ephemeral_claim},
};

use crate::selector::{Labels, Selector};

/// What a pod uses, as far as it limits where the pod can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeUse {
    Claim(Box<str>),
    /// A claim of this name is made for the pod.
    Ephemeral(Box<str>),
    Disk(Disk),
}

/// A disk that cannot be attached as one likes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    kind: &'static str,
    /// Any of which names the disk.
    names: Vec<Box<str>>,
    read_only: bool,
}

impl Disk {
    /// Whether both cannot be on one node: unless all only read, and two of Amazon's never.
    pub fn clashes(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.names.iter().any(|name| other.names.contains(name))
            && !(self.read_only && other.read_only && self.kind != "aws")
    }
}

/// What the volumes of a pod named `pod` are.
pub fn used(pod: &str, spec: &PodSpec) -> Vec<VolumeUse> {
    let disk = |kind, names: Vec<String>, read_only: Option<bool>| {
        let names = names.into_iter().map(Into::into).collect();
        VolumeUse::Disk(Disk { kind, names, read_only: read_only.unwrap_or(false) })
    };
    let volumes = spec.volumes.iter().flatten();
    let used = volumes.filter_map(|v| {
        if let Some(claim) = &v.persistent_volume_claim {
            Some(VolumeUse::Claim(claim.claim_name.as_str().into()))
        } else if v.ephemeral.is_some() {
            Some(VolumeUse::Ephemeral(ephemeral_claim(pod, &v.name).into()))
        } else if let Some(d) = &v.gce_persistent_disk {
            Some(disk("gce", vec![d.pd_name.clone()], d.read_only))
        } else if let Some(d) = &v.aws_elastic_block_store {
            Some(disk("aws", vec![d.volume_id.clone()], d.read_only))
        } else if let Some(d) = &v.iscsi {
            Some(disk("iscsi", vec![d.iqn.clone()], d.read_only))
        } else if let Some(d) = &v.rbd {
            let image = format!("{}/{}", d.pool.as_deref().unwrap_or("rbd"), d.image);
            Some(disk("rbd", d.monitors.iter().map(|m| format!("{m}/{image}")).collect(), d.read_only))
        } else {
            None
        }
    });
    used.collect()
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claim {
    pub uid: Box<str>,
    pub volume: Box<str>,
    pub is_lost: bool,
    pub going: bool,
    /// Bound, and the binder has said so.
    pub is_bound: bool,
    pub class: Box<str>,
    pub modes: Vec<Box<str>>,
    pub is_block: bool,
    pub selector: Selector,
    pub bytes: i64,
    /// The pod that it was made for, if it was.
    pub owner: Option<Box<str>>,
}

impl Claim {
    pub fn new(claim: PersistentVolumeClaim) -> Self {
        let spec = claim.spec.unwrap_or_default();
        let metadata = claim.metadata;
        let completed = metadata.annotations.iter().flatten().any(|(k, _)| k == BIND_COMPLETED);
        let volume = spec.volume_name.as_deref().unwrap_or_default();
        let class = class_of(&metadata, spec.storage_class_name.as_deref()).unwrap_or_default().to_owned();
        let requests = spec.resources.and_then(|r| r.requests);
        Self {
            uid: metadata.uid.unwrap_or_default().into(),
            is_bound: !volume.is_empty() && completed,
            volume: volume.into(),
            is_lost: claim.status.and_then(|s| s.phase).as_deref() == Some("Lost"),
            going: metadata.deletion_timestamp.is_some(),
            class: class.into(),
            modes: spec.access_modes.into_iter().flatten().map(Into::into).collect(),
            is_block: spec.volume_mode.as_deref() == Some("Block"),
            selector: spec.selector.as_ref().map_or_else(Selector::default, |s| Selector::of(Some(s))),
            bytes: requests.and_then(|r| r.get("storage").and_then(placement::units)).unwrap_or(0),
            owner: metadata
                .owner_references
                .iter()
                .flatten()
                .find(|o| o.kind == "Pod")
                .map(|o| o.uid.as_str().into()),
        }
    }

    pub fn is_for_one_pod(&self) -> bool {
        self.modes.iter().any(|mode| &**mode == "ReadWriteOncePod")
    }
}

/// A PersistentVolume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volume {
    pub name: Box<str>,
    pub labels: Labels,
    pub affinity: Option<NodeSelector>,
    pub class: Box<str>,
    pub modes: Vec<Box<str>>,
    pub is_block: bool,
    pub bytes: i64,
    /// The claim that it is for, with its UID where that is known.
    pub claim: Option<(ObjectKey, Box<str>)>,
    pub is_available: bool,
    /// Driver and handle.
    pub csi: Option<(Box<str>, Box<str>)>,
}

impl Volume {
    pub fn new(volume: PersistentVolume) -> Self {
        let spec = volume.spec.unwrap_or_default();
        let claim = spec.claim_ref.map(|c| {
            let key = ObjectKey::new(
                c.namespace.as_deref().unwrap_or_default(),
                c.name.as_deref().unwrap_or_default(),
            );
            (key, c.uid.unwrap_or_default().into())
        });
        let phase = volume.status.and_then(|s| s.phase);
        Self {
            class: class_of(&volume.metadata, spec.storage_class_name.as_deref()).unwrap_or_default().into(),
            name: volume.metadata.name.unwrap_or_default().into(),
            labels: volume.metadata.labels.unwrap_or_default(),
            affinity: spec.node_affinity.and_then(|a| a.required),
            modes: spec.access_modes.into_iter().flatten().map(Into::into).collect(),
            is_block: spec.volume_mode.as_deref() == Some("Block"),
            bytes: spec
                .capacity
                .as_ref()
                .and_then(|c| c.get("storage"))
                .and_then(placement::units)
                .unwrap_or(0),
            claim,
            is_available: matches!(phase.as_deref(), None | Some("Available" | "Pending")),
            csi: spec.csi.map(|c| (c.driver.into(), c.volume_handle.into())),
        }
    }

    /// Whether the node can reach it.
    pub fn reaches(&self, node: &str, labels: &Labels) -> bool {
        self.affinity.as_ref().is_none_or(|a| placement::selector_matches(a, node, labels))
    }

    /// Whether it may be bound to the claim.
    pub fn serves(&self, key: &ObjectKey, claim: &Claim) -> bool {
        let free = match &self.claim {
            None => self.is_available,
            Some((of, uid)) => of == key && (uid.is_empty() || *uid == claim.uid),
        };
        free && self.class == claim.class
            && self.is_block == claim.is_block
            && self.bytes >= claim.bytes
            && claim.modes.iter().all(|mode| self.modes.contains(mode))
            && claim.selector.matches(&self.labels)
    }
}

/// A StorageClass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Class {
    pub provisioner: Box<str>,
    /// `WaitForFirstConsumer`.
    pub waits: bool,
    pub topologies: Vec<TopologySelectorTerm>,
}

impl Class {
    pub fn new(class: StorageClass) -> Self {
        Self {
            provisioner: class.provisioner.into(),
            waits: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            topologies: class.allowed_topologies.unwrap_or_default(),
        }
    }

    /// Whether a volume can be made where such labels are.
    pub fn provides(&self, labels: &Labels) -> bool {
        let admits = |term: &TopologySelectorTerm| {
            term.match_label_expressions
                .iter()
                .flatten()
                .all(|e| labels.get(&e.key).is_some_and(|v| e.values.contains(v)))
        };
        &*self.provisioner != NO_PROVISIONER
            && (self.topologies.is_empty() || self.topologies.iter().any(admits))
    }
}

/// How much of a class can still be had where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capacity {
    pub class: Box<str>,
    pub nodes: Selector,
    pub bytes: i64,
}

impl Capacity {
    pub fn new(capacity: CSIStorageCapacity) -> Self {
        let most = capacity.maximum_volume_size.or(capacity.capacity);
        Self {
            class: capacity.storage_class_name.into(),
            nodes: Selector::of(capacity.node_topology.as_ref()),
            bytes: most.as_ref().and_then(placement::units).unwrap_or(0),
        }
    }
}

/// How many volumes of each driver a node takes.
pub fn limits(node: CSINode) -> BTreeMap<Box<str>, usize> {
    let drivers = node.spec.drivers.into_iter();
    let limits = drivers.filter_map(|d| Some((d.name.into(), usize::try_from(d.allocatable?.count?).ok()?)));
    limits.collect()
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    pub claims: BTreeMap<ObjectKey, std::sync::Arc<Claim>>,
    pub volumes: BTreeMap<Box<str>, std::sync::Arc<Volume>>,
    pub classes: BTreeMap<Box<str>, std::sync::Arc<Class>>,
    /// By node.
    pub limits: BTreeMap<Box<str>, std::sync::Arc<BTreeMap<Box<str>, usize>>>,
    /// Drivers that tell how much they have left.
    pub measured: BTreeSet<Box<str>>,
    pub capacities: BTreeMap<ObjectKey, std::sync::Arc<Capacity>>,
    /// Volumes that claims shall have, before the API has said so.
    pub promised: BTreeMap<Box<str>, ObjectKey>,
}

impl Storage {
    /// Driver and handle of what a claim stands for; a volume that is yet to be made has a name of its own.
    pub fn attached(&self, key: &ObjectKey) -> Option<(Box<str>, Box<str>)> {
        let claim = self.claims.get(key)?;
        if let Some(volume) = self.volumes.get(&claim.volume) {
            return volume.csi.clone();
        }
        let class = self.classes.get(&claim.class)?;
        Some((class.provisioner.clone(), format!("{}-{key}", class.provisioner).into()))
    }
}
