//! Server-side printing: the columns of `kubectl get` and the cells of a row.

use jiff::Timestamp;
use serde_json::Value;

use crate::meta;

/// A column of `meta/v1.Table`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `date`, ...
    pub kind: &'static str,
    /// OpenAPI format; `name` marks the column that `-o name` prints.
    pub format: &'static str,
    /// 0 is always shown, 1 only in wide output.
    pub priority: u8,
}

/// How a kind's objects become rows.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    pub columns: &'static [Column],
    /// One cell a column, from an object in the storage version and the present time.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
}

/// Name and creation time, for kinds without columns of their own.
pub static PLAIN: Printer = Printer {
    columns: &[
        Column { name: "Name", kind: "string", format: "name", priority: 0 },
        Column { name: "Created At", kind: "date", format: "", priority: 0 },
    ],
    cells: |object, _| {
        vec![meta::name(object).into(), meta::text(object, &["metadata", "creationTimestamp"]).into()]
    },
};
