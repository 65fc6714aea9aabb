use serde_json::{Value, json};

use super::*;
use crate::testing::pod_from;

fn pod(cpu: &str, memory: &str) -> Value {
    json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 2}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu, "memory": memory}}}]}})
}

fn cpu_of(pod: &Pod) -> &str {
    &pod::spec(pod).containers[0].resources.as_ref().unwrap().requests.as_ref().unwrap()["cpu"].0
}

#[test]
fn a_pod_is_given_more_only_where_there_is_room() {
    let allocatable = BTreeMap::from([
        ("cpu".to_owned(), Quantity("2".into())),
        ("memory".to_owned(), Quantity("1Gi".into())),
    ]);
    let given = pod_from(pod("500m", "1Mi"));
    for (cpu, memory, used, want) in [
        ("500m", "1Mi", "2", None),
        ("400m", "1Mi", "1", None),
        ("1", "1Mi", "1", None),
        (
            "1001m",
            "1Mi",
            "1",
            Some((
                "Deferred",
                "Node didn't have enough resource: cpu, requested: 1001, used: 1000, capacity: 2000",
            )),
        ),
        (
            "2001m",
            "1Mi",
            "0",
            Some(("Infeasible", "Node didn't have enough capacity: cpu, requested: 2001, capacity: 2000")),
        ),
        (
            "3",
            "2Gi",
            "0",
            Some((
                "Infeasible",
                "Node didn't have enough capacity: memory, requested: 2147483648, capacity: 1073741824",
            )),
        ),
    ] {
        let wanted = Arc::new(pod_from(pod(cpu, memory)));
        let other = pod_from(pod(used, "1Mi"));
        let (pod, pending) = consider(&wanted, &given, &[&other], &allocatable);
        let want = want.map(|(reason, message)| Pending { reason, message: message.to_owned() });
        assert_eq!(pending, want, "{cpu} {memory} beside {used}");
        assert_eq!(cpu_of(&pod), if want.is_none() { cpu } else { "500m" });
        assert_eq!(pod.metadata.generation, Some(2));
    }
}

#[test]
fn what_was_given_is_found_in_the_status() {
    let with = |status: Value| {
        let mut pod = pod("1", "2Mi");
        pod["status"] = json!({"containerStatuses": [status]});
        on_record(&pod_from(pod))
    };
    let status = |requests: Value, limits: Value| {
        json!({"name": "c", "ready": true, "restartCount": 0, "image": "i", "imageID": "i",
            "allocatedResources": requests, "resources": {"requests": requests, "limits": limits}})
    };
    let limits = json!({"cpu": "1", "memory": "2Mi"});
    assert_eq!(with(status(json!({"cpu": "1"}), limits.clone())), None);
    assert_eq!(
        with(json!({"name": "c", "ready": true, "restartCount": 0, "image": "i", "imageID": "i"})),
        None
    );
    let given = with(status(json!({"cpu": "250m"}), limits)).expect("something else");
    assert_eq!(cpu_of(&given), "250m");
}

#[test]
fn what_a_container_has_is_compared_with_what_it_was_given() {
    let policies = |cpu: &str, memory: &str| json!([{"resourceName": "cpu", "restartPolicy": cpu}, {"resourceName": "memory", "restartPolicy": memory}]);
    let right = Actual { shares: 512, quota: Some(50_000), memory: Some(1 << 20) };
    let quota = Actual { quota: Some(20_000), ..right };
    let memory = Actual { memory: None, ..right };
    let (stay, restart) = ("NotRequired", "RestartContainer");
    for (actual, cpu, mem, want, limits) in [
        (right, restart, restart, Step::Keep, json!({"cpu": "500m", "memory": "1Mi"})),
        (quota, stay, restart, Step::Change, json!({"cpu": "200m", "memory": "1Mi"})),
        (quota, restart, stay, Step::Restart, json!({"cpu": "200m", "memory": "1Mi"})),
        (memory, restart, stay, Step::Change, json!({"cpu": "500m"})),
        (memory, stay, restart, Step::Restart, json!({"cpu": "500m"})),
    ] {
        let mut pod = pod("500m", "1Mi");
        pod["spec"]["containers"][0]["resizePolicy"] = policies(cpu, mem);
        let pod = pod_from(pod);
        let c = pod::main_containers(&pod).next().unwrap();
        assert_eq!(step(&pod, &c, &actual), want, "{actual:?} {cpu} {mem}");
        assert_eq!(json!(shown(&pod, &c, &actual).limits), limits, "{actual:?}");
    }
    let pod = pod_from(pod("500m", "1Mi"));
    let c = pod::main_containers(&pod).next().unwrap();
    let shares = shown(&pod, &c, &Actual { shares: 102, ..right });
    assert_eq!(json!(shares.requests), json!({"cpu": "100m"}));
}

#[test]
fn events_tell_the_resources_of_all_containers() {
    let pod = pod_from(pod("1", "1Mi"));
    assert_eq!(
        serde_json::from_str::<Value>(&summary(&pod, Some("x"))).unwrap(),
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1", "memory": "1Mi"}}}],
            "generation": 2, "error": "x"})
    );
}
