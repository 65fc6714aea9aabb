//! Webhooks that convert custom objects between versions (`ConversionReview` v1 and v1beta1).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tiphys_api::custom::{Converter, Converting};
use tiphys_api::field::{Errors, Path};
use tiphys_api::meta;
use uuid::Uuid;

use crate::admission::webhooks::hook;
use crate::outgoing::{Endpoint, Outgoing, Spec};

/// A conversion takes no longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One definition's webhook.
pub(super) struct Webhook {
    spec: Result<Spec, String>,
    /// `v1` or `v1beta1`: the first of those that the webhook reads.
    review: Option<&'static str>,
    outgoing: Arc<OnceLock<Arc<Outgoing>>>,
    /// Kept, so that what is known of the endpoint is not forgotten.
    endpoint: OnceLock<Arc<Endpoint>>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("spec", &self.spec)
            .field("review", &self.review)
            .finish_non_exhaustive()
    }
}

impl Webhook {
    /// `webhook` is `spec.conversion.webhook`.
    pub(super) fn new(webhook: &Value, outgoing: Arc<OnceLock<Arc<Outgoing>>>) -> Self {
        let reads = meta::items(webhook, &["conversionReviewVersions"]).iter().filter_map(Value::as_str);
        let review = reads.filter_map(|v| ["v1", "v1beta1"].into_iter().find(|known| v == *known)).next();
        let spec = hook::spec(&webhook["clientConfig"]);
        Self { spec, review, outgoing, endpoint: OnceLock::new() }
    }

    fn endpoint(&self) -> Result<&Arc<Endpoint>, String> {
        if let Some(endpoint) = self.endpoint.get() {
            return Ok(endpoint);
        }
        let spec = self.spec.as_ref().map_err(Clone::clone)?;
        let outgoing = self.outgoing.get().ok_or("the server is starting")?;
        let endpoint = outgoing.endpoint(spec).map_err(|e| e.to_string())?;
        Ok(self.endpoint.get_or_init(|| endpoint))
    }

    async fn converted(&self, objects: Vec<Value>, wanted: &str) -> Result<Vec<Value>, String> {
        let other = |object: &Value| object["apiVersion"] != wanted;
        let asked: Vec<&Value> = objects.iter().filter(|o| other(o)).collect();
        if asked.is_empty() {
            return Ok(objects);
        }
        let review = self.review.ok_or("no supported conversion review versions")?;
        let uid = Uuid::new_v4().to_string();
        let request = json!({
            "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{review}"),
            "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": asked},
        });
        let count = asked.len();
        let body = Bytes::from(request.to_string());
        let answer = self.endpoint()?.ask("timeout=30s", body, PATIENCE).await.map_err(|e| e.to_string())?;
        let mut answers = answered(answer, review, &uid, count)?.into_iter();
        let mut all = Vec::with_capacity(objects.len());
        for (at, object) in objects.into_iter().enumerate() {
            if object["apiVersion"] == wanted {
                all.push(object);
                continue;
            }
            let converted = answers.next().unwrap_or_default();
            let invalid = |why: String| format!("returned invalid converted object at index {at}: {why}");
            all.push(restored(&object, converted, wanted).map_err(invalid)?);
        }
        Ok(all)
    }
}

impl Converter for Webhook {
    fn convert<'a>(&'a self, objects: Vec<Value>, api_version: &'a str) -> Converting<'a> {
        Box::pin(self.converted(objects, api_version))
    }
}

/// The objects of an answer.
fn answered(mut review: Value, version: &str, uid: &str, count: usize) -> Result<Vec<Value>, String> {
    if version == "v1" {
        let (api, kind) = (review["apiVersion"].as_str(), review["kind"].as_str());
        if (api, kind) != (Some("apiextensions.k8s.io/v1"), Some("ConversionReview")) {
            return Err(format!(
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {}, Kind={}",
                api.unwrap_or_default(),
                kind.unwrap_or_default()
            ));
        }
    }
    let response = &mut review["response"];
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    if version == "v1" && response["uid"] != uid {
        return Err(format!("expected response.uid={uid:?}, got {}", response["uid"]));
    }
    let result = &response["result"];
    if result["status"] != "Success" {
        return Err(match result["message"].as_str() {
            Some(message) if !message.is_empty() => message.to_owned(),
            _ => {
                let status = result["status"].as_str().unwrap_or_default();
                format!("response.result.status was '{status}', not 'Success'")
            }
        });
    }
    let Value::Array(objects) = response["convertedObjects"].take() else { return missing(0, count) };
    if objects.len() == count { Ok(objects) } else { missing(objects.len(), count) }
}

fn missing<T>(found: usize, count: usize) -> Result<T, String> {
    Err(format!("returned {found} objects, expected {count}"))
}

/// A converted object with the metadata of the original; only labels and annotations are the webhook's.
fn restored(original: &Value, mut converted: Value, wanted: &str) -> Result<Value, String> {
    if converted["apiVersion"] != wanted {
        let got = &converted["apiVersion"];
        return Err(format!("invalid groupVersion (expected {wanted}, received {got})"));
    }
    for (what, at) in [
        ("kind", "/kind"),
        ("name", "/metadata/name"),
        ("namespace", "/metadata/namespace"),
        ("UID", "/metadata/uid"),
    ] {
        let of = |object: &Value| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (wanted, found) = (of(original), of(&converted));
        if wanted != found {
            return Err(format!("must have the same {what}: {wanted} != {found}"));
        }
    }
    if !converted["metadata"].is_object() {
        return Err("missing metadata in converted object".to_owned());
    }
    let said = converted["metadata"].take();
    converted["metadata"] = original["metadata"].clone();
    for field in ["labels", "annotations"] {
        let value = said.get(field).filter(|v| !v.is_null());
        let Some(value) = value else {
            meta::set(&mut converted, field, None);
            continue;
        };
        let texts = value.as_object().is_some_and(|map| map.values().all(Value::is_string));
        if !texts {
            return Err(format!("metadata.{field} must be a map of strings"));
        }
        if Some(value) != original["metadata"].get(field) {
            let mut errors = Errors::new();
            let path = Path::new("metadata").child(field);
            match field {
                "labels" => meta::validate_labels(value, &path, &mut errors),
                _ => meta::validate_annotations(value, &path, &mut errors),
            }
            if let Some(error) = errors.first() {
                return Err(error.to_string());
            }
        }
        meta::set(&mut converted, field, Some(value.clone()));
    }
    Ok(converted)
}

#[cfg(test)]
#[path = "conversion_tests.rs"]
mod tests;
