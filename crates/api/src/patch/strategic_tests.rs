use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::{Schema, TypeRef};

fn deployment() -> TypeRef<'static> {
    Schema::of("apps", "v1", "Deployment").unwrap()
}

/// Wraps a pod spec as a Deployment's template.
fn pod(spec: Value) -> Value {
    json!({"spec": {"template": {"spec": spec}}})
}

#[track_caller]
fn check(original: Value, change: Value, expected: Value) {
    assert_eq!(patch(&original, &change, deployment()).unwrap(), expected, "\n{original}\n+ {change}");
}

#[test]
fn maps_merge_and_null_deletes() {
    check(
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"replicas": 1}}),
        json!({"metadata": {"labels": {"a": null, "c": "3", "never": null}}, "spec": {"paused": true}}),
        json!({"metadata": {"labels": {"b": "2", "c": "3"}}, "spec": {"replicas": 1, "paused": true}}),
    );
}

#[test]
fn keyed_lists_merge_by_key_and_put_the_patch_in_order() {
    check(
        pod(
            json!({"containers": [{"name": "a", "image": "a:1", "command": ["x"]}, {"name": "b", "image": "b:1"}]}),
        ),
        pod(json!({"containers": [{"name": "c", "image": "c:1"}, {"name": "a", "image": "a:2"}]})),
        pod(json!({"containers": [
            {"name": "c", "image": "c:1"}, {"name": "a", "image": "a:2", "command": ["x"]},
            {"name": "b", "image": "b:1"},
        ]})),
    );
}

#[test]
fn nested_keyed_lists_merge_too() {
    check(
        pod(
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}]}),
        ),
        pod(json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "3"}]}]})),
        pod(
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "3"}]}]}),
        ),
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    check(
        pod(
            json!({"tolerations": [{"key": "a"}, {"key": "b"}], "containers": [{"name": "a", "command": ["x", "y"]}]}),
        ),
        pod(json!({"tolerations": [{"key": "c"}], "containers": [{"name": "a", "command": ["z"]}]})),
        pod(json!({"tolerations": [{"key": "c"}], "containers": [{"name": "a", "command": ["z"]}]})),
    );
}

#[test]
fn primitive_lists_merge_without_duplicates() {
    check(
        json!({"metadata": {"finalizers": ["a", "b"]}}),
        json!({"metadata": {"finalizers": ["b", "c"]}}),
        json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
    );
}

#[test]
fn delete_from_primitive_list() {
    check(
        json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b", "nothing"]}}),
        json!({"metadata": {"finalizers": ["a", "c"]}}),
    );
}

#[test]
fn set_element_order_orders_patched_and_keeps_others_in_place() {
    check(
        pod(json!({"containers": [{"name": "a"}, {"name": "srv"}, {"name": "b"}]})),
        pod(json!({
            "$setElementOrder/containers": [{"name": "b"}, {"name": "new"}, {"name": "a"}],
            "containers": [{"name": "new", "image": "n"}, {"name": "a", "image": "x"}],
        })),
        pod(
            json!({"containers": [{"name": "srv"}, {"name": "b"}, {"name": "new", "image": "n"}, {"name": "a", "image": "x"}]}),
        ),
    );
    check(
        json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
        json!({"metadata": {"$setElementOrder/finalizers": ["c", "a"], "$deleteFromPrimitiveList/finalizers": ["b"]}}),
        json!({"metadata": {"finalizers": ["c", "a"]}}),
    );
    check(
        json!({"metadata": {}}),
        json!({"metadata": {"$setElementOrder/finalizers": ["a"]}}),
        json!({"metadata": {}}),
    );
}

#[test]
fn items_are_deleted_and_lists_replaced_by_directive() {
    check(
        pod(json!({"containers": [{"name": "a"}, {"name": "b"}]})),
        pod(json!({"containers": [{"$patch": "delete", "name": "a"}, {"name": "b", "image": "i"}]})),
        pod(json!({"containers": [{"name": "b", "image": "i"}]})),
    );
    check(
        pod(json!({"containers": [{"name": "a"}, {"name": "b"}]})),
        pod(json!({"containers": [{"name": "c"}, {"$patch": "replace"}]})),
        pod(json!({"containers": [{"name": "c"}]})),
    );
}

#[test]
fn maps_are_replaced_deleted_or_merged_by_directive() {
    let original = || json!({"spec": {"strategy": {"type": "A", "rollingUpdate": {"maxSurge": 1}}}});
    check(
        original(),
        json!({"spec": {"strategy": {"$patch": "replace", "type": "B"}}}),
        json!({"spec": {"strategy": {"type": "B"}}}),
    );
    check(original(), json!({"spec": {"strategy": {"$patch": "delete"}}}), json!({"spec": {"strategy": {}}}));
    check(
        original(),
        json!({"spec": {"strategy": {"$patch": "merge", "type": "B"}}}),
        json!({"spec": {"strategy": {"type": "B", "rollingUpdate": {"maxSurge": 1}}}}),
    );
}

#[test]
fn retain_keys_drops_the_rest() {
    check(
        json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        json!({"spec": {"strategy": {"type": "Recreate"}}}),
    );
    check(
        pod(json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
        pod(
            json!({"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/"}}]}),
        ),
        pod(json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]})),
    );
}

#[test]
fn directives_and_nulls_never_reach_the_object() {
    check(
        json!({}),
        pod(json!({
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"name": "a", "image": null, "$retainKeys": ["name"]}, {"$patch": "delete", "name": "b"}],
            "nodeSelector": {"$patch": "delete"},
        })),
        pod(json!({"containers": [{"name": "a"}]})),
    );
}

#[test]
fn senseless_patches_are_refused() {
    let mut original = pod(json!({"containers": [{"name": "a"}]}));
    original["spec"]["strategy"] = json!({"type": "Recreate"});
    for (change, message) in [
        (json!([1]), "invalid JSON document"),
        (json!({"spec": {"$patch": "explode"}}), "unknown patch type: \"explode\" in map: {}"),
        (pod(json!({"containers": [{"image": "x"}]})), "does not contain declared merge key: name"),
        (pod(json!({"containers": [{"$patch": "delete"}]})), "does not contain declared merge key: name"),
        (
            pod(json!({"containers": [{"$patch": "merge", "name": "a"}]})),
            "merging lists cannot yet be specified",
        ),
        (pod(json!({"containers": ["x"]})), "list element types are not identical"),
        (pod(json!({"$deleteFromPrimitiveList": ["x"]})), "invalid patch format of primitive list"),
        (pod(json!({"$setElementOrder/containers": {}})), "invalid patch format of setElementOrder list"),
        (
            pod(json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]})),
            "doesn't match $setElementOrder list",
        ),
        (
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}}),
            "invalid patch format of retainKeys",
        ),
    ] {
        match patch(&original, &change, deployment()) {
            Err(Error::Malformed(text)) => assert!(text.contains(message), "{text}"),
            other => panic!("{change}: {other:?}"),
        }
    }
}

/// Any tree over the words that mean something in a patch of a Deployment.
fn any_tree() -> impl Strategy<Value = Value> {
    let words = [
        "spec",
        "template",
        "metadata",
        "containers",
        "env",
        "finalizers",
        "labels",
        "name",
        "strategy",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$setElementOrder/finalizers",
        "$deleteFromPrimitiveList/finalizers",
    ];
    let text = prop::sample::select(vec!["a", "b", "replace", "delete", "merge", "name"]);
    let leaf = prop_oneof![Just(Value::Null), text.prop_map(Value::from), (0..3).prop_map(Value::from)];
    leaf.prop_recursive(6, 40, 4, move |inner| {
        let map = prop::collection::btree_map(prop::sample::select(words.to_vec()), inner.clone(), 0..4);
        let map = map.prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>());
        prop_oneof![2 => map.prop_map(Value::Object), 1 => prop::collection::vec(inner, 0..4).prop_map(Value::Array)]
    })
}

fn speaks_in_directives(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(k, v)| k.starts_with('$') || speaks_in_directives(v)),
        Value::Array(items) => items.iter().any(speaks_in_directives),
        _ => false,
    }
}

proptest! {
    #[test]
    fn no_patch_panics_or_leaves_directives(original in any_tree(), change in any_tree()) {
        if !speaks_in_directives(&original) && let Ok(patched) = patch(&original, &change, deployment()) {
            prop_assert!(!speaks_in_directives(&patched), "{patched}");
        }
    }

    #[test]
    fn a_patch_of_plain_values_is_applied_once(original in any_tree(), change in any_tree()) {
        if !speaks_in_directives(&original)
            && !speaks_in_directives(&change)
            && let Ok(once) = patch(&original, &change, deployment())
            && let Ok(twice) = patch(&once, &change, deployment())
        {
            prop_assert_eq!(once, twice);
        }
    }
}

#[test]
fn a_patch_that_is_null_changes_nothing() {
    let original = pod(json!({"containers": [{"name": "a"}]}));
    check(original.clone(), Value::Null, original);
}
