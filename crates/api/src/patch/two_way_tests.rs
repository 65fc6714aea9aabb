use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::patch::strategic;
use crate::schema::Schema;

fn pod() -> TypeRef<'static> {
    Schema::of("", "v1", "Pod").unwrap()
}

#[test]
fn a_patch_says_only_what_is_different() {
    let original = json!({"metadata": {"name": "a", "labels": {"x": "1"},
            "initializers": {"pending": [{"name": "a.b.c"}, {"name": "d.e.f"}]}},
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "E", "value": "1"}]}], "nodeName": "n"}});
    let mut modified = original.clone();
    modified["metadata"]["initializers"]["pending"] = json!([{"name": "d.e.f"}]);
    modified["spec"]["containers"] = json!([{"name": "c", "image": "j", "env": [{"name": "E", "value": "1"}]},
        {"name": "sidecar", "image": "s"}]);
    modified["spec"].as_object_mut().unwrap().remove("nodeName");
    let change = patch(&original, &modified, pod());
    assert_eq!(
        change,
        json!({"metadata": {"initializers": {
                "pending": [{"name": "a.b.c", "$patch": "delete"}], "$setElementOrder/pending": [{"name": "d.e.f"}]}},
            "spec": {"nodeName": null,
                "containers": [{"name": "c", "image": "j"}, {"name": "sidecar", "image": "s"}],
                "$setElementOrder/containers": [{"name": "c"}, {"name": "sidecar"}]}})
    );
    assert_eq!(strategic::patch(&original, &change, pod()).unwrap(), modified);
    assert_eq!(patch(&original, &original, pod()), json!({}));
}

/// Containers, volumes, finalizers and labels in any order, each name once.
fn pods() -> impl Strategy<Value = Value> {
    let names = || proptest::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4).prop_shuffle();
    let words = || proptest::sample::select(vec!["x", "y"]);
    (names(), names(), names(), names(), proptest::collection::vec(words(), 8), any::<bool>()).prop_map(
        |(containers, volumes, finalizers, labels, words, host)| {
            let item = |(at, name): (usize, &&str)| {
                let ports: Vec<_> = words[at..at + 2].iter().collect();
                json!({"name": name, "image": words[at], "command": ports})
            };
            let mut spec = json!({
                "containers": containers.iter().enumerate().map(item).collect::<Vec<_>>(),
                "volumes": volumes.iter().enumerate()
                    .map(|(at, name)| json!({"name": name, "configMap": {"name": words[at + 4]}})).collect::<Vec<_>>(),
                "tolerations": words.iter().map(|key| json!({"key": key})).collect::<Vec<_>>(),
            });
            if host {
                spec["hostNetwork"] = true.into();
            }
            let labels: Object = labels.iter().map(|l| ((*l).to_owned(), words[3].into())).collect();
            json!({"metadata": {"finalizers": finalizers, "labels": labels}, "spec": spec})
        },
    )
}

proptest! {
    #[test]
    fn a_patch_leads_where_it_should((original, modified) in (pods(), pods())) {
        let change = patch(&original, &modified, pod());
        prop_assert_eq!(strategic::patch(&original, &change, pod()).unwrap(), modified, "{}", change);
    }
}
