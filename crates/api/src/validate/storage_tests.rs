use serde_json::{Value, json};

use crate::validate::tests::{check, created, made, updated, with};

const STORAGE: &str = "storage.k8s.io";

fn volume(change: &Value) -> Value {
    let good = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": "d.example.com", "volumeHandle": "h"}}});
    with(&good, &json!({"spec": change}))
}

fn claim(change: &Value) -> Value {
    let good =
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}});
    with(&good, change)
}

/// A claim that is stored, with its status.
fn stored(change: &Value) -> Value {
    with(&made("", "PersistentVolumeClaim", &claim(&json!({}))), change)
}

fn changed(new: &Value, old: &Value) -> Vec<String> {
    super::claim_update(new, old).iter().map(ToString::to_string).collect()
}

#[test]
fn good_ones_pass() {
    let affinity = json!({"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}});
    for (group, kind, object) in [
        ("", "PersistentVolume", volume(&json!({}))),
        ("", "PersistentVolume", volume(&json!({"csi": null, "hostPath": {"path": "/data"}}))),
        (
            "",
            "PersistentVolume",
            volume(&json!({"csi": null, "local": {"path": "/d"}, "nodeAffinity": affinity})),
        ),
        (
            "",
            "PersistentVolumeClaim",
            claim(&json!({"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "a"}}})),
        ),
        (STORAGE, "StorageClass", json!({"provisioner": "d.example.com/X", "parameters": {"a": "b"}})),
        (
            STORAGE,
            "VolumeAttributesClass",
            json!({"driverName": "d.example.com", "parameters": {"iops": "3"}}),
        ),
        (
            STORAGE,
            "CSIDriver",
            json!({"spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 600}]}}),
        ),
        (
            STORAGE,
            "CSINode",
            json!({"spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": ["a/b"]}]}}),
        ),
        (STORAGE, "CSIStorageCapacity", json!({"storageClassName": "c", "capacity": "1Gi"})),
        (
            STORAGE,
            "VolumeAttachment",
            json!({"spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
        ),
    ] {
        assert_eq!(created(group, kind, &object), [""; 0], "{kind} {object}");
    }
}

#[test]
fn volumes_are_refused_with_reasons() {
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({"accessModes": []}), &["spec.accessModes: Required value"]),
        (
            json!({"accessModes": ["ReadWriteOncePod", "Any"]}),
            &[
                "spec.accessModes: Unsupported value: \"Any\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ],
        ),
        (
            json!({"capacity": null}),
            &[
                "spec.capacity: Required value",
                "spec.capacity: Unsupported value: null: supported values: \"storage\"",
            ],
        ),
        (
            json!({"capacity": {"storage": "-1"}}),
            &[
                "spec.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
                "spec.capacity[storage]: Invalid value: \"-1\": must be greater than zero",
            ],
        ),
        (json!({"csi": null}), &["spec: Required value: must specify a volume type"]),
        (
            json!({"hostPath": {"path": "/"}, "csi": {"volumeHandle": ""}}),
            &[
                "spec.csi.volumeHandle: Required value",
                "spec.hostPath: Forbidden: may not specify more than 1 volume type",
            ],
        ),
        (
            json!({"csi": null, "local": {"path": "../x"}}),
            &[
                "spec.local.path: Invalid value: \"../x\": must not contain '..'",
                "spec.nodeAffinity: Required value: Local volume requires node affinity",
            ],
        ),
        (
            json!({"csi": null, "hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"}),
            &[
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ],
        ),
        (
            json!({"csi": null, "nfs": {"server": "", "path": "x"}, "volumeAttributesClassName": ""}),
            &[
                "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
                "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
                "spec.nfs.server: Required value",
                "spec.nfs.path: Invalid value: \"x\": must be an absolute path",
            ],
        ),
        (
            json!({"volumeMode": "Tape", "storageClassName": "A"}),
            &[
                "spec.storageClassName: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
            ],
        ),
    ];
    for (change, wanted) in cases {
        check(&[("", "PersistentVolume", volume(&change), wanted)]);
    }
}

#[test]
fn a_volume_stays_where_it_lies() {
    let kind = "PersistentVolume";
    let told = updated("", kind, &volume(&json!({})), &volume(&json!({"csi": {"volumeHandle": "other"}})));
    assert_eq!(
        told,
        ["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"]
    );
    let told = updated("", kind, &volume(&json!({})), &volume(&json!({"volumeMode": "Block"})));
    assert_eq!(told, ["volumeMode: Invalid value: \"Block\": field is immutable"]);
    let secret = json!({"csi": {"controllerExpandSecretRef": {"name": "s", "namespace": "n"}}});
    assert_eq!(updated("", kind, &volume(&json!({})), &volume(&secret)), [""; 0]);
    assert_eq!(updated("", kind, &volume(&secret), &volume(&json!({}))).len(), 1);
    let larger = json!({"capacity": {"storage": "3Gi"}, "persistentVolumeReclaimPolicy": "Delete"});
    assert_eq!(updated("", kind, &volume(&json!({})), &volume(&larger)), [""; 0]);
}

#[test]
fn claims_are_refused_with_reasons() {
    let cases: Vec<(Value, &[&str])> = vec![
        (
            json!({"accessModes": []}),
            &["spec.accessModes: Required value: at least 1 access mode is required"],
        ),
        (json!({"resources": null}), &["spec.resources[storage]: Required value"]),
        (
            json!({"resources": {"requests": {"storage": "0"}}}),
            &["spec.resources[storage]: Invalid value: \"0\": must be greater than zero"],
        ),
        (
            json!({"dataSourceRef": {"kind": "Pod", "name": ""}}),
            &[
                "spec.dataSourceRef.name: Required value",
                "spec.dataSourceRef: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ],
        ),
        (
            json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "a"},
                   "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "b"}}),
            &["spec: Invalid value: \"spec.dataSource\": must match dataSourceRef"],
        ),
    ];
    for (change, wanted) in cases {
        check(&[("", "PersistentVolumeClaim", claim(&json!({"spec": change})), wanted)]);
    }
}

#[test]
fn the_source_of_a_claim_has_two_names() {
    let source = json!({"kind": "PersistentVolumeClaim", "name": "a"});
    for field in ["dataSource", "dataSourceRef"] {
        let claim = made("", "PersistentVolumeClaim", &claim(&json!({"spec": {field: source}})));
        assert_eq!((&claim["spec"]["dataSource"], &claim["spec"]["dataSourceRef"]), (&source, &source));
    }
    let other = json!({"apiGroup": "x.io", "kind": "Backup", "name": "a"});
    let claimed = made("", "PersistentVolumeClaim", &claim(&json!({"spec": {"dataSource": other}})));
    assert_eq!((claimed["spec"].get("dataSource"), claimed["spec"].get("dataSourceRef")), (None, None));
}

#[test]
fn a_claim_is_bound_once_and_grows() {
    let size = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let bound = json!({"spec": {"volumeName": "v", "storageClassName": "c"}, "status": {"phase": "Bound",
        "capacity": {"storage": "2Gi"}}});
    assert_eq!(changed(&stored(&bound), &stored(&json!({}))), [""; 0], "binding");
    assert_eq!(changed(&with(&stored(&bound), &size("3Gi")), &stored(&bound)), [""; 0], "growing");
    let frozen = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                  volumeAttributesClassName for bound claims";
    assert_eq!(changed(&with(&stored(&json!({})), &size("3Gi")), &stored(&json!({}))), [frozen]);
    let elsewhere = with(&stored(&bound), &json!({"spec": {"volumeName": "w"}}));
    assert_eq!(changed(&elsewhere, &stored(&bound)), [frozen]);
    let wanted = with(&stored(&bound), &size("5Gi"));
    assert_eq!(changed(&with(&wanted, &size("3Gi")), &wanted), [""; 0], "an expansion taken back");
    assert_eq!(
        changed(&with(&wanted, &size("2Gi")), &wanted),
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
    );
    let classed = with(&stored(&bound), &json!({"spec": {"volumeAttributesClassName": "gold"}}));
    assert_eq!(changed(&classed, &stored(&bound)), [""; 0]);
    assert_eq!(
        changed(&stored(&bound), &classed),
        ["spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden"]
    );
}

#[test]
fn the_kinds_of_storage_are_refused_with_reasons() {
    check(&[
        (
            STORAGE,
            "StorageClass",
            json!({"provisioner": "", "reclaimPolicy": "Recycle", "volumeBindingMode": "Later", "allowedTopologies": [
                {"matchLabelExpressions": [{"key": "a", "values": []}, {"key": "a", "values": ["x", "x"]}]}]}),
            &[
                "provisioner: Required value",
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
                "volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
                "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
                "allowedTopologies[0].matchLabelExpressions[1].values[1]: Duplicate value: \"x\"",
                "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: \"a\"",
            ],
        ),
        (
            STORAGE,
            "VolumeAttributesClass",
            json!({"driverName": ""}),
            &[
                "driverName: Required value",
                "parameters: Required value: must contain at least one key/value pair",
            ],
        ),
        (
            STORAGE,
            "CSIDriver",
            json!({"spec": {"fsGroupPolicy": "Any", "volumeLifecycleModes": ["Eternal"],
                "tokenRequests": [{"audience": "", "expirationSeconds": 60}, {"audience": ""}]}}),
            &[
                "spec.fsGroupPolicy: Unsupported value: \"Any\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes",
                "spec.tokenRequests[1].audience: Duplicate value: \"\"",
                "spec.volumeLifecycleModes: Unsupported value: \"Eternal\": supported values: \"Ephemeral\", \"Persistent\"",
            ],
        ),
        (
            STORAGE,
            "CSINode",
            json!({"spec": {"drivers": [{"name": "d", "nodeID": "", "allocatable": {"count": -1}},
                {"name": "d", "nodeID": "n", "topologyKeys": ["a", "a"]}]}}),
            &[
                "spec.drivers[0].nodeID: Required value",
                "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
                "spec.drivers[1].name: Duplicate value: \"d\"",
                "spec.drivers[1]: Duplicate value: \"a\"",
            ],
        ),
        (
            STORAGE,
            "CSIStorageCapacity",
            json!({"storageClassName": "c", "capacity": "-1"}),
            &["capacity: Invalid value: \"-1\": must be greater than or equal to 0"],
        ),
        (
            STORAGE,
            "VolumeAttachment",
            json!({"spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v",
                "inlineVolumeSpec": {}}}}),
            &[
                "spec.source: Forbidden: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ],
        ),
        (
            STORAGE,
            "VolumeAttachment",
            json!({"spec": {"attacher": "d", "nodeName": "n", "source": {"inlineVolumeSpec":
                {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1"}, "hostPath": {"path": "/"}}}}}),
            &[
                "spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes",
                "spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes",
            ],
        ),
    ]);
}

#[test]
fn what_drivers_rely_on_stays() {
    let class = |change: &Value| with(&json!({"provisioner": "a", "parameters": {"x": "1"}}), change);
    let told = updated(
        STORAGE,
        "StorageClass",
        &class(&json!({})),
        &class(&json!({"provisioner": "b", "parameters": {"x": "2"}, "reclaimPolicy": "Retain",
            "volumeBindingMode": "WaitForFirstConsumer"})),
    );
    assert_eq!(
        told,
        [
            "parameters: Invalid value: {\"x\":\"2\"}: field is immutable",
            "provisioner: Invalid value: \"b\": field is immutable",
            "reclaimPolicy: Invalid value: \"Retain\": field is immutable",
            "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
        ]
    );
    let node =
        |change: &Value| json!({"spec": {"drivers": [with(&json!({"name": "d", "nodeID": "n"}), change)]}});
    let counted = node(&json!({"allocatable": {"count": 5}}));
    assert_eq!(updated(STORAGE, "CSINode", &node(&json!({})), &counted), [""; 0]);
    let told = updated(STORAGE, "CSINode", &node(&json!({})), &node(&json!({"nodeID": "m"})));
    assert!(told[0].starts_with("CSINodeDriver: Invalid value: {"), "{told:?}");
    let attached = |node: &str| json!({"spec": {"attacher": "d", "nodeName": node, "source": {"persistentVolumeName": "v"}}});
    let told = updated(STORAGE, "VolumeAttachment", &attached("a"), &attached("b"));
    assert!(
        told[0].starts_with("spec: Invalid value: {") && told[0].ends_with("field is immutable"),
        "{told:?}"
    );
    let driver = |required: bool| json!({"spec": {"attachRequired": required}});
    let told = updated(STORAGE, "CSIDriver", &driver(true), &driver(false));
    assert_eq!(told, ["spec.attachRequired: Invalid value: false: field is immutable"]);
}
