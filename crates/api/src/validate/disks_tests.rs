use serde_json::{Value, json};

use super::*;

fn told(kind: &str, value: Value) -> Vec<String> {
    let mut errors = Errors::new();
    source(kind, &At::root(&json!({kind: value})).get(kind), &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn what_a_source_needs_is_told() {
    let cases = [
        (
            "awsElasticBlockStore",
            json!({"partition": -1}),
            &[
                "awsElasticBlockStore.volumeID: Required value",
                "awsElasticBlockStore.partition: Invalid value: -1: must be between 1 and 255, inclusive",
            ][..],
        ),
        ("gcePersistentDisk", json!({}), &["persistentDisk.pdName: Required value"]),
        ("glusterfs", json!({"path": "x"}), &["glusterfs.endpoints: Required value"]),
        ("cephfs", json!({}), &["cephfs.monitors: Required value"]),
        ("rbd", json!({"monitors": ["m"]}), &["rbd.image: Required value"]),
        ("flocker", json!({}), &["flocker: Required value: one of datasetName and datasetUUID is required"]),
        (
            "fc",
            json!({"targetWWNs": ["a"]}),
            &["fc.lun: Required value: lun is required if targetWWNs is specified"],
        ),
        ("fc", json!({"wwids": ["a"]}), &[]),
        (
            "gitRepo",
            json!({"repository": "r", "directory": "/x"}),
            &["gitRepo.directory: Invalid value: \"/x\": must be a relative path"],
        ),
        (
            "quobyte",
            json!({"volume": "v", "registry": "a:1,b"}),
            &[
                "quobyte.registry: Invalid value: \"a:1,b\": must be a host:port pair or multiple pairs separated by commas",
            ],
        ),
        (
            "azureDisk",
            json!({"diskName": "d", "diskURI": "x", "kind": "Dedicated"}),
            &["azureDisk.diskURI: Unsupported value: \"x\": supported values: \
             \"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd\""],
        ),
        (
            "flexVolume",
            json!({"driver": "d", "options": {"a.kubernetes.io/x": "y"}}),
            &[
                "flexVolume.options[a.kubernetes.io/x]: Invalid value: \"a.kubernetes.io/x\": kubernetes.io and k8s.io namespaces \
             are reserved",
            ],
        ),
        (
            "storageos",
            json!({"volumeName": "v", "secretRef": {}}),
            &["storageos.secretRef.name: Required value"],
        ),
        ("hostPath", json!({}), &[]),
    ];
    for (kind, value, errors) in cases {
        assert_eq!(told(kind, value), errors, "{kind}");
    }
}

#[test]
fn initiators_have_names_of_three_forms() {
    let disk = |iqn: &str| told("iscsi", json!({"targetPortal": "p", "iqn": iqn, "lun": 0}));
    for good in
        ["iqn.2001-04.com.example:disk", "eui.0123456789abcdef", "naa.0123456789abcdef0123456789abcdef"]
    {
        assert!(disk(good).is_empty(), "{good}");
    }
    for bad in ["iqn.2001-04.com.example", "iqn.x:y", "eui.0123", "naa.", "iqn.2001-04.a:b c"] {
        assert_eq!(disk(bad), [format!("iscsi.iqn: Invalid value: {bad:?}: must be valid format")]);
    }
    assert_eq!(
        disk("x"),
        ["iscsi.iqn: Invalid value: \"x\": must be valid format starting with iqn, eui, or naa"]
    );
    assert_eq!(disk(""), ["iscsi.iqn: Required value"]);
}
