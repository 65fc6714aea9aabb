use serde_json::json;

use super::*;
use crate::kind::Kinds;

/// What a version makes of the `spec` of a workload.
fn defaulted(group: &str, version: &str, kind: &str, spec: Value) -> Value {
    let kinds = Kinds::builtin();
    let row = kinds.kind(group, version, kind).unwrap();
    let mut object = json!({"apiVersion": format!("{group}/{version}"), "kind": kind, "metadata": {"name": "a"},
        "spec": spec});
    (row.hooks.default)(version, &mut object);
    object
}

fn workload(group: &str, version: &str, kind: &str) -> Value {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}});
    defaulted(group, version, kind, json!({"template": template}))
}

#[test]
fn deployments_default_by_version() {
    let unlimited = json!(i32::MAX);
    for (group, version, surge, history, deadline, selects) in [
        ("extensions", "v1beta1", json!(1), unlimited.clone(), unlimited, true),
        ("apps", "v1beta1", json!("25%"), json!(2), json!(600), true),
        ("apps", "v1beta2", json!("25%"), json!(10), json!(600), false),
        ("apps", "v1", json!("25%"), json!(10), json!(600), false),
    ] {
        let object = workload(group, version, "Deployment");
        let (spec, name) = (&object["spec"], format!("{group}/{version}"));
        assert_eq!(spec["strategy"]["type"], "RollingUpdate", "{name}");
        assert_eq!(
            spec["strategy"]["rollingUpdate"],
            json!({"maxSurge": surge, "maxUnavailable": surge}),
            "{name}"
        );
        assert_eq!(spec["revisionHistoryLimit"], history, "{name}");
        assert_eq!(spec["progressDeadlineSeconds"], deadline, "{name}");
        assert_eq!(spec["replicas"], 1, "{name}");
        let selector = selects.then(|| json!({"matchLabels": {"app": "web"}}));
        assert_eq!(spec.get("selector").cloned(), selector, "{name}");
        let labels = selects.then(|| json!({"app": "web"}));
        assert_eq!(object["metadata"].get("labels").cloned(), labels, "{name}");
    }
}

#[test]
fn what_is_given_stays() {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}});
    let spec = json!({"template": template, "selector": {"matchLabels": {"x": "y"}}, "revisionHistoryLimit": 7,
        "strategy": {"type": "Recreate"}});
    let object = defaulted("extensions", "v1beta1", "Deployment", spec);
    assert_eq!(object["spec"]["selector"], json!({"matchLabels": {"x": "y"}}));
    assert_eq!(object["spec"]["revisionHistoryLimit"], 7);
    assert_eq!(object["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
fn sets_default_by_version() {
    for (group, version, kind, strategy, selects) in [
        ("extensions", "v1beta1", "DaemonSet", "OnDelete", true),
        ("apps", "v1beta2", "DaemonSet", "RollingUpdate", false),
        ("apps", "v1", "DaemonSet", "RollingUpdate", false),
        ("apps", "v1beta1", "StatefulSet", "OnDelete", true),
        ("apps", "v1beta2", "StatefulSet", "RollingUpdate", false),
        ("apps", "v1", "StatefulSet", "RollingUpdate", false),
    ] {
        let object = workload(group, version, kind);
        assert_eq!(object["spec"]["updateStrategy"]["type"], strategy, "{group}/{version} {kind}");
        assert_eq!(object["spec"].get("selector").is_some(), selects, "{group}/{version} {kind}");
    }
    for (group, version, selects) in [("extensions", "v1beta1", true), ("apps", "v1beta2", false)] {
        let object = workload(group, version, "ReplicaSet");
        assert_eq!(object["spec"]["replicas"], 1);
        assert_eq!(object["spec"].get("selector").is_some(), selects, "{group}/{version}");
    }
}

#[test]
fn a_stored_object_gets_the_current_defaults_alone() {
    let kinds = Kinds::builtin();
    let row = kinds.kind("extensions", "v1beta1", "Deployment").unwrap();
    let mut stored =
        json!({"apiVersion": "apps/v1", "spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
    (row.hooks.default)("v1", &mut stored);
    assert_eq!(stored["spec"]["revisionHistoryLimit"], 10);
    assert_eq!(stored["spec"].get("selector"), None);
}

#[test]
fn other_kinds_default_by_version() {
    let paths = json!({"rules": [{"http": {"paths": [{"backend": {}}, {"pathType": "Exact"}]}}]});
    for group in ["extensions", "networking.k8s.io"] {
        let ingress = defaulted(group, "v1beta1", "Ingress", paths.clone());
        let paths = &ingress["spec"]["rules"][0]["http"]["paths"];
        assert_eq!(
            (&paths[0]["pathType"], &paths[1]["pathType"]),
            (&json!("ImplementationSpecific"), &json!("Exact"))
        );
    }
    let current = defaulted("networking.k8s.io", "v1", "Ingress", paths);
    assert_eq!(current["spec"]["rules"][0]["http"]["paths"][0].get("pathType"), None);

    let scaler = defaulted("autoscaling", "v2beta1", "HorizontalPodAutoscaler", json!({}));
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 80}});
    assert_eq!(scaler["spec"], json!({"minReplicas": 1, "metrics": [metric]}));

    let request = defaulted("certificates.k8s.io", "v1beta1", "CertificateSigningRequest", json!({}));
    assert_eq!(request["spec"]["signerName"], "kubernetes.io/legacy-unknown");
    assert_eq!(request["spec"]["usages"], json!(["digital signature", "key encipherment"]));
    let request = defaulted("certificates.k8s.io", "v1", "CertificateSigningRequest", json!({}));
    assert_eq!(request["spec"].get("usages"), None);
}

#[test]
fn subjects_of_the_oldest_bindings_get_a_version() {
    let kinds = Kinds::builtin();
    let row = kinds.kind("rbac.authorization.k8s.io", "v1alpha1", "RoleBinding").unwrap();
    let mut binding = json!({"roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}, {"kind": "X"}]});
    (row.hooks.default)("v1alpha1", &mut binding);
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][0]["apiVersion"], "rbac.authorization.k8s.io/v1alpha1");
    assert_eq!(binding["subjects"][1]["apiVersion"], "v1");
    assert_eq!(binding["subjects"][2].get("apiVersion"), None);
}

#[test]
fn old_webhooks_are_more_lenient() {
    let kinds = Kinds::builtin();
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        let row = kinds.kind("admissionregistration.k8s.io", "v1beta1", kind).unwrap();
        let mut old = json!({"webhooks": [{"name": "a.b.c"}, {"name": "d.e.f", "failurePolicy": "Fail"}]});
        (row.hooks.default)("v1beta1", &mut old);
        let webhook = &old["webhooks"][0];
        assert_eq!(webhook["failurePolicy"], "Ignore");
        assert_eq!(webhook["matchPolicy"], "Exact");
        assert_eq!(webhook["sideEffects"], "Unknown");
        assert_eq!(webhook["timeoutSeconds"], 30);
        assert_eq!(webhook["admissionReviewVersions"], json!(["v1beta1"]));
        assert_eq!(old["webhooks"][1]["failurePolicy"], "Fail");
    }
}

#[test]
fn no_shares_meant_thirty() {
    let group = "flowcontrol.apiserver.k8s.io";
    let shares = |version: &str, limited: Value| {
        let spec = json!({"type": "Limited", "limited": limited});
        defaulted(group, version, "PriorityLevelConfiguration", spec)["spec"]["limited"].clone()
    };
    for (version, field) in [
        ("v1beta1", "assuredConcurrencyShares"),
        ("v1beta2", "assuredConcurrencyShares"),
        ("v1beta3", "nominalConcurrencyShares"),
    ] {
        for limited in [json!({}), json!({field: 0})] {
            assert_eq!(shares(version, limited), json!({field: 30, "lendablePercent": 0}), "{version}");
        }
        assert_eq!(shares(version, json!({field: 7}))[field], 7, "{version}");
    }
    assert_eq!(shares("v1", json!({"nominalConcurrencyShares": 0}))["nominalConcurrencyShares"], 0);
    let kinds = Kinds::builtin();
    let row = kinds.kind(group, "v1", "PriorityLevelConfiguration").unwrap();
    let mut none = json!({"apiVersion": format!("{group}/v1"), "metadata": {"name": "a"},
        "spec": {"limited": {"nominalConcurrencyShares": 0}}});
    let stored = none.clone();
    (row.hooks.from_storage)("v1beta3", &mut none);
    (row.hooks.default)("v1beta3", &mut none);
    assert_eq!(none["spec"]["limited"]["nominalConcurrencyShares"], 0, "it is said that none means none");
    (row.hooks.to_storage)("v1beta3", &mut none);
    assert_eq!(none["metadata"], stored["metadata"]);
}
