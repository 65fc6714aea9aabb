//! What every object has: `metadata`, read from and written into a tree, and its rules.

use std::cmp::Reverse;

use serde_json::{Map, Value};

use crate::field::{Error, Errors, Path};
use crate::names::{self, NameRule};

/// The most bytes that an object's annotations may have together.
pub const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// The finalizer that makes the collector let go of the dependents.
pub const ORPHAN_FINALIZER: &str = "orphan";
/// The finalizer that makes the collector delete the dependents first.
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";

/// On the Secret that a token is kept in: the name of the token's service account.
pub const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

/// What stands at a path of object keys.
pub fn at<'a, S: AsRef<str>>(object: &'a Value, path: &[S]) -> Option<&'a Value> {
    path.iter().try_fold(object, |v, key| v.get(key.as_ref()))
}

/// Text at a path; empty when absent.
pub fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list at a path; none when absent.
pub fn items<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

pub fn resource_version(object: &Value) -> &str {
    text(object, &["metadata", "resourceVersion"])
}

pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    at(object, &["metadata", "labels"])?.as_object()
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    at(object, &["metadata", "annotations"])?.get(key)?.as_str()
}

pub fn generation(object: &Value) -> i64 {
    at(object, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0)
}

/// The object is being deleted.
pub fn is_terminating(object: &Value) -> bool {
    !text(object, &["metadata", "deletionTimestamp"]).is_empty()
}

pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    items(object, &["metadata", "finalizers"]).iter().filter_map(Value::as_str)
}

/// The object's `metadata`, made where it is missing. Only objects have metadata, so anything else becomes one.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(as_map(object), "metadata")
}

/// A field of metadata; `None` takes it away.
pub fn set(object: &mut Value, field: &str, value: Option<Value>) {
    let metadata = metadata_mut(object);
    match value {
        Some(value) => drop(metadata.insert(field.to_owned(), value)),
        None => drop(metadata.remove(field)),
    }
}

/// The map that a value is; anything else becomes an empty map.
pub fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("the value was made an object above"),
    }
}

/// The map under a key, made where it is missing.
pub fn child_mut<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), Value::Object(Map::new()));
    }
    match map.get_mut(key) {
        Some(value) => as_map(value),
        None => unreachable!("the key was inserted above"),
    }
}

/// Starts the generation of a new object.
pub fn start_generation(object: &mut Value) {
    set(object, "generation", Some(1.into()));
}

/// Keeps the stored generation, and adds one where the desired state changed.
pub fn follow_generation(new: &mut Value, old: &Value, changed: bool) {
    let generation = generation(old) + i64::from(changed);
    set(new, "generation", (generation > 0).then(|| generation.into()));
}

/// The letters of generated names: no vowels and nothing that looks like something else.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const MAX_GENERATED_LENGTH: usize = 63;

/// A name for `generateName`: the prefix, cut so that all fits a label, and five letters. `random` answers a
/// number below its argument.
pub fn generated_name(prefix: &str, mut random: impl FnMut(usize) -> usize) -> String {
    let mut cut = prefix.len().min(MAX_GENERATED_LENGTH - SUFFIX_LENGTH);
    while !prefix.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut name = prefix[..cut].to_owned();
    for _ in 0..SUFFIX_LENGTH {
        name.push(char::from(SUFFIX_LETTERS[random(SUFFIX_LETTERS.len()) % SUFFIX_LETTERS.len()]));
    }
    name
}

/// The rules for the metadata of a new object, which has its name already.
pub fn validate_create(object: &Value, namespaced: bool, rule: NameRule) -> Errors {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    let prefix = text(object, &["metadata", "generateName"]);
    if !prefix.is_empty() {
        let at = path.child("generateName");
        errors.extend(rule(prefix, true).into_iter().map(|m| Error::invalid(&at, prefix, m)));
    }
    let name = name(object);
    let at = path.child("name");
    if name.is_empty() {
        errors.push(Error::required(&at, "name or generateName is required"));
    } else {
        errors.extend(rule(name, false).into_iter().map(|m| Error::invalid(&at, name, m)));
    }
    let namespace = namespace(object);
    let at = path.child("namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.push(Error::required(&at, "")),
        (true, false) => {
            let wrong = names::dns_label(namespace, false);
            errors.extend(wrong.into_iter().map(|m| Error::invalid(&at, namespace, m)));
        }
        (false, false) => errors.push(Error::forbidden(&at, "not allowed on this type")),
        (false, true) => {}
    }
    validate_common(object, &path, &mut errors);
    errors
}

/// The rules for changed metadata. The resource version is the registry's business.
pub fn validate_update(new: &Value, old: &Value) -> Errors {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    if is_terminating(old) {
        let known: Vec<&str> = finalizers(old).collect();
        let mut added: Vec<&str> = finalizers(new).filter(|f| !known.contains(f)).collect();
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            errors.push(Error::forbidden(
                &path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers \
                     []string{{{}}}",
                    added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ")
                ),
            ));
        }
    }
    if generation(new) < generation(old) {
        let at = path.child("generation");
        errors.push(Error::invalid(&at, generation(new), "must not be decremented"));
    }
    for fixed in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let value = |o: &Value| o["metadata"][fixed].clone();
        if value(new) != value(old) {
            errors.push(immutable(&path.child(fixed), value(new)));
        }
    }
    validate_common(new, &path, &mut errors);
    errors
}

/// The error for a field that may not change.
pub(crate) fn immutable(path: &Path, value: Value) -> Error {
    Error::invalid(path, value, "field is immutable")
}

fn validate_common(object: &Value, path: &Path, errors: &mut Errors) {
    let metadata = &object["metadata"];
    if generation(object) < 0 {
        let at = path.child("generation");
        errors.push(Error::invalid(&at, generation(object), "must be greater than or equal to 0"));
    }
    validate_labels(&metadata["labels"], &path.child("labels"), errors);
    validate_annotations(&metadata["annotations"], &path.child("annotations"), errors);
    validate_owners(items(metadata, &["ownerReferences"]), &path.child("ownerReferences"), errors);
    validate_finalizers(object, &path.child("finalizers"), errors);
}

/// Keys and values of labels.
pub fn validate_labels(labels: &Value, path: &Path, errors: &mut Errors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.extend(names::label_key(key).into_iter().map(|m| Error::invalid(path, key.as_str(), m)));
        let value = value.as_str().unwrap_or_default();
        errors.extend(names::label_value(value).into_iter().map(|m| Error::invalid(path, value, m)));
    }
}

/// Finalizers have a domain, but for those that the API knows itself.
pub fn unqualified_finalizers(object: &Value) -> Errors {
    const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
    let path = Path::new("metadata").child("finalizers");
    let unknown = finalizers(object).enumerate().filter(|(_, f)| !f.contains('/') && !STANDARD.contains(f));
    let why = "name is neither a standard finalizer name nor is it fully qualified";
    unknown.map(|(i, finalizer)| Error::invalid(&path.index(i), finalizer, why)).collect()
}

/// Keys of annotations (in either case) and the size of all together.
pub fn validate_annotations(annotations: &Value, path: &Path, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        let wrong = names::label_key(&key.to_lowercase());
        errors.extend(wrong.into_iter().map(|m| Error::invalid(path, key.as_str(), m)));
    }
    if bytes > MAX_ANNOTATION_BYTES {
        errors.push(Error::too_long(path, MAX_ANNOTATION_BYTES));
    }
}

fn validate_owners(owners: &[Value], path: &Path, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for (i, owner) in owners.iter().enumerate() {
        let at = path.index(i);
        let get = |key: &str| text(owner, &[key]);
        let api_version = get("apiVersion");
        if api_version.is_empty() {
            errors.push(Error::required(&at.child("apiVersion"), "must not be empty"));
        } else if api_version.matches('/').count() > 1 || api_version.ends_with('/') {
            let detail = "must be <group>/<version> or <version>";
            errors.push(Error::invalid(&at.child("apiVersion"), api_version, detail));
        }
        for field in ["kind", "name", "uid"] {
            if get(field).is_empty() {
                errors.push(Error::required(&at.child(field), "must not be empty"));
            }
        }
        if api_version == "v1" && get("kind") == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(Error::invalid(&at, owner.clone(), detail));
        }
        if owner["controller"] == true {
            let name = format!("{}/{}", get("kind"), get("name"));
            match &controller {
                Some(first) => errors.push(Error::invalid(
                    path,
                    Value::Array(owners.to_vec()),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for \
                         {first} and {name}"
                    ),
                )),
                None => controller = Some(name),
            }
        }
    }
}

fn validate_finalizers(object: &Value, path: &Path, errors: &mut Errors) {
    let all: Vec<&str> = finalizers(object).collect();
    for finalizer in &all {
        errors.extend(names::label_key(finalizer).into_iter().map(|m| Error::invalid(path, *finalizer, m)));
    }
    if all.contains(&ORPHAN_FINALIZER) && all.contains(&FOREGROUND_FINALIZER) {
        let detail = format!("finalizer {ORPHAN_FINALIZER} and {FOREGROUND_FINALIZER} cannot be both set");
        errors.push(Error::invalid(path, all, detail));
    }
}

/// Sorts Kubernetes versions by priority: `v2`, `v1`, `v2beta1`, `v1beta2`, `v1alpha1`, then the rest by name.
pub fn version_rank(version: &str) -> impl Ord + use<> {
    let parsed = parse_version(version);
    let name = if parsed.is_none() { version.to_owned() } else { String::new() };
    (parsed.is_none(), parsed.map(Reverse), name)
}

/// Stability (2 stable, 1 beta, 0 alpha), major, minor.
fn parse_version(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().ok()?;
    let tail = &rest[digits..];
    if tail.is_empty() {
        return Some((2, major, 0));
    }
    let (stability, minor) = match tail.strip_prefix("beta") {
        Some(minor) => (1, minor),
        None => (0, tail.strip_prefix("alpha")?),
    };
    Some((stability, major, minor.parse().ok()?))
}

#[cfg(test)]
#[path = "meta_tests.rs"]
mod tests;
