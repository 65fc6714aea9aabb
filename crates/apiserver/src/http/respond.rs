//! Responses: headers, errors, compression.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;
use serde_json::Value;
use tiphys_api::status::Status;

use super::body::Body;
use super::negotiate::{self, Encoding, Offer};

/// Answers smaller than this are not worth compressing.
const MIN_GZIP: usize = 128 << 10;

/// A response with a body in `content_type`.
pub(super) fn response(code: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A response whose whole body is there, compressed if it is long and the client takes that.
pub(super) fn whole(
    code: StatusCode,
    content_type: &'static str,
    body: Bytes,
    request: &HeaderMap,
) -> Response<Body> {
    if body.len() >= MIN_GZIP && negotiate::accepts_gzip(request) {
        let mut gzip = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
        if let Ok(packed) = gzip.write_all(&body).and_then(|()| gzip.finish()) {
            let mut response = response(code, content_type, Body::Full(packed.into()));
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            return response;
        }
    }
    response(code, content_type, Body::Full(body))
}

/// Plain text, as the health endpoints speak.
pub(super) fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = response(code, "text/plain; charset=utf-8", Body::Full(text.into()));
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

/// An error as a client can read it: in the encoding that its `Accept` header names, else as JSON.
pub(super) fn error(status: &Status, accept: Option<HeaderValue>) -> Response<Body> {
    let accept: HeaderMap = accept.into_iter().map(|value| (header::ACCEPT, value)).collect();
    let offer = Offer { stream: false, shapes: true, protobuf: true };
    let encoding = negotiate::accept(&accept, Some(false), offer).map_or(Encoding::Json, |a| a.encoding);
    let value = status.to_value();
    let (encoding, bytes) = match super::encode::value(&value, encoding, false) {
        Ok(bytes) => (encoding, bytes),
        Err(_) => (Encoding::Json, Bytes::from(value.to_string())),
    };
    let code = StatusCode::from_u16(status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = response(code, encoding.media_type(), Body::Full(bytes));
    if let Some(seconds) = status.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Leaves of an answer what a HEAD is answered (RFC 9110, 9.3.2): HTTP/1.1 would drop the body by itself, HTTP/2 sends it.
pub(super) fn without_body(response: &mut Response<Body>) {
    let body = std::mem::replace(response.body_mut(), Body::empty());
    if let Some(length) = body.size_hint().exact() {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(length.into());
    }
}

/// Adds what the client is warned of.
pub(super) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        if let Ok(value) = HeaderValue::from_str(&warning_header(warning)) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// `299 - "text"`, the text quoted; what a header cannot carry is left out.
fn warning_header(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 10);
    quoted.push_str("299 - \"");
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// A value as JSON, for answers that exist in no other encoding.
pub(super) fn json(code: StatusCode, value: &Value) -> Response<Body> {
    response(code, Encoding::Json.media_type(), Body::Full(value.to_string().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted() {
        assert_eq!(warning_header("use \"b\"\n\\"), r#"299 - "use \"b\"\\""#);
    }

    #[test]
    fn only_long_answers_are_packed() {
        let gzip =
            HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("deflate, gzip"))]);
        let packed = |length, headers: &HeaderMap| {
            let body = Bytes::from(vec![b'x'; length]);
            whole(StatusCode::OK, "text/plain", body, headers)
                .headers()
                .contains_key(header::CONTENT_ENCODING)
        };
        assert!(packed(MIN_GZIP, &gzip));
        assert!(!packed(MIN_GZIP - 1, &gzip));
        assert!(!packed(MIN_GZIP, &HeaderMap::new()));
    }
}
