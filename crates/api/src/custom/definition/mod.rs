//! CustomResourceDefinitions themselves: their defaults, what a client may not write, and their rules.

use serde_json::{Value, json};

use super::{MAX_DEPTH, formats};
use crate::convert::removed::definitions;
use crate::field::{Error, Errors, Path};
use crate::meta::{self, as_map, child_mut};
use crate::validate::At;
use crate::{names, prepare};

mod schema;
mod spec;

pub use schema::structural_errors;

/// Holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Vouches for a definition in a group that belongs to the community.
const APPROVED: &str = "api-approved.kubernetes.io";

/// Fills in defaults.
pub fn default(_version: &str, object: &mut Value) {
    let spec = child_mut(as_map(object), "spec");
    let names = child_mut(spec, "names");
    let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let absent = |value: Option<&Value>| value.and_then(Value::as_str).is_none_or(str::is_empty);
    if absent(names.get("singular")) {
        names.insert("singular".to_owned(), kind.to_lowercase().into());
    }
    if absent(names.get("listKind")) && !kind.is_empty() {
        names.insert("listKind".to_owned(), format!("{kind}List").into());
    }
    let conversion = spec.entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
    if let Some(service) =
        conversion.pointer_mut("/webhook/clientConfig/service").and_then(Value::as_object_mut)
    {
        service.entry("port").or_insert_with(|| 443.into());
    }
}

/// A definition starts without a status, but for the version that its objects are stored in.
pub fn prepare_create(object: &mut Value) {
    as_map(object).insert("status".to_owned(), json!({}));
    meta::start_generation(object);
    note_stored(object);
}

/// The status stays as it is, and every version that was ever stored stays noted.
pub fn prepare_update(new: &mut Value, old: &Value) {
    prepare::update_counted(new, old);
    note_stored(new);
}

fn note_stored(object: &mut Value) {
    let versions = meta::items(object, &["spec", "versions"]);
    let Some(stored) = versions.iter().find(|v| v["storage"] == true).map(|v| v["name"].clone()) else {
        return;
    };
    let noted = child_mut(as_map(object), "status").entry("storedVersions").or_insert_with(|| json!([]));
    if let Some(noted) = noted.as_array_mut().filter(|noted| !noted.contains(&stored)) {
        noted.push(stored);
    }
}

/// A definition that is deleted waits for its objects to go.
pub fn prepare_delete(object: &mut Value, now: &str) {
    let finalizers = meta::metadata_mut(object).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(finalizers) = finalizers.as_array_mut().filter(|all| !all.iter().any(|f| f == FINALIZER)) {
        finalizers.push(FINALIZER.into());
    }
    let why = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_condition(object, ["Terminating", "True", "InstanceDeletionPending", why], now);
}

/// Sets a condition: its type, status, reason and message. The time is that of the last change of the status.
pub fn set_condition(object: &mut Value, [ty, status, reason, message]: [&str; 4], now: &str) {
    let generation = meta::generation(object);
    let conditions = child_mut(as_map(object), "status").entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(all) = conditions.as_array_mut() else { return };
    let before = all.iter().position(|c| c["type"] == ty);
    let since = match before.map(|at| &all[at]) {
        Some(there) if there["status"] == status => there["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    let condition = json!({
        "type": ty, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
        "observedGeneration": generation,
    });
    match before {
        Some(at) => {
            let same = |key: &str| all[at][key] == condition[key];
            if !["status", "reason", "message"].into_iter().all(same) {
                all[at] = condition;
            }
        }
        None => all.push(condition),
    }
}

/// Whether a condition is true.
pub fn is_true(object: &Value, condition: &str) -> bool {
    let conditions = meta::items(object, &["status", "conditions"]);
    conditions.iter().any(|c| c["type"] == condition && c["status"] == "True")
}

/// What is wrong with a new definition.
pub fn validate_create(object: &Value) -> Errors {
    let root = At::root(object);
    let mut errors = Errors::new();
    let (group, plural) =
        (meta::text(object, &["spec", "group"]), meta::text(object, &["spec", "names", "plural"]));
    if meta::name(object) != format!("{plural}.{group}") {
        let path = Path::new("metadata").child("name");
        let why = r#"must be spec.names.plural+"."+spec.group"#;
        errors.push(Error::invalid(&path, meta::name(object), why));
    }
    let legacy = definitions::is_legacy(object);
    spec::validate(&root.get("spec"), spec::Before { schemaless: legacy, preserves: legacy }, &mut errors);
    stored_versions(object, &mut errors);
    if legacy {
        return errors;
    }
    errors.extend(approval(object));
    if object["spec"]["preserveUnknownFields"] == true {
        let path = Path::new("spec").child("preserveUnknownFields");
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                   spec.versions[*].schema instead";
        errors.push(Error::invalid(&path, true, why));
    }
    errors
}

/// What is wrong with a changed definition.
pub fn validate_update(new: &Value, old: &Value) -> Errors {
    let (root, before) = (At::root(new), &old["spec"]);
    let mut errors = Errors::new();
    let spec = root.get("spec");
    let versions = meta::items(before, &["versions"]);
    let legacy = definitions::is_legacy(new);
    let schemaless = legacy || versions.iter().any(|v| !v["schema"]["openAPIV3Schema"].is_object());
    let preserves = legacy || before["preserveUnknownFields"] == true;
    spec::validate(&spec, spec::Before { schemaless, preserves }, &mut errors);
    let names = spec.get("names");
    if is_true(old, "Established") {
        spec.get("scope").unchanged(&mut errors, &before["scope"]);
        names.get("kind").unchanged(&mut errors, &before["names"]["kind"]);
    }
    spec.get("group").unchanged(&mut errors, &before["group"]);
    names.get("plural").unchanged(&mut errors, &before["names"]["plural"]);
    stored_versions(new, &mut errors);
    errors
}

/// What is wrong with a changed status.
pub fn validate_status(new: &Value, _old: &Value) -> Errors {
    let root = At::root(new);
    let status = root.get("status");
    let mut errors = Errors::new();
    spec::names(&status.get("acceptedNames"), &mut errors);
    errors
}

fn stored_versions(object: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("storedVersions");
    let stored = &object["status"]["storedVersions"];
    let noted = stored.as_array().map(Vec::as_slice).unwrap_or_default();
    if noted.is_empty() {
        return errors.push(Error::invalid(&path, json!([]), "must have at least one stored version"));
    }
    let versions = meta::items(object, &["spec", "versions"]);
    for version in versions.iter().filter(|v| v["storage"] == true && !noted.contains(&v["name"])) {
        let why = format!("must have the storage version {}", version["name"].as_str().unwrap_or_default());
        errors.push(Error::invalid(&path, stored.clone(), why));
    }
    for (at, version) in noted.iter().enumerate() {
        if !versions.iter().any(|v| v["name"] == *version) {
            let name = version.as_str().unwrap_or_default();
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {name} and \
                 removes {name} from status.storedVersions"
            );
            errors.push(Error::invalid(&path.index(at), name, why));
        }
    }
}

/// Groups that belong to the community need an approval, or the statement that there is none.
fn approval(object: &Value) -> Option<Error> {
    let group = meta::text(object, &["spec", "group"]);
    let ours = |domain: &str| group == domain || group.ends_with(&format!(".{domain}"));
    if !ours("k8s.io") && !ours("kubernetes.io") {
        return None;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVED);
    let see = "https://github.com/kubernetes/enhancements/pull/1111";
    match meta::annotation(object, APPROVED) {
        None => {
            let why = format!("protected groups must have approval annotation {APPROVED:?}, see {see}");
            Some(Error::required(&path, why))
        }
        Some(text) if text.starts_with("unapproved") => None,
        Some(text) if text.starts_with("https://") || text.starts_with("http://") => None,
        Some(text) => {
            let why = format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason \
                 starting with \"unapproved\", see {see}"
            );
            Some(Error::invalid(&path, text, why))
        }
    }
}

/// Formats that mean nothing, as far as they are new.
pub fn warnings(new: &Value, old: &Value) -> Vec<String> {
    let formats = |object: &Value| {
        let mut found = Vec::new();
        let versions = meta::items(object, &["spec", "versions"]).iter();
        versions.for_each(|v| unknown_formats(&v["schema"]["openAPIV3Schema"], 0, &mut found));
        found
    };
    let before = formats(old);
    formats(new).into_iter().filter(|format| !before.contains(format)).collect()
}

fn unknown_formats(schema: &Value, depth: usize, found: &mut Vec<String>) {
    let Value::Object(map) = schema else { return };
    let format = schema["format"].as_str().unwrap_or_default();
    if !format.is_empty() && !formats::is_known(schema["type"].as_str().unwrap_or_default(), format) {
        let warning = format!("unrecognized format {format:?}");
        if !found.contains(&warning) {
            found.push(warning);
        }
    }
    if depth > MAX_DEPTH {
        return;
    }
    for (key, inner) in map {
        match (key.as_str(), inner) {
            ("properties", Value::Object(inner)) => {
                inner.values().for_each(|schema| unknown_formats(schema, depth + 1, found));
            }
            ("items" | "additionalProperties" | "not", inner) => unknown_formats(inner, depth + 1, found),
            ("allOf" | "anyOf" | "oneOf", Value::Array(inner)) => {
                inner.iter().for_each(|schema| unknown_formats(schema, depth + 1, found));
            }
            _ => {}
        }
    }
}

/// The rules of names that a row can have.
fn label(text: &str) -> Vec<String> {
    names::dns1035_label(text, false)
}

#[cfg(test)]
#[path = "../definition_tests.rs"]
mod tests;
