//! The checks and changes between authorization and the store.

mod certificates;
pub mod config;
mod device_access;
mod devices;
mod expressions;
mod ingress;
mod initializers;
mod limit_ranger;
pub mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod nodes;
pub mod pod_security;
mod policies;
mod possession;
mod priority;
mod request;
mod round;
mod runtime_class;
mod service_account;
mod storage;
mod tolerations;
pub(crate) mod webhooks;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tiphys_api::{kind::Kinds, meta, status::Status};
use tokio::sync::watch;

pub use self::{
    certificates::{Signers, SigningRequests},
    device_access::DeviceAccess,
    devices::Devices,
    ingress::DefaultIngressClass,
    initializers::Initializers,
    limit_ranger::LimitRanger,
    namespace_lifecycle::NamespaceLifecycle,
    node_restriction::NodeRestriction,
    nodes::{PodTopologyLabels, TaintNodesByCondition},
    pod_security::PodSecurity,
    policies::{Counts as PolicyCounts, Policies},
    possession::PossessionOfKeys,
    priority::{Priority, system_classes},
    round::Round,
    runtime_class::RuntimeClass,
    service_account::ServiceAccount,
    storage::{DefaultStorageClass, PersistentVolumeClaimResize, StorageObjectInUseProtection},
    tolerations::DefaultTolerationSeconds,
    webhooks::{Counts as WebhookCounts, Phase, Webhooks},
};
use crate::{
    audit::Annotations,
    authz::Chain,
    identity::Identity,
    outgoing::Outgoing,
    registry::{DeleteOptions, Warnings},
    source::Source,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// What is being admitted. `group`, `version` and `resource` are those of the request.
#[derive(Debug)]
pub struct Attributes<'a> {
    pub user: &'a Identity,
    pub operation: Operation,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub kind: &'a str,
    pub namespace: &'a str,
    /// Empty while a create still has only a `generateName`.
    pub name: &'a str,
    pub dry_run: bool,
    /// What a plug-in notes for the audit event; keys start with the name of who notes.
    pub annotations: &'a Annotations,
    /// What a plug-in tells the client besides the answer.
    pub warnings: &'a Warnings,
    pub field_manager: &'a str,
    /// An update that came as a patch.
    pub is_patch: bool,
    /// The options of a delete.
    pub delete: Option<&'a DeleteOptions>,
    pub round: Round,
}

impl Attributes<'_> {
    /// Whether the request does this to the resource itself, not to a subresource.
    fn is(&self, operation: Operation, group: &str, resource: &str) -> bool {
        self.operation == operation
            && self.group == group
            && self.resource == resource
            && self.subresource.is_empty()
    }

    /// The 403 of a plug-in. An object without a name is called by what its name will start with.
    fn forbidden(&self, object: &Value, why: &str) -> Status {
        let name = match (self.name, meta::name(object)) {
            ("", "") => meta::text(object, &["metadata", "generateName"]),
            ("", own) => own,
            (name, _) => name,
        };
        Status::forbidden(self.group, self.resource, name, why)
    }
}

/// One admission plug-in, named as upstream names it.
///
/// `admit` may change the object and runs before validation; `validate` sees what will be stored.
/// `object` is `Null` for a delete, `old` is `Null` for a create. Both are in the storage version.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// Whether the plug-in has anything to say about such a request; if not, it is not asked.
    fn handles(&self, _: &Attributes<'_>) -> bool {
        true
    }

    async fn admit(&self, _: &Attributes<'_>, _object: &mut Value, _old: &Value) -> Result<(), Status> {
        Ok(())
    }

    async fn validate(&self, _: &Attributes<'_>, _object: &Value, _old: &Value) -> Result<(), Status> {
        Ok(())
    }

    /// What the client should know about an object that was let through; each goes into a `Warning` header.
    fn warnings(&self, _: &Attributes<'_>, _object: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }
}

/// The spec of an object, made where it is missing.
fn spec_mut(object: &mut Value) -> &mut Map<String, Value> {
    meta::child_mut(meta::as_map(object), "spec")
}

/// The list at a path; what is missing on the way there is made, what is of another shape replaced.
fn list_mut<'a>(object: &'a mut Value, path: &[&str]) -> &'a mut Vec<Value> {
    let mut at = object;
    for key in path {
        at = meta::as_map(at).entry(*key).or_insert(Value::Null);
    }
    if !at.is_array() {
        *at = Value::Array(Vec::new());
    }
    match at {
        Value::Array(list) => list,
        _ => unreachable!("it was made an array above"),
    }
}

/// The plug-ins that are on by default, in upstream's order. ResourceQuota, the last of them, is none of these: what
/// it charges belongs into the transaction of the write, so that the registry does it.
pub fn standard(
    source: &Arc<dyn Source>,
    outgoing: &Arc<Outgoing>,
    kinds: &watch::Receiver<Arc<Kinds>>,
    authorizer: &Arc<Chain>,
    (counts, checks): (&Arc<WebhookCounts>, &Arc<PolicyCounts>),
    pod_security: &Arc<pod_security::Config>,
) -> Vec<Arc<dyn Plugin>> {
    let policies = |phase| {
        let (source, authorizer) = (Arc::clone(source), Arc::clone(authorizer));
        Policies::new(phase, source, authorizer, kinds.clone(), Arc::clone(checks))
    };
    let webhooks = |phase| {
        let (source, outgoing, authorizer) =
            (Arc::clone(source), Arc::clone(outgoing), Arc::clone(authorizer));
        Webhooks::new(phase, source, outgoing, authorizer, kinds.clone(), Arc::clone(counts))
    };
    let source = || Arc::clone(source);
    vec![
        Arc::new(NamespaceLifecycle::new(source())),
        Arc::new(LimitRanger::new(source())),
        Arc::new(ServiceAccount::new(source())),
        Arc::new(NodeRestriction::new(source())),
        Arc::new(TaintNodesByCondition),
        Arc::new(PodSecurity::new(source(), Arc::clone(pod_security))),
        Arc::new(Priority::new(source())),
        Arc::new(DefaultTolerationSeconds),
        Arc::new(DefaultStorageClass::new(source())),
        Arc::new(StorageObjectInUseProtection),
        Arc::new(PersistentVolumeClaimResize::new(source())),
        Arc::new(RuntimeClass::new(source())),
        Arc::new(DefaultIngressClass::new(source())),
        Arc::new(PodTopologyLabels::new(source())),
        Arc::new(policies(Phase::Mutating)),
        Arc::new(webhooks(Phase::Mutating)),
        Arc::new(policies(Phase::Validating)),
        Arc::new(webhooks(Phase::Validating)),
    ]
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
