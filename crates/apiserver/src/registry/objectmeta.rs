//! The parts of `metadata` that belong to the server.

use jiff::Timestamp;
use serde_json::Value;
use tiphys_api::meta;
use tiphys_api::status::Status;
use uuid::Uuid;

/// `meta/v1.Time` on the wire.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Reads a `meta/v1.Time`.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// A UUID that nobody has. Its bits come from this thread's generator: asking the kernel takes a system call each time.
pub(crate) fn unique() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}

/// Gives a new object what the server alone decides.
pub(super) fn fill(object: &mut Value, now: Timestamp) {
    let metadata = meta::metadata_mut(object);
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(key);
    }
    metadata.insert("uid".into(), unique().to_string().into());
    metadata.insert("creationTimestamp".into(), time(now).into());
}

/// The version that an object says it is made of; empty if it says none, which a zero stands for, too.
pub(super) fn version(object: &Value) -> &str {
    match meta::text(object, &["metadata", "resourceVersion"]) {
        "0" => "",
        version => version,
    }
}

/// What an update cannot change stays as it is in `old`. `generation` starts from the old one, too; the
/// kind's own preparation counts it up.
pub(super) fn keep(object: &mut Value, old: &Value) {
    const KEPT: [&str; 6] =
        ["name", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];
    let metadata = meta::metadata_mut(object);
    metadata.remove("selfLink");
    for key in KEPT {
        match old["metadata"].get(key) {
            Some(value) => metadata.insert(key.into(), value.clone()),
            None => metadata.remove(key),
        };
    }
}

/// Puts the object in the request's namespace; empty stands for the scope of the cluster.
///
/// # Errors
/// The object says that it is in another.
pub(crate) fn place(object: &mut Value, namespace: &str) -> Result<(), Status> {
    let metadata = meta::metadata_mut(object);
    let said = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if namespace.is_empty() {
        metadata.remove("namespace");
    } else if said.is_empty() {
        metadata.insert("namespace".into(), namespace.into());
    } else if said != namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request, expected: {namespace}, got: {said}"
        )));
    }
    Ok(())
}

/// Checks that an object that is sent to a name has it, or takes it.
pub(crate) fn named(object: &mut Value, name: &str) -> Result<(), Status> {
    let metadata = meta::metadata_mut(object);
    if metadata.get("name").and_then(Value::as_str).unwrap_or_default().is_empty() {
        metadata.insert("name".into(), name.into());
    }
    has_name(object, name)
}

/// Checks that an object has the name that it is sent to.
pub(crate) fn has_name(object: &Value, name: &str) -> Result<(), Status> {
    let said = meta::name(object);
    if said.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if said != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({said}) does not match the name on the URL ({name})"
        )));
    }
    Ok(())
}

pub(super) fn deletion_time(object: &Value) -> Option<Timestamp> {
    parse_time(meta::text(object, &["metadata", "deletionTimestamp"]))
}

/// The seconds that an object being deleted has left.
pub(super) fn grace(object: &Value) -> Option<i64> {
    object["metadata"]["deletionGracePeriodSeconds"].as_i64()
}
