//! The plugin framework: extension points, and the answers that plugins give.
//!
//! Names of plugins, extension points and weights are those of `kubescheduler.config.k8s.io`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    pod::PodInfo,
    snapshot::{NodeFacts, NodeInfo},
};

/// A node's score from one plugin lies between 0 and this.
pub const BEST: i64 = 100;

/// Something that happened in the cluster and may make room for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterEvent {
    NodeAdded,
    NodeAllocatableGrew,
    NodeLabelsChanged,
    NodeTaintsChanged,
    /// A placed pod went, finished or shrank.
    PodLeft,
    /// The pod itself changed.
    PodChanged,
}

/// Why a node does not fit, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub plugin: &'static str,
    pub reasons: Vec<String>,
    /// Taking other pods off the node would not help.
    pub unresolvable: bool,
}

impl Rejection {
    pub fn new(plugin: &'static str, reason: impl Into<String>) -> Self {
        Self { plugin, reasons: vec![reason.into()], unresolvable: false }
    }

    #[must_use]
    pub fn unresolvable(mut self) -> Self {
        self.unresolvable = true;
        self
    }
}

/// Looks at one pod and one node. Plugins are pure: the same question has the same answer.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// Whether the pod may be considered at all; asked before any node is.
    fn pre_enqueue(&self, _: &PodInfo) -> Result<(), String> {
        Ok(())
    }

    /// Whether the pod may run on the node.
    fn filter(&self, _: &PodInfo, _: &NodeFacts, _: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// How well the node suits; `None` if the plugin has no say about this pod.
    fn score(&self, _: &PodInfo, _: &NodeFacts, _: &NodeInfo) -> Option<i64> {
        None
    }

    /// Brings the scores of all nodes into 0 to [`BEST`].
    fn normalize(&self, _scores: &mut [i64]) {}

    /// Whether the event may turn this plugin's rejection around.
    fn hint(&self, event: ClusterEvent) -> bool;
}

/// The plugins of one scheduler, each with its weight in scoring.
pub struct Profile {
    pub scheduler: Box<str>,
    pub plugins: Vec<(Box<dyn Plugin>, i64)>,
}

/// Scales so that the highest becomes [`BEST`]; `reverse` makes the lowest the best.
pub fn scale(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let part = if highest == 0 { 0 } else { *score * BEST / highest };
        *score = if reverse { BEST - part } else { part };
    }
}

/// Why no node fits: the answer of each, by node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfit {
    pub nodes: BTreeMap<Box<str>, Rejection>,
}

impl Unfit {
    /// The plugins that rejected a node; only an event that one of them cares for is worth another try.
    pub fn plugins(&self) -> Vec<&'static str> {
        let mut plugins: Vec<_> = self.nodes.values().map(|r| r.plugin).collect();
        plugins.sort_unstable();
        plugins.dedup();
        plugins
    }

    /// Each node's answer as `why.tiphys.io/v1` `Report` has it: plugin, node, reasons. Of many nodes, the first.
    pub fn report(&self, uid: &str) -> Value {
        const NODES: usize = 200;
        let causes = self.nodes.iter().take(NODES).map(|(node, rejection)| {
            let message = format!("{node}: {}", rejection.reasons.join(", "));
            json!({"reason": rejection.plugin, "by": "default-scheduler", "message": message})
        });
        json!({"apiVersion": "why.tiphys.io/v1", "kind": "Report", "uid": uid, "explains": "PodScheduled",
               "causes": causes.collect::<Vec<_>>()})
    }

    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {k: v}.`
    pub fn message(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.nodes.values().flat_map(|r| &r.reasons) {
            *counts.entry(reason).or_default() += 1;
        }
        let mut reasons: Vec<_> = counts.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        reasons.sort();
        if self.nodes.is_empty() {
            return "no nodes available to schedule pods".to_owned();
        }
        let total = self.nodes.len();
        let unresolvable = self.nodes.values().filter(|r| r.unresolvable).count();
        let mut preemption = Vec::new();
        if total > unresolvable {
            preemption.push(format!("{} No preemption victims found for incoming pod", total - unresolvable));
        }
        if unresolvable > 0 {
            preemption.push(format!("{unresolvable} Preemption is not helpful for scheduling"));
        }
        preemption.sort();
        format!(
            "0/{total} nodes are available: {}. preemption: 0/{total} nodes are available: {}.",
            reasons.join(", "),
            preemption.join(", ")
        )
    }
}
