//! Whether a user may do what a request asks.

mod abac;
mod chain;
pub mod config;
mod escalation;
mod node;
pub mod policy;
pub mod rbac;
pub mod review;
pub mod rule;
mod webhook;

use tiphys_api::status::Status;

pub(crate) use self::node::pod_references;
pub use self::{
    abac::{Abac, Policy, parse as parse_abac},
    chain::Chain,
    escalation::Escalation,
    node::NodeAuthorizer,
    rbac::{Rbac, UserRules},
};
pub(crate) use self::{
    chain::How,
    webhook::{Calls as WebhookCalls, Webhook},
};
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
        /// The text of the `fieldSelector` parameter of a list, watch or deletecollection.
        field_selector: &'a str,
        /// The same of `labelSelector`.
        label_selector: &'a str,
    },
    /// Any other path, such as `/healthz`.
    Path(&'a str),
}

/// An authorizer's answer. The first authorizer with an opinion decides; none means no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow {
        reason: String,
    },
    Deny {
        reason: String,
    },
    NoOpinion {
        reason: String,
    },
    /// No decision could be had, which is no permission; `denied`: nobody else is to be asked either.
    Failed {
        error: String,
        denied: bool,
    },
}

/// Decides from memory: such an authorizer never waits for I/O. A [`Chain`] is made of them and of webhooks.
pub trait Authorizer: Send + Sync + 'static {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;

    /// What `user` may do in `namespace`, or everywhere if that is empty.
    fn rules(&self, _user: &Identity, _namespace: &str) -> UserRules {
        UserRules::default()
    }
}

/// Allows, or denies, everything.
pub struct Always(pub bool);

impl Authorizer for Always {
    fn authorize(&self, _: &Attributes<'_>) -> Decision {
        match self.0 {
            true => Decision::Allow { reason: String::new() },
            false => Decision::NoOpinion { reason: "Everything is forbidden.".to_owned() },
        }
    }

    fn rules(&self, _: &Identity, _: &str) -> UserRules {
        let rules = if self.0 { vec![rule::everything(), rule::every_path()] } else { Vec::new() };
        UserRules { rules, errors: Vec::new() }
    }
}

impl Attributes<'_> {
    /// The 403 for a decision that was not [`Decision::Allow`], worded as upstream words it.
    pub fn forbidden(&self, reason: &str) -> Status {
        let user = self.user.name();
        let verb = self.verb;
        let (group, resource, name, mut why) = match self.target {
            Target::Path(path) => ("", "", "", format!("User {user:?} cannot {verb} path {path:?}")),
            Target::Resource { group, resource, subresource, namespace, name, .. } => {
                let what = if subresource.is_empty() {
                    resource.to_owned()
                } else {
                    format!("{resource}/{subresource}")
                };
                let place = if namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace {namespace:?}")
                };
                let why =
                    format!("User {user:?} cannot {verb} resource {what:?} in API group {group:?} {place}");
                (group, resource, name, why)
            }
        };
        // Nothing that came with the request may look like markup in a browser.
        why = why.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        if resource.is_empty() {
            // Upstream names no resource here either: the sentence starts with "forbidden".
            return Status::new(tiphys_api::status::Reason::Forbidden, format!("forbidden: {why}"))
                .with_details(Default::default());
        }
        Status::forbidden(group, resource, name, &why)
    }
}

/// Asks, and turns everything but a yes into the 403, or into a 500 where nobody could tell.
pub async fn require(chain: &Chain, attributes: &Attributes<'_>) -> Result<(), Status> {
    match chain.authorize(attributes).await {
        Decision::Allow { .. } => Ok(()),
        Decision::Deny { reason } | Decision::NoOpinion { reason } => Err(attributes.forbidden(&reason)),
        Decision::Failed { error, .. } => Err(Status::internal(&error)),
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
