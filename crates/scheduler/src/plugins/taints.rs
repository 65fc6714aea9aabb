//! TaintToleration: nodes repel pods that do not say that they bear it.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::{
    framework::{ClusterEvent, Plugin, Rejection, scale},
    pod::PodInfo,
    snapshot::{NodeFacts, NodeInfo},
};

/// Whether one of the tolerations covers the taint, as the API reference defines it for `Toleration`.
pub(crate) fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (effect, key) = (text(&t.effect), text(&t.key));
        if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
            return false;
        }
        let (ours, theirs) = (text(&t.value), text(&taint.value));
        match t.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => ours == theirs,
            "Exists" => true,
            // Both must be integers (KEP-5471).
            "Lt" => theirs.parse::<i64>().is_ok_and(|t| ours.parse::<i64>().is_ok_and(|o| t < o)),
            "Gt" => theirs.parse::<i64>().is_ok_and(|t| ours.parse::<i64>().is_ok_and(|o| t > o)),
            _ => false,
        }
    })
}

pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeFacts, _: &NodeInfo) -> Result<(), Rejection> {
        let repels = |t: &&Taint| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute");
        match node.taints.iter().filter(repels).find(|t| !tolerates(&pod.tolerations, t)) {
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
            .filter(|t| t.effect == "PreferNoSchedule" && !tolerates(&pod.tolerations, t))
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
