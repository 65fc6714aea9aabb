//! Between what a client says in its own version and what is stored.

use bytes::Bytes;
use serde_json::Value;
use tiphys_api::kind::{Kind, api_version};
use tiphys_api::status::{Reason, Status};

use super::negotiate::Encoding;

/// A body as JSON.
pub(crate) fn to_json(body: Bytes, encoding: Encoding) -> Result<Bytes, Status> {
    match encoding {
        Encoding::Json => Ok(body),
        Encoding::Yaml | Encoding::Protobuf => Err(Status::new(
            Reason::UnsupportedMediaType,
            format!("bodies in {} are not read yet", encoding.media_type()),
        )),
    }
}

/// The object in the storage version.
pub(crate) fn to_storage(kind: &Kind, version: &str, mut object: Value) -> Result<Value, Status> {
    (kind.hooks.default)(version, &mut object);
    if let Some(storage) = &kind.storage {
        object["apiVersion"] = storage.api_version().into();
    }
    Ok(object)
}

/// A stored object in the version that a client speaks.
pub(crate) fn from_storage(kind: &Kind, version: &str, mut object: Value) -> Result<Value, Status> {
    object["apiVersion"] = api_version(&kind.group, version).into();
    Ok(object)
}
