//! The form in which objects lie in the store.
//!
//! A stored object is JSON that begins with `{"kind":…,"apiVersion":…,"metadata":{` and has no
//! `metadata.resourceVersion`: that is the record's revision, and it is put in when the object is read. The
//! place for it is found without parsing, because nothing that stands before it can contain its mark.

use std::fmt;

use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};
use tiphys_store::Revision;

const MARK: &[u8] = b"\"metadata\":{";

/// A record that is no stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no metadata where a stored object has it")
    }
}

impl std::error::Error for Damaged {}

/// Encodes an object for the store. A tree that is no object, or has no metadata, gets what is missing.
pub fn encode(object: &Value) -> Bytes {
    let mut bytes = Vec::with_capacity(1024);
    serde_json::to_writer(&mut bytes, &Ordered(object)).expect("writing a tree to memory cannot fail");
    bytes.into()
}

/// The object that a client sees: the stored one with its revision.
///
/// # Errors
/// The bytes were not made by [`encode`].
pub fn render(stored: &[u8], revision: Revision) -> Result<Bytes, Damaged> {
    let at = stored.windows(MARK.len()).position(|w| w == MARK).ok_or(Damaged)? + MARK.len();
    let (head, tail) = stored.split_at(at);
    let comma = if tail.first() == Some(&b'}') { "" } else { "," };
    let version = format!("\"resourceVersion\":\"{revision}\"{comma}");
    // Not a byte more than it takes: the cache holds many of these.
    let mut bytes = Vec::with_capacity(stored.len() + version.len());
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(version.as_bytes());
    bytes.extend_from_slice(tail);
    Ok(bytes.into())
}

/// An object's fields in the order of the stored form.
struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let empty = Map::new();
        let object = self.0.as_object().unwrap_or(&empty);
        let mut map = serializer.serialize_map(None)?;
        for first in ["kind", "apiVersion"] {
            map.serialize_entry(first, object.get(first).and_then(Value::as_str).unwrap_or_default())?;
        }
        let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
        map.serialize_entry("metadata", &Unversioned(metadata))?;
        for (key, value) in object {
            if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

struct Unversioned<'a>(&'a Map<String, Value>);

impl Serialize for Unversioned<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().filter(|(key, _)| *key != "resourceVersion"))
    }
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
