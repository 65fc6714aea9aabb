use serde_json::{Value, json};

use crate::validate::tests::{created, made, updated, with};

const GROUP: &str = "storagemigration.k8s.io";
const KIND: &str = "StorageVersionMigration";

fn migration(group: &str, resource: &str) -> Value {
    json!({"spec": {"resource": {"group": group, "resource": resource}}})
}

#[test]
fn a_migration_is_of_one_resource() {
    assert_eq!(created(GROUP, KIND, &migration("", "pods")), [""; 0]);
    assert_eq!(
        created(GROUP, KIND, &migration("", "")),
        ["spec.resource.resource: Required value: resource is required"]
    );
    assert_eq!(
        updated(GROUP, KIND, &migration("", "pods"), &migration("apps", "deployments")),
        [
            "group: Invalid value: \"apps\": field is immutable",
            "resource: Invalid value: \"deployments\": field is immutable",
        ]
    );
}

#[test]
fn its_status_ends_one_way() {
    let bare = made(GROUP, KIND, &migration("", "pods"));
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = |revision: &str, conditions: Vec<Value>| {
        with(&bare, &json!({"status": {"resourceVersion": revision, "conditions": conditions}}))
    };
    let told = |new: &Value, old: &Value| -> Vec<String> {
        super::migration_status(new, old).iter().map(|e| e.to_string()).collect()
    };
    let done = status("7", vec![condition("Succeeded", "True")]);
    assert_eq!(told(&done, &bare), [""; 0]);
    assert_eq!(
        told(&status("x", vec![]), &bare),
        [
            "status.resourceVersion: Invalid value: \"x\": failed to parse resource version \"x\": strconv.ParseInt: \
          parsing \"x\": invalid syntax"
        ]
    );
    assert_eq!(
        told(&status("-1", vec![]), &bare),
        ["status.resourceVersion: Invalid value: -1: must be greater than or equal to 0"]
    );
    for (new, old, wanted) in [
        (status("8", vec![condition("Succeeded", "True")]), &done, "field is immutable"),
        (
            status("7", vec![condition("Succeeded", "True"), condition("Failed", "True")]),
            &done,
            "Both success and failed conditions cannot be true at the same time",
        ),
        (
            status("7", vec![condition("Succeeded", "True"), condition("Running", "True")]),
            &done,
            "Running condition cannot be true when success condition is true",
        ),
        (
            status("7", vec![condition("Failed", "True"), condition("Running", "True")]),
            &bare,
            "Running condition cannot be true when failed condition is true",
        ),
        (
            status("7", vec![condition("Succeeded", "False")]),
            &done,
            "Success condition cannot be set to false once it is true",
        ),
        (
            status("7", vec![]),
            &status("7", vec![condition("Failed", "True")]),
            "Failed condition cannot be set to false once it is true",
        ),
    ] {
        let told = told(&new, old);
        assert!(told.len() == 1 && told[0].ends_with(wanted), "{wanted}: {told:?}");
    }
}
