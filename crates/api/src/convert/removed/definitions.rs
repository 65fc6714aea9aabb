//! `apiextensions.k8s.io/v1beta1`: what all versions of a custom kind have in common stood beside them, and nothing had
//! to be known about its fields.

use serde_json::{Map, Value, json};

use super::{annotate, each, object, rename, take_annotation};
use crate::meta::{self, as_map};

type Object = Map<String, Value>;

/// Tells that a definition came in this version, and needs neither a schema nor the approval of its group.
const LEGACY: &str = "deprecated.apiextensions.k8s.io/v1beta1";

/// Where the parts of all versions stood, and where those of one version do.
const COMMON: [(&str, &str); 4] = [
    ("validation", "schema"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

/// Whether a stored definition is held to the rules of `v1beta1`.
pub(crate) fn is_legacy(definition: &Value) -> bool {
    meta::annotation(definition, LEGACY).is_some()
}

pub(crate) fn to_storage(version: &str, definition: &mut Value) {
    if version != "v1beta1" {
        return;
    }
    annotate(definition, LEGACY, "true".to_owned());
    let Some(spec) = object(as_map(definition), "spec") else { return };
    if let Some(name) = spec.remove("version")
        && spec.get("versions").and_then(Value::as_array).is_none_or(Vec::is_empty)
    {
        spec.insert("versions".to_owned(), json!([{"name": name, "served": true, "storage": true}]));
    }
    for (whole, part) in COMMON {
        let Some(common) = spec.remove(whole) else { continue };
        for version in each(spec, "versions") {
            version.entry(part).or_insert_with(|| common.clone());
        }
    }
    each(spec, "versions").for_each(|version| columns(version, "JSONPath", "jsonPath"));
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(false)) {
        spec.remove("preserveUnknownFields");
    }
    if let Some(conversion) = object(spec, "conversion") {
        let mut webhook = Object::new();
        let client = conversion.remove("webhookClientConfig");
        webhook.extend(client.map(|client| ("clientConfig".to_owned(), client)));
        let versions = conversion.remove("conversionReviewVersions");
        webhook.extend(versions.map(|versions| ("conversionReviewVersions".to_owned(), versions)));
        if !webhook.is_empty() {
            conversion.insert("webhook".to_owned(), webhook.into());
        }
    }
}

pub(crate) fn from_storage(version: &str, definition: &mut Value) {
    if version != "v1beta1" {
        return;
    }
    take_annotation(definition, LEGACY);
    let Some(spec) = object(as_map(definition), "spec") else { return };
    each(spec, "versions").for_each(|version| columns(version, "jsonPath", "JSONPath"));
    for (whole, part) in COMMON {
        let parts: Vec<_> = each(spec, "versions").map(|version| version.get(part).cloned()).collect();
        let Some(Some(first)) = parts.first().cloned() else { continue };
        if parts.iter().all(|other| other.as_ref() == Some(&first)) {
            each(spec, "versions").for_each(|version| drop(version.remove(part)));
            spec.insert(whole.to_owned(), first);
        }
    }
    let first = each(spec, "versions").next().and_then(|version| version.get("name").cloned());
    if let Some(name) = first {
        spec.insert("version".to_owned(), name);
    }
    spec.entry("preserveUnknownFields").or_insert(Value::Bool(false));
    if let Some(conversion) = object(spec, "conversion")
        && let Some(Value::Object(mut webhook)) = conversion.remove("webhook")
    {
        rename(&mut webhook, "clientConfig", "webhookClientConfig");
        conversion.append(&mut webhook);
    }
}

fn columns(version: &mut Object, from: &str, to: &str) {
    each(version, "additionalPrinterColumns").for_each(|column| rename(column, from, to));
}
