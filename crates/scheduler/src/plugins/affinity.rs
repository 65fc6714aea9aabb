//! NodeAffinity: the pod's `nodeSelector` and its required and preferred node affinity.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use crate::{
    framework::{ClusterEvent, Plugin, Rejection, scale},
    pod::PodInfo,
    snapshot::{NodeFacts, NodeInfo},
};

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |wanted: fn(&i64, &i64) -> bool| {
        let bound = values.first().and_then(|v| number(v));
        value.and_then(number).zip(bound).is_some_and(|(have, bound)| wanted(&have, &bound))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.iter().any(|w| w == v)),
        "NotIn" => value.is_none_or(|v| values.iter().all(|w| w != v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

/// A term with neither expressions nor fields matches nothing.
fn term_matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|r| holds(r, labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| holds(r, (r.key == "metadata.name").then_some(name)))
}

/// Terms are alternatives.
fn selector_matches(selector: &NodeSelector, node: &NodeFacts) -> bool {
    selector.node_selector_terms.iter().any(|t| term_matches(t, &node.name, &node.labels))
}

pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeFacts, _: &NodeInfo) -> Result<(), Rejection> {
        let label = |key: &str| node.labels.get(key).map(String::as_str);
        let selected = pod.node_selector.iter().all(|(k, v)| label(k) == Some(v));
        let required = pod.required_affinity.as_ref().is_none_or(|s| selector_matches(s, node));
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
