//! What expressions know of a structural schema: types, and how large and how small values can be.

use std::collections::HashMap;
use std::sync::Arc;

use tiphys_api::custom::{Additional, ListType, Structural, Type as Json};

use crate::estimate::Sizes;
use crate::types::{self, Declared, ListKind, Type, escape};

/// No request is longer, so nothing in one is.
pub const MAX_REQUEST: u64 = 3 << 20;

/// A schema as expressions see it.
#[derive(Clone, Debug)]
pub struct Shape {
    pub ty: Type,
    /// The most items, entries or bytes; 0 for what has fields, and for numbers, as upstream counts them.
    most: u64,
    /// The fewest bytes that it takes in JSON.
    pub least: u64,
    fields: HashMap<String, Arc<Shape>>,
    item: Option<Arc<Shape>>,
}

impl Shape {
    fn scalar(ty: Type, least: u64, most: u64) -> Self {
        Self { ty, most, least, fields: HashMap::new(), item: None }
    }

    /// The shape of a schema; `None` where expressions cannot see what it holds. `name` tells types apart.
    pub fn of(schema: &Structural, name: &str) -> Option<Self> {
        if schema.int_or_string {
            return Some(Self::scalar(Type::Dyn, 1, schema.max_length.map_or(MAX_REQUEST - 2, in_bytes)));
        }
        Some(match schema.ty? {
            Json::Array => {
                let item = Self::of(schema.items.as_ref()?, &format!("{name}.@items"))?;
                let most = schema.max_items.unwrap_or((MAX_REQUEST - 2) / (item.least + 1));
                let kind = match &schema.list {
                    ListType::Atomic => ListKind::Atomic,
                    ListType::Set => ListKind::Set,
                    ListType::Map(keys) => ListKind::Map(keys.iter().map(ToString::to_string).collect()),
                };
                let list = types::ListType { item: item.ty.clone(), kind };
                let ty = Type::List(Arc::new(list));
                Self { item: Some(Arc::new(item)), ..Self::scalar(ty, 2, most) }
            }
            Json::Object => match &schema.additional {
                Some(Additional::Of(value)) if schema.properties.is_empty() => {
                    let value = Self::of(value, &format!("{name}.@values"))?;
                    let most = schema.max_properties.unwrap_or((MAX_REQUEST - 2) / (value.least + 6));
                    let ty = Type::map(Type::String, value.ty.clone());
                    Self { item: Some(Arc::new(value)), ..Self::scalar(ty, 2, most) }
                }
                Some(Additional::Any) if schema.properties.is_empty() => {
                    Self::scalar(Type::map(Type::String, Type::Dyn), 2, MAX_REQUEST / 6)
                }
                _ => Self::object(schema, name),
            },
            Json::String => Self::string(schema),
            Json::Boolean => Self::scalar(Type::Bool, 4, 0),
            Json::Number => Self::scalar(Type::Double, 1, 0),
            Json::Integer => Self::scalar(Type::Int, 1, 0),
        })
    }

    fn string(schema: &Structural) -> Self {
        let (ty, least, most) = match schema.format.as_deref() {
            Some("byte") => (Type::Bytes, 2, schema.max_length.unwrap_or(MAX_REQUEST - 2)),
            Some("duration") => (Type::Duration, 3, 32),
            Some("date") => (Type::Timestamp, 12, 12),
            Some("date-time") => (Type::Timestamp, 21, 32),
            _ => {
                let choice = schema.choices.iter().filter_map(|c| c.as_str()).map(|c| c.len() as u64).max();
                (Type::String, 2, schema.max_length.map(in_bytes).or(choice).unwrap_or(MAX_REQUEST - 2))
            }
        };
        Self::scalar(ty, least, most)
    }

    fn object(schema: &Structural, name: &str) -> Self {
        let (mut fields, mut declared, mut least) = (HashMap::new(), Vec::new(), 2);
        let mut add = |field: &str, shape: Self, declared: &mut Vec<(String, Type)>| {
            if let Some(escaped) = escape(field) {
                declared.push((field.to_owned(), shape.ty.clone()));
                fields.insert(escaped, Arc::new(shape));
            }
        };
        for (field, property) in &schema.properties {
            let hidden = schema.embedded && matches!(&**field, "apiVersion" | "kind" | "metadata");
            let Some(shape) = Self::of(property, &format!("{name}.{field}")).filter(|_| !hidden) else {
                continue;
            };
            if schema.required.contains(field) && property.default.is_none() {
                least += field.len() as u64 + shape.least + 4;
            }
            add(field, shape, &mut declared);
        }
        if schema.embedded {
            let text = || Self::scalar(Type::String, 2, MAX_REQUEST - 2);
            let inner: Vec<(String, Type)> =
                ["name", "generateName"].into_iter().map(|n| (n.to_owned(), Type::String)).collect();
            let ty = declare(&format!("{name}.metadata"), inner);
            let inner = ["name", "generateName"].into_iter().map(|n| (n.to_owned(), Arc::new(text())));
            let metadata = Self { fields: inner.collect(), ..Self::scalar(ty, 2, 0) };
            add("apiVersion", text(), &mut declared);
            add("kind", text(), &mut declared);
            add("metadata", metadata, &mut declared);
        }
        Self { fields, ..Self::scalar(declare(name, declared), least, 0) }
    }
}

/// The most bytes of a string whose length a schema bounds in code points.
fn in_bytes(characters: u64) -> u64 {
    characters.saturating_mul(4)
}

fn declare(name: &str, fields: Vec<(String, Type)>) -> Type {
    Type::Object(Declared::new(name, fields))
}

impl Sizes for Shape {
    fn max(&self, path: &[&str]) -> Option<u64> {
        let mut at = self;
        for (step, rest) in path.iter().zip((0..path.len()).rev()).skip(1) {
            at = match *step {
                "@items" | "@values" => at.item.as_deref()?,
                // Upstream takes the keys of a map to be empty; definitions rely on what that lets them do.
                "@keys" => return (rest == 0).then_some(0),
                field => at.fields.get(field)?,
            };
        }
        Some(at.most)
    }
}
