use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

fn job(spec: Value, status: Value) -> Job {
    let mut whole = json!({"parallelism": 2, "completions": 3, "backoffLimit": 2, "template": {"spec": {"containers": [], "restartPolicy": "Never"}}});
    for (key, value) in spec.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    serde_json::from_value(
        json!({"metadata": {"name": "j", "namespace": "ns", "uid": "j"}, "spec": whole, "status": status}),
    )
    .expect("a job")
}

/// Pods by phase; a `*` after it means that the finalizer is gone, a `!` that the pod is going.
fn pods(phases: &[&str]) -> Vec<Arc<Pod>> {
    phases
        .iter()
        .enumerate()
        .map(|(i, text)| {
            let phase = text.trim_end_matches(['*', '!']);
            let mut pod = json!({
                "metadata": {"name": format!("p{i}"), "namespace": "ns", "uid": format!("p{i}"), "annotations": {INDEX: i.to_string()}},
                "spec": {"containers": []},
                "status": {"phase": phase, "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:59:55Z"}}}]},
            });
            if !text.contains('*') {
                pod["metadata"]["finalizers"] = json!([TRACKING]);
            }
            if text.contains('!') {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z");
            }
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        })
        .collect()
}

fn conditions(plan: &Plan) -> Vec<String> {
    plan.status.conditions.iter().flatten().filter(|c| c.status == "True").map(|c| c.type_.clone()).collect()
}

#[test]
fn it_keeps_as_many_at_work_as_it_may() {
    let cases: &[(Value, &[&str], usize, usize)] = &[
        (json!({}), &[], 2, 0),
        (json!({}), &["Running"], 1, 0),
        (json!({}), &["Running", "Succeeded"], 1, 0),
        (json!({}), &["Running", "Succeeded", "Succeeded"], 0, 0),
        (json!({"parallelism": 1}), &["Running", "Running"], 0, 1),
        (json!({"parallelism": 5}), &[], 3, 0),
        (json!({"completions": null}), &["Running"], 1, 0),
        (json!({"completions": null}), &["Running", "Succeeded"], 0, 0),
        (json!({"suspend": true}), &["Running"], 0, 1),
        (json!({}), &["Running!"], 0, 0),
    ];
    for (spec, phases, create, delete) in cases {
        let plan = plan(&job(spec.clone(), json!({})), &pods(phases), true, now());
        let back_off = phases.contains(&"Running!");
        assert_eq!(plan.delete.len(), *delete, "{spec} {phases:?}");
        if !back_off {
            assert_eq!(plan.create.len(), *create, "{spec} {phases:?}");
        }
    }
    assert_eq!(
        plan(&job(json!({}), json!({})), &[], false, now()).create.len(),
        0,
        "not before it has caught up"
    );
}

#[test]
fn a_pod_is_counted_once_in_three_steps() {
    let mut job = job(json!({}), json!({}));
    // Seen finished: its UID is written, then its finalizer goes.
    let first = plan(&job, &pods(&["Succeeded", "Running"]), true, now());
    assert_eq!(first.status.succeeded, Some(0));
    assert_eq!(
        first.status.uncounted_terminated_pods.as_ref().and_then(|u| u.succeeded.clone()),
        Some(vec!["p0".to_owned()])
    );
    assert_eq!(first.free.len(), 1);
    // The process died before the finalizer went: the same again, and no second entry.
    job.status = Some(first.status.clone());
    let again = plan(&job, &pods(&["Succeeded", "Running"]), true, now());
    assert_eq!(again.status.uncounted_terminated_pods, first.status.uncounted_terminated_pods);
    assert_eq!(again.free.len(), 1);
    // The finalizer is gone: counted.
    let last = plan(&job, &pods(&["Succeeded*", "Running"]), true, now());
    assert_eq!(last.status.succeeded, Some(1));
    assert_eq!(last.status.uncounted_terminated_pods, None);
    // Counted for good, whether the pod is still there or not.
    job.status = Some(last.status.clone());
    for left in [&["Succeeded*", "Running"][..], &["Running"]] {
        assert_eq!(plan(&job, &pods(left), true, now()).status.succeeded, Some(1));
    }
}

#[test]
fn it_completes_when_enough_have_succeeded_and_all_are_counted() {
    let mut job = job(json!({}), json!({"succeeded": 2, "startTime": "2026-01-01T00:00:00Z"}));
    let all = plan(&job, &pods(&["Succeeded", "Running"]), true, now());
    assert_eq!(conditions(&all), ["SuccessCriteriaMet"]);
    assert_eq!(all.delete.len(), 1, "what still runs is not needed");
    job.status = Some(all.status);
    let done = plan(&job, &pods(&["Succeeded*"]), true, now());
    assert_eq!(conditions(&done), ["SuccessCriteriaMet", "Complete"]);
    assert_eq!(done.status.completion_time.as_ref().map(|t| t.0), Some(now()));
    assert_eq!(done.status.succeeded, Some(3));
    job.status = Some(done.status);
    let after = plan(&job, &pods(&[]), true, now());
    assert!(after.create.is_empty() && after.ended.is_none());
}

#[test]
fn it_fails_by_its_limits() {
    let reason = |plan: &Plan| {
        plan.status.conditions.iter().flatten().map(|c| c.reason.clone().unwrap_or_default()).next()
    };
    let failed = plan(&job(json!({}), json!({"failed": 2})), &pods(&["Failed", "Running"]), true, now());
    assert_eq!(reason(&failed).as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(failed.delete.len(), 1);
    let within = plan(&job(json!({}), json!({"failed": 1})), &pods(&["Failed", "Running"]), true, now());
    assert_eq!(conditions(&within), [""; 0]);
    let late = job(json!({"activeDeadlineSeconds": 60}), json!({"startTime": "2026-01-01T00:59:00Z"}));
    assert_eq!(reason(&plan(&late, &pods(&["Running"]), true, now())).as_deref(), Some("DeadlineExceeded"));
    let early = job(json!({"activeDeadlineSeconds": 60}), json!({"startTime": "2026-01-01T00:59:30Z"}));
    assert_eq!(
        plan(&early, &pods(&["Running", "Running"]), true, now()).look_again,
        Some(Duration::from_secs(30))
    );
}

#[test]
fn after_a_failure_the_next_pod_waits() {
    let waiting = plan(&job(json!({}), json!({})), &pods(&["Failed", "Running"]), true, now());
    assert_eq!((waiting.create.len(), waiting.look_again), (0, Some(Duration::from_secs(5))));
    let later = now() + jiff::SignedDuration::from_secs(5);
    assert_eq!(plan(&job(json!({}), json!({})), &pods(&["Failed", "Running"]), true, later).create.len(), 1);
}

#[test]
fn each_index_succeeds_once() {
    let indexed = job(
        json!({"completionMode": "Indexed", "completions": 4, "parallelism": 4}),
        json!({"completedIndexes": "3"}),
    );
    let plan = plan(&indexed, &pods(&["Succeeded", "Running"]), true, now());
    assert_eq!(plan.status.completed_indexes.as_deref(), Some("0,3"));
    assert_eq!(plan.create, [Some(2)]);
}

#[test]
fn finalizers_do_not_outlive_the_job() {
    let ended = job(json!({}), json!({"conditions": [{"type": "Failed", "status": "True"}]}));
    let after = plan(&ended, &pods(&["Running", "Succeeded*"]), true, now());
    assert_eq!(after.free.len(), 1);
    assert_eq!(after.status, ended.status.unwrap_or_default(), "its status is final");
}
