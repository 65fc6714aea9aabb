use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Request, Response};

use super::super::tests::{defined, made, patch};
use super::*;
use crate::outgoing::stranger::Stranger;
use crate::testing::{ask, json as send, server};

const V1: &str = "/apis/example.com/v1/namespaces/default/points";
const V2: &str = "/apis/example.com/v2/namespaces/default/points";

fn moved(mut object: Value, wanted: &str) -> Value {
    if wanted.ends_with("/v1") {
        let at = format!("{}:{}", object["spec"]["x"], object["spec"]["y"]);
        object["spec"] = json!({"at": at});
    } else {
        let at = object["spec"]["at"].as_str().unwrap_or_default().to_owned();
        let (x, y) = at.split_once(':').unwrap_or(("0", "0"));
        let number = |text: &str| text.parse::<i64>().unwrap_or(0);
        object["spec"] = json!({"x": number(x), "y": number(y)});
    }
    object["apiVersion"] = wanted.into();
    object
}

/// A server that knows both versions; it refuses points at `666:0`.
async fn converter(calls: Arc<AtomicUsize>) -> Stranger {
    let answer = move |request: Request<Bytes>| {
        calls.fetch_add(1, Ordering::SeqCst);
        async move {
            let review: Value = serde_json::from_slice(request.body()).unwrap();
            let asked = &review["request"];
            let wanted = asked["desiredAPIVersion"].as_str().unwrap();
            let objects = asked["objects"].as_array().unwrap();
            let refused = objects.iter().any(|o| o["spec"]["at"] == "666:0");
            let result = if refused {
                json!({"status": "Failure", "message": "not there"})
            } else {
                json!({"status": "Success"})
            };
            let converted: Vec<Value> = objects.iter().map(|o| moved(o.clone(), wanted)).collect();
            let body = json!({
                "apiVersion": review["apiVersion"], "kind": review["kind"],
                "response": {"uid": asked["uid"], "result": result, "convertedObjects": converted},
            });
            Response::new(Bytes::from(body.to_string()))
        }
    };
    Stranger::start(&["127.0.0.1"], answer).await
}

/// A definition whose `v2` is stored.
fn points(stranger: &Stranger, reviews: &[&str]) -> Value {
    let version = |name: &str, storage: bool, properties: Value| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": properties}},
        }}})
    };
    let number = json!({"type": "integer"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "points.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "points", "kind": "Point"},
            "versions": [
                version("v2", true, json!({"x": number, "y": number})),
                version("v1", false, json!({"at": {"type": "string", "pattern": "^\\d+:\\d+$"}})),
            ],
            "conversion": {"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": reviews,
                "clientConfig": {
                    "url": stranger.url("/convert"), "caBundle": BASE64_STANDARD.encode(&stranger.ca),
                },
            }},
        },
    })
}

fn point(name: &str, at: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Point", "metadata": {"name": name}, "spec": {"at": at}})
}

#[tokio::test]
async fn a_webhook_converts_between_versions() {
    for reviews in [["v1", "v1beta1"], ["v1beta1", "v1"]] {
        let stranger = converter(Arc::default()).await;
        let server = server().await;
        defined(&server, points(&stranger, &reviews)).await;
        let old = made(&server, V1, point("a", "1:2")).await;
        assert_eq!((&old["apiVersion"], &old["spec"]), (&json!("example.com/v1"), &json!({"at": "1:2"})));

        let (_, new) = send(&server, "GET", &format!("{V2}/a"), Value::Null).await;
        assert_eq!(new["spec"], json!({"x": 1, "y": 2}));
        assert_eq!(new["metadata"]["uid"], old["metadata"]["uid"]);
        let (_, list) = send(&server, "GET", V1, Value::Null).await;
        assert_eq!(list["items"][0]["spec"], json!({"at": "1:2"}));

        let path = format!("{V1}/a");
        let (code, changed) = patch(&server, &path, "merge-patch+json", json!({"spec": {"at": "3:4"}})).await;
        assert_eq!((code, &changed["spec"]), (200, &json!({"at": "3:4"})), "{changed}");
        let (_, new) = send(&server, "GET", &format!("{V2}/a"), Value::Null).await;
        assert_eq!((&new["spec"], &new["metadata"]["generation"]), (&json!({"x": 3, "y": 4}), &json!(2)));

        let watched = format!("{V1}?watch=1&timeoutSeconds=1&resourceVersion=0");
        let watched = ask(&server, "GET", &watched, &[], "").await.json();
        assert_eq!((&watched["type"], &watched["object"]["spec"]), (&json!("ADDED"), &json!({"at": "3:4"})));
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_in_the_requests_version() {
    let stranger = converter(Arc::default()).await;
    let server = server().await;
    defined(&server, points(&stranger, &["v1"])).await;
    let (code, refused) = send(&server, "POST", V1, point("a", "here")).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "Point.example.com \"a\" is invalid: spec.at: Invalid value: \"here\": spec.at in body should match '^\\d+:\\d+$'"
    );
    let (code, failed) = send(&server, "POST", V1, point("a", "666:0")).await;
    assert_eq!(code, 500);
    let message = failed["message"].as_str().unwrap();
    assert!(
        message.ends_with("conversion webhook for example.com/v2, Kind=Point failed: not there"),
        "{message}"
    );
}

#[tokio::test]
async fn the_storage_version_needs_no_webhook() {
    let calls = Arc::<AtomicUsize>::default();
    let stranger = converter(Arc::clone(&calls)).await;
    let server = server().await;
    defined(&server, points(&stranger, &["v1"])).await;
    let object =
        json!({"apiVersion": "example.com/v2", "kind": "Point", "metadata": {"name": "a"}, "spec": {"x": 1}});
    made(&server, V2, object).await;
    assert_eq!(send(&server, "GET", V2, Value::Null).await.0, 200);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    // A whole list is one call.
    made(&server, V1, point("b", "1:1")).await;
    let before = calls.load(Ordering::SeqCst);
    assert_eq!(send(&server, "GET", V1, Value::Null).await.1["items"].as_array().unwrap().len(), 2);
    assert_eq!(calls.load(Ordering::SeqCst), before + 1);
}

/// The same definition; both versions can be selected by.
fn selectable(stranger: &Stranger) -> Value {
    let mut definition = points(stranger, &["v1"]);
    definition["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.x"}]);
    definition["spec"]["versions"][1]["selectableFields"] = json!([{"jsonPath": ".spec.at"}]);
    definition
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_a_webhook_shows_is_selected_by() {
    let calls = Arc::<AtomicUsize>::default();
    let stranger = converter(Arc::clone(&calls)).await;
    let server = server().await;
    defined(&server, selectable(&stranger)).await;
    for (name, at) in [("a", "1:2"), ("b", "3:4"), ("c", "1:2"), ("d", "1:2")] {
        made(&server, V1, point(name, at)).await;
    }
    let list = async |path: String| {
        let (code, list) = send(&server, "GET", &path, Value::Null).await;
        assert_eq!(code, 200, "{list}");
        list
    };
    let selected = format!("{V1}?fieldSelector=spec.at%3D1:2");
    let before = calls.load(Ordering::SeqCst);
    let found = list(selected.clone()).await;
    assert_eq!((names(&found), &found["items"][0]["spec"]), (vec!["a", "c", "d"], &json!({"at": "1:2"})));
    assert_eq!(calls.load(Ordering::SeqCst), before + 1);
    assert_eq!(names(&list(format!("{V1}?fieldSelector=spec.at!%3D1:2")).await), ["b"]);
    assert_eq!(names(&list(format!("{V1}?fieldSelector=spec.at%3D1:2,metadata.name%3Dc")).await), ["c"]);
    assert_eq!(names(&list(format!("{V2}?fieldSelector=spec.x%3D1")).await), ["a", "c", "d"]);

    // A page ends where it has as many as it may; the next one begins with the first that was not looked at.
    let first = list(format!("{selected}&limit=2")).await;
    assert_eq!(names(&first), ["a", "c"]);
    assert_eq!(first["metadata"].get("remainingItemCount"), None);
    let next = first["metadata"]["continue"].as_str().unwrap();
    let last = list(format!("{selected}&limit=2&continue={next}")).await;
    assert_eq!((names(&last), last["metadata"].get("continue")), (vec!["d"], None));
    assert_eq!(last["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);

    let table = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let table = ask(&server, "GET", &selected, &table, "").await.json();
    assert_eq!(table["rows"].as_array().unwrap().len(), 3);
    let metadata = [("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")];
    let metadata = ask(&server, "GET", &selected, &metadata, "").await.json();
    assert_eq!((names(&metadata), metadata["items"][0].get("spec")), (vec!["a", "c", "d"], None));

    let (code, deleted) = send(&server, "DELETE", &selected, Value::Null).await;
    assert_eq!((code, names(&deleted)), (200, vec!["a", "c", "d"]));
    assert_eq!(deleted["items"][0]["spec"], json!({"at": "1:2"}));
    assert_eq!(names(&list(V2.to_owned()).await), ["b"]);
}

#[tokio::test]
async fn a_list_that_no_webhook_converts_fails() {
    let stranger = converter(Arc::default()).await;
    let server = server().await;
    let mut definition = selectable(&stranger);
    defined(&server, definition.clone()).await;
    made(&server, V1, point("a", "1:2")).await;
    let url = definition["spec"]["conversion"]["webhook"]["clientConfig"]["url"].take();
    let closed = url.as_str().unwrap().replace("/convert", "/nowhere");
    drop(stranger);
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/points.example.com";
    let change = json!({"spec": {"conversion": {"webhook": {"clientConfig": {"url": closed}}}}});
    assert_eq!(patch(&server, path, "merge-patch+json", change).await.0, 200);
    for (verb, asked) in [("GET", ""), ("GET", "&limit=1"), ("DELETE", "")] {
        let path = format!("{V1}?fieldSelector=spec.at%3D1:2{asked}");
        let (code, failed) = send(&server, verb, &path, Value::Null).await;
        let message = failed["message"].as_str().unwrap();
        assert_eq!(code, 500, "{message}");
        assert!(message.contains("conversion webhook for example.com/v1, Kind=Point failed: "), "{message}");
    }
    let watched = format!("{V1}?watch=1&timeoutSeconds=1&resourceVersion=0&fieldSelector=spec.at%3D1:2");
    let watched = ask(&server, "GET", &watched, &[], "").await.json();
    assert_eq!((&watched["type"], &watched["object"]["code"]), (&json!("ERROR"), &json!(500)), "{watched}");
}

#[tokio::test]
async fn a_watch_tells_when_what_a_webhook_shows_begins_and_ceases_to_be_selected() {
    let stranger = converter(Arc::default()).await;
    let server = server().await;
    let mut definition = selectable(&stranger);
    definition["spec"]["versions"][1]["additionalPrinterColumns"] =
        json!([{"name": "At", "type": "string", "jsonPath": ".spec.at"}]);
    defined(&server, definition).await;
    made(&server, V1, point("a", "1:2")).await;
    made(&server, V1, point("b", "0:0")).await;
    let (_, list) = send(&server, "GET", V1, Value::Null).await;
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut versions = Vec::new();
    for (name, change) in [
        ("a", json!({"metadata": {"labels": {"l": "1"}}})),
        ("b", json!({"spec": {"at": "1:2"}})),
        ("b", json!({"spec": {"at": "0:1"}})),
        ("b", json!({"spec": {"at": "0:2"}})),
        ("a", json!({"spec": {"at": "9:9"}})),
        ("a", json!({"spec": {"at": "1:2"}})),
    ] {
        let (code, changed) = patch(&server, &format!("{V1}/{name}"), "merge-patch+json", change).await;
        assert_eq!(code, 200, "{changed}");
        versions.push(changed["metadata"]["resourceVersion"].clone());
    }
    for name in ["a", "b"] {
        assert_eq!(send(&server, "DELETE", &format!("{V1}/{name}"), Value::Null).await.0, 200);
    }
    let events = async |asked: &str, headers: &[(&str, &str)]| -> Vec<Value> {
        let path = format!("{V1}?watch=1&timeoutSeconds=1&fieldSelector=spec.at%3D1:2&{asked}");
        let answer = ask(&server, "GET", &path, headers, "").await;
        let events = serde_json::Deserializer::from_slice(&answer.body).into_iter().map(Result::unwrap);
        events.collect()
    };
    let told = |event: &Value| {
        let (change, object) = (event["type"].as_str().unwrap(), &event["object"]);
        let (name, at) = (object["metadata"]["name"].as_str().unwrap(), object["spec"]["at"].as_str());
        format!("{change} {name} {}", at.unwrap_or_default())
    };
    let resumed = format!("resourceVersion={from}");
    let all = events(&resumed, &[]).await;
    let expected =
        ["MODIFIED a 1:2", "ADDED b 1:2", "DELETED b 1:2", "DELETED a 1:2", "ADDED a 1:2", "DELETED a 1:2"];
    assert_eq!(all.iter().map(told).collect::<Vec<_>>(), expected);
    let version = |at: usize| &all[at]["object"]["metadata"]["resourceVersion"];
    // What goes is told with the change that it goes by.
    let told_of = [version(0), version(1), version(2), version(3), version(4)];
    assert_eq!(told_of, [&versions[0], &versions[1], &versions[2], &versions[4], &versions[5]]);
    assert!(all.iter().all(|event| event["object"]["apiVersion"] == "example.com/v1"));

    let metadata = [("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")];
    let shapes = events(&resumed, &metadata).await;
    assert_eq!(
        shapes.iter().map(|event| &event["type"]).collect::<Vec<_>>(),
        all.iter().map(|event| &event["type"]).collect::<Vec<_>>()
    );
    let table = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let tables = events(&resumed, &table).await;
    assert_eq!(tables.len(), expected.len());
    assert!(tables.iter().all(|event| event["object"]["rows"][0]["cells"][1] == "1:2"));

    // A watch of everything is told changes as they are, and no other filter than a selector makes it otherwise.
    let path = format!("{V1}?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Db&{resumed}");
    let answer = ask(&server, "GET", &path, &[], "").await;
    let plain = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>().map(Result::unwrap);
    let plain: Vec<_> = plain.map(|event| told(&event)).collect();
    assert_eq!(plain, ["MODIFIED b 1:2", "MODIFIED b 0:1", "MODIFIED b 0:2", "DELETED b 0:2"]);
}

#[tokio::test]
async fn a_watch_begins_with_what_is_selected_of_what_a_webhook_shows() {
    let stranger = converter(Arc::default()).await;
    let server = server().await;
    defined(&server, selectable(&stranger)).await;
    made(&server, V1, point("a", "1:2")).await;
    made(&server, V1, point("b", "0:0")).await;
    let asked = "watch=1&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true\
                 &resourceVersionMatch=NotOlderThan";
    let path = format!("{V1}?{asked}&fieldSelector=spec.at%3D1:2");
    let answer = ask(&server, "GET", &path, &[], "").await;
    let events = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>().map(Result::unwrap);
    let events: Vec<_> =
        events.map(|e| (e["type"].clone(), e["object"]["metadata"]["name"].clone())).collect();
    assert_eq!(events, [(json!("ADDED"), json!("a")), (json!("BOOKMARK"), Value::Null)]);
}

#[tokio::test]
async fn what_lies_in_an_older_version_is_converted_for_every_request() {
    let stranger = converter(Arc::default()).await;
    let server = server().await;
    let mut definition = points(&stranger, &["v1"]);
    definition["spec"]["versions"][0]["storage"] = false.into();
    definition["spec"]["versions"][1]["storage"] = true.into();
    defined(&server, definition).await;
    made(&server, V1, point("a", "1:2")).await;
    let change = json!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": true},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": false},
    ]);
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/points.example.com";
    assert_eq!(patch(&server, path, "json-patch+json", change).await.0, 200);
    // The definition is followed in its own time.
    loop {
        let (code, read) = send(&server, "GET", &format!("{V2}/a"), Value::Null).await;
        assert_eq!((code, &read["spec"]), (200, &json!({"x": 1, "y": 2})));
        let kinds = server.registry().kinds();
        if kinds.iter().any(|kind| kind.is_mixed()) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let (_, read) = send(&server, "GET", &format!("{V2}/a"), Value::Null).await;
    assert_eq!(read["spec"], json!({"x": 1, "y": 2}));
    let (code, changed) =
        patch(&server, &format!("{V2}/a"), "merge-patch+json", json!({"spec": {"x": 5}})).await;
    assert_eq!((code, &changed["spec"]), (200, &json!({"x": 5, "y": 2})), "{changed}");
    let (_, read) = send(&server, "GET", &format!("{V1}/a"), Value::Null).await;
    assert_eq!(read["spec"], json!({"at": "5:2"}));
}

#[test]
fn an_answer_must_fit_its_question() {
    let original = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a", "uid": "u", "labels": {"a": "b"}}});
    let other = |change: fn(&mut Value)| {
        let mut object = original.clone();
        object["apiVersion"] = "g/v2".into();
        change(&mut object);
        restored(&original, object, "g/v2")
    };
    let kept =
        other(|o| o["metadata"] = json!({"name": "a", "uid": "u", "labels": {"c": "d"}, "generation": 9}))
            .unwrap();
    assert_eq!(kept["metadata"], json!({"name": "a", "uid": "u", "labels": {"c": "d"}}));
    for (change, why) in [
        (
            (|o| o["apiVersion"] = "g/v3".into()) as fn(&mut Value),
            "invalid groupVersion (expected g/v2, received \"g/v3\")",
        ),
        (|o| o["metadata"]["name"] = "b".into(), "must have the same name: a != b"),
        (|o| o["metadata"]["uid"] = "v".into(), "must have the same UID: u != v"),
        (|o| o["kind"] = "L".into(), "must have the same kind: K != L"),
        (|o| o["metadata"]["labels"] = json!({"a": 1}), "metadata.labels must be a map of strings"),
    ] {
        assert_eq!(other(change).unwrap_err(), why);
    }
    let response = |response: Value| json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response});
    let good = json!({"status": "Success"});
    for (review, why) in [
        (
            json!({}),
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got , Kind=",
        ),
        (response(Value::Null), "no response provided"),
        (response(json!({"uid": "y"})), "expected response.uid=\"x\", got \"y\""),
        (
            response(json!({"uid": "x", "result": {"status": "Failure"}})),
            "response.result.status was 'Failure', not 'Success'",
        ),
        (
            response(json!({"uid": "x", "result": good, "convertedObjects": []})),
            "returned 0 objects, expected 1",
        ),
    ] {
        assert_eq!(answered(review, "v1", "x", 1).unwrap_err(), why);
    }
}
