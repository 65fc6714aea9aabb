//! NodeName: a pod that already names its node fits no other.

use crate::{
    event::Event,
    framework::{Filter, Plugin, Point, PreFilter, Rejection},
    pod::PodInfo,
    snapshot::{NodeInfo, Snapshot, Surroundings},
};

const NAME: &str = "NodeName";

pub(super) struct NodeName;

struct Named<'a>(&'a str);

impl Filter for Named<'_> {
    fn is_local(&self) -> bool {
        true
    }

    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if node.name() == self.0 {
            return Ok(());
        }
        Err(Rejection::hopeless(NAME, "node(s) didn't match the requested node name"))
    }
}

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }
    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _: &'a Snapshot) -> PreFilter<'a> {
        if pod.node.is_empty() { PreFilter::Skip } else { PreFilter::Each(Box::new(Named(&pod.node))) }
    }
    fn hint(&self, pod: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        event.node(|_, _| false).is_some_and(|node| node.name == pod.node)
    }
}
