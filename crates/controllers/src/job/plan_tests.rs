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

/// Pods by phase, on a node unless it is `Unbound`; a `*` after it means that the finalizer is gone, a `!` that the pod is
/// going, `@3` that its index is 3 and not its place, and `#2` that its index had failed twice before.
fn pods(phases: &[&str]) -> Vec<Arc<Pod>> {
    phases
        .iter()
        .enumerate()
        .map(|(i, text)| {
            let number = |mark: char| {
                let digits = text.split(mark).nth(1)?;
                Some(digits.chars().take_while(char::is_ascii_digit).collect::<String>())
            };
            let phase = text.split(['*', '!', '@', '#']).next().unwrap_or_default();
            let mut pod = json!({
                "metadata": {"name": format!("p{i}"), "namespace": "ns", "uid": format!("p{i}"),
                    "annotations": {INDEX: number('@').unwrap_or_else(|| i.to_string())}},
                "spec": {"containers": [], "nodeName": "n"},
                "status": {"phase": phase, "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:59:55Z"}}}]},
            });
            if phase == "Unbound" {
                pod["spec"] = json!({"containers": []});
                pod["status"] = json!({"phase": "Pending"});
            }
            if let Some(failures) = number('#') {
                pod["metadata"]["annotations"][FAILURES] = json!(failures);
            }
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
        (json!({}), &["Running!"], 2, 0),
        (json!({"podReplacementPolicy": "Failed"}), &["Running!"], 1, 0),
        (json!({"podReplacementPolicy": "Failed"}), &["Pending!"], 1, 0),
        (json!({"podReplacementPolicy": "Failed"}), &["Unbound!"], 2, 0),
    ];
    for (spec, phases, create, delete) in cases {
        let plan = plan(&job(spec.clone(), json!({})), &pods(phases), true, now());
        assert_eq!((plan.create.len(), plan.delete.len()), (*create, *delete), "{spec} {phases:?}");
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
    assert_eq!(last.status.uncounted_terminated_pods, Some(Default::default()));
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
    assert!(after.create.is_empty() && after.news.is_empty());
}

#[test]
fn it_ends_only_when_nothing_can_be_at_work() {
    let failing = json!({"failed": 3, "conditions": [{"type": "FailureTarget", "status": "True"}]});
    let ends = |phases: &[&str], caught_up| {
        conditions(&plan(&job(json!({}), failing.clone()), &pods(phases), caught_up, now())).len() == 2
    };
    assert!(ends(&["Failed*"], true));
    assert!(!ends(&["Failed*", "Running!"], true), "one is still stopping");
    assert!(!ends(&["Failed*"], false), "one may be made that is not seen yet");
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
    assert_eq!(plan.create, [NewPod { index: Some(2), failures: None }]);
}

#[test]
fn finalizers_do_not_outlive_the_job() {
    let ended = job(json!({}), json!({"conditions": [{"type": "Failed", "status": "True"}]}));
    let after = plan(&ended, &pods(&["Running", "Succeeded*"]), true, now());
    assert_eq!((after.free.len(), after.delete.len()), (1, 1), "nor do pods");
    assert_eq!(after.status, ended.status.unwrap_or_default(), "its status is final");
}

fn indexed(spec: Value, status: Value) -> Job {
    let mut whole =
        json!({"completionMode": "Indexed", "completions": 4, "parallelism": 4, "backoffLimit": i32::MAX});
    for (key, value) in spec.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    job(whole, status)
}

/// Which indexes are to be tried, each with the number of its failures.
fn tries(plan: &Plan) -> Vec<(u32, u32)> {
    plan.create.iter().map(|n| (n.index.unwrap_or(99), n.failures.unwrap_or_default().counted)).collect()
}

fn first_reason(plan: &Plan) -> String {
    plan.status.conditions.iter().flatten().next().and_then(|c| c.reason.clone()).unwrap_or_default()
}

#[test]
fn each_index_may_fail_as_often_as_it_is_allowed_to() {
    let later = now() + jiff::SignedDuration::from_secs(60);
    let spec = json!({"backoffLimitPerIndex": 1});
    let at = |phases: &[&str]| plan(&indexed(spec.clone(), json!({})), &pods(phases), true, later);
    // The first failure of index 1 keeps its finalizer until the next pod carries on its number.
    let failed_once = ["Running", "Failed#0", "Running", "Running"];
    let first = at(&failed_once);
    assert_eq!(
        (tries(&first), first.free.len(), first.status.failed_indexes.as_deref()),
        (vec![(1, 1)], 0, Some(""))
    );
    let soon = plan(&indexed(spec.clone(), json!({})), &pods(&failed_once), true, now());
    assert_eq!(
        (tries(&soon), soon.look_again),
        (vec![], Some(Duration::from_secs(5))),
        "it waits for itself"
    );
    let again = at(&["Running", "Failed#0", "Running", "Running", "Running@1#1"]);
    assert_eq!((tries(&again), again.free.len()), (vec![], 1));
    // The second failure is its last.
    let last = at(&["Running", "Failed*", "Running", "Running", "Failed@1#1"]);
    assert_eq!(last.status.failed_indexes.as_deref(), Some("1"));
    assert_eq!((tries(&last), last.free.len(), conditions(&last).len()), (vec![], 1, 0), "the others go on");
    // When all have been tried, one that failed fails the Job.
    let status = json!({"failedIndexes": "1", "completedIndexes": "0,2"});
    let end = plan(&indexed(spec.clone(), status), &pods(&["Succeeded@3"]), true, later);
    assert_eq!(first_reason(&end), "FailedIndexes");
    let most = json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 1});
    let two = plan(&indexed(most, json!({})), &pods(&["Failed", "Failed", "Running"]), true, later);
    assert_eq!((first_reason(&two).as_str(), two.delete.len()), ("MaxFailedIndexesExceeded", 1));
}

#[test]
fn failures_that_its_policy_ignores_do_not_count() {
    let rules = |action: &str| {
        json!({"backoffLimit": 0, "podFailurePolicy": {"rules": [
            {"action": action, "onExitCodes": {"operator": "In", "values": [1]}}]}})
    };
    let later = now() + jiff::SignedDuration::from_secs(60);
    let with = |action| plan(&job(rules(action), json!({})), &pods(&["Failed", "Running"]), true, later);
    let ignored = with("Ignore");
    assert_eq!((ignored.create.len(), ignored.free.len(), conditions(&ignored).len()), (1, 1, 0));
    assert_eq!(ignored.status.uncounted_terminated_pods, Some(Default::default()));
    assert_eq!(first_reason(&with("Count")), "BackoffLimitExceeded");
    assert_eq!(first_reason(&with("FailJob")), "PodFailurePolicy");
}

#[test]
fn a_success_policy_ends_the_job_before_all_is_done() {
    let spec = json!({"successPolicy": {"rules": [{"succeededIndexes": "0"}]}});
    let mut job = indexed(spec, json!({}));
    let met = plan(&job, &pods(&["Succeeded", "Running"]), true, now());
    assert_eq!((first_reason(&met).as_str(), met.create.len(), met.delete.len()), ("SuccessPolicy", 0, 1));
    job.status = Some(met.status);
    let stopping = plan(&job, &pods(&["Succeeded*", "Running!"]), true, now());
    assert_eq!(stopping.free.len(), 1);
    let uncounted = stopping.status.uncounted_terminated_pods.clone();
    assert_eq!(uncounted, Some(Default::default()), "what is stopped now has not failed");
    assert_eq!(conditions(&stopping), ["SuccessCriteriaMet"]);
}

#[test]
fn what_is_wanted_no_more_counts_for_nothing() {
    // How many go, and how many of them are let go first, so that their end is not counted.
    let cases = [
        (json!({"suspend": true}), json!({}), 2, 2),
        (json!({"parallelism": 1}), json!({}), 1, 1),
        (json!({}), json!({"succeeded": 3}), 2, 2),
        (json!({"backoffLimit": 0}), json!({"failed": 1}), 2, 0),
    ];
    for (spec, status, deleted, freed) in cases {
        let plan = plan(&job(spec.clone(), status), &pods(&["Running", "Running"]), true, now());
        assert_eq!((plan.delete.len(), plan.free.len()), (deleted, freed), "{spec}");
    }
    let gone =
        plan(&job(json!({"suspend": true}), json!({})), &pods(&["Failed*!", "Running*!"]), true, now());
    assert_eq!((gone.status.failed, gone.status.terminating), (Some(0), Some(1)));
    assert_eq!(gone.status.uncounted_terminated_pods, Some(Default::default()));
}

#[test]
fn no_time_runs_out_while_it_is_suspended() {
    let status = || json!({"startTime": "2026-01-01T00:00:00Z"});
    let limit = |suspend| json!({"activeDeadlineSeconds": 60, "suspend": suspend});
    assert_eq!(conditions(&plan(&job(limit(true), status()), &[], true, now())), ["Suspended"]);
    assert_eq!(first_reason(&plan(&job(limit(false), status()), &[], true, now())), "DeadlineExceeded");
}

#[test]
fn what_is_decided_stays_decided() {
    let status = json!({"failed": 9, "startTime": "2026-01-01T00:00:00Z",
        "conditions": [{"type": "FailureTarget", "status": "True", "reason": "PodFailurePolicy"}]});
    let end = plan(&job(json!({"activeDeadlineSeconds": 1}), status), &[], true, now());
    assert_eq!(conditions(&end), ["FailureTarget", "Failed"]);
    assert_eq!(end.news[0].reason.as_deref(), Some("PodFailurePolicy"));
}

#[test]
fn suspending_stops_all_pods_and_resuming_starts_the_clock_anew() {
    let mut job = job(json!({"suspend": true}), json!({"startTime": "2026-01-01T00:00:00Z"}));
    let stopped = plan(&job, &pods(&["Running"]), true, now());
    assert_eq!((stopped.delete.len(), stopped.status.start_time.clone(), stopped.news.len()), (1, None, 1));
    job.status = Some(stopped.status);
    assert_eq!(plan(&job, &[], true, now()).news.len(), 0, "told once");
    job.spec.get_or_insert_default().suspend = Some(false);
    let resumed = plan(&job, &[], true, now());
    assert_eq!(resumed.status.start_time.as_ref().map(|t| t.0), Some(now()));
    assert_eq!((resumed.create.len(), resumed.news[0].reason.as_deref()), (2, Some("JobResumed")));
}
