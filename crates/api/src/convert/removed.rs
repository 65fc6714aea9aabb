//! How versions that upstream has removed call things. Each pair of functions turns one version into the stored one
//! and back without loss; versions that differ in nothing but their name need none.

use serde_json::{Map, Value};

pub(crate) mod autoscaling;
pub(crate) mod definitions;
pub(crate) mod others;
pub(crate) mod workloads;

/// The objects in the list under a key.
fn each<'a>(map: &'a mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// The object under a key, if there is one.
fn object<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(key)?.as_object_mut()
}

/// Moves what stands under one name to another.
fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}

/// Takes an annotation away.
fn take_annotation(object: &mut Value, key: &str) -> Option<String> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let value = annotations.remove(key)?.as_str()?.to_owned();
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    Some(value)
}

/// Sets an annotation.
fn annotate(object: &mut Value, key: &str, value: String) {
    let annotations = crate::meta::child_mut(crate::meta::metadata_mut(object), "annotations");
    annotations.insert(key.to_owned(), value.into());
}

#[cfg(test)]
#[path = "removed_tests.rs"]
mod tests;
