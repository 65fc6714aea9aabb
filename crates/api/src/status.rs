//! Failures as clients see them: `meta/v1.Status`.

use serde_json::{Map, Value, json};

use crate::field;

/// The machine-readable reasons of `meta/v1.StatusReason`, with the HTTP code that each comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    InternalError,
    NotImplemented,
    ServiceUnavailable,
    Timeout,
    ServerTimeout,
}

impl Reason {
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::ServerTimeout => 500,
            Self::NotImplemented => 501,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Expired => "Expired",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::Invalid => "Invalid",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalError => "InternalError",
            Self::NotImplemented => "NotImplemented",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
            Self::ServerTimeout => "ServerTimeout",
        }
    }
}

/// A failed request. Rooms have errors of their own; they become a `Status` once, at the edge.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    pub reason: Reason,
    pub message: String,
    pub details: Option<Box<Details>>,
    /// A continue token that goes on where an expired one ended: `metadata.continue`.
    pub next: Option<String>,
    /// What somebody else decided, where that is not one of ours.
    pub foreign: Option<Box<Foreign>>,
}

/// The code and the reason of a failure that a webhook has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// 400 to 599.
    pub code: u16,
    /// May be empty.
    pub reason: String,
}

/// What the failure is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    pub name: String,
    pub group: String,
    /// Upstream puts a resource or a kind here, by reason.
    pub kind: String,
    pub uid: String,
    pub causes: Vec<StatusCause>,
    pub retry_after_seconds: u32,
}

/// One of the things that went wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusCause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

/// `resource.group`, or `resource` alone for the core group.
fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Status {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), details: None, next: None, foreign: None }
    }

    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    #[must_use]
    pub fn with_continue(mut self, next: String) -> Self {
        self.next = Some(next);
        self
    }

    /// A failure that somebody else has named: answered with this code and reason. A code that is no failure's is
    /// taken for the nearest that is.
    pub fn foreign(code: u16, reason: String, message: String, details: Option<Details>) -> Self {
        let foreign = Foreign { code: code.clamp(400, 599), reason };
        Self {
            details: details.map(Box::new),
            foreign: Some(Box::new(foreign)),
            ..Self::new(Reason::Forbidden, message)
        }
    }

    /// The server's own fault.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(Reason::InternalError, format!("Internal error occurred: {message}"))
    }

    fn about(reason: Reason, message: String, group: &str, resource: &str, name: &str) -> Self {
        Self::new(reason, message).with_details(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: resource.to_owned(),
            ..Details::default()
        })
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(resource, group));
        Self::about(Reason::NotFound, message, group, resource, name)
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(resource, group));
        Self::about(Reason::AlreadyExists, message, group, resource, name)
    }

    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(resource, group));
        Self::about(Reason::Conflict, message, group, resource, name)
    }

    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", qualified(resource, group))
        } else {
            format!("{} {name:?} is forbidden: {why}", qualified(resource, group))
        };
        Self::about(Reason::Forbidden, message, group, resource, name)
    }

    /// `kind` is the object's kind, not its resource.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[field::Error]) -> Self {
        let what = match errors {
            [] => String::new(),
            [one] => one.to_string(),
            many => {
                format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
        };
        let message = format!("{} {name:?} is invalid: {what}", qualified(kind, group));
        let mut status = Self::about(Reason::Invalid, message, group, kind, name);
        if let Some(details) = &mut status.details {
            details.causes = errors
                .iter()
                .map(|e| StatusCause {
                    reason: e.cause.reason().to_owned(),
                    message: e.body(),
                    field: e.path.to_string(),
                })
                .collect();
        }
        status
    }

    pub fn code(&self) -> u16 {
        self.foreign.as_ref().map_or_else(|| self.reason.code(), |foreign| foreign.code)
    }

    /// The reason on the wire; empty where a webhook gave none.
    pub fn reason_text(&self) -> &str {
        self.foreign.as_ref().map_or_else(|| self.reason.as_str(), |foreign| &foreign.reason)
    }

    /// The object on the wire.
    pub fn to_value(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code(),
        });
        if !self.reason_text().is_empty() {
            body["reason"] = self.reason_text().into();
        }
        if let Some(next) = &self.next {
            body["metadata"]["continue"] = next.as_str().into();
        }
        if let Some(d) = &self.details {
            let mut details = Map::new();
            for (key, text) in [("name", &d.name), ("group", &d.group), ("kind", &d.kind), ("uid", &d.uid)] {
                if !text.is_empty() {
                    details.insert(key.into(), text.as_str().into());
                }
            }
            if !d.causes.is_empty() {
                let causes = d.causes.iter().map(|c| {
                    let mut cause = Map::new();
                    for (key, text) in [("reason", &c.reason), ("message", &c.message), ("field", &c.field)] {
                        if !text.is_empty() {
                            cause.insert(key.into(), text.as_str().into());
                        }
                    }
                    Value::Object(cause)
                });
                details.insert("causes".into(), causes.collect());
            }
            if d.retry_after_seconds > 0 {
                details.insert("retryAfterSeconds".into(), d.retry_after_seconds.into());
            }
            body["details"] = Value::Object(details);
        }
        body
    }
}
