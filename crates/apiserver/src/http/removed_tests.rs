use serde_json::{Value, json};

use crate::ApiServer;
use crate::testing::{ADVERTISED, ask, config, json, server};
use tiphys_store::Memory;

fn deployment(version: &str) -> Value {
    json!({"apiVersion": version, "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": {
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn an_old_manifest_makes_what_todays_clients_see() {
    let server = server().await;
    let old = "/apis/extensions/v1beta1/namespaces/default/deployments";
    let new = "/apis/apps/v1/namespaces/default/deployments/web";
    let body = deployment("extensions/v1beta1").to_string();
    let made = ask(&server, "POST", old, &[("content-type", "application/json")], body).await;
    assert_eq!(made.code, 201, "{}", made.json());
    assert_eq!(made.json()["apiVersion"], "extensions/v1beta1");
    assert_eq!(
        made.headers["warning"],
        "299 - \"extensions/v1beta1 Deployment is deprecated in v1.8+, unavailable in v1.16+; use apps/v1 Deployment\""
    );
    let (code, seen) = json(&server, "GET", new, Value::Null).await;
    assert_eq!(code, 200);
    assert_eq!(seen["apiVersion"], "apps/v1");
    assert_eq!(seen["spec"]["selector"], json!({"matchLabels": {"app": "web"}}));
    assert_eq!(seen["spec"]["strategy"]["rollingUpdate"], json!({"maxSurge": 1, "maxUnavailable": 1}));
    let shown = ask(&server, "GET", new, &[], "").await;
    assert!(!shown.headers.contains_key("warning"));

    let patch = json!({"spec": {"replicas": 3}}).to_string();
    let headers = [("content-type", "application/strategic-merge-patch+json")];
    let path = format!("{old}/web");
    assert_eq!(ask(&server, "PATCH", &path, &headers, patch).await.json()["spec"]["replicas"], 3);
    for version in ["extensions/v1beta1", "apps/v1beta1", "apps/v1beta2", "apps/v1"] {
        let (_, list) = json(&server, "GET", &format!("/apis/{version}/deployments"), Value::Null).await;
        assert_eq!(list["apiVersion"], version);
        assert_eq!(list["items"][0]["spec"]["replicas"], 3, "{version}");
    }
    assert_eq!(
        json(&server, "DELETE", &format!("{path}?propagationPolicy=Background"), Value::Null).await.0,
        200
    );
    assert_eq!(json(&server, "GET", new, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_version_applies_what_it_owns() {
    let server = server().await;
    let path = "/apis/networking.k8s.io/v1beta1/namespaces/default/ingresses/web?fieldManager=m";
    let headers = [("content-type", "application/apply-patch+yaml")];
    let ingress = |port: u16| {
        json!({"apiVersion": "networking.k8s.io/v1beta1", "kind": "Ingress", "metadata": {"name": "web"},
            "spec": {"backend": {"serviceName": "web", "servicePort": port}}})
        .to_string()
    };
    assert_eq!(ask(&server, "PATCH", path, &headers, ingress(80)).await.code, 201);
    assert_eq!(ask(&server, "PATCH", path, &headers, ingress(81)).await.code, 200);
    let current = "/apis/networking.k8s.io/v1/namespaces/default/ingresses/web";
    let (_, seen) = json(&server, "GET", current, Value::Null).await;
    assert_eq!(seen["spec"]["defaultBackend"], json!({"service": {"name": "web", "port": {"number": 81}}}));
    assert_eq!(seen["metadata"]["managedFields"][0]["apiVersion"], "networking.k8s.io/v1beta1");
}

#[tokio::test]
async fn owners_in_one_group_stay_when_another_group_is_written() {
    let server = server().await;
    let patch = async |group: &str, manager: &str, body: Value| {
        let path = format!("/apis/{group}/namespaces/default/deployments/web?fieldManager={manager}");
        let headers = [("content-type", "application/apply-patch+yaml")];
        let answer = ask(&server, "PATCH", &path, &headers, body.to_string()).await;
        assert!(answer.code < 300, "{}", answer.json());
        answer.json()
    };
    let mut current = deployment("apps/v1");
    current["spec"]["selector"] = json!({"matchLabels": {"app": "web"}});
    patch("apps/v1", "one", current.clone()).await;
    let labelled = json!({"apiVersion": "extensions/v1beta1", "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"a": "b"}}});
    let seen = patch("extensions/v1beta1", "two", labelled).await;
    let owners: Vec<_> = seen["metadata"]["managedFields"].as_array().unwrap().iter().collect();
    let versions: Vec<_> = owners.iter().map(|o| (&o["manager"], &o["apiVersion"])).collect();
    assert_eq!(versions, [(&json!("one"), &json!("apps/v1")), (&json!("two"), &json!("extensions/v1beta1"))]);
    // What one does not apply any more goes, for it is known to be one's own.
    current["metadata"]["labels"] = json!({"c": "d"});
    patch("apps/v1", "one", current.clone()).await;
    current["metadata"]["labels"] = json!({});
    let seen = patch("apps/v1", "one", current).await;
    assert_eq!(seen["metadata"]["labels"], json!({"a": "b"}));
}

#[tokio::test]
async fn an_old_definition_needs_no_schema_and_no_approval() {
    let server = server().await;
    let definitions = "/apis/apiextensions.k8s.io/v1beta1/customresourcedefinitions";
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "networks.samplecrd.k8s.io"}, "spec": {"group": "samplecrd.k8s.io", "version": "v1",
            "names": {"kind": "Network", "plural": "networks"}, "scope": "Namespaced"}});
    let (code, made) = json(&server, "POST", definitions, definition).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(
        (&made["spec"]["version"], &made["spec"]["preserveUnknownFields"]),
        (&json!("v1"), &json!(true))
    );
    assert_eq!(made["metadata"].get("annotations"), None);
    let mut kinds = server.registry().watch_kinds();
    kinds.wait_for(|kinds| kinds.kind("samplecrd.k8s.io", "v1", "Network").is_some()).await.unwrap();
    let network = json!({"apiVersion": "samplecrd.k8s.io/v1", "kind": "Network", "metadata": {"name": "a"},
        "spec": {"cidr": "192.168.0.0/16", "deep": {"anything": [1]}}});
    let networks = "/apis/samplecrd.k8s.io/v1/namespaces/default/networks";
    let (code, made) = json(&server, "POST", networks, network.clone()).await;
    assert_eq!((code, &made["spec"]), (201, &network["spec"]));
    let current = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/networks.samplecrd.k8s.io";
    let (_, seen) = json(&server, "GET", current, Value::Null).await;
    assert_eq!(seen["spec"]["versions"][0]["name"], "v1");
    assert_eq!(seen["spec"].get("version"), None);
}

#[tokio::test]
async fn without_the_switch_old_versions_are_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let pki = std::sync::Arc::new(tiphys_pki::Pki::open(dir.path()).unwrap());
    let config = crate::Config { removed_apis: false, ..config(pki, ADVERTISED) };
    let server = ApiServer::start(config, std::sync::Arc::new(Memory::new())).await.unwrap();
    for path in ["/apis/extensions/v1beta1", "/apis/extensions/v1beta1/deployments", "/apis/apps/v1beta1"] {
        assert_eq!(json(&server, "GET", path, Value::Null).await.0, 404, "{path}");
    }
    assert_eq!(json(&server, "GET", "/apis/apps/v1/deployments", Value::Null).await.0, 200);
}

#[tokio::test]
async fn reviews_and_flows_are_spoken_in_their_betas() {
    let server = server().await;
    let reviews = "/apis/authorization.k8s.io/v1beta1/subjectaccessreviews";
    let review = json!({"apiVersion": "authorization.k8s.io/v1beta1", "kind": "SubjectAccessReview", "spec": {
        "group": ["system:masters"], "nonResourceAttributes": {"path": "/x", "verb": "get"}}});
    let answer =
        ask(&server, "POST", reviews, &[("content-type", "application/json")], review.to_string()).await;
    assert_eq!((answer.code, &answer.json()["status"]["allowed"]), (201, &json!(true)));
    assert_eq!(answer.json()["spec"], review["spec"]);
    assert_eq!(answer.json()["apiVersion"], "authorization.k8s.io/v1beta1");
    assert_eq!(
        answer.headers["warning"],
        "299 - \"authorization.k8s.io/v1beta1 SubjectAccessReview is deprecated in v1.19+, unavailable in v1.22+; use \
         authorization.k8s.io/v1 SubjectAccessReview\""
    );
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1beta1", "kind": "TokenReview", "spec": {"token": "x"}});
    let (code, answer) =
        json(&server, "POST", "/apis/authentication.k8s.io/v1beta1/tokenreviews", review).await;
    assert_eq!((code, answer["status"]["error"].is_string()), (201, true), "{answer}");

    let level = |version: &str, shares: Value| {
        json!({"apiVersion": format!("flowcontrol.apiserver.k8s.io/{version}"), "kind": "PriorityLevelConfiguration",
            "metadata": {"name": "l"}, "spec": {"type": "Limited", "limited": shares}})
    };
    let of =
        |version: &str| format!("/apis/flowcontrol.apiserver.k8s.io/{version}/prioritylevelconfigurations");
    let reject = json!({"type": "Reject"});
    let limited = json!({"assuredConcurrencyShares": 7, "limitResponse": reject});
    let (code, made) = json(&server, "POST", &of("v1beta1"), level("v1beta1", limited)).await;
    assert_eq!((code, &made["spec"]["limited"]["assuredConcurrencyShares"]), (201, &json!(7)), "{made}");
    for (version, field) in [
        ("v1", "nominalConcurrencyShares"),
        ("v1beta3", "nominalConcurrencyShares"),
        ("v1beta2", "assuredConcurrencyShares"),
    ] {
        let (_, seen) = json(&server, "GET", &format!("{}/l", of(version)), Value::Null).await;
        assert_eq!(seen["spec"]["limited"][field], 7, "{version}: {seen}");
    }
    let (code, services) =
        json(&server, "GET", "/apis/apiregistration.k8s.io/v1beta1/apiservices", Value::Null).await;
    assert_eq!((code, &services["apiVersion"]), (200, &json!("apiregistration.k8s.io/v1beta1")));
}

#[tokio::test]
async fn what_is_applied_no_more_goes_alone_whatever_versions_its_owners_speak() {
    let server = server().await;
    let path = |version: &str| format!("/apis/{version}/namespaces/default/poddisruptionbudgets/web");
    let apply = async |version: &str, labels: Value, spec: Value| {
        let body = json!({"apiVersion": version, "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "labels": labels}, "spec": spec});
        let (path, headers) = (path(version), [("content-type", "application/apply-patch+yaml")]);
        let path = format!("{path}?fieldManager=helm");
        let answer = ask(&server, "PATCH", &path, &headers, body.to_string()).await;
        assert!(answer.code < 300, "{version}: {}", answer.json());
        answer.json()
    };
    let selector = json!({"matchLabels": {"app": "web"}});
    apply("policy/v1beta1", json!({"a": "b", "c": "d"}), json!({"minAvailable": 1, "selector": selector}))
        .await;
    // Somebody else owns fields in the current version, and nothing of the metadata or the spec.
    let status = json!({"status": {"disruptionsAllowed": 1}}).to_string();
    let merge = [("content-type", "application/merge-patch+json")];
    let told = path("policy/v1") + "/status?fieldManager=controller";
    assert_eq!(ask(&server, "PATCH", &told, &merge, status).await.code, 200);

    for (version, labels) in
        [("policy/v1beta1", json!({"c": "d"})), ("policy/v1", json!({})), ("policy/v1beta1", json!({}))]
    {
        let seen = apply(version, labels.clone(), json!({"selector": selector})).await;
        assert_eq!(seen["metadata"]["labels"].as_object().is_some_and(|l| !l.is_empty()), labels["c"] == "d");
        assert_eq!(seen["spec"], json!({"selector": selector}), "{version}");
        assert_eq!(seen["status"]["disruptionsAllowed"], 1, "{version}");
        assert!(seen["metadata"]["uid"].is_string() && seen["metadata"]["resourceVersion"].is_string());
    }
}
