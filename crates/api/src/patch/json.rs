//! JSON Patch (RFC 6902).

use json_patch::PatchOperation;
use serde_json::Value;

use super::Error;

/// The most operations that one patch may hold.
pub const MAX_OPERATIONS: usize = 10_000;
/// The most bytes that a patch's copies and moves may handle together: a few dozen copies of what was just
/// copied would otherwise fill any memory.
pub const MAX_COPIED: usize = 3 << 20;
/// How deep the patched object may be nested, which is what the JSON parser allows too.
pub const MAX_DEPTH: usize = 128;

/// Applies `patch`, an array of operations, to a copy of `original`: all of them or none.
pub fn patch(original: &Value, patch: &Value) -> Result<Value, Error> {
    // Counted before it is decoded, so that a huge patch costs nothing.
    if let Some(operations) = patch.as_array().filter(|o| o.len() > MAX_OPERATIONS) {
        return Err(Error::TooManyOperations { allowed: MAX_OPERATIONS, got: operations.len() });
    }
    // What is said of an operation is looked at when it is its turn; that it is one, before.
    let is_list = patch.as_array().is_some_and(|operations| operations.iter().all(Value::is_object));
    let operations: Vec<PatchOperation> =
        serde::Deserialize::deserialize(patch).map_err(|e: serde_json::Error| {
            let why = format!("error decoding patch: {e}");
            if is_list { Error::Unprocessable(why) } else { Error::Malformed(why) }
        })?;
    let mut patched = original.clone();
    let mut copied = 0;
    for (index, operation) in operations.iter().enumerate() {
        if tests_for_nothing(&patched, operation) {
            continue;
        }
        bound(&patched, operation, &mut copied)?;
        // A half-patched copy is dropped, so the cheaper variant that does not roll back will do.
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation)).map_err(|e| {
            Error::Unprocessable(format!(
                "operation {index} failed at path {:?}: {}",
                e.path.as_str(),
                e.kind
            ))
        })?;
    }
    Ok(patched)
}

/// Whether this tests that a field of an object is null, and the field is not there. To Kubernetes that is the same:
/// controllers ask so before they add the first finalizer.
fn tests_for_nothing(document: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let path = test.path.as_str();
    let in_object = |(parent, _): (&str, &str)| document.pointer(parent).is_some_and(Value::is_object);
    test.value.is_null() && document.pointer(path).is_none() && path.rsplit_once('/').is_some_and(in_object)
}

/// Refuses an operation that would make the document too large or too deep.
fn bound(document: &Value, operation: &PatchOperation, copied: &mut usize) -> Result<(), Error> {
    let value = match operation {
        PatchOperation::Add(add) => &add.value,
        PatchOperation::Replace(replace) => &replace.value,
        PatchOperation::Copy(_) | PatchOperation::Move(_) => {
            let from = match operation {
                PatchOperation::Copy(copy) => &copy.from,
                PatchOperation::Move(moved) => &moved.from,
                _ => return Ok(()),
            };
            // A missing source is the patch library's to report.
            let Some(value) = document.pointer(from.as_str()) else { return Ok(()) };
            *copied += size(value);
            if *copied > MAX_COPIED {
                return Err(Error::Unprocessable(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, \
                     exceeding the limit {MAX_COPIED}"
                )));
            }
            value
        }
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    if operation.path().count() + depth(value) > MAX_DEPTH {
        return Err(Error::Unprocessable(format!("exceeded max depth {MAX_DEPTH}")));
    }
    Ok(())
}

/// Roughly the bytes that the value takes as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(s) => s.len() + 2,
        Value::Array(items) => 2 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(k, v)| k.len() + 3 + size(v)).sum::<usize>(),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
