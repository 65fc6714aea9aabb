//! What is compared of an answer.

use anyhow::{Context, Result};
use http::{Response, header::HeaderName};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tiphys_api::codec::protobuf;

/// Headers that mean something to clients.
const HEADERS: [HeaderName; 7] = [
    http::header::CONTENT_TYPE,
    http::header::ALLOW,
    http::header::WARNING,
    http::header::LOCATION,
    http::header::RETRY_AFTER,
    http::header::CACHE_CONTROL,
    HeaderName::from_static("x-content-type-options"),
];

/// What Kubernetes' protobuf begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Reads an answer to its end, as `{code, headers, body}`; a body that is a sequence of JSON values is an array of them,
/// one in protobuf is decoded, and what is neither is a text.
pub(crate) async fn read(answer: Response<Body>) -> Result<Value> {
    let code = answer.status().as_u16();
    let headers: serde_json::Map<String, Value> = HEADERS
        .iter()
        .filter_map(|name| {
            let values = answer.headers().get_all(name).iter();
            let values: Vec<_> =
                values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
            (!values.is_empty()).then(|| (name.to_string(), values.join(", ").into()))
        })
        .collect();
    let body = answer.into_body().collect().await.context("reading the answer")?.to_bytes();
    Ok(json!({"code": code, "headers": headers, "body": parse(&body)}))
}

fn parse(body: &[u8]) -> Value {
    if body.starts_with(MAGIC) {
        return protobuf::decode(body, ("v1", "Status"))
            .unwrap_or_else(|why| format!("protobuf that nobody can read: {why}").into());
    }
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(body).into_iter().collect();
    match values {
        Ok(mut values) if values.len() == 1 => values.remove(0),
        Ok(values) => values.into(),
        Err(_) => String::from_utf8_lossy(body).into(),
    }
}
