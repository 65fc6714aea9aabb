//! What is kept about a request while it is answered, and told when its answer has gone out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response};
use http_body::Body as _;
use tiphys_api::kind::Kinds;
use uuid::Uuid;

use super::body::{Body, BoxError};
use super::flow::Class;
use super::query::Query;
use super::request_info::{ResourceRequest, Target, Verb};
use super::{health, resource};
use crate::metrics::{Counted, Metrics, Requests, Route};

/// A request from its head to the last byte of its answer.
pub(super) struct Record {
    audit_id: HeaderValue,
    begun: Instant,
    metrics: Arc<Metrics>,
    /// The counters of its route, once that is known.
    requests: Option<Arc<Requests>>,
    /// How long it waited for its turn.
    pub(super) waited: Duration,
    /// Counts it among those under way.
    under_way: Option<Counted>,
}

impl Record {
    pub(super) fn new(metrics: &Arc<Metrics>, headers: &HeaderMap) -> Self {
        Self {
            audit_id: audit_id(headers),
            begun: Instant::now(),
            metrics: Arc::clone(metrics),
            requests: None,
            waited: Duration::ZERO,
            under_way: None,
        }
    }

    /// The request asks for this.
    pub(super) fn asks(
        &mut self,
        kinds: &Kinds,
        (method, headers): (&Method, &HeaderMap),
        (target, query): (&Target, &Query),
        class: Class,
    ) {
        let route = route(kinds, method, headers, target, query);
        self.requests = Some(self.metrics.requests(&route));
        self.under_way = Some(match class {
            Class::Long => self.metrics.long(&route),
            Class::Read | Class::Write => self.metrics.in_flight(class == Class::Write),
        });
    }

    /// Counts the answer when it has gone out.
    pub(super) fn answered(self, mut response: Response<Body>) -> Response<Body> {
        response.headers_mut().insert(HeaderName::from_static("audit-id"), self.audit_id.clone());
        let code = response.status().as_u16();
        tracing::debug!(audit = ?self.audit_id, code, "answered");
        let length = response.body().size_hint().exact();
        let mut end = End { record: self, code, bytes: length.unwrap_or(0) };
        match std::mem::replace(response.body_mut(), Body::empty()) {
            Body::Stream(stream) => {
                end.bytes = 0;
                *response.body_mut() = Body::stream(Observed { stream, end });
            }
            whole => *response.body_mut() = whole,
        }
        response
    }
}

/// Tells, when it is dropped, that an answer has gone out or that its client has left.
struct End {
    record: Record,
    code: u16,
    bytes: u64,
}

impl Drop for End {
    fn drop(&mut self) {
        let Record { begun, requests, waited, .. } = &self.record;
        if let Some(requests) = requests {
            requests.answered(self.code, begun.elapsed(), *waited, self.bytes);
        }
    }
}

/// A streamed answer whose bytes are counted.
struct Observed {
    stream: BoxStream<'static, Result<Bytes, BoxError>>,
    end: End,
}

impl Stream for Observed {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.stream.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(piece))) = &next {
            self.end.bytes += piece.len() as u64;
        }
        next
    }
}

/// What a request is counted as. Words that the server does not know are not counted apart: clients choose them.
fn route<'a>(
    kinds: &Kinds,
    method: &Method,
    headers: &HeaderMap,
    target: &'a Target,
    query: &Query,
) -> Route<'a> {
    let dry_run = if query.text("dryRun").is_empty() { "" } else { "All" };
    let unknown =
        Route { verb: "other", dry_run, group: "", version: "", resource: "", subresource: "", scope: "" };
    let r = match target {
        Target::Path(path) => {
            let verb = method_word(method);
            let subresource = if health::is_check(path) { health::endpoint(path) } else { "" };
            return Route { verb, subresource, ..unknown };
        }
        Target::Resource(r) => r,
    };
    let verb = verb_word(r, headers);
    let Some(kind) = kinds.resource(&r.group, &r.version, &r.resource) else {
        return Route { verb, ..unknown };
    };
    let known = r.subresource.is_empty() || kind.subresource(&r.subresource).is_some();
    let scope = match r {
        _ if !r.name.is_empty() || r.verb == Verb::Create => "resource",
        _ if !r.namespace.is_empty() => "namespace",
        _ => "cluster",
    };
    let subresource = if known { &*r.subresource } else { "" };
    Route { verb, dry_run, group: &r.group, version: &r.version, resource: &r.resource, subresource, scope }
}

fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn verb_word(r: &ResourceRequest, headers: &HeaderMap) -> &'static str {
    if resource::is_stream(&r.subresource) {
        return "CONNECT";
    }
    match r.verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch if super::patch::is_apply(headers) => "APPLY",
        Verb::Patch => "PATCH",
        Verb::Delete | Verb::DeleteCollection => "DELETE",
    }
}

/// The client's own audit id if it sent a sensible one, else a new one.
fn audit_id(headers: &HeaderMap) -> HeaderValue {
    const MAX: usize = 64;
    headers
        .get("audit-id")
        .filter(|id| !id.is_empty() && id.len() <= MAX)
        .cloned()
        .unwrap_or_else(|| HeaderValue::from_str(&Uuid::new_v4().to_string()).expect("a UUID is plain ASCII"))
}
