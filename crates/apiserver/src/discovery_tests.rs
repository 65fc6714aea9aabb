use serde_json::{Value, json};

use super::*;

/// The item of a list whose `key` is `name`.
fn find<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|item| item[key] == name).unwrap_or(&Value::Null)
}

#[test]
fn the_core_group_is_listed_by_versions() {
    let versions = core_versions(&Kinds::builtin(), "10.0.0.1:6443");
    assert_eq!(versions["versions"], json!(["v1"]));
    assert_eq!(versions["serverAddressByClientCIDRs"][0]["serverAddress"], "10.0.0.1:6443");
}

#[test]
fn groups_name_their_versions() {
    let kinds = Kinds::builtin();
    let all = groups(&kinds);
    let apps = json!({
        "name": "apps",
        "versions": [
            {"groupVersion": "apps/v1", "version": "v1"},
            {"groupVersion": "apps/v1beta2", "version": "v1beta2"},
            {"groupVersion": "apps/v1beta1", "version": "v1beta1"},
        ],
        "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"},
    });
    assert_eq!(find(&all["groups"], "name", "apps"), &apps);
    assert_eq!(find(&all["groups"], "name", ""), &Value::Null);
    let one = group(&kinds, "apps").unwrap();
    assert_eq!((&one["kind"], &one["versions"]), (&json!("APIGroup"), &apps["versions"]));
    assert_eq!(group(&kinds, "nothing"), None);
    assert_eq!(group(&kinds, ""), None);
}

#[test]
fn resources_come_sorted_with_their_subresources() {
    let kinds = Kinds::builtin();
    let core = resources(&kinds, "", "v1").unwrap();
    assert_eq!((core.get("apiVersion"), &core["groupVersion"]), (None, &json!("v1")));
    assert_eq!(
        find(&core["resources"], "name", "pods"),
        &json!({
            "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod",
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            "shortNames": ["po"], "categories": ["all"], "storageVersionHash": "xPOwRZ+Yhw8=",
        })
    );
    let names: Vec<_> = core["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str()).collect();
    assert!(names.is_sorted());
    assert_eq!(find(&core["resources"], "name", "pods/exec")["kind"], "PodExecOptions");
    assert_eq!(find(&core["resources"], "name", "pods/exec").get("version"), None);
    let apps = resources(&kinds, "apps", "v1").unwrap();
    let scale = find(&apps["resources"], "name", "deployments/scale");
    assert_eq!(
        (&scale["group"], &scale["version"], &scale["kind"]),
        (&json!("autoscaling"), &json!("v1"), &json!("Scale"))
    );
    assert_eq!(resources(&kinds, "apps", "v7"), None);
}

#[test]
fn aggregated_discovery_says_the_same() {
    let kinds = Kinds::builtin();
    let documents = [
        (true, aggregated(&kinds, true, &mut PerRow::default())),
        (false, aggregated(&kinds, false, &mut PerRow::default())),
    ];
    for (core, document) in &documents {
        let list: Value = serde_json::from_slice(&document.body).unwrap();
        assert_eq!(list["kind"], "APIGroupDiscoveryList");
        for item in list["items"].as_array().unwrap() {
            let group = item["metadata"]["name"].as_str().unwrap_or_default();
            assert_eq!(group.is_empty(), *core);
            for version in item["versions"].as_array().unwrap() {
                let mut seen = Vec::new();
                for resource in version["resources"].as_array().unwrap() {
                    let name = resource["resource"].as_str().unwrap();
                    seen.push(name.to_owned());
                    for subresource in resource["subresources"].as_array().into_iter().flatten() {
                        seen.push(format!("{name}/{}", subresource["subresource"].as_str().unwrap()));
                    }
                }
                let plain = resources(&kinds, group, version["version"].as_str().unwrap()).unwrap();
                let plain: Vec<_> = plain["resources"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|r| r["name"].as_str().unwrap().to_owned())
                    .collect();
                seen.sort();
                assert_eq!(seen, plain);
            }
        }
    }
    let apps: Value = serde_json::from_slice(&documents[1].1.body).unwrap();
    let apps = apps["items"].as_array().unwrap().iter().find(|i| i["metadata"]["name"] == "apps").unwrap();
    let deployments = find(&apps["versions"][0]["resources"], "resource", "deployments");
    assert_eq!(deployments["responseKind"], json!({"group": "apps", "version": "v1", "kind": "Deployment"}));
    assert_eq!(
        (&deployments["scope"], &deployments["shortNames"]),
        (&json!("Namespaced"), &json!(["deploy"]))
    );
}

#[test]
fn the_tag_changes_with_the_rows() {
    let mut kinds = Kinds::builtin();
    let before = aggregated(&kinds, false, &mut PerRow::default());
    assert_eq!(aggregated(&kinds, false, &mut PerRow::default()), before);
    let deployments = kinds.group_resource("apps", "deployments").unwrap();
    let more = Kind { resource: "more".into(), kind: "More".into(), ..(**deployments).clone() };
    kinds.insert(more).unwrap();
    let after = aggregated(&kinds, false, &mut PerRow::default());
    assert_ne!(after.etag, before.etag);
    assert!(after.etag.starts_with('"') && after.etag.ends_with('"'));
}
