use serde_json::json;

use super::*;
use crate::kind::{Action, Kinds};

#[test]
fn a_new_object_brings_no_status() {
    let kinds = Kinds::builtin();
    let row = kinds.kind("apps", "v1", "Deployment").unwrap();
    let mut object =
        json!({"metadata": {"name": "a", "generation": 9}, "spec": {}, "status": {"replicas": 5}});
    (row.hooks.prepare_create)(&mut object);
    assert_eq!(object, json!({"metadata": {"name": "a", "generation": 1}, "spec": {}, "status": {}}));
}

#[test]
fn what_runs_replicas_tells_their_number_from_the_start() {
    let (replicas, available) = (json!({"replicas": 0}), json!({"replicas": 0, "availableReplicas": 0}));
    for (group, kind, status) in [
        ("apps", "ReplicaSet", &replicas),
        ("apps", "StatefulSet", &available),
        ("", "ReplicationController", &replicas),
    ] {
        let mut object = json!({"metadata": {"name": "a"}, "status": {"replicas": 5, "readyReplicas": 5}});
        let kinds = Kinds::builtin();
        let row = kinds.kind(group, "v1", kind).unwrap();
        (row.hooks.prepare_create)(&mut object);
        assert_eq!(object, json!({"metadata": {"name": "a", "generation": 1}, "status": status}));
    }
}

#[test]
fn a_pod_with_scheduling_gates_says_that_it_is_not_scheduled() {
    let mut gated = json!({"metadata": {"name": "p", "creationTimestamp": "2026-05-01T00:00:00Z"},
        "spec": {"schedulingGates": [{"name": "example.com/g"}]}});
    create_pod(&mut gated);
    let conditions = json!([{"type": "PodScheduled", "status": "False", "lastProbeTime": null,
        "lastTransitionTime": "2026-05-01T00:00:00Z", "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates"}]);
    assert_eq!(gated["status"]["conditions"], conditions);
    let mut open = json!({"metadata": {"name": "p"}, "spec": {"schedulingGates": []}});
    create_pod(&mut open);
    assert_eq!(open["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
}

#[test]
fn a_node_that_registers_brings_its_status() {
    let kinds = Kinds::builtin();
    let row = kinds.kind("", "v1", "Node").unwrap();
    let node = json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready"}]}});
    let mut created = node.clone();
    (row.hooks.prepare_create)(&mut created);
    assert_eq!(created, node);
}

#[test]
fn the_generation_follows_the_spec_and_the_status_stays() {
    let old = json!({"metadata": {"generation": 3}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
    let mut new =
        json!({"metadata": {"generation": 1, "labels": {"a": "b"}}, "spec": {"replicas": 1}, "status": {}});
    update_counted(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 3);
    assert_eq!(new["status"], old["status"]);
    new["spec"]["replicas"] = 2.into();
    update_counted(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 4);
}

#[test]
fn the_annotations_of_a_deployment_count() {
    let old = json!({"metadata": {"generation": 3, "annotations": {"a": "b"}}, "spec": {}});
    let mut new = json!({"metadata": {"annotations": {"a": "c"}}, "spec": {}});
    update_deployment(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 4);
    let stored = new.clone();
    update_deployment(&mut new, &stored);
    assert_eq!(new["metadata"]["generation"], 4);
}

#[test]
fn the_status_subresource_writes_only_the_status() {
    let old = json!({"metadata": {"generation": 3}, "spec": {"replicas": 1}, "data": 1, "status": {}});
    let mut new =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 7}, "extra": 1, "status": {"x": 1}});
    update_status(&mut new, &old);
    assert_eq!(
        new,
        json!({"metadata": {"generation": 3, "labels": {"a": "b"}}, "spec": {"replicas": 1}, "data": 1, "status": {"x": 1}})
    );
}

#[test]
fn the_status_of_a_deployment_keeps_its_labels_too() {
    let kinds = Kinds::builtin();
    let row = kinds.kind("apps", "v1", "Deployment").unwrap();
    let Some(Action::Update(status)) = row.subresource("status").map(|s| &s.action) else {
        panic!("no status")
    };
    let old = json!({"metadata": {"labels": {"a": "b"}}, "status": {}});
    let mut new =
        json!({"metadata": {"labels": {"a": "c"}, "annotations": {"x": "y"}}, "status": {"replicas": 1}});
    (status.prepare)(&mut new, &old);
    assert_eq!(
        new,
        json!({"metadata": {"labels": {"a": "b"}, "annotations": {"x": "y"}}, "status": {"replicas": 1}})
    );
}

#[test]
fn some_statuses_are_written_without_their_metadata() {
    let kinds = Kinds::builtin();
    let written = |group: &str, kind: &str| {
        let row = kinds.kind(group, "v1", kind).unwrap();
        let Some(Action::Update(status)) = row.subresource("status").map(|s| &s.action) else {
            panic!("no status")
        };
        let old = json!({"metadata": {"name": "a", "finalizers": ["x/y"]}, "status": {}});
        let mut new = json!({"metadata": {"name": "a", "labels": {"a": "b"}}, "status": {}});
        (status.prepare)(&mut new, &old);
        new["metadata"].clone()
    };
    let kept = json!({"name": "a", "finalizers": ["x/y"]});
    assert_eq!(written("storage.k8s.io", "VolumeAttachment"), kept);
    assert_eq!(written("apiregistration.k8s.io", "APIService"), kept);
    assert_eq!(written("batch", "Job"), json!({"name": "a", "labels": {"a": "b"}}));
}

#[test]
fn limits_without_a_name_get_one() {
    let named = |mut limits: Value| {
        create_limit_range(&mut limits);
        limits["metadata"]["name"].clone()
    };
    assert_eq!(named(json!({"metadata": {"uid": "u-1"}})), "u-1");
    assert_eq!(named(json!({"metadata": {"uid": "u-1", "name": "mine"}})), "mine");
}

#[test]
fn every_status_subresource_keeps_the_spec() {
    for row in Kinds::builtin().iter() {
        let Some(Action::Update(status)) = row.subresource("status").map(|s| &s.action) else { continue };
        let old = json!({"metadata": {"name": "a"}, "spec": {"a": 1}, "status": {"b": 1}});
        let mut new = json!({"metadata": {"name": "a"}, "spec": {"a": 2}, "status": {"b": 2}});
        (status.prepare)(&mut new, &old);
        assert_eq!(new["spec"], old["spec"], "{}", row.kind);
        assert_eq!(new["status"]["b"], 2, "{}", row.kind);
        let mut new = json!({"metadata": {"name": "a"}, "spec": {"a": 1}, "status": {"b": 2}});
        (row.hooks.update.prepare)(&mut new, &old);
        assert_eq!(new["status"], old["status"], "{}", row.kind);
    }
}

#[test]
fn a_pod_starts_pending_in_its_class() {
    let mut pod = json!({"metadata": {}, "spec": {"containers": [{}]}, "status": {"phase": "Running"}});
    create_pod(&mut pod);
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(pod["metadata"]["generation"], 1);
}

#[test]
fn the_kubelet_does_not_change_owners_or_class() {
    let old = json!({"metadata": {"ownerReferences": [1]}, "spec": {}, "status": {"qosClass": "Burstable"}});
    let mut new = json!({"metadata": {}, "spec": {}, "status": {"phase": "Running"}});
    update_pod_status(&mut new, &old);
    assert_eq!(new["metadata"]["ownerReferences"], json!([1]));
    assert_eq!(new["status"], json!({"phase": "Running", "qosClass": "Burstable"}));
}

#[test]
fn parts_of_a_pod_are_written_alone() {
    let old = json!({"metadata": {"generation": 1, "resourceVersion": "5"},
                     "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "a", "resources": {}}]}});
    let mut new = json!({"metadata": {"resourceVersion": "4", "labels": {"x": "y"}},
        "spec": {"nodeName": "other", "ephemeralContainers": [{"name": "debug"}],
                 "containers": [{"name": "c", "image": "b", "resources": {"limits": {"cpu": "1"}}}]}});
    let mut resized = new.clone();
    update_ephemeral_containers(&mut new, &old);
    assert_eq!(new["metadata"], json!({"generation": 2, "resourceVersion": "4"}));
    assert_eq!(new["spec"]["nodeName"], "n");
    assert_eq!(new["spec"]["containers"], old["spec"]["containers"]);
    assert_eq!(new["spec"]["ephemeralContainers"][0]["name"], "debug");
    update_resize(&mut resized, &old);
    assert_eq!(
        resized["spec"],
        json!({"nodeName": "n", "containers": [{"name": "c", "image": "a", "resources": {"limits": {"cpu": "1"}}}]})
    );
}

#[test]
fn a_namespace_waits_for_its_controller() {
    let mut namespace = json!({"metadata": {"name": "x"}});
    create_namespace(&mut namespace);
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    let mut new = namespace.clone();
    new["spec"]["finalizers"] = json!([]);
    let mut finalized = new.clone();
    update_namespace(&mut new, &namespace);
    assert_eq!(new["spec"], namespace["spec"]);
    finalize_namespace(&mut finalized, &namespace);
    assert_eq!(finalized["spec"]["finalizers"], json!([]));
}

#[test]
fn a_job_finds_its_pods_by_its_uid() {
    let mut job = json!({"metadata": {"name": "pi", "uid": "u-1"}, "spec": {"template": {"spec": {}}}});
    create_job(&mut job);
    assert_eq!(
        job["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}})
    );
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["batch.kubernetes.io/job-name"], "pi");
    assert_eq!(labels["controller-uid"], "u-1");
    assert_eq!(&job["metadata"]["labels"], labels);
    let mut manual =
        json!({"metadata": {"name": "pi", "uid": "u"}, "spec": {"manualSelector": true, "template": {}}});
    create_job(&mut manual);
    assert!(manual["spec"].get("selector").is_none());
}

#[test]
fn pods_are_given_the_time_they_need() {
    let running = json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7}, "status": {"phase": "Running"}});
    let unscheduled = json!({"spec": {}});
    let ended = json!({"spec": {"nodeName": "n"}, "status": {"phase": "Succeeded"}});
    for (pod, asked, want) in [
        (&running, None, 7),
        (&running, Some(3), 3),
        (&running, Some(0), 0),
        (&running, Some(-5), 1),
        (&unscheduled, None, 0),
        (&ended, Some(30), 0),
    ] {
        assert_eq!(pod_grace(pod, asked), want);
    }
}

#[test]
fn what_belongs_to_the_type_of_a_service_goes_with_it() {
    let old = json!({"metadata": {}, "status": {"loadBalancer": {}}, "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1",
        "clusterIPs": ["10.0.0.1"], "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true}});
    let mut new = old.clone();
    new["spec"]["type"] = "ClusterIP".into();
    update_service(&mut new, &old);
    assert_eq!(
        new["spec"],
        json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]})
    );
    let mut insists = old.clone();
    insists["spec"]["type"] = "ClusterIP".into();
    insists["spec"]["externalTrafficPolicy"] = "Local".into();
    update_service(&mut insists, &old);
    assert_eq!(insists["spec"]["externalTrafficPolicy"], "Local");
    let mut moved = old.clone();
    moved["spec"]["clusterIP"] = "10.0.0.2".into();
    update_service(&mut moved, &old);
    assert_eq!(moved["spec"]["clusterIPs"], json!(["10.0.0.2"]));
    assert_eq!(moved["spec"]["externalTrafficPolicy"], "Cluster");
}

#[test]
fn a_new_status_has_what_one_always_has() {
    let kinds = Kinds::builtin();
    for (group, version, kind, status) in [
        ("networking.k8s.io", "v1", "Ingress", json!({"loadBalancer": {}})),
        ("autoscaling", "v2", "HorizontalPodAutoscaler", json!({"desiredReplicas": 0})),
        ("apps", "v1", "Deployment", json!({})),
    ] {
        let row = kinds.kind(group, version, kind).unwrap();
        let mut object =
            json!({"apiVersion": format!("{group}/{version}"), "kind": kind, "status": {"x": 1}});
        (row.hooks.prepare_create)(&mut object);
        assert_eq!(object["status"], status, "{kind}");
    }
}

#[test]
fn the_templates_of_daemon_sets_are_counted() {
    let kinds = Kinds::builtin();
    let row = kinds.kind("apps", "v1", "DaemonSet").unwrap();
    let count =
        |set: &Value| set["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone();
    let mut old = json!({"metadata": {"name": "a"}, "spec": {"template": {"a": 1}}, "status": {}});
    (row.hooks.prepare_create)(&mut old);
    assert_eq!(count(&old), "1");
    let change = |template: i64| {
        let mut new = json!({"metadata": {"name": "a"}, "spec": {"template": {"a": template}}, "status": {}});
        (row.hooks.update.prepare)(&mut new, &old);
        count(&new)
    };
    assert_eq!((change(1), change(2)), (json!("1"), json!("2")));
}

#[test]
fn the_template_of_a_pod_template_counts() {
    let kinds = Kinds::builtin();
    let row = kinds.kind("", "v1", "PodTemplate").unwrap();
    let mut old = json!({"metadata": {"name": "a"}, "template": {"spec": {}}});
    (row.hooks.prepare_create)(&mut old);
    assert_eq!(old["metadata"]["generation"], 1);
    let mut same = json!({"metadata": {"name": "a", "labels": {"b": "c"}}, "template": {"spec": {}}});
    (row.hooks.update.prepare)(&mut same, &old);
    assert_eq!(same["metadata"]["generation"], 1);
    let mut new = json!({"metadata": {"name": "a"}, "template": {"spec": {"hostNetwork": true}}});
    (row.hooks.update.prepare)(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 2);
}

#[test]
fn what_never_changes_is_of_the_first_generation() {
    let kinds = Kinds::builtin();
    let row = kinds.kind("scheduling.k8s.io", "v1", "PriorityClass").unwrap();
    let mut class = json!({"metadata": {"name": "a"}, "value": 5});
    (row.hooks.prepare_create)(&mut class);
    assert_eq!(class["metadata"]["generation"], 1);
}

#[test]
fn a_volume_tells_since_when_it_is_in_its_phase() {
    let kinds = Kinds::builtin();
    let row = kinds.kind("", "v1", "PersistentVolume").unwrap();
    let made = "2026-01-01T00:00:00Z";
    let mut volume = json!({"metadata": {"name": "v", "creationTimestamp": made}});
    (row.hooks.prepare_create)(&mut volume);
    assert_eq!(volume["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": made}));
    let stamped = |status: Value| {
        let mut new = json!({"metadata": {"name": "v"}, "status": status});
        (row.hooks.stamp)(&mut new, &volume, "later");
        new["status"]["lastPhaseTransitionTime"].clone()
    };
    assert_eq!(stamped(json!({"phase": "Available"})), "later");
    assert_eq!(stamped(json!({"phase": "Available", "lastPhaseTransitionTime": made})), "later");
    assert_eq!(stamped(json!({"phase": "Available", "lastPhaseTransitionTime": "said"})), "said");
    assert_eq!(stamped(json!({"phase": "Pending"})), made);
}
