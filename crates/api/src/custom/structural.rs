//! A structural schema, compiled: what `openAPIV3Schema` of a CustomResourceDefinition says.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use serde_json::{Map, Value};

use super::rule::Rule;
use crate::kind::Str;

/// Schemas within schemas go no deeper.
pub const MAX_DEPTH: usize = 100;

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// How a list's items are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<Str>),
}

impl ListType {
    /// The item of the old list that an item of the new one continues, where items can be told apart.
    pub fn counterpart<'o>(&self, item: &Value, old: Option<&'o Value>) -> Option<&'o Value> {
        let Self::Map(keys) = self else { return None };
        let same = |other: &&Value| keys.iter().all(|key| other.get(key.as_ref()) == item.get(key.as_ref()));
        old?.as_array()?.iter().find(same)
    }
}

/// A bound of a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    pub value: Value,
    pub exclusive: bool,
}

/// One schema. Inside of `allOf`, `anyOf`, `oneOf` and `not` only what judges values is set.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    pub ty: Option<Type>,
    pub nullable: bool,
    pub default: Option<Value>,
    pub preserve_unknown: bool,
    pub embedded: bool,
    pub int_or_string: bool,
    pub list: ListType,
    pub atomic_map: bool,
    pub properties: BTreeMap<Str, Structural>,
    pub additional: Option<Additional>,
    pub items: Option<Box<Structural>>,
    pub format: Option<Str>,
    pub minimum: Option<Bound>,
    pub maximum: Option<Bound>,
    pub multiple_of: Option<Value>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub pattern: Option<Pattern>,
    pub choices: Vec<Value>,
    pub required: Vec<Str>,
    pub all_of: Vec<Structural>,
    pub any_of: Vec<Structural>,
    pub one_of: Vec<Structural>,
    pub not: Option<Box<Structural>>,
    /// `x-kubernetes-validations`.
    pub rules: Vec<Arc<Rule>>,
}

/// What keys may have that are no properties.
#[derive(Clone, Debug)]
pub enum Additional {
    Any,
    Of(Box<Structural>),
}

/// A pattern as it is written, and compiled.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub text: String,
    pub compiled: Regex,
}

/// Patterns are compiled into no more than this many bytes.
const PATTERN_SIZE: usize = 1 << 20;

/// Compiles a pattern.
///
/// # Errors
/// It is no regular expression, or one that is too large.
pub fn pattern(text: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(text).size_limit(PATTERN_SIZE).build()
}

impl Structural {
    /// Compiles a schema that validation has accepted; what it would have refused is left out.
    pub fn compile(schema: &Value) -> Self {
        compile(schema, 0)
    }

    /// The schema of a property, or of what is none.
    pub fn property(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Of(schema)) => Some(schema),
            _ => None,
        })
    }

    /// Whether the schema, or one within it that values are read by, is as `wanted`.
    pub fn any(&self, wanted: &dyn Fn(&Self) -> bool) -> bool {
        let additional = match &self.additional {
            Some(Additional::Of(schema)) => Some(&**schema),
            _ => None,
        };
        wanted(self)
            || self.properties.values().any(|s| s.any(wanted))
            || self.items.as_ref().is_some_and(|s| s.any(wanted))
            || additional.is_some_and(|s| s.any(wanted))
    }
}

fn compile(schema: &Value, depth: usize) -> Structural {
    let empty = Map::new();
    let map = schema.as_object().filter(|_| depth <= MAX_DEPTH).unwrap_or(&empty);
    let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or(false);
    let text = |key: &str| map.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
    let count = |key: &str| map.get(key).and_then(Value::as_u64);
    let below = |key: &str| map.get(key).filter(|v| v.is_object()).map(|s| Box::new(compile(s, depth + 1)));
    let several = |key: &str| -> Vec<Structural> {
        map.get(key).and_then(Value::as_array).into_iter().flatten().map(|s| compile(s, depth + 1)).collect()
    };
    let texts = |key: &str| -> Vec<Str> {
        let all = map.get(key).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(|t| Str::Owned(t.to_owned())).collect()
    };
    let bound = |key: &str, exclusive: &str| {
        map.get(key)
            .filter(|v| v.is_number())
            .map(|value| Bound { value: value.clone(), exclusive: flag(exclusive) })
    };
    Structural {
        ty: text("type").and_then(Type::parse),
        nullable: flag("nullable"),
        default: map.get("default").filter(|v| !v.is_null()).cloned(),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        list: match text("x-kubernetes-list-type") {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map(texts("x-kubernetes-list-map-keys")),
            _ => ListType::Atomic,
        },
        atomic_map: text("x-kubernetes-map-type") == Some("atomic"),
        properties: map
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, s)| (Str::Owned(name.clone()), compile(s, depth + 1)))
            .collect(),
        additional: match map.get("additionalProperties") {
            Some(Value::Bool(true)) => Some(Additional::Any),
            Some(Value::Object(_)) => below("additionalProperties").map(Additional::Of),
            _ => None,
        },
        items: below("items"),
        format: text("format").map(|t| Str::Owned(t.to_owned())),
        minimum: bound("minimum", "exclusiveMinimum"),
        maximum: bound("maximum", "exclusiveMaximum"),
        multiple_of: map.get("multipleOf").filter(|v| v.is_number()).cloned(),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        pattern: text("pattern")
            .and_then(|text| pattern(text).ok().map(|compiled| Pattern { text: text.to_owned(), compiled })),
        choices: map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        required: texts("required"),
        all_of: several("allOf"),
        any_of: several("anyOf"),
        one_of: several("oneOf"),
        not: below("not"),
        rules: Rule::read(map.get("x-kubernetes-validations")),
    }
}
