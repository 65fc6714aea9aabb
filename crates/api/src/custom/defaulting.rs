//! The defaults of a structural schema.

use serde_json::Value;

use super::structural::{Additional, Structural};

/// Fills in defaults wherever a value is absent, or is null and must not be.
pub(super) fn fill(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(map) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                if map.get(name.as_ref()).is_none_or(|v| v.is_null() && !property.nullable) {
                    map.insert(name.to_string(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                let below = match (schema.properties.get(name.as_str()), &schema.additional) {
                    (Some(property), _) => property,
                    (None, Some(Additional::Of(additional))) => additional,
                    _ => continue,
                };
                fill_null(value, below);
                fill(value, below);
            }
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            for item in items {
                fill_null(item, schema);
                fill(item, schema);
            }
        }
        _ => {}
    }
}

fn fill_null(value: &mut Value, schema: &Structural) {
    if let (Value::Null, false, Some(default)) = (&*value, schema.nullable, &schema.default) {
        *value = default.clone();
    }
}
