use std::sync::Arc;

use serde_json::json;
use tiphys_client::ObjectKey;
use tokio::time::Instant;

use super::*;
use crate::{
    Config,
    pod::PodInfo,
    snapshot::{NodeFacts, Policy},
};

fn state(cpus: &[&str]) -> State {
    let mut state = State::new(&Config::default());
    for (n, cpu) in cpus.iter().enumerate() {
        let node = json!({"metadata": {"name": format!("n{n}")},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}});
        let node = Arc::new(NodeFacts::new(serde_json::from_value(node).expect("a node")));
        state.node_changed(None, Some(&node), Instant::now());
    }
    state
}

fn pod(name: &str, group: &str, cpu: &str) -> SharedPod {
    let mut spec = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
    if !group.is_empty() {
        spec["schedulingGroup"] = json!({"podGroupName": group});
    }
    let pod = json!({"metadata": {"namespace": "ns", "name": name, "uid": name}, "spec": spec});
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

fn come(state: &mut State, pod: &SharedPod) {
    state.pod_changed(None, Some(pod), Instant::now());
}

fn group(state: &mut State, name: &str, gang: Option<usize>) {
    let policy = Some(Arc::new(Policy { gang, told: None }));
    let key = ObjectKey::new("ns", name);
    let change = &mut |all: &mut crate::snapshot::Snapshot| all.set_group(&key, policy.clone());
    state.take(Some(&Event::GroupsChanged), change, Instant::now());
}

/// `+name` of each pod that gets a node, `-name` of each that does not, until nobody is left.
fn turns(state: &mut State) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(pod) = state.next(Instant::now()) {
        for (pod, outcome) in state.decide(&pod, Instant::now()) {
            let sign = if matches!(outcome, Outcome::Bind(..)) { '+' } else { '-' };
            told.push(format!("{sign}{}", pod.key().name));
        }
    }
    told.sort();
    told
}

#[test]
fn a_gang_waits_until_it_is_complete_and_then_goes_at_once() {
    let mut state = state(&["2", "2"]);
    let pods: Vec<_> = ["a", "b", "c"].map(|name| pod(name, "g", "1")).into();
    come(&mut state, &pods[0]);
    come(&mut state, &pods[1]);
    assert_eq!(turns(&mut state), [""; 0], "the group does not exist");
    group(&mut state, "g", Some(3));
    assert_eq!(turns(&mut state), [""; 0], "one is missing");
    come(&mut state, &pods[2]);
    let first = state.next(Instant::now()).expect("they are complete");
    let outcomes = state.decide(&first, Instant::now());
    assert_eq!(outcomes.len(), 3, "in one cycle");
    assert!(outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Bind(..))));
    let (key, news) = state.group_news(&first, &outcomes).expect("it has been placed");
    assert_eq!((&*key.name, news), ("g", Ok(())));
    assert_eq!(turns(&mut state), [""; 0]);
}

#[test]
fn fewer_than_a_gang_keep_no_node() {
    let mut state = state(&["2"]);
    group(&mut state, "g", Some(3));
    for name in ["a", "b", "c"] {
        come(&mut state, &pod(name, "g", "1"));
    }
    let first = state.next(Instant::now()).expect("they are complete");
    let outcomes = state.decide(&first, Instant::now());
    let messages: Vec<&str> = outcomes
        .iter()
        .map(|(_, outcome)| match outcome {
            Outcome::Refuse(refusal) => &*refusal.message,
            Outcome::Bind(..) => panic!("there is no room for all"),
        })
        .collect();
    let why = "minCount (3) cannot be satisfied: 2 scheduled, 0 remaining";
    assert_eq!(messages.len(), 3);
    assert!(messages[0].starts_with(&format!("{why}. 0/1 nodes are available: 1 Insufficient cpu.")));
    assert_eq!(messages[1..], [why, why]);
    let (_, news) = state.group_news(&first, &outcomes).expect("nobody knows yet");
    assert_eq!(news.expect_err("it has not been placed"), messages[0]);
    come(&mut state, &pod("other", "", "2"));
    assert_eq!(turns(&mut state), ["+other"], "what they did not keep is free");
    let more = json!({"metadata": {"name": "more"}, "status": {"allocatable": {"cpu": "4", "pods": "9"}}});
    let more = Arc::new(NodeFacts::new(serde_json::from_value(more).expect("a node")));
    state.node_changed(None, Some(&more), Instant::now());
    assert_eq!(turns(&mut state), ["+a", "+b", "+c"]);
}

#[test]
fn whoever_comes_later_is_placed_as_room_allows() {
    let mut state = state(&["3"]);
    group(&mut state, "g", Some(2));
    for name in ["a", "b", "c", "d"] {
        come(&mut state, &pod(name, "g", "1"));
    }
    let placed = turns(&mut state);
    assert_eq!(placed.iter().filter(|told| told.starts_with('+')).count(), 3, "{placed:?}");
    assert_eq!(placed.iter().filter(|told| told.starts_with('-')).count(), 1, "{placed:?}");
}

#[test]
fn a_basic_group_and_a_lower_count_hold_nobody_back() {
    let mut state = state(&["1"]);
    come(&mut state, &pod("a", "basic", "1"));
    come(&mut state, &pod("b", "gang", "1"));
    group(&mut state, "basic", None);
    group(&mut state, "gang", Some(2));
    assert_eq!(turns(&mut state), ["+a"]);
    group(&mut state, "gang", Some(1));
    assert_eq!(turns(&mut state), ["-b"], "it may be considered now");
}
