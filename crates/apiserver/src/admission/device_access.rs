//! Who may do what with claims to devices: look at those of others as an administrator does, in namespaces that are
//! labelled for it (KEP-5018), and write which part of a claim's status.
//!
//! Of a status that may be written at all, allocation and reservations are for who may write `resourceclaims/binding`,
//! and what is told of devices is for who may write `resourceclaims/driver`, by the driver's name. One whose token is
//! bound to the node that the devices are for is asked for the verb `associated-node:…` first, everybody for
//! `arbitrary-node:…`.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use serde_json::Value;
use tiphys_api::{
    field::{Error, Errors, Path},
    meta,
    status::Status,
};

use super::{Attributes, Operation, Plugin};
use crate::{
    authz::{self, Chain, Decision, Target},
    source::Source,
};

const GROUP: &str = "resource.k8s.io";
const CLAIMS: &str = "resourceclaims";
/// On namespaces whose claims may have administrators' access.
const ADMIN: &str = "resource.kubernetes.io/admin-access";
/// In what is known of a service account: the node that its token is bound to.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const RESULTS: [&str; 4] = ["status", "allocation", "devices", "results"];

/// Guards claims.
pub struct DeviceAccess {
    source: Arc<dyn Source>,
    authorizer: Arc<Chain>,
}

impl DeviceAccess {
    pub fn new(source: Arc<dyn Source>, authorizer: Arc<Chain>) -> Self {
        Self { source, authorizer }
    }

    /// `None` if the user may; otherwise why not.
    async fn refusal(
        &self,
        request: &Attributes<'_>,
        (verb, subresource): (&str, &str),
        (namespace, name): (&str, &str),
    ) -> Option<String> {
        let target = Target::Resource {
            group: GROUP,
            version: request.version,
            resource: CLAIMS,
            subresource,
            namespace,
            name,
            field_selector: "",
            label_selector: "",
        };
        let asked = authz::Attributes { user: request.user, verb, target };
        let reason = match self.authorizer.authorize(&asked).await {
            Decision::Allow { .. } => return None,
            Decision::Deny { reason } | Decision::NoOpinion { reason } => reason,
            Decision::Failed { error, .. } => error,
        };
        Some(asked.forbidden(&reason).message)
    }

    async fn check_admin(&self, namespace: &str, path: Path, errors: &mut Errors) {
        let is_labelled = || {
            let found = self.source.get("", "namespaces", "", namespace);
            found.is_some_and(|found| {
                meta::labels(&found.tree())
                    .is_some_and(|labels| labels.get(ADMIN).is_some_and(|v| v == "true"))
            })
        };
        if is_labelled() {
            return;
        }
        self.source.settle().await;
        if !is_labelled() {
            let detail = format!(
                "admin access to devices requires the `{ADMIN}: true` label on the containing namespace"
            );
            errors.push(Error::forbidden(&path, detail));
        }
    }

    async fn check_status(&self, request: &Attributes<'_>, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::new("status");
        let verb = if request.is_patch { "patch" } else { "update" };
        let part = |claim: &Value, field: &str| claim["status"].get(field).cloned().unwrap_or_default();
        if ["allocation", "reservedFor"].iter().any(|field| part(new, field) != part(old, field))
            && let Some(why) = self.refusal(request, (verb, "binding"), ("", "")).await
        {
            let detail = format!(
                "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", \
                 verb={verb:?} permission: {why}"
            );
            errors.push(Error::forbidden(&path, detail));
        }
        let verbs = verbs(request, verb, new);
        for driver in changed_drivers(new, old) {
            let mut first = None;
            for verb in &verbs {
                match self.refusal(request, (verb, "driver"), (request.namespace, &driver)).await {
                    None => {
                        first = None;
                        break;
                    }
                    Some(why) => first = first.or(Some(why)),
                }
            }
            if let Some(why) = first {
                let verbs = verbs.join(" ");
                let detail = format!(
                    "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{verbs}]\" \
                     permission: {why}"
                );
                errors.push(Error::forbidden(&path, detail));
            }
        }
    }
}

/// The verbs of which one is enough to write what a driver tells.
fn verbs(request: &Attributes<'_>, verb: &str, claim: &Value) -> Vec<String> {
    let arbitrary = format!("arbitrary-node:{verb}");
    let bound = request.user.extra().get(NODE_NAME).map(Vec::as_slice).unwrap_or_default();
    let is_account = request.user.name().starts_with("system:serviceaccount:");
    match (bound, node_of(claim)) {
        ([bound], Some(node)) if is_account && bound == node => {
            vec![format!("associated-node:{verb}"), arbitrary]
        }
        _ => vec![arbitrary],
    }
}

/// The node that a claim's devices are for, if they are for one alone.
fn node_of(claim: &Value) -> Option<&str> {
    let terms = meta::items(claim, &["status", "allocation", "nodeSelector", "nodeSelectorTerms"]);
    let [term] = terms else { return None };
    let ([], [field]) = (meta::items(term, &["matchExpressions"]), meta::items(term, &["matchFields"]))
    else {
        return None;
    };
    let is_name = field["key"] == "metadata.name" && field["operator"] == "In";
    match meta::items(field, &["values"]) {
        [node] if is_name => node.as_str().filter(|node| !node.is_empty()),
        _ => None,
    }
}

/// The drivers of devices of which something else is told than before. What goes with its device is not the driver's.
fn changed_drivers(new: &Value, old: &Value) -> BTreeSet<String> {
    let is = |fields: &[&str], a: &Value, b: &Value| {
        fields.iter().all(|field| meta::text(a, &[field]) == meta::text(b, &[field]))
    };
    let device = ["driver", "pool", "device"];
    let same = |a: &Value, b: &Value| is(&device, a, b) && is(&["shareID"], a, b);
    let (now, before) = (meta::items(new, &["status", "devices"]), meta::items(old, &["status", "devices"]));
    let changed = now.iter().filter(|told| !before.contains(told));
    let gone = before.iter().filter(|told| {
        let is_held = meta::items(new, &RESULTS).iter().any(|result| is(&device, result, told));
        is_held && !now.iter().any(|other| same(other, told))
    });
    changed.chain(gone).map(|told| meta::text(told, &["driver"]).to_owned()).collect()
}

/// The first of the items with administrators' access.
fn admin(items: &[Value], of: impl Fn(&Value) -> &Value) -> Option<usize> {
    items.iter().position(|item| of(item)["adminAccess"] == true)
}

#[async_trait]
impl Plugin for DeviceAccess {
    fn name(&self) -> &'static str {
        "DeviceAccess"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.group == GROUP
            && matches!(
                (request.operation, request.resource, request.subresource),
                (Operation::Create, CLAIMS | "resourceclaimtemplates", "")
                    | (Operation::Update, CLAIMS, "status")
            )
    }

    async fn validate(&self, request: &Attributes<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        let mut errors = Errors::new();
        let requests = Path::new("spec").child("devices").child("requests");
        let asked = match (request.subresource, request.resource) {
            ("status", _) => {
                let had = admin(meta::items(old, &RESULTS), |result| result).is_some();
                let has = admin(meta::items(object, &RESULTS), |result| result).filter(|_| !had);
                let path = RESULTS[1..].iter().fold(Path::new(RESULTS[0]), |path, field| path.child(field));
                self.check_status(request, object, old, &mut errors).await;
                has.map(|at| path.index(at))
            }
            (_, CLAIMS) => {
                let asked = meta::items(object, &["spec", "devices", "requests"]);
                admin(asked, |request| &request["exactly"]).map(|at| requests.index(at))
            }
            _ => {
                let asked = meta::items(object, &["spec", "spec", "devices", "requests"]);
                admin(asked, |request| &request["exactly"]).map(|at| requests.index(at))
            }
        };
        if let Some(path) = asked {
            self.check_admin(request.namespace, path.child("adminAccess"), &mut errors).await;
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(GROUP, request.kind, meta::name(object), &errors))
    }
}

#[cfg(test)]
#[path = "device_access_tests.rs"]
mod tests;
