//! NodeResourcesBalancedAllocation: prefers nodes whose resources would be used to a like degree.

use crate::{
    devices::Devices,
    framework::{BEST, Plugin, Point, Score},
    pod::PodInfo,
    snapshot::{NodeId, NodeInfo, Snapshot},
};

use super::{
    args::{BalancedArgs, Weighted},
    node_resources_fit::{are_claimed, with_pod},
};

pub(super) struct NodeResourcesBalancedAllocation(pub(super) BalancedArgs);

struct Balance<'a> {
    pod: &'a PodInfo,
    devices: &'a Devices,
    resources: &'a [Weighted],
}

impl Score for Balance<'_> {
    fn is_fixed(&self) -> bool {
        !are_claimed(self.resources, self.pod, self.devices)
    }

    fn score(&self, node: &NodeInfo) -> i64 {
        let (mut count, mut sum, mut squares) = (0_u32, 0_f64, 0_f64);
        for resource in self.resources {
            let amounts = with_pod(&resource.name, self.pod, node, self.devices, false);
            if let Some((requested, have)) = amounts {
                let part = (requested as f64 / have as f64).min(1.);
                count += 1;
                sum += part;
                squares += part * part;
            }
        }
        if count == 0 {
            return BEST;
        }
        let mean = sum / f64::from(count);
        // Rounding may leave a variance below nothing.
        let deviation = (squares / f64::from(count) - mean * mean).max(0.).sqrt();
        // The same number from another formula may differ in its last digits.
        ((1. - deviation) * BEST as f64 + 1e-9) as i64
    }
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PreScore, Point::Score]
    }
    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        all: &'a Snapshot,
        _: &[NodeId],
    ) -> Option<Box<dyn Score + 'a>> {
        // A pod that asks for nothing unbalances nothing.
        if self.0.resources.iter().all(|r| pod.requests.of(&r.name) == 0) {
            return None;
        }
        let devices = &all.surroundings().devices;
        Some(Box::new(Balance { pod, devices, resources: &self.0.resources }))
    }
}
