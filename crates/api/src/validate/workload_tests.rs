//! How workloads find their pods, and how they are changed.

use serde_json::{Value, json};

use crate::validate::tests::{created, with};

fn set(change: &Value) -> Value {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    with(&json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}), change)
}

const NOT_FOUND: &str = "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`";

#[test]
fn pods_are_not_looked_at_below_a_broken_selector() {
    let broken = json!({"spec": {
        "selector": {"matchExpressions": [{"key": "a", "operator": "In"}]},
        "template": {"spec": {"restartPolicy": "Never", "containers": []}},
    }});
    let values = "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'";
    for kind in ["Deployment", "ReplicaSet"] {
        let told = created("apps", kind, &set(&broken));
        assert_eq!(told[0], values);
        assert!(
            told[1].starts_with("spec.selector: Invalid value: {")
                && told[1].ends_with(": invalid label selector")
        );
        assert_eq!(told.len(), 2, "{told:#?}");
    }
    let told = created("apps", "StatefulSet", &set(&broken));
    assert_eq!(
        told.last().unwrap(),
        "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""
    );
    assert_eq!(told.len(), 3, "{told:#?}");
    let told = created("apps", "DaemonSet", &set(&broken));
    assert_eq!(told.len(), 3, "{told:#?}");
    assert_eq!(told[1], "spec.template.spec.containers: Required value");
}

#[test]
fn what_selects_nothing_does_not_find_its_pods() {
    let nothing = set(&json!({"spec": {"selector": null}}));
    for kind in ["Deployment", "ReplicaSet", "StatefulSet"] {
        assert_eq!(created("apps", kind, &nothing), ["spec.selector: Required value", NOT_FOUND], "{kind}");
    }
    assert_eq!(created("apps", "DaemonSet", &nothing), [NOT_FOUND]);
}

#[test]
fn nothing_that_lasts_has_a_deadline() {
    let deadline = set(&json!({"spec": {"template": {"spec": {"activeDeadlineSeconds": 5}}}}));
    for (kind, whose) in
        [("Deployment", "ReplicaSet"), ("DaemonSet", "DaemonSet"), ("StatefulSet", "StatefulSet")]
    {
        let wanted = format!(
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in {whose} is not Supported"
        );
        assert_eq!(created("apps", kind, &deadline), [wanted]);
    }
}

#[test]
fn sets_are_updated_in_known_ways() {
    let odd = set(&json!({"spec": {"podManagementPolicy": "Nope", "updateStrategy": {"type": "Nope"}}}));
    let told = created("apps", "StatefulSet", &odd);
    assert_eq!(
        told[0],
        "spec.podManagementPolicy: Invalid value: \"Nope\": must be 'OrderedReady' or 'Parallel'"
    );
    assert!(told[1].starts_with("spec.updateStrategy: Invalid value: {"), "{told:?}");
    assert!(told[1].ends_with("must be 'RollingUpdate' or 'OnDelete'"), "{told:?}");
    let told = created("apps", "DaemonSet", &odd_daemon());
    assert!(told[0].starts_with("spec.updateStrategy: Unsupported value: {"), "{told:?}");
    let none = set(&json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}}}));
    assert_eq!(
        created("apps", "StatefulSet", &none),
        ["spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0"]
    );
}

fn odd_daemon() -> Value {
    set(&json!({"spec": {"updateStrategy": {"type": "Nope"}}}))
}

#[test]
fn labels_of_templates_stand_right_below_them() {
    let told = created(
        "",
        "PodTemplate",
        &json!({"template": {
        "metadata": {"labels": {"a": "b c"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}),
    );
    assert!(
        told[0].starts_with("template.labels: Invalid value: \"b c\": a valid label must be"),
        "{told:?}"
    );
}

#[test]
fn schedules_are_shown_as_they_were_read() {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let told = created(
        "batch",
        "CronJob",
        &json!({"spec": {"schedule": "* * *", "jobTemplate": {"spec": {"template": template}}}}),
    );
    assert_eq!(
        told,
        ["spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]"]
    );
}
