use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    framework::{Rejection, Unfit},
    pod::PodInfo,
    snapshot::{NodeFacts, NodeInfo, Snapshot},
};

fn node(change: impl Fn(&mut Value)) -> NodeFacts {
    let mut node = json!({
        "metadata": {"name": "n", "labels": {"zone": "a", "cores": "8"}},
        "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "3", "example.com/gpu": "1"}},
    });
    change(&mut node);
    NodeFacts::new(serde_json::from_value(node).expect("a node"))
}

fn pod(spec: Value) -> PodInfo {
    let mut pod = json!({"metadata": {"namespace": "ns", "name": "p", "uid": "p"}, "spec": {"containers": [{"name": "c"}]}});
    for (key, value) in spec.as_object().expect("an object") {
        pod["spec"][key] = value.clone();
    }
    PodInfo::new(serde_json::from_value(pod).expect("a pod"))
}

fn wants(requests: Value) -> PodInfo {
    pod(json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}))
}

/// The node with pods on it that request these.
fn with_pods(node: NodeFacts, pods: &[Value]) -> NodeInfo {
    let mut all = Snapshot::default();
    all.set_node(Arc::new(node));
    for (i, requests) in pods.iter().enumerate() {
        let pod = json!({"metadata": {"namespace": "ns", "name": format!("q{i}"), "uid": format!("q{i}")},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "resources": {"requests": requests},
                "ports": [{"containerPort": 80, "hostPort": 8000 + i, "hostIP": "10.0.0.1"}]}]}});
        all.set_pod(&Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod"))));
    }
    let (_, info) = all.nodes().next().expect("the node");
    info.clone()
}

/// What rejects the pod, with its reasons.
fn rejected(pod: &PodInfo, node: &NodeFacts, info: &NodeInfo) -> Option<(&'static str, String)> {
    let profile = default_profile();
    profile
        .plugins
        .iter()
        .find_map(|(p, _)| p.filter(pod, node, info).err())
        .map(|r| (r.plugin, r.reasons.join("; ")))
}

#[test]
fn filters_reject_for_upstream_s_reasons() {
    let plain = || node(|_| {});
    let tainted =
        || node(|n| n["spec"]["taints"] = json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]));
    let cordoned = || node(|n| n["spec"]["unschedulable"] = json!(true));
    let bears = |t: Value| pod(json!({"tolerations": [t]}));
    let affine = |op: &str, key: &str, values: &[&str]| {
        pod(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": key, "operator": op, "values": values}]}]}}}}),
        )
    };
    let cases: Vec<(&str, PodInfo, NodeFacts, Option<&str>)> = vec![
        ("plain", pod(json!({})), plain(), None),
        ("cpu fits exactly", wants(json!({"cpu": "2"})), plain(), None),
        ("too much cpu", wants(json!({"cpu": "2001m"})), plain(), Some("Insufficient cpu")),
        (
            "too much of two",
            wants(json!({"cpu": "3", "memory": "5Gi"})),
            plain(),
            Some("Insufficient cpu; Insufficient memory"),
        ),
        ("one gpu", wants(json!({"example.com/gpu": "1"})), plain(), None),
        ("two gpus", wants(json!({"example.com/gpu": "2"})), plain(), Some("Insufficient example.com/gpu")),
        ("unknown", wants(json!({"example.com/fpga": "1"})), plain(), Some("Insufficient example.com/fpga")),
        ("tainted", pod(json!({})), tainted(), Some("node(s) had untolerated taint {k: v}")),
        (
            "borne",
            bears(json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"})),
            tainted(),
            None,
        ),
        ("borne by any", bears(json!({"operator": "Exists"})), tainted(), None),
        (
            "other value",
            bears(json!({"key": "k", "value": "w"})),
            tainted(),
            Some("node(s) had untolerated taint {k: v}"),
        ),
        (
            "other effect",
            bears(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})),
            tainted(),
            Some("node(s) had untolerated taint {k: v}"),
        ),
        ("cordoned", pod(json!({})), cordoned(), Some("node(s) were unschedulable")),
        (
            "cordon borne",
            bears(json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"})),
            cordoned(),
            None,
        ),
        ("selected", pod(json!({"nodeSelector": {"zone": "a"}})), plain(), None),
        (
            "not selected",
            pod(json!({"nodeSelector": {"zone": "b"}})),
            plain(),
            Some("node(s) didn't match Pod's node affinity/selector"),
        ),
        ("in", affine("In", "zone", &["b", "a"]), plain(), None),
        (
            "not in",
            affine("NotIn", "zone", &["a"]),
            plain(),
            Some("node(s) didn't match Pod's node affinity/selector"),
        ),
        ("not in, absent", affine("NotIn", "rack", &["a"]), plain(), None),
        ("exists", affine("Exists", "zone", &[]), plain(), None),
        ("greater", affine("Gt", "cores", &["7"]), plain(), None),
        (
            "not greater",
            affine("Gt", "cores", &["8"]),
            plain(),
            Some("node(s) didn't match Pod's node affinity/selector"),
        ),
        ("less", affine("Lt", "cores", &["9"]), plain(), None),
        (
            "no number",
            affine("Gt", "zone", &["1"]),
            plain(),
            Some("node(s) didn't match Pod's node affinity/selector"),
        ),
    ];
    for (what, pod, node, want) in cases {
        let info = with_pods(node.clone(), &[]);
        assert_eq!(rejected(&pod, &node, &info).map(|(_, r)| r).as_deref(), want, "{what}");
    }
}

#[test]
fn pods_on_the_node_take_room_and_ports() {
    let facts = node(|_| {});
    let info = with_pods(facts.clone(), &[json!({"cpu": "1500m"}), json!({})]);
    assert_eq!(rejected(&wants(json!({"cpu": "500m"})), &facts, &info), None);
    assert_eq!(
        rejected(&wants(json!({"cpu": "501m"})), &facts, &info),
        Some(("NodeResourcesFit", "Insufficient cpu".to_owned()))
    );
    let port = |port: i32, ip: &str| {
        pod(
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": port, "hostIP": ip}]}]}),
        )
    };
    let clash = Some(("NodePorts", "node(s) didn't have free ports for the requested pod ports".to_owned()));
    assert_eq!(rejected(&port(8000, "10.0.0.1"), &facts, &info), clash);
    assert_eq!(rejected(&port(8000, ""), &facts, &info), clash, "any address is also that address");
    assert_eq!(rejected(&port(8000, "10.0.0.2"), &facts, &info), None);
    assert_eq!(rejected(&port(8005, "10.0.0.1"), &facts, &info), None);
    let full = with_pods(facts.clone(), &[json!({}), json!({}), json!({})]);
    assert_eq!(
        rejected(&pod(json!({})), &facts, &full),
        Some(("NodeResourcesFit", "Too many pods".to_owned()))
    );
}

#[test]
fn gates_hold_a_pod_back() {
    let gated = pod(json!({"schedulingGates": [{"name": "a"}, {"name": "b"}]}));
    let held = default_profile().plugins.iter().find_map(|(p, _)| p.pre_enqueue(&gated).err());
    assert_eq!(held.as_deref(), Some("waiting for scheduling gates: [a b]"));
}

#[test]
fn the_message_counts_reasons_as_upstream_does() {
    let mut unfit = Unfit::default();
    let reject = |plugin: &'static str, reason: &str, hopeless: bool| crate::framework::Rejection {
        plugin,
        reasons: vec![reason.to_owned()],
        unresolvable: hopeless,
    };
    unfit.nodes.insert("a".into(), reject("NodeResourcesFit", "Insufficient cpu", false));
    unfit.nodes.insert("b".into(), reject("NodeResourcesFit", "Insufficient cpu", false));
    unfit.nodes.insert("c".into(), reject("NodeUnschedulable", "node(s) were unschedulable", true));
    assert_eq!(
        unfit.message(),
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/3 nodes are \
         available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."
    );
    assert_eq!(unfit.plugins(), ["NodeResourcesFit", "NodeUnschedulable"]);
    assert_eq!(Unfit::default().message(), "no nodes available to schedule pods");
}

/// Each node's own answer can be reported, with the condition that it explains.
#[test]
fn a_report_has_each_nodes_answer() {
    let unfit = Unfit {
        nodes: [("a".into(), Rejection::new("P", "too small")), ("b".into(), Rejection::new("Q", "tainted"))]
            .into(),
    };
    let report = unfit.report("u");
    assert_eq!((&report["uid"], &report["explains"]), (&"u".into(), &"PodScheduled".into()));
    let causes: Vec<_> =
        report["causes"].as_array().unwrap().iter().map(|c| (&c["reason"], &c["message"])).collect();
    assert_eq!(causes, [(&"P".into(), &"a: too small".into()), (&"Q".into(), &"b: tainted".into())]);
}
