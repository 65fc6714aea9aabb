//! Why no node fits: the answer of each, and what is said of them together.

use serde_json::{Value, json};

use crate::{
    cycle::Filters,
    framework::Rejection,
    memo::{Answer, Answers, Shape},
    snapshot::{NodeId, Snapshot},
};

/// Causes of a report; the server takes no more.
const MOST_CAUSES: usize = 200;

#[derive(Clone, Debug, Default)]
pub struct Unfit {
    /// How many nodes there are.
    pub total: usize,
    /// The first answer of each node that was asked, as a number in `answers`.
    pub nodes: Vec<(NodeId, Answer)>,
    pub answers: Answers,
    /// No node was asked, since none would do.
    pub everywhere: Option<Rejection>,
    /// Plugins that have ruled out all nodes that were not asked.
    pub absent: Vec<&'static str>,
    /// What came of the attempt to make room.
    pub tried: String,
}

impl Unfit {
    pub fn absent(&mut self, plugins: Vec<&'static str>) {
        self.absent = plugins;
    }

    /// The nodes that taking pods off them may help.
    pub fn hopeful(&self) -> Vec<NodeId> {
        let is_hopeful = |answer| self.answers.get(answer).is_some_and(|r| !r.unresolvable);
        // There are few answers, and looking one up for each of many nodes costs more than a bit does.
        let known: Vec<bool> = self.answers.iter().map(|(answer, _)| is_hopeful(answer)).collect();
        let at = |answer: Answer| usize::try_from(answer).ok()?.checked_sub(1);
        let hopeful =
            self.nodes.iter().filter(|(_, a)| at(*a).is_some_and(|at| known.get(at) == Some(&true)));
        hopeful.map(|(id, _)| *id).collect()
    }

    /// Rejections, with how many nodes answer so.
    fn counted(&self) -> impl Iterator<Item = (&Rejection, usize)> {
        let mut counts: Vec<usize> = Vec::new();
        for (_, answer) in &self.nodes {
            let at = usize::try_from(*answer).unwrap_or(0);
            if counts.len() <= at {
                counts.resize(at + 1, 0);
            }
            counts[at] += 1;
        }
        let counts = counts.into_iter().skip(1);
        self.answers.iter().map(|(_, rejection)| rejection).zip(counts).filter(|(_, count)| *count > 0)
    }

    /// The plugins that rejected a node; only an event that one of them cares for is worth another try.
    pub fn plugins(&self) -> Vec<&'static str> {
        let mut plugins: Vec<&'static str> = self.absent.clone();
        for rejection in self.counted().map(|(rejection, _)| rejection).chain(&self.everywhere) {
            if !plugins.contains(&rejection.plugin) {
                plugins.push(rejection.plugin);
            }
        }
        plugins.sort_unstable();
        plugins
    }

    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: …`
    pub fn message(&self) -> String {
        let total = self.total;
        if total == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let reasons = match &self.everywhere {
            Some(rejection) => rejection.reasons.iter().collect::<Vec<_>>().join(", "),
            None => {
                let absent = total.saturating_sub(self.nodes.len());
                let ruled_out = format!("node(s) didn't satisfy plugin(s) [{}]", self.absent.join(" "));
                let reasons = self.counted().flat_map(|(r, nodes)| r.reasons.iter().map(move |r| (r, nodes)));
                histogram(reasons.chain((absent > 0).then_some((&*ruled_out, absent))))
            }
        };
        let tried = if self.tried.is_empty() { String::new() } else { format!(" {}", self.tried) };
        format!("0/{total} nodes are available: {reasons}.{tried}")
    }

    /// Each node's answer by plugin and the smallest change that would make the pod fit, as `why.tiphys.io/v1`
    /// `Report` has it; of many nodes, the first.
    pub(crate) fn report(
        &self,
        uid: &str,
        scheduler: &str,
        filters: &Filters<'_>,
        shape: &mut Shape,
        all: &Snapshot,
    ) -> Value {
        let cause =
            |reason: &str, message: String| json!({"reason": reason, "by": scheduler, "message": message});
        let mut causes = Vec::new();
        if let Some(rejection) = &self.everywhere {
            causes.push(cause(rejection.plugin, rejection.reasons.iter().collect::<Vec<_>>().join(", ")));
        }
        for (id, _) in &self.nodes {
            let node = all.node(*id);
            for (rejection, _) in filters.answers(node) {
                let reasons = rejection.reasons.iter().collect::<Vec<_>>().join(", ");
                causes.push(cause(rejection.plugin, format!("{}: {reasons}", node.name())));
            }
            if causes.len() >= MOST_CAUSES {
                break;
            }
        }
        // Fewest things in the way, each of them known how to mend, and then the least of them.
        let nodes = self.nodes.iter().map(|(id, _)| all.node(*id));
        let distances = nodes.filter_map(|node| Some((shape.distance(filters, node)?, node)));
        let nearest = distances.min_by_key(|(distance, _)| *distance);
        if let Some((_, node)) = nearest {
            let texts: Vec<String> = filters.answers(node).filter_map(|(_, remedy)| remedy).collect();
            causes.insert(0, cause("WouldFit", format!("{}: with {}", node.name(), texts.join(", and "))));
        }
        causes.truncate(MOST_CAUSES);
        json!({"apiVersion": "why.tiphys.io/v1", "kind": "Report", "uid": uid, "explains": "PodScheduled",
               "causes": causes})
    }
}

/// `1 this, 2 that`, in the order of the text, of reasons and how often each is one.
pub fn histogram<'a>(reasons: impl Iterator<Item = (&'a str, usize)>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for (reason, times) in reasons {
        match counts.iter_mut().find(|(known, _)| std::ptr::eq(*known, reason) || *known == reason) {
            Some((_, count)) => *count += times,
            None => counts.push((reason, times)),
        }
    }
    let mut texts: Vec<String> = counts.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    texts.sort();
    texts.join(", ")
}
