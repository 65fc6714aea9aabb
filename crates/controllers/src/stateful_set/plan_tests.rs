use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

fn set(replicas: i32, change: impl Fn(&mut Value)) -> StatefulSet {
    let mut set = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "set", "generation": 4},
        "spec": {"replicas": replicas, "serviceName": "nginx", "selector": {"matchLabels": {"app": "web"}},
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
    });
    change(&mut set);
    serde_json::from_value(set).expect("a set")
}

fn parallel(set: &mut Value) {
    set["spec"]["podManagementPolicy"] = json!("Parallel");
}

fn revisions() -> Revisions {
    Revisions { current: "web-old".to_owned(), update: "web-new".to_owned(), collisions: 0 }
}

/// Pods by ordinal, revision and state: `Ready`, a phase, or `Going`.
fn pods(them: &[(i32, &str, &str)]) -> Vec<Arc<Pod>> {
    them.iter()
        .map(|(ordinal, revision, state)| {
            let ready = matches!(*state, "Ready" | "Going");
            let phase = if ready || *state == "Unready" { "Running" } else { state };
            let name = format!("web-{ordinal}");
            let mut pod = json!({
                "metadata": {"name": name, "namespace": "ns", "uid": name,
                    "creationTimestamp": "2026-01-01T00:59:00Z",
                    "labels": {"app": "web", POD_NAME: name, REVISION: format!("web-{revision}")}},
                "status": {"phase": phase, "conditions": [{"type": "Ready",
                    "status": if ready { "True" } else { "False" }, "lastTransitionTime": "2026-01-01T00:59:50Z"}]},
            });
            if *state == "Going" {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:59Z");
            }
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        })
        .collect()
}

fn claim(name: &str, change: impl Fn(&mut Value)) -> Arc<PersistentVolumeClaim> {
    let mut claim = json!({"metadata": {"name": name, "namespace": "ns", "uid": name}});
    change(&mut claim);
    Arc::new(serde_json::from_value(claim).expect("a claim"))
}

/// What a plan comes to: `+2@new` makes web-2 at the new revision, `-1` deletes web-1.
fn acts(plan: &Plan) -> Vec<String> {
    let made =
        plan.create.iter().map(|p| format!("+{}@{}", p.ordinal, p.revision.trim_start_matches("web-")));
    let gone = plan.delete.iter().map(|p| format!("-{}", p.name().trim_start_matches("web-")));
    made.chain(gone).collect()
}

fn run(set: &StatefulSet, them: &[(i32, &str, &str)]) -> Plan {
    plan(set, &revisions(), &pods(them), &|name| Some(claim(name, |_| {})), true, now())
}

#[test]
fn ordered_pods_come_and_go_one_after_the_other() {
    type Pods = &'static [(i32, &'static str, &'static str)];
    let cases: &[(i32, Pods, &[&str])] = &[
        (3, &[], &["+0@new"]),
        (3, &[(0, "new", "Pending")], &[]),
        (3, &[(0, "new", "Unready")], &[]),
        (3, &[(0, "new", "Ready")], &["+1@new"]),
        (3, &[(0, "new", "Ready"), (2, "new", "Ready")], &["+1@new"]),
        (3, &[(0, "new", "Going"), (1, "new", "Ready")], &[]),
        // However a pod ended, it runs again under its name, and others wait for it.
        (3, &[(0, "new", "Failed"), (1, "new", "Ready")], &["-0"]),
        (3, &[(0, "new", "Succeeded")], &["-0"]),
        // The highest goes first, when all others are well.
        (1, &[(0, "new", "Ready"), (1, "new", "Ready"), (2, "new", "Ready")], &["-2"]),
        (1, &[(0, "new", "Ready"), (1, "new", "Ready"), (2, "new", "Going")], &[]),
        (1, &[(0, "new", "Unready"), (1, "new", "Ready")], &[]),
        (1, &[(0, "new", "Ready"), (1, "new", "Unready"), (2, "new", "Ready")], &["-2"]),
        (1, &[(0, "new", "Ready"), (1, "new", "Unready"), (2, "new", "Unready")], &[]),
        (1, &[(0, "new", "Ready"), (1, "new", "Ready"), (2, "new", "Unready")], &["-2"]),
        (0, &[(0, "new", "Unready")], &["-0"]),
    ];
    for (replicas, them, want) in cases {
        assert_eq!(acts(&run(&set(*replicas, |_| {}), them)), *want, "{replicas} wanted, {them:?} there");
    }
}

#[test]
fn parallel_pods_wait_for_nobody() {
    let set = |replicas| set(replicas, parallel);
    assert_eq!(acts(&run(&set(3), &[(1, "new", "Pending")])), ["+0@new", "+2@new"]);
    let them = [(0, "new", "Unready"), (1, "new", "Ready"), (2, "new", "Unready"), (3, "new", "Going")];
    assert_eq!(acts(&run(&set(1), &them)), ["-2", "-1"]);
}

#[test]
fn rollouts_go_from_the_highest_down_as_far_as_pods_may_be_missed() {
    type Pods = &'static [(i32, &'static str, &'static str)];
    const OLD: Pods = &[(0, "old", "Ready"), (1, "old", "Ready"), (2, "old", "Ready"), (3, "old", "Ready")];
    let cases: &[(bool, Value, Pods, &[&str])] = &[
        (true, json!({}), OLD, &["-3"]),
        (true, json!({"partition": 3}), OLD, &["-3"]),
        (true, json!({"partition": 4}), OLD, &[]),
        (true, json!({"partition": 9}), OLD, &[]),
        (true, json!({"maxUnavailable": 2}), OLD, &["-3", "-2"]),
        (true, json!({"maxUnavailable": "50%"}), OLD, &["-3", "-2"]),
        (true, json!({"maxUnavailable": "10%"}), OLD, &["-3"]),
        (true, json!({"maxUnavailable": 9, "partition": 2}), OLD, &["-3", "-2"]),
        (
            true,
            json!({}),
            &[(0, "old", "Ready"), (1, "old", "Ready"), (2, "old", "Ready"), (3, "new", "Ready")],
            &["-2"],
        ),
        // A rollout to what does not run, or from it, waits until somebody deletes the pod.
        (
            true,
            json!({}),
            &[(0, "old", "Ready"), (1, "old", "Ready"), (2, "old", "Ready"), (3, "new", "Unready")],
            &[],
        ),
        (
            true,
            json!({}),
            &[(0, "old", "Unready"), (1, "old", "Ready"), (2, "old", "Ready"), (3, "old", "Ready")],
            &[],
        ),
        // In parallel it does not: what serves nobody is not missed.
        (
            false,
            json!({}),
            &[(0, "old", "Unready"), (1, "old", "Ready"), (2, "old", "Unready"), (3, "old", "Ready")],
            &["-2", "-0"],
        ),
        (
            false,
            json!({"partition": 1}),
            &[(0, "old", "Unready"), (1, "old", "Ready"), (2, "old", "Unready"), (3, "old", "Ready")],
            &["-2"],
        ),
        (
            false,
            json!({"maxUnavailable": 2}),
            &[(0, "new", "Unready"), (1, "old", "Ready"), (2, "old", "Ready"), (3, "old", "Ready")],
            &["-3"],
        ),
        (
            false,
            json!({"maxUnavailable": 2}),
            &[(0, "old", "Ready"), (1, "old", "Ready"), (2, "old", "Going"), (3, "old", "Going")],
            &[],
        ),
    ];
    for (ordered, rolling, them, want) in cases {
        let set = set(4, |s| {
            if !ordered {
                parallel(s);
            }
            s["spec"]["updateStrategy"]["rollingUpdate"] = rolling.clone();
        });
        assert_eq!(acts(&run(&set, them)), *want, "{rolling}, {them:?}");
    }
}

#[test]
fn a_lost_pod_comes_back_at_its_own_revision() {
    let at = |partition: i32, start: i32| {
        let set = set(2, |s| {
            parallel(s);
            s["spec"]["ordinals"] = json!({"start": start});
            s["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(partition);
        });
        acts(&run(&set, &[]))
    };
    assert_eq!(at(0, 0), ["+0@new", "+1@new"]);
    assert_eq!(at(1, 0), ["+0@old", "+1@new"]);
    assert_eq!(at(2, 0), ["+0@old", "+1@old"]);
    assert_eq!(at(1, 5), ["+5@old", "+6@new"]);
}

#[test]
fn pods_are_replaced_when_somebody_deletes_them_if_that_is_asked() {
    let set = set(2, |s| s["spec"]["updateStrategy"] = json!({"type": "OnDelete"}));
    assert_eq!(acts(&run(&set, &[(0, "old", "Ready"), (1, "old", "Ready")])), [""; 0]);
    assert_eq!(acts(&run(&set, &[(0, "old", "Ready")])), ["+1@new"]);
}

#[test]
fn places_begin_where_the_set_says() {
    let set = set(2, |s| s["spec"]["ordinals"] = json!({"start": 5}));
    let them = [(4, "new", "Ready"), (5, "new", "Ready"), (6, "new", "Ready"), (7, "new", "Ready")];
    assert_eq!(acts(&run(&set, &them)), ["-7"]);
    assert_eq!(acts(&run(&set, &[(4, "new", "Ready"), (5, "new", "Ready"), (6, "new", "Ready")])), ["-4"]);
}

#[test]
fn nothing_is_done_while_the_last_is_not_seen_or_the_set_goes() {
    let claims = |name: &str| Some(claim(name, |_| {}));
    let plan = |set: &StatefulSet, caught_up| super::plan(set, &revisions(), &[], &claims, caught_up, now());
    assert_eq!(acts(&plan(&set(1, |_| {}), false)), [""; 0]);
    let going = set(1, |s| s["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    assert_eq!(acts(&plan(&going, true)), [""; 0]);
}

#[test]
fn pods_must_be_ready_for_long_enough() {
    let set = set(2, |s| s["spec"]["minReadySeconds"] = json!(30));
    let plan = run(&set, &[(0, "new", "Ready")]);
    assert_eq!(acts(&plan), [""; 0]);
    assert_eq!(plan.look_again, Some(Duration::from_secs(20)));
    assert_eq!((plan.status.ready_replicas, plan.status.available_replicas), (Some(1), Some(0)));
}

#[test]
fn a_pod_that_is_refused_at_once_is_not_made_anew_at_once() {
    let mut failed = (*pods(&[(0, "new", "Failed")])[0]).clone();
    failed.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let plan = plan(&set(1, |_| {}), &revisions(), &[Arc::new(failed)], &|_| None, true, now());
    assert_eq!(acts(&plan), [""; 0]);
    assert_eq!(plan.look_again, Some(SHORTEST_LIFE));
}

#[test]
fn the_status_tells_how_far_a_rollout_is() {
    let them = [(0, "old", "Ready"), (1, "old", "Going"), (2, "new", "Pending")];
    let status = run(&set(3, |_| {}), &them).status;
    assert_eq!(status.replicas, 3);
    assert_eq!(status.ready_replicas, Some(2));
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(1), Some(1)));
    assert_eq!(status.current_revision.as_deref(), Some("web-old"));
    assert_eq!(status.update_revision.as_deref(), Some("web-new"));
    assert_eq!(status.observed_generation, Some(4));
    // A finished one is the new normal; one by hand never is.
    let them = [(0, "new", "Ready"), (1, "new", "Ready")];
    let status = run(&set(2, |_| {}), &them).status;
    assert_eq!(status.current_revision.as_deref(), Some("web-new"));
    assert_eq!(status.current_replicas, Some(2));
    let by_hand = set(2, |s| s["spec"]["updateStrategy"] = json!({"type": "OnDelete"}));
    assert_eq!(run(&by_hand, &them).status.current_revision.as_deref(), Some("web-old"));
    assert_eq!(run(&set(3, |_| {}), &them).status.current_revision.as_deref(), Some("web-old"));
}

#[test]
fn claims_come_before_their_pods_and_are_found_again() {
    let set = set(2, |_| {});
    let plan = |them: &[(i32, &str, &str)], there: &[&str]| {
        let claims = |name: &str| there.contains(&name).then(|| claim(name, |_| {}));
        let plan = plan(&set, &revisions(), &pods(them), &claims, true, now());
        plan.claims.iter().map(|(pod, c)| format!("{pod}:{}", c.name())).collect::<Vec<_>>()
    };
    assert_eq!(plan(&[], &[]), ["web-0:data-web-0"]);
    assert_eq!(plan(&[], &["data-web-0"]), [""; 0]);
    assert_eq!(plan(&[(0, "new", "Pending")], &[]), ["web-0:data-web-0"], "a lost one is made again");
    assert_eq!(plan(&[(0, "new", "Unready")], &[]), [""; 0]);
}

#[test]
fn a_pod_waits_for_the_claim_of_its_forerunner_to_go() {
    let scaled = |s: &mut Value| {
        s["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenScaled": "Delete"});
    };
    let forerunners = |c: &mut Value| {
        c["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "before", "controller": true}]);
    };
    let going = |c: &mut Value| c["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let plan = |set: StatefulSet, change: &dyn Fn(&mut Value)| {
        acts(&plan(&set, &revisions(), &[], &|name| Some(claim(name, change)), true, now()))
    };
    assert_eq!(plan(set(1, scaled), &forerunners), [""; 0]);
    assert_eq!(plan(set(1, |_| {}), &forerunners), ["+0@new"]);
    assert_eq!(plan(set(1, scaled), &|_| {}), ["+0@new"]);
    assert_eq!(plan(set(1, |_| {}), &going), [""; 0]);
}

#[test]
fn claims_belong_to_whoever_takes_them_along() {
    let owners = |deleted: &str, scaled: &str, replicas: i32, change: &dyn Fn(&mut Value)| {
        let set = set(replicas, |s| {
            s["spec"]["persistentVolumeClaimRetentionPolicy"] =
                json!({"whenDeleted": deleted, "whenScaled": scaled});
        });
        let claims = |name: &str| Some(claim(name, change));
        let plan = plan(
            &set,
            &revisions(),
            &pods(&[(0, "new", "Ready"), (1, "new", "Ready")]),
            &claims,
            true,
            now(),
        );
        let owners = plan.owners.iter().map(|(claim, owners)| {
            let owners: Vec<_> = owners.iter().map(|o| format!("{} {}", o.kind, o.name)).collect();
            format!("{}: {}", claim.name(), owners.join(","))
        });
        owners.collect::<Vec<_>>()
    };
    let nobodys: &dyn Fn(&mut Value) = &|_| {};
    let the_sets: &dyn Fn(&mut Value) = &|c| {
        c["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web",
            "uid": "set", "controller": true, "blockOwnerDeletion": true}]);
    };
    let anothers: &dyn Fn(&mut Value) = &|c| {
        c["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Other", "name": "x", "uid": "x", "controller": true}]);
    };
    let none = [""; 0];
    assert_eq!(owners("Retain", "Retain", 1, nobodys), none);
    assert_eq!(owners("Retain", "Retain", 1, the_sets), ["data-web-0: ", "data-web-1: "]);
    assert_eq!(
        owners("Delete", "Retain", 1, nobodys),
        ["data-web-0: StatefulSet web", "data-web-1: StatefulSet web"]
    );
    assert_eq!(owners("Delete", "Retain", 1, the_sets), none);
    assert_eq!(owners("Retain", "Delete", 1, nobodys), ["data-web-1: Pod web-1"]);
    assert_eq!(owners("Delete", "Delete", 1, the_sets), ["data-web-1: Pod web-1"]);
    assert_eq!(owners("Delete", "Delete", 2, the_sets), none);
    assert_eq!(owners("Delete", "Delete", 1, anothers), none, "another controller has a say");
}

#[test]
fn adopted_pods_get_their_name_as_a_label() {
    let mut pod = (*pods(&[(0, "new", "Ready")])[0]).clone();
    pod.metadata.labels.get_or_insert_default().remove(POD_NAME);
    let plan =
        plan(&set(1, |_| {}), &revisions(), &[Arc::new(pod)], &|n| Some(claim(n, |_| {})), true, now());
    assert_eq!(plan.name.len(), 1);
    assert!(run(&set(1, |_| {}), &[(0, "new", "Ready")]).name.is_empty());
}
