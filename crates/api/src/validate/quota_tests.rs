use serde_json::{Value, json};

use super::*;

fn told(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn of(spec: Value) -> Vec<String> {
    told(quota(&json!({"spec": spec})))
}

#[test]
fn bounds_have_names_and_amounts_of_quotas() {
    let fine = json!({"hard": {"pods": "1", "cpu": "100m", "count/widgets.example.com": "3", "requests.example.com/gpu": "1",
        "hugepages-2Mi": "2Mi", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}});
    assert_eq!(of(fine), [""; 0]);
    assert_eq!(
        of(json!({"hard": {"storage": "1"}})),
        ["spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota"]
    );
    assert_eq!(
        of(json!({"hard": {"pods": "1500m"}})),
        ["spec.hard[pods]: Invalid value: \"1500m\": must be an integer"]
    );
    assert_eq!(of(json!({"hard": {"pods": "-1"}})).len(), 1);
    let status = json!({"status": {"hard": {"nonsense": "1"}, "used": {"pods": "x y"}}});
    assert_eq!(quota_status(&status, &Value::Null).len(), 2);
}

#[test]
fn scopes_fit_each_other_and_what_is_bounded() {
    let pods = json!({"pods": "1"});
    assert_eq!(of(json!({"hard": pods, "scopes": ["BestEffort", "NotTerminating"]})), [""; 0]);
    for (spec, want) in [
        (json!({"scopes": ["Other"]}), "spec.scopes: Invalid value: [\"Other\"]: unsupported scope"),
        (json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}), "unsupported scope applied to resource"),
        (json!({"scopes": ["Terminating", "NotTerminating"]}), "conflicting scopes"),
    ] {
        let errors = of(spec.clone());
        assert!(errors.len() == 1 && errors[0].contains(want), "{spec} {errors:?}");
    }
    let selector = |scope: &str, operator: &str, values: Value| {
        of(json!({"hard": pods, "scopeSelector": {"matchExpressions": [
            {"scopeName": scope, "operator": operator, "values": values}]}}))
    };
    assert_eq!(selector("PriorityClass", "In", json!(["high"])), [""; 0]);
    assert_eq!(selector("PriorityClass", "In", json!([])).len(), 1);
    assert_eq!(selector("PriorityClass", "Exists", json!(["x"])).len(), 1);
    assert_eq!(selector("PriorityClass", "Is", json!([])).len(), 1);
    assert_eq!(selector("BestEffort", "NotIn", json!(["x"])).len(), 1);
    assert_eq!(selector("VolumeAttributesClass", "Exists", json!([])).len(), 1, "not of pods");
}

#[test]
fn scopes_stay() {
    let with = |scopes: Value| json!({"spec": {"hard": {"pods": "1"}, "scopes": scopes}});
    let (a, b) = (with(json!(["BestEffort", "Terminating"])), with(json!(["Terminating", "BestEffort"])));
    assert_eq!(quota_update(&a, &b), Vec::new());
    assert_eq!(
        told(quota_update(&with(json!(["Terminating"])), &a)),
        ["spec.scopes: Invalid value: [\"Terminating\"]: field is immutable"]
    );
}
