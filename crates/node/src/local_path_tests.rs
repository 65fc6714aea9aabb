use serde_json::Value;

use super::*;

fn read<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

/// As a merge patch does it: null removes.
fn merged(mut to: Value, more: &Value) -> Value {
    match (to.as_object_mut(), more.as_object()) {
        (Some(fields), Some(more)) => {
            for (name, value) in more {
                let field = fields.remove(name).unwrap_or(Value::Null);
                if !value.is_null() {
                    fields.insert(name.clone(), merged(field, value));
                }
            }
            to
        }
        _ => more.clone(),
    }
}

fn claim(more: Value) -> PersistentVolumeClaim {
    let claim = json!({
        "metadata": {"namespace": "a", "name": "data", "uid": "u", "resourceVersion": "7",
            "annotations": {ASKED: PROVISIONER, SELECTED_NODE: "argo"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path",
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    read(merged(claim, &more))
}

fn class(more: Value) -> StorageClass {
    let class = json!({"metadata": {"name": "local-path"}, "provisioner": PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Delete"});
    read(merged(class, &more))
}

#[test]
fn a_node_provides_what_was_asked_of_it() {
    assert!(is_ours(&claim(json!({})), &class(json!({})), "argo"));
    assert!(!is_ours(&claim(json!({})), &class(json!({})), "other"));
    assert!(!is_ours(&claim(json!({})), &class(json!({"provisioner": "example.com/disks"})), "argo"));
    assert!(!is_ours(&claim(json!({"spec": {"volumeName": "v"}})), &class(json!({})), "argo"));
    assert!(!is_ours(
        &claim(json!({"metadata": {"annotations": {ASKED: "another"}}})),
        &class(json!({})),
        "argo"
    ));
    let unplaced = claim(json!({"metadata": {"annotations": {SELECTED_NODE: null}}}));
    assert!(!is_ours(&unplaced, &class(json!({})), "argo"));
    assert!(is_ours(&unplaced, &class(json!({"volumeBindingMode": "Immediate"})), "argo"));
    let going = claim(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert!(!is_ours(&going, &class(json!({})), "argo"));
}

#[test]
fn a_volume_is_the_claims_and_stays_on_its_node() {
    let made = volume(&claim(json!({})), &class(json!({"reclaimPolicy": "Retain"})), "argo", Path::new("/v"))
        .expect("a volume");
    let made = serde_json::to_value(made).expect("JSON");
    assert_eq!(made["metadata"]["name"], "pvc-u");
    assert_eq!(made["spec"]["local"]["path"], "/v/pvc-u");
    assert_eq!(made["spec"]["capacity"], json!({"storage": "1Gi"}));
    assert_eq!(made["spec"]["claimRef"]["uid"], "u");
    assert_eq!(made["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    let terms = &made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
    assert_eq!(terms[0]["matchExpressions"][0]["values"], json!(["argo"]));
}

#[test]
fn what_a_directory_cannot_be_is_refused() {
    let cases = [
        json!({"spec": {"accessModes": ["ReadWriteMany"]}}),
        json!({"spec": {"volumeMode": "Block"}}),
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}),
    ];
    for case in cases {
        assert!(volume(&claim(case.clone()), &class(json!({})), "argo", Path::new("/v")).is_err(), "{case}");
    }
}

#[test]
fn a_volume_ends_when_nobody_claims_it() {
    let made = volume(&claim(json!({})), &class(json!({})), "argo", Path::new("/v")).expect("a volume");
    let made = serde_json::to_value(made).expect("JSON");
    let of = |more: Value| end_of(&read(merged(made.clone(), &more)), "argo");
    let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    assert_eq!(of(json!({"status": {"phase": "Bound"}})), None);
    assert_eq!(of(json!({"status": {"phase": "Bound"}, "metadata": going})), None);
    assert_eq!(of(json!({"status": {"phase": "Released"}})), Some(End::WithItsData));
    assert_eq!(of(json!({"status": {"phase": "Available"}, "metadata": going})), Some(End::WithItsData));
    let retain = json!({"persistentVolumeReclaimPolicy": "Retain"});
    assert_eq!(of(json!({"status": {"phase": "Released"}, "spec": retain})), None);
    assert_eq!(
        of(json!({"status": {"phase": "Released"}, "spec": retain, "metadata": going})),
        Some(End::Alone)
    );
    let released = merged(made.clone(), &json!({"status": {"phase": "Released"}}));
    assert_eq!(end_of(&read(released.clone()), "other"), None);
    let foreign = merged(released, &json!({"metadata": {"annotations": {PROVISIONED_BY: "another"}}}));
    assert_eq!(end_of(&read(foreign), "argo"), None);
}

#[test]
fn a_volume_grows_as_its_claim_asks() {
    let made = volume(&claim(json!({})), &class(json!({})), "argo", Path::new("/v")).expect("a volume");
    let of = |asks: &str, has: &str, more: Value| {
        let bound = json!({"spec": {"resources": {"requests": {"storage": asks}}},
            "status": {"phase": "Bound", "capacity": {"storage": has}}});
        let claim = claim(merged(bound, &more));
        growth(&claim, &made, "argo").map(|size| size.0.clone())
    };
    assert_eq!(of("2Gi", "1Gi", json!({})), Some("2Gi".to_owned()));
    assert_eq!(of("1024Mi", "1Gi", json!({})), None);
    assert_eq!(of("1Gi", "2Gi", json!({})), None);
    assert_eq!(of("2Gi", "1Gi", json!({"status": {"phase": "Lost"}})), None);
    assert_eq!(of("2Gi", "1Gi", json!({"metadata": {"uid": "another"}})), None);
    let grown = claim(json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}));
    assert_eq!(growth(&grown, &made, "other"), None);
}

#[tokio::test]
async fn directories_come_open_and_go_whole() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pvc-u");
    make(&path).await.expect("made");
    make(&path).await.expect("made twice");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o777);
    std::fs::write(path.join("file"), "data").expect("written");
    remove(&path).await.expect("removed");
    remove(&path).await.expect("nothing to remove");
    assert!(!path.exists());
}
