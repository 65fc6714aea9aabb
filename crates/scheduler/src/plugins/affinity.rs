//! NodeAffinity: the pod's `nodeSelector` and its required and preferred node affinity.

use tiphys_client::placement::{selector_matches, term_matches};

use crate::{
    framework::{ClusterEvent, Plugin, Rejection, scale},
    pod::PodInfo,
    snapshot::{NodeFacts, NodeInfo},
};

pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeFacts, _: &NodeInfo) -> Result<(), Rejection> {
        let label = |key: &str| node.labels.get(key).map(String::as_str);
        let selected = pod.node_selector.iter().all(|(k, v)| label(k) == Some(v));
        let required =
            pod.required_affinity.as_ref().is_none_or(|s| selector_matches(s, &node.name, &node.labels));
        if selected && required {
            return Ok(());
        }
        Err(Rejection::new(self.name(), "node(s) didn't match Pod's node affinity/selector").unresolvable())
    }

    fn score(&self, pod: &PodInfo, node: &NodeFacts, _: &NodeInfo) -> Option<i64> {
        if pod.preferred_affinity.is_empty() {
            return None;
        }
        let met =
            pod.preferred_affinity.iter().filter(|p| term_matches(&p.preference, &node.name, &node.labels));
        Some(met.map(|p| i64::from(p.weight)).sum())
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale(scores, false);
    }

    fn hint(&self, event: ClusterEvent) -> bool {
        use ClusterEvent::{NodeAdded, NodeLabelsChanged, PodChanged};
        matches!(event, NodeAdded | NodeLabelsChanged | PodChanged)
    }
}
