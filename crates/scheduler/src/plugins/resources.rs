//! What nodes have left: whether the pod fits, and which node it leaves best balanced.

use crate::{
    framework::{BEST, ClusterEvent, Plugin, Rejection},
    pod::PodInfo,
    snapshot::{NodeFacts, NodeInfo},
};

/// NodeResourcesFit with the LeastAllocated strategy over CPU and memory, equally weighted.
pub(super) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeFacts, info: &NodeInfo) -> Result<(), Rejection> {
        let mut reasons = Vec::new();
        if i64::try_from(info.pods.len()).unwrap_or(i64::MAX) >= node.most_pods {
            reasons.push("Too many pods".to_owned());
        }
        let (need, have, taken) = (&pod.requests, &node.allocatable, &info.requested);
        // Even an empty node would not do: no other pod's going would help.
        let mut hopeless = false;
        let mut check = |name: &str, need: i64, have: i64, taken: i64| {
            if need > 0 && need > have - taken {
                reasons.push(format!("Insufficient {name}"));
                hopeless |= need > have;
            }
        };
        check("cpu", need.cpu, have.cpu, taken.cpu);
        check("memory", need.memory, have.memory, taken.memory);
        check("ephemeral-storage", need.ephemeral_storage, have.ephemeral_storage, taken.ephemeral_storage);
        for (name, amount) in &need.others {
            let of = |all: &std::collections::BTreeMap<Box<str>, i64>| all.get(name).copied().unwrap_or(0);
            check(name, *amount, of(&have.others), of(&taken.others));
        }
        if reasons.is_empty() {
            return Ok(());
        }
        Err(Rejection { plugin: self.name(), reasons, unresolvable: hopeless })
    }

    fn score(&self, pod: &PodInfo, node: &NodeFacts, info: &NodeInfo) -> Option<i64> {
        let free =
            |have: i64, taken: i64| if taken > have || have == 0 { 0 } else { (have - taken) * BEST / have };
        let cpu = free(node.allocatable.cpu, info.weight.0 + pod.weight.0);
        let memory = free(node.allocatable.memory, info.weight.1 + pod.weight.1);
        Some((cpu + memory) / 2)
    }

    fn hint(&self, event: ClusterEvent) -> bool {
        use ClusterEvent::{NodeAdded, NodeAllocatableGrew, PodChanged, PodLeft};
        matches!(event, NodeAdded | NodeAllocatableGrew | PodChanged | PodLeft)
    }
}

/// Prefers nodes whose CPU and memory would be used to a like degree.
pub(super) struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score(&self, pod: &PodInfo, node: &NodeFacts, info: &NodeInfo) -> Option<i64> {
        // A pod that asks for nothing unbalances nothing.
        if pod.requests.cpu == 0 && pod.requests.memory == 0 {
            return None;
        }
        let per_mille = |have: i64, used: i64| if have == 0 { 1000 } else { (used * 1000 / have).min(1000) };
        let cpu = per_mille(node.allocatable.cpu, info.requested.cpu + pod.requests.cpu);
        let memory = per_mille(node.allocatable.memory, info.requested.memory + pod.requests.memory);
        // Of two values, the standard deviation is half their distance.
        Some((1000 - (cpu - memory).abs() / 2) * BEST / 1000)
    }

    fn hint(&self, _: ClusterEvent) -> bool {
        false
    }
}
