use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::json;

use super::*;
use crate::testing::{client, list};

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
fn a_quota_is_counted_for_its_spec_and_for_a_status_that_no_longer_answers_it() {
    let quota = |pods: &str, told: &str, used: Value| json!({"spec": {"hard": {"pods": pods}}, "status": {"hard": {"pods": told}, "used": used}});
    let used = |pods: &str| json!({"pods": pods});
    let fine = quota("1", "1", used("0"));
    for (old, new, want) in [
        (Value::Null, fine.clone(), true),
        (fine.clone(), Value::Null, true),
        (fine.clone(), quota("2", "1", used("0")), true),
        // Something was charged.
        (fine.clone(), quota("1", "1", used("1")), false),
        (fine.clone(), quota("1", "2", used("0")), true),
        (fine.clone(), quota("1", "1", Value::Null), true),
        // It was counted.
        (quota("1", "2", used("0")), fine.clone(), false),
        (json!({"spec": fine["spec"]}), fine, false),
        // What cannot be counted is not counted for each charge.
        (quota("1", "1", json!({"x": "1"})), quota("1", "1", json!({"x": "2"})), false),
    ] {
        assert_eq!(asks(&change(old.clone(), new.clone())), want, "{old} {new}");
    }
}

#[tokio::test]
async fn claims_to_devices_are_counted_by_their_classes_less_what_pods_have_paid() {
    let claim = |name: &str, owner: Value| {
        json!({"metadata": {"name": name, "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
                "ownerReferences": [owner]},
            "spec": {"devices": {"requests": [
                {"exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}}]}}})
    };
    let owner = |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": name, "controller": true});
    let pod = json!({"metadata": {"name": "p", "uid": "p"}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": {"example.com/card": "2"}}}]}});
    let claims = [claim("paid", owner("p")), claim("plain", json!({})), claim("astray", owner("gone"))];
    let client = client(move |asked| match &*asked.path {
        "/apis/resource.k8s.io/v1/deviceclasses" => {
            let class =
                json!({"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/card"}});
            list("resource.k8s.io/v1", "DeviceClass", &[class])
        }
        "/apis/resource.k8s.io/v1/namespaces/ns/resourceclaims" => {
            list("resource.k8s.io/v1", "ResourceClaim", &claims)
        }
        "/api/v1/namespaces/ns/pods" => list("v1", "Pod", std::slice::from_ref(&pod)),
        other => panic!("{other}"),
    });
    let informer = tiphys_client::Informer::new(
        Api::<ResourceQuota>::all(client.clone()),
        kube::runtime::watcher::Config::default(),
        |quota| quota,
    );
    let queue = Queue::new();
    let quotas = informer.reader();
    let watches = Watches::new(client.clone(), Replenish { queue: queue.clone(), quotas: quotas.clone() });
    let controller = ResourceQuotas { client, queue, quotas, watches, served: Mutex::default() };
    let quota = json!({"spec": {"hard": {"requests.example.com/card": "9",
        "gpu.deviceclass.resource.k8s.io/devices": "9", "count/resourceclaims.resource.k8s.io": "9"}}});
    let mut recount = Recount::new(&quota, Timestamp::now());
    let served = ApiResource {
        group: "resource.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "resource.k8s.io/v1".to_owned(),
        kind: "ResourceClaim".to_owned(),
        plural: "resourceclaims".to_owned(),
    };
    controller.count(&mut recount, "ns", &served).await.unwrap();
    assert_eq!(
        recount.status(&quota).unwrap()["used"],
        json!({"requests.example.com/card": "4", "gpu.deviceclass.resource.k8s.io/devices": "6",
            "count/resourceclaims.resource.k8s.io": "3"})
    );
}
