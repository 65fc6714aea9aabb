//! NodePorts: a port of a node is taken once.

use tiphys_client::placement::HostPort;

use crate::{
    event::Event,
    framework::{Filter, Plugin, Point, PreFilter, Rejection},
    pod::PodInfo,
    snapshot::{NodeInfo, Snapshot, Surroundings},
};

const NAME: &str = "NodePorts";

pub(super) struct NodePorts;

struct Wants<'a>(&'a [HostPort]);

fn clash(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    wanted.iter().any(|w| taken.iter().any(|t| t.clashes(w)))
}

impl Filter for Wants<'_> {
    fn is_local(&self) -> bool {
        true
    }

    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if clash(self.0, &node.host_ports) {
            return Err(Rejection::new(NAME, "node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }
    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _: &'a Snapshot) -> PreFilter<'a> {
        if pod.host_ports.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Each(Box::new(Wants(&pod.host_ports)))
    }
    fn hint(&self, pod: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::PodLeft(left) => clash(&pod.host_ports, &left.host_ports),
            _ => false,
        }
    }
}
