//! Schemas of custom kinds, from their definitions.

use serde_json::{Map, Value, json};
use tiphys_api::kind::Kind;

use super::Dialect;

/// The full name of a custom schema: `com.example.v1.Foo`.
pub(super) fn full_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<&str> = group.rsplit('.').collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

/// The schema of a kind's objects. `identity` has the properties that every object has.
pub(super) fn object(row: &Kind, version: &str, dialect: Dialect, identity: Value) -> Value {
    let source = row.custom.as_ref().map_or(&Value::Null, |custom| custom.source(version));
    let open = source["x-kubernetes-preserve-unknown-fields"] == true;
    let mut schema = match dialect {
        _ if !source.is_object() => json!({"type": "object"}),
        // Clients of v2 would refuse all fields but those that are named.
        Dialect::V2 if open => json!({"type": "object"}),
        Dialect::V2 => simplified(source),
        Dialect::V3 => source.clone(),
    };
    if source.is_object() && !(open && dialect == Dialect::V2) {
        add_identity(&mut schema, identity);
    }
    name(&mut schema, row, version, &row.kind);
    schema
}

/// The schema of a list of them. `item` is a reference.
pub(super) fn list(row: &Kind, version: &str, item: Value, identity: Value) -> Value {
    let mut schema = json!({
        "type": "object",
        "description": format!("{} is a list of {}", row.list_kind, row.kind),
        "required": ["items"],
        "properties": {"items": {
            "type": "array",
            "items": item,
            "description": format!("List of {}.", row.resource),
        }},
    });
    add_identity(&mut schema, identity);
    name(&mut schema, row, version, &row.list_kind);
    schema
}

fn add_identity(schema: &mut Value, identity: Value) {
    let properties = &mut schema["properties"];
    if !properties.is_object() {
        *properties = json!({});
    }
    if let (Value::Object(properties), Value::Object(identity)) = (properties, identity) {
        properties.extend(identity);
    }
}

fn name(schema: &mut Value, row: &Kind, version: &str, kind: &str) {
    schema["x-kubernetes-group-version-kind"] =
        json!([{"group": row.group, "version": version, "kind": kind}]);
}

/// What OpenAPI v2 and its clients can read of a structural schema.
fn simplified(schema: &Value) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    let flag = |key: &str| map.get(key) == Some(&Value::Bool(true));
    let (nullable, open) = (flag("nullable"), flag("x-kubernetes-preserve-unknown-fields"));
    let mut out = Map::new();
    for (key, value) in map {
        let value = match (key.as_str(), value) {
            ("nullable" | "allOf" | "anyOf" | "oneOf" | "not", _) => continue,
            ("type", _) if nullable || flag("x-kubernetes-int-or-string") => continue,
            ("type", ty) if open && ty == "object" => continue,
            ("items" | "properties", _) if nullable || open => continue,
            ("properties", Value::Object(inner)) => {
                inner.iter().map(|(name, inner)| (name.clone(), simplified(inner))).collect()
            }
            ("items" | "additionalProperties", inner) => simplified(inner),
            ("required", Value::Array(names)) => {
                let null = |name: &&Value| {
                    let property = name.as_str().and_then(|n| schema["properties"].get(n));
                    property.is_none_or(|p| p["nullable"] != true)
                };
                let names: Vec<Value> = names.iter().filter(null).cloned().collect();
                if names.is_empty() || schema["additionalProperties"]["nullable"] == true {
                    continue;
                }
                names.into()
            }
            (_, value) => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    if out.get("type").is_some_and(|ty| ty == "array") && !out.contains_key("items") {
        out.remove("type");
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_reversed_domains() {
        assert_eq!(full_name("stable.example.com", "v1", "Foo"), "com.example.stable.v1.Foo");
    }

    #[test]
    fn v2_says_less() {
        let schema = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "nullable": true},
            "b": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "c": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"x": {}}},
        }, "not": {}});
        assert_eq!(
            simplified(&schema),
            json!({"type": "object", "required": ["b"], "properties": {
                "a": {}, "b": {"x-kubernetes-int-or-string": true},
                "c": {"x-kubernetes-preserve-unknown-fields": true},
            }})
        );
    }
}
