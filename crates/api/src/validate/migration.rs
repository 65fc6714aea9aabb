//! Objects that are to be stored anew.

use serde_json::Value;

use super::At;
use crate::field::{Error, Errors, Path};
use crate::meta;

pub(crate) fn migration(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    let resource = spec.get("resource");
    let resource = resource.get("resource");
    if resource.text().is_empty() {
        resource.required(&mut errors, "resource is required");
    }
    errors
}

pub(crate) fn migration_update(new: &Value, old: &Value) -> Errors {
    let mut errors = migration(new);
    for field in ["group", "resource"] {
        let text = |object| meta::text(object, &["spec", "resource", field]);
        if text(new) != text(old) {
            // Upstream does not say where the field stands.
            errors.push(Error::invalid(&Path::new(field), text(new), "field is immutable"));
        }
    }
    errors
}

pub(crate) fn migration_status(new: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(new);
    let status = root.get("status");
    let revision = status.get("resourceVersion");
    if !revision.text().is_empty() {
        match revision.text().parse::<i64>() {
            Err(_) => {
                let text = revision.text();
                let detail = format!(
                    "failed to parse resource version {text:?}: strconv.ParseInt: parsing {text:?}: invalid syntax"
                );
                revision.invalid(&mut errors, detail);
            }
            Ok(number) if number < 0 => {
                errors.push(Error::invalid(&revision.path(), number, super::NEGATIVE));
            }
            Ok(_) => {}
        }
    }
    let conditions = status.get("conditions");
    super::conditions(&conditions, &mut errors);
    let before = meta::text(old, &["status", "resourceVersion"]);
    if !before.is_empty() && before != revision.text() {
        revision.invalid(&mut errors, "field is immutable");
    }
    let is = |object: &Value, kind: &str| {
        meta::items(object, &["status", "conditions"])
            .iter()
            .any(|c| c["type"] == kind && c["status"] == "True")
    };
    let (running, succeeded, failed) = (is(new, "Running"), is(new, "Succeeded"), is(new, "Failed"));
    for (wrong, detail) in [
        (succeeded && failed, "Both success and failed conditions cannot be true at the same time"),
        (succeeded && running, "Running condition cannot be true when success condition is true"),
        (failed && running, "Running condition cannot be true when failed condition is true"),
        (is(old, "Succeeded") && !succeeded, "Success condition cannot be set to false once it is true"),
        (is(old, "Failed") && !failed, "Failed condition cannot be set to false once it is true"),
    ] {
        if wrong {
            conditions.invalid(&mut errors, detail);
        }
    }
    errors
}

#[cfg(test)]
#[path = "migration_tests.rs"]
mod tests;
