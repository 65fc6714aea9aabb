//! What mutations of admission policies construct: `Object{spec: Object.spec{...}}` and `JSONPatch{op: ...}`.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::types::{Field, ObjectType, Type};
use crate::value::{List, Map, Struct, Value};

/// The types that mutations may construct, by their names; a [`crate::Constructor`].
pub fn patch_type(name: &str) -> Option<Arc<dyn ObjectType>> {
    if name == "JSONPatch" {
        return Some(Arc::new(JsonPatch));
    }
    (name == "Object" || name.starts_with("Object.")).then(|| Arc::new(Part(name.to_owned())) as _)
}

/// A part of an apply configuration: any field of any type.
#[derive(Debug)]
struct Part(String);

impl ObjectType for Part {
    fn name(&self) -> &str {
        &self.0
    }

    fn field(&self, name: &str) -> Option<Field> {
        Some(Field { name: name.into(), ty: Type::Dyn })
    }
}

/// An operation of RFC 6902.
#[derive(Debug)]
struct JsonPatch;

impl ObjectType for JsonPatch {
    fn name(&self) -> &str {
        "JSONPatch"
    }

    fn field(&self, name: &str) -> Option<Field> {
        let ty = match name {
            "op" | "path" | "from" => Type::String,
            "value" => Type::Dyn,
            _ => return None,
        };
        Some(Field { name: name.into(), ty })
    }
}

impl Value<'_> {
    /// The apply configuration that a value is, as JSON.
    ///
    /// # Errors
    /// It is none, or holds a part under another field than its type names; worded as upstream words it.
    pub fn apply_configuration(&self) -> Result<Json, String> {
        let Self::Struct(object) = self else {
            return Err(format!(
                "unsupported return type from ApplyConfiguration expression: {}",
                self.type_name()
            ));
        };
        placed(object, &object.name).map_err(|why| format!("type mismatch: {why}"))?;
        self.to_json().ok_or_else(|| "invalid return type: not JSON".to_owned())
    }

    /// The operations that a value lists, as a JSON patch.
    ///
    /// # Errors
    /// It is something else.
    pub fn json_patch(&self) -> Result<Json, String> {
        let Self::List(list) = self else {
            return Err(format!(
                "type mismatch: JSONPatchType.expression should evaluate to array, got {}",
                self.type_name()
            ));
        };
        let operation = |value: Value<'_>| match &value {
            Value::Struct(made) if &*made.name == "JSONPatch" => {
                value.to_json().ok_or_else(|| "value of a JSONPatch is not JSON".to_owned())
            }
            other => Err(format!(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of {}",
                other.type_name()
            )),
        };
        list.iter().map(operation).collect::<Result<Vec<_>, _>>().map(Json::Array)
    }
}

/// Makes sure that every part stands under the field that its type names.
fn placed(object: &Struct<'_>, path: &str) -> Result<(), String> {
    if &*object.name != path {
        return Err(format!(
            "unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
            object.name
        ));
    }
    object.fields.iter().try_for_each(|(name, value)| below(value, &format!("{path}.{name}")))
}

fn below(value: &Value<'_>, path: &str) -> Result<(), String> {
    match value {
        Value::Struct(object) => placed(object, path),
        Value::List(List::Made(items)) => items.iter().try_for_each(|item| below(item, path)),
        Value::Map(map @ Map::Made(_)) => {
            map.keys().iter().filter_map(|key| map.get(key)).try_for_each(|value| below(&value, path))
        }
        Value::Optional(Some(of)) => below(of, path),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
