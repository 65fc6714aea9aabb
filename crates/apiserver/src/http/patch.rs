//! PATCH: four ways of saying what shall change.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use tiphys_api::codec::yaml;
use tiphys_api::field::{Error, Path};
use tiphys_api::kind::Kind;
use tiphys_api::patch::{json, merge, strategic};
use tiphys_api::schema::TypeRef;
use tiphys_api::status::Status;

use super::dialect;
use super::negotiate;

/// What a patch says.
pub(super) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    /// A configuration that server-side apply merges, and the keys that stand in it more than once.
    Apply(Value, Vec<String>),
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
        let parse = || -> Result<Value, Status> {
            serde_json::from_slice(body)
                .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))
        };
        match negotiate::content_type(headers) {
            JSON => parse().map(Self::Json),
            MERGE => parse().map(Self::Merge),
            STRATEGIC if kind.custom.is_none() => parse().map(Self::Strategic),
            APPLY => {
                let json = dialect::yaml_to_json(body)?;
                let config = serde_json::from_slice(&json)
                    .map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?;
                Ok(Self::Apply(config, yaml::repeated(body, &json)))
            }
            APPLY_CBOR => dialect::cbor_to_value(body).map(|config| Self::Apply(config, Vec::new())),
            _ if kind.custom.is_some() => Err(negotiate::unsupported(&[JSON, MERGE, APPLY, APPLY_CBOR])),
            _ => Err(negotiate::unsupported(&[JSON, MERGE, APPLY, APPLY_CBOR, STRATEGIC])),
        }
    }

    /// Why what the patch makes of an object cannot be read as one.
    pub(super) fn misfit(&self, object: &Value, ty: TypeRef<'_>, why: &Status) -> Status {
        // Where lists merge, it is the patch that does not fit.
        let shown = match self {
            Self::Strategic(patch) => patch.to_string(),
            _ => self.of(object, ty).unwrap_or_default().to_string(),
        };
        Status::invalid("", "", "", &[Error::invalid(&Path::new("patch"), shown, &why.message)])
    }

    /// What the patch makes of an object; an apply is more than that, and none of this.
    ///
    /// # Errors
    /// The patch makes no sense, or does not fit the object.
    pub(super) fn of(&self, object: &Value, ty: TypeRef<'_>) -> Result<Value, Status> {
        Ok(match self {
            Self::Json(patch) => json::patch(object, patch)?,
            Self::Merge(patch) => merge::patch(object, patch)?,
            Self::Strategic(patch) | Self::Apply(patch, _) => strategic::patch(object, patch, ty)?,
        })
    }
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
