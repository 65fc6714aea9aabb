//! Between the version on the wire and the one in the store, and between an object and its `Scale`.

use serde_json::{Map, Value, json};

use crate::field::{Error, Errors, Path};
use crate::kind::{Kind, Scale, api_version};
use crate::meta::{self, as_map, child_mut};
use crate::selector::LabelSelector;

pub(crate) mod autoscaling;
pub(crate) mod devices;
pub(crate) mod removed;

/// The fields of events that are called differently: in `events.k8s.io/v1`, and in core `v1`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("deprecatedCount", "count"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedSource", "source"),
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
];

/// Whether nothing is converted here between a version and the store: they are the same, a webhook does it, or
/// nothing is stored.
pub fn is_identity(row: &Kind, version: &str) -> bool {
    row.storage.is_none() || is_stored_as(row, version) || row.converter(version).is_some()
}

/// How an object that a request wrote in `version` is stored. What a webhook converts stays as it is here.
pub fn to_storage(row: &Kind, version: &str, object: &mut Value) {
    let Some(storage) = row.storage.as_ref().filter(|_| !is_identity(row, version)) else { return };
    (row.hooks.to_storage)(version, object);
    as_map(object).insert("apiVersion".to_owned(), storage.api_version().into());
}

/// How a stored object is shown in `version`. What a webhook converts stays as it is here.
pub fn from_storage(row: &Kind, version: &str, object: &mut Value) {
    if is_identity(row, version) {
        return;
    }
    (row.hooks.from_storage)(version, object);
    as_map(object).insert("apiVersion".to_owned(), api_version(&row.group, version).into());
}

/// Whether objects of the row need no conversion between a version and the store, so that stored bytes can go
/// out as they are.
pub fn is_stored_as(row: &Kind, version: &str) -> bool {
    let same = row.storage.as_ref().is_some_and(|s| s.group == row.group && s.version == version);
    same && !row.is_mixed()
}

/// An event of `events.k8s.io/v1` as core `v1` has it.
pub(crate) fn event_to_core(_version: &str, event: &mut Value) {
    rename(as_map(event), EVENT_FIELDS);
    // Core writes these structures even when they are empty.
    for field in ["involvedObject", "source"] {
        child_mut(as_map(event), field);
    }
}

/// An event of core `v1` as `events.k8s.io/v1` has it.
pub(crate) fn event_from_core(_version: &str, event: &mut Value) {
    rename(as_map(event), EVENT_FIELDS.map(|(newer, core)| (core, newer)));
}

/// A request for a pod's certificate in `v1`, which knows one way only to name the key.
pub(crate) fn certificate_request_from_storage(_version: &str, request: &mut Value) {
    let spec = child_mut(as_map(request), "spec");
    spec.remove("pkixPublicKey");
    spec.remove("proofOfPossession");
}

fn rename(map: &mut Map<String, Value>, names: [(&str, &str); 7]) {
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

/// The `autoscaling/v1.Scale` of an object.
pub fn scale_of(scale: &Scale, object: &Value) -> Value {
    let replicas = |path| meta::at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let mut shown = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {}, "status": {"replicas": replicas(&scale.status_replicas)},
    });
    let wanted = replicas(&scale.spec_replicas);
    if wanted != 0 {
        shown["spec"]["replicas"] = wanted.into();
    }
    let selector = selector_text(meta::at(object, &scale.selector));
    if !selector.is_empty() {
        shown["status"]["selector"] = selector.into();
    }
    shown
}

/// The selector as text, whether it is an object, a map of labels or text already.
fn selector_text(selector: Option<&Value>) -> String {
    match selector {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(map)) => {
            let structured = map.contains_key("matchLabels") || map.contains_key("matchExpressions");
            let read = if structured {
                LabelSelector::from_value(&Value::Object(map.clone()))
            } else {
                LabelSelector::from_map(Some(map))
            };
            // A selector that no longer passes validation selects nothing that could be shown.
            read.map(|s| s.to_string()).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// Writes the replicas that a `Scale` wants into its object. The scale's resource version becomes the
/// precondition; an absent number of replicas is zero.
pub fn apply_scale(scale: &Scale, wanted: &Value, object: &mut Value) {
    let replicas = wanted["spec"].get("replicas").cloned().unwrap_or_else(|| 0.into());
    let Some((last, parents)) = scale.spec_replicas.split_last() else { return };
    let parent = parents.iter().fold(as_map(object), |map, key| child_mut(map, key));
    parent.insert(last.clone().into_owned(), replicas);
    if let Some(version) = wanted["metadata"].get("resourceVersion") {
        meta::set(object, "resourceVersion", Some(version.clone()));
    }
}

/// The rules for a `Scale`.
pub fn validate_scale(scale: &Value) -> Errors {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas >= 0 {
        return Vec::new();
    }
    let path = Path::new("spec").child("replicas");
    vec![Error::invalid(&path, replicas, "must be greater than or equal to 0")]
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
