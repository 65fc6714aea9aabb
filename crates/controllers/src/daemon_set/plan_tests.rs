use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

fn set(rolling: Value) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": {"name": "agent", "namespace": "ns", "uid": "set", "generation": 3},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "minReadySeconds": 30,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": []}}},
        "status": {"observedGeneration": 2, "currentNumberScheduled": 0, "desiredNumberScheduled": 0,
            "numberMisscheduled": 0, "numberReady": 0},
    }))
    .expect("a set")
}

fn by_hand() -> DaemonSet {
    let mut set = set(json!({}));
    set.spec.update_strategy = Some(serde_json::from_value(json!({"type": "OnDelete"})).expect("a strategy"));
    set
}

/// Nodes by name; one after `!` bears no daemons, one after `~` none that are not there yet.
fn nodes(names: &[&str]) -> Vec<Arc<Node>> {
    names
        .iter()
        .map(|name| {
            let effect = match name.as_bytes()[0] {
                b'!' => "NoExecute",
                b'~' => "NoSchedule",
                _ => "PreferNoSchedule",
            };
            let node = json!({"metadata": {"name": name.trim_start_matches(['!', '~'])},
                "spec": {"taints": [{"key": "mine", "effect": effect}]}});
            Arc::new(serde_json::from_value(node).expect("a node"))
        })
        .collect()
}

/// Pods by name, node, revision and state: `Available`, `Ready`, a phase, `Going` or `Unbound`.
fn pods(them: &[(&str, &str, &str, &str)]) -> Vec<Arc<Pod>> {
    let made = them.iter().enumerate().map(|(i, (name, node, revision, state))| {
        let ready = matches!(*state, "Available" | "Ready" | "Going");
        let phase = match *state {
            "Available" | "Ready" | "Going" => "Running",
            "Unbound" => "Pending",
            phase => phase,
        };
        let since = if *state == "Ready" { "2026-01-01T00:59:50Z" } else { "2026-01-01T00:50:00Z" };
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name,
                "creationTimestamp": format!("2026-01-01T00:00:{i:02}Z"),
                "labels": {"app": "agent", "controller-revision-hash": revision}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "conditions": [{"type": "Ready",
                "status": if ready { "True" } else { "False" }, "lastTransitionTime": since}]},
        });
        if *state == "Going" {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:59Z");
        }
        if *state == "Unbound" {
            pod["spec"] = json!({"containers": [], "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}}});
        }
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    });
    made.collect()
}

fn run(set: &DaemonSet, on: &[&str], them: &[(&str, &str, &str, &str)]) -> Plan {
    plan(&Seen {
        set,
        hash: "new",
        collisions: 0,
        nodes: &nodes(on),
        pods: &pods(them),
        caught_up: true,
        backoff: &|_| Duration::ZERO,
        now: now(),
    })
}

/// `+n1` makes a pod for n1, `-a` deletes a.
fn acts(plan: &Plan) -> Vec<String> {
    let made = plan.create.iter().map(|node| format!("+{node}"));
    made.chain(plan.delete.iter().map(|pod| format!("-{}", pod.name()))).collect()
}

#[test]
fn every_eligible_node_has_one_pod_and_no_other_has() {
    type Pods = &'static [(&'static str, &'static str, &'static str, &'static str)];
    let cases: &[(&[&str], Pods, &[&str])] = &[
        (&["n1", "!n2", "~n3", "n4"], &[], &["+n1", "+n4"]),
        (&["n1"], &[("a", "n1", "new", "Unbound")], &[]),
        (&["n1"], &[("a", "n1", "new", "Going")], &[]),
        (&["!n1"], &[("a", "n1", "new", "Available")], &["-a"]),
        (&["!n1"], &[("a", "n1", "new", "Going")], &[]),
        (&["~n1"], &[("a", "n1", "new", "Available")], &[]),
        (&["n1"], &[("a", "n1", "new", "Available"), ("b", "n1", "new", "Available")], &["-b"]),
        (&["n1"], &[("a", "n1", "new", "Unbound"), ("b", "n1", "new", "Available")], &["-a"]),
        (&["n1"], &[("a", "n1", "new", "Failed")], &["-a"]),
        (&["n1"], &[("a", "n1", "new", "Succeeded")], &["-a"]),
        (&["n1"], &[("a", "n1", "new", "Failed"), ("b", "n1", "new", "Available")], &["-a"]),
        // Who waits for a node that is gone waits for ever; what ran there is the pod collector's.
        (&["n1"], &[("a", "n1", "new", "Available"), ("b", "gone", "new", "Unbound")], &["-b"]),
        (&["n1"], &[("a", "n1", "new", "Available"), ("b", "gone", "new", "Available")], &[]),
    ];
    for (on, them, want) in cases {
        assert_eq!(acts(&run(&by_hand(), on, them)), *want, "{on:?}, {them:?}");
    }
}

#[test]
fn what_a_finalizer_keeps_after_its_end_does_not_hold_up_the_next() {
    let ended = |finalizers: &[&str]| {
        let mut pod = (*pods(&[("a", "n1", "new", "Going")])[0]).clone();
        pod.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
        pod.metadata.finalizers = Some(finalizers.iter().map(|f| (*f).to_owned()).collect());
        let set = by_hand();
        let plan = plan(&Seen {
            set: &set,
            hash: "new",
            collisions: 0,
            nodes: &nodes(&["n1"]),
            pods: &[Arc::new(pod)],
            caught_up: true,
            backoff: &|_| Duration::ZERO,
            now: now(),
        });
        acts(&plan)
    };
    assert_eq!(ended(&["example.com/keep"]), ["+n1"]);
    assert_eq!(ended(&[]), [""; 0]);
}

#[test]
fn failed_pods_wait_out_the_back_off() {
    let set = by_hand();
    let plan = |left: u64| {
        plan(&Seen {
            set: &set,
            hash: "new",
            collisions: 0,
            nodes: &nodes(&["n1"]),
            pods: &pods(&[("a", "n1", "new", "Failed")]),
            caught_up: true,
            backoff: &|_| Duration::from_secs(left),
            now: now(),
        })
    };
    let waiting = plan(8);
    assert_eq!((acts(&waiting).len(), waiting.look_again), (0, Some(Duration::from_secs(8))));
    let over = plan(0);
    assert_eq!(acts(&over), ["-a"]);
    assert_eq!(over.ended, [Ended { pod: "a".to_owned(), node: "n1".to_owned(), failed: true }]);
}

#[test]
fn rollouts_replace_as_many_as_may_be_missed() {
    type Pods = &'static [(&'static str, &'static str, &'static str, &'static str)];
    const OLD: Pods =
        &[("a", "n1", "old", "Available"), ("b", "n2", "old", "Available"), ("c", "n3", "old", "Available")];
    let cases: &[(Value, Pods, &[&str])] = &[
        (json!({}), OLD, &["-a"]),
        (json!({"maxUnavailable": 2}), OLD, &["-a", "-b"]),
        (json!({"maxUnavailable": "34%"}), OLD, &["-a", "-b"]),
        (json!({"maxUnavailable": 0}), OLD, &["-a"]),
        (
            json!({}),
            &[("a", "n1", "new", "Ready"), ("b", "n2", "old", "Available"), ("c", "n3", "old", "Available")],
            &[],
        ),
        (
            json!({}),
            &[
                ("a", "n1", "new", "Available"),
                ("b", "n2", "old", "Available"),
                ("c", "n3", "old", "Available"),
            ],
            &["-b"],
        ),
        // What does not serve is not missed, be it all of them.
        (
            json!({}),
            &[("a", "n1", "old", "Pending"), ("b", "n2", "old", "Ready"), ("c", "n3", "old", "Available")],
            &["-a", "-b"],
        ),
        (
            json!({}),
            &[("a", "n1", "old", "Going"), ("b", "n2", "old", "Available"), ("c", "n3", "old", "Available")],
            &[],
        ),
    ];
    for (rolling, them, want) in cases {
        assert_eq!(
            acts(&run(&set(rolling.clone()), &["n1", "n2", "n3"], them)),
            *want,
            "{rolling}, {them:?}"
        );
    }
    assert_eq!(acts(&run(&by_hand(), &["n1", "n2", "n3"], OLD)), [""; 0]);
    // Missing pods come first.
    assert_eq!(acts(&run(&set(json!({})), &["n1", "n2", "n3", "n4"], OLD)), ["+n4"]);
}

#[test]
fn rollouts_surge_as_far_as_they_may() {
    type Pods = &'static [(&'static str, &'static str, &'static str, &'static str)];
    const OLD: Pods =
        &[("a", "n1", "old", "Available"), ("b", "n2", "old", "Available"), ("c", "n3", "old", "Available")];
    let cases: &[(Value, Pods, &[&str])] = &[
        (json!(1), OLD, &["+n1"]),
        (json!("50%"), OLD, &["+n1", "+n2"]),
        (
            json!(1),
            &[("a", "n1", "old", "Available"), ("x", "n1", "new", "Ready"), ("b", "n2", "old", "Available")],
            &[],
        ),
        (
            json!(2),
            &[("a", "n1", "old", "Available"), ("x", "n1", "new", "Ready"), ("b", "n2", "old", "Available")],
            &["+n2"],
        ),
        // The old one goes once the new one serves, or where it does not serve itself.
        (
            json!(1),
            &[
                ("a", "n1", "old", "Available"),
                ("x", "n1", "new", "Available"),
                ("b", "n2", "old", "Available"),
            ],
            &["-a"],
        ),
        (
            json!(1),
            &[("a", "n1", "old", "Pending"), ("x", "n1", "new", "Pending"), ("b", "n2", "old", "Available")],
            &["-a"],
        ),
        // Beside what does not serve there is room at once.
        (json!(1), &[("a", "n1", "old", "Pending"), ("b", "n2", "old", "Available")], &["+n1", "+n2"]),
        // Two of one side are one too many.
        (
            json!(1),
            &[
                ("a", "n1", "old", "Available"),
                ("x", "n1", "new", "Ready"),
                ("y", "n1", "new", "Ready"),
                ("b", "n2", "old", "Available"),
            ],
            &["-y"],
        ),
    ];
    for (surge, them, want) in cases {
        let set = set(json!({"maxSurge": surge, "maxUnavailable": 0}));
        let on: &[&str] =
            if them.len() == 3 && them[2].1 == "n3" { &["n1", "n2", "n3"] } else { &["n1", "n2"] };
        assert_eq!(acts(&run(&set, on, them)), *want, "{surge}, {them:?}");
    }
}

#[test]
fn while_surging_a_pod_that_goes_is_replaced_before_it_is_gone() {
    let surging = set(json!({"maxSurge": 1, "maxUnavailable": 0}));
    let going = [("a", "n1", "new", "Going")];
    assert_eq!(acts(&run(&surging, &["n1"], &going)), ["+n1"]);
    assert_eq!(acts(&run(&surging, &["!n1"], &going)), [""; 0]);
    assert_eq!(acts(&run(&set(json!({})), &["n1"], &going)), [""; 0]);
    let next = [("a", "n1", "new", "Going"), ("b", "n1", "new", "Pending")];
    assert_eq!(acts(&run(&surging, &["n1"], &next)), [""; 0]);
}

#[test]
fn while_surging_what_no_longer_belongs_serves_until_there_are_enough() {
    let surging = set(json!({"maxSurge": 1, "maxUnavailable": 0}));
    let there = |mine: &'static str, other: &'static str| {
        acts(&run(&surging, &["~n1", "n2"], &[("a", "n1", "old", mine), ("b", "n2", "new", other)]))
    };
    assert_eq!(there("Available", "Pending"), [""; 0]);
    assert_eq!(there("Available", "Available"), ["-a"]);
    assert_eq!(there("Pending", "Pending"), ["-a"]);
}

#[test]
fn the_status_counts_nodes_not_pods() {
    let them = [
        ("a", "n1", "new", "Available"),
        ("b", "n1", "new", "Available"),
        ("c", "n2", "old", "Ready"),
        ("d", "n3", "old", "Available"),
    ];
    let plan = run(&by_hand(), &["n1", "n2", "~n3", "n4"], &them);
    let status = &plan.status;
    assert_eq!(status.desired_number_scheduled, 3);
    assert_eq!(status.current_number_scheduled, 2);
    assert_eq!(status.number_misscheduled, 1);
    assert_eq!(status.number_ready, 2);
    assert_eq!(status.number_available, Some(1));
    assert_eq!(status.number_unavailable, Some(2));
    assert_eq!(status.updated_number_scheduled, Some(1));
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(plan.look_again, Some(Duration::from_secs(20)));
}

#[test]
fn nothing_is_done_while_the_last_is_not_seen() {
    let set = set(json!({}));
    let plan = plan(&Seen {
        set: &set,
        hash: "new",
        collisions: 0,
        nodes: &nodes(&["n1"]),
        pods: &[],
        caught_up: false,
        backoff: &|_| Duration::ZERO,
        now: now(),
    });
    assert_eq!(acts(&plan), [""; 0]);
    assert_eq!(plan.status.observed_generation, Some(2), "the generation was not worked on");
}
