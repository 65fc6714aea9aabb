//! PodTopologySpread: pods of a kind evenly over zones, nodes, or whatever a label tells (KEP-895).

use std::borrow::Cow;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use tiphys_client::{ObjectKey, placement::any_tolerates};

use crate::{
    event::Event,
    framework::{BEST, Filter, Plugin, Point, PreFilter, Rejection, Score},
    pod::PodInfo,
    selector::Selector,
    snapshot::{NodeFacts, NodeId, NodeInfo, Snapshot, Spots, Surroundings},
    terms::{Spread, Term, constraint, within},
};

use super::{
    args::{Defaulting, SpreadArgs},
    node_affinity::{admits, asks_nothing},
};

const NAME: &str = "PodTopologySpread";
const HOSTNAME: &str = "kubernetes.io/hostname";
const MISSING: Rejection = Rejection::hopeless(
    NAME,
    "node(s) didn't match pod topology spread constraints (missing required label)",
);
const SKEWED: Rejection = Rejection::new(NAME, "node(s) didn't match pod topology spread constraints");

pub(super) struct PodTopologySpread(pub(super) SpreadArgs);

/// What the Services and the owner of a pod select; `None` if nothing is known to select it.
fn default_selector(pod: &PodInfo, around: &Surroundings) -> Option<Selector> {
    let mut selector = Selector::default();
    let namespace = &pod.reference.key.namespace;
    let first = ObjectKey { namespace: namespace.clone(), name: "".into() };
    for (_, service) in around.services.range(first..).take_while(|(key, _)| key.namespace == *namespace) {
        if !service.is_empty() && service.matches(&pod.labels) {
            selector.merge((**service).clone());
        }
    }
    if let Some((kind, name)) = &pod.owner {
        let key = ObjectKey { namespace: namespace.clone(), name: (&**name).into() };
        let kind = ["ReplicaSet", "StatefulSet", "ReplicationController"].into_iter().find(|k| *k == &**kind);
        if let Some(owner) = kind.and_then(|kind| around.owners.get(&(kind, key))) {
            selector.merge((**owner).clone());
        }
    }
    (!selector.is_empty()).then_some(selector)
}

impl PodTopologySpread {
    fn constraints<'a>(&self, pod: &'a PodInfo, around: &Surroundings, hard: bool) -> Vec<Cow<'a, Spread>> {
        let own = pod.terms.as_ref().map_or(&[][..], |terms| &terms.spread);
        if !own.is_empty() {
            return own.iter().filter(|c| c.hard == hard).map(Cow::Borrowed).collect();
        }
        self.defaults(pod, around).into_iter().filter(|c| c.hard == hard).map(Cow::Owned).collect()
    }

    fn defaults(&self, pod: &PodInfo, around: &Surroundings) -> Vec<Spread> {
        let is_system = self.0.defaulting_type == Defaulting::System;
        if !is_system && self.0.default_constraints.is_empty() {
            return Vec::new();
        }
        let Some(selector) = default_selector(pod, around) else { return Vec::new() };
        let softly = |(key, max_skew): (&str, i32)| TopologySpreadConstraint {
            topology_key: key.to_owned(),
            max_skew,
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            ..TopologySpreadConstraint::default()
        };
        let listed = if is_system {
            Cow::Owned([(HOSTNAME, 3), ("topology.kubernetes.io/zone", 5)].map(softly).into())
        } else {
            Cow::Borrowed(&self.0.default_constraints)
        };
        let namespace = &*pod.reference.key.namespace;
        let compiled = listed.iter().map(|c| {
            let term = within(namespace, selector.clone(), &c.topology_key);
            Spread { term, ..constraint(namespace, &pod.labels, c) }
        });
        compiled.collect()
    }
}

/// Whether a node's pods count for the constraint.
fn includes(spread: &Spread, pod: &PodInfo, node: &NodeFacts) -> bool {
    let bears = |node: &NodeFacts| {
        let mut repelling = node.taints.iter().filter(|t| t.effect != "PreferNoSchedule");
        repelling.all(|t| any_tolerates(&pod.tolerations, t))
    };
    (!spread.honors_affinity || admits(pod, node)) && (!spread.honors_taints || bears(node))
}

/// Pods at each value of a constraint's key; `None` where no node counts.
fn counts(
    pod: &PodInfo,
    all: &Snapshot,
    spread: &Spread,
    spots: &Spots<'_>,
    keys: &[Spots<'_>],
) -> Vec<Option<i64>> {
    let nodes = all.order().len();
    let everywhere = keys.len() == 1 || keys.iter().all(|k| k.topology.labelled() == nodes);
    let admits_all = !spread.honors_affinity || asks_nothing(pod);
    let bears_all = !spread.honors_taints || !all.has_taints();
    let values = spots.topology.nodes();
    if everywhere && admits_all && bears_all {
        let numbered = (0_u32..).zip(values);
        return numbered.map(|(value, nodes)| (*nodes > 0).then(|| spots.count(value))).collect();
    }
    let mut counts = vec![None; values.len()];
    for id in all.order() {
        let has_all = keys.iter().all(|k| k.topology.at(*id).is_some());
        if let Some(value) = spots.topology.at(*id).filter(|_| has_all)
            && includes(spread, pod, &all.node(*id).facts)
            && let Some(count) = counts.get_mut(value as usize)
        {
            *count = Some(count.unwrap_or(0) + i64::from(spots.tally.on(*id)));
        }
    }
    counts
}

/// A hard constraint of one pod.
struct Domains<'a> {
    spread: Cow<'a, Spread>,
    spots: Spots<'a>,
    counts: Vec<Option<i64>>,
    /// The fewest pods at a value, or 0 if there are not as many values as there must be.
    fewest: i64,
    /// 1 if the pod itself counts.
    itself: i64,
}

impl Domains<'_> {
    fn find_fewest(&mut self) {
        let known = self.counts.iter().flatten();
        let values = i64::try_from(known.clone().count()).unwrap_or(i64::MAX);
        let fewest = if values < self.spread.min_domains { Some(0) } else { known.min().copied() };
        self.fewest = fewest.unwrap_or(i64::from(i32::MAX));
    }
}

struct Skews<'a> {
    pod: &'a PodInfo,
    all: &'a Snapshot,
    constraints: Vec<Domains<'a>>,
}

impl Filter for Skews<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for c in &self.constraints {
            let value = c.spots.topology.at(node.id).ok_or(MISSING)?;
            let there = c.counts.get(value as usize).copied().flatten().unwrap_or(0);
            if there + c.itself - c.fewest > c.spread.max_skew {
                return Err(SKEWED);
            }
        }
        Ok(())
    }

    fn shift(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        if self.constraints.iter().any(|c| c.spots.topology.at(node.id).is_none()) {
            return;
        }
        for c in &mut self.constraints {
            let counts = c.spread.term.scope.covers(other, &self.all.surroundings().namespaces)
                && includes(&c.spread, self.pod, &node.facts);
            if let Some(value) = c.spots.topology.at(node.id)
                && counts
                && let Some(Some(count)) = c.counts.get_mut(value as usize)
            {
                *count += by;
                c.find_fewest();
            }
        }
    }
}

/// A soft constraint of one pod.
struct Soft<'a> {
    spots: Spots<'a>,
    /// `None`: each node is a value of its own.
    counts: Option<Vec<Option<i64>>>,
    max_skew: i64,
    weight: f64,
}

struct Evens<'a> {
    constraints: Vec<Soft<'a>>,
    needs_all: bool,
}

/// The mark of a node that has no place in one of the topologies.
const IGNORED: i64 = -1;

impl Score for Evens<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let mut score = 0.;
        for c in &self.constraints {
            let Some(value) = c.spots.topology.at(node.id) else {
                if self.needs_all {
                    return IGNORED;
                }
                continue;
            };
            let count = match &c.counts {
                None => i64::from(c.spots.tally.on(node.id)),
                Some(counts) => counts.get(value as usize).copied().flatten().unwrap_or(0),
            };
            score += count as f64 * c.weight + (c.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        let known = scores.iter().copied().filter(|s| *s != IGNORED);
        let (least, most) = known.fold((i64::MAX, 0), |(least, most), s| (least.min(s), most.max(s)));
        for score in scores {
            *score = match *score {
                IGNORED => 0,
                _ if most == 0 => BEST,
                score => BEST * (most + least - score) / most,
            };
        }
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn counts(&self, pod: &PodInfo, around: &Surroundings) -> Vec<Term> {
        let has_own = pod.terms.as_ref().is_some_and(|terms| !terms.spread.is_empty());
        if has_own {
            return Vec::new();
        }
        self.defaults(pod, around).into_iter().map(|spread| spread.term).collect()
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, all: &'a Snapshot) -> PreFilter<'a> {
        let hard = self.constraints(pod, all.surroundings(), true);
        if hard.is_empty() {
            return PreFilter::Skip;
        }
        let spots = |spread: &Cow<'_, Spread>| all.spots(&spread.term.scope, &spread.term.key);
        let keys: Vec<_> = hard.iter().filter_map(spots).collect();
        let domains = hard.into_iter().zip(&keys).map(|(spread, spots)| {
            let counts = counts(pod, all, &spread, spots, &keys);
            let itself = i64::from(spread.term.scope.covers(pod, &all.surroundings().namespaces));
            let mut domains = Domains { spread, spots: *spots, counts, fewest: 0, itself };
            domains.find_fewest();
            domains
        });
        PreFilter::Each(Box::new(Skews { pod, all, constraints: domains.collect() }))
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        all: &'a Snapshot,
        fit: &[NodeId],
    ) -> Option<Box<dyn Score + 'a>> {
        let soft = self.constraints(pod, all.surroundings(), false);
        if soft.is_empty() {
            return None;
        }
        let has_own = pod.terms.as_ref().is_some_and(|terms| !terms.spread.is_empty());
        let needs_all = has_own || self.0.defaulting_type == Defaulting::List;
        let keys: Vec<_> = soft.iter().filter_map(|s| all.spots(&s.term.scope, &s.term.key)).collect();
        let has_all = |id: &&NodeId| !needs_all || keys.iter().all(|k| k.topology.at(**id).is_some());
        let constraints = soft.iter().zip(&keys).map(|(spread, spots)| {
            let is_node = &*spread.term.key == HOSTNAME;
            let placed = fit.iter().filter(has_all);
            let size = if is_node {
                placed.count()
            } else {
                let mut values: Vec<_> = placed.map(|id| spots.topology.at(*id)).collect();
                values.sort_unstable();
                values.dedup();
                values.len()
            };
            let required = if needs_all { &keys[..] } else { std::slice::from_ref(spots) };
            let counts = (!is_node).then(|| counts(pod, all, spread, spots, required));
            Soft { spots: *spots, counts, max_skew: spread.max_skew, weight: (size as f64 + 2.).ln() }
        });
        Some(Box::new(Evens { constraints: constraints.collect(), needs_all }))
    }

    fn hint(&self, pod: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        let hard = || pod.terms.iter().flat_map(|t| &t.spread).filter(|c| c.hard);
        let counts = |other: &PodInfo| {
            other.reference.key.namespace == pod.reference.key.namespace
                && hard().any(|c| c.term.scope.parts.iter().all(|part| part.selector.matches(&other.labels)))
        };
        match event {
            // Constraints that the profile adds are not known here.
            _ if hard().next().is_none() => true,
            Event::PodPlaced(other) | Event::PodLeft(other) => counts(other),
            Event::PlacedPodChanged { old, new } => old.labels != new.labels && (counts(old) || counts(new)),
            Event::NodeChanged { old, new } => old.labels != new.labels || old.taints != new.taints,
            Event::NodeAdded(_) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
#[path = "pod_topology_spread_tests.rs"]
mod tests;
