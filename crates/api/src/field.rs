//! Errors about single fields, worded as `apimachinery/pkg/util/validation/field` words them.

use std::fmt;

use serde_json::Value;

/// Where a field stands: `spec.containers[0].env[name]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    pub fn root() -> Self {
        Self::default()
    }
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
    /// An entry of a map: `metadata.labels[key]`.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("<nil>") } else { f.write_str(&self.0) }
    }
}

/// The reasons that `status.details.causes` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    /// As `Invalid`, without the value.
    InvalidWhole,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TypeInvalid,
    Internal,
}

impl Cause {
    /// The cause's `reason` on the wire.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid | Self::InvalidWhole => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::InvalidWhole | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub path: Path,
    pub cause: Cause,
    /// The offending value; not shown for causes that speak of no value.
    pub value: Value,
    pub detail: String,
}

/// Every field error of an object.
pub type Errors = Vec<Error>;

impl Error {
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self { path: path.clone(), cause: Cause::Required, value: Value::Null, detail: detail.into() }
    }
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self { path: path.clone(), cause: Cause::Invalid, value: value.into(), detail: detail.into() }
    }
    /// What is wrong with a value that is too large to be shown.
    pub fn invalid_whole(path: &Path, detail: impl Into<String>) -> Self {
        Self { path: path.clone(), cause: Cause::InvalidWhole, value: Value::Null, detail: detail.into() }
    }
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self { path: path.clone(), cause: Cause::Duplicate, value: value.into(), detail: String::new() }
    }
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self { path: path.clone(), cause: Cause::NotFound, value: value.into(), detail: String::new() }
    }
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self { path: path.clone(), cause: Cause::Forbidden, value: Value::Null, detail: detail.into() }
    }
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let words: Vec<_> = supported.iter().map(|s| quoted(s)).collect();
        let detail =
            if words.is_empty() { String::new() } else { format!("supported values: {}", words.join(", ")) };
        Self { path: path.clone(), cause: Cause::NotSupported, value: value.into(), detail }
    }
    pub fn too_long(path: &Path, max_bytes: usize) -> Self {
        Self {
            path: path.clone(),
            cause: Cause::TooLong,
            value: Value::Null,
            detail: format!("may not be more than {max_bytes} bytes"),
        }
    }

    pub fn too_many(path: &Path, found: usize, max: usize) -> Self {
        Self {
            path: path.clone(),
            cause: Cause::TooMany,
            value: found.into(),
            detail: format!("must have at most {max} items"),
        }
    }

    /// The message without the path, as `causes[].message` carries it.
    pub fn body(&self) -> String {
        let shown = match self.cause {
            Cause::Required | Cause::InvalidWhole | Cause::Forbidden | Cause::TooLong | Cause::Internal => {
                None
            }
            _ => Some(match &self.value {
                Value::String(s) => quoted(s),
                other => other.to_string(),
            }),
        };
        let mut text = self.cause.words().to_owned();
        if let Some(value) = shown {
            text.push_str(": ");
            text.push_str(&value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// A text in quotes, with escapes as Go's `%q` writes them.
pub fn quoted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => shown.extend(['\\', c]),
            '\u{7}' => shown.push_str("\\a"),
            '\u{8}' => shown.push_str("\\b"),
            '\t' => shown.push_str("\\t"),
            '\n' => shown.push_str("\\n"),
            '\u{b}' => shown.push_str("\\v"),
            '\u{c}' => shown.push_str("\\f"),
            '\r' => shown.push_str("\\r"),
            ..' ' | '\u{7f}' => shown.push_str(&format!("\\x{:02x}", u32::from(c))),
            '\u{80}'..='\u{a0}' | '\u{ad}' => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => shown.push(c),
        }
    }
    shown.push('"');
    shown
}

#[cfg(test)]
#[path = "field_tests.rs"]
mod tests;
