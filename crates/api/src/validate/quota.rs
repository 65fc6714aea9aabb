//! ResourceQuota.

use std::collections::BTreeSet;

use super::{At, resources};
use crate::field::{Error, Errors};
use crate::names;

/// What a quota bounds by whole numbers.
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// What a quota bounds under a name without a domain.
fn is_standard(name: &str) -> bool {
    name != "storage" && resources::is_standard(name)
}

/// A map of bounds or of what is used of them.
fn bounds(at: &At<'_>, errors: &mut Errors) {
    for (name, entry) in at.entries() {
        let mut wrong = names::label_key(name);
        if !name.contains('/') {
            if wrong.is_empty() && !resources::is_standard(name) {
                wrong.push("must be a standard resource type or fully qualified".to_owned());
            }
            if !is_standard(name) {
                wrong.push("must be a standard resource for quota".to_owned());
            }
        }
        errors.extend(wrong.into_iter().map(|detail| Error::invalid(&entry.path(), name, detail)));
        let amount = resources::amount(name, &entry, errors);
        if COUNTED.contains(&name) && amount.is_some_and(|a| !a.is_whole()) {
            entry.invalid(errors, "must be an integer");
        }
    }
}

const ONLY_EXISTS: &str = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
     ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
     ResourceQuotaScopeCrossNamespacePodAffinity";

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// Scopes that an object is in or not.
const UNVALUED: [&str; 5] =
    ["BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"];

/// Whether a scope can tell objects that are counted under `name` apart.
fn fits(scope: &str, name: &str) -> bool {
    let compute = || {
        matches!(name, "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory")
    };
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => name == "pods" || compute(),
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

/// What scopes have in common, however they are written; `at` is what errors name.
fn scopes(names: &[&str], spec: &At<'_>, at: &At<'_>, errors: &mut Errors) {
    let hard = spec.get("hard");
    for scope in names {
        for _ in hard.entries().filter(|(name, _)| is_standard(name) && !fits(scope, name)) {
            at.invalid(errors, "unsupported scope applied to resource");
        }
    }
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| names.contains(scope)) {
            at.invalid(errors, "conflicting scopes");
        }
    }
}

pub(crate) fn quota(object: &serde_json::Value) -> Errors {
    let root = At::root(object);
    let mut errors = Vec::new();
    let spec = root.get("spec");
    bounds(&spec.get("hard"), &mut errors);

    let plain = spec.get("scopes");
    let named: Vec<&str> = plain.items().map(|scope| scope.value().as_str().unwrap_or_default()).collect();
    for _ in named.iter().filter(|scope| !SCOPES.contains(scope)) {
        plain.invalid(&mut errors, "unsupported scope");
    }
    scopes(&named, &spec, &plain, &mut errors);

    let selector = spec.get("scopeSelector");
    let expressions = selector.get("matchExpressions");
    let listed = crate::meta::items(expressions.value(), &[]).iter();
    let selected: Vec<&str> = listed.map(|e| crate::meta::text(e, &["scopeName"])).collect();
    for expression in expressions.items() {
        let (scope, operator, values) =
            (expression.get("scopeName"), expression.get("operator"), expression.get("values"));
        if !SCOPES.contains(&scope.text()) {
            scope.invalid(&mut errors, "unsupported scope");
        }
        if UNVALUED.contains(&scope.text()) && operator.text() != "Exists" {
            operator.invalid(&mut errors, ONLY_EXISTS);
        }
        match operator.text() {
            "In" | "NotIn" if values.len() == 0 => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                values.required(&mut errors, why);
            }
            "Exists" | "DoesNotExist" if values.len() > 0 => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                values.invalid(&mut errors, why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => operator.invalid(&mut errors, "not a valid selector operator"),
        }
    }
    scopes(&selected, &spec, &expressions, &mut errors);
    errors
}

pub(crate) fn quota_update(new: &serde_json::Value, old: &serde_json::Value) -> Errors {
    let mut errors = quota(new);
    let set = |object: &serde_json::Value| -> BTreeSet<String> {
        let scopes = crate::meta::items(object, &["spec", "scopes"]).iter();
        scopes.filter_map(|scope| scope.as_str().map(str::to_owned)).collect()
    };
    if set(new) != set(old) {
        let root = At::root(new);
        root.get("spec").get("scopes").invalid(&mut errors, "field is immutable");
    }
    errors
}

pub(crate) fn quota_status(new: &serde_json::Value, _old: &serde_json::Value) -> Errors {
    let root = At::root(new);
    let status = root.get("status");
    let mut errors = Vec::new();
    bounds(&status.get("hard"), &mut errors);
    bounds(&status.get("used"), &mut errors);
    errors
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
