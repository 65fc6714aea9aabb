//! Server-side printing: the columns of `kubectl get` and the cells of a row.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::meta;
use crate::selector::LabelSelector;

pub(crate) mod cluster;
pub(crate) mod machinery;
pub(crate) mod network;
pub(crate) mod pods;
pub(crate) mod storage;
pub(crate) mod workloads;

pub use workloads::SCALE;

/// A column of `meta/v1.Table`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `date`, ...
    pub kind: &'static str,
    /// OpenAPI format; `name` marks the column that holds the object's name.
    pub format: &'static str,
    /// 0 is always shown, 1 only in wide output.
    pub priority: u8,
}

impl Column {
    /// As a `Table` defines it.
    pub fn definition(&self) -> Value {
        let Self { name, kind, format, priority } = self;
        json!({"name": name, "type": kind, "format": format, "description": name, "priority": priority})
    }
    const fn typed(name: &'static str, kind: &'static str) -> Self {
        Self { name, kind, format: "", priority: 0 }
    }
    pub const fn text(name: &'static str) -> Self {
        Self::typed(name, "string")
    }
    const fn number(name: &'static str) -> Self {
        Self::typed(name, "integer")
    }
    const fn flag(name: &'static str) -> Self {
        Self::typed(name, "boolean")
    }
    /// Shown only in wide output.
    #[must_use]
    pub const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// A `Table` in a version of `meta.k8s.io`, of columns and rows that are complete.
pub fn table(meta_version: &str, metadata: &Value, columns: Vec<Value>, rows: Vec<Value>) -> Value {
    json!({"kind": "Table", "apiVersion": meta_version, "metadata": metadata,
           "columnDefinitions": columns, "rows": rows})
}

/// A row of a table with what it is about, if that is to be told.
pub fn row(cells: Vec<Value>, object: Option<Value>) -> Value {
    let mut row = Map::new();
    row.insert("cells".to_owned(), cells.into());
    row.extend(object.map(|object| ("object".to_owned(), object)));
    row.into()
}

/// What rows say of objects that are not shown whole.
pub fn partial(meta_version: &str, metadata: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": meta_version, "metadata": metadata})
}

const NAME: Column = Column { name: "Name", kind: "string", format: "name", priority: 0 };
const AGE: Column = Column::text("Age");
const CONTAINERS: Column = Column::text("Containers").wide();
const IMAGES: Column = Column::text("Images").wide();
const SELECTOR: Column = Column::text("Selector").wide();

/// How a kind's objects become rows.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    pub columns: &'static [Column],
    /// One cell a column, from an object in the storage version and the present time.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
}

/// Name and creation time, for kinds without columns of their own.
pub static PLAIN: Printer = Printer {
    columns: &[NAME, Column::typed("Created At", "date")],
    cells: |o, _| vec![name(o), meta::text(o, &["metadata", "creationTimestamp"]).into()],
};

const NONE: &str = "<none>";
const UNSET: &str = "<unset>";
const UNKNOWN: &str = "<unknown>";

fn name(object: &Value) -> Value {
    meta::name(object).into()
}

fn age(object: &Value, now: Timestamp) -> Value {
    since(meta::text(object, &["metadata", "creationTimestamp"]), now).into()
}

/// Text at a path, or what stands for its absence.
fn text_or<'a>(object: &'a Value, path: &[&str], absent: &'a str) -> &'a str {
    match meta::text(object, path) {
        "" => absent,
        text => text,
    }
}

fn number(object: &Value, path: &[&str]) -> i64 {
    meta::at(object, path).and_then(Value::as_i64).unwrap_or(0)
}

fn flag(object: &Value, path: &[&str]) -> bool {
    meta::at(object, path).and_then(Value::as_bool).unwrap_or(false)
}

/// A number or a text, as `IntOrString` has it.
fn either(value: Option<&Value>, absent: &str) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => absent.to_owned(),
    }
}

fn join_or(parts: &[&str], absent: &str) -> String {
    if parts.is_empty() { absent.to_owned() } else { parts.join(",") }
}

/// The first few of many, and how many more there are.
fn few(parts: &[String], shown: usize, separator: &str, absent: &str) -> String {
    if parts.is_empty() {
        return absent.to_owned();
    }
    let head = parts[..parts.len().min(shown)].join(separator);
    match parts.len().checked_sub(shown) {
        Some(more) if more > 0 => format!("{head} + {more} more..."),
        _ => head,
    }
}

/// `a=b,c=d`
fn labels(map: Option<&Value>) -> String {
    let map: Option<&Map<String, Value>> = map.and_then(Value::as_object);
    let parts = map.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()));
    match parts.collect::<Vec<_>>().join(",") {
        empty if empty.is_empty() => NONE.to_owned(),
        joined => joined,
    }
}

/// A label selector as text.
fn selector(selector: Option<&Value>) -> String {
    let read = LabelSelector::from_value(selector.unwrap_or(&Value::Null));
    match read.map(|s| s.to_string()) {
        Ok(text) if !text.is_empty() => text,
        Ok(_) => NONE.to_owned(),
        Err(_) => "<error>".to_owned(),
    }
}

/// The names and the images of a template's containers.
fn containers(template: &Value) -> (Value, Value) {
    let of = |field: &str| {
        let all = meta::items(template, &["spec", "containers"]).iter();
        all.map(|c| meta::text(c, &[field])).collect::<Vec<_>>().join(",")
    };
    (of("name").into(), of("image").into())
}

/// How long ago a time was.
pub(crate) fn since(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => human_duration(now.as_second() - time.as_second()),
        Err(_) => UNKNOWN.to_owned(),
    }
}

/// A span of seconds with two or three significant figures: `90s`, `3m20s`, `5h1m`, `2d3h`. Clocks may
/// disagree by a second; what lies further in the future is invalid.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |a: i64, unit: char, b: i64, smaller: char| {
        if b == 0 { format!("{a}{unit}") } else { format!("{a}{unit}{b}{smaller}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, 'd', hours % 24, 'h'),
        _ if days < 2 * 365 => format!("{days}d"),
        _ if days < 8 * 365 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
