//! Roles, bindings and reviews.

use serde_json::Value;

use super::{At, dns_subdomain, label_selector};
use crate::field::{Error, Errors};
use crate::names;

const RBAC: &str = "rbac.authorization.k8s.io";

fn rules(root: &At<'_>, namespaced: bool) -> Errors {
    let mut errors = Vec::new();
    for rule in root.get("rules").items() {
        let (verbs, urls) = (rule.get("verbs"), rule.get("nonResourceURLs"));
        if verbs.len() == 0 {
            verbs.required(&mut errors, "verbs must contain at least one value");
        }
        let (groups, resources) = (rule.get("apiGroups"), rule.get("resources"));
        if urls.len() > 0 {
            if namespaced {
                urls.invalid(&mut errors, "namespaced rules cannot apply to non-resource URLs");
            }
            if groups.len() > 0 || resources.len() > 0 || rule.get("resourceNames").len() > 0 {
                urls.invalid(
                    &mut errors,
                    "rules cannot apply to both regular resources and non-resource URLs",
                );
            }
            continue;
        }
        if groups.len() == 0 {
            groups.required(&mut errors, "resource rules must supply at least one api group");
        }
        if resources.len() == 0 {
            resources.required(&mut errors, "resource rules must supply at least one resource");
        }
    }
    errors
}

pub(crate) fn role(object: &Value) -> Errors {
    rules(&At::root(object), true)
}

pub(crate) fn role_update(new: &Value, _old: &Value) -> Errors {
    role(new)
}

pub(crate) fn cluster_role(object: &Value) -> Errors {
    let root = At::root(object);
    let mut errors = rules(&root, false);
    if let Some(aggregation) = root.opt("aggregationRule") {
        let selectors = aggregation.get("clusterRoleSelectors");
        if selectors.len() == 0 {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            selectors.required(&mut errors, detail);
        }
        selectors.items().for_each(|s| label_selector(&s, &mut errors));
    }
    errors
}

pub(crate) fn cluster_role_update(new: &Value, _old: &Value) -> Errors {
    cluster_role(new)
}

fn binding(root: &At<'_>, namespaced: bool) -> Errors {
    let mut errors = Vec::new();
    let role = root.get("roleRef");
    role.get("apiGroup").one_of(&mut errors, &[RBAC]);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    role.get("kind").one_of(&mut errors, kinds);
    role.get("name").needed_as(&mut errors, |n| names::path_segment(n, false));
    for subject in root.get("subjects").items() {
        let (kind, name, group) = (subject.get("kind"), subject.get("name"), subject.get("apiGroup"));
        name.needed(&mut errors);
        match kind.text() {
            "ServiceAccount" => {
                name.rule(&mut errors, dns_subdomain);
                if !group.text().is_empty() {
                    group.one_of(&mut errors, &[""]);
                }
                if !namespaced {
                    subject.get("namespace").needed(&mut errors);
                }
            }
            "User" | "Group" => {
                if group.text() != RBAC {
                    errors.push(Error::not_supported(&group.path(), group.text(), &[RBAC]));
                }
            }
            _ => kind.one_of(&mut errors, &["ServiceAccount", "User", "Group"]),
        }
    }
    errors
}

/// A binding never changes whose rules it gives.
fn keeps_role(new: &Value, old: &Value, errors: &mut Errors) {
    if new["roleRef"] != old["roleRef"] {
        At::root(new).get("roleRef").invalid(errors, "cannot change roleRef");
    }
}

pub(crate) fn role_binding(object: &Value) -> Errors {
    binding(&At::root(object), true)
}

pub(crate) fn role_binding_update(new: &Value, old: &Value) -> Errors {
    let mut errors = role_binding(new);
    keeps_role(new, old, &mut errors);
    errors
}

pub(crate) fn cluster_role_binding(object: &Value) -> Errors {
    binding(&At::root(object), false)
}

pub(crate) fn cluster_role_binding_update(new: &Value, old: &Value) -> Errors {
    let mut errors = cluster_role_binding(new);
    keeps_role(new, old, &mut errors);
    errors
}

/// The question of an access review: about a resource or about a path, never both.
fn attributes(spec: &At<'_>, errors: &mut Errors) {
    let (resource, path) = ("resourceAttributes", "nonResourceAttributes");
    match (spec.has(resource), spec.has(path)) {
        (true, true) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            spec.get(path).invalid(errors, detail);
        }
        (false, false) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            spec.get(resource).invalid(errors, detail);
        }
        _ => {}
    }
}

pub(crate) fn access_review(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    attributes(&spec, &mut errors);
    if spec.get("user").text().is_empty() && spec.get("groups").len() == 0 {
        let user = spec.get("user");
        errors.push(Error::invalid(&user.path(), "", "at least one of user or group must be specified"));
    }
    errors
}

pub(crate) fn self_access_review(object: &Value) -> Errors {
    let root = At::root(object);
    let mut errors = Vec::new();
    attributes(&root.get("spec"), &mut errors);
    errors
}

pub(crate) fn local_access_review(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = access_review(object);
    let asked = spec.get("resourceAttributes");
    let (inside, outside) = (asked.get("namespace"), root.get("metadata").get("namespace").text().to_owned());
    if spec.has("resourceAttributes") && inside.text() != outside {
        let detail = "must match metadata.namespace";
        errors.push(Error::invalid(&inside.path(), inside.text(), detail));
    }
    if let Some(path) = spec.opt("nonResourceAttributes") {
        path.invalid(&mut errors, "disallowed on this kind of request");
    }
    errors
}

/// A token's lifetime: between ten minutes and 2^32 seconds.
pub(crate) fn token_request(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let seconds = spec.get("expirationSeconds");
    let mut errors = Vec::new();
    if seconds.number().is_some_and(|s| s < 600) {
        seconds.invalid(&mut errors, "may not specify a duration less than 10 minutes");
    }
    if seconds.number().is_some_and(|s| s > 1 << 32) {
        seconds.invalid(&mut errors, "may not specify a duration larger than 2^32 seconds");
    }
    errors
}

/// Where a pod is to run.
pub(crate) fn pod_binding(object: &Value) -> Errors {
    let root = At::root(object);
    let target = root.get("target");
    let mut errors = Vec::new();
    let kind = target.get("kind");
    if !matches!(kind.text(), "" | "Node") {
        errors.push(Error::not_supported(&kind.path(), kind.text(), &["Node", "<empty>"]));
    }
    target.get("name").needed(&mut errors);
    errors
}
