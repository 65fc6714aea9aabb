use serde_json::{Value, json};

use super::*;
use crate::devices::kinds::Slice;

fn device(capacity: Value) -> Device {
    let slice = json!({"metadata": {"name": "s"}, "spec": {"driver": "d.io", "allNodes": true,
        "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "d", "allowMultipleAllocations": true, "capacity": capacity}]}});
    Slice::new(serde_json::from_value(slice).expect("a slice")).devices.remove(0)
}

/// What is taken of the device by whom asks for so much.
fn taken(capacity: &Value, asked: &Value) -> String {
    let asked = asked.as_object().into_iter().flatten().map(|(name, amount)| {
        (name.as_str().into(), Quantity::parse(amount.as_str().expect("a text")).expect("an amount"))
    });
    match share(&device(capacity.clone()), &asked.collect()) {
        Ok(None) => "not this one".to_owned(),
        Ok(Some(share)) => {
            share.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
        }
        Err(why) => why,
    }
}

#[test]
fn requests_are_rounded_up_to_what_may_be_asked_for() {
    let range = json!({"m": {"value": "40Gi", "requestPolicy":
        {"default": "2Gi", "validRange": {"min": "1Gi", "max": "20Gi", "step": "512Mi"}}}});
    let open =
        json!({"m": {"value": "40Gi", "requestPolicy": {"default": "2Gi", "validRange": {"min": "1Gi"}}}});
    let values = json!({"m": {"value": "40Gi", "requestPolicy": {"default": "10Gi", "validValues": ["5Gi", "10Gi", "20Gi"]}}});
    let fractions = json!({"m": {"value": "8", "requestPolicy":
        {"default": "500m", "validRange": {"min": "250m", "step": "250m"}}}});
    let only_default = json!({"m": {"value": "40Gi", "requestPolicy": {"default": "3Gi"}}});
    let plain = json!({"m": {"value": "40Gi"}});
    for (capacity, asked, wanted) in [
        (&range, json!({"m": "1Mi"}), "d.io/m=1Gi"),
        (&range, json!({"m": "1Gi"}), "d.io/m=1Gi"),
        (&range, json!({"m": "1025Mi"}), "d.io/m=1536Mi"),
        (&range, json!({"m": "20Gi"}), "d.io/m=20Gi"),
        (&range, json!({"m": "20481Mi"}), "not this one"),
        (&range, json!({}), "d.io/m=2Gi"),
        (
            &range,
            json!({"m": "9Ei"}),
            "capacity d.io/m: the request 9223372036854775807 cannot be rounded up to a step of 512Mi",
        ),
        (&open, json!({"m": "1500Mi"}), "d.io/m=1500Mi"),
        (&open, json!({"m": "41Gi"}), "not this one"),
        (&values, json!({"m": "1"}), "d.io/m=5Gi"),
        (&values, json!({"m": "11Gi"}), "d.io/m=20Gi"),
        (&values, json!({"m": "21Gi"}), "not this one"),
        (&values, json!({}), "d.io/m=10Gi"),
        (&fractions, json!({"m": "600m"}), "d.io/m=750m"),
        (&fractions, json!({"m": "750m"}), "d.io/m=750m"),
        (&fractions, json!({"m": "100u"}), "d.io/m=250m"),
        (&only_default, json!({"m": "7Gi"}), "d.io/m=7Gi"),
        (&only_default, json!({}), "d.io/m=3Gi"),
        (&plain, json!({"m": "7Gi"}), "d.io/m=7Gi"),
        (&plain, json!({}), "d.io/m=40Gi"),
        (&plain, json!({"m": "-1"}), "capacity d.io/m: is negative"),
    ] {
        assert_eq!(taken(capacity, &asked), wanted, "{asked} of {capacity}");
    }
}

#[test]
fn names_may_go_without_the_drivers_domain() {
    let own = json!({"m": {"value": "4"}, "x.io/m": {"value": "2"}});
    let full = json!({"d.io/m": {"value": "4"}});
    for (capacity, asked, wanted) in [
        (&own, json!({"m": "1"}), "d.io/m=1 x.io/m=2"),
        (&own, json!({"d.io/m": "1"}), "d.io/m=1 x.io/m=2"),
        (&own, json!({"x.io/m": "1"}), "d.io/m=4 x.io/m=1"),
        (&own, json!({"y.io/m": "1"}), "not this one"),
        (&own, json!({"n": "1"}), "not this one"),
        (&full, json!({"m": "1"}), "d.io/m=1"),
        (&full, json!({"m": "1", "d.io/m": "1"}), "capacity m is requested with its domain and without"),
    ] {
        assert_eq!(taken(capacity, &asked), wanted, "{asked} of {capacity}");
    }
}

#[test]
fn shares_are_counted_until_the_last_has_gone() {
    let result = |share: Option<&str>, consumed: &str| DeviceRequestAllocationResult {
        driver: "d.io".to_owned(),
        share_id: share.map(str::to_owned),
        consumed_capacity: Some(serde_json::from_value(json!({"m": consumed})).expect("amounts")),
        ..DeviceRequestAllocationResult::default()
    };
    let sum = |taken: &Taken| taken.consumed.get("d.io/m").map(ToString::to_string);
    let mut taken = Taken::default();
    taken.count(&result(Some("a"), "2Gi"), true);
    taken.count(&result(Some("b"), "1Gi"), true);
    assert_eq!((sum(&taken).as_deref(), taken.whole), (Some("3Gi"), 0));
    taken.count(&result(Some("a"), "2Gi"), false);
    assert_eq!(sum(&taken).as_deref(), Some("1Gi"));
    taken.count(&result(Some("b"), "1Gi"), false);
    assert!(taken.is_nothing() && taken == Taken::default());
    taken.count(&result(None, "1Gi"), true);
    assert_eq!((taken.whole, sum(&taken)), (1, None));
}
