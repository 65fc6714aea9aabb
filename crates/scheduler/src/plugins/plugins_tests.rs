use std::sync::Arc;

use serde_json::{Value, json};

use super::{args::Args, *};
use crate::{
    cycle::{Found, Search},
    framework::Score,
    pod::PodInfo,
    snapshot::{NodeFacts, NodeInfo, Snapshot, Surroundings},
};

pub(super) fn node_named(name: &str, change: impl Fn(&mut Value)) -> NodeFacts {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"zone": "a", "cores": "8"}},
        "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "3", "example.com/gpu": "1"}},
    });
    change(&mut node);
    NodeFacts::new(serde_json::from_value(node).expect("a node"))
}

fn node(change: impl Fn(&mut Value)) -> NodeFacts {
    node_named("n", change)
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

/// A cluster of one node, with pods on it that request these.
fn with_pods(node: NodeFacts, pods: &[Value]) -> Snapshot {
    let mut all = Snapshot::default();
    all.set_node(Arc::new(node));
    for (i, requests) in pods.iter().enumerate() {
        let pod = json!({"metadata": {"namespace": "ns", "name": format!("q{i}"), "uid": format!("q{i}")},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "resources": {"requests": requests},
                "ports": [{"containerPort": 80, "hostPort": 8000 + i, "hostIP": "10.0.0.1"}]}]}});
        all.set_pod(&Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod"))));
    }
    all
}

/// What rejects the pod on the only node, with its reasons.
fn rejected(pod: &PodInfo, all: &mut Snapshot) -> Option<(&'static str, String)> {
    all.prepare(pod, &[]);
    let (_, sifted) = Search::new(1).sift(&default_profile("s"), pod, all);
    let first = sifted.unfit.nodes.first();
    let rejection = first.and_then(|(_, answer)| sifted.unfit.answers.get(*answer)).cloned();
    rejection.or(sifted.unfit.everywhere).map(|r| (r.plugin, r.reasons.iter().collect::<Vec<_>>().join("; ")))
}

/// The normalized scores that one plugin gives to nodes, by name.
pub(super) fn scores(name: &str, args: &Args, pod: &PodInfo, all: &mut Snapshot) -> Option<Vec<i64>> {
    let plugin = make(name, args).expect("a plugin");
    let more = plugin.counts(pod, all.surroundings());
    all.prepare(pod, &more);
    let mut nodes: Vec<&NodeInfo> = all.order().iter().map(|id| all.node(*id)).collect();
    nodes.sort_by_key(|node| node.name().to_owned());
    let ids: Vec<_> = nodes.iter().map(|node| node.id).collect();
    let score: Box<dyn Score + '_> = plugin.pre_score(pod, all, &ids)?;
    let mut scores: Vec<i64> = nodes.iter().map(|node| score.score(node)).collect();
    score.normalize(&mut scores);
    Some(scores)
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
        ("tainted", pod(json!({})), tainted(), Some("node(s) had untolerated taint(s)")),
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
            Some("node(s) had untolerated taint(s)"),
        ),
        (
            "other effect",
            bears(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})),
            tainted(),
            Some("node(s) had untolerated taint(s)"),
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
        let mut all = with_pods(node, &[]);
        assert_eq!(rejected(&pod, &mut all).map(|(_, r)| r).as_deref(), want, "{what}");
    }
}

#[test]
fn pods_on_the_node_take_room_and_ports() {
    let facts = node(|_| {});
    let mut all = with_pods(facts.clone(), &[json!({"cpu": "1500m"}), json!({})]);
    assert_eq!(rejected(&wants(json!({"cpu": "500m"})), &mut all), None);
    assert_eq!(
        rejected(&wants(json!({"cpu": "501m"})), &mut all),
        Some(("NodeResourcesFit", "Insufficient cpu".to_owned()))
    );
    let port = |port: i32, ip: &str| {
        pod(
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": port, "hostIP": ip}]}]}),
        )
    };
    let clash = Some(("NodePorts", "node(s) didn't have free ports for the requested pod ports".to_owned()));
    assert_eq!(rejected(&port(8000, "10.0.0.1"), &mut all), clash);
    assert_eq!(rejected(&port(8000, ""), &mut all), clash, "any address is also that address");
    assert_eq!(rejected(&port(8000, "10.0.0.2"), &mut all), None);
    assert_eq!(rejected(&port(8005, "10.0.0.1"), &mut all), None);
    let mut full = with_pods(facts.clone(), &[json!({}), json!({}), json!({})]);
    assert_eq!(rejected(&pod(json!({})), &mut full), Some(("NodeResourcesFit", "Too many pods".to_owned())));
}

#[test]
fn gates_hold_a_pod_back() {
    let gated = pod(json!({"schedulingGates": [{"name": "a"}, {"name": "b"}]}));
    assert_eq!(
        default_profile("s").gate(&gated, &Surroundings::default()).as_deref(),
        Some("waiting for scheduling gates: [a b]")
    );
    assert_eq!(default_profile("s").gate(&pod(json!({})), &Surroundings::default()), None);
}

fn nodes(nodes: &[(&str, Value)]) -> Snapshot {
    let mut all = Snapshot::default();
    for (name, change) in nodes {
        let facts = node_named(name, |n| {
            for (key, value) in change.as_object().expect("an object") {
                match key.as_str() {
                    "taints" => n["spec"]["taints"] = value.clone(),
                    "labels" => n["metadata"]["labels"] = value.clone(),
                    "images" => n["status"]["images"] = value.clone(),
                    _ => n["status"]["allocatable"][key] = value.clone(),
                }
            }
        });
        all.set_node(Arc::new(facts));
    }
    all
}

fn fill(all: &mut Snapshot, pods: &[(&str, Value)]) {
    for (i, (node, requests)) in pods.iter().enumerate() {
        let pod = json!({"metadata": {"namespace": "ns", "name": format!("f{i}"), "uid": format!("f{i}")},
            "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"requests": requests}}]}});
        all.set_pod(&Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod"))));
    }
}

fn args(plugin: &str, value: Value) -> Args {
    let mut args = Args::default();
    args.set(plugin, value).expect("arguments");
    args
}

#[test]
fn nodes_are_filled_as_the_strategy_says() {
    let room = json!({"cpu": "4", "memory": "10000Mi", "pods": "10"});
    let cluster = || {
        let mut all = nodes(&[("a", room.clone()), ("b", room.clone())]);
        fill(&mut all, &[("b", json!({"cpu": "1", "memory": "4000Mi"}))]);
        all
    };
    let fit = |args: &Args, pod: &PodInfo| scores("NodeResourcesFit", args, pod, &mut cluster());
    let one = wants(json!({"cpu": "1", "memory": "1000Mi"}));
    // a: (75 + 90) / 2, b: (50 + 50) / 2.
    assert_eq!(fit(&Args::default(), &one), Some(vec![82, 50]));
    // What asks for nothing counts as 100m and 200Mi: a: (97 + 98) / 2, b: (72 + 58) / 2.
    assert_eq!(fit(&Args::default(), &pod(json!({}))), Some(vec![97, 65]));
    let most = args(
        "NodeResourcesFit",
        json!({"scoringStrategy": {"type": "MostAllocated",
        "resources": [{"name": "cpu", "weight": 3}, {"name": "memory", "weight": 1}]}}),
    );
    // a: (25 * 3 + 10) / 4, b: (50 * 3 + 50) / 4.
    assert_eq!(fit(&most, &one), Some(vec![21, 50]));
    let ratio = args(
        "NodeResourcesFit",
        json!({"scoringStrategy": {"type": "RequestedToCapacityRatio",
        "resources": [{"name": "cpu", "weight": 1}, {"name": "memory", "weight": 1}],
        "requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 50, "score": 10}, {"utilization": 100, "score": 0}]}}}),
    );
    // On the way up: 25 percent are 50, 10 are 20; 50 are the top.
    assert_eq!(fit(&ratio, &one), Some(vec![35, 100]));
    // A resource that the pod does not ask for has no say.
    let gpu = args(
        "NodeResourcesFit",
        json!({"scoringStrategy": {"resources": [{"name": "example.com/gpu"}, {"name": "cpu"}]}}),
    );
    assert_eq!(fit(&gpu, &one), Some(vec![75, 50]));
}

#[test]
fn ignored_resources_keep_nobody_away() {
    let mut profile = default_profile("s");
    for enabled in &mut profile.plugins {
        if enabled.plugin.name() == "NodeResourcesFit" {
            enabled.plugin = make(
                "NodeResourcesFit",
                &args(
                    "NodeResourcesFit",
                    json!({"ignoredResources": ["example.com/a"], "ignoredResourceGroups": ["other.io"]}),
                ),
            )
            .expect("a plugin");
        }
    }
    for (resource, fits) in [("example.com/a", true), ("other.io/x", true), ("example.com/b", false)] {
        let mut all = with_pods(node(|_| {}), &[]);
        let pod = wants(json!({resource: "1"}));
        all.prepare(&pod, &[]);
        let found = Search::new(1).schedule(&profile, &pod, &all);
        assert_eq!(matches!(found, Found::Node(_)), fits, "{resource}");
    }
}

#[test]
fn balanced_nodes_are_liked() {
    let room = json!({"cpu": "4", "memory": "4Gi", "pods": "10"});
    let mut all = nodes(&[("a", room.clone()), ("b", room)]);
    fill(&mut all, &[("b", json!({"memory": "2Gi"}))]);
    let balance = |pod: &PodInfo, all: &mut Snapshot| {
        scores("NodeResourcesBalancedAllocation", &Args::default(), pod, all)
    };
    // a: both a quarter; b: a quarter and three quarters, which deviate by a quarter.
    assert_eq!(balance(&wants(json!({"cpu": "1", "memory": "1Gi"})), &mut all), Some(vec![100, 75]));
    assert_eq!(balance(&pod(json!({})), &mut all), None, "what asks for nothing unbalances nothing");
}

#[test]
fn disliked_taints_and_preferred_labels_score() {
    let taint = |key: &str| json!({"key": key, "value": "", "effect": "PreferNoSchedule"});
    let mut all = nodes(&[
        ("a", json!({"taints": [taint("x"), taint("y")]})),
        ("b", json!({"taints": [taint("x")], "labels": {"zone": "b"}})),
        ("c", json!({"labels": {"zone": "c"}})),
    ]);
    let taints = |pod: &PodInfo, all: &mut Snapshot| scores("TaintToleration", &Args::default(), pod, all);
    assert_eq!(taints(&pod(json!({})), &mut all), Some(vec![0, 50, 100]));
    let bears_y = pod(json!({"tolerations": [{"key": "y", "operator": "Exists"}]}));
    assert_eq!(taints(&bears_y, &mut all), Some(vec![0, 0, 100]));
    let prefers = |zone: &str, weight: i32| json!({"weight": weight, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}});
    let pod = pod(json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
        [prefers("b", 40), prefers("c", 10)]}}}));
    assert_eq!(scores("NodeAffinity", &Args::default(), &pod, &mut all), Some(vec![0, 100, 25]));
}

#[test]
fn an_affinity_that_the_profile_adds_binds_every_pod() {
    let added = args(
        "NodeAffinity",
        json!({"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}]}}}),
    );
    let mut profile = default_profile("s");
    for enabled in &mut profile.plugins {
        if enabled.plugin.name() == "NodeAffinity" {
            enabled.plugin = make("NodeAffinity", &added).expect("a plugin");
        }
    }
    let mut all = with_pods(node(|_| {}), &[]);
    let pod = pod(json!({}));
    all.prepare(&pod, &[]);
    let Found::Nothing(refusal) = Search::new(1).schedule(&profile, &pod, &all) else { panic!("zone a") };
    assert!(
        refusal.message.contains("1 node(s) didn't match scheduler-enforced node affinity."),
        "{}",
        refusal.message
    );
}

#[test]
fn images_that_are_there_attract_more_if_many_have_them() {
    let image = |name: &str| json!([{"names": [name], "sizeBytes": 523_000_000}]);
    let mut all = nodes(&[
        ("a", json!({"images": image("app:latest")})),
        ("b", json!({"images": image("app:latest")})),
        ("c", json!({})),
    ]);
    let runs = |image: &str| pod(json!({"containers": [{"name": "c", "image": image}]}));
    let images = |pod: &PodInfo, all: &mut Snapshot| scores("ImageLocality", &Args::default(), pod, all);
    // (523,000,000 * 2/3 - 23Mi) * 100 / (1000Mi - 23Mi) = 31.
    assert_eq!(images(&runs("app"), &mut all), Some(vec![31, 31, 0]));
    assert_eq!(images(&runs("other"), &mut all), None);
}
