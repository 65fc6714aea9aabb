use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use super::*;
use crate::admission::tests::Case;

fn plugin() -> Devices {
    Devices::new(Arc::new(|| UNIX_EPOCH + Duration::from_secs(86_400)))
}

fn case(operation: Operation, resource: &'static str) -> Case<'static> {
    Case { group: GROUP, ..Case::new(operation, resource, "x") }
}

const THEN: &str = "1970-01-02T00:00:00Z";

#[tokio::test]
async fn taints_are_dated() {
    let slice = json!({"spec": {"devices": [{"name": "a", "taints": [
        {"key": "k", "effect": "NoExecute"},
        {"key": "l", "effect": "NoExecute", "timeAdded": "2020-01-01T00:00:00Z"}]}]}});
    let made = case(Operation::Create, "resourceslices").run(&plugin(), slice, Value::Null).await.unwrap();
    let taints = &made["spec"]["devices"][0]["taints"];
    assert_eq!(taints[0]["timeAdded"], THEN);
    assert_eq!(taints[1]["timeAdded"], "2020-01-01T00:00:00Z");

    let rule = |effect: &str, time: &str| json!({"spec": {"taint": {"key": "k", "effect": effect, "timeAdded": time}}});
    for (new, wanted, why) in [
        (rule("NoSchedule", "2020-01-01T00:00:00Z"), "2020-01-01T00:00:00Z", "nothing changed"),
        (rule("NoExecute", "2020-01-01T00:00:00Z"), THEN, "the effect is new"),
        (rule("NoExecute", "2021-01-01T00:00:00Z"), "2021-01-01T00:00:00Z", "the time was told, too"),
        (json!({"spec": {"taint": {"key": "k", "effect": "NoSchedule"}}}), THEN, "no time was told"),
    ] {
        let old = rule("NoSchedule", "2020-01-01T00:00:00Z");
        let told = case(Operation::Update, "devicetaintrules").run(&plugin(), new, old).await.unwrap();
        assert_eq!(told["spec"]["taint"]["timeAdded"], wanted, "{why}");
    }
}

fn class(expression: &str) -> Value {
    json!({"metadata": {"name": "x"}, "spec": {"selectors": [{"cel": {"expression": expression}}]}})
}

#[tokio::test]
async fn expressions_that_select_devices_mean_something() {
    let create = case(Operation::Create, "deviceclasses");
    for good in [
        "true",
        "device.driver == 'a' && device.attributes['a.example'].model == 'x'",
        "device.capacity['a.example'].memory.isGreaterThan(quantity('1Gi'))",
        "'a.example' in device.attributes && device.attributes['a.example'].version.isGreaterThan(semver('1.0.0'))",
        "device.attributes['a.example'].healthy",
        "device.allowMultipleAllocations",
        "cel.bind(own, device.attributes['a.example'], own.model == 'x' && own.index == 2)",
    ] {
        assert_eq!(create.run(&plugin(), class(good), Value::Null).await.map(|_| ()), Ok(()), "{good}");
    }
    for (bad, wanted) in [
        ("1", "Invalid value: \"1\": must evaluate to bool or the unknown type, not int"),
        (
            "device.nope",
            "Invalid value: \"device.nope\": compilation failed: ERROR: <input>:1:7: undefined field 'nope'",
        ),
        ("?!", "Invalid value: \"?!\": compilation failed: ERROR: <input>:1:1: Syntax error"),
    ] {
        let (code, message) = create.run(&plugin(), class(bad), Value::Null).await.unwrap_err();
        assert_eq!(code, 422);
        let wanted = format!("spec.selectors[0].cel.expression: {wanted}");
        assert!(message.contains(&wanted), "{message}\n{wanted}");
    }
    let old = class("device.nope");
    let update = case(Operation::Update, "deviceclasses");
    assert_eq!(update.run(&plugin(), old.clone(), old).await.map(|_| ()), Ok(()), "it was no better before");
}

#[tokio::test]
async fn claims_are_told_which_of_their_expressions_is_wrong() {
    let bad = json!([{"cel": {"expression": "1"}}]);
    let spec = json!({"devices": {"requests": [
        {"name": "a", "exactly": {"deviceClassName": "c", "selectors": bad}},
        {"name": "b", "firstAvailable": [{"name": "c", "deviceClassName": "c", "selectors": bad}]},
    ]}});
    for (resource, object, at) in [
        ("resourceclaims", json!({"spec": spec}), "spec"),
        ("resourceclaimtemplates", json!({"spec": {"spec": spec}}), "spec.spec"),
    ] {
        let create = case(Operation::Create, resource);
        let (_, message) = create.run(&plugin(), object, Value::Null).await.unwrap_err();
        for place in ["[0].exactly", "[1].firstAvailable[0]"] {
            let wanted = format!("{at}.devices.requests{place}.selectors[0].cel.expression: Invalid value");
            assert!(message.contains(&wanted), "{message}");
        }
    }
}
