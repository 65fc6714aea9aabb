//! Who asks for a pod's certificate proves that it holds the key (KEP-4317): by a request that is signed with it, or, in
//! the older version, by a signature of the pod's UID.

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use tiphys_api::field::{Error, Path};
use tiphys_api::{meta, status::Status};
use tiphys_pki::{NotHeld, proves_its_key, proves_possession};

use super::{Attributes, Operation, Plugin};

/// Verifies the proofs of `PodCertificateRequest`s.
pub struct PossessionOfKeys;

#[async_trait]
impl Plugin for PossessionOfKeys {
    fn name(&self) -> &'static str {
        "PossessionOfKeys"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.is(Operation::Create, "certificates.k8s.io", "podcertificaterequests")
    }

    async fn validate(&self, request: &Attributes<'_>, object: &Value, _: &Value) -> Result<(), Status> {
        check(object, request.version).map_err(|error| {
            Status::invalid(request.group, "PodCertificateRequest", meta::name(object), &[error])
        })
    }
}

fn check(object: &Value, version: &str) -> Result<(), Error> {
    let text = |field| meta::text(object, &["spec", field]);
    // What is not base64 has been refused before.
    let bytes = |field| STANDARD.decode(text(field)).unwrap_or_default();
    let path = |field| Path::new("spec").child(field);
    let (stub, key, proof) = ("stubPKCS10Request", "pkixPublicKey", "proofOfPossession");
    if text(stub).is_empty() && version == "v1" {
        return Err(Error::required(&path(stub), ""));
    }
    let named = if text(stub).is_empty() { key } else { stub };
    let held = if named == stub {
        if let Some(field) = [key, proof].into_iter().find(|field| !text(field).is_empty()) {
            return Err(Error::invalid_whole(&path(field), "must be empty if spec.stubPKCS10Request is set"));
        }
        proves_its_key(&bytes(stub))
    } else {
        proves_possession(&bytes(key), text("podUID").as_bytes(), &bytes(proof))
    };
    held.map_err(|why| {
        let path = match why {
            NotHeld::Signature if named == key => path(proof),
            _ => path(named),
        };
        let detail = why.to_string();
        match why {
            NotHeld::NoKey | NotHeld::NoRequest => Error::invalid(&path, text(named), detail),
            NotHeld::Curve { name } => Error::invalid(&path, format!("curve {name}"), detail),
            NotHeld::Modulus { bits } => Error::invalid(&path, format!("{bits}-bit modulus"), detail),
            NotHeld::UnknownKey | NotHeld::Signature => Error::invalid_whole(&path, detail),
        }
    })
}

#[cfg(test)]
#[path = "possession_tests.rs"]
mod tests;
