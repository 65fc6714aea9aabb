//! Kubernetes' protobuf encoding, which Go clients speak for built-in kinds.
//!
//! A body is the magic `k8s\0` and an envelope, `runtime.Unknown`, that names version and kind and holds the
//! object's message. Bytes become JSON trees and back by a table of field numbers; nothing is generated.
//!
//! A decoded tree is what the same object would be in JSON from a Go client. Scalars that are no pointers in
//! Go are always on the wire, so it still holds `""`, `0` and `false` where the API leaves those out: like
//! any other input it goes through [`crate::decode`], which knows which.

mod decode;
mod encode;
mod table;

use serde_json::Value;

use self::table::{MessageRef, Table};
use crate::status::{Reason, Status};

/// What every body begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";
/// How deep messages may be nested in each other.
pub const MAX_DEPTH: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the body is no protobuf of Kubernetes: it does not begin with 6b 38 73 00")]
    Magic,
    /// The kind has no field numbers: it cannot be spoken in protobuf.
    #[error("object kind {kind} of {api_version} has no protobuf encoding")]
    NoTable { api_version: String, kind: String },
    #[error("proto: {0}: the data ends too early")]
    Truncated(&'static str),
    #[error("proto: wrong wire type {wire} for field {field} of {message}")]
    WireType { message: &'static str, field: &'static str, wire: u8 },
    /// The client set a field that this server has no name for, and would lose.
    #[error("proto: {message} has no field {number} here")]
    UnknownField { message: &'static str, number: u64 },
    #[error("proto: field {field} of {message}: {problem}")]
    Value { message: &'static str, field: &'static str, problem: String },
    #[error("proto: messages are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("the envelope holds {0:?}, which is not protobuf")]
    Content(String),
    /// A tree does not fit its message; the server's own objects always do.
    #[error("field {field} of {message} cannot hold {value}")]
    Tree { message: &'static str, field: &'static str, value: String },
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::NoTable { .. } => Self::new(Reason::UnsupportedMediaType, error.to_string()),
            Error::Tree { .. } => Self::new(Reason::InternalError, error.to_string()),
            _ => Self::bad_request(error.to_string()),
        }
    }
}

/// Whether objects of this version and kind can be spoken in protobuf.
pub fn knows(api_version: &str, kind: &str) -> bool {
    Table::builtin().find(api_version, kind).is_some()
}

/// Reads a body. The tree has `apiVersion` and `kind` where the envelope names them; otherwise it is read as
/// `default`, the version and kind that the endpoint expects.
///
/// # Errors
/// 400 for a body that is no such message, or that sets fields which are unknown here; 415 for a kind without field numbers.
pub fn decode(body: &[u8], default: (&str, &str)) -> Result<Value, Error> {
    decode::envelope(body, Some(default), 0)
}

/// Writes an object that names its `apiVersion` and `kind`, a list's items among them, as a body.
///
/// # Errors
/// [`Error::NoTable`] for kinds that only JSON can carry.
pub fn encode(object: &Value) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(1024);
    encode::envelope(object, &mut out)?;
    Ok(out)
}

/// One frame of a watch: its length in four bytes, big end first, and a bare `WatchEvent`.
///
/// # Errors
/// As [`encode`].
pub fn encode_watch_event(event: &str, object: &Value) -> Result<Vec<u8>, Error> {
    let mut out = vec![0; 4];
    encode::watch_event(event, object, &mut out)?;
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

#[cfg(test)]
#[path = "../protobuf_tests.rs"]
mod tests;
