use serde_json::{Value, json};

use super::*;
use crate::schema::Schema;

fn ty(group: &str, kind: &str) -> TypeRef<'static> {
    Schema::of(group, "v1", kind).unwrap()
}

#[track_caller]
fn check(old: Value, new: Value, written: Value, removed: Value) {
    let change = compare(&old, &new, ty("", "Pod"));
    assert_eq!((change.written.encode(), change.removed.encode()), (written, removed));
}

#[test]
fn a_change_names_the_smallest_things_that_changed() {
    check(
        json!({"metadata": {"labels": {"a": "1", "b": "1"}}, "spec": {"containers": [{"name": "x", "image": "1"}]}}),
        json!({"metadata": {"labels": {"a": "2", "c": "1"}}, "spec": {"containers": [{"name": "x", "image": "2"}]}}),
        json!({
            "f:metadata": {"f:labels": {"f:a": {}, "f:c": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {"f:image": {}}}},
        }),
        json!({"f:metadata": {"f:labels": {"f:b": {}}}}),
    );
}

#[test]
fn what_is_new_is_written_whole_but_what_always_exists_is_not() {
    check(
        json!({}),
        json!({
            "metadata": {"labels": {"a": "1"}, "finalizers": ["f"]},
            "spec": {
                "containers": [{"name": "x", "resources": {}, "ports": [{"containerPort": 80}], "command": ["sh"]}],
                "securityContext": {}, "nodeSelector": {"a": "b"},
            },
        }),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:finalizers": {".": {}, "v:\"f\"": {}}},
            "f:spec": {
                "f:containers": {"k:{\"name\":\"x\"}": {
                    ".": {}, "f:name": {}, "f:resources": {}, "f:command": {},
                    "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                }},
                "f:securityContext": {}, "f:nodeSelector": {},
            },
        }),
        json!({}),
    );
}

#[test]
fn order_alone_is_no_change_of_a_keyed_list() {
    let pod = |names: [&str; 2]| json!({"spec": {"containers": names.map(|n| json!({"name": n}))}});
    check(pod(["a", "b"]), pod(["b", "a"]), json!({}), json!({}));
}

#[test]
fn items_that_share_a_key_are_owned_together() {
    let env = |values: &[&str]| {
        let env: Vec<Value> = values.iter().map(|v| json!({"name": "E", "value": v})).collect();
        json!({"spec": {"containers": [{"name": "x", "env": env}]}})
    };
    let item = |member: Value| json!({"f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {"f:env": {"k:{\"name\":\"E\"}": member}}}}});
    check(env(&["1", "2"]), env(&["1", "2"]), json!({}), json!({}));
    check(env(&["1", "2"]), env(&["1", "3"]), item(json!({})), json!({}));
    check(env(&["1", "2"]), env(&[]), json!({}), item(json!({})));
}

#[test]
fn a_configuration_owns_leaves_items_and_keys_but_not_structs() {
    let config = json!({
        "metadata": {"labels": {"a": "1"}, "annotations": {}},
        "spec": {"containers": [{"name": "x", "resources": {"limits": {"cpu": "1"}}}], "tolerations": [{}]},
    });
    let expected = json!({
        "f:metadata": {"f:labels": {"f:a": {}}, "f:annotations": {}},
        "f:spec": {
            "f:containers": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:resources": {"f:limits": {"f:cpu": {}}}}},
            "f:tolerations": {},
        },
    });
    assert_eq!(Value::Object(fields(&config, ty("", "Pod")).unwrap()), expected);
}

#[test]
fn a_configuration_must_tell_its_items_apart() {
    for (containers, message) in [
        (json!([{"name": "a"}, {"name": "a"}]), ".spec.containers: duplicate entries for key [name=\"a\"]"),
        (
            json!([{"image": "a"}]),
            ".spec.containers: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
        ),
        (
            json!(["a"]),
            ".spec.containers: element 0: associative list with keys may not have non-map elements",
        ),
    ] {
        let error = fields(&json!({"spec": {"containers": containers}}), ty("", "Pod")).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn lists_merge_in_the_order_of_the_configuration() {
    let named = |names: &[&str]| -> Vec<Value> { names.iter().map(|n| json!({"name": n})).collect() };
    for (live, config, merged) in [
        (&["a", "b"][..], &["b", "a"][..], &["b", "a"][..]),
        (&["a", "b", "c"], &["c", "a"], &["b", "c", "a"]),
        (&["b", "a"], &["x", "a"], &["b", "x", "a"]),
        (&["a"], &["x", "y"], &["a", "x", "y"]),
        (&[], &["x"], &["x"]),
        (&["a", "b"], &[], &["a", "b"]),
    ] {
        let mut object = json!({"spec": {"containers": named(live)}});
        let place = Some(ty("", "Pod").into());
        merge(&mut object, &json!({"spec": {"containers": named(config)}}), place);
        assert_eq!(object["spec"]["containers"], Value::Array(named(merged)), "{live:?} + {config:?}");
    }
}
