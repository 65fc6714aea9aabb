use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

fn node(ready: Option<&str>, taints: Value) -> Node {
    let conditions = ready.map_or(json!([]), |status| json!([{"type": "Ready", "status": status}]));
    serde_json::from_value(json!({
        "metadata": {"name": "n", "uid": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"taints": taints},
        "status": {"conditions": conditions},
    }))
    .expect("a node")
}

fn told(taints: &[Taint]) -> Vec<String> {
    taints.iter().map(|t| format!("{}:{}", t.key.rsplit('/').next().unwrap_or_default(), t.effect)).collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The plan where every node may be given up.
fn planned(node: &Node, silence: u64) -> Plan {
    plan(&Settings::default(), node, seconds(silence), now(), false, || Turn::Now)
}

fn given(taints: &[&str]) -> Option<Vec<String>> {
    Some(taints.iter().map(|t| (*t).to_owned()).collect())
}

#[test]
fn taints_follow_conditions_and_leave_others_alone() {
    let not_ready = json!([{"key": NOT_READY, "effect": "NoSchedule"}]);
    let mine = json!([{"key": "mine", "effect": "NoSchedule"}]);
    let unreachable = ["mine:NoSchedule", "unreachable:NoSchedule", "unreachable:NoExecute"];
    let cases = [
        ("ready", node(Some("True"), json!([])), 1, None),
        ("became ready", node(Some("True"), not_ready.clone()), 1, given(&[])),
        (
            "not ready",
            node(Some("False"), mine.clone()),
            1,
            given(&["mine:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute"]),
        ),
        ("starting", node(None, not_ready), 59, None),
        ("never told", node(None, mine.clone()), 60, given(&unreachable)),
        ("quiet", node(Some("True"), mine.clone()), 49, None),
        ("silent", node(Some("True"), mine), 50, given(&unreachable)),
    ];
    for (what, node, silence, want) in cases {
        let plan = planned(&node, silence);
        assert_eq!(plan.taints.as_deref().map(told), want, "{what}");
        assert_eq!(plan.silent, silence >= 50 && what != "starting", "{what}");
        assert_eq!(plan.lost, what == "silent", "{what}");
    }
}

#[test]
fn what_a_silent_node_says_of_itself_is_unknown() {
    let said = |node: &Node, silence| -> Vec<(String, String)> {
        let unknown = planned(node, silence).unknown;
        unknown.into_iter().map(|c| (c.type_, c.reason.unwrap_or_default())).collect()
    };
    let all = |ready: &str| {
        let never = "NodeStatusNeverUpdated".to_owned();
        let mut all: Vec<_> = TOLD.iter().map(|kind| ((*kind).to_owned(), never.clone())).collect();
        all[0].1 = ready.to_owned();
        all
    };
    assert_eq!(said(&node(Some("True"), json!([])), 49), []);
    assert_eq!(said(&node(Some("True"), json!([])), 50), all("NodeStatusUnknown"));
    assert_eq!(said(&node(None, json!([])), 60), all("NodeStatusNeverUpdated"));
    assert_eq!(said(&node(Some("Unknown"), json!([])), 50), all("NodeStatusNeverUpdated")[1..]);
    let never = planned(&node(None, json!([])), 60).unknown;
    assert_eq!(never[0].last_heartbeat_time, node(None, json!([])).metadata.creation_timestamp);
}

#[test]
fn a_node_is_looked_at_when_its_grace_is_over() {
    let plan = planned(&node(Some("True"), json!([])), 10);
    assert_eq!(plan.look_again, Some(Duration::from_millis(40_100)));
}

#[test]
fn pods_are_driven_away_only_in_turn() {
    let plan = |taints: Value, cut_off, turn| {
        let node = node(Some("Unknown"), taints);
        plan(&Settings::default(), &node, seconds(1), now(), cut_off, || turn)
    };
    let closed = json!([{"key": UNREACHABLE, "effect": "NoSchedule"}]);
    let driven =
        json!([{"key": UNREACHABLE, "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoExecute"}]);
    let held = plan(closed.clone(), false, Turn::Held);
    assert_eq!(held.taints, None);
    let later = plan(closed.clone(), false, Turn::After(seconds(3)));
    assert_eq!((later.taints, later.look_again), (None, Some(seconds(3))));
    let both = given(&["unreachable:NoSchedule", "unreachable:NoExecute"]);
    assert_eq!(plan(closed, false, Turn::Now).taints.as_deref().map(told), both);
    // One taint for the other is no further node given up.
    assert_eq!(plan(driven.clone(), false, Turn::Held).taints.as_deref().map(told), both);
    // Who sees no node at all takes back what it said of them.
    let taken_back = plan(driven, true, Turn::Now);
    assert_eq!(taken_back.taints.as_deref().map(told), given(&["unreachable:NoSchedule"]));
}

#[test]
fn a_cordoned_node_is_tainted() {
    let mut cordoned = node(Some("True"), json!([]));
    cordoned.spec.get_or_insert_default().unschedulable = Some(true);
    let plan = planned(&cordoned, 1);
    assert_eq!(plan.taints.as_deref().map(told), given(&["unschedulable:NoSchedule"]));
}
