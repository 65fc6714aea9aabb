//! Where a pod may run: affinity, tolerations, spreading.

use std::collections::HashSet;

use super::{At, NOT_POSITIVE, dns_label, dns_subdomain, label_requirement, label_selector};
use crate::field::{Error, Errors};
use crate::meta::items;
use crate::names;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
const UNSELECTED: &str = "must not be specified when labelSelector is not set";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(at: &At<'_>, errors: &mut Errors) {
    let node = at.get("nodeAffinity");
    if let Some(required) = node.opt(REQUIRED) {
        node_selector(&required, errors);
    }
    for term in node.get(PREFERRED).items() {
        weight(&term, errors);
        node_term(&term.get("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = at.get(kind);
        for term in pods.get(REQUIRED).items() {
            pod_term(&term, errors);
        }
        for term in pods.get(PREFERRED).items() {
            weight(&term, errors);
            pod_term(&term.get("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &At<'_>, errors: &mut Errors) {
    let weight = term.get("weight");
    if !(1..=100).contains(&weight.number().unwrap_or(0)) {
        weight.invalid(errors, "must be in the range 1-100");
    }
}

pub(super) fn node_selector(at: &At<'_>, errors: &mut Errors) {
    let terms = at.get("nodeSelectorTerms");
    if terms.len() == 0 {
        terms.required(errors, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_term(&term, errors);
    }
}

fn node_term(at: &At<'_>, errors: &mut Errors) {
    for requirement in at.get("matchExpressions").items() {
        label_requirement(&requirement, errors, |errors| {
            let values = requirement.get("values");
            let compares = matches!(requirement.get("operator").text(), "Gt" | "Lt");
            if compares && values.len() != 1 {
                values.required(errors, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            compares
        });
    }
    for requirement in at.get("matchFields").items() {
        let values = requirement.get("values");
        match requirement.get("operator").text() {
            "In" | "NotIn" if values.len() != 1 => {
                let detail =
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                values.required(errors, detail);
            }
            "In" | "NotIn" => {}
            _ => requirement.get("operator").invalid(errors, "not a valid selector operator"),
        }
        if requirement.get("key").text() == "metadata.name" {
            for value in values.items() {
                value.all_invalid(errors, dns_subdomain(value.text()));
            }
        } else {
            requirement.get("key").invalid(errors, "not a valid field selector key");
        }
    }
}

fn pod_term(at: &At<'_>, errors: &mut Errors) {
    for selector in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = at.opt(selector) {
            label_selector(&selector, errors);
        }
    }
    for namespace in at.get("namespaces").items() {
        for detail in dns_label(namespace.text()) {
            errors.push(Error::invalid(&at.get("namespace").path(), namespace.text(), detail));
        }
    }
    let selector = at.opt("labelSelector");
    for keys in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = at.get(keys);
        if keys.len() > 0 && selector.is_none() {
            keys.forbidden(errors, UNSELECTED);
        } else {
            keys.items().for_each(|key| key.all_invalid(errors, names::label_key(key.text())));
        }
    }
    let matched = at.get("matchLabelKeys");
    if let Some(selector) = &selector {
        said_twice(at, &matched, selector, errors);
    }
    for (i, key) in matched.items().enumerate() {
        if at.get("mismatchLabelKeys").items().any(|other| other.text() == key.value()) {
            let path = at.path().child("matchLabelKeys").index(i);
            errors.push(Error::invalid(
                &path,
                key.value().clone(),
                "exists in both matchLabelKeys and mismatchLabelKeys",
            ));
        }
    }
    let key = at.get("topologyKey");
    if key.text().is_empty() {
        key.required(errors, "can not be empty");
    }
    for wrong in names::label_key(key.text()) {
        errors.push(Error::invalid(&key.path(), key.text(), wrong));
    }
}

/// Keys that a selector has of its own: the last mention of each is what the API server added for it.
fn said_twice(at: &At<'_>, keys: &At<'_>, selector: &At<'_>, errors: &mut Errors) {
    let mut seen: HashSet<&str> =
        selector.value()["matchLabels"].as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
    for expression in items(selector.value(), &["matchExpressions"]) {
        let key = expression["key"].as_str().unwrap_or_default();
        let place = items(keys.value(), &[]).iter().rposition(|k| k == key);
        if let Some(place) = place.filter(|_| seen.contains(key)) {
            errors.push(Error::invalid(
                &at.path().index(place),
                key,
                "exists in both matchLabelKeys and labelSelector",
            ));
        }
        seen.insert(key);
    }
}

fn topology_key(at: &At<'_>, errors: &mut Errors) {
    if at.text().is_empty() {
        at.required(errors, "can not be empty");
    } else {
        at.all_invalid(errors, names::label_key(at.text()));
    }
}

pub(super) fn tolerations(at: &At<'_>, errors: &mut Errors) {
    for toleration in at.items() {
        let (key, operator, effect) =
            (toleration.get("key"), toleration.get("operator"), toleration.get("effect"));
        key.rule(errors, names::label_key);
        if key.text().is_empty() && operator.text() != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Error::invalid(&operator.path(), operator.text(), detail));
        }
        if toleration.has("tolerationSeconds") && effect.text() != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Error::invalid(&effect.path(), effect.text(), detail));
        }
        let value = toleration.get("value").text();
        match operator.text() {
            "" | "Equal" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.push(Error::invalid(&operator.path(), value, wrong.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(Error::invalid(&operator.path(), value, detail));
            }
            "Exists" => {}
            _ => operator.one_of(errors, &["Equal", "Exists"]),
        }
        if !effect.text().is_empty() {
            effect.one_of(errors, EFFECTS);
        }
    }
}

/// The taints of a node.
pub(super) fn taints(at: &At<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for taint in at.items() {
        let key = taint.get("key");
        key.all_invalid(errors, names::label_key(key.text()));
        let value = taint.get("value");
        let wrong = names::label_value(value.text());
        if !wrong.is_empty() {
            value.invalid(errors, wrong.join(";"));
        }
        taint.get("effect").needed_of(errors, EFFECTS);
        if !seen.insert((key.text().to_owned(), taint.get("effect").text().to_owned())) {
            let mut duplicate = Error::duplicate(&taint.path(), taint.value().clone());
            duplicate.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(duplicate);
        }
    }
}

pub(super) fn spread(at: &At<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for constraint in at.items() {
        let skew = constraint.get("maxSkew");
        if skew.number().unwrap_or(0) <= 0 {
            skew.invalid(errors, NOT_POSITIVE);
        }
        let (key, action) = (constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"));
        topology_key(&key, errors);
        action.one_of(errors, &["DoNotSchedule", "ScheduleAnyway"]);
        let pair = format!("{{{}, {}}}", key.text(), action.text());
        if !seen.insert(pair.clone()) {
            let path = constraint.path().child("{topologyKey, whenUnsatisfiable}");
            errors.push(Error::duplicate(&path, pair));
        }
        let domains = constraint.get("minDomains");
        if domains.number().is_some_and(|n| n <= 0) {
            domains.invalid(errors, NOT_POSITIVE);
        }
        if domains.number().is_some() && action.text() != "DoNotSchedule" {
            let detail = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway";
            domains.invalid(errors, detail);
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint.opt(policy) {
                policy.one_of(errors, &["Honor", "Ignore"]);
            }
        }
        let (keys, selector) = (constraint.get("matchLabelKeys"), constraint.opt("labelSelector"));
        if keys.len() > 0 && selector.is_none() {
            keys.forbidden(errors, UNSELECTED);
        }
        keys.items().for_each(|key| key.all_invalid(errors, names::label_key(key.text())));
        if let Some(selector) = selector {
            said_twice(&keys, &keys, &selector, errors);
            label_selector(&selector, errors);
        }
    }
}
