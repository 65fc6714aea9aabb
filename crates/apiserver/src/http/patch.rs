//! PATCH: four ways of saying what shall change.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use tiphys_api::codec::yaml;
use tiphys_api::decode::{self, Decoded, FieldValidation, Target};
use tiphys_api::field::{Error, Path};
use tiphys_api::kind::Kind;
use tiphys_api::patch::{json, merge, strategic};
use tiphys_api::schema::TypeRef;
use tiphys_api::status::Status;

use super::dialect;
use super::negotiate;

/// What a patch says, and how that is to be taken.
pub(super) struct Patch {
    pub(super) how: How,
    pub(super) says: Value,
    /// The keys that stand in it more than once.
    pub(super) repeated: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Json,
    Merge,
    Strategic,
    /// As a configuration that server-side apply merges.
    Apply,
}

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const APPLY_CBOR: &str = "application/apply-patch+cbor";

/// Whether the body is a configuration to apply.
pub(super) fn is_apply(headers: &HeaderMap) -> bool {
    matches!(negotiate::content_type(headers), APPLY | APPLY_CBOR)
}

impl Patch {
    /// Reads a patch by the media type of its body.
    ///
    /// # Errors
    /// 415 for another media type, 400 for what cannot be read. The structure of a custom kind does not tell how
    /// its lists merge strategically, so that is another media type for it.
    pub(super) fn read(headers: &HeaderMap, body: &Bytes, kind: &Kind) -> Result<Self, Status> {
        let json = |how, repeated: fn(&[u8]) -> Vec<String>| {
            let says = serde_json::from_slice(body)
                .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
            Ok(Self { how, says, repeated: repeated(body) })
        };
        match negotiate::content_type(headers) {
            JSON => json(How::Json, decode::repeated_in_operations),
            MERGE => json(How::Merge, decode::repeated),
            STRATEGIC if kind.custom.is_none() => json(How::Strategic, decode::repeated),
            APPLY => {
                let json = dialect::yaml_to_json(body)?;
                let says = serde_json::from_slice(&json)
                    .map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?;
                Ok(Self { how: How::Apply, says, repeated: yaml::repeated(body, &json) })
            }
            APPLY_CBOR => {
                let says = dialect::cbor_to_value(body)?;
                Ok(Self { how: How::Apply, says, repeated: Vec::new() })
            }
            _ if kind.custom.is_some() => Err(negotiate::unsupported(&[JSON, MERGE, APPLY, APPLY_CBOR])),
            _ => Err(negotiate::unsupported(&[JSON, MERGE, APPLY, APPLY_CBOR, STRATEGIC])),
        }
    }

    /// What the patch makes of an object; an apply is more than that, and none of this.
    ///
    /// # Errors
    /// The patch makes no sense, does not fit the object, or makes nothing of its type of it.
    pub(super) fn of(
        &self,
        object: &Value,
        target: &Target<'_>,
        validation: FieldValidation,
    ) -> Result<Decoded, Status> {
        let patched = self.made(object, target.ty)?;
        decode::decode_patched(target, patched, self.repeated.clone(), validation).map_err(|why| {
            let shown = match self.how {
                // Where lists merge, it is the patch that does not fit.
                How::Strategic => in_go(&self.says),
                _ => self.made(object, target.ty).unwrap_or_default().to_string(),
            };
            Status::invalid("", "", "", &[Error::invalid(&Path::new("patch"), shown, why)])
        })
    }

    fn made(&self, object: &Value, ty: TypeRef<'_>) -> Result<Value, Status> {
        Ok(match self.how {
            How::Json => json::patch(object, &self.says)?,
            How::Merge => merge::patch(object, &self.says)?,
            How::Strategic | How::Apply => strategic::patch(object, &self.says, ty)?,
        })
    }
}

/// A value as Go prints it (`%+v`), which is how upstream shows strategic patches.
fn in_go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(in_go).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            let entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{key}:{}", in_go(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
    }
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
