//! What is known of nodes from earlier cycles, for pods that ask the same of them.
//!
//! Most filters and some scores read nothing but the pod and the node ([`Filter::is_local`], [`Score::is_fixed`]): for
//! pods that are alike in what these read ([`alike`]), their answer about a node holds until the node changes
//! ([`NodeInfo::version`]). It is the answer that asking again would give; nothing here decides anything.

use std::sync::Arc;

use crate::{
    cycle::Filters,
    framework::{Rejection, Score},
    pod::PodInfo,
    preemption::{Candidate, Cost},
    snapshot::{NodeInfo, Snapshot},
};

/// Kinds of pods that are remembered.
const MOST_SHAPES: usize = 32;
/// Different rejections of one kind of pod, beyond which all is learned anew.
const MOST_ANSWERS: usize = 256;

/// The number of a rejection in [`Answers`].
pub type Answer = u32;
/// No rejection.
pub(crate) const FITS: Answer = 0;

/// Different rejections, by number: most nodes say the same.
#[derive(Clone, Debug, Default)]
pub struct Answers(Vec<Rejection>);

impl Answers {
    /// What the number stands for.
    pub fn get(&self, answer: Answer) -> Option<&Rejection> {
        usize::try_from(answer).ok()?.checked_sub(1).and_then(|at| self.0.get(at))
    }

    /// All, each with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Answer, &Rejection)> {
        (1..).zip(&self.0)
    }

    pub fn number(&mut self, answer: Result<(), Rejection>) -> Answer {
        let Err(rejection) = answer else { return FITS };
        let at = self.0.iter().position(|known| *known == rejection).unwrap_or_else(|| {
            self.0.push(rejection);
            self.0.len() - 1
        });
        Answer::try_from(at + 1).unwrap_or(Answer::MAX)
    }
}

/// What local filters and fixed scores have said of a node.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    version: u64,
    /// Of the node as it is.
    now: Answer,
    /// Also with the pods there that room is made for.
    then: Answer,
    score: Option<i64>,
}

/// What making room on a node would cost.
#[derive(Clone)]
struct Room {
    version: u64,
    /// With the cost, so that comparing does not look at the pods.
    found: Result<(Cost, Arc<Candidate>), Answer>,
}

/// How many filters are in a pod's way on a node, and how much would have to change.
#[derive(Clone, Copy, Default)]
struct Distance {
    version: u64,
    is: Option<(usize, i64)>,
}

/// What is known for one kind of pod.
pub(crate) struct Shape {
    like: PodInfo,
    known: Vec<Known>,
    rooms: Vec<Room>,
    distances: Vec<Distance>,
    pub(crate) answers: Answers,
}

/// Whether local filters and fixed scores cannot tell the pods from one another.
fn alike(a: &PodInfo, b: &PodInfo) -> bool {
    a.priority == b.priority
        && a.weight == b.weight
        && a.requests == b.requests
        && a.scheduler == b.scheduler
        && a.node == b.node
        && a.node_selector == b.node_selector
        && a.required_affinity == b.required_affinity
        && a.host_ports == b.host_ports
        && (Arc::ptr_eq(&a.tolerations, &b.tolerations) || a.tolerations == b.tolerations)
}

/// What is known, the kind that was asked for last at the end.
#[derive(Default)]
pub(crate) struct Memo {
    shapes: Vec<Shape>,
    /// Forgets at once, so that every answer is the plugins' own.
    is_forgetful: bool,
}

impl Memo {
    #[cfg(test)]
    pub(crate) fn forgetful() -> Self {
        Self { shapes: Vec::new(), is_forgetful: true }
    }

    /// What is known for pods like this one.
    pub(crate) fn shape(&mut self, pod: &PodInfo, all: &Snapshot) -> &mut Shape {
        if self.is_forgetful {
            self.shapes.clear();
        }
        let known = self.shapes.iter().rposition(|shape| alike(&shape.like, pod));
        let mut shape = match known {
            Some(at) => self.shapes.remove(at),
            None => {
                if self.shapes.len() >= MOST_SHAPES {
                    self.shapes.remove(0);
                }
                Shape {
                    like: pod.clone(),
                    known: Vec::new(),
                    rooms: Vec::new(),
                    distances: Vec::new(),
                    answers: Answers::default(),
                }
            }
        };
        if shape.answers.0.len() > MOST_ANSWERS {
            shape.known.clear();
            shape.rooms.clear();
            shape.answers = Answers::default();
        }
        shape.known.resize(all.numbers(), Known::default());
        self.shapes.push(shape);
        let last = self.shapes.len() - 1;
        &mut self.shapes[last]
    }
}

impl Shape {
    /// [`Filters::check_beside_nominated`], in a number.
    pub(crate) fn check(
        &mut self,
        filters: &mut Filters<'_>,
        pod: &PodInfo,
        node: &NodeInfo,
        all: &Snapshot,
    ) -> Answer {
        // The pod's own nomination is no matter of its kind.
        if node.nominated.iter().any(|other| other.reference == pod.reference) {
            return self.answers.number(filters.check_beside_nominated(pod, node, all));
        }
        let (now, then) = self.local(filters, pod, node);
        if now != FITS {
            return now;
        }
        if filters.are_local() {
            return then;
        }
        if let Err(rejection) = filters.check_others(node) {
            return self.answers.number(Err(rejection));
        }
        if then != FITS || node.nominated.is_empty() {
            return then;
        }
        self.answers.number(filters.check_beside_nominated(pod, node, all))
    }

    fn local(&mut self, filters: &Filters<'_>, pod: &PodInfo, node: &NodeInfo) -> (Answer, Answer) {
        let known = &mut self.known[node.id.index()];
        if known.version != node.version {
            let now = self.answers.number(filters.check_local(node));
            let then = if now == FITS { beside(filters, pod, node) } else { Ok(()) };
            *known = Known { version: node.version, now, then: self.answers.number(then), score: None };
        }
        (known.now, known.then)
    }

    /// The sum of fixed scores with their weights; the node has been checked before.
    pub(crate) fn score(&mut self, fixed: &[(Box<dyn Score + '_>, i64)], node: &NodeInfo) -> i64 {
        let fresh = || fixed.iter().map(|(score, weight)| score.score(node) * weight).sum();
        let known = &mut self.known[node.id.index()];
        if known.version != node.version {
            return fresh();
        }
        *known.score.get_or_insert_with(fresh)
    }

    /// [`Filters::distance`].
    pub(crate) fn distance(&mut self, filters: &Filters<'_>, node: &NodeInfo) -> Option<(usize, i64)> {
        if !filters.are_local() {
            return filters.distance(node);
        }
        if self.distances.len() <= node.id.index() {
            self.distances.resize(self.known.len(), Distance::default());
        }
        let known = &mut self.distances[node.id.index()];
        if known.version != node.version {
            *known = Distance { version: node.version, is: filters.distance(node) };
        }
        known.is
    }

    /// Whether what was found out about room on the node still holds.
    pub(crate) fn knows_room(&self, node: &NodeInfo) -> bool {
        self.rooms.get(node.id.index()).is_some_and(|room| room.version == node.version)
    }

    /// What was found out last.
    pub(crate) fn room(&self, node: &NodeInfo) -> Result<(Cost, &Arc<Candidate>), Answer> {
        let room = self.rooms.get(node.id.index()).ok_or(FITS)?;
        room.found.as_ref().map(|(cost, candidate)| (*cost, candidate)).map_err(|answer| *answer)
    }

    /// `holds`: until the node changes; otherwise it is to be found out again each time.
    pub(crate) fn set_room(
        &mut self,
        node: &NodeInfo,
        found: Result<(Cost, Arc<Candidate>), Answer>,
        holds: bool,
    ) {
        if self.rooms.len() <= node.id.index() {
            self.rooms.resize(self.known.len(), Room { version: 0, found: Err(FITS) });
        }
        self.rooms[node.id.index()] = Room { version: if holds { node.version } else { 0 }, found };
    }
}

/// Whether a node that fits also does when the pods come that room is made for there.
fn beside(filters: &Filters<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    let mut coming = node.nominated.iter().filter(|other| other.priority >= pod.priority).peekable();
    if coming.peek().is_none() {
        return Ok(());
    }
    let mut then = node.clone();
    for other in coming {
        then.add(other.clone());
    }
    filters.check_local(&then)
}

#[cfg(test)]
#[path = "memo_tests.rs"]
mod tests;
