use serde_json::Value;

use super::*;

fn read<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

/// A claim of 5Gi and class `slow`, with what `more` says.
fn a_claim(more: Value) -> PersistentVolumeClaim {
    let mut claim = json!({
        "metadata": {"namespace": "a", "name": "data", "uid": "u1", "resourceVersion": "7"},
        "spec": {"storageClassName": "slow", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "5Gi"}}},
        "status": {"phase": "Pending"},
    });
    json_patch(&mut claim, &more);
    read(claim)
}

/// An available volume of that class.
fn a_volume(name: &str, size: &str, more: Value) -> Arc<PersistentVolume> {
    let mut volume = json!({
        "metadata": {"name": name},
        "spec": {"storageClassName": "slow", "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
            "capacity": {"storage": size}, "hostPath": {"path": "/x"}},
        "status": {"phase": "Available"},
    });
    json_patch(&mut volume, &more);
    Arc::new(read(volume))
}

fn json_patch(to: &mut Value, change: &Value) {
    *to = tiphys_api::patch::merge::patch(to, change).expect("a merge");
}

fn a_class(name: &str, more: Value) -> Arc<StorageClass> {
    let mut class = json!({"metadata": {"name": name}, "provisioner": "example.com/disks"});
    json_patch(&mut class, &more);
    Arc::new(read(class))
}

fn plan(
    one: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    classes: &[Arc<StorageClass>],
) -> Vec<Action> {
    claim(one, &Seen { volumes, classes, consumer: None })
}

/// The volume that a plan binds first.
fn chosen(actions: &[Action]) -> Option<&str> {
    actions.iter().find_map(|action| match action {
        Action::Volume { seen, change } if change["spec"]["claimRef"]["uid"] == "u1" => Some(seen.name()),
        _ => None,
    })
}

fn told(actions: &[Action]) -> Vec<&'static str> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Tell { reason, .. } => Some(*reason),
            _ => None,
        })
        .collect()
}

fn shown(actions: &[Action]) -> Option<&Value> {
    actions.iter().find_map(|action| match action {
        Action::ClaimStatus { status } | Action::VolumeStatus { status, .. } => Some(&status["phase"]),
        _ => None,
    })
}

#[test]
fn a_claim_gets_the_smallest_volume_that_fits() {
    let volumes = [
        a_volume("large", "20Gi", json!({})),
        a_volume("fits", "6Gi", json!({})),
        a_volume("small", "4Gi", json!({})),
    ];
    let actions = plan(&a_claim(json!({})), &volumes, &[]);
    assert_eq!(chosen(&actions), Some("fits"));
    let Action::Claim { change } = &actions[2] else { panic!("{actions:?}") };
    assert_eq!(change["spec"]["volumeName"], "fits");
    assert_eq!(change["metadata"]["annotations"], json!({BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"}));
    let Action::ClaimStatus { status } = &actions[3] else { panic!("{actions:?}") };
    assert_eq!(status["capacity"]["storage"], "6Gi");
    assert_eq!(status["accessModes"], json!(["ReadWriteOnce", "ReadOnlyMany"]));
}

#[test]
fn what_does_not_fit_is_not_taken() {
    let cases = [
        json!({"spec": {"storageClassName": "fast"}}),
        json!({"spec": {"accessModes": ["ReadOnlyMany"]}}),
        json!({"spec": {"volumeMode": "Block"}}),
        json!({"spec": {"volumeAttributesClassName": "gold"}}),
        json!({"spec": {"claimRef": {"namespace": "a", "name": "other"}}}),
        json!({"status": {"phase": "Released"}}),
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    ];
    for case in cases {
        let actions = plan(&a_claim(json!({})), &[a_volume("v", "5Gi", case.clone())], &[]);
        assert_eq!(chosen(&actions), None, "{case}");
    }
}

#[test]
fn a_selector_chooses_by_labels() {
    let labelled = |name, disk: &str| a_volume(name, "5Gi", json!({"metadata": {"labels": {"disk": disk}}}));
    let volumes = [labelled("a", "hdd"), labelled("b", "ssd")];
    let one = a_claim(json!({"spec": {"selector": {"matchLabels": {"disk": "ssd"}}}}));
    assert_eq!(chosen(&plan(&one, &volumes, &[])), Some("b"));
    let one =
        a_claim(json!({"spec": {"selector": {"matchExpressions": [{"key": "disk", "operator": "Bad"}]}}}));
    assert_eq!(chosen(&plan(&one, &volumes, &[])), None);
}

#[test]
fn a_volume_that_names_the_claim_goes_first() {
    let named = a_volume("own", "9Gi", json!({"spec": {"claimRef": {"namespace": "a", "name": "data"}}}));
    let volumes = [a_volume("fits", "5Gi", json!({})), named];
    let actions = plan(&a_claim(json!({})), &volumes, &[]);
    assert_eq!(chosen(&actions), Some("own"));
    // It was not the binder who chose: the claim's end does not free the volume for others.
    let Action::Volume { change, .. } = &actions[0] else { panic!("{actions:?}") };
    assert_eq!(change.get("metadata"), None);
}

#[test]
fn a_cut_short_bind_is_finished() {
    let half = a_volume(
        "v",
        "5Gi",
        json!({
        "spec": {"claimRef": {"namespace": "a", "name": "data", "uid": "u1"}}, "status": {"phase": "Bound"}}),
    );
    let actions = plan(&a_claim(json!({})), &[half], &[]);
    assert!(matches!(&actions[..], [Action::Claim { .. }, Action::ClaimStatus { .. }]), "{actions:?}");
}

#[test]
fn a_claim_of_a_class_that_waits_gets_only_what_names_it() {
    let waits = [a_class("slow", json!({"volumeBindingMode": "WaitForFirstConsumer"}))];
    let volumes = [a_volume("fits", "5Gi", json!({}))];
    let actions = plan(&a_claim(json!({})), &volumes, &waits);
    assert_eq!((chosen(&actions), told(&actions)), (None, vec!["WaitForFirstConsumer"]));
    let seen = Seen { volumes: &volumes, classes: &waits, consumer: Some("web-0") };
    assert_eq!(told(&claim(&a_claim(json!({})), &seen)), ["WaitForPodScheduled"]);
    let placed = a_claim(json!({"metadata": {"annotations": {SELECTED_NODE: "n"}}}));
    assert_eq!(chosen(&plan(&placed, &volumes, &waits)), Some("fits"));
}

#[test]
fn a_provisioner_is_asked_once() {
    let classes = [a_class("slow", json!({}))];
    let actions = plan(&a_claim(json!({})), &[], &classes);
    let Action::Claim { change } = &actions[0] else { panic!("{actions:?}") };
    assert_eq!(change["metadata"]["annotations"][PROVISIONER[0]], "example.com/disks");
    assert_eq!(change["metadata"]["annotations"][PROVISIONER[1]], "example.com/disks");
    assert_eq!(told(&actions), ["ExternalProvisioning"]);
    let asked = a_claim(json!({"metadata": {"annotations": change["metadata"]["annotations"]}}));
    assert!(matches!(&plan(&asked, &[], &classes)[..], [Action::Tell { .. }]));
    let by_hand = [a_class("slow", json!({"provisioner": NO_PROVISIONER}))];
    assert_eq!(plan(&a_claim(json!({})), &[], &by_hand), []);
}

#[test]
fn without_a_class_a_claim_gets_the_default_one_or_says_what_it_lacks() {
    let classless = a_claim(json!({"spec": {"storageClassName": null}}));
    assert_eq!(told(&plan(&classless, &[], &[])), ["FailedBinding"]);
    let default = |name, time: &str| {
        a_class(
            name,
            json!({"metadata": {"creationTimestamp": time,
        "annotations": {DEFAULT_CLASS[0]: "true"}}}),
        )
    };
    let classes = [default("old", "2025-01-01T00:00:00Z"), default("young", "2026-01-01T00:00:00Z")];
    let expected = Action::Claim { change: json!({"spec": {"storageClassName": "young"}}) };
    assert_eq!(plan(&classless, &[], &classes), [expected]);
    // None at all is a wish of its own.
    let none = a_claim(json!({"spec": {"storageClassName": ""}}));
    assert_eq!(told(&plan(&none, &[], &classes)), ["FailedBinding"]);
    assert_eq!(told(&plan(&a_claim(json!({})), &[], &[])), ["ProvisioningFailed"]);
}

#[test]
fn a_claim_that_names_its_volume_gets_that_or_none() {
    let one = a_claim(json!({"spec": {"volumeName": "v"}}));
    assert_eq!(plan(&one, &[], &[]), []);
    assert_eq!(chosen(&plan(&one, &[a_volume("v", "5Gi", json!({}))], &[])), Some("v"));
    assert_eq!(told(&plan(&one, &[a_volume("v", "1Gi", json!({}))], &[])), ["VolumeMismatch"]);
    let taken =
        a_volume("v", "5Gi", json!({"spec": {"claimRef": {"namespace": "a", "name": "other", "uid": "u2"}}}));
    assert_eq!(told(&plan(&one, &[taken], &[])), ["FailedBinding"]);
}

#[test]
fn a_bound_claim_whose_volume_is_gone_is_lost_once() {
    let bound = json!({"metadata": {"annotations": {BIND_COMPLETED: "yes"}}, "spec": {"volumeName": "v"},
        "status": {"phase": "Bound"}});
    let actions = plan(&a_claim(bound.clone()), &[], &[]);
    assert_eq!((shown(&actions), told(&actions)), (Some(&json!("Lost")), vec!["ClaimLost"]));
    let mut lost = bound.clone();
    lost["status"]["phase"] = json!("Lost");
    assert_eq!(plan(&a_claim(lost), &[], &[]), []);
    let taken =
        a_volume("v", "5Gi", json!({"spec": {"claimRef": {"namespace": "a", "name": "data", "uid": "u2"}}}));
    assert_eq!(told(&plan(&a_claim(bound), &[taken], &[])), ["ClaimMisbound"]);
}

#[test]
fn a_bound_pair_needs_nothing() {
    let one = a_claim(
        json!({"metadata": {"annotations": {BIND_COMPLETED: "yes"}}, "spec": {"volumeName": "v"},
        "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": "8Gi"}}}),
    );
    let its = a_volume(
        "v",
        "5Gi",
        json!({
        "spec": {"claimRef": {"namespace": "a", "name": "data", "uid": "u1"}}, "status": {"phase": "Bound"}}),
    );
    assert_eq!(plan(&one, std::slice::from_ref(&its), &[]), []);
    assert_eq!(volume(&its, Some(&one)), []);
}

#[test]
fn a_volume_nobody_claims_is_available() {
    let fresh = a_volume("v", "5Gi", json!({"status": null}));
    assert_eq!(shown(&volume(&fresh, None)), Some(&json!("Available")));
    let kept = a_volume(
        "v",
        "5Gi",
        json!({"spec": {"claimRef": {"namespace": "a", "name": "data"}}, "status": null}),
    );
    assert_eq!(shown(&volume(&kept, Some(&a_claim(json!({}))))), Some(&json!("Available")));
}

#[test]
fn what_becomes_of_a_released_volume_is_its_policys() {
    let of = |policy: &str, provisioner: Option<&str>| {
        let annotations = json!({PROVISIONED_BY: provisioner});
        let more = json!({"metadata": {"annotations": annotations}, "status": {"phase": "Bound"},
            "spec": {"persistentVolumeReclaimPolicy": policy,
                "claimRef": {"namespace": "a", "name": "data", "uid": "old"}}});
        let actions = volume(&a_volume("v", "5Gi", more), Some(&a_claim(json!({}))));
        let shows = |action: &Action| match action {
            Action::VolumeStatus { status, .. } => status["phase"].as_str().map(str::to_owned),
            Action::Recycle => Some("recycle".to_owned()),
            _ => None,
        };
        actions.iter().filter_map(shows).collect::<Vec<_>>()
    };
    assert_eq!(of("Retain", None), ["Released"]);
    // Its provisioner deletes it.
    assert_eq!(of("Delete", Some("example.com/disks")), ["Released"]);
    assert_eq!(of("Delete", Some("kubernetes.io/aws-ebs")), ["Released", "Failed"]);
    assert_eq!(of("Delete", None), ["Released", "Failed"]);
    assert_eq!(of("Recycle", None), ["Released", "recycle"]);
}

#[test]
fn what_has_failed_stays_so_but_is_emptied_all_the_same() {
    let of = |policy: &str, annotations: Value| {
        let more = json!({"metadata": {"annotations": annotations}, "status": {"phase": "Failed"},
            "spec": {"persistentVolumeReclaimPolicy": policy,
                "claimRef": {"namespace": "a", "name": "data", "uid": "old"}}});
        volume(&a_volume("v", "5Gi", more), None)
    };
    assert_eq!(of("Delete", json!({})), []);
    assert_eq!(of("Recycle", json!({})), [Action::Recycle]);
    assert_eq!(of("Recycle", json!({MIGRATED_TO: "disks.example.com"})), [], "its driver does it");
}

#[test]
fn a_volume_whose_claim_took_another_is_free_again() {
    let one = a_claim(json!({"spec": {"volumeName": "another"}}));
    let of = |annotations: Value, policy: &str| {
        let more = json!({"metadata": {"annotations": annotations}, "status": {"phase": "Bound"},
            "spec": {"persistentVolumeReclaimPolicy": policy,
                "claimRef": {"namespace": "a", "name": "data", "uid": "u1"}}});
        volume(&a_volume("v", "5Gi", more), Some(&one))
    };
    let freed = of(json!({BOUND_BY_CONTROLLER: "yes"}), "Retain");
    let Action::Volume { change, .. } = &freed[0] else { panic!("{freed:?}") };
    assert_eq!(change["spec"], json!({"claimRef": null}));
    let kept = of(json!({}), "Retain");
    let Action::Volume { change, .. } = &kept[0] else { panic!("{kept:?}") };
    assert_eq!(change["spec"]["claimRef"]["uid"], Value::Null, "whoever comes by that name may have it");
    let made_for_it = of(json!({PROVISIONED_BY: "example.com/disks"}), "Delete");
    assert_eq!(shown(&made_for_it), Some(&json!("Released")));
}
