//! Every kind has rules: the least that is let through, and what is refused without any part of it.

use serde_json::{Value, json};
use tiphys_api::decode::{FieldValidation, Target, decode};
use tiphys_api::kind::{Kind, Kinds};
use tiphys_api::{convert, meta};

/// The least object of a kind, but for its metadata: `kind`, `group`, object. Without any one of its leaves it is
/// refused, unless that leaf is among `SPARE`.
fn least() -> Vec<(&'static str, &'static str, Value)> {
    let container = json!({"name": "c", "image": "i"});
    let pod = json!({"spec": {"containers": [container]}});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}});
    let once = json!({"spec": {"containers": [container], "restartPolicy": "Never"}});
    let workload = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let volume = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/x"}}});
    let claim =
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let rbac = "rbac.authorization.k8s.io";
    let role = json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
    let bound = json!({"roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "r"}});
    let hook = json!({"webhooks": [{"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://x.example"}}]});
    let about = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["pods"]}]});
    let admission = "admissionregistration.k8s.io";
    let flow = "flowcontrol.apiserver.k8s.io";
    let storage = "storage.k8s.io";
    let devices = "resource.k8s.io";
    let networking = "networking.k8s.io";
    let asked = json!({"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "c"}}]}});
    vec![
        (
            "APIService",
            "apiregistration.k8s.io",
            json!({"metadata": {"name": "v1.x.io"}, "spec": {"group": "x.io",
            "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}}),
        ),
        ("Binding", "", json!({"target": {"name": "n"}})),
        (
            "CertificateSigningRequest",
            "certificates.k8s.io",
            json!({"spec": {"signerName": "x.io/s",
            "usages": ["client auth"], "request": "AA=="}}),
        ),
        ("ClusterRole", rbac, role.clone()),
        ("ClusterRoleBinding", rbac, bound.clone()),
        ("ClusterTrustBundle", "certificates.k8s.io", json!({"spec": {"trustBundle": certificate()}})),
        ("ConfigMap", "", json!({})),
        ("ControllerRevision", "apps", json!({"revision": 1, "data": {"a": "b"}})),
        (
            "CronJob",
            "batch",
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": once}}}}),
        ),
        ("CSIDriver", storage, json!({"spec": {}})),
        ("CSINode", storage, json!({"spec": {"drivers": [{"name": "d", "nodeID": "n"}]}})),
        ("CSIStorageCapacity", storage, json!({"storageClassName": "c"})),
        (
            "CustomResourceDefinition",
            "apiextensions.k8s.io",
            json!({"metadata": {"name": "foos.x.io"}, "spec": {
            "group": "x.io", "scope": "Cluster", "names": {"plural": "foos", "kind": "Foo"}, "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
        ),
        ("DaemonSet", "apps", workload.clone()),
        ("Deployment", "apps", workload.clone()),
        ("DeviceClass", devices, json!({"spec": {}})),
        ("DeviceTaintRule", devices, json!({"spec": {"taint": {"key": "k", "effect": "NoExecute"}}})),
        (
            "EndpointSlice",
            "discovery.k8s.io",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}]}),
        ),
        ("Endpoints", "", json!({"subsets": [{"addresses": [{"ip": "1.2.3.4"}], "ports": [{"port": 1}]}]})),
        ("Event", "", json!({"involvedObject": {"namespace": "default"}})),
        (
            "FlowSchema",
            flow,
            json!({"spec": {"priorityLevelConfiguration": {"name": "p"}, "rules": [{
            "subjects": [{"kind": "Group", "group": {"name": "g"}}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}]}}),
        ),
        (
            "HorizontalPodAutoscaler",
            "autoscaling",
            json!({"spec": {"maxReplicas": 2,
            "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
        ),
        (
            "IPAddress",
            networking,
            json!({"metadata": {"name": "1.2.3.4"}, "spec": {"parentRef": {
            "resource": "services", "namespace": "n", "name": "s"}}}),
        ),
        (
            "Ingress",
            networking,
            json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
        ),
        ("IngressClass", networking, json!({"spec": {"controller": "x.io/c"}})),
        ("InitializerConfiguration", admission, json!({"initializers": [{"name": "a.b.c"}]})),
        ("Job", "batch", json!({"spec": {"template": once}})),
        ("Lease", "coordination.k8s.io", json!({"spec": {}})),
        (
            "LeaseCandidate",
            "coordination.k8s.io",
            json!({"spec": {"leaseName": "l", "binaryVersion": "1.0.0",
            "emulationVersion": "1.0.0", "strategy": "OldestEmulationVersion"}}),
        ),
        ("LimitRange", "", json!({"spec": {"limits": [{"type": "Pod"}]}})),
        (
            "MutatingAdmissionPolicy",
            admission,
            json!({"spec": {"matchConstraints": about, "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}}),
        ),
        ("MutatingAdmissionPolicyBinding", admission, json!({"spec": {"policyName": "p"}})),
        ("MutatingWebhookConfiguration", admission, hook.clone()),
        ("Namespace", "", json!({})),
        ("NetworkPolicy", networking, json!({"spec": {"podSelector": {}}})),
        ("Node", "", json!({})),
        ("PersistentVolume", "", volume),
        ("PersistentVolumeClaim", "", claim),
        ("Pod", "", pod),
        (
            "PodCertificateRequest",
            "certificates.k8s.io",
            json!({"spec": {"signerName": "x.io/s", "podName": "p",
            "podUID": "u", "nodeName": "n", "nodeUID": "v", "serviceAccountName": "s", "serviceAccountUID": "w"}}),
        ),
        ("PodDisruptionBudget", "policy", json!({"spec": {"selector": {}}})),
        ("PodGroup", "scheduling.k8s.io", json!({"spec": {"schedulingPolicy": {"gang": {"minCount": 1}}}})),
        ("PodTemplate", "", json!({"template": {"spec": {"containers": [container]}}})),
        ("PriorityClass", "scheduling.k8s.io", json!({})),
        (
            "PriorityLevelConfiguration",
            flow,
            json!({"spec": {"type": "Limited",
            "limited": {"limitResponse": {"type": "Reject"}}}}),
        ),
        ("ReplicaSet", "apps", workload.clone()),
        ("ReplicationController", "", json!({"spec": {"template": template}})),
        ("ResourceClaim", devices, json!({"spec": asked})),
        ("ResourceClaimTemplate", devices, json!({"spec": {"spec": asked}})),
        ("ResourceQuota", "", json!({"spec": {}})),
        (
            "ResourceSlice",
            devices,
            json!({"spec": {"driver": "d", "nodeName": "n",
            "pool": {"name": "p", "resourceSliceCount": 1}}}),
        ),
        ("Role", rbac, role),
        ("RoleBinding", rbac, bound),
        ("RuntimeClass", "node.k8s.io", json!({"handler": "h"})),
        ("Secret", "", json!({})),
        ("Service", "", json!({"spec": {"ports": [{"port": 80}]}})),
        ("ServiceAccount", "", json!({})),
        ("ServiceCIDR", networking, json!({"spec": {"cidrs": ["10.0.0.0/16"]}})),
        ("StatefulSet", "apps", workload),
        ("StorageClass", storage, json!({"provisioner": "p"})),
        (
            "StorageVersionMigration",
            "storagemigration.k8s.io",
            json!({"spec": {"resource": {"resource": "pods"}}}),
        ),
        (
            "ValidatingAdmissionPolicy",
            admission,
            json!({"spec": {"matchConstraints": about,
            "validations": [{"expression": "true"}]}}),
        ),
        (
            "ValidatingAdmissionPolicyBinding",
            admission,
            json!({"spec": {"policyName": "p",
            "validationActions": ["Deny"]}}),
        ),
        ("ValidatingWebhookConfiguration", admission, hook),
        (
            "VolumeAttachment",
            storage,
            json!({"spec": {"attacher": "a", "nodeName": "n",
            "source": {"persistentVolumeName": "v"}}}),
        ),
        ("VolumeAttributesClass", storage, json!({"driverName": "d", "parameters": {"a": "b"}})),
        (
            "Workload",
            "scheduling.k8s.io",
            json!({"spec": {"podGroupTemplates": [
            {"name": "t", "schedulingPolicy": {"gang": {"minCount": 1}}}]}}),
        ),
    ]
}

fn certificate() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem()
}

/// Kinds that nothing is kept of, or that nobody writes.
const NOT_WRITTEN: [&str; 7] = [
    "ComponentStatus",
    "LocalSubjectAccessReview",
    "SelfSubjectAccessReview",
    "SelfSubjectReview",
    "SelfSubjectRulesReview",
    "SubjectAccessReview",
    "TokenReview",
];

fn made(row: &Kind, object: &Value) -> Value {
    let version = &*row.versions[0].name;
    let target = Target::of(row, version).unwrap();
    let mut object = decode(&target, object.to_string().as_bytes(), FieldValidation::Strict).unwrap().object;
    let name = object["metadata"].get("name").cloned().unwrap_or_else(|| "it".into());
    meta::set(&mut object, "name", Some(name));
    meta::set(&mut object, "uid", Some("u-1".into()));
    if row.is_namespaced() {
        meta::set(&mut object, "namespace", Some("default".into()));
    }
    (row.hooks.default)(version, &mut object);
    convert::to_storage(row, version, &mut object);
    (row.hooks.prepare_create)(&mut object);
    object
}

fn errors(row: &Kind, object: &Value) -> Vec<String> {
    let mut errors = meta::validate_create(object, row.is_namespaced(), row.hooks.validate_name);
    errors.extend(row.validate_create(&row.versions[0].name, object));
    errors.iter().map(ToString::to_string).collect()
}

fn with_finalizer(row: &Kind, object: &Value) -> Value {
    let mut object = made(row, object);
    meta::set(&mut object, "finalizers", Some(json!(["nothing"])));
    object
}

/// The pointers of all leaves, and of the lists and maps around them.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.replace('~', "~0").replace('/', "~1"), v)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    if !at.is_empty() && at != "/metadata" && !at.starts_with("/metadata/name") {
        found.push(at.to_owned());
    }
    for (step, value) in inner {
        places(value, &format!("{at}/{step}"), found);
    }
}

fn without(object: &Value, place: &str) -> Value {
    let (parent, last) = place.rsplit_once('/').unwrap();
    let mut object = object.clone();
    match object.pointer_mut(parent) {
        Some(Value::Object(map)) => drop(map.remove(&last.replace("~1", "/").replace("~0", "~"))),
        Some(Value::Array(list)) => drop(list.remove(last.parse().unwrap())),
        _ => unreachable!("{place}"),
    }
    object
}

/// What the least objects could do without, so that something inside of it can be shown to be needed.
const SPARE: &[(&str, &[&str])] = &[
    ("CertificateSigningRequest", &["/spec/request"]),
    ("ClusterRole", &["/rules", "/rules/0"]),
    ("ClusterRoleBinding", &["/roleRef/apiGroup"]),
    ("ControllerRevision", &["/data/a", "/revision"]),
    ("CSIDriver", &["/spec"]),
    ("CSINode", &["/spec", "/spec/drivers", "/spec/drivers/0"]),
    ("CustomResourceDefinition", &["/spec/versions/0/served"]),
    ("DeviceClass", &["/spec"]),
    ("Endpoints", &["/subsets", "/subsets/0", "/subsets/0/ports", "/subsets/0/ports/0"]),
    ("EndpointSlice", &["/endpoints", "/endpoints/0"]),
    ("Event", &["/involvedObject", "/involvedObject/namespace"]),
    ("FlowSchema", &["/spec/rules", "/spec/rules/0"]),
    ("InitializerConfiguration", &["/initializers", "/initializers/0"]),
    ("IPAddress", &["/spec/parentRef/namespace"]),
    ("Lease", &["/spec"]),
    ("LimitRange", &["/spec", "/spec/limits", "/spec/limits/0"]),
    ("MutatingWebhookConfiguration", &["/webhooks", "/webhooks/0"]),
    ("NetworkPolicy", &["/spec", "/spec/podSelector"]),
    ("PodDisruptionBudget", &["/spec", "/spec/selector"]),
    ("ResourceClaim", &["/spec", "/spec/devices", "/spec/devices/requests", "/spec/devices/requests/0"]),
    (
        "ResourceClaimTemplate",
        &[
            "/spec",
            "/spec/spec",
            "/spec/spec/devices",
            "/spec/spec/devices/requests",
            "/spec/spec/devices/requests/0",
        ],
    ),
    ("ResourceQuota", &["/spec"]),
    ("Role", &["/rules", "/rules/0"]),
    ("RoleBinding", &["/roleRef/apiGroup"]),
    ("ValidatingWebhookConfiguration", &["/webhooks", "/webhooks/0"]),
];

#[test]
fn the_least_object_of_each_kind_is_let_through_and_nothing_less() {
    let (kinds, least) = (Kinds::builtin(), least());
    let mut wrong = Vec::new();
    for row in kinds.iter().filter(|row| !NOT_WRITTEN.contains(&&*row.kind)) {
        // Another name for what is kept under one of these.
        if row.storage.as_ref().is_some_and(|s| s.group != row.group) {
            continue;
        }
        let Some((.., object)) =
            least.iter().find(|(kind, group, _)| *kind == row.kind && *group == row.group)
        else {
            wrong.push(format!("{}.{}: there is no least object", row.kind, row.group));
            continue;
        };
        let told = errors(row, &made(row, object));
        if !told.is_empty() {
            wrong.push(format!("{}: {told:?}", row.kind));
        }
        let spare = SPARE.iter().find(|(kind, _)| *kind == row.kind).map_or(&[][..], |(_, places)| places);
        let mut all = Vec::new();
        places(object, "", &mut all);
        for place in all {
            let needless = errors(row, &made(row, &without(object, &place))).is_empty();
            if needless != spare.contains(&place.as_str()) {
                let what = if needless { "is let through without" } else { "is refused without" };
                wrong.push(format!("{} {what} {place}", row.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with any object, whatever its kind.
#[test]
fn every_kind_has_the_rules_of_metadata() {
    for (kind, group, object) in least() {
        let kinds = Kinds::builtin();
        let row = kinds.iter().find(|row| row.kind == kind && row.group == group).unwrap();
        for (field, value, wanted) in [
            (
                "labels",
                json!({"bad key": "x"}),
                "metadata.labels: Invalid value: \"bad key\": name part must consist",
            ),
            ("labels", json!({"a": "-"}), "metadata.labels: Invalid value: \"-\": a valid label must be"),
            (
                "annotations",
                json!({"/a": "x"}),
                "metadata.annotations: Invalid value: \"/a\": prefix part must be non-empty",
            ),
            (
                "finalizers",
                json!(["nothing"]),
                "metadata.finalizers[0]: Invalid value: \"nothing\": name is neither a \
                                                 standard finalizer name nor is it fully qualified",
            ),
            (
                "ownerReferences",
                json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}]),
                "metadata.ownerReferences[0].uid: ",
            ),
            ("name", json!("a/b"), "metadata.name: "),
        ] {
            // Upstream lets the finalizers of a few groups have any names.
            if field == "finalizers" && errors(row, &with_finalizer(row, &object)).is_empty() {
                assert!(
                    [
                        "admissionregistration.k8s.io",
                        "apiextensions.k8s.io",
                        "apiregistration.k8s.io",
                        "coordination.k8s.io",
                        "node.k8s.io"
                    ]
                    .contains(&group),
                    "{kind}"
                );
                continue;
            }
            let mut object = made(row, &object);
            meta::set(&mut object, field, Some(value));
            let told = errors(row, &object);
            assert!(told.iter().any(|t| t.starts_with(wanted)), "{kind} {field}: {told:?}");
        }
    }
}
