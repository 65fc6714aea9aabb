//! Configuration, nodes, namespaces, events and the small kinds.

use std::collections::HashSet;

use serde_json::Value;

use super::{At, resources, scheduling, service};
use crate::field::{Error, Errors, Path};
use crate::meta;
use crate::names;
use crate::quantity::Quantity;

/// The most that a ConfigMap or a Secret holds.
const MAX_DATA: usize = 1024 * 1024;

/// How many bytes base64 stands for.
fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

fn keys(at: &At<'_>, errors: &mut Errors) {
    for (key, entry) in at.entries() {
        for detail in names::config_key(key) {
            errors.push(Error::invalid(&entry.path(), key, detail));
        }
    }
}

pub(crate) fn config_map(object: &Value) -> Errors {
    let root = At::root(object);
    let (data, binary) = (root.get("data"), root.get("binaryData"));
    let mut errors = Vec::new();
    keys(&data, &mut errors);
    keys(&binary, &mut errors);
    for (key, entry) in data.entries().filter(|(k, _)| binary.has(k)) {
        errors.push(Error::invalid(&entry.path(), key, "duplicate of key present in binaryData"));
    }
    let text: usize = data.entries().map(|(_, v)| v.text().len()).sum();
    let bytes: usize = binary.entries().map(|(_, v)| decoded_len(v.text())).sum();
    if text + bytes > MAX_DATA {
        errors.push(Error::too_long(&Path::root(), MAX_DATA));
    }
    errors
}

/// What is marked immutable stays as it is.
fn kept_if_immutable(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    if old["immutable"] != true {
        return;
    }
    let root = At::root(new);
    let detail = "field is immutable when `immutable` is set";
    if new["immutable"] != true {
        root.get("immutable").forbidden(errors, detail);
    }
    for field in fields {
        if new.get(field) != old.get(field) {
            root.get(field).forbidden(errors, detail);
        }
    }
}

pub(crate) fn config_map_update(new: &Value, old: &Value) -> Errors {
    let mut errors = config_map(new);
    kept_if_immutable(new, old, &["data", "binaryData"], &mut errors);
    errors
}

pub(crate) fn secret(object: &Value) -> Errors {
    let root = At::root(object);
    let data = root.get("data");
    let mut errors = Vec::new();
    keys(&data, &mut errors);
    if data.entries().map(|(_, v)| decoded_len(v.text())).sum::<usize>() > MAX_DATA {
        errors.push(Error::too_long(&data.path(), MAX_DATA));
    }
    let mut need = |key: &str| {
        if !data.has(key) {
            errors.push(Error::required(&data.path().key(key), ""));
        }
    };
    match root.get("type").text() {
        "kubernetes.io/service-account-token"
            if meta::annotation(object, meta::SERVICE_ACCOUNT_NAME).is_none_or(str::is_empty) =>
        {
            let path = Path::new("metadata").child("annotations").key(meta::SERVICE_ACCOUNT_NAME);
            errors.push(Error::required(&path, ""));
        }
        "kubernetes.io/dockercfg" => docker_config(&data, ".dockercfg", &mut errors),
        "kubernetes.io/dockerconfigjson" => docker_config(&data, ".dockerconfigjson", &mut errors),
        "kubernetes.io/basic-auth" if !data.has("username") && !data.has("password") => {
            need("username");
            need("password");
        }
        "kubernetes.io/ssh-auth" if data.get("ssh-privatekey").text().is_empty() => {
            errors.push(Error::required(&data.path().key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        _ => {}
    }
    errors
}

fn docker_config(data: &At<'_>, key: &str, errors: &mut Errors) {
    use base64::Engine as _;
    let path = data.path().key(key);
    if !data.has(key) {
        return errors.push(Error::required(&path, ""));
    }
    let text = data.get(key).text().to_owned();
    let bytes = base64::prelude::BASE64_STANDARD.decode(text).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) {
        errors.push(Error::invalid(&path, "<secret contents redacted>", error.to_string()));
    }
}

pub(crate) fn secret_update(new: &Value, old: &Value) -> Errors {
    let mut errors = secret(new);
    let root = At::root(new);
    root.get("type").unchanged(&mut errors, &old["type"]);
    kept_if_immutable(new, old, &["data"], &mut errors);
    errors
}

pub(crate) fn node(object: &Value) -> Errors {
    let root = At::root(object);
    let (spec, status) = (root.get("spec"), root.get("status"));
    let mut errors = Vec::new();
    scheduling::taints(&spec.get("taints"), &mut errors);
    resources::amounts(&status.get("capacity"), &mut errors);
    resources::amounts(&status.get("allocatable"), &mut errors);
    let ranges = spec.get("podCIDRs");
    let mut seen = HashSet::new();
    for range in ranges.items() {
        service::cidr(&range, &mut errors);
        if !seen.insert(range.text().to_owned()) {
            range.duplicate(&mut errors);
        }
    }
    if ranges.len() > 2 {
        ranges.invalid(&mut errors, "may specify no more than one CIDR for each IP family");
    }
    errors
}

/// A node's place in the network and with its provider are set once.
pub(crate) fn node_update(new: &Value, old: &Value) -> Errors {
    let mut errors = node(new);
    let root = At::root(new);
    let spec = root.get("spec");
    for (field, what) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
        let was = &old["spec"][field];
        if !was.is_null() && spec.get(field).value() != was {
            let detail = format!("node updates may not change {what} except from \"\" to valid");
            spec.get(field).forbidden(&mut errors, detail);
        }
    }
    let status = root.get("status");
    let mut seen = HashSet::new();
    for address in status.get("addresses").items() {
        if !seen.insert(address.value().to_string()) {
            address.duplicate(&mut errors);
        }
    }
    let may_change = ["podCIDR", "podCIDRs", "providerID", "unschedulable", "taints", "configSource"];
    let fixed = |o: &Value| {
        let fields = o["spec"].as_object().cloned().unwrap_or_default();
        fields.into_iter().filter(|(k, _)| !may_change.contains(&k.as_str())).collect::<Vec<_>>()
    };
    if fixed(new) != fixed(old) {
        let detail = "node updates may only change labels, taints, or capacity (or configSource, if the \
                      DynamicKubeletConfig feature gate is enabled)";
        errors.push(Error::forbidden(&Path::root(), detail));
    }
    errors
}

fn namespace_finalizers(at: &At<'_>, errors: &mut Errors) {
    for finalizer in at.items() {
        finalizer.all_invalid(errors, names::label_key(finalizer.text()));
        let standard = ["kubernetes", meta::ORPHAN_FINALIZER, meta::FOREGROUND_FINALIZER];
        if !finalizer.text().contains('/') && !standard.contains(&finalizer.text()) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            finalizer.invalid(errors, detail);
        }
    }
}

pub(crate) fn namespace(object: &Value) -> Errors {
    let root = At::root(object);
    let mut errors = Vec::new();
    namespace_finalizers(&root.get("spec").get("finalizers"), &mut errors);
    errors
}

pub(crate) fn namespace_finalize(new: &Value, _old: &Value) -> Errors {
    namespace(new)
}

pub(crate) fn namespace_status(new: &Value, _old: &Value) -> Errors {
    let root = At::root(new);
    let status = root.get("status");
    let phase = status.get("phase");
    let mut errors = Vec::new();
    let (word, whether) =
        if meta::is_terminating(new) { ("Terminating", "not empty") } else { ("Active", "empty") };
    if phase.text() != word {
        phase.invalid(&mut errors, format!("may only be '{word}' if `deletionTimestamp` is {whether}"));
    }
    errors
}

const MAX_EVENT_WORD: usize = 128;
const MAX_NOTE: usize = 1024;

/// The rules of both groups: an old event, or one that has the newer fields all.
pub(crate) fn event(object: &Value) -> Errors {
    let root = At::root(object);
    let mut errors = Vec::new();
    let namespace = meta::namespace(object);
    let involved = root.get("involvedObject");
    let about = involved.get("namespace");
    let dated = root.has("eventTime");
    let agrees = match (dated, about.text()) {
        (false, "") => matches!(namespace, "" | "default"),
        (true, "") => matches!(namespace, "" | "default" | "kube-system"),
        (_, named) => named == namespace,
    };
    if !agrees {
        let detail = "does not match event.namespace";
        errors.push(Error::invalid(&about.path(), about.text(), detail));
    }
    if dated {
        let controller = root.get("reportingComponent");
        let path = Path::new("reportingController");
        if controller.text().is_empty() {
            errors.push(Error::required(&path, ""));
        }
        for detail in names::label_key(controller.text()) {
            errors.push(Error::invalid(&path, controller.text(), detail));
        }
        for field in ["reportingInstance", "action", "reason"] {
            let at = root.get(field);
            if at.needed(&mut errors).is_some_and(|t| t.len() > MAX_EVENT_WORD) {
                let detail = format!("can have at most {MAX_EVENT_WORD} characters");
                errors.push(Error::invalid(&at.path(), "", detail));
            }
        }
        let message = root.get("message");
        if message.text().len() > MAX_NOTE {
            let detail = format!("can have at most {MAX_NOTE} characters");
            errors.push(Error::invalid(&message.path(), "", detail));
        }
    }
    errors
}

pub(crate) fn event_update(new: &Value, _old: &Value) -> Errors {
    event(new)
}

/// `events.k8s.io` takes no old events.
pub(crate) fn dated_event(object: &Value) -> Errors {
    let mut errors = event(object);
    let root = At::root(object);
    event_series(&root, &mut errors);
    if !root.has("eventTime") {
        root.get("eventTime").required(&mut errors, "");
    }
    let kind = root.get("type");
    if !matches!(kind.text(), "Normal" | "Warning") {
        let detail = format!("has invalid value: {}", kind.text());
        errors.push(Error::invalid(&kind.path(), "", detail));
    }
    for field in ["firstTimestamp", "lastTimestamp", "count"] {
        if let Some(old) = root.opt(field) {
            errors.push(Error::invalid(&old.path(), "", "needs to be unset"));
        }
    }
    let source = root.get("source");
    if source.entries().next().is_some() {
        errors.push(Error::invalid(&source.path(), "", "needs to be unset"));
    }
    errors
}

fn event_series(root: &At<'_>, errors: &mut Errors) {
    let Some(series) = root.opt("series") else { return };
    if series.get("count").number().unwrap_or(0) < 2 {
        errors.push(Error::invalid(&Path::new("series.count"), "", "should be at least 2"));
    }
    if !series.has("lastObservedTime") {
        errors.push(Error::required(&Path::new("series.lastObservedTime"), ""));
    }
}

/// Only the series of a dated event goes on.
pub(crate) fn dated_event_update(new: &Value, old: &Value) -> Errors {
    let mut errors = event(new);
    let root = At::root(new);
    if new.get("series") != old.get("series") {
        event_series(&root, &mut errors);
    }
    for field in [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingComponent",
        "reportingInstance",
    ] {
        root.get(field).unchanged(&mut errors, &old[field]);
    }
    errors
}

const MAX_USER_PRIORITY: i64 = 1_000_000_000;

/// The classes that the system needs, and what they are worth.
pub(crate) const SYSTEM_PRIORITIES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(crate) fn priority_class(object: &Value) -> Errors {
    let root = At::root(object);
    let metadata = root.get("metadata");
    let name = metadata.get("name");
    let value = root.get("value");
    let mut errors = Vec::new();
    if name.text().starts_with("system-") {
        let known = SYSTEM_PRIORITIES.iter().find(|(n, _)| *n == name.text());
        let wrong = match known {
            None => Some(format!("{} is not a known system priority class", name.text())),
            Some((n, v)) if value.number() != Some(*v) => {
                Some(format!("value of {n} PriorityClass must be {v}"))
            }
            Some((n, _)) if root.get("globalDefault").is_true() => {
                Some(format!("globalDefault of {n} PriorityClass must be false"))
            }
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            let detail =
                "priority class names with 'system-' prefix are reserved for system use only. error:";
            name.forbidden(&mut errors, format!("{detail} {wrong}"));
        }
    } else if value.number().is_some_and(|v| v > MAX_USER_PRIORITY) {
        let detail = format!("maximum allowed value of a user defined priority is {MAX_USER_PRIORITY}");
        value.forbidden(&mut errors, detail);
    }
    if let Some(policy) = root.opt("preemptionPolicy") {
        policy.needed_of(&mut errors, &["PreemptLowerPriority", "Never"]);
    }
    errors
}

pub(crate) fn priority_class_update(new: &Value, old: &Value) -> Errors {
    let root = At::root(new);
    let mut errors = Vec::new();
    if new["value"] != old["value"] {
        errors.push(Error::forbidden(&Path::new("value"), "may not be changed in an update."));
    }
    root.get("preemptionPolicy").unchanged(&mut errors, &old["preemptionPolicy"]);
    errors
}

/// What the API itself limits.
const LIMITED: [&str; 3] = ["Pod", "Container", "PersistentVolumeClaim"];

/// Which amounts may not be more than which: their lists, where it is told, whose amount is shown, and what both are called.
const IN_ORDER: [(&str, &str, &str, &str, &str, &str); 6] = [
    ("min", "max", "min", "min", "min value", "max value"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest", "min value", "default request value"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest", "default request value", "max value"),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value",
        "default limit value",
    ),
    ("min", "default", "default", "min", "min value", "default value"),
    ("default", "max", "default", "max", "default value", "max value"),
];

pub(crate) fn limit_range(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for limit in spec.get("limits").items() {
        let kind = limit.get("type");
        let wrong = names::label_key(kind.text());
        let standard = kind.text().contains('/') || LIMITED.contains(&kind.text());
        if wrong.is_empty() && !standard {
            kind.invalid(&mut errors, "must be a standard limit type or fully qualified");
        }
        kind.all_invalid(&mut errors, wrong);
        if !seen.insert(kind.text().to_owned()) {
            kind.duplicate(&mut errors);
        }
        limit_amounts(&limit, kind.text(), &mut errors);
    }
    errors
}

fn limit_amounts(limit: &At<'_>, kind: &str, errors: &mut Errors) {
    let defaults = ["default", "defaultRequest"];
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let amounts = limit.get(list);
        if kind == "Pod" && defaults.contains(&list) {
            if amounts.entries().next().is_some() {
                amounts.forbidden(errors, "may not be specified when `type` is 'Pod'");
            }
        } else {
            resources::amounts(&amounts, errors);
        }
    }
    let amount = |list: &str, resource: &str| {
        let text = limit.value()[list]
            .get(resource)?
            .as_str()
            .filter(|_| kind != "Pod" || !defaults.contains(&list));
        Quantity::parse(text?).ok()
    };
    if kind == "PersistentVolumeClaim" && amount("min", "storage").or(amount("max", "storage")).is_none() {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        limit.get("limits").required(errors, why);
    }
    for (less, more, at, shown, what, than) in IN_ORDER {
        for (resource, _) in limit.get(less).entries() {
            if let (Some(less), Some(more)) = (amount(less, resource), amount(more, resource))
                && less > more
            {
                let detail = format!("{what} {less} is greater than {than} {more}");
                let shown = amount(shown, resource).map(|amount| amount.to_string());
                errors.push(Error::invalid(&limit.path().child(at).key(resource), shown, detail));
            }
        }
    }
    for (resource, entry) in limit.get("maxLimitRequestRatio").entries() {
        let one = Quantity::parse("1").ok();
        if let Some(ratio) = amount("maxLimitRequestRatio", resource).filter(|ratio| Some(*ratio) < one) {
            entry.invalid(errors, format!("ratio {ratio} is less than 1"));
        }
    }
    for (resource, entry) in limit.get("defaultRequest").entries() {
        if resources::may_overcommit(resource) {
            continue;
        }
        if let (Some(most), Some(asked)) = (amount("default", resource), amount("defaultRequest", resource))
            && most != asked
        {
            let detail =
                format!("default value {most} must equal to defaultRequest value {asked} in {resource}");
            entry.invalid(errors, detail);
        }
    }
}

pub(crate) fn limit_range_update(new: &Value, _old: &Value) -> Errors {
    limit_range(new)
}
