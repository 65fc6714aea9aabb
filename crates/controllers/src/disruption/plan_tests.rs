use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    serde_json::from_value(json!({
        "metadata": {"name": "b", "namespace": "ns", "generation": 3}, "spec": spec, "status": status,
    }))
    .expect("a budget")
}

/// Pods by state: `Ready`, `Unready` or `Going`. They are called p0, p1 and so on.
fn pods(states: &[&str]) -> Vec<Arc<Pod>> {
    let made = states.iter().enumerate().map(|(i, state)| {
        let ready = if *state == "Unready" { "False" } else { "True" };
        let mut pod = json!({"metadata": {"name": format!("p{i}"), "namespace": "ns"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
        if *state == "Going" {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z");
        }
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    });
    made.collect()
}

#[test]
fn a_budget_spares_what_is_healthy_beyond_what_is_desired() {
    // Numbers are: expected, desired, healthy, allowed.
    let cases: &[(Value, i32, &[&str], [i32; 4])] = &[
        (json!({"minAvailable": 1}), 0, &["Ready", "Ready", "Unready"], [3, 1, 2, 1]),
        (json!({"minAvailable": 2}), 0, &["Ready", "Going"], [2, 2, 1, 0]),
        (json!({"minAvailable": 0}), 0, &["Ready"], [1, 0, 1, 1]),
        (json!({"minAvailable": 0}), 0, &[], [0, 0, 0, 0]),
        (json!({"minAvailable": "50%"}), 5, &["Ready"; 5], [5, 3, 5, 2]),
        (json!({"minAvailable": "100%"}), 2, &["Ready", "Ready"], [2, 2, 2, 0]),
        (json!({"maxUnavailable": 1}), 3, &["Ready"; 3], [3, 2, 3, 1]),
        (json!({"maxUnavailable": 1}), 3, &["Ready", "Ready"], [3, 2, 2, 0]),
        (json!({"maxUnavailable": 5}), 3, &["Ready"; 3], [3, 0, 3, 3]),
        (json!({"maxUnavailable": "30%"}), 5, &["Ready"; 5], [5, 3, 5, 2]),
        (json!({"maxUnavailable": 0}), 2, &["Ready"; 2], [2, 2, 2, 0]),
        // While a set grows, there may be more than it asks for, and what there is counts.
        (json!({"maxUnavailable": 1}), 1, &["Ready"; 3], [1, 0, 3, 3]),
        (json!({}), 0, &["Ready"], [0, 0, 1, 0]),
    ];
    for (spec, scale, states, want) in cases {
        let status = plan(&budget(spec.clone(), Value::Null), &pods(states), *scale, now()).status;
        let got = [
            status.expected_pods,
            status.desired_healthy,
            status.current_healthy,
            status.disruptions_allowed,
        ];
        assert_eq!(got.map(Option::unwrap_or_default), *want, "{spec} {scale} {states:?}");
        let condition = &status.conditions.expect("conditions")[0];
        let (told, reason) =
            if want[3] > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        assert_eq!((&*condition.status, &*condition.reason), (told, reason));
        assert_eq!((condition.observed_generation, status.observed_generation), (Some(3), Some(3)));
    }
}

#[test]
fn the_owners_are_asked_when_a_part_of_them_is_meant() {
    for (spec, want) in [
        (json!({"minAvailable": 1}), false),
        (json!({"minAvailable": "10%"}), true),
        (json!({"maxUnavailable": 1}), true),
        (json!({"maxUnavailable": "10%"}), true),
        (json!({}), false),
    ] {
        assert_eq!(needs_scale(&budget(spec.clone(), Value::Null)), want, "{spec}");
    }
}

#[test]
fn evictions_count_until_they_are_done_or_not_believed_in() {
    let status = json!({"disruptedPods": {
        "p0": "2026-01-01T00:59:30Z", "p1": "2026-01-01T00:57:00Z", "p2": "2026-01-01T00:59:59Z",
        "other": "2026-01-01T00:59:59Z"}});
    let plan = plan(
        &budget(json!({"minAvailable": 1}), status),
        &pods(&["Ready", "Ready", "Going", "Ready"]),
        0,
        now(),
    );
    let kept: Vec<_> = plan.status.disrupted_pods.clone().unwrap_or_default().into_keys().collect();
    assert_eq!(kept, ["p0"]);
    assert_eq!(plan.status.current_healthy, Some(2), "p1, which stayed, and p3");
    assert_eq!(plan.stayed.iter().map(|p| p.name()).collect::<Vec<_>>(), ["p1"]);
    assert_eq!(plan.look_again, Some(Duration::from_secs(90)));
}

#[test]
fn a_pod_that_is_not_disrupted_after_all_does_not_go_on_saying_so() {
    let told = |since: &str, reason: &str| {
        let pod = json!({"metadata": {"name": "p", "namespace": "ns"}, "status": {"phase": "Running", "conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": since}]}});
        let pods = [Arc::new(serde_json::from_value(pod).expect("a pod"))];
        let plan = plan(&budget(json!({"minAvailable": 1}), Value::Null), &pods, 0, now());
        (plan.spared.len(), plan.look_again)
    };
    assert_eq!(told("2026-01-01T00:50:00Z", "EvictionByEvictionAPI"), (1, None));
    assert_eq!(told("2026-01-01T00:59:00Z", "EvictionByEvictionAPI"), (0, Some(Duration::from_secs(60))));
    assert_eq!(told("2026-01-01T00:50:00Z", "TerminationByKubelet"), (0, None));
}

#[test]
fn what_cannot_be_worked_out_allows_nothing() {
    let status = json!({"disruptionsAllowed": 3, "currentHealthy": 4, "observedGeneration": 2, "conditions": [
        {"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods", "message": "",
            "lastTransitionTime": "2025-01-01T00:00:00Z"}]});
    let status = failed(&budget(json!({}), status), "no owner", now());
    assert_eq!((status.disruptions_allowed, status.current_healthy), (Some(0), Some(4)));
    let conditions = status.conditions.expect("conditions");
    assert_eq!(conditions.len(), 1);
    assert_eq!(
        (&*conditions[0].status, &*conditions[0].reason, &*conditions[0].message),
        ("False", "SyncFailed", "no owner")
    );
    assert_eq!(conditions[0].last_transition_time.0, now());
}
