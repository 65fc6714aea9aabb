//! `AdmissionReview`: what a webhook is asked, and what it answers.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tiphys_api::status::{Details, StatusCause};

use super::Reviews;
use crate::admission::matching::Matched;
use crate::admission::{Attributes, request};

impl Reviews {
    fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The body of a review of the object and of what it was, as the webhook wants to see them.
pub(super) fn request(
    reviews: Reviews,
    uid: &str,
    attributes: &Attributes<'_>,
    matched: &Matched,
    [object, old]: [&Value; 2],
) -> Bytes {
    let mut request = request::describe(attributes, matched);
    request["uid"] = uid.into();
    request["object"] = object.clone();
    request["oldObject"] = old.clone();
    let review = json!({"kind": "AdmissionReview", "apiVersion": reviews.api_version(), "request": request});
    Bytes::from(review.to_string())
}

/// What a webhook has answered.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) rejected: Option<Rejected>,
    /// A JSON patch that is still to be checked.
    pub(super) patch: Option<Value>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
}

/// The status of a refusal.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rejected {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) details: Option<Details>,
}

/// Why an answer is none.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Error {
    #[error("webhook response was absent")]
    Absent,
    #[error("expected response.uid={expected:?}, got {got:?}")]
    Uid { expected: String, got: String },
    #[error("expected webhook response of {expected}, got {got}")]
    Kind { expected: String, got: String },
    #[error("webhook returned response.patch but not response.patchType")]
    NoPatchType,
    #[error("webhook returned response.patchType but not response.patch")]
    NoPatch,
    #[error("unsupported patch type {0:?}")]
    PatchType(String),
    #[error("validating webhook may not return response.patch")]
    ValidatingPatch,
    #[error("validating webhook may not return response.patchType")]
    ValidatingPatchType,
    #[error("received undecodable patch in webhook response: {0}")]
    Patch(String),
}

fn text(from: &Value, field: &str) -> String {
    from[field].as_str().unwrap_or_default().to_owned()
}

/// Reads an answer. In v1beta1 neither the uid nor the kind nor the patch's type was ever checked.
pub(super) fn answer(
    reviews: Reviews,
    uid: &str,
    mutating: bool,
    mut review: Value,
) -> Result<Answer, Error> {
    let (version, kind) = (text(&review, "apiVersion"), text(&review, "kind"));
    let mut response = match review.get_mut("response").map(Value::take) {
        Some(Value::Object(response)) => Value::Object(response),
        _ => return Err(Error::Absent),
    };
    if reviews == Reviews::V1 {
        let got = text(&response, "uid");
        if got != uid {
            return Err(Error::Uid { expected: uid.to_owned(), got });
        }
        if version != reviews.api_version() || kind != "AdmissionReview" {
            let named = |version: &str, kind: &str| format!("{version}, Kind={kind}");
            let expected = named(reviews.api_version(), "AdmissionReview");
            return Err(Error::Kind { expected, got: named(&version, &kind) });
        }
    }
    let strings = |field: &str| -> Vec<(String, String)> {
        let map = response[field].as_object().into_iter().flatten();
        map.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    let warnings = response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(Answer {
        annotations: strings("auditAnnotations").into_iter().collect(),
        warnings: warnings.map(str::to_owned).collect(),
        rejected: (response["allowed"] != true).then(|| rejected(&response["status"])),
        patch: patch(reviews, mutating, &mut response)?,
    })
}

fn patch(reviews: Reviews, mutating: bool, response: &mut Value) -> Result<Option<Value>, Error> {
    let encoded = response["patch"].as_str().filter(|patch| !patch.is_empty());
    let ty = response["patchType"].as_str();
    match (reviews, mutating) {
        (Reviews::V1, true) => match (encoded, ty) {
            (Some(_), None) => return Err(Error::NoPatchType),
            (None, Some(_)) => return Err(Error::NoPatch),
            (Some(_), Some(ty)) if ty != "JSONPatch" => return Err(Error::PatchType(ty.to_owned())),
            _ => {}
        },
        (Reviews::V1, false) if encoded.is_some() => return Err(Error::ValidatingPatch),
        (Reviews::V1, false) if ty.is_some() => return Err(Error::ValidatingPatchType),
        (_, false) => return Ok(None),
        (Reviews::V1Beta1, true) => {}
    }
    let Some(encoded) = encoded else { return Ok(None) };
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|e| Error::Patch(e.to_string()))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::Patch(e.to_string()))
}

fn rejected(status: &Value) -> Rejected {
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    let details = status["details"].as_object().map(details);
    Rejected { code, reason: text(status, "reason"), message: text(status, "message"), details }
}

fn details(from: &Map<String, Value>) -> Details {
    let from = Value::Object(from.clone());
    let causes = from["causes"].as_array().into_iter().flatten();
    Details {
        name: text(&from, "name"),
        group: text(&from, "group"),
        kind: text(&from, "kind"),
        uid: text(&from, "uid"),
        causes: causes
            .map(|cause| StatusCause {
                reason: text(cause, "reason"),
                message: text(cause, "message"),
                field: text(cause, "field"),
            })
            .collect(),
        retry_after_seconds: from["retryAfterSeconds"].as_u64().and_then(|s| s.try_into().ok()).unwrap_or(0),
    }
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
