//! TaintToleration: nodes repel pods that do not say that they bear it.

use k8s_openapi::api::core::v1::Taint;
use tiphys_client::placement::any_tolerates;

use crate::{
    event::Event,
    framework::{Filter, Plugin, Point, PreFilter, Rejection, Score, scale},
    pod::PodInfo,
    snapshot::{NodeFacts, NodeId, NodeInfo, Snapshot, Surroundings},
};

const NAME: &str = "TaintToleration";

pub(super) struct TaintToleration;

struct Bears<'a>(&'a PodInfo);

fn unborne<'n>(pod: &PodInfo, node: &'n NodeFacts) -> Option<&'n Taint> {
    let mut repelling = node.taints.iter().filter(|t| t.effect != "PreferNoSchedule");
    repelling.find(|t| !any_tolerates(&pod.tolerations, t))
}

impl Filter for Bears<'_> {
    fn is_local(&self) -> bool {
        true
    }

    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        match unborne(self.0, &node.facts) {
            None => Ok(()),
            Some(_) => Err(Rejection::hopeless(NAME, "node(s) had untolerated taint(s)")),
        }
    }

    fn distance(&self, _: &NodeInfo) -> Option<i64> {
        Some(1000)
    }

    fn remedy(&self, node: &NodeInfo) -> Option<String> {
        let taint = unborne(self.0, &node.facts)?;
        let value = taint.value.as_deref().unwrap_or_default();
        Some(format!("a toleration of {}={value}:{}", taint.key, taint.effect))
    }
}

impl Score for Bears<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let disliked = node.facts.taints.iter().filter(|t| t.effect == "PreferNoSchedule");
        let unborne = disliked.filter(|t| !any_tolerates(&self.0.tolerations, t)).count();
        i64::try_from(unborne).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale(scores, true);
    }
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::PreScore, Point::Score]
    }
    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, all: &'a Snapshot) -> PreFilter<'a> {
        if all.has_taints() { PreFilter::Each(Box::new(Bears(pod))) } else { PreFilter::Skip }
    }
    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        all: &'a Snapshot,
        _: &[NodeId],
    ) -> Option<Box<dyn Score + 'a>> {
        all.has_disliked().then(|| Box::new(Bears(pod)) as Box<dyn Score>)
    }
    fn hint(&self, pod: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        let node = event.node(|old, new| old.taints != new.taints);
        node.is_some_and(|node| unborne(pod, node).is_none())
    }
}
