//! What a pod asks of other pods: inter-pod affinity and topology spread, compiled when the pod is first seen.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{PodAffinityTerm, PodSpec, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    pod::PodInfo,
    selector::{Labels, Selector},
};

/// The labels of every namespace.
pub type Namespaces = BTreeMap<Box<str>, Labels>;

/// Pods of some namespaces that fulfil a selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub namespaces: Vec<Box<str>>,
    /// And those of namespaces that fulfil this.
    pub namespace_selector: Option<Selector>,
    pub selector: Selector,
}

/// Pods that all parts describe.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    pub parts: Vec<Part>,
    /// Pods that are being deleted are left out.
    pub staying: bool,
}

impl Scope {
    pub fn covers(&self, pod: &PodInfo, namespaces: &Namespaces) -> bool {
        let namespace = &*pod.reference.key.namespace;
        !(self.staying && pod.going)
            && self.parts.iter().all(|part| {
                (part.namespaces.iter().any(|n| **n == *namespace)
                    || part.namespace_selector.as_ref().is_some_and(|s| {
                        s.is_empty() || namespaces.get(namespace).is_some_and(|labels| s.matches(labels))
                    }))
                    && part.selector.matches(&pod.labels)
            })
    }

    /// Whether what it covers depends on the labels of namespaces.
    pub fn reads_namespaces(&self) -> bool {
        self.parts.iter().any(|part| part.namespace_selector.is_some())
    }
}

/// Pods, and how far from them counts as beside them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    pub scope: Arc<Scope>,
    pub key: Arc<str>,
}

/// One constraint of topology spread (KEP-895), with the policies of KEP-3094.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    pub term: Term,
    pub max_skew: i64,
    /// `DoNotSchedule`; otherwise the constraint only scores.
    pub hard: bool,
    pub min_domains: i64,
    /// Only nodes count that the pod's node affinity admits.
    pub honors_affinity: bool,
    /// Only nodes count whose taints the pod bears.
    pub honors_taints: bool,
}

/// All of it; most pods ask nothing of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Required affinity; the term's own scope each.
    pub affinity: Vec<Term>,
    /// Pods that fulfil all required terms at once.
    pub all: Arc<Scope>,
    pub anti_affinity: Vec<Term>,
    /// With their weights, negative where the pod shuns.
    pub preferred: Vec<(Term, i64)>,
    pub spread: Vec<Spread>,
}

impl Terms {
    /// `None` if the pod asks nothing of others.
    pub fn of(namespace: &str, labels: &Labels, spec: &PodSpec) -> Option<Box<Self>> {
        let affinity = spec.affinity.as_ref();
        let (near, far) = (
            affinity.and_then(|a| a.pod_affinity.as_ref()),
            affinity.and_then(|a| a.pod_anti_affinity.as_ref()),
        );
        if near.is_none()
            && far.is_none()
            && spec.topology_spread_constraints.iter().flatten().next().is_none()
        {
            return None;
        }
        let term = |term: &PodAffinityTerm| compile(namespace, labels, term);
        let mut terms = Self::default();
        if let Some(near) = near {
            terms
                .affinity
                .extend(near.required_during_scheduling_ignored_during_execution.iter().flatten().map(term));
            let preferred = near.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            terms.preferred.extend(preferred.map(|w| (term(&w.pod_affinity_term), i64::from(w.weight))));
        }
        if let Some(far) = far {
            terms
                .anti_affinity
                .extend(far.required_during_scheduling_ignored_during_execution.iter().flatten().map(term));
            let preferred = far.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            terms.preferred.extend(preferred.map(|w| (term(&w.pod_affinity_term), -i64::from(w.weight))));
        }
        let parts = terms.affinity.iter().flat_map(|t| t.scope.parts.clone()).collect();
        terms.all = Arc::new(Scope { parts, staying: false });
        let spread = spec.topology_spread_constraints.iter().flatten();
        terms.spread = spread.map(|c| constraint(namespace, labels, c)).collect();
        Some(Box::new(terms))
    }
}

/// A selector and what `matchLabelKeys` and `mismatchLabelKeys` add to it: the pod's own values (KEP-3633, KEP-3243).
fn with_keys(
    selector: Option<&LabelSelector>,
    labels: &Labels,
    same: Option<&Vec<String>>,
    other: Option<&Vec<String>>,
) -> Selector {
    let mut compiled = Selector::of(selector);
    for (keys, equal) in [(same, true), (other, false)] {
        for key in keys.into_iter().flatten() {
            if let Some(value) = labels.get(key) {
                compiled.and(key, value, equal);
            }
        }
    }
    compiled
}

fn compile(namespace: &str, labels: &Labels, term: &PodAffinityTerm) -> Term {
    let mut namespaces: Vec<Box<str>> = term.namespaces.iter().flatten().map(|n| n.as_str().into()).collect();
    let namespace_selector = term.namespace_selector.as_ref().map(|s| Selector::of(Some(s)));
    if namespaces.is_empty() && namespace_selector.is_none() {
        namespaces.push(namespace.into());
    }
    let selector = with_keys(
        term.label_selector.as_ref(),
        labels,
        term.match_label_keys.as_ref(),
        term.mismatch_label_keys.as_ref(),
    );
    let parts = vec![Part { namespaces, namespace_selector, selector }];
    Term { scope: Arc::new(Scope { parts, staying: false }), key: term.topology_key.as_str().into() }
}

/// Compiles a constraint of a pod with these labels.
pub fn constraint(namespace: &str, labels: &Labels, constraint: &TopologySpreadConstraint) -> Spread {
    let selector =
        with_keys(constraint.label_selector.as_ref(), labels, constraint.match_label_keys.as_ref(), None);
    Spread {
        term: within(namespace, selector, &constraint.topology_key),
        max_skew: i64::from(constraint.max_skew),
        hard: constraint.when_unsatisfiable == "DoNotSchedule",
        min_domains: constraint.min_domains.map_or(1, i64::from),
        honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
    }
}

/// Pods of one namespace that stay.
pub fn within(namespace: &str, selector: Selector, key: &str) -> Term {
    let parts = vec![Part { namespaces: vec![namespace.into()], namespace_selector: None, selector }];
    Term { scope: Arc::new(Scope { parts, staying: true }), key: key.into() }
}
