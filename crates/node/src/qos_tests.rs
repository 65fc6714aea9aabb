use super::*;
use crate::testing::pod_from;
use serde_json::json;

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
fn init_containers_count_beside_the_sidecars_before_them() {
    let c = |name: &str, cpu: &str, always: bool| {
        let mut c = json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
        if always {
            c["restartPolicy"] = json!("Always");
        }
        c
    };
    let pod = pod_with(json!([c("m", "100m", false)]), json!([c("s", "50m", true), c("i", "200m", false)]));
    assert_eq!(pod_resources(&pod).cpu_request, 250);
    let pod = pod_with(json!([c("m", "300m", false)]), json!([c("i", "200m", false), c("s", "50m", true)]));
    assert_eq!(pod_resources(&pod).cpu_request, 350);
    assert_eq!(pod_resources(&pod).cpu_limit, None);
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
