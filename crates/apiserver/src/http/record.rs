//! What is kept about a request while it is answered, and told when its answer has gone out.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tiphys_api::codec::{cbor, protobuf};
use tiphys_api::kind::Kinds;
use tiphys_api::status::Status;

use super::body::{self, Body, BoxError, RequestBody};
use super::load::Class;
use super::query::Query;
use super::request_info::{ResourceRequest, Target, Verb};
use super::{PATIENCE, health, negotiate, resource, too_slow};
use crate::audit::{Annotations, Auditor, Begun, Stage, Trail};
use crate::authz;
use crate::fairness::{Flow, Seat};
use crate::identity::Identity;
use crate::metrics::{Counted, Metrics, Requests, Route};
use crate::registry::objectmeta::unique;

const FLOW_SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const PRIORITY_LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// The address that a connection comes from, among the extensions of its requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote(pub(super) IpAddr);

impl Remote {
    /// Says in the headers of a request that is handed on whom it comes from: those said so far, then who is
    /// connected here.
    pub(super) fn tell(head: &Parts, headers: &mut HeaderMap) {
        const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
        let Some(Self(address)) = head.extensions.get::<Self>() else { return };
        let said = head.headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<String> = said.map(str::to_owned).chain([address.to_string()]).collect();
        if let Ok(value) = HeaderValue::try_from(all.join(", ")) {
            headers.insert(FORWARDED_FOR, value);
        }
    }
}

/// A request from its head to the last byte of its answer.
pub(super) struct Record {
    audit_id: HeaderValue,
    begun: Instant,
    metrics: Arc<Metrics>,
    /// The counters of its route, once that is known.
    requests: Option<Arc<Requests>>,
    /// The flow that it was found to be of.
    flow: Option<Flow>,
    /// Counts it among those under way.
    under_way: Option<Counted>,
    /// What is recorded of it, where the policy asks for that.
    trail: Option<Box<Trail>>,
    long: bool,
}

impl Record {
    pub(super) fn new(metrics: &Arc<Metrics>, headers: &HeaderMap) -> Self {
        Self {
            audit_id: audit_id(headers),
            begun: Instant::now(),
            metrics: Arc::clone(metrics),
            requests: None,
            flow: None,
            under_way: None,
            trail: None,
            long: false,
        }
    }

    /// What the request is called wherever it leaves traces.
    pub(super) fn audit_id(&self) -> &HeaderValue {
        &self.audit_id
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
        self.long = class == Class::Long;
        self.under_way = Some(match class {
            Class::Long => self.metrics.long(&route),
            Class::Read | Class::Write => self.metrics.in_flight(class == Class::Write),
        });
    }

    /// Begins to record the request, if it is to be recorded; `user` is missing where nobody has proven anything.
    pub(super) fn audit(
        &mut self,
        auditor: &Arc<Auditor>,
        head: &Parts,
        user: Option<&Identity>,
        verb: &'static str,
        target: &authz::Target<'_>,
    ) {
        self.trail = auditor.begin(Begun {
            audit_id: &self.audit_id,
            uri: &head.uri,
            headers: &head.headers,
            remote: head.extensions.get::<Remote>().map(|remote| remote.0),
            user,
            verb,
            target,
        });
    }

    /// Its turn has come, or it is turned away.
    ///
    /// # Errors
    /// It is turned away.
    pub(super) fn admitted(&mut self, (flow, seat): (Flow, Result<Seat, Status>)) -> Result<Seat, Status> {
        self.flow = Some(flow);
        seat
    }

    /// The user is taken for somebody.
    pub(super) fn acts_as(&mut self, user: &Identity) {
        if let Some(trail) = &mut self.trail {
            trail.acts_as(user);
        }
    }

    /// Where steps note what the audit event shall tell.
    pub(super) fn annotations(&self) -> &Annotations {
        self.trail.as_ref().map_or_else(|| Annotations::silent(), |trail| trail.annotations())
    }

    /// The body of a request, read already if it is recorded.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) async fn reads(
        &mut self,
        class: Class,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Result<RequestBody, Status> {
        match &mut self.trail {
            Some(trail) if class == Class::Write && trail.wants_request() => {
                let bytes =
                    tokio::time::timeout(PATIENCE, body::read(body)).await.map_err(|_| too_slow())??;
                if let Some(object) = tree(negotiate::content_type(headers), &bytes) {
                    trail.request(object);
                }
                Ok(Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
            }
            _ => Ok(body),
        }
    }

    /// The request is not granted.
    pub(super) fn refused(&mut self, status: &Status) {
        if let Some(trail) = &mut self.trail {
            trail.refused(status);
        }
    }

    /// The request has made its handler panic.
    pub(super) fn panicked(&mut self) {
        if let Some(trail) = &self.trail {
            trail.tell(Stage::Panic, Some(500));
        }
    }

    /// Counts the answer when it has gone out.
    pub(super) fn answered(mut self, mut response: Response<Body>) -> Response<Body> {
        let headers = response.headers_mut();
        let mut audit_id = self.audit_id.clone();
        // Each answer has another, so that HTTP/2 need not look for it among the headers that it remembers.
        audit_id.set_sensitive(true);
        headers.insert(HeaderName::from_static("audit-id"), audit_id);
        if let Some(Flow { schema_uid, level_uid, .. }) = &self.flow {
            headers.insert(FLOW_SCHEMA, schema_uid.clone());
            headers.insert(PRIORITY_LEVEL, level_uid.clone());
        }
        let code = response.status().as_u16();
        tracing::debug!(audit = ?self.audit_id, code, "answered");
        if let Some(trail) = &mut self.trail {
            if let (Body::Full(bytes), true) = (response.body(), trail.wants_response()) {
                let media = negotiate::content_type(response.headers());
                if let Some(object) = tree(media, bytes) {
                    trail.response(object);
                }
            }
            if self.long {
                trail.tell(Stage::ResponseStarted, Some(code));
            }
        }
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
        let Record { begun, requests, flow, .. } = &self.record;
        if let Some(requests) = requests {
            let waited = flow.as_ref().map_or(Duration::ZERO, |flow| flow.waited);
            requests.answered(self.code, begun.elapsed(), waited, self.bytes);
        }
        if let Some(trail) = &self.record.trail {
            trail.tell(Stage::ResponseComplete, Some(self.code));
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

/// A body as a tree, where it is an object in an encoding that objects have.
fn tree(media: &str, bytes: &Bytes) -> Option<Value> {
    match media {
        _ if bytes.is_empty() => None,
        "application/vnd.kubernetes.protobuf" => protobuf::decode(bytes, ("", "")).ok(),
        "application/cbor" | "application/apply-patch+cbor" => cbor::decode(bytes).ok(),
        "application/yaml" | "application/apply-patch+yaml" => {
            serde_json::from_slice(&super::dialect::yaml_to_json(bytes).ok()?).ok()
        }
        _ => serde_json::from_slice(bytes).ok(),
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
        .unwrap_or_else(|| HeaderValue::from_str(&unique().to_string()).expect("a UUID is plain ASCII"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies_are_read_in_every_encoding_that_objects_have() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        let yaml = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}".to_owned().into_bytes();
        for (media, bytes) in [
            ("application/json", object.to_string().into_bytes()),
            ("application/merge-patch+json", object.to_string().into_bytes()),
            ("application/yaml", yaml.clone()),
            ("application/apply-patch+yaml", yaml),
            ("application/cbor", cbor::encode(&object).unwrap()),
            ("application/apply-patch+cbor", cbor::encode(&object).unwrap()),
        ] {
            assert_eq!(tree(media, &Bytes::from(bytes)).as_ref(), Some(&object), "{media}");
        }
        let protobuf = Bytes::from(protobuf::encode(&object).unwrap());
        let read = tree("application/vnd.kubernetes.protobuf", &protobuf).unwrap();
        assert_eq!((&read["kind"], &read["metadata"]["name"]), (&json!("ConfigMap"), &json!("a")));
        assert_eq!(tree("application/json", &Bytes::new()), None);
        assert_eq!(tree("text/plain", &Bytes::from_static(b"nothing")), None);
    }
}
