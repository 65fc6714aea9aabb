use super::*;

fn read<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

fn volume(more: Value) -> Arc<PersistentVolume> {
    let volume = json!({
        "metadata": {"name": "v", "resourceVersion": "7",
            "annotations": {tiphys_client::storage::BOUND_BY_CONTROLLER: "yes"}},
        "spec": {"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"},
            "claimRef": {"namespace": "a", "name": "data", "uid": "u"}},
        "status": {"phase": "Released"},
    });
    Arc::new(read(tiphys_api::patch::merge::patch(&volume, &more).expect("a merge")))
}

fn pod(uid: &str, phase: &str, more: Value) -> Pod {
    let pod = json!({"metadata": {"namespace": NAMESPACE, "name": "recycler-for-v", "uid": uid}, "status": {"phase": phase}});
    read(tiphys_api::patch::merge::patch(&pod, &more).expect("a merge"))
}

/// The steps for a volume whose pod we made as `p`, in words.
fn words(volume: &Arc<PersistentVolume>, pod: Option<&Pod>, rests: bool, users: &[&str]) -> Vec<String> {
    let users: Vec<_> = users.iter().map(|&user| user.to_owned()).collect();
    let word = |step| match step {
        Step::Start(pod) => format!("start {}", pod.name()),
        Step::End(uid) => format!("end {uid}"),
        Step::Rest => "rest".to_owned(),
        Step::Do(Action::Tell { reason, message, .. }) => format!("{reason}: {message}"),
        Step::Do(Action::VolumeStatus { status, .. }) => format!("show {}", status["phase"]),
        Step::Do(Action::Volume { change, .. }) => format!("change {}", change["spec"]),
        Step::Do(other) => format!("{other:?}"),
    };
    steps(volume, &Seen { pod, made: Some("p"), rests, users: &users }).into_iter().map(word).collect()
}

#[test]
fn a_volume_is_emptied_and_free_again() {
    let fresh = volume(json!({}));
    assert_eq!(words(&fresh, None, false, &[]), ["start recycler-for-v"]);
    assert!(words(&fresh, Some(&pod("p", "Running", json!({}))), false, &[]).is_empty());
    let done = pod("p", "Succeeded", json!({}));
    let free =
        ["change {\"claimRef\":null}", "show \"Available\"", "VolumeRecycled: Volume recycled", "end p"];
    assert_eq!(words(&fresh, Some(&done), false, &[]), free);
    let kept = volume(json!({"metadata": {"annotations": null}}));
    let freed = words(&kept, Some(&done), false, &[]);
    assert_eq!(freed[0], "change {\"claimRef\":{\"resourceVersion\":null,\"uid\":null}}");
}

#[test]
fn what_fails_is_told_and_tried_again_later() {
    let fresh = volume(json!({}));
    let of = |message: Value| pod("p", "Failed", json!({"status": {"message": message}}));
    let told = |why: &str| {
        let message = format!("VolumeFailedRecycle: Recycle failed: failed to recycle volume: {why}");
        vec!["show \"Failed\"".to_owned(), message, "end p".to_owned(), "rest".to_owned()]
    };
    assert_eq!(words(&fresh, Some(&of(json!("too late"))), false, &[]), told("too late"));
    let unknown = "pod failed, pod.Status.Message unknown";
    assert_eq!(words(&fresh, Some(&of(json!(null))), false, &[]), told(unknown));
    assert_eq!(words(&fresh, None, true, &[]), ["rest"]);
    let shown = volume(json!({"status": {"phase": "Failed"}}));
    assert_eq!(words(&shown, None, false, &[]), ["start recycler-for-v"]);
}

#[test]
fn a_pod_that_somebody_else_made_is_not_believed() {
    let fresh = volume(json!({}));
    assert_eq!(words(&fresh, Some(&pod("forged", "Succeeded", json!({}))), false, &[]), ["end forged"]);
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert!(words(&fresh, Some(&pod("forged", "Succeeded", going)), false, &[]).is_empty());
}

#[test]
fn what_is_in_use_waits_and_what_cannot_be_emptied_is_told_once() {
    let used = words(&volume(json!({})), None, false, &["a/x", "a/y"]);
    assert_eq!(used, ["VolumeFailedRecycle: Volume is used by pods: a/x,a/y"]);
    let local = |more: Value| {
        let source = json!({"spec": {"hostPath": null, "local": {"path": "/x"}}});
        volume(tiphys_api::patch::merge::patch(&source, &more).expect("a merge"))
    };
    let told = ["show \"Failed\"", "VolumeFailedRecycle: No recycler plugin found for the volume!"];
    assert_eq!(words(&local(json!({})), None, false, &[]), told);
    let shown = json!({"status": {"phase": "Failed", "message": "No recycler plugin found for the volume!"}});
    assert!(words(&local(shown), None, false, &[]).is_empty());
}

#[test]
fn a_pod_has_time_for_what_it_empties() {
    let made = |more: Value| serde_json::to_value(pod_for(&volume(more)).expect("a pod")).expect("JSON");
    let spec = |more| made(more)["spec"].clone();
    assert_eq!(spec(json!({}))["activeDeadlineSeconds"], 60);
    assert_eq!(spec(json!({"spec": {"capacity": {"storage": "5Gi"}}}))["activeDeadlineSeconds"], 150);
    assert_eq!(spec(json!({}))["volumes"][0]["hostPath"]["path"], "/x");
    let nfs = json!({"spec": {"hostPath": null, "nfs": {"server": "s", "path": "/y"}}});
    assert_eq!(spec(nfs.clone())["volumes"][0]["nfs"], json!({"server": "s", "path": "/y"}));
    assert_eq!(spec(nfs)["activeDeadlineSeconds"], 300);
}

#[test]
fn a_pods_name_tells_its_volume() {
    assert_eq!(scrubbed(&scrubber("v")), Some(ObjectKey::new("", "v")));
    assert_eq!(scrubbed(&ObjectKey::new("a", "recycler-for-v")), None);
    assert_eq!(scrubbed(&ObjectKey::new(NAMESPACE, "web")), None);
}
