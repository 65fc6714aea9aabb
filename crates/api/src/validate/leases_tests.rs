use serde_json::{Value, json};

use crate::kind::Kinds;
use crate::validate::tests::{check, created, updated, with};

const GROUP: &str = "coordination.k8s.io";

fn candidate(change: &Value) -> Value {
    let good = json!({"leaseName": "l", "binaryVersion": "1.37.0", "emulationVersion": "1.36.0",
        "strategy": "OldestEmulationVersion"});
    json!({"spec": with(&good, change)})
}

#[test]
fn candidates_are_refused_with_reasons() {
    assert_eq!(created(GROUP, "LeaseCandidate", &candidate(&json!({}))), [""; 0]);
    let other = json!({"strategy": "example.com/mine", "emulationVersion": null});
    assert_eq!(created(GROUP, "LeaseCandidate", &candidate(&other)), [""; 0]);
    check(&[
        (
            GROUP,
            "LeaseCandidate",
            json!({"spec": {"leaseName": "", "binaryVersion": "", "strategy": ""}}),
            &[
                "spec.leaseName: Required value",
                "spec.binaryVersion: Required value",
                "spec.strategy: Required value",
            ],
        ),
        (
            GROUP,
            "LeaseCandidate",
            candidate(&json!({"binaryVersion": "v1", "emulationVersion": "1.2"})),
            &[
                "spec.emulationVersion: Invalid value: \"1.2\": must be a valid semantic version",
                "spec.binaryVersion: Invalid value: \"v1\": must be a valid semantic version",
                "spec.emulationVersion: Required value: must be specified when `strategy` is 'OldestEmulationVersion'",
            ],
        ),
        (
            GROUP,
            "LeaseCandidate",
            candidate(&json!({"binaryVersion": "1.35.9", "strategy": "Newest"})),
            &[
                "spec.binaryVersion: Invalid value: \"1.35.9\": must be greater than or equal to `emulationVersion`",
                "spec.strategy.strategy: Unsupported value: \"Newest\": supported values: \"OldestEmulationVersion\"",
            ],
        ),
    ]);
    let told =
        updated(GROUP, "LeaseCandidate", &candidate(&json!({})), &candidate(&json!({"leaseName": "m"})));
    assert_eq!(told, ["spec.leaseName: Invalid value: \"m\": field is immutable"]);
    let kinds = Kinds::builtin();
    let row = kinds.iter().find(|k| k.kind == "LeaseCandidate").unwrap();
    assert!((row.hooks.validate_name)("A_b.c", false).is_empty(), "its name may be what a key may be");
    assert!(!(row.hooks.validate_name)("a/b", false).is_empty());
}

#[test]
fn leases_are_refused_with_reasons() {
    check(&[
        (
            GROUP,
            "Lease",
            json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "x"}}),
            &[
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
                "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
            ],
        ),
        (
            GROUP,
            "Lease",
            json!({"spec": {"strategy": "/x"}}),
            &["spec.strategy.strategy: Invalid value: \"/x\": prefix part must be non-empty"],
        ),
    ]);
}
