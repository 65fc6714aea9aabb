use serde_json::{Value, json};

use super::*;

fn spec(value: Value) -> JobSpec {
    let mut whole = json!({"template": {}});
    for (key, value) in value.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    serde_json::from_value(whole).expect("a spec")
}

fn pod(codes: &[(&str, i32)], condition: &str) -> Pod {
    let container = |(name, code): &(&str, i32)| {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code}}})
    };
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": "p"},
        "status": {"phase": "Failed", "containerStatuses": codes.iter().map(container).collect::<Vec<_>>(),
            "conditions": [{"type": condition, "status": "True"}]},
    }))
    .expect("a pod")
}

#[test]
fn the_first_rule_that_matches_a_failed_pod_decides() {
    let spec = spec(json!({"backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [3, 42]}},
        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [5]}},
        {"action": "Count", "onExitCodes": {"operator": "In", "values": [6]}},
        {"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [7]}},
    ]}}));
    let fails = "Container main for pod ns/p failed with exit code 42 matching FailJob rule at index 1";
    let cases = [
        (pod(&[("main", 42)], "DisruptionTarget"), Consequence::Ignored),
        (pod(&[("main", 42)], ""), Consequence::FailsJob(fails.to_owned())),
        (pod(&[("side", 42)], ""), Consequence::Ignored),
        (pod(&[("side", 5)], ""), Consequence::FailsIndex),
        (pod(&[("main", 6)], ""), Consequence::Counts),
        (pod(&[("main", 7)], ""), Consequence::Counts),
        (pod(&[("main", 0)], ""), Consequence::Counts),
        (pod(&[], ""), Consequence::Counts),
    ];
    for (pod, wanted) in cases {
        assert_eq!(consequence(&spec, &pod), wanted, "{:?}", pod.status);
    }
}

#[test]
fn a_condition_of_the_pod_can_fail_the_job() {
    let spec = spec(json!({"podFailurePolicy": {"rules": [
        {"action": "FailJob", "onPodConditions": [{"type": "ConfigIssue", "status": "True"}]}]}}));
    let wanted = "Pod ns/p has condition ConfigIssue matching FailJob rule at index 0";
    assert_eq!(consequence(&spec, &pod(&[], "ConfigIssue")), Consequence::FailsJob(wanted.to_owned()));
}

#[test]
fn a_success_policy_names_indexes_or_a_number_or_both() {
    let spec = spec(json!({"successPolicy": {"rules": [
        {"succeededIndexes": "0,9"},
        {"succeededIndexes": "1-3", "succeededCount": 2},
        {"succeededCount": 4},
    ]}}));
    let cases = [
        ("", None),
        ("1", None),
        ("1,2", Some(1)),
        ("1,4,5", None),
        ("0", None),
        ("0,9", Some(0)),
        ("4-7", Some(2)),
    ];
    for (done, rule) in cases {
        assert_eq!(success(&spec, &Indexes::parse(done, 10), 10), rule, "{done}");
    }
    assert_eq!(success(&spec, &Indexes::parse("0", 5), 5), Some(0), "indexes that cannot be do not count");
}
