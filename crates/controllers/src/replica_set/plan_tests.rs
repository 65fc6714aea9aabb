use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

fn set(replicas: i32, change: impl Fn(&mut Value)) -> ReplicaSet {
    let mut set = json!({
        "metadata": {"name": "s", "namespace": "ns", "uid": "s", "generation": 4},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web", "tier": "front"}}, "spec": {"containers": []}}},
    });
    change(&mut set);
    serde_json::from_value(set).expect("a set")
}

fn pods(phases: &[&str]) -> Vec<Arc<Pod>> {
    phases
        .iter()
        .enumerate()
        .map(|(i, phase)| {
            let ready = if *phase == "Ready" { "True" } else { "False" };
            let mut pod = json!({
                "metadata": {"name": format!("p{i}"), "namespace": "ns", "uid": format!("p{i}"), "labels": {"app": "web"}},
                "spec": {"nodeName": "n", "containers": []},
                "status": {"phase": if *phase == "Ready" { "Running" } else { phase }, "conditions": [
                    {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:59:50Z"}]},
            });
            if *phase == "Going" {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z");
                pod["status"]["phase"] = json!("Running");
            }
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        })
        .collect()
}

#[test]
fn it_creates_what_is_missing_and_deletes_what_is_too_much() {
    #[derive(Debug, PartialEq)]
    enum Want {
        Nothing,
        Create(usize),
        Delete(&'static [&'static str]),
    }
    let cases: &[(i32, &[&str], bool, Want)] = &[
        (3, &[], true, Want::Create(3)),
        (3, &[], false, Want::Nothing),
        (3, &["Ready", "Failed", "Going", "Succeeded"], true, Want::Create(2)),
        (1000, &[], true, Want::Create(500)),
        (2, &["Ready", "Ready"], true, Want::Nothing),
        (1, &["Ready", "Pending", "Ready"], true, Want::Delete(&["p0", "p1"])),
        (0, &["Ready"], true, Want::Delete(&["p0"])),
        (1, &["Ready", "Pending"], false, Want::Nothing),
    ];
    for (replicas, phases, caught_up, want) in cases {
        let pods = pods(phases);
        let got = plan(&set(*replicas, |_| {}), &pods, &pods, *caught_up, now()).step;
        let got = match got {
            Step::Nothing => (None, vec![]),
            Step::Create(n) => (Some(n), vec![]),
            Step::Delete(pods) => (None, {
                let mut names: Vec<_> = pods.iter().map(|p| p.name().to_owned()).collect();
                names.sort();
                names
            }),
        };
        let want = match want {
            Want::Nothing => (None, vec![]),
            Want::Create(n) => (Some(*n), vec![]),
            Want::Delete(names) => (None, names.iter().map(|n| (*n).to_owned()).collect()),
        };
        assert_eq!(got, want, "{replicas} wanted, {phases:?} there");
    }
}

#[test]
fn a_set_that_is_going_leaves_its_pods_to_the_garbage_collector() {
    let set = set(3, |s| s["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    assert_eq!(plan(&set, &[], &[], true, now()).step, Step::Nothing);
}

#[test]
fn the_status_counts_and_waits_for_pods_to_become_available() {
    let set = set(3, |s| s["spec"]["minReadySeconds"] = json!(30));
    let pods = pods(&["Ready", "Pending", "Going"]);
    let plan = plan(&set, &pods, &pods, true, now());
    assert_eq!(plan.status.replicas, 2);
    assert_eq!(plan.status.ready_replicas, Some(1));
    assert_eq!(plan.status.available_replicas, Some(0));
    assert_eq!(plan.status.terminating_replicas, Some(1));
    assert_eq!(plan.status.fully_labeled_replicas, Some(0), "the pods lack a label of the template");
    assert_eq!(plan.status.observed_generation, Some(4));
    assert_eq!(plan.look_again, Some(Duration::from_secs(20)));
}

#[test]
fn a_failure_is_told_until_it_is_over() {
    let mut status = ReplicaSetStatus::default();
    tell_failure(&mut status, Some(("FailedCreate", "quota".to_owned())), now());
    let told = status.conditions.clone();
    assert_eq!(told.as_ref().map(Vec::len), Some(1));
    tell_failure(&mut status, Some(("FailedCreate", "quota again".to_owned())), now());
    assert_eq!(status.conditions, told, "the same reason is no news");
    tell_failure(&mut status, None, now());
    assert_eq!(status.conditions, None);
}
