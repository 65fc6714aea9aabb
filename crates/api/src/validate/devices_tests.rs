use serde_json::{Value, json};

use crate::validate::tests::{check, created, made, updated, with};

const GROUP: &str = "resource.k8s.io";

fn claim(devices: &Value) -> Value {
    let good = json!({"requests": [
        {"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}},
        {"name": "nic", "firstAvailable": [{"name": "fast", "deviceClassName": "nic"}]},
    ]});
    json!({"spec": {"devices": with(&good, devices)}})
}

fn slice(change: &Value) -> Value {
    let good = json!({"spec": {"driver": "d.example.com", "nodeName": "n",
        "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "gpu-0", "attributes": {"model": {"string": "x"}, "x.io/free": {"bool": true}}}]}});
    with(&good, &json!({"spec": change}))
}

#[test]
fn good_ones_pass() {
    let full = json!({
        "constraints": [{"requests": ["gpu", "nic/fast"], "matchAttribute": "example.com/numa"}],
        "config": [{"requests": ["gpu"], "opaque": {"driver": "d", "parameters": {"a": 1}}}],
    });
    for (kind, object) in [
        ("ResourceClaim", claim(&full)),
        ("ResourceClaimTemplate", json!({"spec": claim(&full)})),
        (
            "DeviceClass",
            json!({"spec": {"selectors": [{"cel": {"expression": "true"}}], "extendedResourceName": "a.b/c"}}),
        ),
        ("ResourceSlice", slice(&json!({}))),
        (
            "DeviceTaintRule",
            json!({"spec": {"deviceSelector": {"driver": "d"}, "taint": {"key": "a", "effect": "NoExecute"}}}),
        ),
    ] {
        assert_eq!(created(GROUP, kind, &object), [""; 0], "{kind} {object}");
    }
}

#[test]
fn a_request_is_for_one_device_unless_it_says_otherwise() {
    let claim = made(GROUP, "ResourceClaim", &claim(&json!({})));
    let requests = &claim["spec"]["devices"]["requests"];
    for asked in [&requests[0]["exactly"], &requests[1]["firstAvailable"][0]] {
        assert_eq!((&asked["allocationMode"], &asked["count"]), (&json!("ExactCount"), &json!(1)));
    }
}

#[test]
fn claims_are_refused_with_reasons() {
    let cases: Vec<(Value, &[&str])> = vec![
        (
            json!({"requests": [{"name": "A"}, {"name": "a", "exactly": {"deviceClassName": "", "allocationMode": "Some"}},
                {"name": "a", "exactly": {"deviceClassName": "c", "allocationMode": "All", "count": 2}}]}),
            &[
                "spec.devices.requests[0].name: Invalid value: \"A\": a lowercase RFC 1123 label",
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                "spec.devices.requests[1].exactly.deviceClassName: Required value",
                "spec.devices.requests[1].exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"",
                "spec.devices.requests[2].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
                "spec.devices.requests[2]: Duplicate value: \"a\"",
            ],
        ),
        (
            json!({"requests": [{"name": "a", "exactly": {"deviceClassName": "c", "count": -1, "selectors": [{}],
                "tolerations": [{"operator": "Exists", "value": "x", "effect": "Never"}]}}]}),
            &[
                "spec.devices.requests[0].exactly.selectors[0].cel: Required value",
                "spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero",
                "spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: \"x\": must be empty for operator `Exists`",
                "spec.devices.requests[0].exactly.tolerations[0].effect: Unsupported value: \"Never\"",
            ],
        ),
        (
            json!({"constraints": [{"requests": ["tpu"], "matchAttribute": "numa"}, {}],
                "config": [{"requests": ["nic/slow"]}, {"opaque": {"driver": "d", "parameters": 7}}]}),
            &[
                "spec.devices.constraints[0].requests[0]: Invalid value: \"tpu\": must be the name of a request in the claim",
                "spec.devices.constraints[0].matchAttribute: Invalid value: \"numa\": must include a domain",
                "spec.devices.constraints[1]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is required",
                "spec.devices.config[0].requests[0]: Invalid value: \"nic/slow\": must be the name of a request in the claim",
                "spec.devices.config[0].opaque: Required value",
                "spec.devices.config[1].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
            ],
        ),
    ];
    for (change, wanted) in cases {
        check(&[(GROUP, "ResourceClaim", claim(&change), wanted)]);
    }
    let told = updated(GROUP, "ResourceClaim", &claim(&json!({})), &claim(&json!({"requests": []})));
    assert!(
        told[0].starts_with("spec: Invalid value: {") && told[0].ends_with("field is immutable"),
        "{told:?}"
    );
}

#[test]
fn an_allocation_is_made_once_and_then_reserved() {
    let bare = made(GROUP, "ResourceClaim", &claim(&json!({})));
    let status = |status: &Value| with(&bare, &json!({"status": status}));
    let told = |new: &Value, old: &Value| -> Vec<String> {
        super::claim_status(new, old).iter().map(ToString::to_string).collect()
    };
    let user = json!([{"resource": "pods", "name": "p", "uid": "u"}]);
    let result = json!({"request": "gpu", "driver": "d", "pool": "n", "device": "gpu-0"});
    let allocation = json!({"devices": {"results": [result]}});
    let allocated = status(&json!({"allocation": allocation}));
    assert_eq!(told(&allocated, &bare), [""; 0]);
    let reserved = with(&allocated, &json!({"status": {"reservedFor": user}}));
    assert_eq!(told(&reserved, &allocated), [""; 0]);
    assert_eq!(
        told(&status(&json!({"reservedFor": user})), &bare),
        ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]
    );
    let going = with(&reserved, &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert_eq!(told(&going, &allocated).len(), 1, "a claim that goes takes no new users");
    assert_eq!(told(&going, &reserved), [""; 0]);
    let wrong = json!({"devices": {"results": [with(&result, &json!({"request": "tpu", "pool": ""}))]}});
    assert_eq!(told(&status(&json!({"allocation": wrong})), &bare).len(), 2);
    let moved = json!({"devices": {"results": [with(&result, &json!({"device": "gpu-1"}))]}});
    assert!(told(&status(&json!({"allocation": moved})), &allocated)[0].ends_with("field is immutable"));
}

#[test]
fn offers_are_refused_with_reasons() {
    let cases: Vec<(Value, &[&str])> = vec![
        (
            json!({"nodeName": null}),
            &[
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            ],
        ),
        (
            json!({"allNodes": true}),
            &[
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            ],
        ),
        (
            json!({"pool": {"name": "a//b", "resourceSliceCount": 0, "generation": -1}}),
            &[
                "spec.pool.name: Invalid value: \"\": a lowercase RFC 1123 subdomain",
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
                "spec.pool.generation: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (
            json!({"devices": [{"name": "a", "attributes": {"1x": {"int": 1}, "m": {"int": 1, "bool": true}},
                "taints": [{"key": "", "effect": "Boom"}]}, {"name": "a"}]}),
            &[
                "spec.devices[0].attributes[1x]: Invalid value: \"1x\": a valid C identifier must start with",
                "spec.devices[0].attributes[m]: Invalid value: {\"bool\":true,\"int\":1}: exactly one value must be specified",
                "spec.devices[0].taints[0].key: Required value",
                "spec.devices[0].taints[0].effect: Unsupported value: \"Boom\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
                "spec.devices[1]: Duplicate value: \"a\"",
            ],
        ),
    ];
    for (change, wanted) in cases {
        check(&[(GROUP, "ResourceSlice", slice(&change), wanted)]);
    }
    let told =
        updated(GROUP, "ResourceSlice", &slice(&json!({})), &slice(&json!({"driver": "e", "nodeName": "m"})));
    assert_eq!(
        told,
        [
            "spec.driver: Invalid value: \"e\": field is immutable",
            "spec.nodeName: Invalid value: \"m\": field is immutable"
        ]
    );
    check(&[(
        GROUP,
        "DeviceClass",
        json!({"spec": {"extendedResourceName": "cpu", "config": [{}]}}),
        &[
            "spec.config[0].opaque: Required value",
            "spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name",
        ],
    )]);
}
