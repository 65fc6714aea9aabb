use serde_json::Value;

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

fn lease(seconds_ago: i64) -> Lease {
    let renewed = now() - jiff::SignedDuration::from_secs(seconds_ago);
    serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"renewTime": renewed.to_string()}}))
        .expect("a lease")
}

fn long_ago() -> Timestamp {
    now() - jiff::SignedDuration::from_hours(1)
}

fn told(taints: &[Taint]) -> Vec<String> {
    taints.iter().map(|t| format!("{}:{}", t.key.rsplit('/').next().unwrap_or_default(), t.effect)).collect()
}

#[test]
fn taints_follow_conditions_and_leave_others_alone() {
    let not_ready = json!([{"key": NOT_READY, "effect": "NoSchedule"}]);
    let mine = json!([{"key": "mine", "effect": "NoSchedule"}]);
    let cases: Vec<(&str, Node, i64, Option<Vec<&str>>)> = vec![
        ("ready", node(Some("True"), json!([])), 1, None),
        ("became ready", node(Some("True"), not_ready.clone()), 1, Some(vec![])),
        (
            "not ready",
            node(Some("False"), mine.clone()),
            1,
            Some(vec!["mine:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute"]),
        ),
        ("never told", node(None, not_ready), 1, None),
        (
            "silent",
            node(Some("True"), mine),
            51,
            Some(vec!["mine:NoSchedule", "unreachable:NoSchedule", "unreachable:NoExecute"]),
        ),
    ];
    for (what, node, age, want) in cases {
        let plan = plan(&node, Some(&lease(age)), long_ago(), now());
        assert_eq!(
            plan.taints.as_deref().map(told),
            want.map(|w| w.iter().map(|t| (*t).to_owned()).collect()),
            "{what}"
        );
        assert_eq!(plan.lost, age > 50, "{what}");
    }
}

#[test]
fn a_node_is_looked_at_when_its_grace_is_over() {
    let plan = plan(&node(Some("True"), json!([])), Some(&lease(10)), long_ago(), now());
    assert_eq!(plan.look_again, Duration::from_millis(40_100));
}

#[test]
fn silence_before_anybody_listened_tells_nothing() {
    let just_started = now() - jiff::SignedDuration::from_secs(5);
    let plan = plan(&node(Some("True"), json!([])), Some(&lease(3600)), just_started, now());
    assert_eq!((plan.taints, plan.lost, plan.look_again), (None, false, Duration::from_millis(45_100)));
}

#[test]
fn a_cordoned_node_is_tainted() {
    let mut cordoned = node(Some("True"), json!([]));
    cordoned.spec.get_or_insert_default().unschedulable = Some(true);
    let plan = plan(&cordoned, Some(&lease(1)), long_ago(), now());
    assert_eq!(plan.taints.as_deref().map(told), Some(vec!["unschedulable:NoSchedule".to_owned()]));
}

#[test]
fn pods_stay_for_as_long_as_they_bear_every_taint() {
    let pod = |tolerations: Value| -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "p"}, "spec": {"containers": [], "tolerations": tolerations}}),
        )
        .expect("a pod")
    };
    let added = now() - jiff::SignedDuration::from_secs(100);
    let taints: Vec<Taint> = serde_json::from_value(json!([
        {"key": "a", "effect": "NoExecute", "timeAdded": added.to_string()},
        {"key": "b", "effect": "NoSchedule"}]))
    .expect("taints");
    let seconds = |s: u64| Some(Duration::from_secs(s));
    let cases = [
        (json!([]), seconds(0)),
        (json!([{"key": "a", "operator": "Exists"}]), None),
        (json!([{"operator": "Exists"}]), None),
        (json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 300}]), seconds(200)),
        (json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 60}]), seconds(0)),
        (json!([{"key": "a", "operator": "Equal", "value": "x"}]), seconds(0)),
        (json!([{"key": "b", "operator": "Exists"}]), seconds(0)),
    ];
    for (tolerations, want) in cases {
        assert_eq!(stays(&pod(tolerations.clone()), &taints, now()), want, "{tolerations}");
    }
}
