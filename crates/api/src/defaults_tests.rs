use serde_json::{Value, json};

use crate::decode::{FieldValidation, Target, decode};
use crate::kind::Kinds;

/// Decodes and defaults as a request does.
fn defaulted(group: &str, version: &str, kind: &str, object: Value) -> Value {
    let kinds = Kinds::builtin();
    let row = kinds.kind(group, version, kind).unwrap();
    let target = Target::of(row, version).unwrap();
    let mut object = decode(&target, object.to_string().as_bytes(), FieldValidation::Strict).unwrap().object;
    (row.hooks.default)(version, &mut object);
    let once = object.clone();
    (row.hooks.default)(version, &mut object);
    assert_eq!(object, once, "{kind}: defaulting twice changes more");
    object
}

/// Whether everything in the second is in the first; lists are compared item by item.
fn contains(object: &Value, wanted: &Value) -> bool {
    match (object, wanted) {
        (Value::Object(o), Value::Object(w)) => {
            w.iter().all(|(k, v)| o.get(k).map_or(v.is_null(), |found| contains(found, v)))
        }
        (Value::Array(o), Value::Array(w)) => {
            o.len() == w.len() && o.iter().zip(w).all(|(o, w)| contains(o, w))
        }
        _ => object == wanted,
    }
}

/// A group, a version, a kind, what is given and what has to be in the outcome. Null means absent.
type Case = (&'static str, &'static str, &'static str, Value, Value);

fn check(cases: Vec<Case>) {
    for (group, version, kind, given, wanted) in cases {
        let got = defaulted(group, version, kind, given.clone());
        assert!(contains(&got, &wanted), "{kind} {given}\n got {got}\nwant {wanted}");
    }
}

#[test]
fn a_pod_is_filled_in() {
    let pod = |spec: Value| json!({"spec": spec});
    let one = |container: Value| json!({"spec": {"containers": [container]}});
    check(vec![
        (
            "",
            "v1",
            "Pod",
            pod(json!({"containers": [{"name": "c", "image": "nginx"}]})),
            pod(json!({
                "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
                "schedulerName": "default-scheduler", "securityContext": {}, "enableServiceLinks": true,
                "containers": [{"imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log",
                                "terminationMessagePolicy": "File", "resources": {}}],
            })),
        ),
        (
            "",
            "v1",
            "Pod",
            pod(
                json!({"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "enableServiceLinks": false,
                       "serviceAccountName": "sa", "containers": []}),
            ),
            pod(
                json!({"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "enableServiceLinks": false,
                       "serviceAccount": "sa"}),
            ),
        ),
        (
            "",
            "v1",
            "Pod",
            one(json!({"name": "c", "livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe":
                {"grpc": {"port": 1}, "periodSeconds": 3}, "lifecycle": {"preStop": {"httpGet": {"port": "x"}}}})),
            one(json!({"livenessProbe": {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1,
                                         "failureThreshold": 3, "httpGet": {"path": "/", "scheme": "HTTP"}},
                       "readinessProbe": {"grpc": {"service": ""}, "periodSeconds": 3},
                       "lifecycle": {"preStop": {"httpGet": {"path": "/"}}}})),
        ),
        (
            "",
            "v1",
            "Pod",
            one(
                json!({"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "0.5"}},
                       "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                       "ports": [{"containerPort": 80}]}),
            ),
            one(json!({"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}},
                       "env": [{"valueFrom": {"fieldRef": {"apiVersion": "v1"}}}],
                       "ports": [{"protocol": "TCP", "hostPort": null}]})),
        ),
        (
            "",
            "v1",
            "Pod",
            pod(
                json!({"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}),
            ),
            one(json!({"ports": [{"hostPort": 80}]})),
        ),
        (
            "",
            "v1",
            "Pod",
            pod(json!({"containers": [], "volumes": [
                {"name": "a"}, {"name": "b", "configMap": {"name": "x"}}, {"name": "c", "hostPath": {"path": "/"}},
                {"name": "d", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "t"}},
                    {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}},
                {"name": "e", "secret": {"secretName": "s", "defaultMode": 0}}]})),
            pod(json!({"volumes": [
                {"emptyDir": {}}, {"configMap": {"defaultMode": 420}}, {"hostPath": {"type": ""}},
                {"projected": {"defaultMode": 420, "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3600}},
                    {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1"}}]}}]}},
                {"secret": {"defaultMode": 0}, "emptyDir": null}]})),
        ),
    ]);
}

#[test]
fn only_what_may_change_is_pulled_always() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.25", "IfNotPresent"),
        ("host:5000/nginx", "Always"),
        ("host:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:0123456789012345678901234567890123456789012345678901234567890123", "IfNotPresent"),
        ("nginx:latest@sha256:0123456789012345678901234567890123456789012345678901234567890123", "Always"),
    ] {
        let pod = json!({"spec": {"containers": [{"name": "c", "image": image}]}});
        let got = defaulted("", "v1", "Pod", pod);
        assert_eq!(got["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn workloads_are_filled_in() {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let filled = json!({"spec": {"restartPolicy": "Always", "enableServiceLinks": null,
                                 "containers": [{"imagePullPolicy": "IfNotPresent"}]}});
    let given = || json!({"spec": {"template": template}});
    check(vec![
        ("", "v1", "PodTemplate", json!({"template": template}), json!({"template": filled})),
        (
            "apps",
            "v1",
            "Deployment",
            given(),
            json!({"spec": {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "template": filled,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}}),
        ),
        (
            "apps",
            "v1",
            "Deployment",
            json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}}),
            json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate", "rollingUpdate": null}}}),
        ),
        (
            "apps",
            "v1",
            "ReplicaSet",
            given(),
            json!({"metadata": {"labels": null}, "spec": {"replicas": 1, "template": filled}}),
        ),
        (
            "",
            "v1",
            "ReplicationController",
            given(),
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1, "selector": {"a": "b"}, "template": filled}}),
        ),
        (
            "apps",
            "v1",
            "DaemonSet",
            given(),
            json!({"spec": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}}}),
        ),
        (
            "apps",
            "v1",
            "StatefulSet",
            given(),
            json!({"spec": {"podManagementPolicy": "OrderedReady", "updateStrategy": {"rollingUpdate": {"partition": 0}},
                            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}}}),
        ),
        (
            "batch",
            "v1",
            "Job",
            given(),
            json!({"metadata": {"labels": {"a": "b"}},
                   "spec": {"completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
                            "suspend": false, "podReplacementPolicy": "TerminatingOrFailed", "template": filled}}),
        ),
        (
            "batch",
            "v1",
            "Job",
            json!({"spec": {"parallelism": 2, "backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}}),
            json!({"spec": {"completions": null, "backoffLimit": 2147483647, "podReplacementPolicy": "Failed",
                "podFailurePolicy": {"rules": [{"onPodConditions": [{"status": "True"}]}]}}}),
        ),
        (
            "batch",
            "v1",
            "CronJob",
            json!({"spec": {"jobTemplate": given()}}),
            json!({"spec": {"concurrencyPolicy": "Allow", "suspend": false, "successfulJobsHistoryLimit": 3,
                            "failedJobsHistoryLimit": 1, "jobTemplate": {"spec": {"template": filled, "backoffLimit": null}}}}),
        ),
    ]);
}

#[test]
fn the_rest_is_filled_in() {
    let rbac = "rbac.authorization.k8s.io";
    check(vec![
        (
            "",
            "v1",
            "Service",
            json!({"spec": {"ports": [{"port": 80}, {"port": 1, "targetPort": "http"}]}}),
            json!({"spec": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "externalTrafficPolicy": null,
                "ports": [{"protocol": "TCP", "targetPort": 80}, {"targetPort": "http"}]}}),
        ),
        (
            "",
            "v1",
            "Service",
            json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"},
                "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
            json!({"spec": {"externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true,
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}},
                "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4", "ipMode": "VIP"}]}}}),
        ),
        (
            "",
            "v1",
            "Service",
            json!({"spec": {"type": "ExternalName", "externalName": "x.io"}}),
            json!({"spec": {"internalTrafficPolicy": null, "sessionAffinity": "None"}}),
        ),
        (
            "",
            "v1",
            "Secret",
            json!({"data": {"a": "AA=="}, "stringData": {"b": "hello"}}),
            json!({"type": "Opaque", "data": {"a": "AA==", "b": "aGVsbG8="}, "stringData": null}),
        ),
        (
            "",
            "v1",
            "Namespace",
            json!({"metadata": {"name": "x"}}),
            json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "x"}}, "status": {"phase": "Active"}}),
        ),
        (
            "discovery.k8s.io",
            "v1",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [], "ports": [{"port": 1}]}),
            json!({"ports": [{"name": "", "protocol": "TCP"}]}),
        ),
        (
            rbac,
            "v1",
            "RoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"},
                   "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
            json!({"roleRef": {"apiGroup": rbac}, "subjects": [{"apiGroup": rbac}, {"apiGroup": null}]}),
        ),
        (
            "networking.k8s.io",
            "v1",
            "NetworkPolicy",
            json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}}),
            json!({"spec": {"policyTypes": ["Ingress", "Egress"], "egress": [{"ports": [{"protocol": "TCP"}]}]}}),
        ),
        (
            "scheduling.k8s.io",
            "v1",
            "PriorityClass",
            json!({"value": 1}),
            json!({"preemptionPolicy": "PreemptLowerPriority"}),
        ),
        (
            "",
            "v1",
            "LimitRange",
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}}),
            json!({"spec": {"limits": [{"default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"}}]}}),
        ),
        (
            "",
            "v1",
            "PersistentVolumeClaim",
            json!({"spec": {}}),
            json!({"spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}),
        ),
    ]);
}

#[test]
fn resources_decide_the_class() {
    let class = |containers: Value| super::qos(&json!({"containers": containers})).as_str();
    let both = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(class(json!([{}])), "BestEffort");
    assert_eq!(class(json!([{"resources": {"requests": both, "limits": both}}])), "Guaranteed");
    assert_eq!(class(json!([{"resources": {"limits": both}}])), "Guaranteed");
    assert_eq!(class(json!([{"resources": {"requests": both}}])), "Burstable");
    assert_eq!(class(json!([{"resources": {"limits": both}}, {}])), "Burstable");
    assert_eq!(class(json!([{"resources": {"limits": {"cpu": "1"}}}])), "Burstable");
    assert_eq!(class(json!([{"resources": {"limits": {"cpu": "0"}}}])), "BestEffort");
}

#[test]
fn a_node_has_its_range_in_both_fields() {
    let made = |spec: Value| {
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "spec": spec, "status": {"capacity": {"cpu": "1"}}});
        defaulted("", "v1", "Node", node)
    };
    for spec in [
        json!({"podCIDR": "10.0.0.0/24"}),
        json!({"podCIDRs": ["10.0.0.0/24"]}),
        json!({"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.9.0.0/24"]}),
    ] {
        let node = made(spec);
        assert_eq!(node["spec"], json!({"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}));
        assert_eq!(node["status"]["allocatable"], json!({"cpu": "1"}));
    }
}

#[test]
fn a_pod_has_its_first_address_in_both_places() {
    let told = |status: Value| {
        let mut pod = json!({"spec": {"containers": []}, "status": status});
        super::pod("v1", &mut pod);
        pod["status"].clone()
    };
    let both = json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]});
    assert_eq!(told(json!({"podIP": "10.0.0.1"})), both);
    assert_eq!(told(json!({"podIPs": [{"ip": "10.0.0.1"}]})), both);
    assert_eq!(told(json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.9.0.1"}, {"ip": "::1"}]})), both);
    assert_eq!(told(json!({"phase": "Running"})), json!({"phase": "Running"}));
}

#[test]
fn volumes_of_old_have_defaults_too() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {
        "containers": [{"name": "c", "image": "i", "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]}],
        "volumes": [
            {"name": "a", "azureDisk": {"diskName": "d", "diskURI": "u"}},
            {"name": "b", "scaleIO": {"gateway": "g", "system": "s", "volumeName": "v", "secretRef": {"name": "x"}}},
        ],
    }});
    let spec = defaulted("", "v1", "Pod", pod)["spec"].take();
    let wanted = json!({"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": false});
    assert!(contains(&spec["volumes"][0]["azureDisk"], &wanted), "{spec}");
    let wanted = json!({"storageMode": "ThinProvisioned", "fsType": "xfs"});
    assert!(contains(&spec["volumes"][1]["scaleIO"], &wanted), "{spec}");
    assert_eq!(spec["containers"][0]["env"][0]["valueFrom"]["resourceFieldRef"]["divisor"], "0");
}
