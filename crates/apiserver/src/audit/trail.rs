//! What is recorded of one request.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::USER_AGENT;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use tiphys_api::status::Status;

use super::event::{Empty, Event, Moment, ObjectRef, Outcome, User};
use super::{Annotations, Auditor, Decision, Level, Stage};
use crate::authz::Target;
use crate::identity::Identity;

/// What is known of a request as soon as its client has proven who it is.
pub(crate) struct Begun<'a> {
    pub(crate) audit_id: &'a HeaderValue,
    pub(crate) uri: &'a http::Uri,
    pub(crate) headers: &'a HeaderMap,
    /// The address that the connection comes from; none for a component of this process.
    pub(crate) remote: Option<IpAddr>,
    /// Missing where nobody has proven anything.
    pub(crate) user: Option<&'a Identity>,
    pub(crate) verb: &'static str,
    pub(crate) target: &'a Target<'a>,
}

/// A request that is recorded. What its head holds is shared with it.
pub(crate) struct Trail {
    auditor: Arc<Auditor>,
    decision: Decision,
    received: Moment,
    audit_id: HeaderValue,
    uri: Option<PathAndQuery>,
    verb: &'static str,
    user: Option<Identity>,
    impersonated: Option<Identity>,
    sources: Vec<IpAddr>,
    agent: Option<HeaderValue>,
    object: Option<Object>,
    request: Option<Value>,
    response: Option<Value>,
    refusal: Option<Value>,
    annotations: Annotations,
}

struct Object {
    resource: String,
    namespace: String,
    name: String,
    group: String,
    version: String,
    subresource: String,
}

/// A `X-Forwarded-For` with more addresses than this tells nothing.
const MAX_SOURCES: usize = 16;
/// An event without bodies fits in so many bytes.
const USUAL: usize = 1024;
/// Clients choose these; what is longer is cut.
const MAX_TEXT: usize = 4096;

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// A header's text; nothing where it is none.
fn text(value: Option<&HeaderValue>) -> &str {
    cut(value.and_then(|value| value.to_str().ok()).unwrap_or_default())
}

impl Auditor {
    /// Begins to record a request; `None` if the policy does not ask for it.
    pub(crate) fn begin(self: &Arc<Self>, begun: Begun<'_>) -> Option<Box<Trail>> {
        if self.sinks.is_empty() {
            return None;
        }
        let decision = self.policy.decide(begun.user, begun.verb, begun.target);
        if decision.level == Level::None {
            return None;
        }
        let header = |name: &str| text(begun.headers.get(name));
        let object = match *begun.target {
            Target::Path(_) => None,
            Target::Resource { group, version, resource, subresource, namespace, name, .. } => Some(Object {
                resource: resource.to_owned(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                group: group.to_owned(),
                version: version.to_owned(),
                subresource: subresource.to_owned(),
            }),
        };
        let trail = Trail {
            auditor: Arc::clone(self),
            decision,
            received: self.now(),
            audit_id: begun.audit_id.clone(),
            uri: begun.uri.path_and_query().cloned(),
            verb: begun.verb,
            user: begun.user.cloned(),
            impersonated: None,
            sources: sources(header("x-forwarded-for"), header("x-real-ip"), begun.remote),
            agent: begun.headers.get(USER_AGENT).cloned(),
            object,
            request: None,
            response: None,
            refusal: None,
            annotations: Annotations::recording(),
        };
        trail.tell(Stage::RequestReceived, None);
        Some(Box::new(trail))
    }
}

/// The addresses that a request has come by: what proxies say, then who is connected.
fn sources(forwarded: &str, real: &str, remote: Option<IpAddr>) -> Vec<IpAddr> {
    let said = forwarded.split(',').map(str::trim).take(MAX_SOURCES);
    let mut all: Vec<IpAddr> = said.filter_map(|address| address.parse().ok()).collect();
    if let Ok(real) = real.trim().parse()
        && !all.contains(&real)
    {
        all.push(real);
    }
    all.extend(remote.filter(|remote| all.last() != Some(remote)));
    all
}

impl Trail {
    pub(crate) fn annotations(&self) -> &Annotations {
        &self.annotations
    }

    /// Whom the user is taken for.
    pub(crate) fn acts_as(&mut self, user: &Identity) {
        self.impersonated = Some(user.clone()).filter(|user| Some(user) != self.user.as_ref());
    }

    /// Whether the bodies of requests are recorded.
    pub(crate) fn wants_request(&self) -> bool {
        self.decision.level >= Level::Request
    }

    /// Whether the bodies of answers are recorded.
    pub(crate) fn wants_response(&self) -> bool {
        self.decision.level >= Level::RequestResponse
    }

    pub(crate) fn request(&mut self, object: Value) {
        self.request = Some(self.shown(object));
    }

    pub(crate) fn response(&mut self, object: Value) {
        self.response = Some(self.shown(object));
    }

    /// The request was not granted.
    pub(crate) fn refused(&mut self, status: &Status) {
        let mut status = status.to_value();
        if let Some(status) = status.as_object_mut() {
            status.remove("kind");
            status.remove("apiVersion");
        }
        self.refusal = Some(status);
    }

    fn shown(&self, mut object: Value) -> Value {
        if self.decision.omit_managed_fields {
            let strip = |object: &mut Value| {
                if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("managedFields");
                }
            };
            strip(&mut object);
            object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(strip);
        }
        object
    }

    /// Tells an event, where the policy asks for the stage. `code` is the answer's, once there is one.
    pub(crate) fn tell(&self, stage: Stage, code: Option<u16>) {
        if !self.decision.tells(stage) {
            return;
        }
        let made = self.annotations.name();
        let object_ref = self.object.as_ref().map(|object| ObjectRef {
            resource: &object.resource,
            namespace: &object.namespace,
            name: if object.name.is_empty() { made.unwrap_or_default() } else { &object.name },
            api_group: &object.group,
            api_version: &object.version,
            subresource: &object.subresource,
        });
        let response_status = code.map(|code| match &self.refusal {
            Some(refusal) => Outcome::Refused(refusal),
            None => Outcome::Answered { metadata: Empty {}, code },
        });
        let mut line = Vec::with_capacity(USUAL);
        let written = self.annotations.with(|annotations| {
            let event = Event {
                kind: "Event",
                api_version: "audit.k8s.io/v1",
                level: self.decision.level.as_str(),
                audit_id: text(Some(&self.audit_id)),
                stage: stage.as_str(),
                request_uri: cut(self.uri.as_ref().map_or("/", PathAndQuery::as_str)),
                verb: self.verb,
                user: self.user.as_ref().map(User::from).unwrap_or_default(),
                impersonated_user: self.impersonated.as_ref().map(User::from),
                source_ips: &self.sources,
                user_agent: text(self.agent.as_ref()),
                object_ref,
                response_status,
                request_object: self.request.as_ref(),
                response_object: self.response.as_ref(),
                request_received_timestamp: self.received,
                stage_timestamp: self.auditor.now(),
                annotations,
            };
            serde_json::to_writer(&mut line, &event)
        });
        match written {
            Ok(()) => self.auditor.tell(self.decision.level, line),
            Err(error) => tracing::error!(%error, "an audit event could not be written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_what_proxies_say_and_who_is_connected() {
        let remote = Some("10.0.0.1".parse().unwrap());
        let sources = |forwarded: &str, real: &str, remote| -> Vec<String> {
            super::sources(forwarded, real, remote).iter().map(ToString::to_string).collect()
        };
        assert_eq!(sources("", "", remote), ["10.0.0.1"]);
        assert_eq!(sources("1.2.3.4, x, 10.0.0.1", "1.2.3.4", remote), ["1.2.3.4", "10.0.0.1"]);
        assert_eq!(sources("", "5.6.7.8", None), ["5.6.7.8"]);
        assert_eq!(sources(&"1.1.1.1,".repeat(99), "", None).len(), MAX_SOURCES);
    }
}
