//! The rules of a structural schema (KEP-1693, "Structural schemas").

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::custom::{MAX_DEPTH, Structural, judge, pattern};
use crate::field::{Error, Errors, Path};
use crate::validate::At;

/// What a schema may say at its root besides, where the status is a subresource.
const AT_ROOT: [&str; 22] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// Their names in the message.
const AT_ROOT_NAMES: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum \
    MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs \
    Example XPreserveUnknownFields XValidations]";

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Judges a schema. `status`: the status is a subresource; `structural`: it must be structural.
pub(super) fn validate(schema: &At<'_>, status: bool, structural: bool, errors: &mut Errors) {
    let Value::Object(map) = schema.value() else { return };
    let path = schema.path();
    if status {
        let ty = text(map, "type");
        if !ty.is_empty() && ty != "object" {
            let why = "only \"object\" is allowed as the type at the root of the schema if the status \
                       subresource is enabled";
            errors.push(Error::invalid(&path.child("type"), ty, why));
        } else if let Some((name, _)) = map.iter().find(|(name, _)| !AT_ROOT.contains(&name.as_str())) {
            let why = format!(
                "only {AT_ROOT_NAMES} fields are allowed at the root of the schema if the status subresource \
                 is enabled"
            );
            errors.push(Error::invalid(&path, json!({name.as_str(): map[name]}), why));
        }
    }
    if flag(map, "nullable") {
        errors.push(Error::forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
    }
    let before = errors.len();
    if structural {
        structural_at(schema.value(), &path, errors);
    }
    if errors.len() == before && structural {
        let mut compiled = Structural::compile(schema.value());
        compiled.embedded = true;
        defaults(schema.value(), &path, &compiled, errors);
    }
    Rules { forbidden_defaults: None, in_meta: false }.check(map, &path, true, 0, errors);
}

/// What keeps a schema from being structural, in order.
pub fn structural_errors(schema: &Value, path: &Path) -> Errors {
    let mut errors = Errors::new();
    structural_at(schema, path, &mut errors);
    errors
}

fn structural_at(schema: &Value, path: &Path, errors: &mut Errors) {
    let mut found = Errors::new();
    invariants(schema, path, Level::Root, 0, &mut found);
    completeness(schema, Some(schema), path, path, 0, &mut found);
    found.sort_by_cached_key(ToString::to_string);
    errors.extend(found);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key) == Some(&Value::Bool(true))
}

fn there(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_some_and(|v| match v {
        Value::Null => false,
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
        Value::String(s) => !s.is_empty(),
        _ => true,
    })
}

fn properties(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    map.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn list<'a>(map: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    map.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

const JUNCTIONS: [&str; 3] = ["anyOf", "allOf", "oneOf"];

fn is_int_or_string(any_of: Option<&Value>) -> bool {
    any_of == Some(&json!([{"type": "integer"}, {"type": "string"}]))
}

/// What must hold at every place whose values are kept.
fn invariants(schema: &Value, path: &Path, level: Level, depth: usize, errors: &mut Errors) {
    let Value::Object(map) = schema else { return };
    if depth > MAX_DEPTH {
        return errors
            .push(Error::forbidden(path, format!("must not be nested deeper than {MAX_DEPTH} schemas")));
    }
    let ty = text(map, "type");
    if ty == "array" && !map.get("items").is_some_and(Value::is_object) {
        errors.push(Error::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = map.get("items") {
        invariants(items, &path.child("items"), Level::Item, depth + 1, errors);
    }
    let below = path.child("properties");
    for (name, property) in properties(map) {
        invariants(property, &below.key(name), Level::Field, depth + 1, errors);
    }
    if let Some(additional) = map.get("additionalProperties").filter(|v| !v.is_null()) {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(Error::forbidden(&path, "must not be used at the root"));
        }
        invariants(additional, &path, Level::Field, depth + 1, errors);
    }
    let (int_or_string, preserve, embedded) = (
        flag(map, "x-kubernetes-int-or-string"),
        flag(map, "x-kubernetes-preserve-unknown-fields"),
        flag(map, "x-kubernetes-embedded-resource"),
    );
    for (set, name) in [(preserve, "preserve-unknown-fields"), (embedded, "embedded-resource")] {
        if int_or_string && set {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(Error::invalid(&path.child(&format!("x-kubernetes-{name}")), true, why));
        }
    }
    values(map, path, depth, errors);

    if embedded && ty != "object" {
        let (path, why) = (path.child("type"), "must be object if x-kubernetes-embedded-resource is true");
        errors.push(if ty.is_empty() { Error::required(&path, why) } else { Error::invalid(&path, ty, why) });
    } else if ty.is_empty() && !int_or_string && !preserve {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(Error::required(&path.child("type"), why));
    }
    if embedded && map.get("additionalProperties").is_some_and(|v| !v.is_null()) {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(Error::forbidden(&path.child("additionalProperties"), why));
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.push(Error::invalid(&path.child("type"), ty, "must be object at the root"));
    }
    let resource = level == Level::Root || embedded;
    for (name, property) in properties(map).filter(|_| resource) {
        let found = property["type"].as_str().unwrap_or_default();
        let at = below.key(name);
        match name.as_str() {
            "kind" | "apiVersion" if found != "string" => {
                errors.push(Error::invalid(&at.child("type"), found, "must be string"));
            }
            "metadata" => {
                if found != "object" {
                    errors.push(Error::invalid(&at.child("type"), found, "must be object"));
                }
                let fits = property.as_object().is_none_or(|map| {
                    let named = properties(map).all(|(n, _)| n == "name" || n == "generateName");
                    let said = ["type", "properties", "description", "default"];
                    named && map.keys().all(|key| said.contains(&key.as_str()))
                });
                if level == Level::Root && !fits {
                    let why = "must not specify anything other than name and generateName, but metadata is \
                               implicitly specified";
                    errors.push(Error::forbidden(&at, why));
                }
            }
            _ => {}
        }
    }
    if embedded && !preserve && properties(map).next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(Error::required(&below, why));
    }
}

/// What judges values: it may say nothing of their structure.
fn values(map: &Map<String, Value>, path: &Path, depth: usize, errors: &mut Errors) {
    for junction in JUNCTIONS {
        let exempt = junction == "anyOf" && is_int_or_string(map.get("anyOf"));
        for (at, schema) in list(map, junction).iter().enumerate().filter(|_| !exempt) {
            let first = junction == "allOf" && at == 0 && is_int_or_string(schema.get("anyOf"));
            nested(schema, &path.child(junction).index(at), first, depth + 1, errors);
        }
    }
    if let Some(not) = map.get("not").filter(|v| v.is_object()) {
        nested(not, &path.child("not"), false, depth + 1, errors);
    }
    let written = text(map, "pattern");
    if let Some(error) = Some(written).filter(|p| !p.is_empty()).and_then(|p| pattern(p).err()) {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(Error::invalid(&path.child("pattern"), written, why));
    }
}

fn nested(schema: &Value, path: &Path, exempt: bool, depth: usize, errors: &mut Errors) {
    let Value::Object(map) = schema else { return };
    if depth > MAX_DEPTH {
        return errors
            .push(Error::forbidden(path, format!("must not be nested deeper than {MAX_DEPTH} schemas")));
    }
    if exempt {
        let mut rest = map.clone();
        rest.remove("anyOf");
        values(&rest, path, depth, errors);
    } else {
        values(map, path, depth, errors);
    }
    if let Some(items) = map.get("items") {
        nested(items, &path.child("items"), false, depth + 1, errors);
    }
    for (name, property) in properties(map) {
        let at = path.child("properties").key(name);
        nested(property, &at, false, depth + 1, errors);
        if name == "metadata" {
            errors.push(Error::forbidden(&at, "must not be specified in a nested context"));
        }
    }
    for (name, why) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        if there(map, name) {
            errors.push(Error::forbidden(&path.child(name), why));
        }
    }
    for name in [
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    ] {
        if flag(map, name) {
            errors.push(Error::forbidden(&path.child(name), "must be false to be structural"));
        }
    }
}

/// What values are judged by must be part of the structure.
fn completeness(
    judged: &Value,
    structure: Option<&Value>,
    at: &Path,
    judged_at: &Path,
    depth: usize,
    errors: &mut Errors,
) {
    let Value::Object(map) = judged else { return };
    if depth > MAX_DEPTH {
        return;
    }
    let Some(structure) = structure else {
        return errors.push(Error::required(at, format!("because it is defined in {judged_at}")));
    };
    let mut each = |inner: &Value, inner_at: Path| {
        let Value::Object(inner_map) = inner else { return };
        completeness(inner, Some(structure), at, &inner_at, depth + 1, errors);
        if let Some(items) = inner_map.get("items").filter(|v| v.is_object()) {
            let own = structure.get("items").filter(|v| v.is_object());
            within(items, own, &at.child("items"), &inner_at.child("items"), depth + 1, errors);
        }
        for (name, property) in properties(inner_map) {
            let own = structure.get("properties").and_then(|p| p.get(name));
            let (at, inner_at) = (at.child("properties").key(name), inner_at.child("properties").key(name));
            within(property, own, &at, &inner_at, depth + 1, errors);
        }
    };
    if let Some(not) = map.get("not") {
        each(not, judged_at.child("not"));
    }
    for junction in ["allOf", "anyOf", "oneOf"] {
        for (i, inner) in list(map, junction).iter().enumerate() {
            each(inner, judged_at.child(junction).index(i));
        }
    }
}

/// The same one step further inside of a judgement.
fn within(
    judged: &Value,
    own: Option<&Value>,
    at: &Path,
    judged_at: &Path,
    depth: usize,
    errors: &mut Errors,
) {
    if own.is_none() {
        return errors.push(Error::required(at, format!("because it is defined in {judged_at}")));
    }
    // The judgement's own items and properties are judged as if it stood in a junction.
    completeness(&json!({"allOf": [judged]}), own, at, judged_at, depth, errors);
}

/// Defaults must be valid, and may not have fields that would be dropped.
fn defaults(schema: &Value, path: &Path, compiled: &Structural, errors: &mut Errors) {
    if let Some(default) = &compiled.default {
        let at = path.child("default");
        if has_unknown(default, compiled) {
            errors.push(Error::invalid(&at, default.clone(), "must not have unknown fields"));
        }
        judge::value(default, &at, compiled, errors);
    }
    if let (Some(items), Some(compiled)) = (schema.get("items"), &compiled.items) {
        defaults(items, &path.child("items"), compiled, errors);
    }
    for (name, property) in schema.as_object().into_iter().flat_map(properties) {
        if let Some(compiled) = compiled.properties.get(name.as_str()) {
            defaults(property, &path.child("properties").key(name), compiled, errors);
        }
    }
}

fn has_unknown(value: &Value, schema: &Structural) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(name, value)| {
            if schema.embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                return false;
            }
            match schema.property(name) {
                Some(below) => has_unknown(value, below),
                None => !schema.preserve_unknown && schema.additional.is_none(),
            }
        }),
        Value::Array(items) => {
            items.iter().any(|item| schema.items.as_ref().is_some_and(|below| has_unknown(item, below)))
        }
        _ => false,
    }
}

/// The rules that hold for schemas of every sort.
#[derive(Clone, Copy)]
struct Rules {
    /// Why there may be no defaults here.
    forbidden_defaults: Option<&'static str>,
    in_meta: bool,
}

impl Rules {
    fn check(self, map: &Map<String, Value>, path: &Path, root: bool, depth: usize, errors: &mut Errors) {
        if depth > MAX_DEPTH {
            return;
        }
        self.single(map, path, errors);
        self.types(map, path, errors);
        list_keys(map, path, errors);
        rules(map, path, errors);

        let below = |rules: Self, key: &str, errors: &mut Errors| {
            if let Some(Value::Object(inner)) = map.get(key) {
                rules.check(inner, &path.child(key), false, depth + 1, errors);
            }
        };
        let additional = map.get("additionalProperties");
        if additional.is_some_and(|a| *a != Value::Bool(true) && !a.is_null()) && there(map, "properties") {
            let why = "additionalProperties and properties are mutual exclusive";
            errors.push(Error::forbidden(&path.child("additionalProperties"), why));
        }
        let inside_additional = if self.in_meta {
            Self {
                forbidden_defaults: Some(" inside additionalProperties applying to object metadata"),
                ..self
            }
        } else {
            self
        };
        below(inside_additional, "additionalProperties", errors);
        for (name, property) in properties(map) {
            let mut rules = self;
            let meta = ["metadata", "kind", "apiVersion"].iter().position(|n| n == name);
            if let Some(meta) = meta.filter(|_| root || flag(map, "x-kubernetes-embedded-resource")) {
                rules.in_meta = true;
                if root {
                    rules.forbidden_defaults = Some(
                        [" in top-level metadata", " in top-level kind", " in top-level apiVersion"][meta],
                    );
                }
            }
            if let Value::Object(property) = property {
                rules.check(property, &path.child("properties").key(name), false, depth + 1, errors);
            }
        }
        below(self, "not", errors);
        for junction in ["allOf", "oneOf", "anyOf"] {
            for (at, inner) in list(map, junction).iter().enumerate() {
                if let Value::Object(inner) = inner {
                    self.check(inner, &path.child(junction).index(at), false, depth + 1, errors);
                }
            }
        }
        below(self, "items", errors);
    }

    /// What a single schema may say.
    fn single(self, map: &Map<String, Value>, path: &Path, errors: &mut Errors) {
        let ty = text(map, "type");
        if ty == "null" {
            let why = "type cannot be set to null, use nullable as an alternative";
            errors.push(Error::forbidden(&path.child("type"), why));
        } else if !ty.is_empty() && !TYPES.contains(&ty) {
            errors.push(Error::not_supported(&path.child("type"), ty, &TYPES));
        }
        if let Some(why) =
            self.forbidden_defaults.filter(|_| map.get("default").is_some_and(|d| !d.is_null()))
        {
            errors.push(Error::forbidden(&path.child("default"), format!("must not be set{why}")));
        }
        for (name, why) in [
            ("id", "id is not supported"),
            ("additionalItems", "additionalItems is not supported"),
            ("patternProperties", "patternProperties is not supported"),
            ("definitions", "definitions is not supported"),
            ("dependencies", "dependencies is not supported"),
            ("$ref", "$ref is not supported"),
        ] {
            if there(map, name) {
                errors.push(Error::forbidden(&path.child(name), why));
            }
        }
        if map.get("items").is_some_and(Value::is_array) {
            errors.push(Error::forbidden(
                &path.child("items"),
                "items must be a schema object and not an array",
            ));
        }
        if flag(map, "uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            errors.push(Error::forbidden(&path.child("uniqueItems"), why));
        }
        if self.in_meta && flag(map, "x-kubernetes-embedded-resource") {
            let why = "must not be used inside of resource meta";
            errors.push(Error::forbidden(&path.child("x-kubernetes-embedded-resource"), why));
        }
        if map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let path = path.child("x-kubernetes-preserve-unknown-fields");
            errors.push(Error::invalid(&path, false, "must be true or undefined"));
        }
    }

    /// List types and map types.
    fn types(self, map: &Map<String, Value>, path: &Path, errors: &mut Errors) {
        let ty = text(map, "type");
        for (name, wanted, words) in [
            ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
            ("x-kubernetes-list-type", "array", &["atomic", "set", "map"]),
        ] {
            let Some(found) = map.get(name).and_then(Value::as_str) else { continue };
            if ty != wanted {
                let why = format!("must be {wanted} if {name} is specified");
                let path = path.child("type");
                errors.push(if ty.is_empty() {
                    Error::required(&path, why)
                } else {
                    Error::invalid(&path, ty, why)
                });
            }
            if !words.contains(&found) {
                errors.push(Error::not_supported(&path.child(name), found, words));
            }
        }
        let Some(items) = map.get("items").and_then(Value::as_object) else { return };
        if text(map, "x-kubernetes-list-type") != "set" {
            return;
        }
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let (name, atomic) = match text(items, "type") {
            "array" => {
                ("x-kubernetes-list-type", matches!(text(items, "x-kubernetes-list-type"), "" | "atomic"))
            }
            "object" => ("x-kubernetes-map-type", text(items, "x-kubernetes-map-type") == "atomic"),
            _ => return,
        };
        if !atomic {
            let found = items.get(name).cloned().unwrap_or_default();
            errors.push(Error::invalid(&path.child("items").child(name), found, why));
        }
    }
}

/// The keys of lists that are maps.
fn list_keys(map: &Map<String, Value>, path: &Path, errors: &mut Errors) {
    let (keys, ty) = (list(map, "x-kubernetes-list-map-keys"), text(map, "x-kubernetes-list-type"));
    let keys_at = path.child("x-kubernetes-list-map-keys");
    if !keys.is_empty() && ty != "map" {
        let (path, why) =
            (path.child("x-kubernetes-list-type"), "must be map if x-kubernetes-list-map-keys is non-empty");
        errors.push(if ty.is_empty() { Error::required(&path, why) } else { Error::invalid(&path, ty, why) });
    }
    let items = map.get("items").and_then(Value::as_object);
    let items_at = path.child("items");
    if let Some(items) = items.filter(|items| matches!(ty, "set" | "map") && flag(items, "nullable")) {
        let _ = items;
        let why = format!("cannot be nullable when x-kubernetes-list-type is {ty}");
        errors.push(Error::forbidden(&items_at.child("nullable"), why));
    }
    if ty != "map" {
        return;
    }
    if keys.is_empty() {
        errors.push(Error::required(&keys_at, "must not be empty if x-kubernetes-list-type is map"));
    }
    let Some(items) = items else {
        let why = "must have a schema if x-kubernetes-list-type is map";
        return errors.push(Error::required(&items_at, why));
    };
    if text(items, "type") != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.push(Error::invalid(&items_at.child("type"), text(items, "type"), why));
    }
    let mut unique = BTreeSet::new();
    for key in keys.iter().filter_map(Value::as_str) {
        let property = items.get("properties").and_then(|p| p.get(key));
        let at = items_at.child("properties").key(key);
        if let Some(property) = property {
            let required = list(items, "required").iter().any(|r| r == key);
            if matches!(property["type"].as_str(), Some("array" | "object")) {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(Error::invalid(&at.child("type"), text(items, "type"), why));
            }
            if !required && property.get("default").is_none_or(Value::is_null) {
                let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a \
                           required property";
                errors.push(Error::required(&at.child("default"), why));
            }
            if property["nullable"] == true {
                let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                errors.push(Error::forbidden(&at.child("nullable"), why));
            }
        } else {
            let why = "entries must all be names of item properties";
            errors.push(Error::invalid(&keys_at, Value::from(keys), why));
        }
        if !unique.insert(key) {
            errors.push(Error::invalid(&keys_at, Value::from(keys), "must not contain duplicate entries"));
        }
    }
}

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What can be told of rules in CEL without compiling them.
fn rules(map: &Map<String, Value>, path: &Path, errors: &mut Errors) {
    for (at, rule) in list(map, "x-kubernetes-validations").iter().enumerate() {
        let path = path.child("x-kubernetes-validations").index(at);
        let said = |key: &str| rule[key].as_str().unwrap_or_default();
        let lines = |text: &str| text.contains(['\n', '\r']);
        let (expression, message) = (said("rule").trim(), said("message").trim());
        if expression.is_empty() {
            errors.push(Error::required(&path.child("rule"), "rule is not specified"));
        } else if !said("message").is_empty() && message.is_empty() {
            let why = "must be non-empty if specified";
            errors.push(Error::invalid(&path.child("message"), said("message"), why));
        } else if lines(message) {
            let why = "must not contain line breaks";
            errors.push(Error::invalid(&path.child("message"), said("message"), why));
        } else if lines(expression) && message.is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(Error::required(&path.child("message"), why));
        }
        if !said("messageExpression").is_empty() && said("messageExpression").trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(Error::required(&path.child("messageExpression"), why));
        }
        if !said("reason").is_empty() && !REASONS.contains(&said("reason")) {
            errors.push(Error::not_supported(&path.child("reason"), said("reason"), &REASONS));
        }
        if !said("fieldPath").is_empty() && said("fieldPath").trim().is_empty() {
            let why = "must be non-empty if specified";
            errors.push(Error::invalid(&path.child("fieldPath"), said("fieldPath"), why));
        }
        if lines(said("fieldPath")) {
            let why = "must not contain line breaks";
            errors.push(Error::invalid(&path.child("fieldPath"), said("fieldPath"), why));
        }
    }
}
