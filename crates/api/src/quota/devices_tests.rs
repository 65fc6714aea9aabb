use serde_json::json;

use super::*;
use crate::quota::{Quota, Recount, Request, charge, render};

fn now() -> Timestamp {
    "2026-05-01T00:00:00Z".parse().unwrap()
}

fn meter() -> Meter<'static> {
    Meter::of("resource.k8s.io", "resourceclaims").unwrap()
}

fn exactly(class: &str, mode: &str, count: i64) -> Value {
    json!({"deviceClassName": class, "allocationMode": mode, "count": count})
}

fn known(resources: &[(&str, &str)]) -> Devices {
    let resources = resources.iter().map(|&(class, name)| (class.to_owned(), name.to_owned()));
    Devices { resources: Arc::new(resources.collect()), paid: Amounts::new() }
}

fn devices(class: &str) -> String {
    format!("{class}.deviceclass.resource.k8s.io/devices")
}

fn by_class(class: &str) -> String {
    format!("requests.deviceclass.resource.kubernetes.io/{class}")
}

#[test]
fn claims_cost_what_they_may_get_of_each_class_by_all_its_names() {
    let claim = json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [
        {"name": "a", "exactly": exactly("gpu", "ExactCount", 2)},
        {"name": "b", "exactly": exactly("nic", "All", 0)},
        {"name": "c", "firstAvailable": [
            exactly("gpu", "ExactCount", 3), exactly("gpu", "ExactCount", 1), exactly("tpu", "ExactCount", 4)]},
        {"name": "d", "exactly": exactly("gpu", "Sometimes", 9)},
    ]}}});
    // Two classes of one resource: what is got of either counts.
    let known =
        known(&[("gpu", "example.com/card"), ("tpu", "example.com/card"), ("other", "example.com/o")]);
    assert_eq!(
        render(&meter().usage(&claim, now(), &known)),
        json!({"count/resourceclaims.resource.k8s.io": "1",
            devices("gpu"): "5", devices("nic"): "32", devices("tpu"): "4",
            by_class("gpu"): "5", by_class("nic"): "32", by_class("tpu"): "4",
            "requests.example.com/card": "9"})
    );
    let gpu = devices("gpu");
    let status = json!({"hard": {&*gpu: "6"}, "used": {&*gpu: "2"}});
    let quotas = [Quota::read(&json!({"metadata": {"name": "q"}, "status": status}))];
    let request = Request {
        meter: meter(),
        object: &claim,
        old: &Value::Null,
        status: false,
        now: now(),
        devices: &known,
    };
    let refused = charge(&quotas, &request, &[]).unwrap_err().to_string();
    assert_eq!(refused, format!("exceeded quota: q, requested: {gpu}=5, used: {gpu}=2, limited: {gpu}=6"));
    assert!(meter().handles("", &claim, &Value::Null) && meter().handles("", &claim, &claim));
    assert!(!meter().handles("status", &claim, &claim));
}

#[test]
fn pods_and_claims_share_the_bound_of_a_resource() {
    let name = "requests.example.com/card";
    let spec = json!({"spec": {"hard": {name: "9", by_class("gpu"): "9"}}});
    let mut recount = Recount::new(&spec, now());
    let resources: Vec<_> = recount.meters().into_iter().map(Meter::resource).collect();
    assert_eq!(resources, [("", "pods"), ("resource.k8s.io", "resourceclaims")]);
    let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests":
        {"example.com/card": "1", "deviceclass.resource.kubernetes.io/gpu": "2"}}}]}});
    recount.count("", "pods", &pod, &Devices::default());
    let claim = json!({"spec": {"devices": {"requests": [{"exactly": exactly("gpu", "ExactCount", 4)}]}}});
    recount.count("resource.k8s.io", "resourceclaims", &claim, &known(&[("gpu", "example.com/card")]));
    assert_eq!(recount.status(&spec).unwrap()["used"], json!({name: "5", by_class("gpu"): "6"}));
}

#[test]
fn what_a_pod_was_charged_its_claim_does_not_cost_again() {
    let claim = |name: &str, count: i64| {
        json!({"metadata": {"name": name, "creationTimestamp": "2026-05-01T00:00:00Z",
            "annotations": {FOR_RESOURCES: "true"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]},
            "spec": {"devices": {"requests": [{"exactly": exactly("gpu", "ExactCount", count)}]}}})
    };
    let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": {"example.com/card": "2"}}}]}});
    let (first, second) = (claim("a", 3), claim("b", 3));
    let claims = [second.clone(), first.clone()];
    let cost = |claim: &Value, pod: &Value| {
        let mut known = known(&[("gpu", "example.com/card")]);
        known.paid = paid(claim, pod, &claims, now());
        known.usage(claim).get("requests.example.com/card").map(ToString::to_string)
    };
    assert_eq!(payer(&first), Some(("p", "u")));
    assert_eq!(cost(&first, &pod).unwrap(), "1", "one more than the pod asks for");
    assert_eq!(cost(&second, &pod).unwrap(), "3", "a pod pays for one claim");
    let mut means_second = pod.clone();
    means_second["status"]["extendedResourceClaimStatus"]["resourceClaimName"] = json!("b");
    assert_eq!(
        (cost(&first, &means_second).unwrap(), cost(&second, &means_second).unwrap()),
        ("3".into(), "1".into())
    );
    let mut another = pod.clone();
    another["metadata"]["uid"] = json!("v");
    assert_eq!(cost(&first, &another).unwrap(), "3");
    assert_eq!(cost(&claim("a", 2), &pod), None, "nothing is left");
    for odd in
        [json!({"metadata": {"name": "a"}}), json!({"metadata": {"annotations": {FOR_RESOURCES: "true"}}})]
    {
        assert_eq!(payer(&odd), None);
    }
}
