//! What decoding and server-side apply need to know of a structural schema, in the form of [`crate::schema`].

use serde_json::Value;

use super::structural::{Additional, ListType, Structural, Type};
use crate::kind::Str;
use crate::schema::{Builder, Described, Schema, TypeRef};

/// The fields that every resource has.
pub(super) const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// The type of `metadata`, which the built-in schema has.
fn object_meta() -> Option<TypeRef<'static>> {
    Schema::builtin().named("meta.v1.ObjectMeta")
}

/// Describes the schema of a whole resource.
pub(super) fn resource(builder: &mut Builder, schema: &Structural) -> Described {
    object(builder, schema, true)
}

fn describe(builder: &mut Builder, schema: &Structural) -> Described {
    let nullable = schema.nullable;
    let is_object = schema.ty == Some(Type::Object) || !schema.properties.is_empty() || schema.embedded;
    match (&schema.additional, &schema.items) {
        (_, Some(items)) if schema.ty == Some(Type::Array) => {
            let item = describe(builder, items);
            match &schema.list {
                ListType::Atomic => builder.atomic_list(item, nullable),
                ListType::Set => builder.set(item, nullable),
                ListType::Map(keys) => builder.keyed_list(item, keys.clone(), nullable),
            }
        }
        (Some(additional), _) if schema.properties.is_empty() && is_object => {
            let value = match additional {
                Additional::Any => builder.any(true),
                Additional::Of(schema) => describe(builder, schema),
            };
            builder.map(value, schema.atomic_map, nullable)
        }
        _ if is_object => object(builder, schema, schema.embedded),
        _ => builder.any(nullable),
    }
}

fn object(builder: &mut Builder, schema: &Structural, resource: bool) -> Described {
    let mut fields: Vec<(Str, Described)> = Vec::with_capacity(schema.properties.len() + META.len());
    let mut defaults: Vec<(Str, Value)> = Vec::new();
    for (name, property) in &schema.properties {
        if let Some(default) = &property.default {
            defaults.push((name.clone(), default.clone()));
        }
        if !(resource && META.contains(&&**name)) {
            fields.push((name.clone(), describe(builder, property)));
        }
    }
    if resource {
        for name in META {
            let described = match (name, object_meta()) {
                ("metadata", Some(ty)) => builder.builtin(ty),
                _ => builder.any(false),
            };
            fields.push((name.into(), described));
        }
    }
    let open = schema.preserve_unknown || schema.additional.is_some();
    builder.object(fields, open, schema.atomic_map, schema.nullable, defaults)
}
