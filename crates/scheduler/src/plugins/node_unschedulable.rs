//! NodeUnschedulable: cordoned nodes take only pods that bear the taint of cordoned nodes.

use k8s_openapi::api::core::v1::Taint;
use tiphys_client::placement::any_tolerates;

use crate::{
    event::Event,
    framework::{Filter, Plugin, Point, PreFilter, Rejection},
    pod::PodInfo,
    snapshot::{NodeInfo, Snapshot, Surroundings},
};

const NAME: &str = "NodeUnschedulable";

pub(super) struct NodeUnschedulable;

struct Refuses;

fn bears(pod: &PodInfo) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    any_tolerates(&pod.tolerations, &taint)
}

impl Filter for Refuses {
    fn is_local(&self) -> bool {
        true
    }

    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if node.facts.unschedulable {
            return Err(Rejection::hopeless(NAME, "node(s) were unschedulable"));
        }
        Ok(())
    }
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }
    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, all: &'a Snapshot) -> PreFilter<'a> {
        if !all.has_cordoned() || bears(pod) { PreFilter::Skip } else { PreFilter::Each(Box::new(Refuses)) }
    }
    fn hint(&self, _: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        event.node(|old, _| old.unschedulable).is_some_and(|node| !node.unschedulable)
    }
}
