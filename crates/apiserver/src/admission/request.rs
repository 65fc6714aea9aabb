//! A request as `admission.k8s.io` describes it, without its objects.

use std::sync::Arc;

use serde_json::{Value, json};

use super::matching::Matched;
use super::{Attributes, Operation};
use crate::registry::Propagation;

impl Operation {
    /// `CREATE`
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// The `AdmissionRequest` of a request that matches in some way; what is empty is left out.
pub(super) fn describe(a: &Attributes<'_>, matched: &Matched) -> Value {
    let kind = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let resource = |group: &str, version: &str, name: &str| json!({"group": group, "version": version, "resource": name});
    let itself = Matched { row: Arc::clone(&matched.row), version: a.version.to_owned() };
    // A subresource's own kind has one version, the object itself the request's.
    let (_, version, _) = itself.kind(a.subresource);
    let own = matched.row.group == a.group && matched.row.resource == a.resource;
    let asked = if own { itself.kind(a.subresource) } else { (a.group, version, a.kind) };
    let mut user = json!({"username": a.user.name()});
    if !a.user.uid().is_empty() {
        user["uid"] = a.user.uid().into();
    }
    if !a.user.groups().is_empty() {
        user["groups"] = a.user.groups().into();
    }
    if !a.user.extra().is_empty() {
        user["extra"] = json!(a.user.extra());
    }
    let mut request = json!({
        "kind": kind(matched.kind(a.subresource)),
        "resource": resource(&matched.row.group, &matched.version, &matched.row.resource),
        "requestKind": kind(asked),
        "requestResource": resource(a.group, a.version, a.resource),
        "operation": a.operation.name(),
        "userInfo": user,
        "dryRun": a.dry_run,
        "options": options(a),
    });
    // A namespace is said to be in itself.
    let namespace = if a.group.is_empty() && a.resource == "namespaces" { a.name } else { a.namespace };
    for (field, text) in [
        ("name", a.name),
        ("namespace", namespace),
        ("subResource", a.subresource),
        ("requestSubResource", a.subresource),
    ] {
        if !text.is_empty() {
            request[field] = text.into();
        }
    }
    request
}

/// The options of the operation.
fn options(a: &Attributes<'_>) -> Value {
    let kind = match a.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if a.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    let Some(delete) = a.delete else {
        if !a.field_manager.is_empty() {
            options["fieldManager"] = a.field_manager.into();
        }
        return options;
    };
    if let Some(seconds) = delete.grace {
        options["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(propagation) = delete.propagation {
        let name = match propagation {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        };
        options["propagationPolicy"] = name.into();
    }
    for (field, value) in [("uid", &delete.uid), ("resourceVersion", &delete.resource_version)] {
        if let Some(value) = value {
            options["preconditions"][field] = value.as_str().into();
        }
    }
    options
}
