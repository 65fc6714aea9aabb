//! CustomResourceDefinitions themselves: their defaults, what a client may not write, and their rules.

use serde_json::{Value, json};

use super::{MAX_DEPTH, formats};
use crate::convert::removed::definitions;
use crate::field::{Error, Errors, Path};
use crate::meta::{self, as_map, child_mut};
use crate::validate::{At, pem};
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
    if !meta::name(object).is_empty() && meta::name(object) != format!("{plural}.{group}") {
        let path = Path::new("metadata").child("name");
        let why = r#"must be spec.names.plural+"."+spec.group"#;
        errors.push(Error::invalid(&path, meta::name(object), why));
    }
    let legacy = definitions::is_legacy(object);
    let before = spec::Before {
        schemaless: legacy,
        preserves: legacy,
        any_authorities: true,
        ..spec::Before::default()
    };
    spec::validate(&root.get("spec"), &before, &mut errors);
    stored_versions(object, &mut errors);
    if !legacy {
        errors.extend(approval(object));
        errors.extend(preserves(object));
    }
    errors
}

fn preserves(object: &Value) -> Option<Error> {
    let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
               spec.versions[*].schema instead";
    let path = || Path::new("spec").child("preserveUnknownFields");
    (object["spec"]["preserveUnknownFields"] == true).then(|| Error::invalid(&path(), true, why))
}

/// What is wrong with a changed definition.
pub fn validate_update(new: &Value, old: &Value) -> Errors {
    let (root, before) = (At::root(new), &old["spec"]);
    let mut errors = Errors::new();
    let spec = root.get("spec");
    let legacy = definitions::is_legacy(new);
    let mut allowed = spec::Before::of(old);
    allowed.schemaless |= legacy;
    allowed.preserves |= legacy;
    spec::validate(&spec, &allowed, &mut errors);
    let names = spec.get("names");
    if is_true(old, "Established") {
        spec.get("scope").unchanged(&mut errors, &before["scope"]);
        names.get("kind").unchanged(&mut errors, &before["names"]["kind"]);
    }
    spec.get("group").unchanged(&mut errors, &before["group"]);
    names.get("plural").unchanged(&mut errors, &before["names"]["plural"]);
    stored_versions(new, &mut errors);
    if !legacy && Approval::of(old) != Approval::of(new) {
        errors.extend(approval(new));
    }
    if !allowed.preserves {
        errors.extend(preserves(new));
    }
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

/// What a definition says of the approval of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Approval {
    /// The group belongs to nobody but its users.
    NotNeeded,
    Missing,
    Invalid,
    /// Somebody knows that there is none.
    Bypassed,
    Approved,
}

impl Approval {
    fn of(definition: &Value) -> Self {
        let group = meta::text(definition, &["spec", "group"]);
        let ours = |domain: &str| group == domain || group.ends_with(&format!(".{domain}"));
        if !ours("k8s.io") && !ours("kubernetes.io") {
            return Self::NotNeeded;
        }
        match meta::annotation(definition, APPROVED).unwrap_or_default() {
            "" => Self::Missing,
            text if text.starts_with("unapproved") => Self::Bypassed,
            text => {
                let is_scheme = |s: &str| {
                    s.starts_with(|c: char| c.is_ascii_alphabetic())
                        && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
                };
                let host = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
                let host = host.and_then(|(_, rest)| rest.split(['/', '?']).next());
                if host.is_some_and(|h| !h.is_empty()) { Self::Approved } else { Self::Invalid }
            }
        }
    }
}

const SEE: &str = "https://github.com/kubernetes/enhancements/pull/1111";

fn unapproved(approval: Approval) -> String {
    let or_else = if approval == Approval::Missing {
        ""
    } else {
        " with either a URL or a reason starting with \"unapproved\""
    };
    format!("protected groups must have approval annotation {APPROVED:?}{or_else}, see {SEE}")
}

/// Groups that belong to the community need an approval, or the statement that there is none.
fn approval(object: &Value) -> Option<Error> {
    let path = Path::new("metadata").child("annotations").key(APPROVED);
    match Approval::of(object) {
        state @ Approval::Missing => Some(Error::required(&path, unapproved(state))),
        state @ Approval::Invalid => {
            let text = meta::annotation(object, APPROVED).unwrap_or_default();
            Some(Error::invalid(&path, text, unapproved(state)))
        }
        Approval::NotNeeded | Approval::Bypassed | Approval::Approved => None,
    }
}

/// Whether the authorities that its webhook's certificate is judged by are any.
fn authorities(definition: &Value) -> Result<(), &'static str> {
    let bundle = ["spec", "conversion", "webhook", "clientConfig", "caBundle"];
    pem::authorities(meta::text(definition, &bundle))
}

/// Brings the conditions up to date that follow from what a definition says alone: whether its schemas are structural,
/// and whether its group was approved.
pub fn tell(definition: &mut Value, now: &str) {
    match violations(definition) {
        Some(why) => set_condition(definition, ["NonStructuralSchema", "True", "Violations", &why], now),
        None => remove_condition(definition, "NonStructuralSchema"),
    }
    let text = meta::annotation(definition, APPROVED).unwrap_or_default().to_owned();
    let (status, reason, message) = match Approval::of(definition) {
        Approval::NotNeeded => return,
        state @ Approval::Missing => ("False", "MissingAnnotation", unapproved(state)),
        state @ Approval::Invalid => ("False", "InvalidAnnotation", unapproved(state)),
        Approval::Bypassed => ("False", "UnapprovedAnnotation", format!("not approved: {text:?}")),
        Approval::Approved => ("True", "ApprovedAnnotation", format!("approved in {text}")),
    };
    let kind = "KubernetesAPIApprovalPolicyConformant";
    set_condition(definition, [kind, status, reason, &message], now);
}

/// Why a definition that is not served yet cannot be: reason and message of its condition.
pub fn unservable(definition: &Value) -> Option<[&'static str; 2]> {
    authorities(definition).err().map(|_| ["InvalidCABundle", "The conversion webhook CABundle is invalid"])
}

/// What keeps a definition's schemas from being structural, all of it in one text.
fn violations(definition: &Value) -> Option<String> {
    let mut errors = Errors::new();
    if definition["spec"]["preserveUnknownFields"] == true {
        errors.push(Error::invalid(&Path::new("spec").child("preserveUnknownFields"), true, "must be false"));
    }
    let versions = Path::new("spec").child("versions");
    for (i, version) in meta::items(definition, &["spec", "versions"]).iter().enumerate() {
        let path = versions.index(i).child("schema").child("openAPIV3Schema");
        errors.extend(structural_errors(&version["schema"]["openAPIV3Schema"], &path));
    }
    let mut lines: Vec<String> = Vec::new();
    for line in errors.iter().map(ToString::to_string) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    match lines.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

fn remove_condition(object: &mut Value, kind: &str) {
    if let Some(all) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        all.retain(|c| c["type"] != kind);
    }
}

/// Formats that mean nothing and sets of what cannot be in one, as far as they are new.
pub fn warnings(new: &Value, old: &Value) -> Vec<String> {
    let doubts = |object: &Value, of: fn(&Value) -> Option<String>| {
        let mut found = Vec::new();
        let versions = meta::items(object, &["spec", "versions"]).iter();
        versions.for_each(|v| each_schema(&v["schema"]["openAPIV3Schema"], 0, of, &mut found));
        found
    };
    let mut sets = doubts(new, mixed_set);
    sets.sort();
    let before = [doubts(old, unknown_format), doubts(old, mixed_set)].concat();
    let now = doubts(new, unknown_format).into_iter().chain(sets);
    now.filter(|doubt| !before.contains(doubt)).collect()
}

fn unknown_format(schema: &Value) -> Option<String> {
    let format = meta::text(schema, &["format"]);
    let known = format.is_empty() || formats::is_known(meta::text(schema, &["type"]), format);
    (!known).then(|| format!("unrecognized format {format:?}"))
}

fn mixed_set(schema: &Value) -> Option<String> {
    let items = meta::text(schema, &["items", "type"]);
    let mixed = schema["x-kubernetes-list-type"] == "set" && matches!(items, "object" | "array");
    mixed.then(|| {
        format!(
            "x-kubernetes-list-type: set for items of type {items:?} is not supported by server-side apply or CEL \
             validation rules"
        )
    })
}

/// Collects what `doubt` tells of a schema and of those in it, each once.
fn each_schema(schema: &Value, depth: usize, doubt: fn(&Value) -> Option<String>, found: &mut Vec<String>) {
    let Value::Object(map) = schema else { return };
    found.extend(doubt(schema).filter(|text| !found.contains(text)));
    if depth > MAX_DEPTH {
        return;
    }
    for (key, inner) in map {
        match (key.as_str(), inner) {
            ("properties", Value::Object(inner)) => {
                inner.values().for_each(|schema| each_schema(schema, depth + 1, doubt, found));
            }
            ("items" | "additionalProperties" | "not", inner) => each_schema(inner, depth + 1, doubt, found),
            ("allOf" | "anyOf" | "oneOf", Value::Array(inner)) => {
                inner.iter().for_each(|schema| each_schema(schema, depth + 1, doubt, found));
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
