use serde_json::json;

use super::*;

fn messages(errors: &Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_object_passes() {
    let object = json!({"metadata": {
        "name": "web", "namespace": "default", "labels": {"app": "web", "x.io/a": ""},
        "annotations": {"Mixed.io/Case": "anything\n"}, "finalizers": ["x.io/keep", "orphan"],
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "w", "uid": "1",
                             "controller": true}],
    }});
    assert_eq!(validate_create(&object, true, names::dns_subdomain), []);
    assert_eq!(validate_update(&object, &object), []);
}

#[test]
fn bad_metadata_is_told_by_field() {
    let object = json!({"metadata": {
        "namespace": "Kube", "labels": {"app": "-"}, "annotations": {"a b": ""},
        "finalizers": ["orphan", "foregroundDeletion"],
        "ownerReferences": [{"controller": true, "apiVersion": "v1", "kind": "A", "name": "a", "uid": "1"},
                            {"controller": true, "apiVersion": "a/b/c", "kind": "B", "name": "b", "uid": "2"},
                            {"apiVersion": "v1", "kind": "Event", "name": "", "uid": "3"}],
    }});
    let told = messages(&validate_create(&object, true, names::dns_subdomain));
    for start in [
        "metadata.name: Required value: name or generateName is required",
        "metadata.namespace: Invalid value: \"Kube\": a lowercase RFC 1123 label",
        "metadata.labels: Invalid value: \"-\": a valid label must be",
        "metadata.annotations: Invalid value: \"a b\": name part must consist of",
        "metadata.ownerReferences[1].apiVersion: Invalid value: \"a/b/c\": must be <group>/<version> or <version>",
        "metadata.ownerReferences: Invalid value: [{",
        "metadata.ownerReferences[2].name: Required value: must not be empty",
        "metadata.ownerReferences[2]: Invalid value:",
        "metadata.finalizers: Invalid value:",
    ] {
        assert!(told.iter().any(|m| m.starts_with(start)), "{start} not in {told:#?}");
    }
    let cluster = json!({"metadata": {"name": "n", "namespace": "x"}});
    let told = messages(&validate_create(&cluster, false, names::dns_subdomain));
    assert_eq!(told, ["metadata.namespace: Forbidden: not allowed on this type"]);
}

#[test]
fn identity_does_not_change_and_the_dying_gain_no_finalizers() {
    let old = json!({"metadata": {"name": "a", "uid": "1", "generation": 2,
                                  "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a.io/x"]}});
    let mut new = old.clone();
    new["metadata"]["uid"] = "2".into();
    new["metadata"]["generation"] = 1.into();
    new["metadata"]["finalizers"] = json!(["a.io/x", "b.io/y"]);
    let told = messages(&validate_update(&new, &old));
    assert_eq!(
        told,
        [
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found \
             new finalizers []string{\"b.io/y\"}",
            "metadata.generation: Invalid value: 1: must not be decremented",
            "metadata.uid: Invalid value: \"2\": field is immutable",
        ]
    );
}

#[test]
fn annotations_have_a_size() {
    let object = json!({"metadata": {"name": "a", "annotations": {"k": "v".repeat(MAX_ANNOTATION_BYTES)}}});
    let told = messages(&validate_create(&object, false, names::dns_subdomain));
    assert_eq!(told, ["metadata.annotations: Too long: may not be more than 262144 bytes"]);
}

#[test]
fn generated_names_fit_a_label() {
    let mut n = 0;
    let name = generated_name(&"a".repeat(80), |below| {
        n += 1;
        n % below
    });
    assert_eq!(name.len(), 63);
    assert!(name.ends_with("cdfgh"));
    assert_eq!(generated_name("web-", |_| 0), "web-bbbbb");
    assert!(generated_name(&"é".repeat(40), |_| 0).len() <= 63);
}

#[test]
fn generation_follows_the_spec() {
    let mut object = json!({"kind": "Pod"});
    start_generation(&mut object);
    assert_eq!(generation(&object), 1);
    let mut new = json!({"metadata": {"generation": 77}});
    follow_generation(&mut new, &object, false);
    assert_eq!(generation(&new), 1);
    follow_generation(&mut new, &object, true);
    assert_eq!(generation(&new), 2);
}
