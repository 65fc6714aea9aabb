use serde_json::json;

use super::*;

#[test]
fn paths_lead_to_values() {
    let object = json!({
        "spec": {"replicas": 3, "a.b": "dotted", "list": [1, 2, 3]},
        "status": {"conditions": [
            {"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"},
        ]},
    });
    for (path, found) in [
        (".spec.replicas", json!([3])),
        (".spec['replicas']", json!([3])),
        (r".spec.a\.b", json!(["dotted"])),
        (".spec.list[0]", json!([1])),
        (".spec.list[-1]", json!([3])),
        (".spec.list[*]", json!([1, 2, 3])),
        (".spec.list[9]", json!([])),
        (".spec.none.deeper", json!([])),
        (r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"])),
        (".status.conditions[?(@.type!='Ready')].status", json!(["False"])),
        (".status.conditions[*].type", json!(["Other", "Ready"])),
    ] {
        let read = JsonPath::parse(path).unwrap();
        assert_eq!(json!(read.find(&object)), found, "{path}");
    }
}

#[test]
fn what_is_no_path_is_refused() {
    for path in ["spec", ".spec[", ".spec[?(@.a)]", "..", ".a..b", ".a[x]", ".a]b["] {
        // A bracket that nothing opened is part of a name.
        let read = JsonPath::parse(path);
        assert!(read.is_err(), "{path}: {read:?}");
    }
}
