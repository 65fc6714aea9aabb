use serde_json::{Value, json};

use crate::convert::{from_storage, to_storage};
use crate::kind::Kinds;

/// How an object of a removed version is stored; shown in that version again, it must be what it was.
fn stored(mut object: Value) -> Value {
    let text = |key: &str| object[key].as_str().unwrap().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap();
    let kinds = Kinds::builtin();
    let row = kinds.kind(group, version, &kind).unwrap();
    let given = object.clone();
    to_storage(row, version, &mut object);
    let mut shown = object.clone();
    from_storage(row, version, &mut shown);
    assert_eq!(shown, given, "{api_version} {kind} there and back");
    object
}

#[test]
fn a_rollback_is_an_annotation() {
    for group in ["extensions", "apps"] {
        let object =
            stored(json!({"apiVersion": format!("{group}/v1beta1"), "kind": "Deployment", "metadata": {},
            "spec": {"replicas": 1, "rollbackTo": {"revision": 3}}}));
        assert_eq!(
            object,
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 1},
                "metadata": {"annotations": {"deprecated.deployment.rollback.to": "3"}}})
        );
    }
}

#[test]
fn the_generation_of_a_template_is_an_annotation() {
    let object = stored(json!({"apiVersion": "extensions/v1beta1", "kind": "DaemonSet",
        "metadata": {"annotations": {"a": "b"}}, "spec": {"templateGeneration": 4}}));
    assert_eq!(object["spec"], json!({}));
    assert_eq!(
        object["metadata"]["annotations"],
        json!({"a": "b", "deprecated.daemonset.template.generation": "4"})
    );
}

#[test]
fn a_backend_is_a_service_or_a_resource() {
    let resource = json!({"resource": {"kind": "Bucket", "name": "b"}});
    for group in ["extensions", "networking.k8s.io"] {
        let object = stored(json!({"apiVersion": format!("{group}/v1beta1"), "kind": "Ingress", "spec": {
            "backend": {"serviceName": "all", "servicePort": "http"},
            "rules": [{"host": "x", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"serviceName": "web", "servicePort": 80}},
                {"path": "/r", "backend": resource},
                {"path": "/n", "backend": {"serviceName": "none", "servicePort": 0}},
                {"path": "/p", "backend": {"servicePort": 8080}},
                {"path": "/e", "backend": {"servicePort": ""}},
            ]}}, {"host": "y"}]}}));
        assert_eq!(object["apiVersion"], "networking.k8s.io/v1");
        assert_eq!(
            object["spec"]["defaultBackend"],
            json!({"service": {"name": "all", "port": {"name": "http"}}})
        );
        let backends: Vec<&Value> = object["spec"]["rules"][0]["http"]["paths"]
            .as_array()
            .unwrap()
            .iter()
            .map(|path| &path["backend"])
            .collect();
        assert_eq!(*backends[0], json!({"service": {"name": "web", "port": {"number": 80}}}));
        assert_eq!(*backends[1], resource);
        assert_eq!(*backends[2], json!({"service": {"name": "none", "port": {}}}));
        assert_eq!(*backends[3], json!({"service": {"name": "", "port": {"number": 8080}}}));
        assert_eq!(*backends[4], json!({"service": {"name": "", "port": {}}}));
    }
}

#[test]
fn an_empty_selector_of_a_budget_keeps_its_meaning() {
    let beta = |selector: Value| {
        stored(json!({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "spec": {"selector": selector}}))
            ["spec"]["selector"]
            .clone()
    };
    let key = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";
    assert_eq!(beta(json!({})), json!({"matchExpressions": [{"key": key, "operator": "Exists"}]}));
    assert_eq!(beta(json!({"matchLabels": {"a": "b"}})), json!({"matchLabels": {"a": "b"}}));
    assert_eq!(beta(json!({"matchExpressions": [{"key": key, "operator": "DoesNotExist"}]})), json!({}));
}

#[test]
fn metrics_name_what_they_aim_at() {
    let behavior = r#"{"ScaleDown":{"SelectPolicy":"Disabled"}}"#;
    let object = stored(json!({"apiVersion": "autoscaling/v2beta1", "kind": "HorizontalPodAutoscaler",
    "metadata": {"annotations": {"autoscaling.alpha.kubernetes.io/behavior": behavior}},
    "spec": {"metrics": [
        {"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 50}},
        {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}},
        {"type": "ContainerResource",
         "containerResource": {"name": "cpu", "container": "c", "targetAverageUtilization": 60}},
        {"type": "Pods", "pods": {"metricName": "qps", "targetAverageValue": "10", "selector": {}}},
        {"type": "Object", "object": {"metricName": "rps", "targetValue": "5",
            "target": {"kind": "Ingress", "name": "i"}}},
        {"type": "External", "external": {"metricName": "queue", "metricSelector": {"matchLabels": {"q": "a"}},
            "targetValue": "30"}},
    ]},
    "status": {"currentReplicas": 0, "currentMetrics": [
        {"type": "Resource", "resource": {"name": "cpu", "currentAverageUtilization": 7, "currentAverageValue": "1"}},
        {"type": "Object", "object": {"metricName": "rps", "currentValue": "4", "target": {"name": "i"}}},
    ]}}));
    let spec = &object["spec"];
    assert_eq!(spec["behavior"], json!({"scaleDown": {"selectPolicy": "Disabled"}}));
    assert_eq!(object["metadata"], json!({}));
    let metrics = &spec["metrics"];
    assert_eq!(
        metrics[0]["resource"],
        json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}})
    );
    assert_eq!(metrics[1]["resource"]["target"], json!({"type": "AverageValue", "averageValue": "1Gi"}));
    assert_eq!(metrics[2]["containerResource"]["container"], "c");
    assert_eq!(
        metrics[3]["pods"],
        json!({"metric": {"name": "qps", "selector": {}}, "target": {"type": "AverageValue", "averageValue": "10"}})
    );
    assert_eq!(
        metrics[4]["object"],
        json!({"metric": {"name": "rps"}, "target": {"type": "Value", "value": "5"},
               "describedObject": {"kind": "Ingress", "name": "i"}})
    );
    assert_eq!(
        metrics[5]["external"],
        json!({"metric": {"name": "queue", "selector": {"matchLabels": {"q": "a"}}},
               "target": {"type": "Value", "value": "30"}})
    );
    let current = &object["status"]["currentMetrics"];
    assert_eq!(
        current[0]["resource"],
        json!({"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "1"}})
    );
    assert_eq!(current[1]["object"]["current"], json!({"value": "4"}));
}

#[test]
fn subjects_of_the_oldest_bindings_get_a_group() {
    let alpha = "rbac.authorization.k8s.io/v1alpha1";
    let object = stored(json!({"apiVersion": alpha, "kind": "ClusterRoleBinding", "subjects": [
        {"kind": "User", "apiVersion": alpha, "name": "u"},
        {"kind": "ServiceAccount", "apiVersion": "v1", "name": "s", "namespace": "n"},
        {"kind": "Thing", "apiVersion": "example.com/", "name": "t"}]}));
    assert_eq!(
        object["subjects"],
        json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "u"},
               {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
               {"kind": "Thing", "apiGroup": "example.com", "name": "t"}])
    );
    let kinds = Kinds::builtin();
    let row = kinds.kind("rbac.authorization.k8s.io", "v1alpha1", "RoleBinding").unwrap();
    let mut everybody = json!({"subjects": [{"kind": "User", "name": "*", "apiVersion": alpha}]});
    to_storage(row, "v1alpha1", &mut everybody);
    assert_eq!(
        everybody["subjects"][0],
        json!({"kind": "Group", "name": "system:authenticated", "apiGroup": "rbac.authorization.k8s.io"})
    );
}

#[test]
fn the_topology_of_an_endpoint_is_its_zone_and_its_node() {
    let object =
        stored(json!({"apiVersion": "discovery.k8s.io/v1beta1", "kind": "EndpointSlice", "endpoints": [
        {"addresses": ["10.0.0.1"], "nodeName": "n1", "topology": {"kubernetes.io/hostname": "n1",
            "topology.kubernetes.io/zone": "z", "other": "o"}},
        {"addresses": ["10.0.0.2"], "nodeName": "n1", "topology": {"kubernetes.io/hostname": "differs"}},
        {"addresses": ["10.0.0.3"]}]}));
    assert_eq!(
        object["endpoints"],
        json!([{"addresses": ["10.0.0.1"], "nodeName": "n1", "zone": "z", "deprecatedTopology": {"other": "o"}},
               {"addresses": ["10.0.0.2"], "nodeName": "n1",
                "deprecatedTopology": {"kubernetes.io/hostname": "differs"}},
               {"addresses": ["10.0.0.3"]}])
    );
}

#[test]
fn a_definition_says_for_each_version_what_it_said_for_all() {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}});
    let object =
        stored(json!({"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "networks.example.com"}, "spec": {"group": "example.com", "version": "v1",
            "preserveUnknownFields": true, "validation": schema, "subresources": {"status": {}},
            "additionalPrinterColumns": [{"name": "A", "type": "string", "JSONPath": ".spec.a"}],
            "conversion": {"strategy": "Webhook", "webhookClientConfig": {"url": "https://x"},
                           "conversionReviewVersions": ["v1beta1"]},
            "versions": [{"name": "v1", "served": true, "storage": true},
                         {"name": "v2", "served": true, "storage": false}]}}));
    let spec = &object["spec"];
    assert_eq!(spec.get("version"), None);
    assert_eq!(spec.get("validation"), None);
    let column = json!({"name": "A", "type": "string", "jsonPath": ".spec.a"});
    for version in spec["versions"].as_array().unwrap() {
        assert_eq!(version["schema"], schema);
        assert_eq!(version["subresources"], json!({"status": {}}));
        assert_eq!(version["additionalPrinterColumns"], json!([column]));
    }
    assert_eq!(
        spec["conversion"],
        json!({"strategy": "Webhook",
               "webhook": {"clientConfig": {"url": "https://x"}, "conversionReviewVersions": ["v1beta1"]}})
    );
    assert_eq!(spec["preserveUnknownFields"], true);
    assert!(super::definitions::is_legacy(&object));
}

#[test]
fn versions_that_differ_keep_what_is_theirs() {
    let schema = |ty: &str| json!({"openAPIV3Schema": {"type": "object", "description": ty}});
    let object =
        stored(json!({"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition",
        "metadata": {}, "spec": {"version": "v1", "preserveUnknownFields": false, "versions": [
            {"name": "v1", "schema": schema("a")}, {"name": "v2", "schema": schema("b")}]}}));
    assert_eq!(object["spec"]["versions"][1]["schema"], schema("b"));
    assert_eq!(object["spec"].get("preserveUnknownFields"), None);
}

#[test]
fn old_webhooks_may_have_side_effects() {
    let kinds = Kinds::builtin();
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        let row = kinds.kind("admissionregistration.k8s.io", "v1beta1", kind).unwrap();
        for (version, good) in [("v1beta1", true), ("v1", false)] {
            let mut object = json!({"apiVersion": format!("admissionregistration.k8s.io/{version}"), "kind": kind,
                "metadata": {"name": "a"}, "webhooks": [{"name": "a.b.c", "clientConfig": {"url": "https://x"}}]});
            (row.hooks.default)(version, &mut object);
            to_storage(row, version, &mut object);
            let errors = (row.hooks.validate_create)(&object);
            assert_eq!(errors.is_empty(), good, "{version} {kind}: {errors:?}");
            assert_eq!((row.hooks.update.validate)(&object, &object).is_empty(), good, "{version} {kind}");
        }
    }
}
