//! The node's own check of pods that were bound to it: does it have the room, and was it meant?

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tiphys_client::placement::{self, HostPort};

use crate::features::Features;
use crate::pod;
use crate::qos;
use crate::security;
use crate::status::Verdict;
use crate::sysctls;

/// Decides on a pod, given the others that run here. `None` admits it.
///
/// Reasons are upstream's: `OutOfcpu`, `OutOfpods`, `NodeAffinity`, `NodePorts`, `Taint`, `PodOSNotSupported`, …
pub fn reject(
    candidate: &Pod,
    others: &[&Pod],
    node: Option<&Node>,
    allocatable: &BTreeMap<String, Quantity>,
    features: &Features,
) -> Option<Verdict> {
    let verdict = |reason: String, message: String| {
        Some(Verdict { reason, message: format!("Pod was rejected: {message}") })
    };
    if let Some(message) = sysctls::forbidden(candidate, &features.sysctls) {
        return verdict("SysctlForbidden".into(), message);
    }
    if let Some(node) = node {
        if !selected(candidate, node) {
            let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
            return verdict("NodeAffinity".into(), message.into());
        }
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
        let tolerations = pod::spec(candidate).tolerations.as_deref().unwrap_or_default();
        let hurts = |t: &&Taint| t.effect == "NoExecute" && !placement::any_tolerates(tolerations, t);
        if !pod::is_static(candidate) && taints.iter().any(|t| hurts(&t)) {
            let message = "Predicate Taint failed: node(s) had taints that the pod didn't tolerate";
            return verdict("Taint".into(), message.into());
        }
    }
    let limit = |name: &str| allocatable.get(name).and_then(placement::milli);
    let pods = limit("pods").map_or(i64::MAX, |p| p / 1000);
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count >= pods {
        let message =
            format!("Node didn't have enough resource: pods, requested: 1, used: {count}, capacity: {pods}");
        return verdict("OutOfpods".into(), message);
    }
    if let Some((name, message)) = lacking(candidate, others, allocatable) {
        return verdict(format!("OutOf{name}"), message);
    }
    let taken = others.iter().flat_map(|p| HostPort::of(pod::spec(p))).collect::<Vec<_>>();
    if HostPort::of(pod::spec(candidate)).any(|p| taken.iter().any(|t| t.clashes(&p))) {
        let message =
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return verdict("NodePorts".into(), message.into());
    }
    let (reason, message) = unable(candidate, features)?;
    verdict(reason.into(), message.into())
}

/// The resource of which the others leave too little for a pod, and how much that is.
pub fn lacking(
    candidate: &Pod,
    others: &[&Pod],
    allocatable: &BTreeMap<String, Quantity>,
) -> Option<(&'static str, String)> {
    ["cpu", "memory", "ephemeral-storage"].into_iter().find_map(|name| {
        let wanted = qos::total(candidate, name, false).unwrap_or(0);
        let have = allocatable.get(name).and_then(placement::milli).filter(|_| wanted > 0)?;
        let used =
            others.iter().map(|p| qos::total(p, name, false).unwrap_or(0)).fold(0, i64::saturating_add);
        // CPU is told in thousandths, everything else in whole units.
        let unit = if name == "cpu" { 1 } else { 1000 };
        let message = || {
            format!(
                "Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {}",
                wanted / unit,
                used / unit,
                have / unit
            )
        };
        (wanted > have.saturating_sub(used)).then(|| (name, message()))
    })
}

/// What a pod asks for that this node cannot do at all: reason and message.
fn unable(candidate: &Pod, features: &Features) -> Option<(&'static str, &'static str)> {
    let spec = pod::spec(candidate);
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return Some(("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"));
    }
    let context = spec.security_context.as_ref();
    let strict = context.and_then(|c| c.supplemental_groups_policy.as_deref()) == Some("Strict");
    if strict && !features.supplemental_groups_policy {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return Some(("SupplementalGroupsPolicyNotSupported", message));
    }
    if !features.app_armor
        && pod::all_containers(candidate).any(|c| security::is_confined(candidate, &c.spec))
    {
        return Some(("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"));
    }
    None
}

/// Whether the node has the labels that the pod asks for by `nodeSelector` and required affinity.
fn selected(candidate: &Pod, node: &Node) -> bool {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&NONE);
    let spec = pod::spec(candidate);
    let simple = spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.as_deref().unwrap_or_default();
    simple && required.is_none_or(|r| placement::selector_matches(r, name, labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_from;
    use serde_json::{Value, json};

    fn decide(candidate: Value, others: &[Value]) -> Option<String> {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"zone": "a", "size": "5"}},
            "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]}}))
            .unwrap();
        let tolerant = |mut spec: Value| {
            if spec.get("tolerations").is_none() {
                spec["tolerations"] = json!([{"operator": "Exists"}]);
            }
            pod_from(json!({"spec": spec}))
        };
        let others: Vec<Pod> = others.iter().cloned().map(tolerant).collect();
        let allocatable = BTreeMap::from([
            ("cpu".to_owned(), Quantity("2".into())),
            ("memory".to_owned(), Quantity("1Gi".into())),
            ("pods".to_owned(), Quantity("3".into())),
        ]);
        let verdict = reject(
            &tolerant(candidate),
            &others.iter().collect::<Vec<_>>(),
            Some(&node),
            &allocatable,
            &Features::all(true),
        );
        verdict.map(|v| format!("{}: {}", v.reason, v.message))
    }

    fn cpu(amount: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]})
    }

    #[test]
    fn resources_must_fit_beside_the_others() {
        assert_eq!(decide(cpu("1500m"), &[cpu("500m")]), None);
        assert_eq!(
            decide(cpu("1501m"), &[cpu("500m")]).unwrap(),
            "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 1501, used: 500, capacity: 2000"
        );
        assert_eq!(decide(cpu("0"), &[cpu("2"), cpu("1")]), None);
        assert!(decide(cpu("0"), &[cpu("0"), cpu("0"), cpu("0")]).unwrap().starts_with("OutOfpods: "));
    }

    #[test]
    fn selectors_and_affinity_are_checked() {
        let with = |extra: Value| {
            let mut spec = json!({"containers": []});
            spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            decide(spec, &[]).map(|v| v.split(':').next().unwrap().to_owned())
        };
        let affinity = |r: Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [r]}]}}}})
        };
        let no = Some("NodeAffinity".to_owned());
        assert_eq!(with(json!({"nodeSelector": {"zone": "a"}})), None);
        assert_eq!(with(json!({"nodeSelector": {"zone": "b"}})), no);
        assert_eq!(with(affinity(json!({"key": "zone", "operator": "In", "values": ["a", "b"]}))), None);
        assert_eq!(with(affinity(json!({"key": "zone", "operator": "NotIn", "values": ["a"]}))), no);
        assert_eq!(with(affinity(json!({"key": "size", "operator": "Gt", "values": ["4"]}))), None);
        assert_eq!(with(affinity(json!({"key": "none", "operator": "Exists"}))), no);
        assert_eq!(with(json!({"tolerations": []})), Some("Taint".to_owned()));
        assert_eq!(with(json!({"tolerations": [{"key": "k", "value": "v"}]})), None);
    }

    #[test]
    fn what_the_node_cannot_do_it_refuses() {
        let refused = |able: bool, spec: Value| {
            let candidate = pod_from(json!({"spec": spec}));
            let verdict = reject(&candidate, &[], None, &BTreeMap::new(), &Features::all(able));
            verdict.map(|v| format!("{}: {}", v.reason, v.message))
        };
        let windows = json!({"os": {"name": "windows"}, "containers": []});
        let text =
            "PodOSNotSupported: Pod was rejected: Failed to admit pod as the OS field doesn't match node OS";
        assert_eq!(refused(true, windows).as_deref(), Some(text));
        assert_eq!(refused(true, json!({"os": {"name": "linux"}, "containers": []})), None);
        let strict = json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}, "containers": []});
        assert_eq!(refused(true, strict.clone()), None);
        assert!(refused(false, strict).unwrap().starts_with("SupplementalGroupsPolicyNotSupported: "));
        let sysctl =
            json!({"securityContext": {"sysctls": [{"name": "kernel.sem", "value": "1"}]}, "containers": []});
        assert_eq!(
            refused(true, sysctl).as_deref(),
            Some("SysctlForbidden: Pod was rejected: forbidden sysctl: \"kernel.sem\" not allowlisted")
        );
        let profile = |kind: &str| json!({"appArmorProfile": {"type": kind}});
        let confined = json!({"securityContext": profile("Unconfined"),
            "containers": [{"name": "c", "securityContext": profile("RuntimeDefault")}]});
        assert_eq!(refused(true, confined.clone()), None);
        assert!(refused(false, confined).unwrap().starts_with("AppArmor: "));
        let free = json!({"securityContext": profile("RuntimeDefault"),
            "containers": [{"name": "c", "securityContext": profile("Unconfined")}]});
        assert_eq!(refused(false, free), None);
    }

    #[test]
    fn host_ports_are_given_once() {
        let port = |n: i32, ip: &str, protocol: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": n, "hostIP": ip, "protocol": protocol}]}]});
        let taken = [port(80, "10.0.0.1", "TCP")];
        assert!(decide(port(80, "", "TCP"), &taken).unwrap().starts_with("NodePorts: "));
        assert_eq!(decide(port(80, "10.0.0.2", "TCP"), &taken), None);
        assert_eq!(decide(port(80, "10.0.0.1", "UDP"), &taken), None);
        assert_eq!(decide(port(81, "10.0.0.1", "TCP"), &taken), None);
    }
}
