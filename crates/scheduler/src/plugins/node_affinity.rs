//! NodeAffinity: the pod's `nodeSelector` and its required and preferred node affinity, and what the profile adds.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{self, NodeSelector, PreferredSchedulingTerm};
use tiphys_client::placement::{selector_matches, term_matches};

use crate::{
    event::Event,
    framework::{Filter, Plugin, Point, PreFilter, Rejection, Score, scale},
    pod::PodInfo,
    snapshot::{NodeFacts, NodeId, NodeInfo, Snapshot, Surroundings},
};

const NAME: &str = "NodeAffinity";

pub(super) struct NodeAffinity {
    /// `addedAffinity`: what all pods of the profile ask for besides.
    pub(super) added: Option<Arc<v1::NodeAffinity>>,
}

/// Whether the node is one that the pod's selector and required affinity describe.
pub(super) fn admits(pod: &PodInfo, node: &NodeFacts) -> bool {
    let label = |key: &str| node.labels.get(key).map(String::as_str);
    pod.node_selector.iter().all(|(k, v)| label(k) == Some(v))
        && pod.required_affinity.as_ref().is_none_or(|s| selector_matches(s, &node.name, &node.labels))
}

/// Whether the pod leaves it to others which nodes it goes to.
pub(super) fn asks_nothing(pod: &PodInfo) -> bool {
    pod.node_selector.is_empty() && pod.required_affinity.is_none()
}

/// The names that a pod's affinity asks for by name in each of its terms, as those of DaemonSets do.
fn names(selector: &NodeSelector) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    for term in &selector.node_selector_terms {
        let mut fields = term.match_fields.iter().flatten();
        let named = fields.find(|f| f.key == "metadata.name" && f.operator == "In")?;
        names.extend(named.values.iter().flatten().map(String::as_str));
    }
    Some(names)
}

struct Asks<'a> {
    pod: &'a PodInfo,
    added: Option<&'a NodeSelector>,
}

impl Filter for Asks<'_> {
    fn is_local(&self) -> bool {
        true
    }

    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let facts = &node.facts;
        if self.added.is_some_and(|added| !selector_matches(added, &facts.name, &facts.labels)) {
            return Err(Rejection::hopeless(NAME, "node(s) didn't match scheduler-enforced node affinity"));
        }
        if admits(self.pod, facts) {
            return Ok(());
        }
        Err(Rejection::hopeless(NAME, "node(s) didn't match Pod's node affinity/selector"))
    }
}

struct Prefers<'a>(Vec<&'a PreferredSchedulingTerm>);

impl Score for Prefers<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let met = self.0.iter().filter(|p| term_matches(&p.preference, node.name(), &node.facts.labels));
        met.map(|p| i64::from(p.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale(scores, false);
    }
}

impl NodeAffinity {
    fn required(&self) -> Option<&NodeSelector> {
        self.added.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }
    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, all: &'a Snapshot) -> PreFilter<'a> {
        let added = self.required();
        if added.is_none() && asks_nothing(pod) {
            return PreFilter::Skip;
        }
        let filter = Box::new(Asks { pod, added });
        match pod.required_affinity.as_deref().and_then(names) {
            Some(names) => {
                let known = names.into_iter().filter_map(|name| all.find(name)).map(|node| node.id);
                PreFilter::Only(known.collect(), filter)
            }
            None => PreFilter::Each(filter),
        }
    }
    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        _: &'a Snapshot,
        _: &[NodeId],
    ) -> Option<Box<dyn Score + 'a>> {
        let added = self.added.iter().flat_map(|a| &a.preferred_during_scheduling_ignored_during_execution);
        let terms: Vec<_> = pod.preferred_affinity.iter().chain(added.flatten()).collect();
        if terms.is_empty() { None } else { Some(Box::new(Prefers(terms))) }
    }
    fn hint(&self, pod: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        event.node(|old, new| old.labels != new.labels).is_some_and(|node| {
            admits(pod, node) && self.required().is_none_or(|s| selector_matches(s, &node.name, &node.labels))
        })
    }
}
