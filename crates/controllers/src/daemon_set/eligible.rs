//! On which nodes a DaemonSet's pods belong, and what the pods bring along to get there.

use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{
            self, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
        },
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use tiphys_client::placement::{any_tolerates, selector_matches};

use crate::{
    history::REVISION,
    object::Object,
    pods::{from_template, name_prefix},
};

const GENERATION: &str = "pod-template-generation";
const GENERATION_OF_SET: &str = "deprecated.daemonset.template.generation";

/// What a node is to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eligible {
    /// A pod belongs there.
    Yes,
    /// None is put there, but one that runs there stays.
    ToStay,
    No,
}

/// What of a set decides on which nodes its pods belong.
pub(super) struct Eligibility<'a> {
    spec: Option<&'a PodSpec>,
    tolerations: Vec<Toleration>,
}

impl<'a> Eligibility<'a> {
    pub(super) fn of(set: &'a DaemonSet) -> Self {
        let spec = set.spec.template.spec.as_ref();
        Self { spec, tolerations: spec.map(tolerations).unwrap_or_default() }
    }

    pub(super) fn of_node(&self, node: &Node) -> Eligible {
        let Some(spec) = self.spec else { return Eligible::No };
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let named = spec.node_name.as_deref().is_none_or(|n| n.is_empty() || n == node.name());
        let selected = spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
        let required = required(spec).is_none_or(|s| selector_matches(s, node.name(), &labels));
        if !(named && selected && required) {
            return Eligible::No;
        }
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
        let borne = |effects: &[&str]| {
            let mut taints = taints.iter().filter(|t: &&Taint| effects.contains(&t.effect.as_str()));
            taints.all(|t| any_tolerates(&self.tolerations, t))
        };
        match (borne(&["NoSchedule", "NoExecute"]), borne(&["NoExecute"])) {
            (true, _) => Eligible::Yes,
            (false, true) => Eligible::ToStay,
            (false, false) => Eligible::No,
        }
    }
}

fn required(spec: &PodSpec) -> Option<&NodeSelector> {
    spec.affinity
        .as_ref()?
        .node_affinity
        .as_ref()?
        .required_during_scheduling_ignored_during_execution
        .as_ref()
}

/// The template's tolerations, and those of what a node agent has to bear.
fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let bear = [
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
        ("network-unavailable", "NoSchedule"),
    ];
    // Pods of the host's network can do without that of pods.
    let bear =
        bear.iter().filter(|(what, _)| *what != "network-unavailable" || spec.host_network == Some(true));
    for (what, effect) in bear {
        let toleration = Toleration {
            key: Some(format!("node.kubernetes.io/{what}")),
            operator: Some("Exists".to_owned()),
            effect: Some((*effect).to_owned()),
            ..Default::default()
        };
        // One that ends after some time is replaced.
        let same = |t: &Toleration| {
            t.key == toleration.key
                && t.operator == toleration.operator
                && t.effect == toleration.effect
                && t.value.as_deref().unwrap_or_default().is_empty()
        };
        match all.iter_mut().find(|t| same(t)) {
            Some(present) => *present = toleration,
            None => all.push(toleration),
        }
    }
    all
}

/// The pod for a node: the scheduler has no other choice.
pub(super) fn pod(set: &DaemonSet, hash: &str, node: &str) -> v1::Pod {
    let template = &set.spec.template;
    let mut pod = from_template(template, &name_prefix(set.name()), set.namespace(), set.as_controller());
    let ObjectMeta { labels, .. } = &mut pod.metadata;
    let labels = labels.get_or_insert_default();
    labels.insert(REVISION.to_owned(), hash.to_owned());
    if let Some(generation) = set.annotation(GENERATION_OF_SET).filter(|g| g.parse::<i64>().is_ok()) {
        labels.insert(GENERATION.to_owned(), generation.to_owned());
    }
    if let Some(spec) = &mut pod.spec {
        spec.tolerations = Some(tolerations(spec));
        let name = NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        };
        // The node has been found to be what the template's own terms ask for.
        let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
        affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_expressions: None,
                match_fields: Some(vec![name]),
            }],
        });
    }
    pod
}

#[cfg(test)]
#[path = "eligible_tests.rs"]
mod tests;
