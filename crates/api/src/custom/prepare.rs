//! What a client may not write of a custom object that has a status of its own.

use serde_json::{Map, Value};

use crate::meta::{self, as_map};

/// The object starts without a status.
pub(super) fn create_with_status(object: &mut Value) {
    as_map(object).remove("status");
    meta::start_generation(object);
}

/// All but metadata and status.
fn body(object: &Value) -> Map<String, Value> {
    let fields = object.as_object().into_iter().flatten();
    let body = fields.filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status"));
    body.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The status stays as it is stored; every other change counts.
pub(super) fn update_with_status(new: &mut Value, old: &Value) {
    match old.get("status") {
        Some(status) => drop(as_map(new).insert("status".to_owned(), status.clone())),
        None => drop(as_map(new).remove("status")),
    }
    let changed = body(new) != body(old);
    meta::follow_generation(new, old, changed);
}

/// All but the status stays as it is stored.
pub(super) fn update_status(new: &mut Value, old: &Value) {
    let status = as_map(new).remove("status");
    let managed = new["metadata"].get("managedFields").cloned();
    *new = old.clone();
    match status {
        Some(status) => drop(as_map(new).insert("status".to_owned(), status)),
        None => drop(as_map(new).remove("status")),
    }
    meta::set(new, "managedFields", managed);
}
