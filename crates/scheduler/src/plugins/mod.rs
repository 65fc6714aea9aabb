//! The default plugins, one module each.

pub mod args;
mod default_preemption;
pub(crate) mod dynamic_resources;
pub(crate) mod gang_scheduling;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_unschedulable;
mod node_volume_limits;
mod pod_topology_spread;
mod queueing;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

use self::args::Args;
use crate::framework::{Enabled, Plugin, Profile};

/// All plugins with the weight that they have by default, in the order in which they are asked.
pub const DEFAULTS: [(&str, i64); 20] = [
    ("SchedulingGates", 0),
    ("GangScheduling", 0),
    ("PrioritySort", 0),
    ("NodeUnschedulable", 0),
    ("NodeName", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("VolumeRestrictions", 0),
    ("NodeVolumeLimits", 0),
    ("VolumeBinding", 0),
    ("VolumeZone", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("DynamicResources", 1),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
];

/// The plugin of a name; `None` if there is no such.
pub fn make(name: &str, args: &Args) -> Option<Box<dyn Plugin>> {
    Some(match name {
        "SchedulingGates" => Box::new(queueing::SchedulingGates),
        "GangScheduling" => Box::new(gang_scheduling::GangScheduling),
        "PrioritySort" => Box::new(queueing::PrioritySort),
        "DefaultBinder" => Box::new(queueing::DefaultBinder),
        "NodeUnschedulable" => Box::new(node_unschedulable::NodeUnschedulable),
        "NodeName" => Box::new(node_name::NodeName),
        "TaintToleration" => Box::new(taint_toleration::TaintToleration),
        "NodeAffinity" => Box::new(node_affinity::NodeAffinity { added: args.node_affinity.clone() }),
        "NodePorts" => Box::new(node_ports::NodePorts),
        "NodeResourcesFit" => Box::new(node_resources_fit::NodeResourcesFit(args.fit.clone())),
        "NodeResourcesBalancedAllocation" => Box::new(
            node_resources_balanced_allocation::NodeResourcesBalancedAllocation(args.balanced.clone()),
        ),
        "VolumeRestrictions" => Box::new(volume_restrictions::VolumeRestrictions),
        "NodeVolumeLimits" => Box::new(node_volume_limits::NodeVolumeLimits),
        "VolumeBinding" => Box::new(volume_binding::VolumeBinding),
        "VolumeZone" => Box::new(volume_zone::VolumeZone),
        "PodTopologySpread" => Box::new(pod_topology_spread::PodTopologySpread(args.spread.clone())),
        "InterPodAffinity" => Box::new(inter_pod_affinity::InterPodAffinity(args.affinity.clone())),
        "DefaultPreemption" => Box::new(default_preemption::DefaultPreemption(args.preemption.clone())),
        "DynamicResources" => {
            Box::new(dynamic_resources::DynamicResources { filter_timeout: args.devices.filter_timeout() })
        }
        "ImageLocality" => Box::new(image_locality::ImageLocality),
        _ => return None,
    })
}

/// The profile of a scheduler that is not configured otherwise.
pub fn default_profile(scheduler: &str) -> Profile {
    let plugins = DEFAULTS.iter().filter_map(|(name, weight)| {
        let plugin = make(name, &Args::default())?;
        let at = plugin.points().to_vec();
        Some(Enabled { plugin, weight: *weight, at })
    });
    let args = Args::default();
    let (binding, devices) = (args.volumes.timeout(), args.devices.timeout());
    Profile { scheduler: scheduler.into(), plugins: plugins.collect(), percentage: 0, binding, devices }
}

#[cfg(test)]
#[path = "plugins_tests.rs"]
pub(crate) mod tests;

#[cfg(test)]
mod volumes_tests;
