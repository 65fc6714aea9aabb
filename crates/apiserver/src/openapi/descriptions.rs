//! The prose of the API.

use serde_json::Value;

/// Descriptions of schemas and their fields, by full name.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    definitions: serde_json::Map<String, Value>,
}

impl Descriptions {
    /// What the schema is.
    pub(super) fn of(&self, full: &str) -> Option<&str> {
        self.definitions.get(full)?.get("description")?.as_str()
    }

    /// What the schema's field is.
    pub(super) fn of_field(&self, full: &str, field: &str) -> Option<&str> {
        self.definitions.get(full)?.get("properties")?.get(field)?.get("description")?.as_str()
    }
}
