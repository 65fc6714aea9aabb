use serde_json::json;

use super::*;

fn revision() -> Revision {
    Revision::parse("42").unwrap()
}

#[test]
fn what_is_stored_has_no_version_and_what_is_read_has_one() {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "data": {"metadata": "{\"metadata\":{"},
        "metadata": {"annotations": {"resourceVersion": "kept"}, "name": "a", "resourceVersion": "7"},
    });
    let stored = encode(&object);
    assert_eq!(
        stored,
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"annotations":{"resourceVersion":"kept"},"name":"a"},"data":{"metadata":"{\"metadata\":{"}}"#
    );
    let read: Value = serde_json::from_slice(&render(&stored, revision()).unwrap()).unwrap();
    let mut expected = object;
    expected["metadata"]["resourceVersion"] = "42".into();
    assert_eq!(read, expected);
}

#[test]
fn names_cannot_imitate_the_mark() {
    let object = json!({"apiVersion": "\"metadata\":{", "kind": "\"metadata\":{", "metadata": {}});
    let read: Value = serde_json::from_slice(&render(&encode(&object), revision()).unwrap()).unwrap();
    assert_eq!(read["metadata"], json!({"resourceVersion": "42"}));
}

#[test]
fn damage_is_noticed() {
    assert_eq!(render(b"{}", revision()), Err(Damaged));
}
