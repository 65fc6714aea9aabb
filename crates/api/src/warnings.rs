//! What a client should know of an object that it may write all the same: that something in it is going away, has no
//! effect, or is not what it seems to be.
//!
//! Words and order are upstream's (`WarningsOnCreate` and `WarningsOnUpdate` of each kind). Each function takes the new
//! object and the stored one, which is null for an object that is made.

mod pod;

use std::net::IpAddr;

use serde_json::Value;

use crate::field::quoted;
use crate::meta;
use crate::validate::At;

type Warnings = fn(&Value, &Value) -> Vec<String>;

/// What is told of objects of a kind.
pub(crate) fn of(group: &str, kind: &str) -> Option<Warnings> {
    Some(match (group, kind) {
        ("", "Pod") => pod::pod,
        ("", "PodTemplate") => |new, old| pod::template(&["template"], new, old),
        ("apps", "Deployment" | "ReplicaSet") | ("batch", "Job") | ("", "ReplicationController") => {
            |new, old| pod::names_pods(&["spec", "template"], new, old)
        }
        ("apps", "DaemonSet" | "StatefulSet") => |new, old| pod::template(&["spec", "template"], new, old),
        ("batch", "CronJob") => cron_job,
        ("", "PersistentVolume") => |new, _| volume(new),
        ("", "Service") => |new, _| service(new),
        ("networking.k8s.io", "Ingress") => ingress,
        ("node.k8s.io", "RuntimeClass") => |new, _| runtime_class(new),
        _ => return None,
    })
}

fn cron_job(new: &Value, old: &Value) -> Vec<String> {
    let mut told = pod::names_pods(&["spec", "jobTemplate", "spec", "template"], new, old);
    if !old.is_null() && meta::text(new, &["spec", "schedule"]).contains("TZ") {
        told.push(
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .to_owned(),
        );
    }
    told
}

/// Labels of nodes that have another name by now.
const NODE_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#),
    ("beta.kubernetes.io/os", r#"deprecated since v1.14; use "kubernetes.io/os" instead"#),
    (
        "failure-domain.beta.kubernetes.io/region",
        r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#,
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#,
    ),
    (
        "beta.kubernetes.io/instance-type",
        r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#,
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", r#"use "node-role.kubernetes.io/control-plane" instead"#),
];

fn node_label(key: &str) -> Option<&'static str> {
    NODE_LABELS.iter().find(|(label, _)| *label == key).map(|(_, told)| *told)
}

/// What the expressions of a term of a node selector ask for.
fn node_term(term: &At<'_>, told: &mut Vec<String>) {
    for expression in term.get("matchExpressions").items() {
        let key = expression.get("key");
        if let Some(why) = node_label(key.text()) {
            told.push(format!("{}: {} is {why}", key.path(), key.text()));
        }
    }
}

/// Volumes whose drivers are gone, with what is told of them.
const GONE_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// What is told of the driver of a volume, which `holder` is or has.
fn gone_volume(holder: &At<'_>, drivers: &[&str], told: &mut Vec<String>) {
    for (driver, why) in GONE_VOLUMES.iter().filter(|(driver, _)| drivers.contains(driver)) {
        if let Some(source) = holder.opt(driver) {
            // Upstream's path has the field's name in Go.
            let path = if *driver == "storageos" { holder.path().child("storageOS") } else { source.path() };
            told.push(format!("{path}: {why}"));
        }
    }
}

fn volume(object: &Value) -> Vec<String> {
    let root = At::root(object);
    let (metadata, spec) = (root.get("metadata"), root.get("spec"));
    let annotations = metadata.get("annotations");
    let mut told = Vec::new();
    for (key, why) in [
        (
            "volume.beta.kubernetes.io/storage-class",
            r#"deprecated since v1.8; use "storageClassName" attribute instead"#,
        ),
        (
            "volume.beta.kubernetes.io/mount-options",
            r#"deprecated since v1.31; use "mountOptions" attribute instead"#,
        ),
    ] {
        if annotations.has(key) {
            told.push(format!("{}: {why}", annotations.path().key(key)));
        }
    }
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if policy.text() == "Recycle" {
        told.push(format!(
            "{}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
            policy.path()
        ));
    }
    let affinity = spec.get("nodeAffinity");
    let required = affinity.get("required");
    required.get("nodeSelectorTerms").items().for_each(|term| node_term(&term, &mut told));
    for driver in ["cephfs", "photonPersistentDisk", "scaleIO", "storageos", "glusterfs", "rbd"] {
        gone_volume(&spec, &[driver], &mut told);
    }
    told
}

fn service(object: &Value) -> Vec<String> {
    let root = At::root(object);
    let spec = root.get("spec");
    let (kind, outside) = (spec.get("type"), spec.get("externalIPs"));
    let balancer = spec.get("loadBalancerIP");
    let names = kind.text() == "ExternalName";
    let headless = kind.text() == "ClusterIP" && spec.get("clusterIP").text() == "None";
    let mut told = Vec::new();
    if meta::annotation(object, "service.kubernetes.io/topology-aware-hints").is_some() {
        told.push(
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead"
                .to_owned(),
        );
    }
    if !names && !headless {
        spec.get("clusterIPs").items().for_each(|ip| address(&ip, &mut told));
    }
    if headless {
        for (is_set, field) in [
            (!balancer.text().is_empty(), "spec.loadBalancerIP"),
            (outside.len() > 0, "spec.externalIPs"),
            (spec.get("sessionAffinity").text() != "None", "spec.SessionAffinity"),
        ] {
            if is_set {
                told.push(format!("{field} is ignored for headless services"));
            }
        }
    }
    outside.items().for_each(|ip| address(&ip, &mut told));
    if outside.len() > 0 && !headless && !names {
        told.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    address(&balancer, &mut told);
    if names && outside.len() > 0 {
        told.push(r#"spec.externalIPs is ignored when spec.type is "ExternalName""#.to_owned());
    }
    if !names && !spec.get("externalName").text().is_empty() {
        told.push(r#"spec.externalName is ignored when spec.type is not "ExternalName""#.to_owned());
    }
    if spec.get("trafficDistribution").text() == "PreferClose" {
        told.push(
            r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#.to_owned(),
        );
    }
    told
}

/// An address that is understood, but not written as others write it.
fn address(at: &At<'_>, told: &mut Vec<String>) {
    let said = at.text();
    match said.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_none() && ip.to_string() != said => told.push(format!(
            "{}: IPv6 address {} should be in RFC 5952 canonical format ({})",
            at.path(),
            quoted(said),
            quoted(&ip.to_string())
        )),
        Ok(IpAddr::V6(ip)) => {
            if let Some(mapped) = ip.to_ipv4_mapped() {
                told.push(non_standard(at, &mapped.to_string()));
            }
        }
        Ok(IpAddr::V4(_)) => {}
        // Leading zeros: older servers read them as decimal.
        Err(_) => {
            let parts: Option<Vec<String>> =
                said.split('.').map(|part| part.parse::<u8>().ok().map(|n| n.to_string())).collect();
            if let Some(parts) = parts.filter(|parts| parts.len() == 4) {
                told.push(non_standard(at, &parts.join(".")));
            }
        }
    }
}

fn non_standard(at: &At<'_>, better: &str) -> String {
    format!("{}: non-standard IP address {} is invalid: use {}", at.path(), quoted(at.text()), quoted(better))
}

fn ingress(new: &Value, old: &Value) -> Vec<String> {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let is_told = old.is_null() && meta::annotation(new, CLASS).is_some();
    let told = || format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead");
    is_told.then(told).into_iter().collect()
}

fn runtime_class(object: &Value) -> Vec<String> {
    let labels = object["scheduling"]["nodeSelector"].as_object().into_iter().flatten();
    let why = labels.filter_map(|(key, _)| node_label(key));
    why.map(|why| format!("scheduling.nodeSelector: {why}")).collect()
}

#[cfg(test)]
#[path = "warnings_tests.rs"]
mod tests;
