//! Others' groups beside this server's own, in discovery and OpenAPI. Pure.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::{Value, json};
use tiphys_api::kind::{api_version, split_api_version};
use tiphys_api::meta;

use super::{Backend, Found, local::group_priority};

/// A server, and what it was last found to serve.
pub(crate) type Server = (Arc<Backend>, Option<Arc<Found>>);

/// Those of high priority come first.
pub(super) fn order(b: &Backend) -> impl Ord + use<'_> {
    let rank = meta::version_rank(&b.version);
    (Reverse(b.group_priority), &*b.group, Reverse(b.version_priority), rank)
}

/// Where a server's group belongs among groups that are read by `name`: before the first of this server's own
/// groups that is of lower priority. Servers come in their order.
fn place(groups: &[Value], b: &Backend, servers: &[Server], name: impl Fn(&Value) -> &str) -> usize {
    let own = |group: &str| servers.iter().all(|(other, _)| other.group != group);
    let below = |group: &Value| own(name(group)) && group_priority(name(group)) < b.group_priority;
    groups.iter().position(below).unwrap_or(groups.len())
}

fn describe(b: &Backend) -> Value {
    json!({"groupVersion": api_version(&b.group, &b.version), "version": b.version})
}

/// Adds to an `APIGroup` the version of a server.
fn add_version(group: &mut Value, b: &Backend) {
    let Some(versions) = group["versions"].as_array_mut() else { return };
    if versions.iter().all(|v| v["version"] != *b.version) {
        versions.push(describe(b));
    }
}

fn new_group(b: &Backend) -> Value {
    json!({"name": b.group, "versions": [describe(b)], "preferredVersion": describe(b)})
}

/// `/apis` with the servers' groups.
pub(crate) fn groups(list: &mut Value, servers: &[Server]) {
    let Some(groups) = list["groups"].as_array_mut() else { return };
    for (b, _) in servers {
        match groups.iter_mut().find(|group| group["name"] == *b.group) {
            Some(group) => add_version(group, b),
            None => {
                let at = place(groups, b, servers, |group| meta::text(group, &["name"]));
                groups.insert(at, new_group(b));
            }
        }
    }
}

/// `/apis/<group>` with the servers' versions; `None` if nobody has the group.
pub(crate) fn group(own: Option<Value>, name: &str, servers: &[Server]) -> Option<Value> {
    let mut merged = own;
    for (b, _) in servers.iter().filter(|(b, _)| b.group == name) {
        match &mut merged {
            Some(group) => add_version(group, b),
            None => {
                let mut group = new_group(b);
                group["kind"] = "APIGroup".into();
                group["apiVersion"] = "v1".into();
                merged = Some(group);
            }
        }
    }
    merged
}

/// The aggregated form of `/apis` with the servers' groups.
pub(crate) fn aggregated(list: &mut Value, servers: &[Server]) {
    let Some(items) = list["items"].as_array_mut() else { return };
    for (b, found) in servers {
        let freshness = if b.available { "Current" } else { "Stale" };
        let resources = found.as_ref().map(|f| discovered(&f.resources)).unwrap_or_default();
        let version = json!({"version": b.version, "resources": resources, "freshness": freshness});
        let own = items.iter_mut().find(|item| item["metadata"]["name"] == *b.group);
        match own.and_then(|item| item["versions"].as_array_mut()) {
            Some(versions) => versions.push(version),
            None => {
                let at = place(items, b, servers, |item| meta::text(item, &["metadata", "name"]));
                let metadata = json!({"name": b.group, "creationTimestamp": null});
                items.insert(at, json!({"metadata": metadata, "versions": [version]}));
            }
        }
    }
}

/// An `APIResourceList` as the resources of aggregated discovery.
fn discovered(list: &Value) -> Vec<Value> {
    let (group, version) = split_api_version(meta::text(list, &["groupVersion"]));
    let kind = |resource: &Value| {
        let or = |field, other| match meta::text(resource, &[field]) {
            "" => other,
            own => own,
        };
        json!({"group": or("group", group), "version": or("version", version), "kind": resource["kind"]})
    };
    let (mut resources, mut parts): (Vec<Value>, Vec<(String, Value)>) = (Vec::new(), Vec::new());
    for resource in meta::items(list, &["resources"]) {
        let name = meta::text(resource, &["name"]);
        let verbs = meta::items(resource, &["verbs"]);
        if let Some((parent, subresource)) = name.split_once('/') {
            let part = json!({"subresource": subresource, "responseKind": kind(resource), "verbs": verbs});
            parts.push((parent.to_owned(), part));
            continue;
        }
        let scope = if resource["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let mut shown = json!({"resource": name, "responseKind": kind(resource), "scope": scope,
                               "singularResource": meta::text(resource, &["singularName"]), "verbs": verbs});
        for field in ["shortNames", "categories"] {
            if !meta::items(resource, &[field]).is_empty() {
                shown[field] = resource[field].clone();
            }
        }
        resources.push(shown);
    }
    for resource in &mut resources {
        let own = parts.iter().filter(|(parent, _)| resource["resource"] == **parent);
        let own: Vec<Value> = own.map(|(_, part)| part.clone()).collect();
        if !own.is_empty() {
            resource["subresources"] = own.into();
        }
    }
    resources
}

/// `/openapi/v3` with the servers' documents, which are theirs to answer.
pub(crate) fn openapi(index: &mut Value, servers: &[Server]) {
    for (b, found) in servers {
        let url = found.as_ref().and_then(|f| f.openapi.as_deref());
        if let Some(url) = url.filter(|url| url.starts_with("/openapi/v3/")) {
            index["paths"][format!("apis/{}/{}", b.group, b.version)] = json!({"serverRelativeURL": url});
        }
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
