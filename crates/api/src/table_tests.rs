use serde_json::json;

use super::*;
use crate::kind::Kinds;

const NOW: &str = "2026-01-02T00:00:00Z";

/// The cells of an object that was made an hour ago, without its name and age where the columns have them.
fn cells(group: &str, version: &str, kind: &str, mut object: Value) -> Vec<Value> {
    let kinds = Kinds::builtin();
    let row = kinds.kind(group, version, kind).unwrap();
    meta::set(&mut object, "creationTimestamp", Some("2026-01-01T19:00:00Z".into()));
    meta::set(&mut object, "name", Some("it".into()));
    let printer = row.hooks.printer;
    let cells = (printer.cells)(&object, NOW.parse().unwrap());
    assert_eq!(cells.len(), printer.columns.len(), "{kind}: as many cells as columns");
    let shown = printer.columns.iter().zip(cells);
    shown
        .filter(|(column, cell)| match column.name {
            "Name" => {
                assert_eq!(*cell, "it");
                false
            }
            "Age" => {
                assert_eq!(*cell, "5h");
                false
            }
            _ => true,
        })
        .map(|(_, cell)| cell)
        .collect()
}

/// Ready, status and restarts of a pod.
fn pod(spec: Value, status: Value) -> Vec<Value> {
    cells("", "v1", "Pod", json!({"spec": spec, "status": status}))[..3].to_vec()
}

#[test]
fn pods_say_how_they_are() {
    let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let running = json!({"ready": true, "state": {"running": {}}, "restartCount": 0});
    let crashed = json!({"ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                         "lastState": {"terminated": {"finishedAt": "2026-01-01T23:55:00Z"}}});
    let ended = |reason: &str, code: i64, signal: i64| json!({"state": {"terminated": {"reason": reason, "exitCode": code, "signal": signal}}});
    let cases = [
        (json!({"phase": "Pending"}), ["0/2", "Pending", "0"]),
        (json!({"phase": "Running", "containerStatuses": [running, running]}), ["2/2", "Running", "0"]),
        (
            json!({"phase": "Running", "containerStatuses": [running, crashed]}),
            ["1/2", "CrashLoopBackOff", "3 (5m ago)"],
        ),
        (json!({"phase": "Failed", "reason": "Evicted"}), ["0/2", "Evicted", "0"]),
        (json!({"phase": "Failed", "containerStatuses": [ended("", 7, 0)]}), ["0/2", "ExitCode:7", "0"]),
        (json!({"phase": "Failed", "containerStatuses": [ended("", 137, 9)]}), ["0/2", "Signal:9", "0"]),
        (
            json!({"phase": "Running", "containerStatuses": [ended("Completed", 0, 0), running]}),
            ["1/2", "NotReady", "0"],
        ),
        (
            json!({"phase": "Running", "containerStatuses": [ended("Completed", 0, 0), running],
                   "conditions": [{"type": "Ready", "status": "True"}]}),
            ["1/2", "Running", "0"],
        ),
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            ["0/2", "SchedulingGated", "0"],
        ),
    ];
    for (status, want) in cases {
        assert_eq!(pod(spec.clone(), status.clone()), want, "{status}");
    }
}

#[test]
fn pods_tell_what_their_init_containers_do() {
    let spec = json!({"containers": [{"name": "c"}],
                      "initContainers": [{"name": "one"}, {"name": "side", "restartPolicy": "Always"}]});
    let done = json!({"name": "one", "state": {"terminated": {"exitCode": 0}}, "restartCount": 2});
    let side =
        json!({"name": "side", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}});
    let main = json!({"name": "c", "ready": true, "state": {"running": {}}});
    let cases = [
        (json!([{"name": "one", "state": {"running": {}}}]), json!([]), ["0/2", "Init:0/2", "0"]),
        (
            json!([{"name": "one", "state": {"waiting": {"reason": "ErrImagePull"}}}]),
            json!([]),
            ["0/2", "Init:ErrImagePull", "0"],
        ),
        (
            json!([{"name": "one", "state": {"terminated": {"exitCode": 3}}}]),
            json!([]),
            ["0/2", "Init:ExitCode:3", "0"],
        ),
        (
            json!([done, {"name": "side", "state": {"waiting": {"reason": "PodInitializing"}}}]),
            json!([]),
            ["0/2", "Init:1/2", "2"],
        ),
        (json!([done, side]), json!([main]), ["2/2", "Running", "1"]),
    ];
    for (init, containers, want) in cases {
        let status =
            json!({"phase": "Running", "initContainerStatuses": init, "containerStatuses": containers});
        assert_eq!(pod(spec.clone(), status.clone()), want, "{status}");
    }
}

#[test]
fn a_deleted_pod_terminates_and_a_wide_row_says_where() {
    let object = json!({"metadata": {"deletionTimestamp": NOW}, "spec": {"nodeName": "n",
        "readinessGates": [{"conditionType": "x"}]}, "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [{"type": "x", "status": "True"}]}});
    assert_eq!(
        cells("", "v1", "Pod", object),
        ["0/0", "Terminating", "0", "10.0.0.1", "n", "<none>", "1/1"].map(Value::from)
    );
}

#[test]
fn workloads_count() {
    let template =
        json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}});
    let spec = json!({"replicas": 3, "template": template, "selector": {"matchLabels": {"k": "v"}}});
    let status = json!({"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1});
    let object = json!({"spec": spec, "status": status});
    assert_eq!(
        cells("apps", "v1", "Deployment", object.clone()),
        [json!("1/3"), json!(2), json!(1), json!("a,b"), json!("x,y"), json!("k=v")]
    );
    assert_eq!(
        cells("apps", "v1", "ReplicaSet", object.clone()),
        [json!(3), json!(2), json!(1), json!("a,b"), json!("x,y"), json!("k=v")]
    );
    assert_eq!(cells("apps", "v1", "StatefulSet", object)[0], "1/3");
}

#[test]
fn jobs_say_how_far_they_are() {
    let job = |spec: Value, status: Value| {
        cells("batch", "v1", "Job", json!({"spec": spec, "status": status}))[..3].to_vec()
    };
    let start = "2026-01-01T23:58:00Z";
    assert_eq!(
        job(json!({"completions": 3}), json!({"succeeded": 1, "startTime": start})),
        ["Running", "1/3", "2m"]
    );
    let done = json!({"succeeded": 3, "startTime": start, "completionTime": "2026-01-01T23:58:07Z",
                      "conditions": [{"type": "Complete", "status": "True"}]});
    assert_eq!(job(json!({"completions": 3}), done), ["Complete", "3/3", "7s"]);
    assert_eq!(job(json!({"parallelism": 4}), json!({})), ["Running", "0/1 of 4", ""]);
    assert_eq!(
        job(json!({}), json!({"conditions": [{"type": "Failed", "status": "True"}]})),
        ["Failed", "0/1", ""]
    );
}

#[test]
fn services_and_endpoints_say_where_they_are() {
    let service = |spec: Value| cells("", "v1", "Service", json!({"spec": spec}));
    assert_eq!(
        service(json!({"type": "NodePort", "clusterIPs": ["10.96.0.9"], "selector": {"a": "b"},
                       "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]})),
        ["NodePort", "10.96.0.9", "<none>", "80:30080/TCP,53/UDP", "a=b"]
    );
    assert_eq!(
        service(json!({"type": "ExternalName", "externalName": "x.io"})),
        ["ExternalName", "<none>", "x.io", "<none>", "<none>"]
    );
    assert_eq!(service(json!({"type": "LoadBalancer", "clusterIPs": ["None"]}))[1..3], ["None", "<pending>"]);
    let addresses: Vec<Value> = (1..6).map(|i| json!({"ip": format!("10.0.0.{i}")})).collect();
    let endpoints = json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]});
    assert_eq!(cells("", "v1", "Endpoints", endpoints), ["10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more..."]);
    assert_eq!(cells("", "v1", "Endpoints", json!({})), ["<none>"]);
    let slice =
        json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]});
    assert_eq!(cells("discovery.k8s.io", "v1", "EndpointSlice", slice), ["IPv4", "80", "10.0.0.1"]);
    assert_eq!(cells("discovery.k8s.io", "v1", "EndpointSlice", json!({})), ["", "<unset>", "<unset>"]);
}

#[test]
fn nodes_and_events_are_summed_up() {
    let node = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "x"}},
        "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        "nodeInfo": {"kubeletVersion": "v1.37.0", "osImage": "Debian", "kernelVersion": "6"}}});
    assert_eq!(
        cells("", "v1", "Node", node),
        [
            "Ready,SchedulingDisabled",
            "control-plane,x",
            "v1.37.0",
            "10.0.0.1",
            "<none>",
            "Debian",
            "6",
            "<unknown>"
        ]
    );
    let event = json!({"firstTimestamp": "2026-01-01T23:50:00Z", "lastTimestamp": "2026-01-01T23:59:00Z", "count": 4,
        "type": "Normal", "reason": "Pulled", "message": " done ", "involvedObject": {"kind": "Pod", "name": "p",
        "fieldPath": "spec.containers{c}"}, "source": {"component": "kubelet", "host": "n"}});
    assert_eq!(
        cells("", "v1", "Event", event),
        [
            json!("60s"),
            json!("Normal"),
            json!("Pulled"),
            json!("pod/p"),
            json!("spec.containers{c}"),
            json!("kubelet, n"),
            json!("done"),
            json!("10m"),
            json!(4)
        ]
    );
    let single = json!({"eventTime": "2026-01-01T23:59:58Z", "involvedObject": {"kind": "Node"}});
    let shown = cells("events.k8s.io", "v1", "Event", single);
    assert_eq!((&shown[0], &shown[3], &shown[8]), (&json!("2s"), &json!("node"), &json!(1)));
}

#[test]
fn every_kind_fills_its_columns_even_from_nothing() {
    for row in Kinds::builtin().iter() {
        for object in [json!({}), json!({"spec": [], "status": 1, "metadata": null})] {
            let cells = (row.hooks.printer.cells)(&object, NOW.parse().unwrap());
            assert_eq!(cells.len(), row.hooks.printer.columns.len(), "{}", row.kind);
        }
    }
}

#[test]
fn durations_are_short() {
    for (seconds, want) in [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (190, "3m10s"),
        (600, "10m"),
        (179 * 60, "179m"),
        (3 * 3600, "3h"),
        (5 * 3600 + 60, "5h1m"),
        (47 * 3600, "47h"),
        (50 * 3600, "2d2h"),
        (9 * 86400, "9d"),
        (800 * 86400, "2y70d"),
        (3000 * 86400, "8y"),
    ] {
        assert_eq!(human_duration(seconds), want, "{seconds}");
    }
}

#[test]
fn what_configures_the_server_is_told_in_columns() {
    let admission = "admissionregistration.k8s.io";
    let kind = json!({"apiVersion": "x.io/v1", "kind": "Limit"});
    let policy = json!({"spec": {"validations": [{}, {}], "mutations": [{}], "paramKind": kind}});
    let select = json!({"matchLabels": {"a": "b"}});
    let binding = |reference: Value| json!({"spec": {"policyName": "p", "paramRef": reference}});
    let conditions =
        |kind: &str, status: &str| json!({"conditions": [{"type": kind, "status": status, "reason": "R"}]});
    let flow = json!({"spec": {"matchingPrecedence": 7, "priorityLevelConfiguration": {"name": "low"},
        "distinguisherMethod": {"type": "ByUser"}}, "status": conditions("Dangling", "False")});
    let level = json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 5,
        "limitResponse": {"queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": 50}}}}});
    let service = json!({"spec": {"service": {"namespace": "n", "name": "s"}}, "status": conditions("Available", "False")});
    let claim = |status: Value| json!({"status": status});
    let healthy = json!({"conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]});
    let cases: Vec<(&str, &str, &str, Value, Vec<Value>)> = vec![
        (admission, "v1", "MutatingWebhookConfiguration", json!({"webhooks": [{}]}), vec![json!(1)]),
        (
            admission,
            "v1",
            "ValidatingAdmissionPolicy",
            policy.clone(),
            vec![json!(2), json!("x.io/v1/Limit")],
        ),
        (admission, "v1", "MutatingAdmissionPolicy", policy, vec![json!(1), json!("x.io/v1/Limit")]),
        (
            admission,
            "v1",
            "ValidatingAdmissionPolicyBinding",
            binding(json!({"name": "x"})),
            vec![json!("p"), json!("*/x")],
        ),
        (
            admission,
            "v1",
            "MutatingAdmissionPolicyBinding",
            binding(json!({"selector": select})),
            vec![json!("p"), json!("a=b")],
        ),
        (
            "flowcontrol.apiserver.k8s.io",
            "v1",
            "FlowSchema",
            flow,
            vec![json!("low"), json!(7), json!("ByUser"), json!("False")],
        ),
        (
            "flowcontrol.apiserver.k8s.io",
            "v1",
            "PriorityLevelConfiguration",
            level,
            vec![json!("Limited"), json!(5), json!(64), json!(6), json!(50)],
        ),
        ("apiregistration.k8s.io", "v1", "APIService", service, vec![json!("n/s"), json!("False (R)")]),
        ("apiregistration.k8s.io", "v1", "APIService", json!({}), vec![json!("Local"), json!("Unknown")]),
        ("resource.k8s.io", "v1", "ResourceClaim", json!({}), vec![json!("pending")]),
        (
            "resource.k8s.io",
            "v1",
            "ResourceClaim",
            claim(json!({"allocation": {}, "reservedFor": [{}]})),
            vec![json!("allocated,reserved")],
        ),
        ("", "v1", "ComponentStatus", healthy, vec![json!("Healthy"), json!("ok"), json!("")]),
    ];
    for (group, version, kind, object, wanted) in cases {
        assert_eq!(cells(group, version, kind, object), wanted, "{kind}");
    }
}
