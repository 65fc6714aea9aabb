//! Plugins that ask one plain question about the node.

use tiphys_client::placement::any_tolerates;

use crate::{
    framework::{BEST, ClusterEvent, Plugin, Rejection},
    pod::PodInfo,
    snapshot::{NodeFacts, NodeInfo},
};

/// A pod with scheduling gates waits until they have all been removed (KEP-3521).
pub(super) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), String> {
        if pod.gates.is_empty() {
            return Ok(());
        }
        Err(format!("waiting for scheduling gates: [{}]", pod.gates.join(" ")))
    }
    fn hint(&self, event: ClusterEvent) -> bool {
        event == ClusterEvent::PodChanged
    }
}

pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }
    fn filter(&self, pod: &PodInfo, node: &NodeFacts, _: &NodeInfo) -> Result<(), Rejection> {
        let taint = k8s_openapi::api::core::v1::Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Default::default()
        };
        if node.unschedulable && !any_tolerates(&pod.tolerations, &taint) {
            return Err(Rejection::new(self.name(), "node(s) were unschedulable").unresolvable());
        }
        Ok(())
    }
    fn hint(&self, event: ClusterEvent) -> bool {
        use ClusterEvent::{NodeAdded, NodeTaintsChanged, PodChanged};
        matches!(event, NodeAdded | NodeTaintsChanged | PodChanged)
    }
}

/// A pod that already names its node fits no other.
pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }
    fn filter(&self, pod: &PodInfo, node: &NodeFacts, _: &NodeInfo) -> Result<(), Rejection> {
        if pod.node.is_empty() || pod.node == node.name {
            return Ok(());
        }
        Err(Rejection::new(self.name(), "node(s) didn't match the requested node name").unresolvable())
    }
    fn hint(&self, event: ClusterEvent) -> bool {
        event == ClusterEvent::NodeAdded
    }
}

pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }
    fn filter(&self, pod: &PodInfo, _: &NodeFacts, info: &NodeInfo) -> Result<(), Rejection> {
        let clash =
            pod.host_ports.iter().any(|wanted| info.host_ports.iter().any(|taken| taken.clashes(wanted)));
        if clash {
            let reason = "node(s) didn't have free ports for the requested pod ports";
            return Err(Rejection::new(self.name(), reason));
        }
        Ok(())
    }
    fn hint(&self, event: ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdded | ClusterEvent::PodLeft)
    }
}

/// Prefers nodes that have the pod's images already.
pub(super) struct ImageLocality;

const SMALLEST_IMAGE: i64 = 23 * 1024 * 1024;
const LARGEST_IMAGE: i64 = 1000 * 1024 * 1024;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }
    fn score(&self, pod: &PodInfo, node: &NodeFacts, _: &NodeInfo) -> Option<i64> {
        let most = LARGEST_IMAGE * i64::try_from(pod.images.len().max(1)).ok()?;
        let there: i64 = pod.images.iter().filter_map(|image| node.images.get(image)).sum();
        Some((there.clamp(SMALLEST_IMAGE, most) - SMALLEST_IMAGE) * BEST / (most - SMALLEST_IMAGE))
    }
    fn hint(&self, _: ClusterEvent) -> bool {
        false
    }
}
