//! Why no node fits: the answer of each, and what is said of them together.

use serde_json::{Value, json};

use crate::{
    cycle::Filters,
    framework::Rejection,
    snapshot::{NodeId, Snapshot},
};

/// Causes of a report; the server takes no more.
const MOST_CAUSES: usize = 200;

#[derive(Clone, Debug, Default)]
pub struct Unfit {
    /// How many nodes there are.
    pub total: usize,
    /// The first answer of each node that was asked.
    pub nodes: Vec<(NodeId, Rejection)>,
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

    /// The plugins that rejected a node; only an event that one of them cares for is worth another try.
    pub fn plugins(&self) -> Vec<&'static str> {
        let mut plugins: Vec<&'static str> = self.absent.clone();
        for rejection in self.nodes.iter().map(|(_, rejection)| rejection).chain(&self.everywhere) {
            // There are few, and most nodes say the same.
            if !plugins.contains(&rejection.plugin) {
                plugins.push(rejection.plugin);
            }
        }
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
                let reasons = self.nodes.iter().flat_map(|(_, rejection)| rejection.reasons.iter());
                histogram(reasons.chain(std::iter::repeat_n(&*ruled_out, absent)))
            }
        };
        let tried = if self.tried.is_empty() { String::new() } else { format!(" {}", self.tried) };
        format!("0/{total} nodes are available: {reasons}.{tried}")
    }

    /// Each node's answer by plugin and the smallest change that would make the pod fit, as `why.tiphys.io/v1`
    /// `Report` has it; of many nodes, the first.
    pub fn report(&self, uid: &str, scheduler: &str, filters: &Filters<'_>, all: &Snapshot) -> Value {
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
        let nearest = nodes.filter_map(|node| Some((filters.distance(node)?, node))).min_by_key(|(d, _)| *d);
        if let Some((_, node)) = nearest {
            let texts: Vec<String> = filters.answers(node).filter_map(|(_, remedy)| remedy).collect();
            causes.insert(0, cause("WouldFit", format!("{}: with {}", node.name(), texts.join(", and "))));
        }
        causes.truncate(MOST_CAUSES);
        json!({"apiVersion": "why.tiphys.io/v1", "kind": "Report", "uid": uid, "explains": "PodScheduled",
               "causes": causes})
    }
}

/// `1 this, 2 that`, in the order of the text.
pub fn histogram<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for reason in reasons {
        match counts.iter_mut().find(|(known, _)| std::ptr::eq(*known, reason) || *known == reason) {
            Some((_, count)) => *count += 1,
            None => counts.push((reason, 1)),
        }
    }
    let mut texts: Vec<String> = counts.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    texts.sort();
    texts.join(", ")
}
