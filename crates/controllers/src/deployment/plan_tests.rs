use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

fn deployment(replicas: i32, image: &str, change: impl Fn(&mut Value)) -> Deployment {
    let mut deployment = json!({
        "metadata": {"name": "d", "namespace": "ns", "uid": "d", "generation": 1,
            "annotations": {"deployment.kubernetes.io/revision": "1"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}},
    });
    change(&mut deployment);
    serde_json::from_value(deployment).expect("a deployment")
}

/// A set of the given image, its size and how many of it are available, sized for `wanted`.
fn set(image: &str, size: i32, available: i32, revision: i64, wanted: i32) -> Arc<ReplicaSet> {
    let d = deployment(wanted, image, |_| {});
    let mut set = sets::make(&d, revision, Bounds::of(&d), size);
    set.metadata.uid = Some(format!("uid-{image}"));
    set.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        Timestamp::from_second(1_700_000_000 + revision).expect("a time"),
    ));
    set.status = serde_json::from_value(
        json!({"replicas": size, "readyReplicas": available, "availableReplicas": available}),
    )
    .expect("a status");
    Arc::new(set)
}

fn told(plan: &Plan) -> Vec<String> {
    plan.actions
        .iter()
        .map(|action| {
            let image = |set: &ReplicaSet| {
                let spec = set.spec.template.as_ref().and_then(|t| t.spec.as_ref());
                spec.and_then(|s| s.containers[0].image.clone()).unwrap_or_default()
            };
            match action {
                Action::Create(set) => format!("create {} {}", image(set), replicas(set)),
                Action::Resize { set, to, .. } => format!("{} {}->{to}", image(set), replicas(set)),
                Action::Describe { set, .. } => format!("describe {}", image(set)),
                Action::Delete(set) => format!("delete {}", image(set)),
                Action::Mark { revision } => format!("revision {revision}"),
            }
        })
        .collect()
}

#[test]
fn a_rollout_goes_step_by_step_within_its_bounds() {
    let v2 = deployment(4, "v2", |_| {});
    // Four wanted, one more may be there, one may be missing.
    let steps: &[(&[Arc<ReplicaSet>], &[&str])] = &[
        (&[], &["create v2 4"]),
        (&[set("v1", 4, 4, 1, 4)], &["create v2 1", "revision 2"]),
        (&[set("v1", 4, 4, 1, 4), set("v2", 1, 0, 2, 4)], &["revision 2", "v1 4->3"]),
        (&[set("v1", 3, 3, 1, 4), set("v2", 1, 0, 2, 4)], &["revision 2", "v2 1->2"]),
        (&[set("v1", 3, 3, 1, 4), set("v2", 2, 0, 2, 4)], &["revision 2"]),
        (&[set("v1", 3, 3, 1, 4), set("v2", 2, 2, 2, 4)], &["revision 2", "v1 3->1"]),
        (&[set("v1", 1, 1, 1, 4), set("v2", 2, 2, 2, 4)], &["revision 2", "v2 2->4"]),
        (&[set("v1", 1, 1, 1, 4), set("v2", 4, 4, 2, 4)], &["revision 2", "v1 1->0"]),
        // Old pods that serve nobody go first, though few new ones are available.
        (&[set("v1", 4, 1, 1, 4), set("v2", 1, 0, 2, 4)], &["revision 2", "v1 4->3"]),
        // The old set has just shrunk, and tells still of a pod more than it keeps.
        (&[set("v1", 3, 4, 1, 4), set("v2", 2, 2, 2, 4)], &["revision 2", "v1 3->1"]),
        // So has the new one, before the rollout was turned back to it.
        (&[set("v1", 3, 3, 1, 4), set("v2", 2, 4, 2, 4)], &["revision 2", "v1 3->1"]),
    ];
    for (sets, want) in steps {
        assert_eq!(
            told(&plan(&v2, sets, true, now())),
            *want,
            "{:?}",
            sets.iter().map(|s| replicas(s)).collect::<Vec<_>>()
        );
    }
}

#[test]
fn recreate_waits_until_the_last_old_pod_has_stopped() {
    let v2 = deployment(2, "v2", |d| d["spec"]["strategy"] = json!({"type": "Recreate"}));
    assert_eq!(told(&plan(&v2, &[set("v1", 2, 2, 1, 2)], true, now())), ["v1 2->0"]);
    assert_eq!(told(&plan(&v2, &[set("v1", 0, 0, 1, 2)], true, now())), [""; 0]);
    assert_eq!(told(&plan(&v2, &[set("v1", 0, 0, 1, 2)], false, now())), ["create v2 2", "revision 2"]);
}

#[test]
fn a_rollback_gives_the_old_set_the_newest_revision() {
    let back = deployment(2, "v1", |_| {});
    let plan = plan(&back, &[set("v1", 0, 0, 1, 2), set("v2", 2, 2, 2, 2)], true, now());
    assert_eq!(told(&plan), ["revision 3", "v1 0->1"]);
    let Some(Action::Resize { annotations, .. }) = plan.actions.last() else { panic!("a resize") };
    assert_eq!(annotations[sets::REVISION], "3");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn scaling_in_mid_rollout_is_spread_in_proportion() {
    let more = deployment(20, "v2", |_| {});
    // 10 wanted with a surge of 3 (25% of 10, rounded up): 8 + 5 = 13 there; 20 + 5 may be there now.
    let plan = plan(&more, &[set("v1", 8, 8, 1, 10), set("v2", 5, 2, 2, 10)], true, now());
    assert_eq!(told(&plan), ["revision 2", "v1 8->15", "v2 5->10"]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let paused = deployment(3, "v2", |d| d["spec"]["paused"] = json!(true));
    assert_eq!(told(&plan(&paused, &[set("v1", 2, 2, 1, 2)], true, now())), ["v1 2->3"]);
    let plan = plan(&paused, &[set("v1", 3, 3, 1, 3)], true, now());
    assert_eq!(told(&plan), [""; 0]);
    let conditions = plan.status.conditions.unwrap_or_default();
    assert!(conditions.iter().any(|c| c.reason.as_deref() == Some("DeploymentPaused")));
}

#[test]
fn history_beyond_its_limit_goes_once_the_rollout_is_complete() {
    let v4 = deployment(1, "v4", |d| {
        d["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("4")
    });
    let old = || vec![set("v1", 0, 0, 1, 1), set("v2", 0, 0, 2, 1), set("v3", 0, 0, 3, 1)];
    let mut sets = old();
    sets.push(set("v4", 1, 1, 4, 1));
    assert_eq!(told(&plan(&v4, &sets, false, now())), ["delete v1", "delete v2"]);
    let mut sets = old();
    sets.push(set("v4", 1, 0, 4, 1));
    assert_eq!(told(&plan(&v4, &sets, false, now())), [""; 0]);
}

#[test]
fn progress_is_told_and_its_deadline_kept() {
    let reason = |plan: &Plan| {
        let conditions = plan.status.conditions.clone().unwrap_or_default();
        conditions.iter().find(|c| c.type_.as_deref() == Some("Progressing")).and_then(|c| c.reason.clone())
    };
    let fresh = deployment(2, "v1", |_| {});
    assert_eq!(reason(&plan(&fresh, &[], true, now())).as_deref(), Some("NewReplicaSetCreated"));
    let done = plan(&fresh, &[set("v1", 2, 2, 1, 2)], true, now());
    assert_eq!(reason(&done).as_deref(), Some("NewReplicaSetAvailable"));
    assert_eq!(done.look_again, None);
    let stuck = deployment(2, "v1", |d| {
        d["status"] = json!({"replicas": 2, "updatedReplicas": 2, "conditions": [{"type": "Progressing",
            "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": "2026-01-01T00:55:00Z"}]});
    });
    let waiting = plan(&stuck, &[set("v1", 2, 0, 1, 2)], true, now());
    assert_eq!(reason(&waiting).as_deref(), Some("ReplicaSetUpdated"));
    assert_eq!(waiting.look_again, Some(Duration::from_secs(301)));
    let late = now() + jiff::SignedDuration::from_secs(600);
    assert_eq!(
        reason(&plan(&stuck, &[set("v1", 2, 0, 1, 2)], true, late)).as_deref(),
        Some("ProgressDeadlineExceeded")
    );
}

#[test]
fn failures_of_the_new_set_are_told_before_those_of_old_ones() {
    let failing = |image: &str, revision| {
        let mut set = (*set(image, 1, 1, revision, 2)).clone();
        set.status.get_or_insert_default().conditions = serde_json::from_value(json!([
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": image}]))
        .expect("conditions");
        Arc::new(set)
    };
    let told = |sets: &[Arc<ReplicaSet>]| {
        let status = plan(&deployment(2, "v2", |_| {}), sets, true, now()).status;
        let mut failures = status.conditions.into_iter().flatten();
        failures.find(|c| c.type_.as_deref() == Some("ReplicaFailure")).and_then(|c| c.message)
    };
    assert_eq!(told(&[failing("v1", 1), failing("v2", 2)]).as_deref(), Some("v2"));
    assert_eq!(told(&[failing("v1", 1), set("v2", 1, 1, 2, 2)]).as_deref(), Some("v1"));
    assert_eq!(told(&[set("v1", 1, 1, 1, 2), set("v2", 1, 1, 2, 2)]), None);
}

#[test]
fn it_is_told_why_there_is_no_new_set() {
    let told = |deadline: i32| {
        let deployment = deployment(2, "v1", |d| {
            d["spec"]["progressDeadlineSeconds"] = json!(deadline);
            d["status"] = json!({"replicas": 2});
        });
        let status = super::super::status::refused(&deployment, "no quota".to_owned(), now());
        assert_eq!(status.replicas, Some(2), "the rest stays");
        let conditions = status.conditions.unwrap_or_default();
        conditions.into_iter().map(|c| (c.reason, c.status, c.message)).collect::<Vec<_>>()
    };
    let text = |t: &str| Some(t.to_owned());
    assert_eq!(told(600), [(text("ReplicaSetCreateError"), text("False"), text("no quota"))]);
    assert_eq!(told(i32::MAX), []);
}

#[test]
fn a_deployment_that_is_going_does_nothing() {
    let going = deployment(2, "v2", |d| d["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    assert_eq!(told(&plan(&going, &[set("v1", 2, 2, 1, 2)], true, now())), [""; 0]);
}
