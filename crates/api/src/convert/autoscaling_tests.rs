use serde_json::json;

use super::*;
use crate::convert::{from_storage, to_storage};
use crate::kind::{Kind, Kinds};

fn row() -> std::sync::Arc<Kind> {
    Kinds::builtin().group_resource("autoscaling", "horizontalpodautoscalers").unwrap().clone()
}

fn target(of: &Value) -> Value {
    let amount = match of["type"].as_str().unwrap() {
        "Utilization" => ("averageUtilization", &of["n"]),
        "Value" => ("value", &of["n"]),
        _ => ("averageValue", &of["n"]),
    };
    json!({"type": of["type"], amount.0: amount.1})
}

/// One metric of each source and each kind of target that is valid for it.
fn metrics() -> Value {
    let mut all = vec![];
    let named = json!({"name": "m", "selector": {"matchLabels": {"a": "b"}}});
    for (kind, field) in [("Resource", "resource"), ("ContainerResource", "containerResource")] {
        for of in [json!({"type": "Utilization", "n": 50}), json!({"type": "AverageValue", "n": "3"})] {
            let mut source = json!({"name": "memory", "target": target(&of)});
            if field == "containerResource" {
                source["container"] = "c".into();
            }
            all.push(json!({"type": kind, field: source}));
        }
    }
    let average = target(&json!({"type": "AverageValue", "n": "2"}));
    let value = target(&json!({"type": "Value", "n": "1"}));
    all.push(json!({"type": "Pods", "pods": {"metric": named, "target": average}}));
    for target in [&average, &value] {
        all.push(json!({"type": "External", "external": {"metric": named, "target": target}}));
        let object = json!({"kind": "Service", "name": "s", "apiVersion": "v1"});
        all.push(json!({"type": "Object",
            "object": {"describedObject": object, "metric": named, "target": target}}));
    }
    all.into()
}

#[test]
fn an_older_client_loses_nothing_of_a_newer_autoscaler() {
    let row = row();
    let mut metrics = metrics();
    metrics.as_array_mut().unwrap().push(json!({"type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}));
    let stored = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "annotations": {"mine": "kept"}},
        "spec": {"minReplicas": 2, "maxReplicas": 5, "metrics": metrics,
            "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
            "behavior": {
                "scaleUp": {"selectPolicy": "Max", "stabilizationWindowSeconds": 0,
                    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]},
                "scaleDown": {"selectPolicy": "Max",
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]},
            }},
        "status": {"currentReplicas": 3, "desiredReplicas": 3,
            "conditions": [{"type": "AbleToScale", "status": "True"}],
            "currentMetrics": [
                {"type": "Resource",
                 "resource": {"name": "cpu", "current": {"averageUtilization": 12, "averageValue": "120m"}}},
                {"type": "Pods", "pods": {"metric": {"name": "m"}, "current": {"averageValue": "3"}}},
            ]},
    });
    let mut older = stored.clone();
    from_storage(&row, "v1", &mut older);
    assert_eq!(older["apiVersion"], "autoscaling/v1");
    assert_eq!(older["spec"]["targetCPUUtilizationPercentage"], 70);
    assert_eq!(older["status"]["currentCPUUtilizationPercentage"], 12);
    assert_eq!((older["spec"].get("metrics"), older["spec"].get("behavior")), (None, None));
    let notes = older["metadata"]["annotations"].as_object().unwrap();
    assert_eq!(notes["mine"], "kept");
    let noted: Value = serde_json::from_str(notes[METRICS].as_str().unwrap()).unwrap();
    assert_eq!(
        noted[0],
        json!({"type": "Resource", "resource": {"name": "memory", "targetAverageUtilization": 50}})
    );
    assert_eq!(
        noted[4],
        json!({"type": "Pods", "pods": {"metricName": "m", "targetAverageValue": "2",
            "selector": {"matchLabels": {"a": "b"}}}})
    );
    let behavior: Value = serde_json::from_str(notes[BEHAVIOR].as_str().unwrap()).unwrap();
    assert_eq!(behavior["ScaleUp"]["Policies"][0]["PeriodSeconds"], 15);
    to_storage(&row, "v1", &mut older);
    assert_eq!(older, stored);
}

#[test]
fn an_autoscaler_without_metrics_watches_the_cpu() {
    let row = row();
    let mut plain = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3}});
    (row.hooks.default)("v1", &mut plain);
    assert_eq!(plain["spec"], json!({"maxReplicas": 3, "minReplicas": 1}));
    to_storage(&row, "v1", &mut plain);
    let target = &plain["spec"]["metrics"][0]["resource"]["target"];
    assert_eq!(*target, json!({"type": "Utilization", "averageUtilization": 80}));
    from_storage(&row, "v1", &mut plain);
    assert_eq!(plain["spec"]["targetCPUUtilizationPercentage"], 80);
    assert_eq!(plain["metadata"].get("annotations"), None);
}

#[test]
fn annotations_of_a_wrong_shape_are_dropped() {
    let row = row();
    for wrong in ["{", "7", r#"[{"type": 7}]"#, r#"[{"resource": {"name": {}}, "type": {}}]"#, "null"] {
        let mut object = json!({"metadata": {"annotations":
            {METRICS: wrong, BEHAVIOR: wrong, CONDITIONS: wrong, CURRENT_METRICS: wrong}},
            "spec": {"maxReplicas": 3}, "status": {}});
        to_storage(&row, "v1", &mut object);
        assert_eq!(object["metadata"], json!({}), "{wrong}");
        assert_eq!(object["spec"]["metrics"].as_array().unwrap().len(), 1, "{wrong}");
        assert_eq!((object["spec"].get("behavior"), &object["status"]), (None, &json!({})), "{wrong}");
    }
}
