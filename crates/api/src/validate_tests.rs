use serde_json::json;

use crate::decode::{FieldValidation, Target, decode};
use crate::kind::{Action, Kinds};
use crate::meta;

use super::*;

/// The row that serves the kind.
fn row(group: &str, kind: &str) -> std::sync::Arc<crate::kind::Kind> {
    Kinds::builtin().iter().find(|k| k.group == group && k.kind == kind).unwrap().clone()
}

/// Decodes, defaults and prepares an object as a create does.
pub(super) fn made(group: &str, kind: &str, object: &Value) -> Value {
    let row = row(group, kind);
    let (row, version) = (&row, &*row.versions[0].name);
    let target = Target::of(row, version).unwrap();
    let body = object.to_string();
    let mut object = decode(&target, body.as_bytes(), FieldValidation::Strict).unwrap().object;
    let name = object["metadata"].get("name").cloned().unwrap_or_else(|| "it".into());
    meta::set(&mut object, "name", Some(name));
    meta::set(&mut object, "uid", Some("u-1".into()));
    if row.is_namespaced() {
        meta::set(&mut object, "namespace", Some("default".into()));
    }
    (row.hooks.default)(version, &mut object);
    crate::convert::to_storage(row, version, &mut object);
    (row.hooks.prepare_create)(&mut object);
    object
}

pub(super) fn created(group: &str, kind: &str, object: &Value) -> Vec<String> {
    let errors = (row(group, kind).hooks.validate_create)(&made(group, kind, object));
    errors.iter().map(ToString::to_string).collect()
}

pub(super) fn updated(group: &str, kind: &str, old: &Value, new: &Value) -> Vec<String> {
    let errors = (row(group, kind).hooks.update.validate)(&made(group, kind, new), &made(group, kind, old));
    errors.iter().map(ToString::to_string).collect()
}

/// The first with the fields of the second merged into it; null takes a field away.
pub(super) fn with(base: &Value, change: &Value) -> Value {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            let mut merged = base.clone();
            for (key, value) in change {
                match value {
                    Value::Null => drop(merged.remove(key)),
                    value => {
                        let below = with(base.get(key).unwrap_or(&Value::Null), value);
                        merged.insert(key.clone(), below);
                    }
                }
            }
            Value::Object(merged)
        }
        (_, change) => change.clone(),
    }
}

fn pod(change: &Value) -> Value {
    with(&json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}), change)
}

fn container(change: &Value) -> Value {
    let container = with(&json!({"name": "c", "image": "i"}), change);
    json!({"spec": {"containers": [container]}})
}

#[test]
fn good_objects_pass() {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let once = with(&template, &json!({"spec": {"restartPolicy": "Never"}}));
    let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:x"});
    for (group, kind, object) in [
        ("", "Pod", pod(&json!({}))),
        (
            "",
            "Pod",
            json!({"spec": {"serviceAccountName": "sa", "hostNetwork": true, "volumes": [
                    {"name": "cm", "configMap": {"name": "x", "items": [{"key": "k", "path": "a/b"}]}},
                    {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
                    {"name": "all", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}},
                        {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}}],
                "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always",
                                    "readinessProbe": {"exec": {"command": ["true"]}}}],
                "tolerations": [{"operator": "Exists"}],
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}]}},
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
                "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["a.b"]}],
                "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "name": "http"}],
                    "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                            {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                            {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                    "envFrom": [{"configMapRef": {"name": "x"}, "prefix": "P_"}],
                    "volumeMounts": [{"name": "cm", "mountPath": "/a", "subPath": "x"}],
                    "resources": {"requests": {"cpu": "1", "example.com/gpu": "2"}, "limits": {"cpu": "2", "example.com/gpu": "2"}},
                    "livenessProbe": {"httpGet": {"port": "http"}}, "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
                    "securityContext": {"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}}]}}),
        ),
        ("apps", "Deployment", json!({"spec": spec})),
        ("apps", "ReplicaSet", json!({"spec": spec})),
        ("apps", "DaemonSet", json!({"spec": spec})),
        (
            "apps",
            "StatefulSet",
            with(
                &json!({"spec": spec}),
                &json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "www"}}], "template": {"spec": {
                "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "www", "mountPath": "/w"}]}]}}}}),
            ),
        ),
        ("", "ReplicationController", json!({"spec": {"template": template}})),
        ("batch", "Job", json!({"spec": {"template": once}})),
        (
            "batch",
            "CronJob",
            json!({"spec": {"schedule": "*/5 1-3 * jan mon", "jobTemplate": {"spec": {"template": once}}}}),
        ),
        ("", "Service", json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}})),
        ("", "Service", json!({"spec": {"type": "ExternalName", "externalName": "x.io."}})),
        ("", "Service", json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}})),
        (
            "",
            "Service",
            json!({"spec": {"type": "NodePort", "ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b", "protocol": "UDP"}]}}),
        ),
        ("", "Endpoints", json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]})),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        ),
        ("", "ConfigMap", json!({"data": {"a.b": "c"}, "binaryData": {"d": "AA=="}})),
        ("", "Secret", json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": "", "tls.key": ""}})),
        (
            "",
            "Node",
            json!({"spec": {"podCIDRs": ["10.0.0.0/24"], "taints": [{"key": "a", "effect": "NoSchedule"}]}}),
        ),
        ("", "Namespace", json!({})),
        ("", "Event", json!({"involvedObject": {"namespace": "default"}})),
        ("coordination.k8s.io", "Lease", json!({"spec": {"leaseDurationSeconds": 40}})),
        ("scheduling.k8s.io", "PriorityClass", json!({"value": 10})),
        ("rbac.authorization.k8s.io", "Role", json!({"rules": [rule]})),
        (
            "rbac.authorization.k8s.io",
            "ClusterRole",
            json!({"rules": [rule, {"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
        ),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            json!({"roleRef": role, "subjects": [{"kind": "User", "name": "u"}]}),
        ),
        ("policy", "PodDisruptionBudget", json!({"spec": {"minAvailable": "50%"}})),
        (
            "autoscaling",
            "HorizontalPodAutoscaler",
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}}}),
        ),
        (
            "authorization.k8s.io",
            "SubjectAccessReview",
            json!({"spec": {"user": "u", "resourceAttributes": {}}}),
        ),
    ] {
        assert_eq!(created(group, kind, &object), Vec::<String>::new(), "{kind}");
    }
}

/// Each case: a group, a kind, an object, and the beginning of every message that it gets.
pub(super) fn check(cases: &[(&str, &str, Value, &[&str])]) {
    for (group, kind, object, wanted) in cases {
        let told = created(group, kind, object);
        let fits = told.len() == wanted.len() && told.iter().zip(*wanted).all(|(t, w)| t.starts_with(w));
        assert!(fits, "{kind} {object}\n told {told:#?}\nwanted {wanted:#?}");
    }
}

#[test]
fn pods_are_refused_with_reasons() {
    let in_pod = |change: Value| ("", "Pod", pod(&change));
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({"spec": {"containers": null}}), &["spec.containers: Required value"]),
        (json!({"spec": {"containers": [{"image": "i"}]}}), &["spec.containers[0].name: Required value"]),
        (json!({"spec": {"containers": [{"name": "c"}]}}), &["spec.containers[0].image: Required value"]),
        (
            json!({"spec": {"containers": [{"name": "C_1", "image": " i"}]}}),
            &[
                "spec.containers[0].name: Invalid value: \"C_1\": a lowercase RFC 1123 label must consist of",
                "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace",
            ],
        ),
        (
            json!({"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]}}),
            &["spec.containers[1].name: Duplicate value: \"c\""],
        ),
        (
            json!({"spec": {"initContainers": [{"name": "c", "image": "i", "lifecycle": {}}]}}),
            &[
                "spec.initContainers[0].name: Duplicate value: \"c\"",
                "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        ),
        (
            json!({"spec": {"restartPolicy": "Sometimes", "dnsPolicy": "Maybe"}}),
            &[
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
                "spec.dnsPolicy: Unsupported value: \"Maybe\": supported values: \"ClusterFirstWithHostNet\"",
            ],
        ),
        (
            json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "i"}]}}),
            &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
        (
            json!({"spec": {"hostname": "a.b", "activeDeadlineSeconds": 0, "nodeName": "N"}}),
            &[
                "spec.nodeName: Invalid value: \"N\": a lowercase RFC 1123 subdomain",
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                "spec.hostname: Invalid value: \"a.b\": must not contain dots",
            ],
        ),
        (
            json!({"spec": {"tolerations": [{"key": "a", "operator": "Near"}, {"effect": "Stay", "operator": "Exists", "value": "x"}]}}),
            &[
                "spec.tolerations[0].operator: Unsupported value: \"Near\": supported values: \"Equal\", \"Exists\"",
                "spec.tolerations[1].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
                "spec.tolerations[1].effect: Unsupported value: \"Stay\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ],
        ),
        (
            json!({"spec": {"dnsPolicy": "None"}}),
            &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "a", "operator": "In"}]}]}}}}}),
            &[
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: \
               Required value: must be specified when `operator` is 'In' or 'NotIn'",
            ],
        ),
        (
            json!({"spec": {"securityContext": {"runAsUser": -1, "sysctls": [{"name": "Bad", "value": ""}]}}}),
            &[
                "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                "spec.securityContext.sysctls[0].name: Invalid value: \"Bad\": must have at most 253 characters",
            ],
        ),
        (
            json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "x"}]}}),
            &[
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
                "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"x\"",
            ],
        ),
    ];
    for (change, wanted) in cases {
        let (group, kind, object) = in_pod(change);
        check(&[(group, kind, object, wanted)]);
    }
}

#[test]
fn containers_are_refused_with_reasons() {
    let cases: Vec<(Value, &[&str])> = vec![
        (
            json!({"imagePullPolicy": "Often"}),
            &["spec.containers[0].imagePullPolicy: Unsupported value: \"Often\""],
        ),
        (
            json!({"ports": [{"containerPort": 0}, {"containerPort": 70000, "name": "UP", "protocol": "ICMP"}]}),
            &[
                "spec.containers[0].ports[0].containerPort: Required value",
                "spec.containers[0].ports[1].name: Invalid value: \"UP\": must contain only alpha-numeric characters",
                "spec.containers[0].ports[1].name: Invalid value: \"UP\": must contain at least one letter (a-z)",
                "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.containers[0].ports[1].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ],
        ),
        (
            json!({"ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]}),
            &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//9\""],
        ),
        (
            json!({"env": [{"name": ""}, {"name": "A", "valueFrom": {}}, {"name": "B", "value": "x", "valueFrom":
                {"fieldRef": {"fieldPath": "spec.hostname"}}}]}),
            &[
                "spec.containers[0].env[0].name: Required value",
                "spec.containers[0].env[1].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`",
                "spec.containers[0].env[2].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.hostname\": error converting fieldPath: \
                 field label not supported: spec.hostname",
                "spec.containers[0].env[2].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            ],
        ),
        (
            json!({"volumeMounts": [{"name": "gone", "mountPath": "/a", "subPath": "../x"}]}),
            &[
                "spec.containers[0].volumeMounts[0].name: Not found: \"gone\"",
                "spec.containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'",
            ],
        ),
        (
            json!({"resources": {"requests": {"cpu": "2", "gpu": "1", "memory": "-1"}, "limits": {"cpu": "1"}}}),
            &[
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
                "spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        ),
        (
            json!({"resources": {"requests": {"example.com/gpu": "1"}}}),
            &[
                "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
            ],
        ),
        (
            json!({"livenessProbe": {"successThreshold": 2, "exec": {}}, "readinessProbe": {},
                   "startupProbe": {"tcpSocket": {"port": 0}, "httpGet": {"port": 1, "scheme": "FTP"}}}),
            &[
                "spec.containers[0].livenessProbe.exec.command: Required value",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
                "spec.containers[0].startupProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                "spec.containers[0].startupProbe.httpGet.scheme: Unsupported value: \"FTP\"",
                "spec.containers[0].readinessProbe: Required value: must specify a handler type",
            ],
        ),
        (
            json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false, "seccompProfile": {"type": "Localhost"}}}),
            &[
                "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
                "spec.containers[0].securityContext: Invalid value: {",
            ],
        ),
    ];
    for (change, wanted) in cases {
        check(&[("", "Pod", container(&change), wanted)]);
    }
}

#[test]
fn volumes_are_refused_with_reasons() {
    let cases: Vec<(Value, &[&str])> = vec![
        (
            json!({"name": "A", "emptyDir": {}}),
            &["spec.volumes[0].name: Invalid value: \"A\": a lowercase RFC 1123 label"],
        ),
        (
            json!({"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}),
            &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            json!({"name": "a", "hostPath": {"path": "/x/..", "type": "Thing"}}),
            &[
                "spec.volumes[0].hostPath.path: Invalid value: \"/x/..\": must not contain '..'",
                "spec.volumes[0].hostPath.type: Unsupported value: \"Thing\": supported values: \"\", \"BlockDevice\"",
            ],
        ),
        (
            json!({"name": "a", "secret": {"defaultMode": 512, "items": [{"key": "k", "path": "/abs"}]}}),
            &[
                "spec.volumes[0].secret.secretName: Required value",
                "spec.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                "spec.volumes[0].secret.items[0].path: Invalid value: \"/abs\": must be a relative path",
            ],
        ),
        (
            json!({"name": "a", "projected": {"sources": [{"serviceAccountToken": {"path": "p", "expirationSeconds": 5}}]}}),
            &[
                "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less \
                 than 10 minutes",
                "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
            ],
        ),
        (
            json!({"name": "a", "downwardAPI": {"items": [{"path": "p"}]}}),
            &[
                "spec.volumes[0].downwardAPI.items[0]: Required value: one of fieldRef and resourceFieldRef is required",
            ],
        ),
    ];
    for (volume, wanted) in cases {
        check(&[("", "Pod", pod(&json!({"spec": {"volumes": [volume]}})), wanted)]);
    }
}

#[test]
fn hardly_anything_of_a_pod_changes() {
    let old = pod(
        &json!({"spec": {"activeDeadlineSeconds": 10, "tolerations": [{"key": "a", "operator": "Exists"}]}}),
    );
    let change = |c: Value| updated("", "Pod", &old, &with(&old, &c));
    for allowed in [
        json!({}),
        json!({"spec": {"containers": [{"name": "c", "image": "other"}], "activeDeadlineSeconds": 5}}),
        json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 3, "effect": "NoExecute"},
                                        {"key": "a", "operator": "Exists"}]}}),
    ] {
        let told: Vec<String> = change(allowed.clone());
        assert_eq!(told, Vec::<String>::new(), "{allowed}");
    }
    let told = change(json!({"spec": {"nodeName": "n", "restartPolicy": "Never"}}));
    assert!(told[0].starts_with(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    ));
    assert!(told[0].ends_with("changed: nodeName, restartPolicy"), "{told:?}");
    assert_eq!(
        change(json!({"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]}})),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    assert_eq!(
        change(json!({"spec": {"activeDeadlineSeconds": 20}})),
        ["spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value"]
    );
    assert_eq!(
        change(json!({"spec": {"tolerations": []}})),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
}

#[test]
fn an_ended_container_stays_ended() {
    let kinds = Kinds::builtin();
    let row = kinds.kind("", "v1", "Pod").unwrap();
    let Action::Update(status) = &row.subresource("status").unwrap().action else { panic!("an update") };
    let state = |state: Value| json!({"spec": {"restartPolicy": "Never"}, "status": {"containerStatuses": [{"name": "c", "state": state}]}});
    let ended = state(json!({"terminated": {"exitCode": 1}}));
    let running = state(json!({"running": {}}));
    let told = (status.validate)(&running, &ended);
    assert_eq!(
        told[0].to_string(),
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    );
    assert_eq!((status.validate)(&ended, &running), []);
}

#[test]
fn workloads_are_refused_with_reasons() {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let base = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let not_found = "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`";
    check(&[
        (
            "apps",
            "Deployment",
            with(&base, &json!({"spec": {"selector": {"matchLabels": {"a": "c"}}}})),
            &[not_found],
        ),
        (
            "apps",
            "Deployment",
            with(&base, &json!({"spec": {"selector": null}})),
            &["spec.selector: Required value", not_found],
        ),
        (
            "apps",
            "Deployment",
            with(&base, &json!({"spec": {"selector": {"matchLabels": null}}})),
            &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        ),
        (
            "apps",
            "Deployment",
            with(
                &base,
                &json!({"spec": {"replicas": -1, "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}}),
            ),
            &[
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
            ],
        ),
        (
            "apps",
            "Deployment",
            with(
                &base,
                &json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}}),
            ),
            &[
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ],
        ),
        (
            "apps",
            "Deployment",
            with(
                &base,
                &json!({"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": "120%"}}, "minReadySeconds": 600}}),
            ),
            &[
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"120%\": must not be greater than 100%",
                "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
            ],
        ),
        (
            "apps",
            "ReplicaSet",
            with(&base, &json!({"spec": {"template": {"spec": {"restartPolicy": "Never"}}}})),
            &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
        ),
        (
            "batch",
            "Job",
            json!({"spec": {"template": template}}),
            &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
        ),
        (
            "batch",
            "Job",
            json!({"spec": {"parallelism": -1, "completionMode": "Indexed", "template": with(&template, &json!({"spec": {"restartPolicy": "Never"}}))}}),
            &[
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                "spec.completions: Required value: when completion mode is Indexed",
            ],
        ),
        (
            "batch",
            "CronJob",
            json!({"spec": {"schedule": "61 * * * *", "concurrencyPolicy": "Never", "jobTemplate": {"spec": {"template":
                with(&template, &json!({"spec": {"restartPolicy": "Never"}}))}}}}),
            &[
                "spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61",
                "spec.concurrencyPolicy: Unsupported value: \"Never\"",
            ],
        ),
    ]);
    let moved = with(
        &base,
        &json!({"spec": {"selector": {"matchLabels": {"a": null, "c": "d"}}, "template": {"metadata": {"labels": {"a": null, "c": "d"}}}}}),
    );
    let told = updated("apps", "Deployment", &base, &moved);
    assert_eq!(told, ["spec.selector: Invalid value: {\"matchLabels\":{\"c\":\"d\"}}: field is immutable"]);
    let told = updated("apps", "StatefulSet", &base, &with(&base, &json!({"spec": {"serviceName": "x"}})));
    assert!(
        told[0].starts_with("spec: Forbidden: updates to statefulset spec for fields other than 'replicas'"),
        "{told:?}"
    );
}

#[test]
fn a_job_keeps_its_template() {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let job = json!({"spec": {"template": template}});
    let changed =
        with(&job, &json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}}}));
    let told = updated("batch", "Job", &job, &changed);
    assert!(
        told[0].starts_with("spec.template: Invalid value: {") && told[0].ends_with("field is immutable"),
        "{told:?}"
    );
    assert_eq!(
        updated("batch", "Job", &job, &with(&job, &json!({"spec": {"parallelism": 3}}))),
        ["spec.completions: Invalid value: null: field is immutable"]
    );
    let both = with(&job, &json!({"spec": {"parallelism": 3, "completions": 1}}));
    assert_eq!(updated("batch", "Job", &job, &both), Vec::<String>::new());
    let waiting = with(&job, &json!({"spec": {"suspend": true}}));
    let elsewhere = with(&waiting, &json!({"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}}));
    assert_eq!(updated("batch", "Job", &waiting, &elsewhere), Vec::<String>::new());
}

#[test]
fn services_are_refused_with_reasons() {
    let service = |spec: Value| json!({"spec": spec});
    check(&[
        ("", "Service", service(json!({})), &["spec.ports: Required value"]),
        (
            "",
            "Service",
            service(json!({"ports": [{"port": 80}, {"port": 80}]})),
            &[
                "spec.ports[0].name: Required value",
                "spec.ports[1].name: Required value",
                "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
            ],
        ),
        (
            "",
            "Service",
            service(json!({"ports": [{"port": 0}]})),
            &[
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            "",
            "Service",
            service(json!({"type": "Magic", "sessionAffinity": "Sticky", "ports": [{"port": 1}]})),
            &[
                "spec.sessionAffinity: Unsupported value: \"Sticky\": supported values: \"ClientIP\", \"None\"",
                "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        ),
        (
            "",
            "Service",
            service(json!({"ports": [{"port": 1, "nodePort": 30000}]})),
            &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        ("", "Service", service(json!({"type": "ExternalName"})), &["spec.externalName: Required value"]),
        (
            "",
            "Service",
            service(json!({"ports": [{"port": 1}], "clusterIP": "x", "clusterIPs": ["x"]})),
            &["spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address"],
        ),
        (
            "",
            "Endpoints",
            json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}]}, {}]}),
            &[
                "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range",
                "subsets[1]: Required value: must specify `addresses` or `notReadyAddresses`",
            ],
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}, {"addresses": []}]}),
            &[
                "endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address",
                "endpoints[1].addresses: Required value: must contain at least 1 address",
            ],
        ),
    ]);
    let old = service(json!({"ports": [{"port": 1}], "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}));
    let new = with(&old, &json!({"spec": {"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}}));
    assert_eq!(
        updated("", "Service", &old, &new),
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
}

#[test]
fn the_rest_is_refused_with_reasons() {
    let rbac = "rbac.authorization.k8s.io";
    let many = "x".repeat(1024 * 1024 + 1);
    check(&[
        (
            "",
            "ConfigMap",
            json!({"data": {"a b": "", "dup": ""}, "binaryData": {"dup": "AA=="}}),
            &[
                "data[a b]: Invalid value: \"a b\": a valid config key must consist of",
                "data[dup]: Invalid value: \"dup\": duplicate of key present in binaryData",
            ],
        ),
        (
            "",
            "ConfigMap",
            json!({"data": {"a": many}}),
            &["<nil>: Too long: may not be more than 1048576 bytes"],
        ),
        (
            "",
            "Secret",
            json!({"type": "kubernetes.io/tls"}),
            &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
        ),
        (
            "",
            "Secret",
            json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "no"}}),
            &["data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\""],
        ),
        (
            "",
            "Node",
            json!({"spec": {"taints": [{"key": "a", "effect": "Go"}], "podCIDRs": ["10.0.0.0/99"]}}),
            &[
                "spec.taints[0].effect: Unsupported value: \"Go\"",
                "spec.podCIDRs[0]: Invalid value: \"10.0.0.0/99\": must be a valid CIDR value",
            ],
        ),
        (
            "",
            "Event",
            json!({"involvedObject": {"namespace": "other"}}),
            &["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"],
        ),
        (
            "events.k8s.io",
            "Event",
            json!({"eventTime": "2026-01-01T00:00:00.000000Z", "regarding": {"namespace": "default"}, "deprecatedCount": 1, "type": "Odd",
                   "reportingController": "c", "reportingInstance": "i", "action": "a", "reason": "r"}),
            &[
                "type: Invalid value: \"\": has invalid value: Odd",
                "count: Invalid value: \"\": needs to be unset",
            ],
        ),
        (
            "coordination.k8s.io",
            "Lease",
            json!({"spec": {"leaseDurationSeconds": 0}}),
            &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        ),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            json!({"value": 1_000_000_001}),
            &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        ),
        (
            rbac,
            "Role",
            json!({"rules": [{"verbs": []}, {"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
            &[
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
                "rules[1].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            ],
        ),
        (
            rbac,
            "ClusterRoleBinding",
            json!({"roleRef": {"apiGroup": rbac, "kind": "Role", "name": ""}, "subjects": [{"kind": "ServiceAccount", "name": "a"}, {"kind": "X", "name": "x"}]}),
            &[
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
                "roleRef.name: Required value",
                "subjects[0].namespace: Required value",
                "subjects[1].kind: Unsupported value: \"X\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ],
        ),
        (
            "authorization.k8s.io",
            "SubjectAccessReview",
            json!({"spec": {}}),
            &[
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
                "spec.user: Invalid value: \"\": at least one of user or group must be specified",
            ],
        ),
    ]);
    let role = |name: &str| json!({"roleRef": {"apiGroup": rbac, "kind": "Role", "name": name}});
    let told = updated(rbac, "RoleBinding", &role("a"), &role("b"));
    assert!(
        told[0].starts_with("roleRef: Invalid value: {") && told[0].ends_with("cannot change roleRef"),
        "{told:?}"
    );
    let told = updated(
        "",
        "ConfigMap",
        &json!({"immutable": true, "data": {"a": "1"}}),
        &json!({"data": {"a": "2"}}),
    );
    assert_eq!(
        told,
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set"
        ]
    );
    let told = updated("", "Secret", &json!({"type": "a"}), &json!({"type": "b"}));
    assert_eq!(told, ["type: Invalid value: \"b\": field is immutable"]);
    let told = updated("", "Node", &json!({"spec": {"podCIDRs": ["10.0.0.0/24"]}}), &json!({"spec": {}}));
    assert_eq!(
        told,
        ["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"]
    );
}

#[test]
fn nothing_panics_on_what_is_not_there() {
    for row in Kinds::builtin().iter() {
        for object in [json!({}), json!({"spec": 1, "metadata": [], "rules": {}}), json!([])] {
            let mut prepared = object.clone();
            (row.hooks.default)("v1", &mut prepared);
            (row.hooks.prepare_create)(&mut prepared);
            let _errors = (row.hooks.validate_create)(&prepared);
            (row.hooks.update.prepare)(&mut prepared, &object);
            let _errors = (row.hooks.update.validate)(&prepared, &object);
            for part in &row.subresources {
                if let Action::Update(update) = &part.action {
                    let mut new = object.clone();
                    (update.prepare)(&mut new, &object);
                    let _errors = (update.validate)(&new, &object);
                }
            }
        }
    }
}

#[test]
fn limits_are_in_order() {
    let told = |limit: Value| {
        let range = json!({"metadata": {"name": "a"}, "spec": {"limits": [limit]}});
        let errors = super::cluster::limit_range(&range);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let amounts = |default: &str, request: &str| json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "3"}, "default": {"cpu": default}, "defaultRequest": {"cpu": request}});
    assert_eq!(told(amounts("2", "1")), [] as [&str; 0]);
    assert_eq!(
        told(amounts("4", "5")),
        [
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"5\": default request value 5 is greater than max value 3",
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"5\": default request value 5 is greater than default limit value 4",
            "spec.limits[0].default[cpu]: Invalid value: \"3\": default value 4 is greater than max value 3",
        ]
    );
    for (limit, wrong) in [
        (
            json!({"type": "Nope"}),
            "spec.limits[0].type: Invalid value: \"Nope\": must be a standard limit type or fully qualified",
        ),
        (
            json!({"type": "Pod", "default": {"cpu": "1"}}),
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
        ),
        (
            json!({"type": "PersistentVolumeClaim"}),
            "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "500m"}}),
            "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
        ),
        (
            json!({"type": "Container", "default": {"x.y/z": "2"}, "defaultRequest": {"x.y/z": "1"}}),
            "spec.limits[0].defaultRequest[x.y/z]: Invalid value: \"1\": default value 2 must equal to defaultRequest value 1 in x.y/z",
        ),
    ] {
        assert_eq!(told(limit), [wrong]);
    }
}
