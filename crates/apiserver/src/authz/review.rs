//! The review kinds of `authorization.k8s.io`: each is a question that is answered in its status.

use std::{collections::BTreeMap, mem};

use serde::Deserialize;
use serde_json::{Value, json};
use tiphys_api::status::Status;

use super::{Attributes, Chain, Decision, Target};
use crate::{
    authn::{answered, user_info},
    identity::Identity,
};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    resource_attributes: Option<Resource>,
    non_resource_attributes: Option<NonResource>,
    user: String,
    groups: Vec<String>,
    uid: String,
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Resource {
    namespace: String,
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    name: String,
    field_selector: Option<Selector>,
    label_selector: Option<Selector>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    raw_selector: String,
    requirements: Vec<Requirement>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Requirement {
    key: String,
    operator: String,
    values: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NonResource {
    path: String,
    verb: String,
}

impl Selector {
    /// As a `fieldSelector` parameter; requirements that one can't express are left out, which only widens it.
    fn fields(&self) -> String {
        if !self.raw_selector.is_empty() {
            return self.raw_selector.clone();
        }
        let one = |r: &Requirement| match (r.operator.as_str(), r.values.as_slice()) {
            ("In", [value]) => Some(format!("{}={value}", r.key)),
            ("NotIn", [value]) => Some(format!("{}!={value}", r.key)),
            _ => None,
        };
        self.requirements.iter().filter_map(one).collect::<Vec<_>>().join(",")
    }

    /// As a `labelSelector` parameter, likewise.
    fn labels(&self) -> String {
        if !self.raw_selector.is_empty() {
            return self.raw_selector.clone();
        }
        let one = |r: &Requirement| match (r.operator.as_str(), r.values.join(",")) {
            ("In", values) => Some(format!("{} in ({values})", r.key)),
            ("NotIn", values) => Some(format!("{} notin ({values})", r.key)),
            ("Exists", _) => Some(r.key.clone()),
            ("DoesNotExist", _) => Some(format!("!{}", r.key)),
            _ => None,
        };
        self.requirements.iter().filter_map(one).collect::<Vec<_>>().join(",")
    }
}

fn spec(review: &Value) -> Result<Spec, Status> {
    Spec::deserialize(&review["spec"]).map_err(|e| Status::bad_request(format!("spec: {e}")))
}

async fn status(chain: &Chain, user: &Identity, spec: &Spec) -> Result<Value, Status> {
    let (fields, labels);
    let (verb, target) = match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(r), None) => {
            fields = r.field_selector.as_ref().map(Selector::fields).unwrap_or_default();
            labels = r.label_selector.as_ref().map(Selector::labels).unwrap_or_default();
            let target = Target::Resource {
                group: &r.group,
                version: &r.version,
                resource: &r.resource,
                subresource: &r.subresource,
                namespace: &r.namespace,
                name: &r.name,
                field_selector: &fields,
                label_selector: &labels,
            };
            (&r.verb, target)
        }
        (None, Some(n)) => (&n.verb, Target::Path(&n.path)),
        _ => {
            return Err(Status::bad_request(
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
    };
    Ok(match chain.authorize(&Attributes { user, verb, target }).await {
        Decision::Allow { reason } => with_reason(json!({ "allowed": true }), reason),
        Decision::Deny { reason } => with_reason(json!({ "allowed": false, "denied": true }), reason),
        Decision::NoOpinion { reason } => with_reason(json!({ "allowed": false }), reason),
        Decision::Failed { error, denied: false } => json!({ "allowed": false, "evaluationError": error }),
        Decision::Failed { error, denied: true } => {
            json!({ "allowed": false, "denied": true, "evaluationError": error })
        }
    })
}

fn with_reason(mut status: Value, reason: String) -> Value {
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

/// Answers a `SubjectAccessReview`.
pub async fn subject_access(chain: &Chain, review: Value) -> Result<Value, Status> {
    let mut spec = spec(&review)?;
    if spec.user.is_empty() && spec.groups.is_empty() {
        return Err(Status::bad_request("at least one of user or group must be specified"));
    }
    let user = Identity::impersonated(
        mem::take(&mut spec.user),
        mem::take(&mut spec.uid),
        mem::take(&mut spec.groups),
        mem::take(&mut spec.extra),
    );
    let status = status(chain, &user, &spec).await?;
    Ok(answered(review, status))
}

/// Answers a `LocalSubjectAccessReview` in `namespace`.
pub async fn local_subject_access(chain: &Chain, namespace: &str, review: Value) -> Result<Value, Status> {
    let Some(resource) = spec(&review)?.resource_attributes else {
        return Err(Status::bad_request("resourceAttributes must be specified"));
    };
    if resource.namespace != namespace {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    subject_access(chain, review).await
}

/// Answers a `SelfSubjectAccessReview` of `user`.
pub async fn self_subject_access(chain: &Chain, user: &Identity, review: Value) -> Result<Value, Status> {
    let status = status(chain, user, &spec(&review)?).await?;
    Ok(answered(review, status))
}

/// Answers a `SelfSubjectRulesReview` of `user`.
pub fn self_subject_rules(chain: &Chain, user: &Identity, mut review: Value) -> Result<Value, Status> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut found = chain.rules_for(user, namespace);
    // The answer does not repeat the question.
    review["spec"] = json!({});
    if user.in_group(crate::identity::MASTERS) {
        found.rules.push(super::rule::everything());
        found.rules.push(super::rule::every_path());
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in &found.rules {
        if rule.non_resource_urls.is_empty() {
            resources.push(json!(rule));
        } else {
            paths.push(json!(rule));
        }
    }
    let mut status = json!({
        "resourceRules": resources,
        "nonResourceRules": paths,
        "incomplete": !found.errors.is_empty(),
    });
    if !found.errors.is_empty() {
        status["evaluationError"] = found.errors.join(", ").into();
    }
    Ok(answered(review, status))
}

/// Answers a `SelfSubjectReview` (`authentication.k8s.io`): who am I.
pub fn self_subject(user: &Identity, review: Value) -> Value {
    answered(review, json!({ "userInfo": user_info(user) }))
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
