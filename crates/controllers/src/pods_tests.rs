use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

fn pod(name: &str, change: impl Fn(&mut Value)) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

#[test]
fn the_pod_that_does_least_goes_first() {
    type Case = (&'static str, fn(&mut Value));
    let cases: [Case; 8] = [
        ("unassigned", |p| p["spec"]["nodeName"] = json!("")),
        ("pending", |p| p["status"]["phase"] = json!("Pending")),
        ("unready", |p| p["status"]["conditions"][0]["status"] = json!("False")),
        ("cheaper", |p| p["metadata"]["annotations"] = json!({DELETION_COST: "-1"})),
        ("in a crowd", |p| p["spec"]["nodeName"] = json!("crowded")),
        ("ready later", |p| {
            p["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:59:00Z")
        }),
        ("restarted", |p| {
            p["status"]["containerStatuses"] =
                json!([{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 3}]);
        }),
        ("younger", |p| p["metadata"]["creationTimestamp"] = json!("2026-01-01T00:50:00Z")),
    ];
    let crowd = [
        pod("x", |p| p["spec"]["nodeName"] = json!("crowded")),
        pod("y", |p| p["spec"]["nodeName"] = json!("crowded")),
    ];
    for (what, change) in cases {
        for (first, second) in [("a", "z"), ("z", "a")] {
            let pods = vec![pod(first, |_| {}), pod(second, change)];
            let siblings: Vec<_> = pods.iter().chain(&crowd).cloned().collect();
            let gone = first_to_go(pods, &siblings, 1, now());
            assert_eq!(gone[0].name(), second, "the {what} pod goes first");
        }
    }
}

#[test]
fn a_pod_is_available_when_it_was_ready_for_long_enough() {
    let ready =
        pod("a", |p| p["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:59:50Z"));
    assert_eq!(availability(&ready, 0, now()), Availability::Available);
    assert_eq!(availability(&ready, 10, now()), Availability::Available);
    assert_eq!(availability(&ready, 30, now()), Availability::In(Duration::from_secs(20)));
    let unready = pod("a", |p| p["status"]["conditions"][0]["status"] = json!("False"));
    assert_eq!(availability(&unready, 0, now()), Availability::NotReady);
}

#[test]
fn finished_and_going_pods_are_not_active() {
    assert!(is_active(&pod("a", |_| {})));
    for phase in ["Succeeded", "Failed"] {
        assert!(!is_active(&pod("a", |p| p["status"]["phase"] = json!(phase))));
    }
    assert!(!is_active(&pod("a", |p| p["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"))));
}
