//! What the server serves, as clients ask before they ask for anything else.
//!
//! The plain documents are built from the registry's rows whenever they are asked for; the aggregated form, which
//! lists every row there is, is put together of what each row contributes.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tiphys_api::kind::{Group, Kind, Kinds, Speaks, Subresource, Verbs, api_version};

use crate::per_row::PerRow;

/// The media type of [`aggregated`], to be asked for in `Accept`.
pub const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A body that a client may keep until its `ETag` changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub body: Bytes,
    /// As the header carries it, in quotes.
    pub etag: String,
}

impl Document {
    pub(crate) fn of(value: &Value) -> Self {
        Self::new(value.to_string())
    }

    pub(crate) fn new(content: impl Into<Bytes>) -> Self {
        let body = content.into();
        let etag = format!("\"{:X}\"", Sha256::digest(&body));
        Self { body, etag }
    }
}

/// `/api`: the versions of the core group. `address` is the host and port that clients reach.
pub fn core_versions(kinds: &Kinds, address: &str) -> Value {
    let core = kinds.groups().into_iter().find(|group| group.name.is_empty());
    json!({
        "kind": "APIVersions",
        "versions": core.map(|group| group.versions).unwrap_or_default(),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`: all groups but the core.
pub fn groups(kinds: &Kinds) -> Value {
    let groups = kinds.groups();
    let named = groups.iter().filter(|group| !group.name.is_empty()).map(describe_group);
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": named.collect::<Vec<_>>()})
}

/// `/apis/<group>`.
pub fn group(kinds: &Kinds, name: &str) -> Option<Value> {
    let groups = kinds.groups();
    let mut found = describe_group(groups.iter().find(|group| !name.is_empty() && group.name == name)?);
    found["kind"] = "APIGroup".into();
    found["apiVersion"] = "v1".into();
    Some(found)
}

fn describe_group(group: &Group<'_>) -> Value {
    let version = |v: &&str| json!({"groupVersion": api_version(group.name, v), "version": v});
    let mut described = json!({
        "name": group.name,
        "versions": group.versions.iter().map(version).collect::<Vec<_>>(),
    });
    if let Some(preferred) = group.versions.first() {
        described["preferredVersion"] = version(preferred);
    }
    described
}

/// `/api/<version>` and `/apis/<group>/<version>`: the resources of a version with their subresources.
pub fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in served(kinds, group, version)? {
        resources.push(describe_resource(kind));
        for subresource in
            kind.subresources.iter().filter(|s| kind.subresource_in(version, &s.name).is_some())
        {
            resources.push(describe_subresource(kind, subresource));
        }
    }
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let mut list = json!({
        "kind": "APIResourceList",
        "groupVersion": api_version(group, version),
        "resources": resources,
    });
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

/// The rows that a group serves in a version; `None` if there are none.
pub(crate) fn served<'a>(kinds: &'a Kinds, group: &str, version: &str) -> Option<Vec<&'a Arc<Kind>>> {
    let rows: Vec<_> = kinds.iter().filter(|k| k.group == group && k.version(version).is_some()).collect();
    (!rows.is_empty()).then_some(rows)
}

fn names(verbs: Verbs) -> Value {
    verbs.names().map(Value::from).collect()
}

fn describe_resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "name": kind.resource,
        "singularName": kind.singular,
        "namespaced": kind.is_namespaced(),
        "kind": kind.kind,
        "verbs": names(kind.verbs),
    });
    add_names(kind, &mut resource);
    if let Some(storage) = &kind.storage {
        // Tells clients that migrate storage whether what is stored has changed its form.
        let stored = format!("{}/{}/{}", storage.group, storage.version, kind.kind);
        resource["storageVersionHash"] = STANDARD.encode(&Sha256::digest(stored)[..8]).into();
    }
    resource
}

fn add_names(kind: &Kind, resource: &mut Value) {
    for (key, names) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !names.is_empty() {
            resource[key] = names.iter().map(|name| Value::from(name.as_ref())).collect();
        }
    }
}

fn describe_subresource(kind: &Kind, subresource: &Subresource) -> Value {
    let mut resource = json!({
        "name": format!("{}/{}", kind.resource, subresource.name),
        "singularName": "",
        "namespaced": kind.is_namespaced(),
        "kind": kind.kind,
        "verbs": names(subresource.verbs),
    });
    if let Some(Speaks { group, version, kind }) = &subresource.speaks {
        resource["kind"] = kind.as_ref().into();
        for (key, value) in [("group", group), ("version", version)] {
            if !value.is_empty() {
                resource[key] = value.as_ref().into();
            }
        }
    }
    resource
}

/// Aggregated discovery (`apidiscovery.k8s.io/v2`): everything below `/api` (`core`) or `/apis` in one list. What
/// each row is listed as is in `rows`, or comes there.
pub(crate) fn aggregated(kinds: &Kinds, core: bool, rows: &mut PerRow<Arc<str>>) -> Document {
    let mut out = String::from(
        r#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":["#,
    );
    let groups = kinds.groups();
    for (n, group) in groups.iter().filter(|group| group.name.is_empty() == core).enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let name = if core { String::new() } else { format!(r#""name":{},"#, Value::from(group.name)) };
        // Writing to a string cannot fail.
        let _ = write!(out, r#"{comma}{{"metadata":{{{name}"creationTimestamp":null}},"versions":["#);
        for (n, version) in group.versions.iter().enumerate() {
            let mut served: Vec<_> = group.kinds.iter().filter(|k| k.version(version).is_some()).collect();
            served.sort_by(|a, b| a.resource.cmp(&b.resource));
            let comma = if n == 0 { "" } else { "," };
            // As above.
            let _ = write!(out, r#"{comma}{{"version":{},"resources":["#, Value::from(*version));
            for (n, kind) in served.into_iter().enumerate() {
                out.push_str(if n == 0 { "" } else { "," });
                out.push_str(rows.get(kind, version, || discover(kind, version).to_string().into()));
            }
            out.push_str(r#"],"freshness":"Current"}"#);
        }
        out.push_str("]}");
    }
    out.push_str("]}");
    Document::new(out)
}

fn discover(kind: &Kind, version: &str) -> Value {
    let response =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut resource = json!({
        "resource": kind.resource,
        "responseKind": response(&kind.group, version, &kind.kind),
        "scope": if kind.is_namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": names(kind.verbs),
    });
    add_names(kind, &mut resource);
    let served = kind.subresources.iter().filter(|s| kind.subresource_in(version, &s.name).is_some());
    let subresources = served.map(|subresource| {
        let speaks = match &subresource.speaks {
            None => response(&kind.group, version, &kind.kind),
            // Named by its kind alone, it belongs to the version that serves it.
            Some(speaks) if speaks.version.is_empty() => response(&kind.group, version, &speaks.kind),
            Some(speaks) => response(&speaks.group, &speaks.version, &speaks.kind),
        };
        json!({"subresource": subresource.name, "responseKind": speaks, "verbs": names(subresource.verbs)})
    });
    let subresources: Vec<Value> = subresources.collect();
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
