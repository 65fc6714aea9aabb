//! The rules of `spec`, but for the schemas in it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{label, schema};
use crate::custom::Structural;
use crate::field::{Error, Errors};
use crate::meta;
use crate::names;
use crate::validate::admission::{https_url, service_reference};
use crate::validate::{At, pem};

/// What an older definition was let through with, and may go on with.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// A version had no schema.
    pub(super) schemaless: bool,
    /// It preserved unknown fields.
    pub(super) preserves: bool,
    /// Nobody serves it yet, or the authorities of its webhook were none before.
    pub(super) any_authorities: bool,
    /// Its webhook spoke no version of reviews that is known.
    pub(super) any_reviews: bool,
    /// The versions that were selected by more fields than is allowed, with these fields.
    pub(super) selected: Vec<(String, Value)>,
}

impl Before {
    /// What `old` gets away with.
    pub(super) fn of(old: &Value) -> Self {
        let spec = &old["spec"];
        let versions = meta::items(spec, &["versions"]);
        let webhook = &spec["conversion"]["webhook"];
        let reviews = meta::items(webhook, &["conversionReviewVersions"]);
        let crowded =
            versions.iter().filter(|v| meta::items(v, &["selectableFields"]).len() > MAX_SELECTABLE);
        Self {
            schemaless: versions.iter().any(|v| !v["schema"]["openAPIV3Schema"].is_object()),
            preserves: spec["preserveUnknownFields"] == true,
            any_authorities: !super::is_true(old, "Established") || super::authorities(old).is_err(),
            any_reviews: !reviews.is_empty() && !reviews.iter().any(|v| *v == "v1" || *v == "v1beta1"),
            selected: crowded
                .map(|v| (meta::text(v, &["name"]).to_owned(), v["selectableFields"].clone()))
                .collect(),
        }
    }
}

/// How many fields a version can be selected by.
const MAX_SELECTABLE: usize = 8;
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "name", "password"];

pub(super) fn validate(spec: &At<'_>, before: &Before, errors: &mut Errors) {
    let group = spec.get("group");
    if let Some(text) = group.needed(errors) {
        let wrong = names::dns_subdomain(text, false);
        if !wrong.is_empty() {
            group.invalid(errors, wrong.join(","));
        } else if !text.contains('.') {
            group.invalid(errors, "should be a domain with at least one dot");
        }
    }
    spec.get("scope").needed_of(errors, &["Cluster", "Namespaced"]);
    let preserves = spec.get("preserveUnknownFields").is_true();
    let versions = spec.get("versions");
    for version in versions.items() {
        let schema = version.get("schema");
        let schema = schema.get("openAPIV3Schema");
        if schema.value().is_object() || before.preserves && preserves {
            continue;
        }
        if !before.schemaless {
            schema.required(errors, "");
        } else if !preserves && version.get("served").is_true() {
            schema.required(errors, "because otherwise all fields are pruned");
        }
    }
    let mut unique = BTreeSet::new();
    let mut stored = 0;
    let mut twice = false;
    for version in versions.items() {
        stored += usize::from(version.get("storage").is_true());
        let name = version.get("name");
        twice |= !unique.insert(name.text().to_owned());
        let wrong = label(name.text());
        if !wrong.is_empty() {
            name.invalid(errors, wrong.join(","));
        }
        self::version(&version, preserves, before, errors);
    }
    if twice {
        versions.invalid(errors, "must contain unique version names");
    }
    if stored != 1 {
        versions.invalid(errors, "must have exactly one version marked as storage version");
    }
    let named = spec.get("names");
    for name in ["plural", "singular", "kind", "listKind"] {
        named.get(name).needed(errors);
    }
    names(&named, errors);
    let conversion = spec.get("conversion");
    if conversion.get("strategy").text() != "None" && preserves {
        let why = "must be None if spec.preserveUnknownFields is true";
        conversion.get("strategy").invalid(errors, why);
    }
    if !conversion.value().is_null() {
        self::conversion(&conversion, before, errors);
    }
}

/// The names of a kind, wanted or accepted.
pub(super) fn names(named: &At<'_>, errors: &mut Errors) {
    let mut check = |at: &At<'_>, lower: bool| {
        let text = at.text();
        let wrong = if lower { label(&text.to_lowercase()) } else { label(text) };
        if !text.is_empty() && !wrong.is_empty() {
            let wrong = wrong.join(",");
            let mixed = "may have mixed case, but should otherwise match: ";
            at.invalid(errors, if lower { format!("{mixed}{wrong}") } else { wrong });
        }
    };
    for (name, lower) in [("plural", false), ("singular", false), ("kind", true), ("listKind", true)] {
        check(&named.get(name), lower);
    }
    for list in ["shortNames", "categories"] {
        let list = named.get(list);
        list.items().for_each(|name| check(&name, false));
    }
    let (kind, list_kind) = (named.get("kind"), named.get("listKind"));
    if !kind.text().is_empty() && kind.text() == list_kind.text() {
        list_kind.invalid(errors, "kind and listKind may not be the same");
    }
}

fn version(version: &At<'_>, preserves: bool, before: &Before, errors: &mut Errors) {
    let warning = version.get("deprecationWarning");
    if let Value::String(text) = warning.value() {
        if !version.get("deprecated").is_true() {
            warning.invalid(errors, "can only be set for deprecated versions");
        }
        if text.len() > 256 {
            warning.invalid(errors, "must be <= 256 characters long");
        }
        if text.is_empty() {
            warning.invalid(errors, "must not be an empty string");
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            let why = "must only contain printable UTF-8 characters; non-printable character found at index";
            warning.invalid(errors, format!("{why} {at}"));
        }
    }
    let subresources = version.get("subresources");
    let schema = version.get("schema");
    let schema = schema.get("openAPIV3Schema");
    if schema.value().is_object() {
        schema::validate(&schema, subresources.has("status"), !preserves, errors);
    }
    if let Some(scale) = subresources.opt("scale") {
        self::scale(&scale, errors);
    }
    let columns = version.get("additionalPrinterColumns");
    columns.items().for_each(|column| self::column(&column, errors));
    if let Some(fields) = version.opt("selectableFields").filter(|fields| fields.len() > 0) {
        if schema.value().is_object() {
            let name = version.get("name");
            let same = |(known, had): &(String, Value)| known == name.text() && had == fields.value();
            let crowded = before.selected.iter().any(same);
            selectable(&fields, &Structural::compile(schema.value()), crowded, errors);
        } else {
            let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
            errors.push(Error::invalid(&fields.path(), "", why));
        }
    }
}

fn simple_path(at: &At<'_>, errors: &mut Errors) -> bool {
    match at.text() {
        "" => at.required(errors, ""),
        text if !text.starts_with('.') => at.invalid(errors, "must be a simple json path starting with ."),
        _ => return true,
    }
    false
}

fn scale(scale: &At<'_>, errors: &mut Errors) {
    for (name, roots, why) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], "should be a json path under .status"),
        ("labelSelectorPath", &[".spec.", ".status."], "should be a json path under either .spec or .status"),
    ] {
        let at = scale.get(name);
        if name == "labelSelectorPath" && at.text().is_empty() {
            continue;
        }
        if simple_path(&at, errors) && !roots.iter().any(|root| at.text().starts_with(root)) {
            at.invalid(errors, why);
        }
    }
}

fn column(column: &At<'_>, errors: &mut Errors) {
    column.get("name").needed(errors);
    let ty = column.get("type");
    let words = format!("must be one of {}", COLUMN_TYPES.join(","));
    match ty.text() {
        "" => ty.required(errors, &words),
        text if !COLUMN_TYPES.contains(&text) => ty.invalid(errors, words),
        _ => {}
    }
    let format = column.get("format");
    if !format.text().is_empty() && !COLUMN_FORMATS.contains(&format.text()) {
        format.invalid(errors, format!("must be one of {}", COLUMN_FORMATS.join(",")));
    }
    // The message names the field as Go does.
    let path = column.path().child("JSONPath");
    match column.get("jsonPath").text() {
        "" => errors.push(Error::required(&path, "")),
        text if !text.starts_with('.') => {
            errors.push(Error::invalid(&path, text, "must be a simple json path starting with ."));
        }
        _ => {}
    }
}

fn selectable(fields: &At<'_>, schema: &Structural, crowded: bool, errors: &mut Errors) {
    let mut unique = BTreeSet::new();
    for field in fields.items() {
        let at = field.get("jsonPath");
        let Some(text) = at.needed(errors) else { continue };
        let Some(names) = text.strip_prefix('.').filter(|rest| !rest.is_empty()) else {
            at.invalid(errors, "is an invalid path: expected . at the start");
            continue;
        };
        let mut found = Some(schema);
        for name in names.split('.') {
            found = found.and_then(|schema| schema.properties.get(name));
        }
        if names.split('.').next() == Some("metadata") {
            at.invalid(errors, "must not point to fields in metadata");
        }
        match found.map(|f| f.ty.map(crate::custom::Type::name)) {
            None => at.invalid(errors, "is an invalid path: does not refer to a valid field"),
            Some(Some("string" | "boolean" | "integer")) => {}
            Some(_) => at.invalid(
                errors,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                 formats are allowed.",
            ),
        }
        if !unique.insert(text.to_owned()) {
            at.duplicate(errors);
        }
    }
    if unique.len() > MAX_SELECTABLE && !crowded {
        errors.push(Error::too_many(&fields.path(), unique.len(), MAX_SELECTABLE));
    }
}

fn conversion(conversion: &At<'_>, before: &Before, errors: &mut Errors) {
    let strategy = conversion.get("strategy");
    strategy.needed_of(errors, &["None", "Webhook"]);
    let webhook = conversion.get("webhook");
    // The messages name these fields as the API inside of upstream does.
    let (client, reviews) =
        (conversion.path().child("webhookClientConfig"), conversion.path().child("conversionReviewVersions"));
    let config = webhook.get("clientConfig");
    let versions = webhook.get("conversionReviewVersions");
    if strategy.text() != "Webhook" {
        if config.value().is_object() {
            errors.push(Error::forbidden(&client, "should not be set when strategy is not set to Webhook"));
        }
        if versions.len() > 0 {
            errors.push(Error::forbidden(&reviews, "should not be set when strategy is not set to Webhook"));
        }
        return;
    }
    if !config.value().is_object() {
        errors.push(Error::required(&client, "required when strategy is set to Webhook"));
    } else if config.has("url") == config.has("service") {
        errors.push(Error::required(&client, "exactly one of url or service is required"));
    } else if let Some(url) = config.opt("url") {
        https_url(&client.child("url"), url.text(), errors);
    } else {
        service_reference(&client.child("service"), &config.get("service"), errors);
    }
    let bundle = config.get("caBundle");
    if let (false, Err(why)) = (before.any_authorities, pem::authorities(bundle.text())) {
        errors.push(Error::invalid(&client.child("caBundle"), bundle.text(), why));
    }
    let mut unique = BTreeSet::new();
    if versions.len() == 0 {
        errors.push(Error::required(&reviews, ""));
        return;
    }
    for (at, version) in versions.items().enumerate() {
        if !unique.insert(version.text()) {
            errors.push(Error::invalid(&reviews.index(at), version.text(), "duplicate version"));
        }
        for wrong in label(version.text()) {
            errors.push(Error::invalid(&reviews.index(at), version.text(), wrong));
        }
    }
    if !before.any_reviews && !unique.contains("v1") && !unique.contains("v1beta1") {
        let why = "must include at least one of v1, v1beta1";
        errors.push(Error::invalid(&reviews, versions.value().clone(), why));
    }
}
