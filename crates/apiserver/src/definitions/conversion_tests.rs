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

#[tokio::test]
async fn what_a_webhook_shows_is_not_selected_by() {
    let stranger = converter(Arc::default()).await;
    let server = server().await;
    let mut definition = points(&stranger, &["v1"]);
    definition["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.x"}]);
    definition["spec"]["versions"][1]["selectableFields"] = json!([{"jsonPath": ".spec.at"}]);
    defined(&server, definition).await;
    made(&server, V1, point("a", "1:2")).await;
    let (code, list) = send(&server, "GET", &format!("{V2}?fieldSelector=spec.x%3D1"), Value::Null).await;
    assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 1));
    let (code, named) =
        send(&server, "GET", &format!("{V1}?fieldSelector=metadata.name%3Da"), Value::Null).await;
    assert_eq!((code, named["items"].as_array().unwrap().len()), (200, 1));
    for asked in ["", "&watch=1"] {
        let path = format!("{V1}?fieldSelector=spec.at%3D1:2{asked}");
        let (code, refused) = send(&server, "GET", &path, Value::Null).await;
        let told = "field label not supported: spec.at: a webhook converts what is stored to version \"v1\"";
        assert_eq!((code, &refused["message"]), (400, &json!(told)));
    }
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
