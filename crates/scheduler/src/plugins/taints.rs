//! TaintToleration: nodes repel pods that do not say that they bear it.

use k8s_openapi::api::core::v1::Taint;
use tiphys_client::placement::any_tolerates;

use crate::{
    framework::{ClusterEvent, Plugin, Rejection, scale},
    pod::PodInfo,
    snapshot::{NodeFacts, NodeInfo},
};

pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeFacts, _: &NodeInfo) -> Result<(), Rejection> {
        let repels = |t: &&Taint| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute");
        match node.taints.iter().filter(repels).find(|t| !any_tolerates(&pod.tolerations, t)) {
            None => Ok(()),
            Some(taint) => {
                let value = taint.value.as_deref().unwrap_or_default();
                let reason = format!("node(s) had untolerated taint {{{}: {value}}}", taint.key);
                Err(Rejection::new(self.name(), reason).unresolvable())
            }
        }
    }

    fn score(&self, pod: &PodInfo, node: &NodeFacts, _: &NodeInfo) -> Option<i64> {
        let disliked = node
            .taints
            .iter()
            .filter(|t| t.effect == "PreferNoSchedule" && !any_tolerates(&pod.tolerations, t))
            .count();
        i64::try_from(disliked).ok()
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale(scores, true);
    }

    fn hint(&self, event: ClusterEvent) -> bool {
        use ClusterEvent::{NodeAdded, NodeTaintsChanged, PodChanged};
        matches!(event, NodeAdded | NodeTaintsChanged | PodChanged)
    }
}
