//! Which pods have to go so that a more important one fits.

use std::{cmp::Reverse, sync::Arc};

use jiff::Timestamp;
use tiphys_client::ObjectKey;

use crate::{
    cycle::{Dice, Filters},
    framework::Rejection,
    memo::{Answer, Shape},
    pod::PodInfo,
    snapshot::{Budget, NodeId, NodeInfo, Snapshot},
    unfit::Unfit,
};

/// What PostFilter knows: the pod, why it fits nowhere, and its filters to ask again.
pub struct Attempt<'a, 'b> {
    pub pod: &'a PodInfo,
    pub all: &'a Snapshot,
    pub filters: &'a mut Filters<'b>,
    pub unfit: &'a Unfit,
    /// What is known of nodes for pods like this one.
    pub(crate) shape: &'a mut Shape,
    pub dice: &'a mut Dice,
}

/// Where room can be made, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    pub node: Box<str>,
    /// The most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// Less important pods that room was made for on the node; they have to look for another.
    pub displaced: Vec<Arc<PodInfo>>,
}

/// Why no room is made.
#[derive(Clone, Debug)]
pub struct NoPlan {
    pub message: String,
    /// Room is being made already.
    pub under_way: bool,
    pub release: Option<Release>,
    /// The answer may be another one at the next attempt, whatever happens.
    pub retries: bool,
}

/// What is of no use to the pod where it is, and to nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// The devices of a claim.
    Devices(ObjectKey),
    /// The claim that was made for its extended resources.
    Claim(ObjectKey),
}

/// What making room on one node would cost.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) node: NodeId,
    pub(crate) victims: Vec<Arc<PodInfo>>,
    /// Victims whose disruption budgets say no.
    pub(crate) violations: usize,
}

/// More important pods first: by priority, then those that run longer.
fn importance(pod: &PodInfo) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.priority), pod.started.unwrap_or(Timestamp::MAX))
}

impl Attempt<'_, '_> {
    /// The cheapest of up to `most` nodes where room can be made, and why it cannot on others that were tried.
    pub(crate) fn cheapest(&mut self, nodes: &[NodeId], most: usize) -> (Option<Plan>, Vec<Answer>) {
        let from = self.dice.below(nodes.len());
        let (mut found, mut best, mut refused) = (0, None, Vec::new());
        for id in nodes[from..].iter().chain(&nodes[..from]) {
            match self.room(self.all.node(*id)) {
                Ok((cost, candidate)) => {
                    found += 1;
                    if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                        best = Some((cost, candidate.clone()));
                    }
                }
                Err(answer) => refused.push(answer),
            }
            if found >= most {
                break;
            }
        }
        (best.map(|(_, best)| self.plan(&best)), refused)
    }

    /// [`Attempt::on`], unless it is known from an earlier attempt for such a pod.
    fn room(&mut self, node: &NodeInfo) -> Result<(Cost, &Arc<Candidate>), Answer> {
        // Other filters look beyond the node, and budgets change without it.
        let holds = self.filters.are_local()
            && self.all.surroundings().budgets.is_empty()
            && node.nominated.iter().all(|other| other.reference != self.pod.reference);
        if holds && self.shape.knows_room(node) {
            return self.shape.room(node);
        }
        let found = match self.on(node) {
            Ok(candidate) => Ok((cost(&candidate), Arc::new(candidate))),
            Err(rejection) => Err(self.shape.answers.number(Err(rejection))),
        };
        self.shape.set_room(node, found, holds);
        self.shape.room(node)
    }

    /// The fewest pods that must leave the node.
    fn on(&mut self, node: &NodeInfo) -> Result<Candidate, Rejection> {
        const NONE: Rejection =
            Rejection::hopeless("DefaultPreemption", "No preemption victims found for incoming pod");
        let lesser = |p: &&Arc<PodInfo>| p.priority < self.pod.priority;
        let mut potential: Vec<Arc<PodInfo>> = node.pods.iter().filter(lesser).cloned().collect();
        if potential.is_empty() {
            return Err(NONE);
        }
        let mut then = node.clone();
        for victim in &potential {
            then.remove(&victim.reference);
            self.filters.shift(victim, node, -1);
        }
        let mut gone = potential.clone();
        let empty = self.filters.check_beside_nominated(self.pod, &then, self.all);
        let mut candidate = Candidate { node: node.id, victims: Vec::new(), violations: 0 };
        if empty.is_ok() {
            potential.sort_by_key(|p| importance(p));
            let (violating, others) = self.split(potential);
            for (victims, violates) in [(violating, true), (others, false)] {
                for victim in victims {
                    then.add(victim.clone());
                    self.filters.shift(&victim, node, 1);
                    if self.filters.check_beside_nominated(self.pod, &then, self.all).is_ok() {
                        gone.retain(|p| p.reference != victim.reference);
                        continue;
                    }
                    then.remove(&victim.reference);
                    self.filters.shift(&victim, node, -1);
                    candidate.violations += usize::from(violates);
                    candidate.victims.push(victim);
                }
            }
        }
        // The filters answer for the next node as if nothing had been supposed.
        for pod in &gone {
            self.filters.shift(pod, node, 1);
        }
        empty?;
        candidate.victims.sort_by_key(|p| importance(p));
        Ok(candidate)
    }

    /// Those whose budgets say no, and the others.
    fn split(&self, pods: Vec<Arc<PodInfo>>) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
        let budgets = &self.all.surroundings().budgets;
        if budgets.is_empty() {
            return (Vec::new(), pods);
        }
        let mut left: Vec<(&str, &Budget, i64)> =
            budgets.iter().map(|(key, budget)| (&*key.namespace, &**budget, budget.left)).collect();
        pods.into_iter().partition(|pod| {
            let key = &pod.reference.key;
            let mut violates = false;
            for (namespace, budget, left) in &mut left {
                if *namespace == &*key.namespace
                    && !budget.selector.is_empty()
                    && budget.selector.matches(&pod.labels)
                    && !budget.going.contains(&*key.name)
                {
                    *left -= 1;
                    violates |= *left < 0;
                }
            }
            violates
        })
    }

    fn plan(&self, best: &Candidate) -> Plan {
        let nominated = self.all.nominated(best.node).iter();
        let displaced = nominated.filter(|p| p.priority < self.pod.priority).cloned().collect();
        Plan { node: self.all.node(best.node).name().into(), victims: best.victims.clone(), displaced }
    }
}

pub(crate) type Cost = (usize, i32, i64, usize, Reverse<Timestamp>);

/// In this order: budgets violated, the highest priority among the victims, the sum of their priorities, their
/// number, and how long the most important ones have run.
pub(crate) fn cost(candidate: &Candidate) -> Cost {
    let highest = candidate.victims.iter().map(|p| p.priority).max().unwrap_or(i32::MIN);
    // So that more victims of negative priority cost more than fewer.
    let sum = candidate.victims.iter().map(|p| i64::from(p.priority) + i64::from(i32::MAX) + 1).sum();
    let important = candidate.victims.iter().filter(|p| p.priority == highest);
    let earliest = important.map(|p| p.started.unwrap_or(Timestamp::MAX)).min().unwrap_or(Timestamp::MAX);
    (candidate.violations, highest, sum, candidate.victims.len(), Reverse(earliest))
}

#[cfg(test)]
#[path = "preemption_tests.rs"]
mod tests;
