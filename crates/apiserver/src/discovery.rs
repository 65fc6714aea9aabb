//! What is served: the groups, their versions, and the resources of each.

use serde_json::{Map, Value, json};
use tiphys_api::kind::{Kind, Kinds, Str, api_version};

/// Answers a path of discovery; `None`: it is none, or names nothing that is served. `address` is what the
/// server calls itself.
pub fn answer(kinds: &Kinds, path: &str, address: &str) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api"] => Some(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        })),
        ["apis"] => {
            let groups: Vec<Value> = kinds
                .groups()
                .iter()
                .filter(|g| !g.name.is_empty())
                .map(|g| group(g.name, &g.versions))
                .collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let mut found =
                kinds.groups().iter().find(|g| g.name == *name).map(|g| group(g.name, &g.versions))?;
            found["kind"] = "APIGroup".into();
            found["apiVersion"] = "v1".into();
            Some(found)
        }
        ["api", version] => resources(kinds, "", version),
        ["apis", group, version] => resources(kinds, group, version),
        _ => None,
    }
}

fn group(name: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": api_version(name, v), "version": v})).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let rows: Vec<_> = kinds.iter().filter(|k| k.group == group && k.version(version).is_some()).collect();
    if rows.is_empty() {
        return None;
    }
    let mut list = Vec::new();
    for row in rows {
        list.push(resource(row));
        list.extend(row.subresources.iter().map(|sub| {
            let mut entry = Map::new();
            entry.insert("name".into(), format!("{}/{}", row.resource, sub.name).into());
            entry.insert("singularName".into(), "".into());
            entry.insert("namespaced".into(), row.is_namespaced().into());
            match &sub.speaks {
                Some(speaks) => {
                    if !speaks.version.is_empty() {
                        entry.insert("group".into(), speaks.group.as_ref().into());
                        entry.insert("version".into(), speaks.version.as_ref().into());
                    }
                    entry.insert("kind".into(), speaks.kind.as_ref().into());
                }
                None => {
                    entry.insert("kind".into(), row.kind.as_ref().into());
                }
            }
            entry.insert("verbs".into(), sub.verbs.names().collect());
            Value::Object(entry)
        }));
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version),
        "resources": list,
    }))
}

fn resource(row: &Kind) -> Value {
    let names = |names: &[Str]| names.iter().map(|n| Value::from(n.as_ref())).collect::<Vec<_>>();
    let mut entry = json!({
        "name": *row.resource, "singularName": *row.singular, "namespaced": row.is_namespaced(),
        "kind": *row.kind, "verbs": row.verbs.names().collect::<Vec<_>>(),
    });
    if !row.short_names.is_empty() {
        entry["shortNames"] = names(&row.short_names).into();
    }
    if !row.categories.is_empty() {
        entry["categories"] = names(&row.categories).into();
    }
    entry
}
