//! JSON Merge Patch (RFC 7386).

use serde_json::{Map, Value};

use super::Error;

/// Merges `patch`, which must be an object, into a copy of `original`; `null` removes a field.
pub fn patch(original: &Value, patch: &Value) -> Result<Value, Error> {
    let Value::Object(patch) = patch else {
        return Err(Error::Malformed("Invalid JSON Patch".to_owned()));
    };
    let mut patched = original.clone();
    merge(&mut patched, patch);
    Ok(patched)
}

fn merge(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(inner) => merge(target.entry(key).or_insert(Value::Null), inner),
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
