use serde_json::{Value, json};

use super::*;
use crate::ApiServer;
use crate::identity::Component;
use crate::testing::{ask, ask_as, json as send, server};

const PODS: &str = "/api/v1/namespaces/default/pods";
const FIRST: &str = "first.initializer.example.com";
const SECOND: &str = "second.initializer.example.com";
const ALL: &str = "includeUninitialized=true";

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn configuration(name: &str, initializers: &[&str]) -> Value {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
    let initializers: Vec<_> = initializers.iter().map(|i| json!({"name": i, "rules": [rule]})).collect();
    json!({"apiVersion": "admissionregistration.k8s.io/v1alpha1", "kind": "InitializerConfiguration",
        "metadata": {"name": name}, "initializers": initializers})
}

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1alpha1/initializerconfigurations";

/// A server whose new pods have to be seen by these.
async fn with(initializers: &[&str]) -> ApiServer {
    let server = server().await;
    let account = json!({"metadata": {"name": "default"}});
    assert_eq!(send(&server, "POST", "/api/v1/namespaces/default/serviceaccounts", account).await.0, 201);
    let (code, made) = send(&server, "POST", CONFIGURATIONS, configuration("c", initializers)).await;
    assert_eq!(code, 201, "{made}");
    server.registry().cache().wait_newest().await.unwrap();
    server
}

/// Makes a pod without waiting for its initializers.
async fn made(server: &ApiServer, pod: Value) -> (u16, Value) {
    send(server, "POST", &format!("{PODS}?{ALL}"), pod).await
}

fn pending(object: &Value) -> Vec<&str> {
    let list = object["metadata"]["initializers"]["pending"].as_array();
    list.into_iter().flatten().filter_map(|i| i["name"].as_str()).collect()
}

/// Leaves these names in the list.
async fn leave(server: &ApiServer, who: &Component, name: &str, names: &[&str]) -> (u16, Value) {
    let list: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
    let patch = json!({"metadata": {"initializers": {"pending": list}}}).to_string();
    let headers = [("content-type", "application/merge-patch+json")];
    let answer = ask_as(server, who, "PATCH", &format!("{PODS}/{name}"), &headers, patch).await;
    (answer.code, answer.json())
}

#[tokio::test]
async fn an_object_is_hidden_until_all_have_seen_it_in_their_order() {
    let server = with(&[FIRST, SECOND]).await;
    let (code, object) = made(&server, pod("a")).await;
    assert_eq!(code, 202, "{object}");
    assert_eq!(pending(&object), [FIRST, SECOND]);
    let seen = |query: &'static str| {
        let server = &server;
        async move { send(server, "GET", &format!("{PODS}/a{query}"), Value::Null).await.0 }
    };
    assert_eq!((seen("").await, seen("?includeUninitialized=true").await), (404, 200));
    let (_, hidden) = send(&server, "GET", PODS, Value::Null).await;
    let (_, shown) = send(&server, "GET", &format!("{PODS}?{ALL}"), Value::Null).await;
    assert_eq!((hidden["items"].as_array().unwrap().len(), shown["items"].as_array().unwrap().len()), (0, 1));

    let me = &Component::ApiServer;
    let (code, refused) = leave(&server, me, "a", &[FIRST]).await;
    assert_eq!(
        (code, &refused["details"]["causes"][0]["field"]),
        (422, &json!("metadata.initializers.pending"))
    );
    let (code, object) = leave(&server, me, "a", &[SECOND]).await;
    assert_eq!((code, pending(&object)), (200, vec![SECOND]));
    assert_eq!(seen("").await, 404);
    let (code, object) = leave(&server, me, "a", &[]).await;
    assert_eq!((code, object["metadata"].get("initializers")), (200, None));
    assert_eq!(seen("").await, 200);
    let (code, refused) = leave(&server, me, "a", &[FIRST]).await;
    assert_eq!(code, 422, "{refused}");
}

#[tokio::test]
async fn a_watcher_is_told_of_the_object_when_it_is_complete() {
    let server = with(&[FIRST]).await;
    let (_, list) = send(&server, "GET", PODS, Value::Null).await;
    let since = list["metadata"]["resourceVersion"].as_str().unwrap();
    made(&server, pod("a")).await;
    leave(&server, &Component::ApiServer, "a", &[]).await;
    let events = async |query: &str| {
        let path = format!("{PODS}?watch=true&timeoutSeconds=1&resourceVersion={since}{query}");
        let answer = ask(&server, "GET", &path, &[], "").await;
        let events = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
        events.map(|e| e.unwrap()["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(events("").await, ["ADDED"]);
    assert_eq!(events("&includeUninitialized=true").await, ["ADDED", "MODIFIED"]);
}

#[tokio::test]
async fn who_makes_an_object_waits_for_it() {
    let server = with(&[FIRST]).await;
    let waits = send(&server, "POST", PODS, pod("a"));
    let initializes = async {
        let mut collection = server.registry().cache().collection("", "pods").unwrap().changes();
        while send(&server, "GET", &format!("{PODS}/a?{ALL}"), Value::Null).await.0 != 200 {
            collection.changed().await.unwrap();
        }
        let patch = json!({"metadata": {"initializers": null, "labels": {"seen": "yes"}}}).to_string();
        let headers = [("content-type", "application/merge-patch+json")];
        assert_eq!(ask(&server, "PATCH", &format!("{PODS}/a"), &headers, patch).await.code, 200);
    };
    let ((code, object), ()) = tokio::join!(waits, initializes);
    assert_eq!((code, &object["metadata"]["labels"]), (201, &json!({"seen": "yes"})));
}

#[tokio::test]
async fn a_rejected_object_is_gone_and_its_maker_learns_why() {
    let server = with(&[FIRST]).await;
    let mut held = pod("a");
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    let waits = send(&server, "POST", PODS, held);
    let rejects = async {
        let mut collection = server.registry().cache().collection("", "pods").unwrap().changes();
        while send(&server, "GET", &format!("{PODS}/a?{ALL}"), Value::Null).await.0 != 200 {
            collection.changed().await.unwrap();
        }
        let patch = |status: &str| {
            let result =
                json!({"status": status, "reason": "Forbidden", "message": "no sidecar", "code": 403});
            json!({"metadata": {"initializers": {"result": result}}}).to_string()
        };
        let headers = [("content-type", "application/merge-patch+json")];
        let path = format!("{PODS}/a");
        assert_eq!(ask(&server, "PATCH", &path, &headers, patch("Success")).await.code, 422);
        assert_eq!(ask(&server, "PATCH", &path, &headers, patch("Failure")).await.code, 200);
    };
    let ((code, refused), ()) = tokio::join!(waits, rejects);
    assert_eq!(
        (code, &refused["reason"], &refused["message"]),
        (403, &json!("Forbidden"), &json!("no sidecar"))
    );
    server.registry().cache().wait_newest().await.unwrap();
    assert_eq!(send(&server, "GET", &format!("{PODS}/a?{ALL}"), Value::Null).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let server = with(&[FIRST]).await;
    let (code, late) = send(&server, "POST", PODS, pod("a")).await;
    assert_eq!((code, &late["reason"]), (504, &json!("Timeout")), "{late}");
}

#[tokio::test]
async fn only_who_may_initialize_has_a_say() {
    let server = with(&[FIRST]).await;
    made(&server, pod("a")).await;
    // It may update pods, which is not enough.
    let stranger = Component::Controller("statefulset-controller");
    let (code, refused) = leave(&server, &stranger, "a", &[]).await;
    assert_eq!(code, 403, "{refused}");
    let mut own = pod("b");
    own["metadata"]["initializers"] = json!({"pending": []});
    let create = async |who: &Component| {
        let path = format!("{PODS}?{ALL}");
        let headers = [("content-type", "application/json")];
        ask_as(&server, who, "POST", &path, &headers, own.to_string()).await
    };
    assert_eq!(create(&stranger).await.code, 403);
    let bypassed = create(&Component::ApiServer).await;
    assert_eq!((bypassed.code, bypassed.json()["metadata"].get("initializers")), (201, None));
    // The list is no part of the status.
    let headers = [("content-type", "application/merge-patch+json")];
    let patch = json!({"metadata": {"initializers": null}}).to_string();
    let status = ask(&server, "PATCH", &format!("{PODS}/a/status"), &headers, patch).await;
    assert_eq!((status.code, pending(&status.json())), (200, vec![FIRST]));
}

#[tokio::test]
async fn what_a_user_may_not_see_it_may_still_delete() {
    let server = with(&[FIRST]).await;
    made(&server, pod("a")).await;
    made(&server, pod("b")).await;
    assert_eq!(send(&server, "DELETE", &format!("{PODS}/a?gracePeriodSeconds=0"), Value::Null).await.0, 200);
    assert_eq!(send(&server, "DELETE", &format!("{PODS}?gracePeriodSeconds=0"), Value::Null).await.0, 200);
    let (_, left) = send(&server, "GET", &format!("{PODS}?{ALL}"), Value::Null).await;
    assert_eq!(left["items"], json!([]));
}

#[tokio::test]
async fn a_pod_that_runs_an_initializer_does_not_wait_for_it() {
    let server = with(&["envoy.initializer.example.com"]).await;
    let labelled = |name: &str, app: &str| {
        let mut pod = pod(name);
        pod["metadata"]["labels"] = json!({"app": app});
        pod
    };
    assert_eq!(made(&server, labelled("a", "envoy-initializer")).await.0, 201);
    assert_eq!(made(&server, labelled("b", "envoy")).await.0, 202);
    // Who may not initialize pods cannot say so for a pod whose account may not either.
    let stranger = Component::Controller("statefulset-controller");
    let path = format!("{PODS}?{ALL}");
    let body = labelled("c", "envoy-initializer").to_string();
    let headers = [("content-type", "application/json")];
    assert_eq!(ask_as(&server, &stranger, "POST", &path, &headers, body.clone()).await.code, 202);
    // The account may, now.
    let role = json!({"metadata": {"name": "i"}, "rules": [{"apiGroups": [""], "resources": ["pods"],
        "verbs": ["initialize"]}]});
    let binding = json!({"metadata": {"name": "i"}, "roleRef": {"kind": "ClusterRole", "name": "i",
        "apiGroup": "rbac.authorization.k8s.io"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]});
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    assert_eq!(send(&server, "POST", &format!("{rbac}/clusterroles"), role).await.0, 201);
    assert_eq!(send(&server, "POST", &format!("{rbac}/clusterrolebindings"), binding).await.0, 201);
    server.registry().cache().wait_newest().await.unwrap();
    let body = labelled("d", "envoy-initializer").to_string();
    assert_eq!(ask_as(&server, &stranger, "POST", &path, &headers, body).await.code, 201);
}

#[tokio::test]
async fn rules_and_annotations_choose_objects() {
    let server = with(&[]).await;
    let mut opted = configuration("b", &[FIRST]);
    opted["metadata"]["annotations"] = json!({OPT_IN: "true"});
    assert_eq!(send(&server, "POST", CONFIGURATIONS, opted).await.0, 201);
    let mut all = configuration("a", &[SECOND]);
    all["initializers"][0]["rules"] =
        json!([{"apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["*"]}]);
    assert_eq!(send(&server, "POST", CONFIGURATIONS, all).await.0, 201);
    server.registry().cache().wait_newest().await.unwrap();
    assert_eq!(made(&server, pod("a")).await.0, 201);
    for (name, key) in [("b", "first"), ("c", FIRST)] {
        let mut annotated = pod(name);
        annotated["metadata"]["annotations"] = json!({format!("{ANNOTATION}{key}"): "true"});
        let (code, object) = made(&server, annotated).await;
        assert_eq!((code, pending(&object)), (202, vec![FIRST]), "{object}");
    }
    // What is only asked and never kept cannot wait, nor can the configurations themselves.
    let mut everything = configuration("d", &[FIRST]);
    everything["initializers"][0]["rules"] =
        json!([{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]);
    assert_eq!(send(&server, "POST", CONFIGURATIONS, everything).await.0, 201);
    server.registry().cache().wait_newest().await.unwrap();
    assert_eq!(send(&server, "POST", CONFIGURATIONS, configuration("e", &[SECOND])).await.0, 201);
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, answer) = send(&server, "POST", path, review).await;
    assert_eq!((code, answer["metadata"].get("initializers")), (201, None));
}

#[tokio::test]
async fn an_initializer_changes_what_nobody_could_change_later() {
    let server = with(&[FIRST]).await;
    made(&server, pod("a")).await;
    let sidecar = json!({"spec": {"containers": [{"name": "sidecar", "image": "s"}]}});
    let headers = [("content-type", "application/strategic-merge-patch+json")];
    let path = format!("{PODS}/a");
    let patched = ask(&server, "PATCH", &path, &headers, sidecar.to_string()).await;
    assert_eq!(patched.code, 200, "{}", patched.json());
    assert_eq!(patched.json()["spec"]["containers"].as_array().unwrap().len(), 2);
    leave(&server, &Component::ApiServer, "a", &[]).await;
    let late = json!({"spec": {"containers": [{"name": "late", "image": "s"}]}});
    assert_eq!(ask(&server, "PATCH", &path, &headers, late.to_string()).await.code, 422);
}

#[test]
fn lists_only_lose_their_first() {
    let list =
        |names: &[&str]| json!({"pending": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()});
    let result = json!({"pending": [], "result": {"status": "Failure"}});
    let cases: [(Option<Value>, Option<Value>, bool); 8] = [
        (Some(list(&["b"])), Some(list(&["a", "b"])), true),
        (Some(list(&["a"])), Some(list(&["a", "b"])), false),
        (Some(list(&["b", "a"])), Some(list(&["a", "b"])), false),
        (Some(list(&["c", "a", "b"])), Some(list(&["a", "b"])), false),
        (None, Some(list(&["a", "b"])), true),
        (Some(list(&["a"])), None, false),
        (Some(result.clone()), Some(list(&["a"])), true),
        (None, Some(result), false),
    ];
    for (new, old, good) in cases {
        assert_eq!(transition(new.as_ref(), old.as_ref()).is_empty(), good, "{old:?} to {new:?}");
    }
}

/// Who writes an object under an older name cannot get round its initializers.
#[tokio::test]
async fn rules_are_about_objects_whatever_they_are_called() {
    let server = server().await;
    let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]});
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1alpha1",
        "kind": "InitializerConfiguration", "metadata": {"name": "c"},
        "initializers": [{"name": FIRST, "rules": [rule]}]});
    assert_eq!(send(&server, "POST", CONFIGURATIONS, configuration).await.0, 201);
    server.registry().cache().wait_newest().await.unwrap();
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (group, version) in [("apps", "v1"), ("extensions", "v1beta1"), ("apps", "v1beta2")] {
        let name = format!("{group}-{version}");
        let deployment = json!({"apiVersion": format!("{group}/{version}"), "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
        let path = format!("/apis/{group}/{version}/namespaces/default/deployments?{ALL}");
        let (code, made) = send(&server, "POST", &path, deployment).await;
        assert_eq!((code, pending(&made)), (202, vec![FIRST]), "{made}");
    }
}
