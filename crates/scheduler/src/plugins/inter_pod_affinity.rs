//! InterPodAffinity: which pods a pod must, must not, or would rather have beside it; and which must not have it.

use crate::{
    event::Event,
    framework::{BEST, Filter, Plugin, Point, PreFilter, Rejection, Score},
    pod::PodInfo,
    snapshot::{Minds, NodeId, NodeInfo, Snapshot, Spots, Surroundings},
    terms::{Namespaces, Scope, Term},
};

use super::args::AffinityArgs;

const NAME: &str = "InterPodAffinity";
const AFFINITY: Rejection = Rejection::hopeless(NAME, "node(s) didn't match pod affinity rules");
const ANTI_AFFINITY: Rejection = Rejection::new(NAME, "node(s) didn't match pod anti-affinity rules");
const EXISTING: Rejection = Rejection::new(NAME, "node(s) didn't satisfy existing pods anti-affinity rules");

pub(super) struct InterPodAffinity(pub(super) AffinityArgs);

/// Counts of one term, with what is supposed besides.
struct Counted<'a> {
    spots: Spots<'a>,
    supposed: Vec<(u32, i64)>,
}

impl<'a> Counted<'a> {
    fn new(spots: Spots<'a>) -> Self {
        Self { spots, supposed: Vec::new() }
    }

    /// How many there are beside the node; `None` if it has no place in this topology.
    fn beside(&self, node: NodeId) -> Option<i64> {
        let value = self.spots.topology.at(node)?;
        let supposed = self.supposed.iter().filter(|(v, _)| *v == value).map(|(_, by)| by);
        Some(self.spots.count(value) + supposed.sum::<i64>())
    }

    fn shift(&mut self, node: NodeId, by: i64) {
        let Some(value) = self.spots.topology.at(node) else { return };
        match self.supposed.iter_mut().find(|(v, _)| *v == value) {
            Some((_, sum)) => *sum += by,
            None => self.supposed.push((value, by)),
        }
    }

    fn sum(&self) -> i64 {
        self.spots.sum() + self.supposed.iter().map(|(_, by)| by).sum::<i64>()
    }
}

struct Beside<'a> {
    pod: &'a PodInfo,
    namespaces: &'a Namespaces,
    affinity: Vec<Counted<'a>>,
    anti_affinity: Vec<(&'a Scope, Counted<'a>)>,
    /// Terms of placed pods that forbid this one.
    forbidding: Vec<(&'a Term, Counted<'a>)>,
    /// Whether the pod would be beside itself what it asks for.
    is_its_own: bool,
}

impl Filter for Beside<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let mut has_all = true;
        for counted in &self.affinity {
            // The first of several that want to be together may go anywhere that has the labels.
            has_all &= counted.beside(node.id).ok_or(AFFINITY)? > 0;
        }
        let is_first = || self.is_its_own && self.affinity.iter().all(|counted| counted.sum() == 0);
        if !(has_all || is_first()) {
            return Err(AFFINITY);
        }
        if self.anti_affinity.iter().any(|(_, counted)| counted.beside(node.id).unwrap_or(0) > 0) {
            return Err(ANTI_AFFINITY);
        }
        if self.forbidding.iter().any(|(_, counted)| counted.beside(node.id).unwrap_or(0) > 0) {
            return Err(EXISTING);
        }
        Ok(())
    }

    fn shift(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        if let Some(terms) = &self.pod.terms
            && terms.all.covers(other, self.namespaces)
        {
            self.affinity.iter_mut().for_each(|counted| counted.shift(node.id, by));
        }
        for (scope, counted) in &mut self.anti_affinity {
            if scope.covers(other, self.namespaces) {
                counted.shift(node.id, by);
            }
        }
        for term in other.terms.iter().flat_map(|terms| &terms.anti_affinity) {
            if let Some((_, counted)) = self.forbidding.iter_mut().find(|(known, _)| *known == term) {
                counted.shift(node.id, by);
            }
        }
    }
}

struct Likes<'a>(Vec<(Spots<'a>, i64)>);

impl Score for Likes<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let beside = |spots: &Spots<'_>| spots.topology.at(node.id).map_or(0, |value| spots.count(value));
        self.0.iter().map(|(spots, weight)| beside(spots) * weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let (least, most) =
            scores.iter().fold((i64::MAX, i64::MIN), |(least, most), s| (least.min(*s), most.max(*s)));
        for score in scores {
            let part = if most > least { (*score - least) as f64 / (most - least) as f64 } else { 0. };
            *score = (BEST as f64 * part) as i64;
        }
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, all: &'a Snapshot) -> PreFilter<'a> {
        let namespaces = &all.surroundings().namespaces;
        let forbids = |(minds, term, spots): (Minds, &'a Term, Spots<'a>)| {
            (minds == Minds::Forbids && term.scope.covers(pod, namespaces))
                .then(|| (term, Counted::new(spots)))
        };
        let mut beside = Beside {
            pod,
            namespaces,
            affinity: Vec::new(),
            anti_affinity: Vec::new(),
            forbidding: all.carried().filter_map(forbids).collect(),
            is_its_own: false,
        };
        if let Some(terms) = &pod.terms {
            let counted = |term: &'a Term| Some(Counted::new(all.spots(&terms.all, &term.key)?));
            beside.affinity = terms.affinity.iter().filter_map(counted).collect();
            let counted =
                |term: &'a Term| Some((&*term.scope, Counted::new(all.spots(&term.scope, &term.key)?)));
            beside.anti_affinity = terms.anti_affinity.iter().filter_map(counted).collect();
            beside.is_its_own = terms.all.covers(pod, namespaces);
        }
        if beside.affinity.is_empty() && beside.anti_affinity.is_empty() && beside.forbidding.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Each(Box::new(beside))
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        all: &'a Snapshot,
        _: &[NodeId],
    ) -> Option<Box<dyn Score + 'a>> {
        let namespaces = &all.surroundings().namespaces;
        let mut likes = Vec::new();
        for (term, weight) in pod.terms.iter().flat_map(|terms| &terms.preferred) {
            likes.extend(all.spots(&term.scope, &term.key).map(|spots| (spots, *weight)));
        }
        if !(self.0.ignore_preferred_terms_of_existing_pods && likes.is_empty()) {
            for (minds, term, spots) in all.carried() {
                let weight = match minds {
                    Minds::Prefers(weight) => weight,
                    Minds::Requires => self.0.hard_pod_affinity_weight,
                    Minds::Forbids => 0,
                };
                if weight != 0 && term.scope.covers(pod, namespaces) {
                    likes.push((spots, weight));
                }
            }
        }
        if likes.is_empty() { None } else { Some(Box::new(Likes(likes))) }
    }

    fn hint(&self, pod: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        let none = Namespaces::new();
        let wants = |other: &PodInfo| {
            pod.terms
                .iter()
                .any(|t| !t.affinity.is_empty() && (t.all.reads_namespaces() || t.all.covers(other, &none)))
        };
        let minds = |scope: &Scope, whom: &PodInfo| scope.reads_namespaces() || scope.covers(whom, &none);
        let apart = |other: &PodInfo| {
            pod.terms.iter().flat_map(|t| &t.anti_affinity).any(|t| minds(&t.scope, other))
                || other.terms.iter().flat_map(|t| &t.anti_affinity).any(|t| minds(&t.scope, pod))
        };
        match event {
            Event::PodPlaced(other) => wants(other),
            Event::PodLeft(other) => apart(other),
            Event::PlacedPodChanged { old, new } => old.labels != new.labels && (wants(new) || apart(old)),
            Event::NamespaceChanged => true,
            _ => event.node(|old, new| old.labels != new.labels).is_some(),
        }
    }
}

#[cfg(test)]
#[path = "inter_pod_affinity_tests.rs"]
mod tests;
