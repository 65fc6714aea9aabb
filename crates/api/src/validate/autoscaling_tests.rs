use serde_json::{Value, json};

use super::*;
use crate::validate::tests::{check, created, made, updated, with};

fn scaler(change: &Value) -> Value {
    let good = json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    with(&good, &json!({"spec": change}))
}

#[test]
fn good_ones_pass() {
    let metrics = json!({"metrics": [
        {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
        {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"},
            "target": {"type": "Value", "value": "1"}}},
        {"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}},
    ], "behavior": {"scaleDown": {"stabilizationWindowSeconds": 3600}, "scaleUp": {}}});
    for change in [json!({}), metrics] {
        assert_eq!(created("autoscaling", "HorizontalPodAutoscaler", &scaler(&change)), [""; 0]);
    }
}

#[test]
fn autoscalers_are_refused_with_reasons() {
    let one = |metric: Value| json!({"metrics": [metric]});
    let cases: Vec<(Value, &[&str])> = vec![
        (
            json!({"minReplicas": 4, "scaleTargetRef": {"kind": "a/b", "name": ""}}),
            &[
                "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
                "spec.scaleTargetRef.kind: Invalid value: \"a/b\": may not contain '/'",
                "spec.scaleTargetRef.name: Required value",
            ],
        ),
        (
            json!({"maxReplicas": 0}),
            &[
                "spec.maxReplicas: Required value: must be set and greater than 0",
                "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            ],
        ),
        (
            json!({"minReplicas": 0}),
            &[
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        ),
        (
            json!({"minReplicas": -1}),
            &["spec.minReplicas: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            one(json!({"type": ""})),
            &[
                "spec.metrics[0].type: Required value: must specify a metric source type",
                "spec.metrics[0].type: Unsupported value: \"\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
            ],
        ),
        (
            one(json!({"type": "Pods"})),
            &["spec.metrics[0].pods: Required value: must populate information for the given metric source"],
        ),
        (
            one(
                json!({"type": "Pods", "pods": {"metric": {"name": ""}, "target": {"type": "Value", "value": "0"}},
                "resource": {"name": "", "target": {}}}),
            ),
            &[
                "spec.metrics[0].pods.metric.name: Required value: must specify a metric name",
                "spec.metrics[0].pods.target.value: Invalid value: \"0\": must be positive",
                "spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue",
                "spec.metrics[0].resource: Forbidden: must populate the given metric source only",
            ],
        ),
        (
            one(json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "",
                "target": {"type": "Half", "averageUtilization": 0, "averageValue": "1"}}})),
            &[
                "spec.metrics[0].containerResource.container: Required value: must specify a container",
                "spec.metrics[0].containerResource.target.type: Invalid value: \"Half\": must be either Utilization, Value, or AverageValue",
                "spec.metrics[0].containerResource.target.averageUtilization: Invalid value: 0: must be greater than 0",
                "spec.metrics[0].containerResource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization",
            ],
        ),
        (
            one(json!({"type": "External", "external": {"metric": {"name": "m"},
                "target": {"type": "Value", "value": "1", "averageValue": "1"}}})),
            &[
                "spec.metrics[0].external.target.value: Forbidden: may not set both a target value for metric and a per-pod target",
            ],
        ),
        (
            json!({"behavior": {"scaleUp": {"stabilizationWindowSeconds": 3601, "selectPolicy": "Most", "policies": [
                {"type": "Half", "value": 0, "periodSeconds": 1801}]}, "scaleDown": {"tolerance": "-1"}}}),
            &[
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
                "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Most\": supported values: \"Disabled\", \"Max\", \"Min\"",
                "spec.behavior.scaleUp.policies[0].type: Unsupported value: \"Half\": supported values: \"Percent\", \"Pods\"",
                "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
                "spec.behavior.scaleDown.tolerance: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        ),
    ];
    for (change, wanted) in cases {
        check(&[("autoscaling", "HorizontalPodAutoscaler", scaler(&change), wanted)]);
    }
}

#[test]
fn who_is_woken_from_outside_may_sleep() {
    let asleep = scaler(&json!({"minReplicas": 0, "metrics": [{"type": "External",
        "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}}]}));
    assert_eq!(updated("autoscaling", "HorizontalPodAutoscaler", &asleep, &asleep), [""; 0]);
    assert_eq!(created("autoscaling", "HorizontalPodAutoscaler", &asleep), [""; 0]);
    assert_eq!(updated("autoscaling", "HorizontalPodAutoscaler", &scaler(&json!({})), &asleep), [""; 0]);
    let old_fashioned = scaler(&json!({"scaleTargetRef": {"apiVersion": ""}}));
    assert_eq!(created("autoscaling", "HorizontalPodAutoscaler", &old_fashioned), [""; 0]);
    let old = made("autoscaling", "HorizontalPodAutoscaler", &asleep);
    let new = with(&old, &json!({"status": {"currentReplicas": -1, "desiredReplicas": 2}}));
    let told = autoscaler_status(&new, &old);
    assert_eq!(
        told[0].to_string(),
        "status.currentReplicas: Invalid value: -1: must be greater than or equal to 0"
    );
    assert_eq!(told.len(), 1);
}
