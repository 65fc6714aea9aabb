//! What Jobs say of failure and success, and how they are changed.

use serde_json::{Value, json};

use crate::validate::tests::{created, made, updated, with};

/// A Job of five indexes, each of which may fail once.
fn job(change: &Value) -> Value {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 1, "backoffLimitPerIndex": 1,
        "template": template});
    with(&json!({"spec": spec}), &json!({"spec": change}))
}

#[test]
fn rules_of_failure_and_success_are_refused_with_reasons() {
    let failure = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let success = |rule: Value| json!({"successPolicy": {"rules": [rule]}});
    let codes = |codes: Value| failure(json!({"action": "FailJob", "onExitCodes": codes}));
    let indexes = |text: &str| success(json!({"succeededIndexes": text}));
    const FAILURE: &str = "spec.podFailurePolicy.rules[0]";
    const SUCCESS: &str = "spec.successPolicy.rules[0]";
    let cases = [
        (failure(json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1, 4]}})), vec![]),
        (failure(json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]})), vec![]),
        (
            failure(json!({})),
            vec![
                format!(r#"{FAILURE}.action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#),
                format!("{FAILURE}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"),
            ],
        ),
        (
            codes(json!({"operator": "In", "containerName": "d", "values": [3, 0, 3]})),
            vec![
                format!(
                    "{FAILURE}.onExitCodes.containerName: Invalid value: \"d\": must be one of the container or \
                     initContainer names in the pod template"
                ),
                format!("{FAILURE}.onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator"),
                format!("{FAILURE}.onExitCodes.values[2]: Duplicate value: 3"),
                format!("{FAILURE}.onExitCodes.values: Invalid value: [3,0,3]: must be ordered"),
            ],
        ),
        (
            failure(json!({"action": "Count", "onPodConditions": [{"type": "a b", "status": "Maybe"}]})),
            vec![
                format!(
                    "{FAILURE}.onPodConditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \
                     \"True\", \"Unknown\""
                ),
            ],
        ),
        (
            json!({"podReplacementPolicy": "Never"}),
            vec!["spec.podReplacementPolicy: Unsupported value: \"Never\": supported values: \"Failed\", \
                  \"TerminatingOrFailed\"".to_owned()],
        ),
        (
            json!({"maxFailedIndexes": 6}),
            vec!["spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions".to_owned()],
        ),
        (
            json!({"completions": 100_001, "parallelism": 10_001}),
            vec![
                "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000".to_owned(),
                "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above \
                 100000 and used with backoff limit per index".to_owned(),
            ],
        ),
        (
            json!({"completionMode": "NonIndexed"}),
            vec!["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode".to_owned()],
        ),
        (
            json!({"managedBy": "me"}),
            vec!["spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")"
                .to_owned()],
        ),
        (indexes("0,2-4"), vec![]),
        (
            json!({"successPolicy": {"rules": []}}),
            vec!["spec.successPolicy.rules: Required value: at least one rules must be specified when the \
                  successPolicy is specified".to_owned()],
        ),
        (
            success(json!({})),
            vec![format!("{SUCCESS}: Required value: at least one of succeededCount or succeededIndexes must be specified")],
        ),
        (
            success(json!({"succeededCount": 6})),
            vec![format!(
                "{SUCCESS}.succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)"
            )],
        ),
        (
            success(json!({"succeededCount": 3, "succeededIndexes": "1,3"})),
            vec![format!(
                "{SUCCESS}.succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in \
                 the specified succeededIndexes field)"
            )],
        ),
    ];
    for (change, wanted) in cases {
        let told = created("batch", "Job", &job(&change));
        let told: Vec<_> = told.into_iter().filter(|told| !told.contains(".type: ")).collect();
        assert_eq!(told, wanted, "{change}");
    }
    let texts = [
        ("5", "too large index: \"5\""),
        ("x", "cannot convert string to integer for index: \"x\""),
        ("3,1", "non-increasing order, previous: 3, current: 1"),
        ("2-2", "non-increasing order, previous: 2, current: 2"),
        (
            "1-2-3",
            "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
        ),
    ];
    for (text, wanted) in texts {
        let told = created("batch", "Job", &job(&indexes(text)));
        let wanted = format!(
            "{SUCCESS}.succeededIndexes: Invalid value: {text:?}: error parsing succeededIndexes: {wanted}"
        );
        assert_eq!(told, [wanted]);
    }
}

#[test]
fn a_suspended_job_is_told_where_its_pods_run_and_with_what() {
    let running = json!({"startTime": "2026-01-01T00:00:00Z", "active": 1});
    let stopped =
        json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": "Suspended", "status": "True"}]});
    let container = |change: Value| with(&json!({"name": "c", "image": "i"}), &change);
    let pod = |change: Value| json!({"template": {"spec": change}});
    let bigger = || pod(json!({"containers": [container(json!({"resources": {"requests": {"cpu": "2"}}}))]}));
    let node = || json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}});
    let cases = [
        (true, json!({}), bigger(), true),
        (true, stopped, bigger(), true),
        (true, running, bigger(), false),
        (false, json!({}), bigger(), false),
        (true, json!({}), pod(json!({"nodeSelector": {"a": "b"}})), true),
        (true, json!({}), json!({"template": {"metadata": {"labels": {"a": "b"}}}}), true),
        (true, json!({}), pod(json!({"affinity": node()})), true),
        (true, json!({}), pod(json!({"affinity": {"podAffinity": {}}})), false),
        (true, json!({}), pod(json!({"containers": [container(json!({"image": "j"}))]})), false),
    ];
    for (suspend, status, change, allowed) in cases {
        let asked = job(&json!({"suspend": suspend}));
        let mut old = made("batch", "Job", &asked);
        old["status"] = status;
        let told = super::job_update(&made("batch", "Job", &with(&asked, &json!({"spec": change}))), &old);
        let told: Vec<_> = told.iter().map(ToString::to_string).collect();
        let place = if suspend && old["status"]["active"].is_null() {
            "spec.template.spec: "
        } else {
            "spec.template: "
        };
        let refused = told.iter().any(|t| t.starts_with(place) && t.ends_with("field is immutable"));
        assert_eq!((told.len(), refused), if allowed { (0, false) } else { (1, true) }, "{told:?} {change}");
    }
}

#[test]
fn an_indexed_job_grows_with_all_its_pods() {
    let old = job(&json!({}));
    let change = |change: Value| updated("batch", "Job", &old, &with(&old, &json!({"spec": change})));
    assert_eq!(change(json!({"completions": 7, "parallelism": 7})), [""; 0]);
    assert_eq!(
        change(json!({"completions": 7})),
        ["spec.completions: Invalid value: 7: can only be modified in tandem with spec.parallelism"]
    );
}
