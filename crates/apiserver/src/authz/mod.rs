//! Whether a user may do what a request asks.

use crate::identity::Identity;

/// What a request wants, in the words of `authorization.k8s.io`.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    pub user: &'a Identity,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, …, or the
    /// lower-case HTTP method for a path that names no resource.
    pub verb: &'a str,
    pub target: Target<'a>,
}

#[derive(Clone, Debug)]
pub enum Target<'a> {
    /// An object or collection; absent parts are empty.
    Resource {
        group: &'a str,
        version: &'a str,
        resource: &'a str,
        subresource: &'a str,
        namespace: &'a str,
        name: &'a str,
    },
    /// Any other path, such as `/healthz`.
    Path(&'a str),
}

/// An authorizer's answer. The first authorizer with an opinion decides; none means no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow { reason: String },
    Deny { reason: String },
    NoOpinion { reason: String },
}

/// Decides from memory: an authorizer never waits for I/O.
pub trait Authorizer: Send + Sync + 'static {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}
