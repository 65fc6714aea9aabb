//! What clients see, asked in process of a whole server over a store in memory.

use serde_json::{Value, json};

use crate::ApiServer;
use crate::testing::{Answer, ask, json as send, server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

async fn made(server: &ApiServer, name: &str, data: Value) -> Value {
    let (code, object) = send(server, "POST", MAPS, map(name, data)).await;
    assert_eq!(code, 201, "{object}");
    object
}

async fn get(server: &ApiServer, path: &str, accept: &str) -> Answer {
    ask(server, "GET", path, &[("accept", accept)], "").await
}

async fn patch(server: &ApiServer, path: &str, kind: &str, body: Value) -> (u16, Value) {
    let media = format!("application/{kind}");
    let answer = ask(server, "PATCH", path, &[("content-type", &media)], body.to_string()).await;
    (answer.code, answer.json())
}

#[tokio::test]
async fn a_head_is_answered_without_a_body() {
    let server = server().await;
    made(&server, "a", json!({"x": "1"})).await;
    for path in [&format!("{MAPS}/a"), "/version", "/api/v1/nothing"] {
        let read = get(&server, path, "application/json").await;
        let head = ask(&server, "HEAD", path, &[("accept", "application/json")], "").await;
        assert_eq!((head.code, head.body.len()), (read.code, 0), "{path}");
        assert_eq!(head.headers["content-length"], read.body.len().to_string(), "{path}");
    }
}

#[tokio::test]
async fn an_object_is_made_read_changed_and_deleted() {
    let server = server().await;
    let object = made(&server, "a", json!({"x": "1"})).await;
    assert!(!object["metadata"]["uid"].as_str().unwrap().is_empty());
    assert_eq!(object["metadata"]["namespace"], "default");

    let path = format!("{MAPS}/a");
    let (code, read) = send(&server, "GET", &path, Value::Null).await;
    assert_eq!((code, &read), (200, &object));

    let mut wanted = object.clone();
    wanted["data"]["x"] = "2".into();
    let (code, changed) = send(&server, "PUT", &path, wanted.clone()).await;
    assert_eq!((code, &changed["data"]["x"]), (200, &json!("2")));
    assert_ne!(changed["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"]);

    let (code, stale) = send(&server, "PUT", &path, wanted.clone()).await;
    assert_eq!(code, 409);
    assert_eq!(
        stale["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
         changes to the latest version and try again"
    );

    // A zero stands for none.
    wanted["metadata"]["resourceVersion"] = "0".into();
    wanted["data"]["x"] = "3".into();
    let (code, changed) = send(&server, "PUT", &path, wanted.clone()).await;
    assert_eq!((code, &changed["data"]["x"]), (200, &json!("3")));

    let (code, deleted) = send(&server, "DELETE", &path, Value::Null).await;
    assert_eq!(
        (code, &deleted["status"], &deleted["details"]["name"]),
        (200, &json!("Success"), &json!("a"))
    );
    let (code, gone) = send(&server, "GET", &path, Value::Null).await;
    assert_eq!((code, &gone["reason"]), (404, &json!("NotFound")));
    assert_eq!(gone["message"], "configmaps \"a\" not found");
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_none() {
    let server = server().await;
    let object = made(&server, "a", json!({"x": "1"})).await;
    let (code, same) = send(&server, "PUT", &format!("{MAPS}/a"), object.clone()).await;
    assert_eq!((code, &same), (200, &object));
    let (_, same) =
        patch(&server, &format!("{MAPS}/a"), "merge-patch+json", json!({"data": {"x": "1"}})).await;
    assert_eq!(same, object);
}

#[tokio::test]
async fn names_are_made_up_and_checked() {
    let server = server().await;
    let mut body = map("", json!({}));
    body["metadata"] = json!({"generateName": "web-"});
    let (code, object) = send(&server, "POST", MAPS, body).await;
    let name = object["metadata"]["name"].as_str().unwrap();
    assert!(code == 201 && name.starts_with("web-") && name.len() == 9, "{object}");

    let (code, refused) = send(&server, "POST", MAPS, map("A", json!({}))).await;
    assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")));
    assert_eq!(refused["details"]["causes"][0]["field"], "metadata.name");
    let (code, refused) = send(&server, "POST", MAPS, map("", json!({}))).await;
    assert_eq!(code, 422, "{refused}");
    made(&server, "a", json!({})).await;
    let (code, twice) = send(&server, "POST", MAPS, map("a", json!({}))).await;
    assert_eq!((code, &twice["message"]), (409, &json!("configmaps \"a\" already exists")));
    let mut elsewhere = map("b", json!({}));
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    assert_eq!(send(&server, "POST", MAPS, elsewhere).await.0, 400);
    let (code, other) = send(&server, "PUT", &format!("{MAPS}/a"), map("b", json!({}))).await;
    assert_eq!(
        (code, &other["message"]),
        (400, &json!("the name of the object (b) does not match the name on the URL (a)"))
    );
}

#[tokio::test]
async fn a_dry_run_leaves_no_trace() {
    let server = server().await;
    let dry = format!("{MAPS}?dryRun=All");
    let (code, object) = send(&server, "POST", &dry, map("a", json!({"x": "1"}))).await;
    assert_eq!((code, &object["data"]["x"]), (201, &json!("1")));
    assert_eq!(send(&server, "GET", &format!("{MAPS}/a"), Value::Null).await.0, 404);

    let object = made(&server, "b", json!({"x": "1"})).await;
    let path = format!("{MAPS}/b?dryRun=All");
    let (code, changed) = patch(&server, &path, "merge-patch+json", json!({"data": {"x": "2"}})).await;
    assert_eq!((code, &changed["data"]["x"]), (200, &json!("2")));
    assert_eq!(send(&server, "DELETE", &path, Value::Null).await.0, 200);
    assert_eq!(send(&server, "GET", &format!("{MAPS}/b"), Value::Null).await.1, object);
    assert_eq!(send(&server, "POST", &format!("{MAPS}?dryRun=Some"), map("c", json!({}))).await.0, 422);
}

#[tokio::test]
async fn patches_of_every_kind() {
    let server = server().await;
    made(&server, "a", json!({"x": "1"})).await;
    let path = format!("{MAPS}/a");
    let json_patch = json!([{"op": "add", "path": "/data/y", "value": "2"}]);
    let (code, object) = patch(&server, &path, "json-patch+json", json_patch).await;
    assert_eq!((code, &object["data"]), (200, &json!({"x": "1", "y": "2"})));
    let (_, object) = patch(&server, &path, "merge-patch+json", json!({"data": {"x": null}})).await;
    assert_eq!(object["data"], json!({"y": "2"}));
    let (_, object) = patch(&server, &path, "strategic-merge-patch+json", json!({"data": {"z": "3"}})).await;
    assert_eq!(object["data"], json!({"y": "2", "z": "3"}));

    let apply = map("a", json!({"z": "4"}));
    let (code, refused) = patch(&server, &path, "apply-patch+yaml", apply.clone()).await;
    assert_eq!(code, 422, "{refused}");
    let applied = format!("{path}?fieldManager=me");
    let (code, conflict) = patch(&server, &applied, "apply-patch+yaml", apply.clone()).await;
    assert_eq!((code, &conflict["details"]["causes"][0]["reason"]), (409, &json!("FieldManagerConflict")));
    let (code, object) = patch(&server, &format!("{applied}&force=true"), "apply-patch+yaml", apply).await;
    assert_eq!((code, &object["data"]), (200, &json!({"y": "2", "z": "4"})));
    let new = format!("{MAPS}/new?fieldManager=me");
    assert_eq!(patch(&server, &new, "apply-patch+yaml", map("new", json!({"a": "b"}))).await.0, 201);

    let (code, refused) = patch(&server, &path, "json", json!({})).await;
    assert_eq!((code, &refused["reason"]), (415, &json!("UnsupportedMediaType")));
    assert_eq!(patch(&server, &format!("{MAPS}/none"), "merge-patch+json", json!({})).await.0, 404);
    let (code, stale) = patch(
        &server,
        &path,
        "merge-patch+json",
        json!({"metadata": {"resourceVersion": "1"}, "data": {"q": "r"}}),
    )
    .await;
    assert_eq!(code, 409, "{stale}");
}

#[tokio::test]
async fn lists_go_on_where_they_stopped() {
    let server = server().await;
    for name in ["a", "b", "c"] {
        made(&server, name, json!({})).await;
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let (_, page) = send(&server, "GET", &format!("{MAPS}?limit=2"), Value::Null).await;
    assert_eq!((names(&page), &page["kind"]), (vec!["a".into(), "b".into()], &json!("ConfigMapList")));
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    let token = page["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = send(&server, "GET", &format!("{MAPS}?limit=2&continue={token}"), Value::Null).await;
    assert_eq!(names(&rest), ["c"]);
    assert_eq!(rest["metadata"]["resourceVersion"], page["metadata"]["resourceVersion"]);

    let (_, one) =
        send(&server, "GET", &format!("{MAPS}?fieldSelector=metadata.name%3Db"), Value::Null).await;
    assert_eq!(names(&one), ["b"]);
    let (code, unknown) =
        send(&server, "GET", &format!("{MAPS}?fieldSelector=data.x%3Db"), Value::Null).await;
    assert_eq!(code, 400, "{unknown}");
    assert_eq!(
        unknown["message"],
        "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
    assert_eq!(send(&server, "GET", &format!("{MAPS}?limit=x"), Value::Null).await.0, 400);
    assert_eq!(send(&server, "GET", &format!("{MAPS}?continue=x"), Value::Null).await.0, 400);
}

#[tokio::test]
async fn the_client_chooses_encoding_and_shape() {
    let server = server().await;
    made(&server, "a", json!({"x": "1"})).await;
    let path = format!("{MAPS}/a");
    let yaml = get(&server, &path, "application/yaml").await;
    assert_eq!(yaml.headers["content-type"], "application/yaml");
    assert!(String::from_utf8_lossy(&yaml.body).contains("name: a\n"));
    let protobuf = get(&server, &path, "application/vnd.kubernetes.protobuf").await;
    assert!(protobuf.body.starts_with(b"k8s\0"));
    let list = get(&server, MAPS, "application/vnd.kubernetes.protobuf").await;
    assert!(list.body.starts_with(b"k8s\0"));

    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    for path in [&path, MAPS] {
        let table = get(&server, path, table).await.json();
        assert_eq!(table["kind"], "Table");
        assert_eq!(table["rows"][0]["cells"][0], "a");
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }
    let bare = get(&server, &format!("{MAPS}?includeObject=None"), table).await.json();
    assert!(bare["rows"][0].get("object").is_none());

    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = get(&server, MAPS, metadata).await.json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    assert!(list["items"][0].get("data").is_none());

    let refused = get(&server, &path, "text/html").await;
    assert_eq!((refused.code, refused.json()["reason"].clone()), (406, json!("NotAcceptable")));

    // A review is nothing that a table could list.
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = r#"{"spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}"#;
    let headers = |accept| [("accept", accept), ("content-type", "application/json")];
    assert_eq!(ask(&server, "POST", reviews, &headers(table), review).await.code, 406);
    assert_eq!(ask(&server, "POST", reviews, &headers("application/json"), review).await.code, 201);
}

#[tokio::test]
async fn bodies_are_read_in_every_encoding_and_bounded() {
    let server = server().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\ndata: {a: b}\n";
    let media = [("content-type", "application/yaml")];
    assert_eq!(ask(&server, "POST", MAPS, &media, yaml).await.code, 201);
    let protobuf = get(&server, &format!("{MAPS}/yaml"), "application/vnd.kubernetes.protobuf").await.body;
    let media = [("content-type", "application/vnd.kubernetes.protobuf")];
    let answer = ask(&server, "PUT", &format!("{MAPS}/yaml"), &media, protobuf).await;
    assert_eq!(answer.code, 200, "{:?}", answer.body);

    let media = [("content-type", "text/plain")];
    assert_eq!(ask(&server, "POST", MAPS, &media, "x").await.code, 415);
    let large = map("l", json!({"x": "y".repeat(super::body::MAX_REQUEST)}));
    assert_eq!(send(&server, "POST", MAPS, large).await.0, 413);
    let media = [("content-type", "application/json")];
    let broken = ask(&server, "POST", MAPS, &media, "{\"kind\":").await;
    assert_eq!(broken.code, 400);
}

#[tokio::test]
async fn unknown_fields_are_told_or_refused() {
    let server = server().await;
    let mut odd = map("a", json!({}));
    odd["colour"] = "red".into();
    let media = [("content-type", "application/json")];
    let warned = ask(&server, "POST", MAPS, &media, odd.to_string()).await;
    assert_eq!(warned.code, 201);
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"colour\\\"\"");
    assert!(warned.json().get("colour").is_none());
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let refused = ask(&server, "POST", &strict, &media, odd.to_string()).await;
    assert_eq!(refused.code, 400);
    assert!(refused.json()["message"].as_str().unwrap().contains("unknown field \"colour\""));
}

#[tokio::test]
async fn paths_that_lead_nowhere() {
    let server = server().await;
    for (method, path, code) in [
        ("GET", "/nowhere", 404),
        ("GET", "/api/v1/nothings", 404),
        ("GET", "/apis/nothing/v1/things", 404),
        ("GET", "/api/v1/namespaces/default/configmaps/a/nothing", 404),
        ("GET", "/api/v1/configmaps/a", 404),
        ("POST", "/api/v1/configmaps", 405),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("POST", "/api/v1/namespaces/default/configmaps/a", 405),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405),
        ("TRACE", "/api/v1/nodes", 405),
        ("GET", "/api/v1/bindings", 404),
        ("POST", "/api/v1/watch/namespaces/default/configmaps", 405),
        ("POST", "/version", 405),
        ("GET", "/api/v1/pods/%ff", 400),
        ("GET", "/api/v1/namespaces/default/configmaps/..", 400),
        ("GET", "/api/v1/namespaces/default/configmaps?limit=", 400),
        ("POST", "/api/v1/namespaces/default/configmaps?dryRun=", 422),
    ] {
        let (got, status) = send(&server, method, path, Value::Null).await;
        assert_eq!((got, &status["kind"]), (code, &json!("Status")), "{method} {path}: {status}");
    }
}

#[tokio::test]
async fn a_watch_tells_what_happens_and_ends_in_time() {
    let server = server().await;
    let first = made(&server, "a", json!({"x": "1"})).await;
    let from = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    patch(&server, &format!("{MAPS}/a"), "merge-patch+json", json!({"data": {"x": "2"}})).await;
    send(&server, "DELETE", &format!("{MAPS}/a"), Value::Null).await;
    server.registry().cache().wait_newest().await.unwrap();

    let events = |answer: &Answer| -> Vec<(String, Value)> {
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let frames = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        frames.map(|f| (f["type"].as_str().unwrap().to_owned(), f["object"].clone())).collect()
    };
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={from}");
    let seen = get(&server, &path, "application/json").await;
    let seen = events(&seen);
    let kinds: Vec<&str> = seen.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["MODIFIED", "DELETED"]);
    assert_eq!(seen[0].1["data"]["x"], "2");

    made(&server, "b", json!({})).await;
    let path = format!(
        "{MAPS}?watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&fieldSelector=metadata.name%3Db"
    );
    let seen = events(&get(&server, &path, "application/json").await);
    assert_eq!(seen[0].0, "ADDED");
    assert_eq!(seen[1].0, "BOOKMARK");
    assert_eq!(seen[1].1["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let seen = events(&get(&server, &format!("{MAPS}?watch=1&timeoutSeconds=1"), table).await);
    assert!(seen.iter().any(|(_, t)| t["kind"] == "Table" && t["rows"][0]["cells"][0] == "b"), "{seen:?}");
    let old = get(&server, "/api/v1/watch/namespaces/default/configmaps/b?timeoutSeconds=1", "").await;
    assert_eq!(events(&old)[0].1["metadata"]["name"], "b");
}

#[tokio::test]
async fn a_stopping_server_ends_its_watches() {
    let server = server().await;
    let watch = {
        let server = server.clone();
        tokio::spawn(async move { get(&server, &format!("{MAPS}?watch=1"), "").await.code })
    };
    tokio::task::yield_now().await;
    server.stop();
    assert_eq!(watch.await.unwrap(), 200);
    assert_eq!(ask(&server, "GET", "/readyz", &[], "").await.code, 500);
    assert_eq!(ask(&server, "GET", "/livez", &[], "").await.body, "ok");
}

#[tokio::test]
async fn collections_are_deleted_by_selection() {
    let server = server().await;
    for (name, label) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut object = map(name, json!({}));
        object["metadata"]["labels"] = json!({"l": label});
        send(&server, "POST", MAPS, object).await;
    }
    let (code, _) = send(&server, "DELETE", &format!("{MAPS}?resourceVersion=x"), Value::Null).await;
    assert_eq!(code, 400);
    let all = format!("{MAPS}?labelSelector=l");
    assert_eq!(send(&server, "GET", &all, Value::Null).await.1["items"].as_array().unwrap().len(), 3);
    let (code, list) = send(&server, "DELETE", &format!("{MAPS}?labelSelector=l%3Dx"), Value::Null).await;
    assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 2));
    let (_, left) = send(&server, "GET", MAPS, Value::Null).await;
    let left: Vec<&str> =
        left["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    assert!(!left.contains(&"a") && !left.contains(&"b") && left.contains(&"c"), "{left:?}");
}

#[tokio::test]
async fn finalizers_and_preconditions_hold_a_delete() {
    let server = server().await;
    let mut object = map("a", json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let (_, object) = send(&server, "POST", MAPS, object).await;
    let path = format!("{MAPS}/a");
    let wrong = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}});
    let (code, refused) = send(&server, "DELETE", &path, wrong).await;
    assert_eq!(code, 409);
    assert!(
        refused["message"].as_str().unwrap().contains("the UID in the precondition (other)"),
        "{refused}"
    );

    let (code, held) = send(&server, "DELETE", &path, Value::Null).await;
    assert_eq!(code, 200);
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "{held}");
    assert_eq!(held["metadata"]["uid"], object["metadata"]["uid"]);
    let (code, gone) =
        patch(&server, &path, "merge-patch+json", json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(code, 200);
    assert_eq!(gone["metadata"]["uid"], object["metadata"]["uid"]);
    assert_eq!(gone["metadata"]["finalizers"], Value::Null, "the answer is what the patch made of it");
    assert_eq!(send(&server, "GET", &path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_scale_is_a_view_of_its_object() {
    let server = server().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    assert_eq!(send(&server, "POST", deployments, deployment).await.0, 201);
    let path = format!("{deployments}/d/scale");
    let (_, mut scale) = send(&server, "GET", &path, Value::Null).await;
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    assert_eq!(scale["status"]["selector"], "a=b");
    scale["spec"]["replicas"] = 5.into();
    let (code, scaled) = send(&server, "PUT", &path, scale.clone()).await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(5)));
    assert_eq!(send(&server, "PUT", &path, scale).await.0, 409);
    let (_, patched) = patch(&server, &path, "merge-patch+json", json!({"spec": {"replicas": 7}})).await;
    assert_eq!(patched["spec"]["replicas"], 7);
    let (_, object) = send(&server, "GET", &format!("{deployments}/d"), Value::Null).await;
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(7), &json!(3)));
    let (code, refused) = patch(&server, &path, "merge-patch+json", json!({"spec": {"replicas": -1}})).await;
    assert_eq!(code, 422, "{refused}");
}

#[tokio::test]
async fn events_are_seen_by_both_of_their_names() {
    let server = server().await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "type": "Normal", "reason": "R",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "message": "hello",
    });
    let (code, made) = send(&server, "POST", "/api/v1/namespaces/default/events", event).await;
    assert_eq!(code, 201, "{made}");
    let path = "/apis/events.k8s.io/v1/namespaces/default/events/e";
    let (_, newer) = send(&server, "GET", path, Value::Null).await;
    assert_eq!((&newer["apiVersion"], &newer["note"]), (&json!("events.k8s.io/v1"), &json!("hello")));
    let (_, list) = send(&server, "GET", "/apis/events.k8s.io/v1/events", Value::Null).await;
    assert_eq!(list["items"][0]["note"], "hello");
}

/// A client that knows one version reads, changes and writes back what another wrote in its own.
#[tokio::test]
async fn versions_of_a_kind_are_one_object() {
    let server = server().await;
    let at =
        |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers");
    let newer = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 3, "metrics": [
            {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "2"}}}]},
    });
    let (code, made) = send(&server, "POST", &at("v2"), newer).await;
    assert_eq!(code, 201, "{made}");
    let (_, mut older) = send(&server, "GET", &format!("{}/h", at("v1")), Value::Null).await;
    assert_eq!((&older["apiVersion"], older["spec"].get("metrics")), (&json!("autoscaling/v1"), None));
    older["spec"]["maxReplicas"] = 5.into();
    let (code, put) = send(&server, "PUT", &format!("{}/h", at("v1")), older).await;
    assert_eq!(code, 200, "{put}");
    let (_, changed) = send(&server, "GET", &format!("{}/h", at("v2")), Value::Null).await;
    assert_eq!(
        (&changed["spec"]["maxReplicas"], &changed["spec"]["metrics"]),
        (&json!(5), &made["spec"]["metrics"])
    );
    assert_eq!(changed["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn services_have_addresses_of_their_own() {
    let server = server().await;
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, ip: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
               "spec": {"clusterIP": ip, "ports": [{"port": 80}]}})
    };
    let (code, first) = send(&server, "POST", services, service("a", "")).await;
    assert_eq!(code, 201, "{first}");
    let ip = first["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let (code, taken) = send(&server, "POST", services, service("b", &ip)).await;
    assert_eq!(code, 422);
    assert!(taken["message"].as_str().unwrap().contains("provided IP is already allocated"), "{taken}");
    assert_eq!(send(&server, "DELETE", &format!("{services}/a"), Value::Null).await.0, 200);
    assert_eq!(send(&server, "POST", services, service("b", &ip)).await.0, 201);
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let panics = async { panic!("on purpose") };
    assert!(super::unpanicked(panics).await.is_none());
}

#[tokio::test]
async fn a_selector_that_means_nothing_is_told_plainly() {
    let server = server().await;
    const PODS: &str = "/api/v1/pods";
    const JOBS: &str = "/apis/batch/v1/jobs";
    let metadata = "only \"metadata.name\", \"metadata.namespace\"";
    for (path, query, why) in [
        (MAPS, "fieldSelector=bogus%3D1", format!("\"bogus\" is not a known field selector: {metadata}")),
        (PODS, "fieldSelector=bogus%3D1", "field label not supported: bogus".to_owned()),
        (JOBS, "fieldSelector=bogus%3D1", "field label \"bogus\" not supported for batchv1.Job".to_owned()),
        (MAPS, "labelSelector=a%3Db%3Dc", "found '=', expected: ',' or 'end of string'".to_owned()),
    ] {
        let (code, refused) = send(&server, "GET", &format!("{path}?{query}"), Value::Null).await;
        assert_eq!((code, refused["message"].as_str().unwrap()), (400, why.as_str()));
    }
}

/// CBOR goes both ways, in bodies, applies, errors and watches.
#[tokio::test]
async fn cbor_is_spoken() {
    use tiphys_api::codec::cbor;

    const CBOR: &str = "application/cbor";
    let server = server().await;
    let headers = [("accept", CBOR), ("content-type", CBOR)];
    let body = cbor::encode(&map("a", json!({"x": "1"}))).unwrap();
    let answer = ask(&server, "POST", MAPS, &headers, body).await;
    assert_eq!((answer.code, answer.headers["content-type"].as_bytes()), (201, CBOR.as_bytes()));
    assert_eq!(cbor::decode(&answer.body).unwrap()["data"], json!({"x": "1"}));

    let applied = cbor::encode(&map("a", json!({"y": "2"}))).unwrap();
    let path = format!("{MAPS}/a?fieldManager=me");
    let headers = [("accept", CBOR), ("content-type", "application/apply-patch+cbor")];
    let answer = ask(&server, "PATCH", &path, &headers, applied).await;
    assert_eq!(answer.code, 200, "{:?}", cbor::decode(&answer.body));
    assert_eq!(cbor::decode(&answer.body).unwrap()["data"], json!({"x": "1", "y": "2"}));

    let list = get(&server, MAPS, CBOR).await;
    assert_eq!(cbor::decode(&list.body).unwrap()["items"][0]["metadata"]["name"], "a");
    let missing = get(&server, &format!("{MAPS}/b"), CBOR).await;
    assert_eq!(cbor::decode(&missing.body).unwrap()["reason"], "NotFound");
    let refused = ask(&server, "POST", MAPS, &[("content-type", CBOR)], "{}").await;
    assert_eq!(refused.code, 400, "{}", refused.json());

    let watch = format!("{MAPS}?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Da");
    let events = get(&server, &watch, CBOR).await;
    assert_eq!(events.headers["content-type"], "application/cbor-seq");
    let first = cbor::decode(&events.body).unwrap();
    assert_eq!((&first["type"], &first["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("a")));
}

#[tokio::test]
async fn a_scale_has_columns_of_its_own() {
    let server = server().await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(send(&server, "POST", path, deployment).await.0, 201);
    let as_table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = ask(&server, "GET", &format!("{path}/d/scale"), &as_table, "").await.json();
    let columns = table["columnDefinitions"].as_array().unwrap().iter();
    let columns: Vec<&str> = columns.map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(table["kind"], "Table");
    assert_eq!(columns, ["Name", "Desired", "Available", "Age"]);
    let row = &table["rows"][0];
    assert_eq!(row["cells"].as_array().unwrap()[..3], [json!("d"), json!(2), json!(0)]);
    assert_eq!(
        (&row["object"]["kind"], &row["object"]["metadata"]["name"]),
        (&json!("PartialObjectMetadata"), &json!("d"))
    );
    let whole =
        ask(&server, "GET", &format!("{path}/d/scale?includeObject=Object"), &as_table, "").await.json();
    assert_eq!(whole["rows"][0]["object"]["kind"], "Scale");
}

#[tokio::test]
async fn what_cannot_be_meant_is_told_before_what_is_not_there() {
    let server = server().await;
    let (code, refused) = send(&server, "PUT", &format!("{MAPS}/b"), map("a", json!({}))).await;
    assert_eq!(
        (code, &refused["message"]),
        (400, &json!("the name of the object (a) does not match the name on the URL (b)"))
    );
    for method in ["PUT", "PATCH"] {
        assert_eq!(send(&server, method, MAPS, map("a", json!({}))).await.0, 405, "{method}");
    }
    let (code, refused) = send(&server, "GET", &format!("{MAPS}?fieldSelector=data%3Dx"), Value::Null).await;
    let message = "\"data\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    assert_eq!((code, &refused["message"]), (400, &json!(message)));
}

#[tokio::test]
async fn a_patch_that_makes_no_object_is_invalid() {
    let server = server().await;
    made(&server, "a", json!({})).await;
    let path = format!("{MAPS}/a");
    for (kind, body) in [
        ("merge-patch+json", json!({"data": {"x": 1}})),
        ("strategic-merge-patch+json", json!({"data": {"x": 1}})),
        ("json-patch+json", json!([{"op": "add", "path": "/data", "value": 5}])),
    ] {
        let (code, refused) = patch(&server, &path, kind, body).await;
        let cause = &refused["details"]["causes"][0];
        assert_eq!(
            (code, &cause["field"], &cause["reason"]),
            (422, &json!("patch"), &json!("FieldValueInvalid")),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_name_in_a_field_selector_is_what_permission_is_asked_for() {
    let server = server().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "one"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["list"]}],
    });
    assert_eq!(send(&server, "POST", &format!("{rbac}/roles"), role).await.0, 201);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "one"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "one"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "me"}],
    });
    assert_eq!(send(&server, "POST", &format!("{rbac}/rolebindings"), binding).await.0, 201);
    let asks = async |selector: &str| {
        let path = format!("{MAPS}{selector}");
        ask(&server, "GET", &path, &[("impersonate-user", "me")], "").await.code
    };
    // Roles are followed in their own time.
    while asks("?fieldSelector=metadata.name%3Da").await != 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!((asks("").await, asks("?fieldSelector=metadata.name%3Db").await), (403, 403));
}

#[tokio::test]
async fn what_is_asked_of_a_list_must_make_sense() {
    let server = server().await;
    for (path, code) in [
        (format!("{MAPS}?timeoutSeconds=x"), 400),
        ("/api/v1/namespaces/default/namespaces".to_owned(), 404),
        ("/api/v1/namespaces/default".to_owned(), 200),
    ] {
        assert_eq!(send(&server, "GET", &path, Value::Null).await.0, code, "{path}");
    }
    let watch = get(&server, &format!("{MAPS}?watch=1&timeoutSeconds=1"), "application/json").await;
    assert_eq!(watch.headers["content-type"], "application/json");
}

#[tokio::test]
async fn dependents_of_old_versions_are_left() {
    let server = server().await;
    let old = "/apis/batch/v1beta1/namespaces/default/cronjobs";
    let job = json!({"apiVersion": "batch/v1beta1", "kind": "CronJob", "metadata": {"name": "a"}, "spec": {
        "schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}],
        }}}},
    }});
    for (path, finalizers) in
        [(old, Some(json!(["orphan"]))), ("/apis/batch/v1/namespaces/default/cronjobs", None)]
    {
        assert_eq!(send(&server, "POST", old, job.clone()).await.0, 201);
        let (code, deleted) = send(&server, "DELETE", &format!("{path}/a"), Value::Null).await;
        assert_eq!((code, deleted["metadata"].get("finalizers").cloned()), (200, finalizers), "{deleted}");
        patch(&server, &format!("{old}/a"), "merge-patch+json", json!({"metadata": {"finalizers": null}}))
            .await;
    }
}

#[tokio::test]
async fn clients_are_warned_of_what_is_not_what_it_seems() {
    let server = server().await;
    let warned = async |method: &str, path: &str, body: Value| {
        let headers = [("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = ask(&server, method, path, &headers, body).await;
        let told = answer.headers.get("warning").map(|value| value.to_str().unwrap().to_owned());
        (answer.code, told.unwrap_or_default())
    };
    let (code, told) = warned("GET", "/api/v1/namespaces/default/endpoints", Value::Null).await;
    assert_eq!(code, 200);
    assert!(
        told.contains("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        "{told}"
    );

    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let container = json!({"name": "c", "image": "i", "env": [{"name": "A"}, {"name": "A"}]});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}});
    let (code, told) = warned("POST", jobs, job).await;
    assert_eq!(code, 201);
    assert!(told.contains("spec.template.spec.containers[0].env[1]: hides previous definition"), "{told}");
    let status =
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "status": {"active": 1}});
    let merge = [("content-type", "application/merge-patch+json")];
    let answer = ask(&server, "PATCH", &format!("{jobs}/j/status"), &merge, status.to_string()).await;
    assert_eq!(
        (answer.code, answer.headers.get("warning")),
        (200, None),
        "who writes a status is told nothing"
    );

    let (_, told) = warned("DELETE", &format!("{jobs}/j?dryRun=All"), Value::Null).await;
    assert!(
        told.contains("child pods are preserved by default when jobs are deleted; set propagationPolicy="),
        "{told}"
    );
    let (code, told) = warned("DELETE", &format!("{jobs}/j?propagationPolicy=Background"), Value::Null).await;
    assert_eq!((code, &*told), (200, ""));

    let (code, refused) = send(&server, "GET", &format!("{MAPS}?timeout=x"), Value::Null).await;
    assert_eq!(code, 400, "{refused}");
}
