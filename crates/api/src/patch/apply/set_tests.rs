use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn set(value: Value) -> Set {
    Set::decode(value).unwrap()
}

#[test]
fn elements_are_brought_into_one_form() {
    let odd = json!({"f:ports": {"k:{\"protocol\": \"TCP\", \"containerPort\": 80}": {".": {}}, "v: \"x\"": {}, "i:00": {}}});
    let plain =
        json!({"f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {}, "v:\"x\"": {}, "i:0": {}}});
    assert_eq!(set(odd).encode(), plain);
}

#[test]
fn what_is_no_set_is_refused() {
    for bad in [
        json!([]),
        json!({"f:a": 1}),
        json!({"name": {}}),
        json!({"x:a": {}}),
        json!({"k:[1]": {}}),
        json!({"k:{": {}}),
        json!({"v:{}": {}}),
        json!({"i:-1": {}}),
    ] {
        assert!(Set::decode(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn paths_read_as_upstream_writes_them() {
    let set = set(json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {"v:\"x/y\"": {}}},
        "f:spec": {"f:containers": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}, "i:2": {}}},
    }));
    assert_eq!(
        set.paths(),
        [
            ".metadata.finalizers[=\"x/y\"]",
            ".metadata.labels",
            ".metadata.labels.app",
            ".spec.containers[2]",
            ".spec.containers[containerPort=80,protocol=\"TCP\"]",
            ".spec.containers[containerPort=80,protocol=\"TCP\"].name",
        ]
    );
}

#[test]
fn subtraction_takes_members_or_all_below() {
    let all = json!({"f:a": {".": {}, "f:b": {}}, "f:c": {"f:d": {}}});
    let mut exact = set(all.clone());
    exact.subtract(&set(json!({"f:a": {}, "f:c": {}})));
    assert_eq!(exact.encode(), json!({"f:a": {"f:b": {}}, "f:c": {"f:d": {}}}));
    let mut below = set(all);
    below.subtract_recursive(&set(json!({"f:a": {}, "f:c": {"f:d": {}}})));
    assert_eq!(below.encode(), json!({}));
}

/// Any set over a small alphabet, so that sets overlap.
fn any_set() -> impl Strategy<Value = Set> {
    let element = prop::sample::select(vec!["f:a", "f:b", "k:{\"name\":\"x\"}", "v:1", "i:0"]);
    let leaf = Just(json!({}));
    let tree = leaf.prop_recursive(3, 12, 3, move |inner| {
        (prop::collection::btree_map(element.clone(), inner, 0..4), any::<bool>()).prop_map(
            |(below, member)| {
                let mut node: Map<String, Value> =
                    below.into_iter().map(|(e, v)| (e.to_owned(), v)).collect();
                if member && !node.is_empty() {
                    node.insert(".".to_owned(), json!({}));
                }
                Value::Object(node)
            },
        )
    });
    tree.prop_map(set)
}

proptest! {
    #[test]
    fn sets_round_trip(a in any_set()) {
        prop_assert_eq!(set(a.clone().encode()), a);
    }

    #[test]
    fn sets_obey_their_algebra(a in any_set(), b in any_set()) {
        let union = { let mut u = a.clone(); u.union(b.clone()); u };
        let reverse = { let mut u = b.clone(); u.union(a.clone()); u };
        prop_assert_eq!(&union, &reverse);
        let only_a = { let mut d = a.clone(); d.subtract(&b); d };
        prop_assert!(only_a.intersect(&b).is_empty());
        let rejoined = { let mut u = only_a.clone(); u.union(a.intersect(&b)); u };
        prop_assert_eq!(&rejoined, &a);
        let less_b = { let mut d = union; d.subtract(&b); d };
        prop_assert_eq!(&less_b, &only_a);
        prop_assert_eq!(b.contains_all(&a), only_a.is_empty());
    }
}
