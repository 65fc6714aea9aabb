use serde_json::{Value, json};

use crate::validate::tests::{check, created, made, updated, with};

const GROUP: &str = "scheduling.k8s.io";

fn workload(change: &Value) -> Value {
    let good = json!({"podGroupTemplates": [{"name": "w", "schedulingPolicy": {"gang": {"minCount": 2}}}]});
    json!({"spec": with(&good, change)})
}

fn group(change: &Value) -> Value {
    json!({"spec": with(&json!({"schedulingPolicy": {"basic": {}}}), change)})
}

#[test]
fn good_ones_pass_and_have_their_default() {
    let owner = json!({"apiGroup": "batch", "kind": "Job", "name": "j"});
    assert_eq!(created(GROUP, "Workload", &workload(&json!({"controllerRef": owner}))), [""; 0]);
    let full = group(&json!({"workloadRef": {"workloadName": "w", "templateName": "t"}, "priority": 7,
        "resourceClaims": [{"name": "c", "resourceClaimName": "x"}], "disruptionMode": {"all": {}}}));
    assert_eq!(created(GROUP, "PodGroup", &full), [""; 0]);
    assert_eq!(made(GROUP, "PodGroup", &group(&json!({})))["spec"]["disruptionMode"], json!({"single": {}}));
    assert_eq!(made(GROUP, "PodGroup", &full)["spec"]["disruptionMode"], json!({"all": {}}));
}

#[test]
fn workloads_are_refused_with_reasons() {
    let template =
        |name: &str, change: &Value| with(&json!({"name": name, "schedulingPolicy": {"basic": {}}}), change);
    let none = json!({"podGroupTemplates": null});
    let both = json!({"compositePodGroupTemplates": [{"name": "c", "schedulingPolicy": {"basic": {}}}]});
    let many: Vec<Value> = (0..9).map(|i| template(&format!("t{i}"), &json!({}))).collect();
    check(&[
        (
            GROUP,
            "Workload",
            workload(&none),
            &[
                "spec: Invalid value: \"\": must specify one of: `podGroupTemplates`, `compositePodGroupTemplates`",
            ],
        ),
        (
            GROUP,
            "Workload",
            workload(&both),
            &[
                "spec: Invalid value: \"{podGroupTemplates, compositePodGroupTemplates}\": must specify exactly one of: \
             `podGroupTemplates`, `compositePodGroupTemplates`",
                "spec.compositePodGroupTemplates: Forbidden",
            ],
        ),
        (
            GROUP,
            "Workload",
            workload(&json!({"podGroupTemplates": many})),
            &["spec.podGroupTemplates: Too many: 9: must have at most 8 items"],
        ),
        (
            GROUP,
            "Workload",
            workload(&json!({"controllerRef": {"apiGroup": "A", "kind": "", "name": "a/b"}})),
            &[
                "spec.controllerRef.apiGroup: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "spec.controllerRef.kind: Required value",
                "spec.controllerRef.name: Invalid value: \"a/b\": may not contain '/'",
            ],
        ),
        (
            GROUP,
            "Workload",
            workload(&json!({"podGroupTemplates": [
                template("a", &json!({"schedulingPolicy": {"basic": null}})),
                template("a", &json!({"schedulingPolicy": {"gang": {"minCount": 0}}})),
                template("B", &json!({"schedulingPolicy": {"basic": null, "gang": {"minCount": -1}}, "priority": 2_000_000_000})),
                template("c", &json!({"schedulingConstraints": {}, "preemptionPolicy": "Never", "disruptionMode": {},
                    "priorityClassName": "P", "resourceClaims": [{"name": "C"}]})),
            ]})),
            &[
                "spec.podGroupTemplates[1]: Duplicate value: {",
                "spec.podGroupTemplates[0].schedulingPolicy: Invalid value: \"\": must specify one of: `basic`, `gang`",
                "spec.podGroupTemplates[1].schedulingPolicy: Invalid value: \"{basic, gang}\": must specify exactly one of: `basic`, `gang`",
                "spec.podGroupTemplates[1].schedulingPolicy.gang.minCount: Required value",
                "spec.podGroupTemplates[2].name: Invalid value: \"B\": a lowercase RFC 1123 label",
                "spec.podGroupTemplates[2].schedulingPolicy.gang.minCount: Invalid value: -1: must be greater than or equal to 1",
                "spec.podGroupTemplates[2].priority: Invalid value: 2000000000: must be less than or equal to 1000000000",
                "spec.podGroupTemplates[3].schedulingConstraints: Forbidden",
                "spec.podGroupTemplates[3].preemptionPolicy: Forbidden",
                "spec.podGroupTemplates[3].resourceClaims[0].name: Invalid value: \"C\": a lowercase RFC 1123 label",
                "spec.podGroupTemplates[3].resourceClaims[0]: Invalid value: \"\": must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
                "spec.podGroupTemplates[3].disruptionMode: Invalid value: \"\": must specify one of: `single`, `all`",
                "spec.podGroupTemplates[3].priorityClassName: Invalid value: \"P\": a lowercase RFC 1123 subdomain",
                "spec: Invalid value: null: detected multiple priority configurations",
            ],
        ),
    ]);
}

#[test]
fn only_the_size_of_a_gang_changes() {
    let more = json!({"podGroupTemplates": [{"name": "w", "schedulingPolicy": {"gang": {"minCount": 3}}}]});
    assert_eq!(updated(GROUP, "Workload", &workload(&json!({})), &workload(&more)), [""; 0]);
    let others = json!({"controllerRef": {"kind": "Job", "name": "j"}, "podGroupTemplates": [
        {"name": "x", "schedulingPolicy": {"basic": {}}}]});
    assert_eq!(
        updated(GROUP, "Workload", &workload(&json!({})), &workload(&others)),
        [
            "spec.controllerRef: Invalid value: null: field is immutable",
            "spec.podGroupTemplates[0]: Forbidden: item may not be added",
            "spec.podGroupTemplates: Forbidden: item may not be removed",
        ]
    );
    let changed = json!({"schedulingPolicy": {"basic": null, "gang": {"minCount": 1}}, "priority": 3,
        "workloadRef": {"workloadName": "w", "templateName": "t"}});
    assert_eq!(
        updated(GROUP, "PodGroup", &group(&json!({})), &group(&changed)),
        [
            "spec.workloadRef: Invalid value: null: field is immutable",
            "spec.schedulingPolicy.basic: Invalid value: null: field is immutable",
            "spec.schedulingPolicy.gang: Invalid value: null: field cannot be set once created",
            "spec.priority: Invalid value: null: field is immutable",
        ]
    );
}

#[test]
fn the_status_names_claims_that_there_are() {
    let group = made(
        GROUP,
        "PodGroup",
        &group(&json!({"resourceClaims": [{"name": "c", "resourceClaimName": "x"}]})),
    );
    let told = |status: Value| -> Vec<String> {
        let new = with(&group, &json!({"status": status}));
        super::pod_group_status(&new, &group).iter().map(ToString::to_string).collect()
    };
    assert_eq!(told(json!({"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "y"}]})), [""; 0]);
    assert_eq!(
        told(json!({"conditions": [{"type": "A"}], "resourceClaimStatuses": [{"name": "d"}]}))[..],
        [
            "status.conditions[0].status: Required value".to_owned(),
            "status.conditions[0].lastTransitionTime: Required value".to_owned(),
            "status.conditions[0].reason: Required value".to_owned(),
            "status.resourceClaimStatuses[0].name: Invalid value: \"d\": must match the name of an entry in \
             `spec.resourceClaims`"
                .to_owned(),
        ]
    );
}
