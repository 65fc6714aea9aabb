use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::json;

use super::*;

fn change<T: DeserializeOwned>(old: Value, new: Value) -> Change<T> {
    let read = |object: Value| {
        (!object.is_null()).then(|| Arc::new(serde_json::from_value(object).expect("an object")))
    };
    Change { key: ObjectKey::new("ns", "x"), old: read(old), new: read(new) }
}

#[test]
fn only_what_may_free_something_asks_for_a_recount() {
    let pod = |phase: &str, generation: i64| json!({"metadata": {"generation": generation}, "spec": {"containers": []}, "status": {"phase": phase}});
    let mut going = pod("Running", 1);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for (old, new, want) in [
        (Value::Null, pod("Pending", 1), false),
        (pod("Pending", 1), pod("Running", 1), false),
        (pod("Running", 1), pod("Succeeded", 1), true),
        (pod("Running", 1), pod("Running", 2), true),
        (pod("Running", 1), going, true),
        (pod("Running", 1), Value::Null, true),
    ] {
        assert_eq!(frees(&change(old.clone(), new.clone())), want, "{old} {new}");
    }
    let service = |kind: &str, address: &str| json!({"spec": {"type": kind}, "status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
    assert!(shrinks(&change(service("NodePort", "a"), service("ClusterIP", "a"))));
    assert!(!shrinks(&change(service("LoadBalancer", "a"), service("LoadBalancer", "b"))));
    assert!(!shrinks(&change(Value::Null, service("ClusterIP", ""))));
    assert!(shrinks(&change(service("ClusterIP", ""), Value::Null)));
}

#[test]
fn a_quota_is_counted_for_its_spec_not_for_its_status() {
    let quota = |pods: &str, used: &str| json!({"spec": {"hard": {"pods": pods}}, "status": {"used": {"pods": used}}});
    assert!(is_new_wish(&change(Value::Null, quota("1", "0"))));
    assert!(is_new_wish(&change(quota("1", "0"), quota("2", "0"))));
    assert!(!is_new_wish(&change(quota("1", "0"), quota("1", "1"))));
}
