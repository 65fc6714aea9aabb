//! Nobody gives away what they don't have.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use tiphys_api::status::Status;

use super::{
    Attributes as Asked, Chain, Decision, Rbac, Target,
    rbac::{GROUP, RoleRef},
    rule::{Rule, go_list, not_covered},
};
use crate::{
    admission::{Attributes, Operation, Plugin},
    identity::MASTERS,
};

/// Lets roles be written, and bound, only by those who hold every permission in them, or who may `escalate` or
/// `bind` the role.
pub struct Escalation {
    rbac: Arc<Rbac>,
    authorizer: Arc<Chain>,
}

impl Escalation {
    /// `authorizer` is asked for the verbs `escalate` and `bind`.
    pub fn new(rbac: Arc<Rbac>, authorizer: Arc<Chain>) -> Self {
        Self { rbac, authorizer }
    }

    async fn may(&self, request: &Attributes<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let target = Target::Resource {
            group: GROUP,
            version: "*",
            resource,
            subresource: "",
            namespace: request.namespace,
            name,
            field_selector: "",
            label_selector: "",
        };
        let asked = Asked { user: request.user, verb, target };
        matches!(self.authorizer.authorize(&asked).await, Decision::Allow { .. })
    }

    /// Errors unless the requester holds all of `rules` where the object is.
    fn confirm(&self, request: &Attributes<'_>, name: &str, rules: &[Rule]) -> Result<(), Status> {
        let user = request.user;
        let held = self.rbac.rules_for(user, request.namespace);
        let missing = not_covered(&held.rules, rules);
        if missing.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = missing.iter().map(Rule::compact).collect();
        lines.sort();
        lines.dedup();
        let mut why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name(),
            go_list(user.groups()),
            lines.join("\n")
        );
        if !held.errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", held.errors.join(" ")));
        }
        Err(Status::forbidden(GROUP, request.resource, name, &why))
    }
}

/// What an update must leave alone to pass unchecked: everything but what the garbage collector writes.
fn without_collected_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
            meta.remove(field);
        }
    }
    object
}

#[async_trait]
impl Plugin for Escalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    async fn validate(&self, request: &Attributes<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || request.group != GROUP || request.user.in_group(MASTERS) {
            return Ok(());
        }
        if request.operation == Operation::Update
            && without_collected_fields(object) == without_collected_fields(old)
        {
            return Ok(());
        }
        let name = tiphys_api::meta::name(object);
        match request.resource {
            "roles" | "clusterroles" => {
                if self.may(request, "escalate", request.resource, name).await {
                    return Ok(());
                }
                // A role made of others grants whatever those will grant.
                if !object["aggregationRule"].is_null() {
                    let all = [super::rule::everything(), super::rule::every_path()];
                    let held = self.rbac.rules_for(request.user, "").rules;
                    if !not_covered(&held, &all).is_empty() {
                        return Err(Status::forbidden(
                            GROUP,
                            request.resource,
                            name,
                            "must have cluster-admin privileges to use the aggregationRule",
                        ));
                    }
                }
                self.confirm(request, name, &rules_of(object))
            }
            "rolebindings" | "clusterrolebindings" => {
                let Ok(role) = RoleRef::deserialize(&object["roleRef"]) else { return Ok(()) };
                let resource = if role.kind == "Role" { "roles" } else { "clusterroles" };
                if self.may(request, "bind", resource, &role.name).await {
                    return Ok(());
                }
                let rules = self
                    .rbac
                    .role_rules(&role, request.namespace)
                    .map_err(|_| Status::not_found(GROUP, resource, &role.name))?;
                self.confirm(request, name, &rules)
            }
            _ => Ok(()),
        }
    }
}

fn rules_of(role: &Value) -> Vec<Rule> {
    Option::deserialize(&role["rules"]).ok().flatten().unwrap_or_default()
}

#[cfg(test)]
#[path = "escalation_tests.rs"]
mod tests;
