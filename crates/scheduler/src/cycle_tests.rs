use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{plugins::default_profile, snapshot::NodeFacts};

fn cluster(nodes: &[(&str, &str, &str)]) -> Snapshot {
    let mut all = Snapshot::default();
    for (name, cpu, zone) in nodes {
        let node = json!({"metadata": {"name": name, "labels": {"zone": zone}},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}});
        all.set_node(Arc::new(NodeFacts::new(serde_json::from_value(node).expect("a node"))));
    }
    all
}

fn pod(name: &str, spec: &Value) -> Arc<PodInfo> {
    let pod = json!({"metadata": {"namespace": "ns", "name": name, "uid": name}, "spec": spec});
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

fn asks(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}]})
}

fn place(search: &mut Search, all: &mut Snapshot, pod: &PodInfo) -> Result<String, Box<Refusal>> {
    all.prepare(pod, &[]);
    match search.schedule(&default_profile("s"), pod, all) {
        Found::Node(id) => Ok(all.node(id).name().to_owned()),
        Found::Nothing(refusal) => Err(refusal),
    }
}

#[test]
fn pods_spread_over_the_least_allocated_nodes() {
    let mut all = cluster(&[("a", "4", "x"), ("b", "4", "x"), ("c", "4", "x")]);
    let mut search = Search::new(1);
    let mut used = BTreeMap::<String, usize>::new();
    for i in 0..12 {
        let pod = pod(&format!("p{i}"), &asks("500m"));
        let Ok(node) = place(&mut search, &mut all, &pod) else { panic!("there is room") };
        all.assume(&pod, &node);
        *used.entry(node).or_default() += 1;
    }
    assert_eq!(used.values().copied().collect::<Vec<_>>(), [4, 4, 4]);
}

#[test]
fn preference_outweighs_balance_but_not_a_filter() {
    let mut all = cluster(&[("a", "4", "x"), ("b", "4", "y"), ("c", "100m", "z")]);
    let prefers = |zone: &str| {
        let mut spec = asks("1");
        spec["affinity"] = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 10, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}}]}});
        pod("p", &spec)
    };
    let mut search = Search::new(1);
    assert_eq!(place(&mut search, &mut all, &prefers("y")).ok().as_deref(), Some("b"));
    assert_ne!(place(&mut search, &mut all, &prefers("z")).ok().as_deref(), Some("c"));
}

#[test]
fn a_seed_repeats_what_chance_decides() {
    let names: Vec<String> = (0..50).map(|i| format!("n{i}")).collect();
    let nodes: Vec<_> = names.iter().map(|name| (name.as_str(), "4", "x")).collect();
    let run = |seed| {
        let mut all = cluster(&nodes);
        let mut search = Search::new(seed);
        let pod = pod("p", &asks("1"));
        (0..20).map(|_| place(&mut search, &mut all, &pod).ok()).collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(9));
}

#[test]
fn of_many_nodes_enough_are_looked_at_and_each_gets_its_turn() {
    assert_eq!(enough(0, 99), 99);
    assert_eq!(enough(0, 1000), 420);
    assert_eq!(enough(0, 5000), 500);
    assert_eq!(enough(0, 100_000), 5000);
    assert_eq!(enough(30, 1000), 300);
    assert_eq!(enough(1, 1000), 100);
    let names: Vec<String> = (0..300).map(|i| format!("n{i:03}")).collect();
    let nodes: Vec<_> = names.iter().map(|name| (name.as_str(), "4", "x")).collect();
    let mut all = cluster(&nodes);
    let pod = pod("p", &asks("1"));
    all.prepare(&pod, &[]);
    let profile = default_profile("s");
    let mut search = Search::new(1);
    let mut looked = Vec::new();
    for _ in 0..3 {
        let (_, sifted) = search.sift(&profile, &pod, &all);
        looked.extend(sifted.fit);
    }
    // 48 percent of 300 are 144.
    assert_eq!(looked.len(), 432);
    let first: BTreeSet<_> = looked[..300].iter().collect();
    assert_eq!(first.len(), 300, "no node comes again before all others have come");
}

#[test]
fn each_node_says_why_and_what_would_help() {
    let mut all = cluster(&[("a", "1", "x"), ("b", "2", "x")]);
    let Err(refusal) = place(&mut Search::new(1), &mut all, &pod("p", &asks("4"))) else {
        panic!("too large")
    };
    assert_eq!(
        refusal.message,
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    assert_eq!(refusal.plugins, ["NodeResourcesFit"]);
    assert!(refusal.is_news);
    let report =
        Search::new(1).explain(&default_profile("s"), &pod("p", &asks("4")), &all).expect("a report");
    let causes: Vec<_> = report["causes"]
        .as_array()
        .expect("causes")
        .iter()
        .map(|c| (c["reason"].as_str().expect("a reason"), c["message"].as_str().expect("a message")))
        .collect();
    assert_eq!(
        causes,
        [
            ("WouldFit", "b: with 2000m more cpu"),
            ("NodeResourcesFit", "a: Insufficient cpu"),
            ("NodeResourcesFit", "b: Insufficient cpu"),
        ]
    );
}

#[test]
fn pods_that_name_their_nodes_are_looked_at_there_alone() {
    let mut all = cluster(&[("a", "1", "x"), ("b", "2", "x"), ("c", "4", "x")]);
    let named = |cpu: &str, name: &str| {
        let mut spec = asks(cpu);
        spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]}}});
        pod("p", &spec)
    };
    let mut search = Search::new(1);
    assert_eq!(place(&mut search, &mut all, &named("1", "b")).ok().as_deref(), Some("b"));
    let Err(refusal) = place(&mut search, &mut all, &named("3", "b")) else { panic!("too large") };
    assert!(
        refusal.message.starts_with(
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
        ),
        "{}",
        refusal.message
    );
}

#[test]
fn room_that_was_made_for_a_pod_is_not_taken_by_a_lesser_one() {
    let mut all = cluster(&[("a", "4", "x")]);
    let mut spec = asks("3");
    spec["priority"] = json!(10);
    let important = pod("important", &spec);
    all.nominate(&important, "a");
    let mut search = Search::new(1);
    assert!(place(&mut search, &mut all, &pod("lesser", &asks("2"))).is_err());
    spec["containers"][0]["resources"]["requests"]["cpu"] = json!("2");
    spec["priority"] = json!(11);
    assert!(place(&mut search, &mut all, &pod("more", &spec)).is_ok());
    assert!(place(&mut search, &mut all, &important).is_ok(), "but by itself");
}
