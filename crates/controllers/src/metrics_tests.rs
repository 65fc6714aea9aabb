use jiff::Timestamp;
use serde_json::{Value, json};
use tiphys_client::{ObjectKey, events::Recorder};
use tiphys_metrics::Format;
use tokio::task::JoinSet;

use super::*;
use crate::{
    controller::{Controller, Tools},
    cron_job::CronJobs,
    informers::Informers,
    job::{Jobs, OrphanedPods},
    node_lifecycle::NodeLifecycle,
    testing::{Asked, client, list},
};

/// Looks once at the object of this key; the server has these lists and agrees to all else.
async fn look<C: Controller>(
    new: impl FnOnce(Tools, &mut Informers) -> C,
    lists: Vec<(&'static str, &'static str, &'static str, Vec<Value>)>,
    key: ObjectKey,
) {
    let client = client(move |asked: &Asked| {
        let known = lists.iter().find(|(path, ..)| asked.path == *path);
        match known {
            Some((_, version, kind, items)) => list(version, kind, items),
            None if asked.path.ends_with('s') && asked.method == http::Method::GET => list("v1", "Any", &[]),
            None => {
                let mut answer = json!({"metadata": {"name": "x"}, "spec": {}});
                if asked.path.contains("cronjobs") {
                    answer["spec"] = json!({"schedule": "", "jobTemplate": {}});
                }
                (200, answer)
            }
        }
    });
    let mut informers = Informers::new(&client);
    let (events, _sink) = Recorder::new(client.clone(), "test", "");
    let controller = new(Tools { client, events }, &mut informers);
    let mut tasks = JoinSet::new();
    informers.start(&mut tasks);
    controller.synced().await;
    controller.look(&key).await.expect("everything is agreed to");
}

#[tokio::test]
async fn what_loops_do_is_counted() {
    let key = ObjectKey::new("ns", "x");
    let owner =
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": "u", "controller": true}]);
    let job = json!({"metadata": {"name": "x", "namespace": "ns", "uid": "u", "resourceVersion": "3"},
        "spec": {"completions": 1, "backoffLimit": 3, "selector": {"matchLabels": {"job": "x"}}, "template": {"spec": {"containers": []}},
            "podFailurePolicy": {"rules": [{"action": "Count", "onPodConditions": [{"type": "Lost", "status": "True"}]}]}},
        "status": {"startTime": "2026-01-01T00:00:00Z", "uncountedTerminatedPods": {"succeeded": ["gone"]}}});
    let failed = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "p", "labels": {"job": "x"}, "ownerReferences": owner,
        "finalizers": ["batch.kubernetes.io/job-tracking"]}, "spec": {"containers": []},
        "status": {"phase": "Failed", "conditions": [{"type": "Lost", "status": "True"}]}});
    let ended = {
        let mut job = job.clone();
        job["status"] = json!({"startTime": "2026-01-01T00:00:00Z", "succeeded": 1, "conditions": [
            {"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached", "message": ""}]});
        job
    };
    let of_jobs = |job: &Value| ("/apis/batch/v1/jobs", "batch/v1", "Job", vec![job.clone()]);
    let pods = ("/api/v1/pods", "v1", "Pod", vec![failed]);
    look(Jobs::new, vec![of_jobs(&job), pods.clone()], key.clone()).await;
    look(Jobs::new, vec![of_jobs(&ended)], key.clone()).await;
    look(OrphanedPods::new, vec![of_jobs(&job), pods], ObjectKey::new("ns", "p")).await;
    let due = Timestamp::now() - jiff::SignedDuration::from_secs(90);
    let cron = json!({"metadata": {"name": "x", "namespace": "ns", "uid": "c", "creationTimestamp": due.to_string()},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}}});
    let crons = ("/apis/batch/v1/cronjobs", "batch/v1", "CronJob", vec![cron]);
    look(CronJobs::new, vec![crons], key).await;
    let node = |name: &str, ready: &str| {
        json!({"metadata": {"name": name, "uid": name, "labels": {"topology.kubernetes.io/zone": name}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    };
    let new = |tools, informers: &mut Informers| NodeLifecycle::new(tools, informers, Default::default());
    // As long as one lives, the other can be given up.
    let nodes = ("/api/v1/nodes", "v1", "Node", vec![node("a", "False"), node("b", "True")]);
    look(new, vec![nodes], ObjectKey::new("", "a")).await;

    let mut text = Exposition::new(Format::Text);
    expose(&mut text);
    let text = text.finish();
    for line in [
        r#"job_controller_job_syncs_total{completion_mode="NonIndexed",result="success",action="tracking"} 2"#,
        r#"job_controller_job_sync_duration_seconds_count{completion_mode="NonIndexed",result="success",action="tracking"} 2"#,
        r#"job_controller_jobs_finished_total{completion_mode="NonIndexed",result="succeeded",reason="CompletionsReached"} 1"#,
        r#"job_controller_job_pods_finished_total{completion_mode="NonIndexed",result="succeeded"} 1"#,
        r#"job_controller_pod_failures_handled_by_failure_policy_total{action="Count"} 1"#,
        r#"job_controller_terminated_pods_tracking_finalizer_total{event="add"} 1"#,
        "cronjob_controller_job_creation_skew_duration_seconds_count 1",
        "node_collector_evictions_total{zone=\":\0:a\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}
