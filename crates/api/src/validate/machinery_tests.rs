use serde_json::{Value, json};

use super::*;
use crate::validate::tests::{check, created, with};

const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const AGGREGATION: &str = "apiregistration.k8s.io";

fn schema(change: &Value) -> Value {
    let good = json!({"spec": {"priorityLevelConfiguration": {"name": "low"}, "rules": [
        {"subjects": [{"kind": "User", "user": {"name": "*"}}],
         "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/debug/*"]}]}]}});
    with(&good, &json!({"spec": change}))
}

fn level(change: &Value) -> Value {
    let good =
        json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}});
    with(&good, &json!({"spec": change}))
}

fn service(change: &Value) -> Value {
    let good = json!({"metadata": {"name": "v1.example.com"}, "spec": {"group": "example.com", "version": "v1",
        "groupPriorityMinimum": 1000, "versionPriority": 15, "insecureSkipTLSVerify": true,
        "service": {"name": "s", "namespace": "n"}}});
    with(&good, &json!({"spec": change}))
}

#[test]
fn good_ones_pass() {
    assert_eq!(created(FLOW, "FlowSchema", &schema(&json!({}))), [""; 0]);
    assert_eq!(created(FLOW, "PriorityLevelConfiguration", &level(&json!({}))), [""; 0]);
    assert_eq!(created(AGGREGATION, "APIService", &service(&json!({}))), [""; 0]);
    let local = json!({"service": null, "insecureSkipTLSVerify": null});
    assert_eq!(created(AGGREGATION, "APIService", &service(&local)), [""; 0]);
}

#[test]
fn the_core_groups_service_has_a_name_that_ends_with_a_dot() {
    let row = crate::kind::Kinds::builtin().group_resource(AGGREGATION, "apiservices").unwrap().clone();
    assert_eq!((row.hooks.validate_name)("v1.", false), [""; 0]);
    let core = with(
        &service(&json!({"group": "", "service": null, "insecureSkipTLSVerify": null})),
        &json!({"metadata": {"name": "v1."}}),
    );
    assert_eq!(created(AGGREGATION, "APIService", &core), [""; 0]);
}

#[test]
fn what_keeps_a_cluster_reachable_is_fixed() {
    let named = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    for (kind, name, spec) in [
        ("FlowSchema", "exempt", exempt_schema()),
        ("FlowSchema", "catch-all", catch_all_schema()),
        ("PriorityLevelConfiguration", "catch-all", catch_all_level()),
    ] {
        assert_eq!(created(FLOW, kind, &named(name, spec)), [""; 0], "{kind} {name}");
    }
    let told = created(FLOW, "FlowSchema", &named("catch-all", exempt_schema()));
    assert!(told.iter().any(|t| t.ends_with("spec of 'catch-all' must equal the fixed value")), "{told:?}");
}

#[test]
fn flows_are_refused_with_reasons() {
    let cases: Vec<(Value, &[&str])> = vec![
        (
            json!({"matchingPrecedence": 1}),
            &[
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
            ],
        ),
        (
            json!({"matchingPrecedence": 10001, "distinguisherMethod": {"type": "ByName"}}),
            &[
                "spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000",
                "spec.distinguisherMethod.type: Unsupported value: \"ByName\": supported values: \"ByNamespace\", \"ByUser\"",
            ],
        ),
        (
            json!({"priorityLevelConfiguration": null}),
            &["spec.priorityLevelConfiguration.name: Required value: must reference a priority level"],
        ),
        (
            json!({"rules": [{}]}),
            &[
                "spec.rules[0].subjects: Required value: subjects must contain at least one value",
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ],
        ),
        (
            json!({"rules": [{
                "subjects": [{"kind": "Dog"}, {"kind": "User", "group": {"name": "g"}},
                    {"kind": "ServiceAccount", "serviceAccount": {"name": "", "namespace": ""}}],
                "resourceRules": [{"verbs": ["fly"], "apiGroups": ["*", "a"], "resources": [], "namespaces": ["A"]},
                    {"verbs": ["*"], "apiGroups": ["a"], "resources": ["b"]}],
                "nonResourceRules": [{"verbs": ["*", "get"], "nonResourceURLs": ["x", "/a*", "//"]}]}]}),
            &[
                "spec.rules[0].subjects[0].kind: Unsupported value: \"Dog\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
                "spec.rules[0].subjects[1].user: Required value: user is required when subject kind is 'User'",
                "spec.rules[0].subjects[1].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "spec.rules[0].subjects[2].serviceAccount.name: Required value",
                "spec.rules[0].subjects[2].serviceAccount.namespace: Required value: must specify namespace for service account",
                "spec.rules[0].resourceRules[0].verbs: Unsupported value: [\"fly\"]",
                "spec.rules[0].resourceRules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other api groups",
                "spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one resource",
                "spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: \"A\": each member of this list must be '*' or a DNS-1123 label; ",
                "spec.rules[0].resourceRules[1].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
                "spec.rules[0].nonResourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs",
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"x\": must start with slash",
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"/a*\": wildcard can only do suffix matching",
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[2]: Invalid value: \"//\": must not contain double slash",
            ],
        ),
    ];
    for (change, wanted) in cases {
        check(&[(FLOW, "FlowSchema", schema(&change), wanted)]);
    }
}

#[test]
fn levels_are_refused_with_reasons() {
    let queuing = |q: Value| json!({"limited": {"limitResponse": {"queuing": q}}});
    let cases: Vec<(Value, &[&str])> = vec![
        (
            json!({"type": "Exempt", "limited": null}),
            &["spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'"],
        ),
        (json!({"limited": null}), &["spec.limited: Required value: must not be empty when type is Limited"]),
        (
            json!({"type": "Other"}),
            &["spec.type: Unsupported value: \"Other\": supported values: \"Exempt\", \"Limited\""],
        ),
        (json!({"exempt": {}}), &["spec.exempt: Forbidden: must be nil if the type is Limited"]),
        (
            json!({"limited": {"lendablePercent": 101, "borrowingLimitPercent": -1, "nominalConcurrencyShares": -1}}),
            &[
                "spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
                "spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer",
                "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
            ],
        ),
        (
            json!({"limited": {"limitResponse": {"type": "Reject"}}}),
            &[
                "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited",
            ],
        ),
        (
            queuing(json!({"queues": 4, "handSize": 8})),
            &[
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)",
            ],
        ),
        (
            queuing(json!({"queues": 512, "handSize": 7})),
            &[
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 7: required entropy bits of deckSize 512 and handSize 7 should not be greater than 60",
            ],
        ),
        (
            queuing(json!({"queues": 20_000_000, "handSize": 1, "queueLengthLimit": -1})),
            &[
                "spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive",
                "spec.limited.limitResponse.queuing.queues: Invalid value: 20000000: must not be greater than 10000000",
            ],
        ),
    ];
    for (change, wanted) in cases {
        check(&[(FLOW, "PriorityLevelConfiguration", level(&change), wanted)]);
    }
}

#[test]
fn api_services_are_refused_with_reasons() {
    let cases: Vec<(Value, &[&str])> = vec![
        (
            json!({"version": "v2"}),
            &[
                "metadata.name: Invalid value: \"v1.example.com\": must be `spec.version+\".\"+spec.group`: \"v2.example.com\"",
            ],
        ),
        (
            json!({"groupPriorityMinimum": 20001, "versionPriority": 0}),
            &[
                "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
            ],
        ),
        (
            json!({"service": null, "caBundle": "AAECAw=="}),
            &[
                "spec.caBundle: Invalid value: \"4 bytes\": local APIServices may not have a caBundle",
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
            ],
        ),
        (
            json!({"caBundle": "AAECAw==", "service": {"name": "", "port": 0}}),
            &[
                "spec.service.name: Required value",
                "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
            ],
        ),
    ];
    for (change, wanted) in cases {
        check(&[(AGGREGATION, "APIService", service(&change), wanted)]);
    }
}
