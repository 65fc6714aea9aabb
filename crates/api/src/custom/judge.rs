//! Judges values by a structural schema. The words are those of upstream's OpenAPI validator.
//!
//! On an update what has not changed is not judged again: an object that became invalid when its definition
//! changed can still be changed elsewhere.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::formats;
use super::structural::{Additional, Bound, ListType, Structural, Type};
use crate::field::{Cause, Error, Errors, Path};
use crate::{meta, names};

/// More errors than this are not collected.
const MAX_ERRORS: usize = 200;

/// Judges a whole resource. `old` is what it is to replace.
pub(super) fn resource(object: &Value, old: Option<&Value>, schema: &Structural, errors: &mut Errors) {
    let mut judge = Judge { path: String::new(), errors };
    judge.value(object, old, schema);
    judge.structure(object, old, schema, true);
}

/// Judges one value where it stands: a default.
pub(super) fn value(value: &Value, path: &Path, schema: &Structural, errors: &mut Errors) {
    let mut judge = Judge { path: path.as_str().to_owned(), errors };
    judge.value(value, None, schema);
    judge.structure(value, None, schema, false);
}

struct Judge<'e> {
    path: String,
    errors: &'e mut Errors,
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

/// A number as Go writes it.
fn shown(value: &Value) -> String {
    value.as_f64().map_or_else(|| value.to_string(), |n| n.to_string())
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
}

impl Structural {
    fn admits(&self, value: &Value) -> bool {
        if value.is_null() {
            return self.nullable || (self.ty.is_none() && !self.int_or_string);
        }
        if self.int_or_string {
            return value.is_string() || is_integer(value);
        }
        match self.ty {
            None => true,
            Some(Type::Object) => value.is_object(),
            Some(Type::Array) => value.is_array(),
            Some(Type::String) => value.is_string(),
            Some(Type::Integer) => is_integer(value),
            Some(Type::Number) => value.is_number(),
            Some(Type::Boolean) => value.is_boolean(),
        }
    }

    fn type_name(&self) -> &'static str {
        match self.ty {
            _ if self.int_or_string => "integer,string",
            Some(ty) => ty.name(),
            None => "",
        }
    }
}

impl Judge<'_> {
    fn here(&self) -> Path {
        Path::new(&self.path)
    }

    fn add(&mut self, error: Error) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    fn invalid(&mut self, value: impl Into<Value>, why: &str) {
        let detail = format!("{} in body {why}", self.path);
        let path = self.here();
        self.add(Error::invalid(&path, value, detail));
    }

    fn wrong_type(&mut self, value: &str, wanted: &str) {
        let detail = format!("{} in body must be of type {wanted}: {value:?}", self.path);
        let path = self.here();
        self.add(Error { path, cause: Cause::TypeInvalid, value: value.into(), detail });
    }

    /// What belongs to the object and to none of its fields.
    fn general(&mut self, why: &str) {
        let detail = format!("{:?} {why}", self.path);
        self.add(Error::invalid(&Path::root(), "", detail));
    }

    /// Does something one step further inside.
    fn inside<T>(&mut self, step: Step<'_>, then: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        match step {
            Step::Field(name) => {
                if length > 0 {
                    self.path.push('.');
                }
                self.path.push_str(name);
            }
            // Writing into a string does not fail.
            Step::Index(at) => drop(write!(self.path, "[{at}]")),
            Step::Key(key) => drop(write!(self.path, "[{key}]")),
        }
        let result = then(self);
        self.path.truncate(length);
        result
    }

    fn value(&mut self, value: &Value, old: Option<&Value>, schema: &Structural) {
        if old == Some(value) {
            return;
        }
        if !schema.admits(value) {
            self.wrong_type(type_of(value), schema.type_name());
        }
        if !schema.choices.is_empty() && !value.is_null() && !schema.choices.contains(value) {
            let choices =
                schema.choices.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned));
            let choices: Vec<String> = choices.collect();
            let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
            let path = self.here();
            self.add(Error::not_supported(&path, value.clone(), &choices));
        }
        if value.is_null() {
            return;
        }
        self.junctions(value, old, schema);
        match value {
            Value::String(text) => self.text(text, schema),
            Value::Number(_) => self.number(value, schema),
            Value::Array(items) => self.list(items, old, schema),
            Value::Object(map) => self.map(map, old, schema),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// What an alternative finds wrong, told to nobody yet.
    fn tried(&mut self, value: &Value, old: Option<&Value>, schema: &Structural) -> Errors {
        let mut errors = Errors::new();
        let mut judge = Judge { path: self.path.clone(), errors: &mut errors };
        judge.value(value, old, schema);
        errors
    }

    fn junctions(&mut self, value: &Value, old: Option<&Value>, schema: &Structural) {
        if !schema.any_of.is_empty() {
            self.alternatives(value, old, &schema.any_of, |valid| match valid {
                0 => Some("must validate at least one schema (anyOf)".to_owned()),
                _ => None,
            });
        }
        if !schema.one_of.is_empty() {
            self.alternatives(value, old, &schema.one_of, |valid| match valid {
                0 => Some("must validate one and only one schema (oneOf). Found none valid".to_owned()),
                1 => None,
                n => Some(format!(
                    "must validate one and only one schema (oneOf). Found {n} valid alternatives"
                )),
            });
        }
        let mut valid = 0;
        for all in &schema.all_of {
            let found = self.tried(value, old, all);
            valid += usize::from(found.is_empty());
            found.into_iter().for_each(|error| self.add(error));
        }
        match valid {
            n if n == schema.all_of.len() => {}
            0 => self.general("must validate all the schemas (allOf). None validated"),
            _ => self.general("must validate all the schemas (allOf)"),
        }
        if let Some(not) = &schema.not
            && self.tried(value, None, not).is_empty()
        {
            self.general("must not validate the schema (not)");
        }
    }

    /// The alternative that is nearest tells what is wrong, where none is right.
    fn alternatives(
        &mut self,
        value: &Value,
        old: Option<&Value>,
        schemas: &[Structural],
        judge: fn(usize) -> Option<String>,
    ) {
        let tried: Vec<Errors> = schemas.iter().map(|schema| self.tried(value, old, schema)).collect();
        let valid = tried.iter().filter(|errors| errors.is_empty()).count();
        let Some(why) = judge(valid) else { return };
        self.general(&why);
        if valid == 0 {
            let nearest = tried.into_iter().min_by_key(Vec::len).unwrap_or_default();
            nearest.into_iter().for_each(|error| self.add(error));
        }
    }

    fn text(&mut self, text: &str, schema: &Structural) {
        let length = text.chars().count() as u64;
        if let Some(max) = schema.max_length.filter(|max| length > *max) {
            let path = self.here();
            self.add(Error::too_long(&path, usize::try_from(max).unwrap_or(usize::MAX)));
        }
        if let Some(min) = schema.min_length.filter(|min| length < *min) {
            self.invalid(text, &format!("should be at least {min} chars long"));
        }
        if let Some(pattern) = schema.pattern.as_ref().filter(|p| !p.compiled.is_match(text)) {
            self.invalid(text, &format!("should match '{}'", pattern.text));
        }
        if let Some(format) =
            schema.format.as_ref().filter(|_| matches!(schema.ty, None | Some(Type::String)))
            && formats::is_wrong(format, text)
        {
            self.wrong_type(text, format);
        }
    }

    fn number(&mut self, value: &Value, schema: &Structural) {
        let Some(n) = number(value) else { return };
        let beyond = |bound: &Bound, over: fn(f64, f64) -> bool| {
            number(&bound.value).is_some_and(|limit| over(n, limit) || (bound.exclusive && n == limit))
        };
        if let Some(bound) = schema.maximum.as_ref().filter(|b| beyond(b, |n, max| n > max)) {
            let words = if bound.exclusive { "less than" } else { "less than or equal to" };
            self.invalid(value.clone(), &format!("should be {words} {}", shown(&bound.value)));
        }
        if let Some(bound) = schema.minimum.as_ref().filter(|b| beyond(b, |n, min| n < min)) {
            let words = if bound.exclusive { "greater than" } else { "greater than or equal to" };
            self.invalid(value.clone(), &format!("should be {words} {}", shown(&bound.value)));
        }
        if let Some(factor) = &schema.multiple_of
            && let Some(by) = number(factor).filter(|by| *by > 0.0)
            && ((n / by) - (n / by).round()).abs() > 1e-9
        {
            self.invalid(value.clone(), &format!("should be a multiple of {}", shown(factor)));
        }
        if schema.format.as_deref() == Some("int32")
            && value.as_i64().is_none_or(|n| i32::try_from(n).is_err())
        {
            self.wrong_type(&value.to_string(), "int32");
        }
    }

    fn list(&mut self, items: &[Value], old: Option<&Value>, schema: &Structural) {
        let count = items.len() as u64;
        if let Some(min) = schema.min_items.filter(|min| count < *min) {
            self.invalid(count, &format!("should have at least {min} items"));
        }
        if let Some(max) = schema.max_items.filter(|max| count > *max) {
            let path = self.here();
            self.add(Error::too_many(&path, items.len(), usize::try_from(max).unwrap_or(usize::MAX)));
        }
        let Some(of) = &schema.items else { return };
        for (at, item) in items.iter().enumerate() {
            let before = schema.list.counterpart(item, old);
            self.inside(Step::Index(at), |judge| judge.value(item, before, of));
        }
    }

    fn map(&mut self, map: &Map<String, Value>, old: Option<&Value>, schema: &Structural) {
        let count = map.len() as u64;
        if let Some(min) = schema.min_properties.filter(|min| count < *min) {
            self.invalid(count, &format!("should have at least {min} properties"));
        }
        if let Some(max) = schema.max_properties.filter(|max| count > *max) {
            let path = self.here();
            self.add(Error::too_many(&path, map.len(), usize::try_from(max).unwrap_or(usize::MAX)));
        }
        for name in schema.required.iter().filter(|name| !map.contains_key(name.as_ref())) {
            self.inside(Step::Field(name), |judge| {
                let path = judge.here();
                judge.add(Error::required(&path, ""));
            });
        }
        for (name, value) in map {
            let Some(of) = schema.property(name) else { continue };
            let before = old.and_then(|old| old.get(name));
            self.inside(Step::Field(name), |judge| judge.value(value, before, of));
        }
    }

    /// List types, and the metadata of embedded resources.
    fn structure(&mut self, value: &Value, old: Option<&Value>, schema: &Structural, root: bool) {
        if old == Some(value) {
            return;
        }
        match value {
            Value::Object(map) => {
                if schema.embedded && !root {
                    self.embedded(map);
                }
                for (name, value) in map {
                    let before = old.and_then(|old| old.get(name));
                    match (schema.properties.get(name.as_str()), &schema.additional) {
                        (Some(of), _) => {
                            self.inside(Step::Field(name), |j| j.structure(value, before, of, false));
                        }
                        (None, Some(Additional::Of(of))) => {
                            self.inside(Step::Key(name), |j| j.structure(value, before, of, false));
                        }
                        _ => {}
                    }
                }
            }
            Value::Array(items) => {
                self.unique(items, &schema.list);
                let Some(of) = &schema.items else { return };
                for (at, item) in items.iter().enumerate() {
                    let before = schema.list.counterpart(item, old);
                    self.inside(Step::Index(at), |judge| judge.structure(item, before, of, false));
                }
            }
            _ => {}
        }
    }

    /// Tells the second of each two items that are the same.
    fn unique(&mut self, items: &[Value], list: &ListType) {
        let identity = |item: &Value| match list {
            ListType::Map(keys) => {
                let there = keys.iter().filter_map(|k| Some((k.to_string(), item.get(k.as_ref())?.clone())));
                Value::Object(there.collect())
            }
            _ => item.clone(),
        };
        match list {
            ListType::Atomic => return,
            ListType::Map(_) => {
                if let Some(at) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
                    return self.inside(Step::Index(at), |judge| {
                        let path = judge.here();
                        let why = "must be an object for an array of list-type map";
                        judge.add(Error::invalid(&path, items[at].clone(), why));
                    });
                }
            }
            ListType::Set => {}
        }
        let (mut seen, mut told) = (HashSet::new(), HashSet::new());
        for (at, item) in items.iter().enumerate() {
            let item = identity(item);
            let text = item.to_string();
            if !seen.insert(text.clone()) && told.insert(text) {
                self.inside(Step::Index(at), |judge| {
                    let path = judge.here();
                    judge.add(Error::duplicate(&path, item));
                });
            }
        }
    }

    fn embedded(&mut self, map: &Map<String, Value>) {
        let at = self.here();
        for name in ["apiVersion", "kind"] {
            let path = at.child(name);
            match map.get(name) {
                None => self.add(Error::required(&path, "")),
                Some(Value::String(text)) if text.is_empty() => {
                    self.add(Error::invalid(&path, "", "must not be empty"));
                }
                Some(Value::String(text)) if name == "apiVersion" => {
                    if text.matches('/').count() > 1 {
                        let why = format!("unexpected GroupVersion string: {text}");
                        self.add(Error::invalid(&path, text.as_str(), why));
                    }
                }
                Some(Value::String(text)) => {
                    let wrong = names::dns1035_label(&text.to_lowercase(), false);
                    if !wrong.is_empty() {
                        let why =
                            format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                        self.add(Error::invalid(&path, text.as_str(), why));
                    }
                }
                Some(other) => self.add(Error::invalid(&path, other.clone(), "must be a string")),
            }
        }
        let path = at.child("metadata");
        if let Some(metadata) = map.get("metadata").filter(|m| m.is_object()) {
            for (field, check) in [
                ("labels", meta::validate_labels as fn(&Value, &Path, &mut Errors)),
                ("annotations", meta::validate_annotations),
            ] {
                if let Some(value) = metadata.get(field) {
                    check(value, &path.child(field), self.errors);
                }
            }
            let name = metadata["name"].as_str().unwrap_or_default();
            for wrong in names::path_segment(name, false) {
                self.add(Error::invalid(&path.child("name"), name, wrong));
            }
        }
    }
}

/// A step into a value.
#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}
