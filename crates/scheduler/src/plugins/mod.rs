//! The default plugins, one module each where it has an idea of its own.

mod affinity;
mod node;
mod resources;
mod taints;

use crate::framework::{Plugin, Profile};

/// The profile named `default-scheduler`, with upstream's default weights.
pub(crate) fn default_profile() -> Profile {
    let plugins: Vec<(Box<dyn Plugin>, i64)> = vec![
        (Box::new(node::SchedulingGates), 0),
        (Box::new(node::NodeUnschedulable), 0),
        (Box::new(node::NodeName), 0),
        (Box::new(taints::TaintToleration), 3),
        (Box::new(affinity::NodeAffinity), 2),
        (Box::new(node::NodePorts), 0),
        (Box::new(resources::NodeResourcesFit), 1),
        (Box::new(resources::NodeResourcesBalancedAllocation), 1),
        (Box::new(node::ImageLocality), 1),
    ];
    Profile { scheduler: "default-scheduler".into(), plugins }
}

#[cfg(test)]
#[path = "plugins_tests.rs"]
mod tests;
