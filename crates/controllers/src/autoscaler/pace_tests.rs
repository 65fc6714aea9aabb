use serde_json::{Value, json};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).expect("a time")
}

fn spec(behavior: Value) -> HorizontalPodAutoscalerSpec {
    let spec = json!({"maxReplicas": 20, "minReplicas": 2, "behavior": behavior,
        "scaleTargetRef": {"kind": "Deployment", "name": "web"}});
    serde_json::from_value(spec).expect("a spec")
}

/// As the API fills it in.
fn defaulted(up: Value, down: Value) -> HorizontalPodAutoscalerSpec {
    let mut rules = json!({
        "scaleUp": {"selectPolicy": "Max", "stabilizationWindowSeconds": 0, "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]},
        "scaleDown": {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]},
    });
    for (direction, told) in [("scaleUp", up), ("scaleDown", down)] {
        for (field, value) in told.as_object().expect("rules") {
            rules[direction][field] = value.clone();
        }
    }
    spec(rules)
}

fn go(
    spec: &HorizontalPodAutoscalerSpec,
    current: i32,
    wanted: i32,
    memory: &mut Memory,
    now: i64,
) -> (i32, &'static str, &'static str) {
    let pace = pace(spec, 2, current, wanted, memory, at(now));
    (pace.replicas, pace.able.reason, pace.limited.reason)
}

#[test]
fn without_rules_growth_is_bounded_and_shrinking_waits() {
    let spec = spec(Value::Null);
    let mut memory = Memory::default();
    memory.begin(3, at(0));
    assert_eq!(go(&spec, 3, 3, &mut memory, 15), (3, "ReadyForNewScale", "DesiredWithinRange"));
    assert_eq!(go(&spec, 3, 5, &mut memory, 30), (5, "ReadyForNewScale", "DesiredWithinRange"));
    assert_eq!(go(&spec, 5, 11, &mut memory, 45), (10, "ReadyForNewScale", "ScaleUpLimit"));
    assert_eq!(go(&spec, 10, 25, &mut memory, 60), (20, "ReadyForNewScale", "TooManyReplicas"));
    // The highest of the last five minutes holds, to the second.
    assert_eq!(go(&spec, 20, 4, &mut memory, 360), (20, "ScaleDownStabilized", "TooManyReplicas"));
    assert_eq!(go(&spec, 20, 4, &mut memory, 361), (4, "ReadyForNewScale", "DesiredWithinRange"));
    assert_eq!(go(&spec, 4, 0, &mut memory, 700), (2, "ReadyForNewScale", "TooFewReplicas"));
    // The least that the burst allows is four.
    assert_eq!(go(&spec, 1, 9, &mut Memory::default(), 0), (4, "ReadyForNewScale", "ScaleUpLimit"));
}

#[test]
fn windows_hold_back_in_both_directions() {
    let spec =
        defaulted(json!({"stabilizationWindowSeconds": 60}), json!({"stabilizationWindowSeconds": 120}));
    let mut memory = Memory::default();
    memory.begin(5, at(0));
    // The lowest of the last minute holds on the way up.
    assert_eq!(go(&spec, 5, 8, &mut memory, 30), (5, "ScaleUpStabilized", "DesiredWithinRange"));
    assert_eq!(go(&spec, 5, 7, &mut memory, 59), (5, "ScaleUpStabilized", "DesiredWithinRange"));
    assert_eq!(go(&spec, 5, 9, &mut memory, 60), (7, "ScaleUpStabilized", "DesiredWithinRange"));
    // On the way down the highest of the last two.
    assert_eq!(go(&spec, 7, 3, &mut memory, 90), (7, "ScaleDownStabilized", "DesiredWithinRange"));
    assert_eq!(go(&spec, 7, 3, &mut memory, 180), (3, "ReadyForNewScale", "DesiredWithinRange"));
}

#[test]
fn a_window_that_is_not_told_is_five_minutes_down_and_none_up() {
    let spec = defaulted(json!({}), json!({}));
    let mut memory = Memory::default();
    memory.begin(6, at(0));
    assert_eq!(go(&spec, 6, 7, &mut memory, 1), (7, "ReadyForNewScale", "DesiredWithinRange"));
    assert_eq!(go(&spec, 7, 2, &mut memory, 300), (7, "ScaleDownStabilized", "DesiredWithinRange"));
    assert_eq!(go(&spec, 7, 2, &mut memory, 301), (2, "ReadyForNewScale", "DesiredWithinRange"));
}

#[test]
fn policies_limit_what_changes_within_their_periods() {
    let pods_and_percent = |select: &str| {
        json!({"selectPolicy": select, "stabilizationWindowSeconds": 0, "policies": [
            {"type": "Pods", "value": 3, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}]})
    };
    // Which policy counts, what was added and removed half a minute ago, current, wanted; and what comes of it.
    type Case = (&'static str, (i32, i32), i32, i32, (i32, &'static str));
    let cases: [Case; 18] = [
        ("Max", (0, 0), 10, 19, (15, "ScaleUpLimit")),
        ("Min", (0, 0), 10, 19, (13, "ScaleUpLimit")),
        ("Max", (0, 0), 3, 19, (6, "ScaleUpLimit")),
        // Half of three is rounded in favour of a change.
        ("Min", (0, 0), 3, 19, (5, "ScaleUpLimit")),
        ("Disabled", (0, 0), 10, 19, (10, "ScaleUpLimit")),
        ("Max", (0, 0), 10, 12, (12, "DesiredWithinRange")),
        ("Max", (0, 0), 16, 25, (20, "TooManyReplicas")),
        ("Max", (4, 0), 10, 19, (10, "ScaleUpLimit")),
        ("Max", (2, 0), 10, 19, (12, "ScaleUpLimit")),
        ("Max", (0, 2), 10, 19, (18, "ScaleUpLimit")),
        ("Max", (0, 0), 10, 1, (5, "ScaleDownLimit")),
        ("Min", (0, 0), 10, 1, (7, "ScaleDownLimit")),
        ("Disabled", (0, 0), 10, 1, (10, "ScaleDownLimit")),
        ("Max", (0, 0), 10, 8, (8, "DesiredWithinRange")),
        ("Max", (0, 0), 4, 1, (2, "TooFewReplicas")),
        ("Max", (0, 2), 10, 1, (6, "ScaleDownLimit")),
        ("Max", (0, 10), 10, 1, (10, "ScaleDownLimit")),
        ("Max", (4, 0), 10, 1, (3, "ScaleDownLimit")),
    ];
    for (select, (added, removed), current, wanted, expected) in cases {
        let spec = defaulted(pods_and_percent(select), pods_and_percent(select));
        let mut memory = Memory::default();
        for (before, after) in [(0, added), (removed, 0)] {
            if before != after {
                memory.scaled(before, after, at(0));
            }
        }
        let (replicas, able, limited) = go(&spec, current, wanted, &mut memory, 30);
        let case = format!("{select}, {added} added, {removed} removed, {current} to {wanted}");
        assert_eq!(((replicas, limited), able), (expected, "ReadyForNewScale"), "{case}");
    }
}

#[test]
fn what_was_done_longer_ago_limits_nothing() {
    let spec = defaulted(json!({"policies": [{"type": "Pods", "value": 3, "periodSeconds": 60}]}), json!({}));
    let mut memory = Memory::default();
    memory.scaled(7, 10, at(0));
    assert_eq!(go(&spec, 10, 19, &mut memory, 59).0, 10);
    assert_eq!(go(&spec, 10, 19, &mut memory, 60).0, 13);
}

#[test]
fn what_is_remembered_is_bounded_and_survives_no_clock() {
    let spec = spec(Value::Null);
    let mut memory = Memory::default();
    for look in 0..1000 {
        memory.scaled(1, 2, at(look * 15));
        go(&spec, 3, 3, &mut memory, look * 15);
    }
    assert_eq!(memory.recommended.0.len(), 3600 / 15 + 1);
    assert_eq!(memory.added.0.len(), 1800 / 15 + 1);
    // A clock that is set back by a day leaves nothing that would count for a day.
    go(&spec, 3, 3, &mut memory, -86_400);
    assert_eq!(memory.recommended.0.len(), 1);
}
