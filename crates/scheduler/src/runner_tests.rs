use http::{Request, Response};
use kube::client::Body;
use serde_json::json;
use tiphys_metrics::{Exposition, Format};

use super::*;

/// A pod of the scheduler `measured`.
fn pod(name: &str, priority: i32, cpu: &str) -> SharedPod {
    let pod = json!({"metadata": {"namespace": "ns", "name": name, "uid": name}, "spec": {
        "schedulerName": "measured", "priority": priority,
        "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

/// Everything is written but the binding of `unlucky`.
fn client() -> Client {
    let answer = async |request: Request<Body>| {
        let fails = request.uri().path().contains("/pods/unlucky/binding");
        let (code, answer) = match fails {
            true => (
                500,
                json!({"kind": "Status", "status": "Failure", "code": 500, "reason": "InternalError", "message": ""}),
            ),
            false => (200, json!({"kind": "Status", "status": "Success"})),
        };
        let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
        Ok::<_, std::io::Error>(answer.expect("an answer"))
    };
    Client::new(tower::service_fn(answer), "ns")
}

#[tokio::test]
async fn what_comes_of_pods_is_counted() {
    let config = "{apiVersion: kubescheduler.config.k8s.io/v1, kind: KubeSchedulerConfiguration, \
        profiles: [{schedulerName: measured}]}";
    let scheduler = Scheduler::new(client(), Config::read(config).expect("a configuration"));
    let shared = scheduler.shared.clone();
    for name in ["a", "b"] {
        let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "2", "pods": "9"}}});
        let node = Arc::new(NodeFacts::new(serde_json::from_value::<Node>(node).expect("a node")));
        shared.lock().node_changed(None, Some(&node), Instant::now());
    }
    let mut tasks = JoinSet::new();
    let pods = [("lucky", 0, "1500m"), ("unlucky", 0, "1"), ("next", 0, "1500m"), ("large", 0, "3")];
    // The last takes the place of another.
    for (name, priority, cpu) in pods.into_iter().chain([("important", 9, "2")]) {
        shared.lock().pod_changed(None, Some(&pod(name, priority, cpu)), Instant::now());
        let next = shared.lock().next(Instant::now()).expect("the pod");
        shared.clone().place(next, &mut tasks).await;
        while tasks.join_next().await.is_some() {}
    }
    let mut text = Exposition::new(Format::Text);
    metrics::expose(&mut text);
    let text = text.finish();
    for line in [
        r#"scheduler_schedule_attempts_total{result="scheduled",profile="measured"} 2"#,
        r#"scheduler_schedule_attempts_total{result="error",profile="measured"} 1"#,
        r#"scheduler_schedule_attempts_total{result="unschedulable",profile="measured"} 2"#,
        r#"scheduler_scheduling_attempt_duration_seconds_count{result="scheduled",profile="measured"} 2"#,
        r#"scheduler_framework_extension_point_duration_seconds_count{extension_point="Filter",status="Success",profile="measured"} 5"#,
        r#"scheduler_framework_extension_point_duration_seconds_count{extension_point="Score",status="Success",profile="measured"} 1"#,
        r#"scheduler_framework_extension_point_duration_seconds_count{extension_point="PostFilter",status="Unschedulable",profile="measured"} 1"#,
        r#"scheduler_framework_extension_point_duration_seconds_count{extension_point="PostFilter",status="Success",profile="measured"} 1"#,
        r#"scheduler_framework_extension_point_duration_seconds_count{extension_point="Reserve",status="Success",profile="measured"} 3"#,
        r#"scheduler_framework_extension_point_duration_seconds_count{extension_point="Bind",status="Success",profile="measured"} 2"#,
        r#"scheduler_framework_extension_point_duration_seconds_count{extension_point="Bind",status="Error",profile="measured"} 1"#,
        r#"scheduler_pod_scheduling_sli_duration_seconds_count{attempts="1"} 2"#,
        r#"scheduler_pod_scheduling_attempts_bucket{le="1"} 2"#,
        "scheduler_preemption_attempts_total 2",
        r#"scheduler_preemption_victims_bucket{le="1"} 1"#,
        r#"scheduler_pending_pods{queue="backoff"} 1"#,
        r#"scheduler_unschedulable_pods{plugin="NodeResourcesFit",profile="measured"} 1"#,
        r#"scheduler_queue_incoming_pods_total{queue="active",event="UnschedulablePodAdd"} 5"#,
        r#"scheduler_queue_incoming_pods_total{queue="backoff",event="ScheduleAttemptFailure"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}
