//! `additionalPrinterColumns`: what `kubectl get` shows of custom objects.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::jsonpath::JsonPath;
use crate::{meta, table};

/// The columns of one version.
#[derive(Clone, Debug)]
pub(super) struct Columns(Vec<Column>);

#[derive(Clone, Debug)]
struct Column {
    definition: Value,
    ty: String,
    /// `None` for a path that can't be read: its cells are empty.
    path: Option<JsonPath>,
}

impl Columns {
    /// Reads the columns of a version; without any there is the age.
    pub(super) fn read(columns: &Value) -> Self {
        let columns = columns.as_array().map(Vec::as_slice).unwrap_or_default();
        let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "When the object was made; servers decide it."});
        let columns = if columns.is_empty() { std::slice::from_ref(&age) } else { columns };
        Self(columns.iter().map(Column::read).collect())
    }

    pub(super) fn definitions(&self) -> Vec<Value> {
        let name =
            json!({"name": "Name", "type": "string", "format": "name", "description": "Name", "priority": 0});
        std::iter::once(name).chain(self.0.iter().map(|c| c.definition.clone())).collect()
    }

    pub(super) fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let name = meta::name(object).into();
        std::iter::once(name).chain(self.0.iter().map(|c| c.cell(object, now))).collect()
    }
}

impl Column {
    fn read(column: &Value) -> Self {
        let text = |key: &str| column[key].as_str().unwrap_or_default();
        let path = text("jsonPath");
        let described = match text("description") {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            text => text.to_owned(),
        };
        Self {
            definition: json!({
                "name": text("name"), "type": text("type"), "format": text("format"),
                "description": described, "priority": column["priority"].as_i64().unwrap_or(0),
            }),
            ty: text("type").to_owned(),
            path: JsonPath::parse(path).ok(),
        }
    }

    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self.path.as_ref().map(|path| path.find(object)).unwrap_or_default();
        let Some(value) = found.first() else { return Value::Null };
        match (self.ty.as_str(), value) {
            (_, Value::Null) => Value::Null,
            ("string", Value::String(_)) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => {
                (*value).clone()
            }
            ("string", other) => other.to_string().into(),
            ("integer", Value::Number(n)) => match (n.as_i64(), n.as_f64()) {
                (Some(n), _) => n.into(),
                #[expect(clippy::cast_possible_truncation, reason = "cut off, as clients expect")]
                (None, Some(n)) => (n as i64).into(),
                _ => Value::Null,
            },
            ("date", Value::String(time)) => match time.parse::<Timestamp>() {
                Ok(_) => table::since(time, now).into(),
                Err(_) => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}
