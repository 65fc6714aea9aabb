use std::collections::BTreeSet;

use super::*;

fn parsed(document: &Document) -> Value {
    serde_json::from_slice(&document.body).unwrap()
}

/// Every reference in a document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                found.insert(reference.clone());
                assert_eq!(map.len(), if reference.starts_with("#/definitions") { map.len() } else { 1 });
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let kinds = Kinds::builtin();
    let mut documents = vec![parsed(&v2(&kinds, &mut Pieces::default(), &[]).unwrap())];
    for group in kinds.groups() {
        for version in &group.versions {
            documents.push(parsed(&v3(&kinds, group.name, version, &mut Pieces::default()).unwrap()));
        }
    }
    for document in documents {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}

#[test]
fn the_index_lists_every_version_by_its_hash() {
    let mut kinds = Kinds::builtin();
    let index = parsed(&v3_index(&kinds));
    let url =
        |index: &Value| index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let hash = v3_hash(&kinds, "apps", "v1").unwrap();
    assert_eq!(url(&index), format!("/openapi/v3/apis/apps/v1?hash={hash}"));
    assert!(index["paths"]["api/v1"].is_object());
    let deployments = kinds.group_resource("apps", "deployments").unwrap();
    let more = Kind { resource: "more".into(), kind: "More".into(), ..(**deployments).clone() };
    kinds.insert(more).unwrap();
    assert_ne!(url(&parsed(&v3_index(&kinds))), url(&index));
    assert_eq!(v3_hash(&kinds, "apps", "v9"), None);
    assert!(v3(&kinds, "apps", "v9", &mut Pieces::default()).is_none());
}

#[test]
fn every_kind_is_described() {
    let kinds = Kinds::builtin();
    for group in kinds.groups() {
        for version in &group.versions {
            let document = parsed(&v3(&kinds, group.name, version, &mut Pieces::default()).unwrap());
            for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
                let kind = schema["x-kubernetes-group-version-kind"][0]["kind"].as_str().unwrap_or_default();
                if !kind.is_empty() && !kind.ends_with("List") {
                    assert!(schema["description"].is_string(), "{name}");
                }
            }
        }
    }
}

/// What `kubectl explain` walks: from the path to the kind to its schema and on by references.
#[test]
fn explain_finds_kind_and_fields() {
    let document = parsed(&v3(&Kinds::builtin(), "apps", "v1", &mut Pieces::default()).unwrap());
    let kind = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["get"]["x-kubernetes-group-version-kind"];
    assert_eq!(kind, &json!({"group": "apps", "version": "v1", "kind": "Deployment"}));
    let schemas = &document["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"], json!([kind]));
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["type"], "array");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(schemas["io.k8s.api.core.v1.PodSpec"]["required"], json!(["containers"]));
    for described in
        [deployment, containers, &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["affinity"]]
    {
        assert!(described["description"].as_str().is_some_and(|text| !text.is_empty()), "{described}");
    }
    assert_eq!(
        schemas["io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"]["x-kubernetes-map-type"],
        "atomic"
    );
}

/// What kubectl looks for before it sends `fieldValidation` or `dryRun`.
#[test]
fn patches_name_their_parameters() {
    let kinds = Kinds::builtin();
    let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    for document in [
        parsed(&v2(&kinds, &mut Pieces::default(), &[]).unwrap()),
        parsed(&v3(&kinds, "apps", "v1", &mut Pieces::default()).unwrap()),
    ] {
        let patch = &document["paths"][path]["patch"];
        let names: Vec<_> =
            patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
        for name in ["dryRun", "fieldManager", "fieldValidation", "force"] {
            assert!(names.contains(&name), "{name}");
        }
        assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    }
}

#[test]
fn operations_are_named_once() {
    let document = parsed(&v2(&Kinds::builtin(), &mut Pieces::default(), &[]).unwrap());
    let mut seen = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values().filter_map(|o| o.get("operationId")) {
            assert!(seen.insert(operation.as_str().unwrap().to_owned()), "{path}: {operation}");
        }
    }
}
