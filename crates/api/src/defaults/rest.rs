//! Everything that is not made of pods.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::Fill::{Bool, Int, Text};
use super::{each, fill, is_text, list, object, spec};
use crate::meta::{as_map, child_mut, name};

const RBAC: &str = "rbac.authorization.k8s.io";

/// How long a client sticks to an endpoint: three hours.
const AFFINITY_SECONDS: i64 = 3 * 60 * 60;

pub fn service(_version: &str, service: &mut Value) {
    let spec = spec(service);
    fill(spec, &[("sessionAffinity", Text("None")), ("type", Text("ClusterIP"))]);
    if is_text(spec, "sessionAffinity", "None") {
        spec.remove("sessionAffinityConfig");
    } else if is_text(spec, "sessionAffinity", "ClientIP") {
        let config = child_mut(child_mut(spec, "sessionAffinityConfig"), "clientIP");
        fill(config, &[("timeoutSeconds", Int(AFFINITY_SECONDS))]);
    }
    for port in each(spec, "ports") {
        fill(port, &[("protocol", Text("TCP"))]);
        let unset = port.get("targetPort").is_none_or(|p| *p == 0 || *p == "");
        if let (true, Some(number)) = (unset, port.get("port").cloned()) {
            port.insert("targetPort".to_owned(), number);
        }
    }
    let balanced = is_text(spec, "type", "LoadBalancer");
    let external = spec.get("externalIPs").is_some();
    if balanced || is_text(spec, "type", "NodePort") || (external && !is_text(spec, "type", "ExternalName")) {
        fill(spec, &[("externalTrafficPolicy", Text("Cluster"))]);
    }
    if !is_text(spec, "type", "ExternalName") {
        fill(spec, &[("internalTrafficPolicy", Text("Cluster"))]);
    }
    if balanced {
        fill(spec, &[("allocateLoadBalancerNodePorts", Bool(true))]);
        let ingress = service.pointer_mut("/status/loadBalancer/ingress").and_then(Value::as_array_mut);
        for at in ingress.into_iter().flatten().filter_map(Value::as_object_mut) {
            if at.get("ip").is_some_and(|ip| *ip != "") {
                fill(at, &[("ipMode", Text("VIP"))]);
            }
        }
    }
}

/// `stringData` is only ever written: it moves into `data`.
pub fn secret(_version: &str, secret: &mut Value) {
    let secret = as_map(secret);
    fill(secret, &[("type", Text("Opaque"))]);
    if let Some(Value::Object(plain)) = secret.remove("stringData") {
        let data = child_mut(secret, "data");
        for (key, value) in plain {
            data.insert(key, BASE64_STANDARD.encode(value.as_str().unwrap_or_default()).into());
        }
    }
}

/// Every namespace carries its name as a label, so that selectors can name it.
pub fn namespace(_version: &str, namespace: &mut Value) {
    let name = name(namespace).to_owned();
    let map = as_map(namespace);
    if !name.is_empty() {
        let labels = child_mut(child_mut(map, "metadata"), "labels");
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
    fill(child_mut(map, "status"), &[("phase", Text("Active"))]);
}

pub fn endpoints(_version: &str, endpoints: &mut Value) {
    for subset in each(as_map(endpoints), "subsets") {
        for port in each(subset, "ports") {
            fill(port, &[("protocol", Text("TCP"))]);
        }
    }
}

pub fn endpoint_slice(_version: &str, slice: &mut Value) {
    for port in each(as_map(slice), "ports") {
        fill(port, &[("name", Text("")), ("protocol", Text("TCP"))]);
    }
}

pub fn role_binding(_version: &str, binding: &mut Value) {
    let binding = as_map(binding);
    if let Some(role) = object(binding, "roleRef") {
        fill(role, &[("apiGroup", Text(RBAC))]);
    }
    for subject in each(binding, "subjects") {
        if is_text(subject, "kind", "User") || is_text(subject, "kind", "Group") {
            fill(subject, &[("apiGroup", Text(RBAC))]);
        }
    }
}

pub fn priority_class(_version: &str, class: &mut Value) {
    fill(as_map(class), &[("preemptionPolicy", Text("PreemptLowerPriority"))]);
}

/// The first of a node's ranges has a field of its own, and what nobody reserves can be had.
pub fn node(_version: &str, node: &mut Value) {
    let spec = child_mut(as_map(node), "spec");
    let one = spec.get("podCIDR").and_then(Value::as_str).filter(|range| !range.is_empty());
    let first = spec.get("podCIDRs").and_then(|ranges| ranges.get(0)).and_then(Value::as_str);
    match (one.map(str::to_owned), first.map(str::to_owned)) {
        (Some(one), first) if first.as_ref() != Some(&one) => {
            spec.insert("podCIDRs".to_owned(), json!([one]));
        }
        (None, Some(first)) => drop(spec.insert("podCIDR".to_owned(), first.into())),
        _ => {}
    }
    if let Some(status) = object(as_map(node), "status")
        && !status.contains_key("allocatable")
        && let Some(capacity) = status.get("capacity").cloned()
    {
        status.insert("allocatable".to_owned(), capacity);
    }
}

pub fn persistent_volume(_version: &str, volume: &mut Value) {
    let reclaim = ("persistentVolumeReclaimPolicy", Text("Retain"));
    let spec = spec(volume);
    fill(spec, &[reclaim, ("volumeMode", Text("Filesystem"))]);
    if let Some(path) = object(spec, "hostPath") {
        fill(path, &[("type", Text(""))]);
    }
    fill(child_mut(as_map(volume), "status"), &[("phase", Text("Pending"))]);
}

pub fn persistent_volume_claim(_version: &str, claim: &mut Value) {
    fill(spec(claim), &[("volumeMode", Text("Filesystem"))]);
    fill(child_mut(as_map(claim), "status"), &[("phase", Text("Pending"))]);
}

pub fn storage_class(_version: &str, class: &mut Value) {
    fill(as_map(class), &[("reclaimPolicy", Text("Delete")), ("volumeBindingMode", Text("Immediate"))]);
}

pub fn csi_driver(_version: &str, driver: &mut Value) {
    let spec = spec(driver);
    fill(
        spec,
        &[
            ("attachRequired", Bool(true)),
            ("podInfoOnMount", Bool(false)),
            ("storageCapacity", Bool(false)),
            ("fsGroupPolicy", Text("ReadWriteOnceWithFSType")),
            ("requiresRepublish", Bool(false)),
            ("seLinuxMount", Bool(false)),
        ],
    );
    spec.entry("volumeLifecycleModes").or_insert_with(|| list(&["Persistent"]));
}

/// A policy that has egress rules is about egress too; every policy is about ingress unless it says not.
pub fn network_policy(_version: &str, policy: &mut Value) {
    let spec = spec(policy);
    let egress = spec.get("egress").and_then(Value::as_array).is_some_and(|e| !e.is_empty());
    spec.entry("policyTypes")
        .or_insert_with(|| list(if egress { &["Ingress", "Egress"] } else { &["Ingress"] }));
    for direction in ["ingress", "egress"] {
        for rule in each(spec, direction) {
            for port in each(rule, "ports") {
                fill(port, &[("protocol", Text("TCP"))]);
            }
        }
    }
}

pub fn ingress_class(_version: &str, class: &mut Value) {
    if let Some(parameters) = object(spec(class), "parameters") {
        fill(parameters, &[("scope", Text("Cluster"))]);
    }
}

/// For containers, a limit is at most the maximum and a request is the limit, then the minimum.
pub fn limit_range(_version: &str, range: &mut Value) {
    for item in each(spec(range), "limits").filter(|i| is_text(i, "type", "Container")) {
        for (into, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
            if let Some(given) = item.get(from).and_then(Value::as_object).cloned() {
                let filled = child_mut(item, into);
                for (resource, amount) in given {
                    filled.entry(resource).or_insert(amount);
                }
            }
        }
    }
}

pub fn token_request(_version: &str, request: &mut Value) {
    fill(spec(request), &[("expirationSeconds", Int(60 * 60))]);
}

pub fn pod_certificate_request(_version: &str, request: &mut Value) {
    fill(spec(request), &[("maxExpirationSeconds", Int(86_400))]);
}

/// The pods of a group are disrupted one by one unless it says otherwise.
pub fn pod_group(_version: &str, group: &mut Value) {
    spec(group).entry("disruptionMode").or_insert_with(|| json!({"single": {}}));
}
