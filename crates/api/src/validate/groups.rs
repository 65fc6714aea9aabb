//! Groups of pods that are scheduled together: `Workload` and `PodGroup`.
//!
//! What upstream has behind gates that are off (trees of groups, constraints by topology, preemption policies of
//! groups) is refused as it refuses it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{At, dns_label, dns_subdomain};
use crate::field::{Error, Errors};
use crate::meta;
use crate::names;

const MAX_TEMPLATES: usize = 8;
const MAX_CLAIMS: usize = 4;
const MAX_PRIORITY: i64 = 1_000_000_000;

/// What of a group, or of its template, stays as it was made.
const FIXED: [&str; 6] = [
    "schedulingConstraints",
    "resourceClaims",
    "disruptionMode",
    "priorityClassName",
    "priority",
    "preemptionPolicy",
];

pub(crate) fn workload(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    if let Some(owner) = spec.opt("controllerRef") {
        owner.get("apiGroup").rule(&mut errors, dns_subdomain);
        for field in ["kind", "name"] {
            owner.get(field).needed_as(&mut errors, |text| names::path_segment(text, false));
        }
    }
    one_of(&spec, &["podGroupTemplates", "compositePodGroupTemplates"], &mut errors);
    gated(&spec, "compositePodGroupTemplates", &mut errors);
    let templates = spec.get("podGroupTemplates");
    if by_name(&templates, MAX_TEMPLATES, &mut errors) {
        for template in templates.items() {
            template.get("name").needed_as(&mut errors, dns_label);
            group(&template, &mut errors);
        }
    }
    let priority = |template: &Value| [template["priorityClassName"].clone(), template["priority"].clone()];
    let mut priorities = meta::items(templates.value(), &[]).iter().map(priority);
    if priorities.next().is_some_and(|first| priorities.any(|other| other != first)) {
        errors.push(Error::invalid(&spec.path(), Value::Null, "detected multiple priority configurations"));
    }
    errors
}

pub(crate) fn workload_update(new: &Value, old: &Value) -> Errors {
    let mut errors = if new["spec"] == old["spec"] { Vec::new() } else { workload(new) };
    let root = At::root(new);
    let spec = root.get("spec");
    fixed(&spec, &old["spec"], "controllerRef", &mut errors);
    let templates = spec.get("podGroupTemplates");
    let before = meta::items(old, &["spec", "podGroupTemplates"]);
    let named = |of: &Value, name: &Value| of["name"] == *name;
    for template in templates.items() {
        match before.iter().find(|b| named(b, &template.value()["name"])) {
            Some(before) => group_update(&template, before, &mut errors),
            None => template.forbidden(&mut errors, "item may not be added"),
        }
    }
    let now = meta::items(templates.value(), &[]);
    for _ in before.iter().filter(|b| !now.iter().any(|n| named(n, &b["name"]))) {
        templates.forbidden(&mut errors, "item may not be removed");
    }
    errors
}

pub(crate) fn pod_group(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    gated(&spec, "parentCompositePodGroupName", &mut errors);
    if let Some(workload) = spec.opt("workloadRef") {
        workload.get("workloadName").needed_as(&mut errors, dns_subdomain);
        workload.get("templateName").needed_as(&mut errors, dns_label);
    }
    group(&spec, &mut errors);
    errors
}

pub(crate) fn pod_group_update(new: &Value, old: &Value) -> Errors {
    let mut errors = if new["spec"] == old["spec"] { Vec::new() } else { pod_group(new) };
    let root = At::root(new);
    let spec = root.get("spec");
    for field in ["parentCompositePodGroupName", "workloadRef"] {
        fixed(&spec, &old["spec"], field, &mut errors);
    }
    group_update(&spec, &old["spec"], &mut errors);
    errors
}

pub(crate) fn pod_group_status(new: &Value, _old: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(new);
    let status = root.get("status");
    super::conditions(&status.get("conditions"), &mut errors);
    let claims = status.get("resourceClaimStatuses");
    if by_name(&claims, MAX_CLAIMS, &mut errors) {
        let known = meta::items(new, &["spec", "resourceClaims"]);
        for claim in claims.items() {
            let name = claim.get("name");
            if !known.iter().any(|k| k["name"] == *name.value()) {
                name.invalid(&mut errors, "must match the name of an entry in `spec.resourceClaims`");
            }
            claim.get("resourceClaimName").rule(&mut errors, dns_subdomain);
        }
    }
    errors
}

/// What a group and a template of one have in common.
fn group(at: &At<'_>, errors: &mut Errors) {
    let policy = at.get("schedulingPolicy");
    one_of(&policy, &["basic", "gang"], errors);
    if let Some(gang) = policy.opt("gang") {
        let least = gang.get("minCount");
        match least.number().unwrap_or(0) {
            0 => least.required(errors, ""),
            count if count < 0 => least.invalid(errors, "must be greater than or equal to 1"),
            _ => {}
        }
    }
    gated(at, "schedulingConstraints", errors);
    gated(at, "preemptionPolicy", errors);
    let claims = at.get("resourceClaims");
    if by_name(&claims, MAX_CLAIMS, errors) {
        for claim in claims.items() {
            claim.get("name").needed_as(errors, dns_label);
            one_of(&claim, &["resourceClaimName", "resourceClaimTemplateName"], errors);
            for field in ["resourceClaimName", "resourceClaimTemplateName"] {
                claim.get(field).rule(errors, dns_subdomain);
            }
        }
    }
    at.opt("disruptionMode").inspect(|mode| one_of(mode, &["single", "all"], errors));
    at.get("priorityClassName").rule(errors, dns_subdomain);
    let priority = at.get("priority");
    if priority.number().is_some_and(|p| p > MAX_PRIORITY) {
        priority.invalid(errors, format!("must be less than or equal to {MAX_PRIORITY}"));
    }
}

fn group_update(at: &At<'_>, old: &Value, errors: &mut Errors) {
    let (policy, was) = (at.get("schedulingPolicy"), &old["schedulingPolicy"]);
    fixed(&policy, was, "basic", errors);
    let gang = policy.get("gang");
    match (was["gang"].is_null(), gang.value().is_null()) {
        (true, false) => whole(&gang, "field cannot be set once created", errors),
        (false, true) => whole(&gang, "field cannot be cleared once set", errors),
        _ => {}
    }
    for field in FIXED {
        fixed(at, old, field, errors);
    }
}

/// A field that stays as it was.
fn fixed(at: &At<'_>, old: &Value, field: &str, errors: &mut Errors) {
    let field_now = at.get(field);
    if *field_now.value() != old[field] {
        whole(&field_now, "field is immutable", errors);
    }
}

/// What is wrong with a field, whatever it holds.
fn whole(at: &At<'_>, detail: &str, errors: &mut Errors) {
    errors.push(Error::invalid(&at.path(), Value::Null, detail));
}

/// A field that nobody may set yet.
fn gated(at: &At<'_>, field: &str, errors: &mut Errors) {
    at.opt(field).inspect(|field| field.forbidden(errors, ""));
}

/// Exactly one of some fields.
fn one_of(at: &At<'_>, fields: &[&str], errors: &mut Errors) {
    let is_set = |field: &&str| at.has(field) && at.value()[*field] != json!([]);
    let set: Vec<&str> = fields.iter().copied().filter(is_set).collect();
    let all = || fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
    let (value, must) = match set.len() {
        0 => (String::new(), "must specify one of"),
        1 => return,
        _ => (format!("{{{}}}", set.join(", ")), "must specify exactly one of"),
    };
    errors.push(Error::invalid(&at.path(), value, format!("{must}: {}", all())));
}

/// No more than `max` items, no two of one name. Tells whether there are few enough to look at.
fn by_name(list: &At<'_>, max: usize, errors: &mut Errors) -> bool {
    if list.len() > max {
        errors.push(Error::too_many(&list.path(), list.len(), max));
        return false;
    }
    let mut seen = BTreeSet::new();
    for item in list.items() {
        if !seen.insert(item.get("name").text().to_owned()) {
            item.duplicate(errors);
        }
    }
    true
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
