use serde_json::{Value, json};

use super::*;
use crate::status::{Reason, Status};

fn pod() -> Value {
    json!({"metadata": {"name": "a", "labels": {"x/y": "1"}}, "spec": {"list": ["a", "b"]}})
}

#[test]
fn operations_apply_in_order() {
    let operations = json!([
        {"op": "test", "path": "/metadata/labels/x~1y", "value": "1"},
        {"op": "replace", "path": "/metadata/labels/x~1y", "value": "2"},
        {"op": "add", "path": "/spec/list/-", "value": "c"},
        {"op": "add", "path": "/spec/list/0", "value": "z"},
        {"op": "remove", "path": "/spec/list/1"},
        {"op": "copy", "from": "/metadata/name", "path": "/metadata/labels/name"},
        {"op": "move", "from": "/spec/list", "path": "/spec/moved"},
    ]);
    let expected = json!({
        "metadata": {"name": "a", "labels": {"x/y": "2", "name": "a"}},
        "spec": {"moved": ["z", "b", "c"]},
    });
    assert_eq!(patch(&pod(), &operations).unwrap(), expected);
}

#[test]
fn what_is_not_there_is_null() {
    let first = json!([
        {"op": "test", "path": "/metadata/finalizers", "value": null},
        {"op": "add", "path": "/metadata/finalizers", "value": ["a"]},
    ]);
    let once = patch(&pod(), &first).unwrap();
    assert_eq!(once["metadata"]["finalizers"], json!(["a"]));
    assert!(patch(&once, &first).is_err(), "by then it is there");
}

#[test]
fn what_does_not_fit_the_object_is_invalid() {
    for operations in [
        json!([{"op": "test", "path": "/metadata/nothing", "value": "b"}]),
        json!([{"op": "test", "path": "/nothing/at/all", "value": null}]),
        json!([{"op": "test", "path": "/spec/list/7", "value": null}]),
        json!([{"op": "test", "path": "/metadata/name", "value": "b"}]),
        json!([{"op": "remove", "path": "/metadata/nothing"}]),
        json!([{"op": "replace", "path": "/spec/list/7", "value": 1}]),
        json!([{"op": "move", "from": "/spec", "path": "/spec/list"}]),
    ] {
        let status = Status::from(patch(&pod(), &operations).unwrap_err());
        assert_eq!((status.reason, status.code()), (Reason::Invalid, 422), "{operations}");
        assert!(!status.details.unwrap().causes[0].message.is_empty());
    }
}

#[test]
fn a_failure_names_the_operation() {
    let operations = json!([
        {"op": "test", "path": "/metadata/name", "value": "a"},
        {"op": "test", "path": "/metadata/name", "value": "b"},
    ]);
    let error = patch(&pod(), &operations).unwrap_err();
    assert_eq!(error.to_string(), "operation 1 failed at path \"/metadata/name\": value did not match");
}

#[test]
fn what_is_no_patch_is_refused() {
    for (operations, code) in [
        (json!({"op": "test"}), 400),
        (json!([5]), 400),
        (json!([{"op": "explode", "path": "/a"}]), 422),
        (json!([{"path": "/a"}]), 422),
    ] {
        let status = Status::from(patch(&pod(), &operations).unwrap_err());
        assert_eq!(status.code(), code, "{operations}");
    }
}

#[test]
fn operations_are_bounded() {
    let operation = json!({"op": "test", "path": "/metadata/name", "value": "a"});
    let allowed = Value::Array(vec![operation.clone(); MAX_OPERATIONS]);
    assert_eq!(patch(&pod(), &allowed).unwrap(), pod());
    let error = patch(&pod(), &Value::Array(vec![operation; MAX_OPERATIONS + 1])).unwrap_err();
    assert_eq!(error.to_string(), "The allowed maximum operations in a JSON patch is 10000, got 10001");
    assert_eq!(Status::from(error).code(), 413);
}

#[test]
fn copies_cannot_fill_the_memory() {
    let mut operations = vec![json!({"op": "add", "path": "/spec", "value": ["x".repeat(1000)]})];
    for _ in 0..40 {
        operations.push(json!({"op": "copy", "from": "/spec", "path": "/spec/-"}));
    }
    let error = patch(&pod(), &Value::Array(operations)).unwrap_err();
    assert!(error.to_string().contains("exceeding the limit 3145728"), "{error}");
}

#[test]
fn moves_cannot_dig_without_end() {
    let mut operations = vec![json!({"op": "add", "path": "/a", "value": {}})];
    for _ in 0..200 {
        operations.push(json!({"op": "add", "path": "/b", "value": {}}));
        operations.push(json!({"op": "move", "from": "/a", "path": "/b/c"}));
        operations.push(json!({"op": "move", "from": "/b", "path": "/a"}));
    }
    let error = patch(&pod(), &Value::Array(operations)).unwrap_err();
    assert_eq!(error, Error::Unprocessable("exceeded max depth 128".into()));
}
