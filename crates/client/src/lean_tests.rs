use serde_json::json;

use super::*;

struct Cost;
impl Reads for Cost {
    const ANNOTATIONS: &'static [&'static str] = &["cost"];
}

#[derive(Deserialize)]
struct Object {
    #[serde(deserialize_with = "metadata::<Cost, _>")]
    metadata: ObjectMeta,
}

fn read(text: &str) -> ObjectMeta {
    serde_json::from_str::<Object>(text).expect("an object").metadata
}

#[test]
fn of_metadata_only_what_is_read_is_kept() {
    let whole = json!({
        "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
        "deletionGracePeriodSeconds": 30, "labels": {"app": "web"}, "finalizers": ["f"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "x", "controller": true}],
    });
    let mut sent = whole.clone();
    sent["annotations"] = json!({"cost": "3", "other": "x".repeat(100), "quo\"ted": "y"});
    sent["managedFields"] = json!([{"manager": "m", "fieldsV1": {"f:a": {}}}]);
    let mut expected: ObjectMeta = serde_json::from_value(whole).expect("metadata");
    expected.annotations = Some(BTreeMap::from([("cost".to_owned(), "3".to_owned())]));
    assert_eq!(read(&json!({"metadata": sent}).to_string()), expected);
}

#[test]
fn nothing_is_as_good_as_none() {
    assert_eq!(read(r#"{"metadata":{"annotations":{"other":"x"},"labels":null}}"#), ObjectMeta::default());
    assert_eq!(read(r#"{"metadata":{"annotations":null}}"#), ObjectMeta::default());
}

#[test]
fn equal_tolerations_are_held_once() {
    let of = |key: &str| vec![Toleration { key: Some(key.to_owned()), ..Toleration::default() }];
    let first = alike(of("shared"));
    assert!(Arc::ptr_eq(&first, &alike(of("shared"))));
    assert_eq!(*alike(of("other")), *of("other"));
    // Of many different lists few are remembered; all are right.
    for n in 0..10 * KNOWN {
        assert_eq!(*alike(of(&n.to_string())), *of(&n.to_string()));
    }
    assert!(!Arc::ptr_eq(&first, &alike(of("shared"))));
}
