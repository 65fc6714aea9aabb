//! How many pods of a kind there are on each node and at each value of a topology key.
//!
//! Two sorts of counts are kept, each by single changes. What pods that wait ask of others is counted once somebody has
//! asked: pods that a [`Scope`] covers. What placed pods ask of those that come is counted always: pods that carry a
//! [`Carried`] term. A cycle then reads numbers instead of pods.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{NodeId, NodeInfo};
use crate::{
    pod::PodInfo,
    selector::Labels,
    terms::{Namespaces, Scope, Term},
};

/// Scopes that are counted at a time. They are counted anew when somebody asks again.
const MOST_SCOPES: usize = 1024;
/// Topology keys and values beyond what is in use, before all are forgotten and learned anew.
const SPARE: usize = 1024;

/// Where nodes are by one of their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    key: Arc<str>,
    numbers: HashMap<Box<str>, u32>,
    of: Vec<Option<u32>>,
    nodes: Vec<u32>,
    labelled: usize,
}

impl Topology {
    fn new(key: Arc<str>, nodes: &[NodeInfo]) -> Self {
        let mut topology =
            Self { key, numbers: HashMap::new(), of: Vec::new(), nodes: Vec::new(), labelled: 0 };
        for node in nodes {
            topology.set(node.id, &node.facts.labels);
        }
        topology
    }

    /// The value that a node has, as a number.
    pub fn at(&self, node: NodeId) -> Option<u32> {
        self.of.get(node.index()).copied().flatten()
    }

    /// How many nodes have each value.
    pub fn nodes(&self) -> &[u32] {
        &self.nodes
    }

    /// How many nodes have a value at all.
    pub fn labelled(&self) -> usize {
        self.labelled
    }

    /// Old and new value, if they differ.
    fn set(&mut self, node: NodeId, labels: &Labels) -> Option<(Option<u32>, Option<u32>)> {
        let new = labels.get(&*self.key).map(|value| {
            let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
            *self.numbers.entry(value.as_str().into()).or_insert(next)
        });
        if self.of.len() <= node.index() {
            self.of.resize(node.index() + 1, None);
        }
        let old = std::mem::replace(&mut self.of[node.index()], new);
        if old == new {
            return None;
        }
        bump(&mut self.nodes, old, -1);
        bump(&mut self.nodes, new, 1);
        self.labelled = self.labelled + usize::from(new.is_some()) - usize::from(old.is_some());
        Some((old, new))
    }
}

fn bump(counts: &mut Vec<u32>, at: Option<u32>, by: i32) {
    let Some(at) = at.and_then(|at| usize::try_from(at).ok()) else { return };
    if counts.len() <= at {
        counts.resize(at + 1, 0);
    }
    counts[at] = counts[at].saturating_add_signed(by);
}

/// Counted pods of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    by_node: Vec<u32>,
    by_value: Vec<(usize, Vec<u32>)>,
    total: u32,
}

impl Tally {
    pub fn on(&self, node: NodeId) -> u32 {
        self.by_node.get(node.index()).copied().unwrap_or(0)
    }

    fn shift(&mut self, node: NodeId, by: i32, topologies: &[Topology]) {
        bump(&mut self.by_node, Some(node.0), by);
        self.total = self.total.saturating_add_signed(by);
        for (topology, values) in &mut self.by_value {
            bump(values, topologies[*topology].at(node), by);
        }
    }

    fn follow(&mut self, topology: usize, topologies: &[Topology]) {
        if self.by_value.iter().any(|(t, _)| *t == topology) {
            return;
        }
        let mut values = Vec::new();
        for (node, count) in self.by_node.iter().enumerate().filter(|(_, count)| **count > 0) {
            let at = topologies[topology].of.get(node).copied().flatten();
            bump(&mut values, at, i32::try_from(*count).unwrap_or(i32::MAX));
        }
        self.by_value.push((topology, values));
    }

    fn moved(&mut self, topology: usize, node: NodeId, (old, new): (Option<u32>, Option<u32>)) {
        let count = i32::try_from(self.on(node)).unwrap_or(i32::MAX);
        for (t, values) in &mut self.by_value {
            if *t == topology {
                bump(values, old, -count);
                bump(values, new, count);
            }
        }
    }
}

/// How a placed pod minds pods that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Minds {
    /// It must not have them beside it.
    Forbids,
    /// It must have such beside it, so more of them are welcome.
    Requires,
    /// It likes them so much, or dislikes them.
    Prefers(i64),
}

/// A term that placed pods carry.
pub(super) type Carried = (Minds, Term);

/// Counts by the values of one key: what a plugin reads.
#[derive(Clone, Copy, Debug)]
pub struct Spots<'a> {
    pub topology: &'a Topology,
    pub tally: &'a Tally,
    values: &'a [u32],
}

impl Spots<'_> {
    /// At a value.
    pub fn count(&self, value: u32) -> i64 {
        usize::try_from(value).ok().and_then(|v| self.values.get(v)).map_or(0, |n| i64::from(*n))
    }

    /// At all values together.
    pub fn sum(&self) -> i64 {
        self.values.iter().map(|n| i64::from(*n)).sum()
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    topologies: Vec<Topology>,
    keys: BTreeMap<Arc<str>, usize>,
    covered: BTreeMap<Arc<Scope>, Tally>,
    carried: BTreeMap<Carried, Tally>,
}

/// The terms that a pod carries where it is.
fn carried(pod: &PodInfo) -> impl Iterator<Item = Carried> {
    pod.terms.iter().flat_map(|terms| {
        let forbids = terms.anti_affinity.iter().map(|t| (Minds::Forbids, t.clone()));
        let requires = terms.affinity.iter().map(|t| (Minds::Requires, t.clone()));
        let prefers = terms.preferred.iter().map(|(t, weight)| (Minds::Prefers(*weight), t.clone()));
        forbids.chain(requires).chain(prefers)
    })
}

impl Counts {
    pub(super) fn topology(&self, key: &str) -> Option<&Topology> {
        self.keys.get(key).map(|t| &self.topologies[*t])
    }

    pub(super) fn covered(&self, scope: &Arc<Scope>, key: &str) -> Option<Spots<'_>> {
        self.spots(self.covered.get(scope)?, key)
    }

    pub(super) fn carried(&self) -> impl Iterator<Item = (&Carried, Spots<'_>)> {
        self.carried.iter().filter_map(|(c, tally)| Some((c, self.spots(tally, &c.1.key)?)))
    }

    fn spots<'a>(&'a self, tally: &'a Tally, key: &str) -> Option<Spots<'a>> {
        let topology = *self.keys.get(key)?;
        let (_, values) = tally.by_value.iter().find(|(t, _)| *t == topology)?;
        Some(Spots { topology: &self.topologies[topology], tally, values })
    }

    /// Learns the values of a key.
    fn learn(&mut self, key: &Arc<str>, nodes: &[NodeInfo]) -> usize {
        if let Some(known) = self.keys.get(key) {
            return *known;
        }
        self.topologies.push(Topology::new(key.clone(), nodes));
        self.keys.insert(key.clone(), self.topologies.len() - 1);
        self.topologies.len() - 1
    }

    /// Counts what a scope covers by a key, from now on.
    pub(super) fn count(
        &mut self,
        scope: &Arc<Scope>,
        key: &Arc<str>,
        nodes: &[NodeInfo],
        namespaces: &Namespaces,
    ) {
        if self.covered.len() >= MOST_SCOPES && !self.covered.contains_key(scope) {
            self.covered.clear();
        }
        if self.has_spare(nodes.len()) {
            *self = Self::of(nodes, namespaces);
        }
        let topology = self.learn(key, nodes);
        let tally = self.covered.entry(scope.clone()).or_insert_with(|| {
            let mut tally = Tally::default();
            for node in nodes {
                let covered = node.pods.iter().filter(|pod| scope.covers(pod, namespaces)).count();
                tally.shift(node.id, i32::try_from(covered).unwrap_or(i32::MAX), &[]);
            }
            tally
        });
        tally.follow(topology, &self.topologies);
    }

    fn has_spare(&self, nodes: usize) -> bool {
        let values = self.topologies.iter().map(|t| t.numbers.len().saturating_sub(nodes)).max();
        let keys = self.topologies.len().saturating_sub(self.covered.len() + self.carried.len());
        values.is_some_and(|spare| spare > SPARE) || keys > SPARE
    }

    /// What placed pods carry, counted from scratch; scopes are counted when somebody asks.
    pub(super) fn of(nodes: &[NodeInfo], namespaces: &Namespaces) -> Self {
        let mut counts = Self::default();
        for node in nodes {
            for pod in &node.pods {
                counts.shift(nodes, node.id, pod, 1, namespaces);
            }
        }
        counts
    }

    /// A pod came to a node (`by` is 1) or left it (-1).
    pub(super) fn shift(
        &mut self,
        nodes: &[NodeInfo],
        node: NodeId,
        pod: &PodInfo,
        by: i32,
        namespaces: &Namespaces,
    ) {
        for (scope, tally) in &mut self.covered {
            if scope.covers(pod, namespaces) {
                tally.shift(node, by, &self.topologies);
            }
        }
        for term in carried(pod) {
            let topology = self.learn(&term.1.key, nodes);
            let tally = self.carried.entry(term.clone()).or_default();
            tally.follow(topology, &self.topologies);
            tally.shift(node, by, &self.topologies);
            if tally.total == 0 {
                self.carried.remove(&term);
            }
        }
    }

    /// A node has these labels from now on; none, if it is gone.
    pub(super) fn relabel(&mut self, node: NodeId, labels: &Labels) {
        for (number, topology) in self.topologies.iter_mut().enumerate() {
            if let Some(moved) = topology.set(node, labels) {
                for tally in self.covered.values_mut().chain(self.carried.values_mut()) {
                    tally.moved(number, node, moved);
                }
            }
        }
    }

    /// A namespace's labels have changed: what was counted by them has to be counted anew.
    pub(super) fn forget_namespaces(&mut self) {
        self.covered.retain(|scope, _| !scope.reads_namespaces());
    }

    /// Counts by the names of keys and values, however they came to be numbered.
    #[cfg(test)]
    pub(super) fn named(&self) -> Vec<(String, BTreeMap<String, u32>)> {
        let tallies = self.covered.iter().map(|(s, t)| (format!("{s:?}"), t));
        let tallies = tallies.chain(self.carried.iter().map(|(c, t)| (format!("{c:?}"), t)));
        let mut named = Vec::new();
        for (name, tally) in tallies {
            for (topology, values) in &tally.by_value {
                let topology = &self.topologies[*topology];
                let mut counts = BTreeMap::new();
                for (value, number) in &topology.numbers {
                    let count = values.get(*number as usize).copied().unwrap_or(0);
                    if count > 0 {
                        counts.insert(value.to_string(), count);
                    }
                }
                named.push((format!("{} {name}", topology.key), counts));
            }
        }
        named.sort();
        named
    }
}
