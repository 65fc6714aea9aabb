//! What a node needs by what it says of itself and by how long it has been silent.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{Settings, zones::Turn};

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The taints that this controller owns: it sets and removes them, and leaves all others alone.
const OWNED: [&str; 7] = [
    NOT_READY,
    UNREACHABLE,
    UNSCHEDULABLE,
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
];

/// The conditions by which a kubelet tells how it is.
const TOLD: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The taints that it should have, if they are others than it has.
    pub(super) taints: Option<Vec<Taint>>,
    /// Conditions that become `Unknown`, as the kubelet says nothing.
    pub(super) unknown: Vec<NodeCondition>,
    /// It was ready, and is taken for dead from now on.
    pub(super) lost: bool,
    /// Its pods are not ready, whatever their last status says: nobody is there to say it of them.
    pub(super) silent: bool,
    /// Pods are driven away from now on.
    pub(super) gives_up: bool,
    pub(super) look_again: Option<Duration>,
}

pub(super) fn status<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

pub(super) fn is_ready(node: &Node) -> bool {
    status(node, "Ready").is_some_and(|c| c.status == "True")
}

/// Whether the node has been silent for so long that nothing is known of it any more.
pub(super) fn is_lost(node: &Node) -> bool {
    status(node, "Ready").is_some_and(|c| c.status == "Unknown")
}

/// `silence` is how long ago the node was last heard of; `cut_off` says that no node at all seems to live, and
/// `turn` is asked for leave to have pods driven away.
pub(super) fn plan(
    settings: &Settings,
    node: &Node,
    silence: Duration,
    now: Timestamp,
    cut_off: bool,
    turn: impl FnOnce() -> Turn,
) -> Plan {
    let ready = status(node, "Ready").map(|c| c.status.as_str());
    // One that has never told anything has its time to start.
    let grace = if ready.is_some() { settings.monitor_grace } else { settings.startup_grace };
    let dead = silence >= grace;
    let mut plan = Plan {
        look_again: Some(if dead { grace } else { grace - silence + Duration::from_millis(100) }),
        lost: dead && ready == Some("True"),
        silent: dead || ready == Some("Unknown"),
        ..Plan::default()
    };
    if dead {
        plan.unknown = TOLD.iter().filter_map(|kind| unknown(node, kind, now)).collect();
    }
    let present = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    // A node that was never ready has nothing that could be driven away.
    let (key, drives) = match ready {
        _ if dead => (Some(UNREACHABLE), true),
        Some("True") => (None, false),
        Some("Unknown") => (Some(UNREACHABLE), true),
        Some(_) => (Some(NOT_READY), true),
        None => (Some(NOT_READY), false),
    };
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    wanted.extend(key.map(|key| (key, "NoSchedule")));
    if let Some(key) = key.filter(|_| drives && !cut_off) {
        let driven =
            present.iter().any(|t| t.effect == "NoExecute" && (t.key == NOT_READY || t.key == UNREACHABLE));
        match if driven { Turn::Now } else { turn() } {
            Turn::Now => {
                wanted.push((key, "NoExecute"));
                plan.gives_up = !driven;
            }
            Turn::After(wait) => plan.look_again = plan.look_again.min(Some(wait)),
            Turn::Held => {}
        }
    }
    for (condition, taint) in [
        ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
        ("DiskPressure", "node.kubernetes.io/disk-pressure"),
        ("PIDPressure", "node.kubernetes.io/pid-pressure"),
        ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
    ] {
        if status(node, condition).is_some_and(|c| c.status == "True") {
            wanted.push((taint, "NoSchedule"));
        }
    }
    if node.spec.as_ref().is_some_and(|s| s.unschedulable == Some(true)) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is_wanted = |t: &Taint| wanted.contains(&(t.key.as_str(), t.effect.as_str()));
    let mut taints: Vec<Taint> =
        present.iter().filter(|t| !OWNED.contains(&t.key.as_str()) || is_wanted(t)).cloned().collect();
    for (key, effect) in &wanted {
        if !taints.iter().any(|t| t.key == *key && t.effect == *effect) {
            let time_added = (*effect == "NoExecute").then_some(Time(now));
            taints.push(Taint {
                key: (*key).to_owned(),
                effect: (*effect).to_owned(),
                value: None,
                time_added,
            });
        }
    }
    plan.taints = (taints != present).then_some(taints);
    plan
}

/// The condition as it is of a node that says nothing; `None` if it is that already.
fn unknown(node: &Node, kind: &str, now: Timestamp) -> Option<NodeCondition> {
    let old = status(node, kind);
    let (reason, message, heartbeat) = match old {
        Some(old) if old.status == "Unknown" => return None,
        Some(old) => {
            ("NodeStatusUnknown", "Kubelet stopped posting node status.", old.last_heartbeat_time.clone())
        }
        None => (
            "NodeStatusNeverUpdated",
            "Kubelet never posted node status.",
            node.metadata.creation_timestamp.clone(),
        ),
    };
    Some(NodeCondition {
        type_: kind.to_owned(),
        status: "Unknown".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: heartbeat,
        last_transition_time: Some(Time(now)),
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
