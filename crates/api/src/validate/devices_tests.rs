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
fn what_drivers_tell_is_of_devices_that_the_claim_has() {
    const ID: &str = "0123abcd-0123-4567-89ab-0123456789ab";
    let bare = made(GROUP, "ResourceClaim", &claim(&json!({})));
    let result = json!({"request": "gpu", "driver": "d", "pool": "n", "device": "g", "shareID": ID,
        "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]});
    let status = |results: &Value, told: &Value| {
        let devices = json!({"devices": {"results": results}});
        with(&bare, &json!({"status": {"allocation": devices, "devices": told}}))
    };
    let told = |new: &Value| -> Vec<String> {
        super::claim_status(new, &bare).iter().map(ToString::to_string).collect()
    };
    let condition = json!({"type": "Attached", "status": "True", "reason": "Done", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let good = json!({"driver": "d", "pool": "n", "device": "g", "shareID": ID, "conditions": [condition],
        "data": {"a": 1}, "networkData": {"interfaceName": "eth0", "ips": ["10.0.0.1/24", "2001:db8::1/64"]}});
    assert_eq!(told(&status(&json!([result]), &json!([good]))), [""; 0]);
    for (change, wanted) in [
        (
            json!({"shareID": null}),
            "status.devices[0]: Invalid value: \"d/n/g\": must be an allocated device in the claim",
        ),
        (
            json!({"device": "h"}),
            "status.devices[0]: Invalid value: \"d/n/h/0123abcd-0123-4567-89ab-0123456789ab\": must be an allocated device in the claim",
        ),
        (
            json!({"data": []}),
            "status.devices[0].data: Invalid value: \"<value omitted>\": must be a valid JSON object",
        ),
        (
            json!({"networkData": {"ips": ["10.0.0.1"]}}),
            "status.devices[0].networkData.ips[0]: Invalid value: \"10.0.0.1\": must be a valid address in CIDR form",
        ),
        (
            json!({"conditions": [with(&condition, &json!({"status": "Maybe"}))]}),
            "status.devices[0].conditions[0].status: Unsupported value",
        ),
    ] {
        let found = told(&status(&json!([result]), &json!([with(&good, &change)])));
        assert!(found.len() == 1 && found[0].starts_with(wanted), "{found:?}");
    }
    let twice = told(&status(&json!([result]), &json!([good, good])));
    assert_eq!(twice, [format!("status.devices[1]: Duplicate value: \"d/n/g/{ID}\"")]);
    for (change, wanted) in [
        (
            json!({"shareID": "Share"}),
            "status.allocation.devices.results[0].shareID: Invalid value: \"Share\": must be a lowercase UUID",
        ),
        (
            json!({"bindingConditions": null}),
            "status.allocation.devices.results[0].bindingConditions: Invalid value: null: bindingConditions are required to use",
        ),
        (
            json!({"bindingFailureConditions": ["Attached"]}),
            "status.allocation.devices.results[0].bindingFailureConditions[0]: Invalid value: \"Attached\": bindingFailureConditions must not overlap",
        ),
    ] {
        let found = told(&status(&json!([with(&result, &change)]), &json!([])));
        assert!(found.len() == 1 && found[0].starts_with(wanted), "{found:?}");
    }
}

#[test]
fn shares_partitions_and_conditions_of_offers_are_refused_with_reasons() {
    let offer = |device: &Value, more: &Value| {
        let good = json!({"name": "a", "allowMultipleAllocations": true});
        with(&slice(&json!({"devices": [with(&good, device)]})), &json!({"spec": more}))
    };
    let policy = |policy: Value| json!({"capacity": {"m": {"value": "10Gi", "requestPolicy": policy}}});
    let no_more = json!({});
    for (device, wanted) in [
        (policy(json!({"default": "1Gi"})), vec![]),
        (policy(json!({"default": "2Gi", "validValues": ["1Gi", "2Gi"]})), vec![]),
        (
            policy(
                json!({"default": "1500m", "validRange": {"min": "500m", "max": "2500m", "step": "500m"}}),
            ),
            vec![],
        ),
        (
            with(&policy(json!({"default": "1Gi"})), &json!({"allowMultipleAllocations": false})),
            vec![
                "spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true",
            ],
        ),
        (
            policy(json!({"validValues": ["1"], "validRange": {"min": "1"}})),
            vec!["spec.devices[0].capacity[m].requestPolicy: Forbidden: exactly one policy can be specified"],
        ),
        (
            policy(json!({"validValues": ["1"]})),
            vec![
                "spec.devices[0].capacity[m].requestPolicy.default: Required value: required when validValues is defined",
            ],
        ),
        (
            policy(json!({"default": "3", "validValues": ["2", "1", "1", "11Gi"]})),
            vec![
                "spec.devices[0].capacity[m].requestPolicy.validValues[1]: Invalid value: \"1\": values must be sorted in ascending order",
                "spec.devices[0].capacity[m].requestPolicy.validValues[2]: Duplicate value: \"1\"",
                "spec.devices[0].capacity[m].requestPolicy.validValues[3]: Invalid value: \"11Gi\": option is larger than capacity value: 10Gi",
                "spec.devices[0].capacity[m].requestPolicy.validValues: Invalid value: \"3\": default value is not valid",
            ],
        ),
        (
            policy(json!({"default": "1", "validRange": {"min": "2", "max": "5", "step": "2"}})),
            vec![
                "spec.devices[0].capacity[m].requestPolicy.validRange.min: Invalid value: \"1\": default is less than min: 2",
                "spec.devices[0].capacity[m].requestPolicy.validRange.step: Invalid value: \"5\": value is not a multiple of a given step (2) from (2)",
            ],
        ),
        (
            policy(json!({"default": "1Gi", "validRange": {"min": "1Gi", "max": "11Gi", "step": "0"}})),
            vec![
                "spec.devices[0].capacity[m].requestPolicy.validRange.max: Invalid value: \"11Gi\": max is larger than capacity value: 10Gi",
                "spec.devices[0].capacity[m].requestPolicy.validRange.step: Invalid value: \"0\": must be greater than zero",
            ],
        ),
        (
            json!({"bindingConditions": ["a", "a", "b", "c", "d"], "bindingFailureConditions": ["b"]}),
            vec![
                "spec.devices[0].bindingConditions: Too many: 5: must have at most 4 items",
                "spec.devices[0].bindingConditions[1]: Duplicate value: \"a\"",
                "spec.devices[0].bindingFailureConditions[0]: Invalid value: \"b\": bindingFailureConditions must not overlap",
            ],
        ),
        (
            json!({"bindingConditions": ["a"]}),
            vec![
                "spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use",
            ],
        ),
        (
            json!({"consumesCounters": [{"counterSet": "A", "counters": {}}, {"counterSet": "s", "counters": {"X": {"value": "1"}}}]}),
            vec![
                "spec.devices[0].consumesCounters[0].counterSet: Invalid value: \"A\"",
                "spec.devices[0].consumesCounters[0].counters: Required value",
                "spec.devices[0].consumesCounters[1].counters[X]: Invalid value: \"X\"",
            ],
        ),
        (
            json!({"nodeName": "n"}),
            vec![
                "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if",
            ],
        ),
    ] {
        check(&[(GROUP, "ResourceSlice", offer(&device, &no_more), &wanted)]);
    }
    let by_device = json!({"nodeName": null, "perDeviceNodeSelection": true});
    for (device, wanted) in [
        (json!({"nodeName": "n"}), vec![]),
        (
            json!({}),
            vec![
                "spec.devices[0]: Required value: exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required",
            ],
        ),
        (
            json!({"nodeName": "n", "allNodes": true}),
            vec!["spec.devices[0]: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of"],
        ),
        (
            json!({"nodeName": "n", "allNodes": false}),
            vec!["spec.devices[0].allNodes: Invalid value: false: must be either unset or set to true"],
        ),
    ] {
        check(&[(GROUP, "ResourceSlice", offer(&device, &by_device), &wanted)]);
    }
    let sets = |sets: Value| slice(&json!({"devices": null, "sharedCounters": sets}));
    let many: Vec<Value> =
        (0..9).map(|i| json!({"name": format!("s{i}"), "counters": {"c": {"value": "1"}}})).collect();
    check(&[
        (GROUP, "ResourceSlice", sets(json!([many[0]])), &[]),
        (
            GROUP,
            "ResourceSlice",
            sets(json!(many)),
            &["spec.sharedCounters: Too many: 9: must have at most 8 items"],
        ),
        (
            GROUP,
            "ResourceSlice",
            sets(json!([many[0], many[0]])),
            &["spec.sharedCounters[1]: Duplicate value: \"s0\""],
        ),
        (
            GROUP,
            "ResourceSlice",
            sets(json!([{"name": "", "counters": {}}])),
            &[
                "spec.sharedCounters[0].name: Required value",
                "spec.sharedCounters[0].counters: Required value",
            ],
        ),
        (
            GROUP,
            "ResourceClaim",
            claim(
                &json!({"requests": [{"name": "a", "exactly": {"deviceClassName": "c", "capacity": {"requests": {"1x": "1"}}}}]}),
            ),
            &[
                "spec.devices.requests[0].exactly.capacity.requests[1x]: Invalid value: \"1x\": a valid C identifier",
            ],
        ),
    ]);
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
