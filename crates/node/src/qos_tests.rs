use super::*;
use crate::testing::pod_from;
use serde_json::{Value, json};

fn pod_with(containers: serde_json::Value, init: serde_json::Value) -> Pod {
    pod_from(json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {"containers": containers, "initContainers": init}}))
}

#[test]
fn classes_follow_requests_and_limits() {
    let r = |requests: serde_json::Value, limits: serde_json::Value| json!({"name": "c", "resources": {"requests": requests, "limits": limits}});
    let cases = [
        (json!([{"name": "c"}]), QosClass::BestEffort),
        (json!([r(json!({}), json!({"cpu": "1", "memory": "1Gi"}))]), QosClass::Guaranteed),
        (
            json!([r(json!({"cpu": "1000m", "memory": "1Gi"}), json!({"cpu": "1", "memory": "1Gi"}))]),
            QosClass::Guaranteed,
        ),
        (
            json!([r(json!({"cpu": "500m", "memory": "1Gi"}), json!({"cpu": "1", "memory": "1Gi"}))]),
            QosClass::Burstable,
        ),
        (json!([r(json!({}), json!({"cpu": "1", "memory": "1Gi"})), {"name": "d"}]), QosClass::Burstable),
        (json!([r(json!({"memory": "1"}), json!({}))]), QosClass::Burstable),
        (json!([r(json!({"cpu": "0"}), json!({}))]), QosClass::BestEffort),
    ];
    for (containers, want) in cases {
        assert_eq!(class(&pod_with(containers.clone(), json!([]))), want, "{containers}");
    }
}

#[test]
fn a_pod_is_limited_only_if_every_container_is() {
    let c = |limit: Value| json!({"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "1500m"}, "limits": limit}});
    let sums = |containers| pod_resources(&pod_with(containers, json!([])));
    let one = sums(json!([c(json!({"cpu": "1", "memory": "2500m"}))]));
    assert_eq!(
        (one.cpu_request, one.cpu_limit, one.memory_request, one.memory_limit),
        (100, Some(1000), 2, Some(3))
    );
    let two = sums(json!([c(json!({"cpu": "1"})), c(json!({}))]));
    assert_eq!((two.cpu_request, two.cpu_limit, two.memory_limit), (200, None, None));
}

#[test]
fn oom_score_falls_with_the_requested_share() {
    let pod = pod_with(
        json!([{"name": "c", "resources": {"requests": {"memory": "500"}}},
               {"name": "d", "resources": {"requests": {"memory": "900"}}}]),
        json!([{"name": "s", "restartPolicy": "Always"}]),
    );
    let score = |c: &Container, role| oom_score_adj(&pod, c, role, 1000);
    let spec = pod::spec(&pod);
    assert_eq!(score(&spec.containers[0], Role::Main), 500);
    assert_eq!(score(&spec.containers[1], Role::Main), 100);
    assert_eq!(score(&spec.init_containers.as_ref().unwrap()[0], Role::Sidecar), 100);
    assert_eq!(score(&spec.init_containers.as_ref().unwrap()[0], Role::Main), 999);
}

#[test]
fn what_a_pod_requests_as_a_whole_is_shared_by_its_containers() {
    let score = |whole: &str| {
        let pod = pod_from(json!({"spec": {"resources": {"requests": {"memory": whole}}, "containers": [
            {"name": "c", "resources": {"requests": {"memory": "100"}}}, {"name": "d"}]}}));
        let of = |i: usize| oom_score_adj(&pod, &pod::spec(&pod).containers[i], Role::Main, 1000);
        (of(0), of(1))
    };
    assert_eq!(score("500"), (700, 800));
    assert_eq!(score("100"), (900, 999));
    let amounts = json!({"cpu": "1", "memory": "1Mi"});
    let whole = json!({"requests": amounts, "limits": amounts});
    let pod = pod_from(json!({"spec": {"resources": whole, "containers": [{"name": "c"}, {"name": "d"}]}}));
    let sums = pod_resources(&pod);
    assert_eq!((sums.cpu_request, sums.cpu_limit), (1000, Some(1000)));
    assert_eq!((sums.memory_request, sums.memory_limit), (1 << 20, Some(1 << 20)));
    assert_eq!(class(&pod), QosClass::Guaranteed);
}
