//! Kinds of which the old version calls only a few fields differently.

use serde_json::{Map, Value, json};

use super::{annotate, each, object, rename, take_annotation};
use crate::meta::{self, as_map};

/// `extensions/v1beta1` and `networking.k8s.io/v1beta1`: a backend was a service alone.
pub(crate) fn ingress_to(_version: &str, ingress: &mut Value) {
    let Some(spec) = object(as_map(ingress), "spec") else { return };
    rename(spec, "backend", "defaultBackend");
    backends(spec, "defaultBackend", |backend| {
        let name = backend.remove("serviceName").unwrap_or_default();
        let port = backend.remove("servicePort").unwrap_or_default();
        let named = name.as_str().is_some_and(|name| !name.is_empty());
        let port = match port {
            Value::String(name) if name.is_empty() => Some(json!({})),
            Value::String(name) => Some(json!({"name": name})),
            Value::Number(number) if number.as_i64() != Some(0) => Some(json!({"number": number})),
            _ => None,
        };
        if named || port.is_some() {
            let name = if named { name } else { "".into() };
            let service = json!({"name": name, "port": port.unwrap_or_else(|| json!({}))});
            backend.insert("service".to_owned(), service);
        }
    });
}

pub(crate) fn ingress_from(_version: &str, ingress: &mut Value) {
    let Some(spec) = object(as_map(ingress), "spec") else { return };
    backends(spec, "defaultBackend", |backend| {
        let Some(service) = backend.remove("service") else { return };
        if let Some(name) = service["name"].as_str().filter(|name| !name.is_empty()) {
            backend.insert("serviceName".to_owned(), name.into());
        }
        let port = &service["port"];
        let port = match port["name"].as_str().filter(|name| !name.is_empty()) {
            Some(name) => name.into(),
            None => port.get("number").cloned().unwrap_or_else(|| 0.into()),
        };
        // A service of neither name nor port was one with an empty name for its port.
        let nothing = port == 0 && !backend.contains_key("serviceName");
        backend.insert("servicePort".to_owned(), if nothing { "".into() } else { port });
    });
    rename(spec, "defaultBackend", "backend");
}

/// Changes the backends of an ingress, that of all that no rule matches and those of the paths.
fn backends(spec: &mut Map<String, Value>, default: &str, change: impl Fn(&mut Map<String, Value>)) {
    if let Some(backend) = object(spec, default) {
        change(backend);
    }
    for rule in each(spec, "rules") {
        let Some(http) = object(rule, "http") else { continue };
        for path in each(http, "paths") {
            if let Some(backend) = object(path, "backend") {
                change(backend);
            }
        }
    }
}

/// Tells that webhooks came in `admissionregistration.k8s.io/v1beta1`, which asked less of them.
const LENIENT: &str = "deprecated.admissionregistration.k8s.io/v1beta1";

/// Whether stored webhooks are held to the rules of `v1beta1`.
pub(crate) fn are_lenient(configuration: &Value) -> bool {
    meta::annotation(configuration, LENIENT).is_some()
}

pub(crate) fn webhooks_to(version: &str, configuration: &mut Value) {
    if version == "v1beta1" {
        annotate(configuration, LENIENT, "true".to_owned());
    }
}

pub(crate) fn webhooks_from(version: &str, configuration: &mut Value) {
    if version == "v1beta1" {
        take_annotation(configuration, LENIENT);
    }
}

/// What stands for an empty selector of the other version: in `policy/v1beta1` it selects nothing, in
/// `policy/v1` everything.
fn stand_in(operator: &str) -> Value {
    let key = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";
    json!({"matchExpressions": [{"key": key, "operator": operator}]})
}

fn reselect(budget: &mut Value, nothing: &Value, everything: &Value, becomes: (&Value, &Value)) {
    let Some(selector) = object(as_map(budget), "spec").and_then(|spec| spec.get_mut("selector")) else {
        return;
    };
    if selector == nothing {
        *selector = becomes.0.clone();
    } else if selector == everything {
        *selector = becomes.1.clone();
    }
}

pub(crate) fn budget_to(_version: &str, budget: &mut Value) {
    let empty = json!({});
    reselect(budget, &empty, &stand_in("DoesNotExist"), (&stand_in("Exists"), &empty));
}

pub(crate) fn budget_from(_version: &str, budget: &mut Value) {
    let empty = json!({});
    reselect(budget, &stand_in("Exists"), &empty, (&empty, &stand_in("DoesNotExist")));
}

const RBAC: &str = "rbac.authorization.k8s.io";
const RBAC_ALPHA: &str = "rbac.authorization.k8s.io/v1alpha1";

/// `rbac.authorization.k8s.io/v1alpha1`: subjects had a version instead of a group, and the user `*` was everybody who
/// had credentials.
pub(crate) fn binding_to(version: &str, binding: &mut Value) {
    if version != "v1alpha1" {
        return;
    }
    for subject in each(as_map(binding), "subjects") {
        let version = subject.remove("apiVersion");
        let kind = subject.get("kind").and_then(Value::as_str).unwrap_or_default();
        let group = match kind {
            "ServiceAccount" => "",
            "User" | "Group" => RBAC,
            _ => version
                .as_ref()
                .and_then(Value::as_str)
                .and_then(|v| v.split_once('/'))
                .map_or("", |(g, _)| g),
        };
        if kind == "User" && subject.get("name").is_some_and(|name| name == "*") {
            subject.insert("kind".to_owned(), "Group".into());
            subject.insert("name".to_owned(), "system:authenticated".into());
        }
        if !group.is_empty() {
            subject.insert("apiGroup".to_owned(), group.into());
        }
    }
}

pub(crate) fn binding_from(version: &str, binding: &mut Value) {
    if version != "v1alpha1" {
        return;
    }
    for subject in each(as_map(binding), "subjects") {
        let group = subject.remove("apiGroup");
        let group = group.as_ref().and_then(Value::as_str).unwrap_or_default();
        let version = match (subject.get("kind").and_then(Value::as_str).unwrap_or_default(), group) {
            ("ServiceAccount", "") => "v1".to_owned(),
            ("User" | "Group", RBAC) => RBAC_ALPHA.to_owned(),
            (_, "") => continue,
            (_, group) => format!("{group}/"),
        };
        subject.insert("apiVersion".to_owned(), version.into());
    }
}

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

/// `discovery.k8s.io/v1beta1`: zone and node were labels of an endpoint's topology.
pub(crate) fn slice_to(version: &str, slice: &mut Value) {
    if version != "v1beta1" {
        return;
    }
    for endpoint in each(as_map(slice), "endpoints") {
        let Some(Value::Object(mut topology)) = endpoint.remove("topology") else { continue };
        if let Some(zone) = topology.remove(ZONE) {
            endpoint.insert("zone".to_owned(), zone);
        }
        // One that differs from the node's name is kept as it is.
        if topology.get(HOST).is_some_and(|host| Some(host) == endpoint.get("nodeName")) {
            topology.remove(HOST);
        }
        if !topology.is_empty() {
            endpoint.insert("deprecatedTopology".to_owned(), topology.into());
        }
    }
}

pub(crate) fn slice_from(version: &str, slice: &mut Value) {
    if version != "v1beta1" {
        return;
    }
    for endpoint in each(as_map(slice), "endpoints") {
        let mut topology = match endpoint.remove("deprecatedTopology") {
            Some(Value::Object(topology)) => topology,
            _ => Map::new(),
        };
        if let Some(zone) = endpoint.remove("zone") {
            topology.insert(ZONE.to_owned(), zone);
        }
        if let (Some(node), false) = (endpoint.get("nodeName"), topology.contains_key(HOST)) {
            topology.insert(HOST.to_owned(), node.clone());
        }
        if !topology.is_empty() {
            endpoint.insert("topology".to_owned(), topology.into());
        }
    }
}

/// `authorization.k8s.io/v1beta1` had `group` for `groups`.
pub(crate) fn review_to(version: &str, review: &mut Value) {
    if version == "v1beta1"
        && let Some(spec) = object(as_map(review), "spec")
    {
        rename(spec, "group", "groups");
    }
}

pub(crate) fn review_from(version: &str, review: &mut Value) {
    if version == "v1beta1"
        && let Some(spec) = object(as_map(review), "spec")
    {
        rename(spec, "groups", "group");
    }
}

/// Says in `flowcontrol.apiserver.k8s.io/v1beta3` that no shares means none, where it was 30.
pub(crate) const PRESERVE_ZERO: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";

/// The first betas of `flowcontrol.apiserver.k8s.io` called shares assured.
pub(crate) fn level_to(version: &str, level: &mut Value) {
    let limited = |level: &mut Value, change: fn(&mut Map<String, Value>)| {
        let spec = object(as_map(level), "spec").and_then(|spec| object(spec, "limited"));
        spec.map(change);
    };
    match version {
        "v1beta1" | "v1beta2" => {
            limited(level, |l| rename(l, "assuredConcurrencyShares", "nominalConcurrencyShares"));
        }
        _ => drop(take_annotation(level, PRESERVE_ZERO)),
    }
}

pub(crate) fn level_from(version: &str, level: &mut Value) {
    let spec = object(as_map(level), "spec");
    let Some(limited) = spec.and_then(|spec| object(spec, "limited")) else { return };
    match version {
        "v1beta1" | "v1beta2" => rename(limited, "nominalConcurrencyShares", "assuredConcurrencyShares"),
        _ if limited.get("nominalConcurrencyShares").is_some_and(|shares| *shares == 0) => {
            annotate(level, PRESERVE_ZERO, String::new());
        }
        _ => {}
    }
}
