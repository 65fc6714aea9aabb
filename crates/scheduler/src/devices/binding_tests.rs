use serde_json::{Value, json};

use super::*;

/// Two devices that have to be made ready, and one that need not; with these statuses.
fn binding(devices: Value) -> Binding {
    let result = |device: &str, conditions: &[&str]| {
        json!({"request": "r", "driver": "d", "pool": "p", "device": device, "bindingConditions": conditions,
            "bindingFailureConditions": ["Broken"]})
    };
    let results = [result("a", &["Attached"]), result("b", &["Attached", "Warm"]), result("c", &[])];
    let status = json!({"allocation": {"devices": {"results": results}}, "devices": devices});
    Binding::of(&serde_json::from_value(status).expect("a status"))
}

fn told(device: &str, conditions: &[(&str, &str)]) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(name, status)| {
            json!({"type": name, "status": status, "reason": "Why", "message": "so", "lastTransitionTime": "2026-01-01T00:00:00Z"})
        })
        .collect();
    json!({"driver": "d", "pool": "p", "device": device, "conditions": conditions})
}

#[test]
fn a_claim_is_ready_when_all_of_its_devices_are() {
    let failed = Binding::Failed("reason=Why, message=\"so\"".into());
    for (devices, wanted) in [
        (json!([]), Binding::Pending),
        (json!([told("a", &[("Attached", "True")])]), Binding::Pending),
        (json!([told("a", &[("Attached", "True")]), told("b", &[("Attached", "True")])]), Binding::Pending),
        (
            json!([
                told("a", &[("Attached", "True")]),
                told("b", &[("Attached", "True"), ("Warm", "False")])
            ]),
            Binding::Pending,
        ),
        (
            json!([told("a", &[("Attached", "True")]), told("b", &[("Warm", "True"), ("Attached", "True")])]),
            Binding::Ready,
        ),
        (json!([told("b", &[("Attached", "True"), ("Broken", "True")])]), failed.clone()),
        (json!([told("a", &[("Broken", "False")])]), Binding::Pending),
        // Nobody waits for the third, and nothing about it is a failure.
        (
            json!([
                told("a", &[("Attached", "True")]),
                told("b", &[("Warm", "True"), ("Attached", "True")]),
                told("c", &[("Broken", "True")])
            ]),
            Binding::Ready,
        ),
    ] {
        assert_eq!(binding(devices.clone()), wanted, "{devices}");
    }
    assert_eq!(Binding::of(&ResourceClaimStatus::default()), Binding::Ready);
}

#[test]
fn who_waits_waits_from_the_allocation_on() {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().expect("a time");
    let left = |since: Value| {
        let allocation =
            serde_json::from_value(json!({"allocationTimestamp": since})).expect("an allocation");
        super::left(&allocation, now, Duration::from_secs(600)).as_secs()
    };
    assert_eq!(left(Value::Null), 600);
    assert_eq!(left(json!("2026-01-01T00:09:00Z")), 540);
    assert_eq!(left(json!("2025-12-31T00:00:00Z")), 0);
    assert_eq!(left(json!("2026-01-01T01:00:00Z")), 600);
}
