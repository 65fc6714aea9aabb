use serde_json::{Value, json};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Hourly, made at midnight.
fn cron(change: impl Fn(&mut Value)) -> CronJob {
    let mut cron = json!({
        "metadata": {"name": "tick", "namespace": "ns", "uid": "cron", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"schedule": "0 * * * *", "concurrencyPolicy": "Allow",
            "jobTemplate": {"spec": {"template": {}}}},
    });
    change(&mut cron);
    serde_json::from_value(cron).expect("a CronJob")
}

/// A Job of this name and UID that began at an hour: `Running`, `Complete` or `Failed`.
fn job(name: &str, hour: u8, state: &str) -> Arc<Job> {
    let mut job = json!({"metadata": {"name": name, "namespace": "ns", "uid": name},
        "status": {"startTime": format!("2026-01-01T{hour:02}:00:00Z")}});
    if state != "Running" {
        job["status"]["conditions"] = json!([{"type": state, "status": "True"}]);
    }
    if state == "Complete" {
        job["status"]["completionTime"] = json!(format!("2026-01-01T{hour:02}:30:00Z"));
    }
    Arc::new(serde_json::from_value(job).expect("a job"))
}

fn active(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"kind": "Job", "namespace": "ns", "name": name, "uid": name})).collect()
}

fn run(cron: &CronJob, jobs: &[Arc<Job>], now: &str) -> Plan {
    plan(cron, jobs, &BTreeSet::new(), at(now))
}

fn due(plan: &Plan) -> Option<String> {
    plan.start.as_ref().map(|s| s.due.to_string())
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.news.iter().map(|n| n.reason).collect()
}

#[test]
fn a_job_starts_when_it_is_due_and_once() {
    let last = |hour: &'static str| {
        move |c: &mut Value| c["status"] = json!({"lastScheduleTime": format!("2026-01-01T{hour}:00:00Z")})
    };
    let cases: &[(CronJob, &str, Option<&str>, u64)] = &[
        (cron(|_| {}), "2026-01-01T00:59:00Z", None, 60),
        (cron(|_| {}), "2026-01-01T01:00:00Z", Some("2026-01-01T01:00:00Z"), 3600),
        (cron(|_| {}), "2026-01-01T03:15:00Z", Some("2026-01-01T03:00:00Z"), 2700),
        (cron(last("03")), "2026-01-01T03:15:00Z", None, 2700),
        (cron(last("02")), "2026-01-01T03:15:00Z", Some("2026-01-01T03:00:00Z"), 2700),
        // A clock that was set back starts nothing twice.
        (cron(last("03")), "2026-01-01T01:30:00Z", None, 9000),
        // One that was set ahead catches up with the last time alone.
        (cron(last("03")), "2026-01-02T01:30:00Z", Some("2026-01-02T01:00:00Z"), 1800),
    ];
    for (cron, now, want, wait) in cases {
        let plan = run(cron, &[], now);
        assert_eq!(due(&plan).as_deref(), *want, "{now}");
        assert_eq!(plan.look_again, Some(Duration::from_secs(*wait) + PADDING), "{now}");
    }
    let start = run(&cron(|_| {}), &[], "2026-01-01T01:00:00Z").start.expect("a start");
    assert_eq!(job_name(&cron(|_| {}), start.due), "tick-29453820");
    assert_eq!(start.shown, "2026-01-01T01:00:00Z");
}

#[test]
fn schedules_are_read_in_their_zone() {
    let berlin = cron(|c| {
        c["spec"]["schedule"] = json!("30 9 * * *");
        c["spec"]["timeZone"] = json!("Europe/Berlin");
    });
    let start = run(&berlin, &[], "2026-01-01T08:30:00Z").start.expect("a start");
    assert_eq!(start.shown, "2026-01-01T09:30:00+01:00");
    assert_eq!(due(&run(&berlin, &[], "2026-07-01T07:45:00Z")).as_deref(), Some("2026-07-01T07:30:00Z"));
    let nowhere = run(&cron(|c| c["spec"]["timeZone"] = json!("Mars/Base")), &[], "2026-01-01T08:30:00Z");
    assert_eq!((reasons(&nowhere), nowhere.look_again), (vec!["UnknownTimeZone"], None));
}

#[test]
fn what_is_suspended_wrong_or_going_starts_nothing() {
    let now = "2026-01-01T03:00:00Z";
    let suspended = run(&cron(|c| c["spec"]["suspend"] = json!(true)), &[], now);
    assert_eq!((due(&suspended), suspended.look_again), (None, None));
    let wrong = run(&cron(|c| c["spec"]["schedule"] = json!("TZ=UTC 0 * * * *")), &[], now);
    assert_eq!((due(&wrong), wrong.look_again, reasons(&wrong)), (None, None, vec!["UnparseableSchedule"]));
    let going = run(&cron(|c| c["metadata"]["deletionTimestamp"] = json!(now)), &[], now);
    assert_eq!((due(&going), going.look_again), (None, None));
    let never = run(&cron(|c| c["spec"]["schedule"] = json!("0 0 30 2 *")), &[], now);
    assert_eq!((due(&never), never.look_again), (None, None));
}

#[test]
fn what_is_too_late_is_not_started() {
    let within = |seconds: i64, now: &str| {
        let plan = run(&cron(|c| c["spec"]["startingDeadlineSeconds"] = json!(seconds)), &[], now);
        (due(&plan), reasons(&plan).len())
    };
    assert_eq!(within(600, "2026-01-01T03:09:00Z"), (Some("2026-01-01T03:00:00Z".to_owned()), 0));
    assert_eq!(within(600, "2026-01-01T03:11:00Z"), (None, 1));
    assert_eq!(within(0, "2026-01-01T03:00:00Z"), (Some("2026-01-01T03:00:00Z".to_owned()), 0));
    assert_eq!(within(0, "2026-01-01T03:00:01Z"), (None, 1));
    assert_eq!(
        within(1_000_000_000_000_000, "2026-01-01T03:11:00Z"),
        (Some("2026-01-01T03:00:00Z".to_owned()), 0)
    );
}

#[test]
fn many_missed_times_are_told_and_the_last_is_made_up_for() {
    let plan = run(&cron(|_| {}), &[], "2026-01-05T04:00:00Z");
    assert_eq!(due(&plan).as_deref(), Some("2026-01-05T04:00:00Z"));
    assert_eq!(reasons(&plan), [""; 0], "a hundred are not many");
    let plan = run(&cron(|_| {}), &[], "2026-01-05T05:00:00Z");
    assert_eq!(due(&plan).as_deref(), Some("2026-01-05T05:00:00Z"));
    assert_eq!(reasons(&plan), ["TooManyMissedTimes"]);
    let soon = cron(|c| c["spec"]["startingDeadlineSeconds"] = json!(7200));
    assert_eq!(
        reasons(&run(&soon, &[], "2026-01-05T05:00:00Z")),
        [""; 0],
        "those before the deadline do not count"
    );
}

#[test]
fn jobs_beside_each_other_are_let_be_waited_for_or_replaced() {
    let with = |policy: &str| {
        let cron = cron(|c| {
            c["spec"]["concurrencyPolicy"] = json!(policy);
            c["status"] = json!({"active": active(&["old"]), "lastScheduleTime": "2026-01-01T01:00:00Z"});
        });
        run(&cron, &[job("old", 1, "Running")], "2026-01-01T02:00:00Z")
    };
    let allowed = with("Allow").start.expect("a start");
    assert!(allowed.replaced.is_empty());
    let waiting = with("Forbid");
    assert_eq!((due(&waiting), reasons(&waiting)), (None, vec!["JobAlreadyActive"]));
    let mut replacing = with("Replace");
    let start = replacing.start.take().expect("a start");
    assert_eq!(start.replaced.iter().filter_map(|j| j.name.as_deref()).collect::<Vec<_>>(), ["old"]);
    replacing.gave_way(Some("old"));
    assert_eq!(replacing.status.active, None);
    replacing.started(start.due, ObjectReference { uid: Some("new".to_owned()), ..Default::default() });
    assert_eq!(replacing.status.active.as_ref().map(Vec::len), Some(1));
    assert_eq!(replacing.status.last_schedule_time.as_ref().map(|t| t.0), Some(at("2026-01-01T02:00:00Z")));
}

#[test]
fn a_job_that_was_started_and_not_written_down_is_not_started_again() {
    let name = job_name(&cron(|_| {}), at("2026-01-01T02:00:00Z"));
    let cron = cron(|c| c["status"] = json!({"active": active(&[&name])}));
    assert_eq!(due(&run(&cron, &[job(&name, 2, "Running")], "2026-01-01T02:10:00Z")), None);
}

#[test]
fn the_status_follows_the_jobs() {
    let cron = cron(|c| {
        c["spec"]["suspend"] = json!(true);
        c["status"] =
            json!({"active": active(&["a", "b", "lost"]), "lastSuccessfulTime": "2026-01-01T02:00:00Z"});
    });
    let jobs = [
        job("a", 2, "Complete"),
        job("b", 3, "Failed"),
        job("c", 4, "Running"),
        job("d", 5, "Complete"),
        job("e", 1, "Complete"),
    ];
    let plan = plan(&cron, &jobs, &BTreeSet::from(["lost".to_owned()]), at("2026-01-01T06:00:00Z"));
    assert_eq!(plan.status.active, None);
    assert_eq!(plan.status.last_successful_time.map(|t| t.0), Some(at("2026-01-01T05:30:00Z")));
    let told: Vec<_> = plan.news.iter().map(|n| (n.warning, &*n.message)).collect();
    assert_eq!(
        told,
        [
            (false, "Saw completed job: a, condition: Complete"),
            (false, "Saw completed job: b, condition: Failed"),
            (true, "Saw a job that the controller did not create or forgot: c"),
            (false, "Active job went missing: lost"),
        ]
    );
}

#[test]
fn only_as_many_finished_jobs_are_kept_as_asked() {
    let jobs = [
        job("a", 3, "Complete"),
        job("b", 1, "Complete"),
        job("c", 2, "Complete"),
        job("d", 1, "Failed"),
        job("e", 2, "Failed"),
        job("f", 0, "Running"),
    ];
    let gone = |complete: Value, failed: Value| {
        let cron = cron(|c| {
            c["spec"]["successfulJobsHistoryLimit"] = complete.clone();
            c["spec"]["failedJobsHistoryLimit"] = failed.clone();
        });
        let plan = run(&cron, &jobs, "2026-01-01T00:30:00Z");
        plan.delete.iter().map(|j| j.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(gone(json!(3), json!(1)), ["d"]);
    assert_eq!(gone(json!(1), json!(2)), ["b", "c"]);
    assert_eq!(gone(json!(0), json!(0)), ["b", "c", "a", "d", "e"]);
    assert_eq!(gone(Value::Null, Value::Null), [""; 0]);
}
