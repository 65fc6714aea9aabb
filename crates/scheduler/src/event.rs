//! What happens in the cluster and may make room for a pod that waits.

use tiphys_client::ObjectKey;

use crate::{pod::PodInfo, snapshot::NodeFacts};

#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    NodeAdded(&'a NodeFacts),
    NodeChanged {
        old: &'a NodeFacts,
        new: &'a NodeFacts,
    },
    /// A pod got a node, be it that the API says so.
    PodPlaced(&'a PodInfo),
    /// A placed pod went or finished.
    PodLeft(&'a PodInfo),
    PlacedPodChanged {
        old: &'a PodInfo,
        new: &'a PodInfo,
    },
    NamespaceChanged,
    /// A claim, a volume, a class, what a node takes of volumes, or what is left of a class.
    StorageChanged,
    /// What drivers offer, or a DeviceTaintRule.
    DevicesChanged,
    DeviceClassChanged,
    /// A claim to devices.
    DeviceClaimChanged {
        claim: &'a ObjectKey,
        /// It has no devices any more, or does not keep its pod waiting any more.
        frees: bool,
    },
    /// A PodGroup, or who belongs to one.
    GroupsChanged,
    /// What Services or owners select.
    SelectorsChanged,
}

impl<'a> Event<'a> {
    /// What metrics call it; of what upstream tells apart more finely, the resource.
    pub fn label(self) -> &'static str {
        match self {
            Self::NodeAdded(_) => "NodeAdd",
            Self::NodeChanged { .. } => "NodeUpdate",
            Self::PodPlaced(_) => "AssignedPodAdd",
            Self::PodLeft(_) => "AssignedPodDelete",
            Self::PlacedPodChanged { .. } => "AssignedPodUpdate",
            Self::NamespaceChanged => "NamespaceUpdate",
            Self::StorageChanged => "PersistentVolumeClaimUpdate",
            Self::DevicesChanged => "resource.k8s.io/ResourceSliceUpdate",
            Self::DeviceClassChanged => "resource.k8s.io/DeviceClassUpdate",
            Self::DeviceClaimChanged { .. } => "resource.k8s.io/ResourceClaimUpdate",
            Self::GroupsChanged => "scheduling.k8s.io/PodGroupUpdate",
            Self::SelectorsChanged => "ServiceUpdate",
        }
    }

    /// The node as it is now, if it is new or `differs`.
    pub fn node(self, differs: impl FnOnce(&NodeFacts, &NodeFacts) -> bool) -> Option<&'a NodeFacts> {
        match self {
            Self::NodeAdded(node) => Some(node),
            Self::NodeChanged { old, new } if differs(old, new) => Some(new),
            _ => None,
        }
    }
}
