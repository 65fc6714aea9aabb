use serde_json::{Value, json};

use super::*;

fn read<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

fn volume(modes: &[&str]) -> Volume {
    Volume::new(&read(json!({
        "metadata": {"name": "pv"},
        "spec": {"accessModes": modes, "csi": {"driver": "disks.example.com", "volumeHandle": "h1"}},
    })))
    .expect("a driver's volume")
}

const ON_NODES: &str = "kubernetes.io/csi/disks.example.com^h1";

fn pod(namespace: &str, name: &str) -> Arc<Pod> {
    Arc::new(read(json!({"metadata": {"namespace": namespace, "name": name, "uid": name}, "spec": {}})))
}

/// A node that is ready or not, uses and was told of volumes, and has a taint.
fn node(ready: bool, in_use: &[&str], told: &[&str], taint: Option<&str>) -> Node {
    let told: Vec<_> = told.iter().map(|name| json!({"name": name, "devicePath": ""})).collect();
    let taints: Vec<_> = taint.iter().map(|key| json!({"key": key, "effect": "NoExecute"})).collect();
    read(json!({
        "metadata": {"name": "n", "annotations": {MANAGED: "true"}},
        "spec": {"taints": taints},
        "status": {"volumesInUse": in_use, "volumesAttached": told,
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "Unknown" }}]},
    }))
}

fn quiet() -> Node {
    node(true, &[], &[], None)
}

fn here(status: Value, going: bool) -> Attached {
    let volume = volume(&["ReadWriteOnce"]);
    let mut attachment = json!({
        "metadata": {"name": volume.attachment("n"), "uid": "va"},
        "spec": {"attacher": "disks.example.com", "nodeName": "n", "source": {"persistentVolumeName": "pv"}},
        "status": status,
    });
    if going {
        attachment["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Attached { attachment: Arc::new(read(attachment)), volume: Some(volume) }
}

fn attached() -> Attached {
    here(json!({"attached": true}), false)
}

fn wanted(modes: &[&str]) -> Vec<Wanted> {
    vec![Wanted { volume: volume(modes), pods: vec![pod("a", "web")] }]
}

/// What a plan does, in words.
fn done(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Report(volumes) => format!("report {volumes:?}"),
        Action::Attach { volume, .. } => format!("attach {}", volume.name),
        Action::Detach(_) => "detach".to_owned(),
        Action::Tell { pod, says, message } => format!("{says:?} {}: {message}", pod.name()),
    };
    plan.actions.iter().map(word).collect()
}

fn planned(node: Option<&Node>, wanted: &[Wanted], here: &[Attached], known_for: u64) -> Plan {
    let elsewhere = |_: &Volume| Vec::new();
    let rivals = |_: &Volume| Vec::new();
    let unwanted_for = |_: &str| Duration::from_secs(known_for);
    let seen = Seen { here, elsewhere: &elsewhere, rivals: &rivals, unwanted_for: &unwanted_for };
    plan("n", node, wanted, &seen)
}

#[test]
fn names_are_those_that_drivers_compute() {
    // SHA-256 of `h1disks.example.comn`.
    let hash = Sha256::digest("h1disks.example.comn");
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(volume(&[]).attachment("n"), format!("csi-{hex}"));
    assert!(attached().is_ours());
}

#[test]
fn only_volumes_of_drivers_are_attached() {
    let local: PersistentVolume = read(json!({"metadata": {"name": "v"}, "spec": {"local": {"path": "/x"}}}));
    assert_eq!(Volume::new(&local), None);
    let exclusive = |modes: &[&str]| volume(modes).exclusive;
    assert!(exclusive(&["ReadWriteOnce"]) && exclusive(&["ReadWriteOncePod"]));
    assert!(
        !exclusive(&["ReadWriteOnce", "ReadOnlyMany"]) && !exclusive(&["ReadWriteMany"]) && !exclusive(&[])
    );
}

#[test]
fn what_pods_want_is_attached_and_then_told() {
    let wanted = wanted(&["ReadWriteOnce"]);
    assert_eq!(done(&planned(Some(&quiet()), &wanted, &[], 0)), ["attach pv"]);
    // Not yet.
    assert!(done(&planned(Some(&quiet()), &wanted, &[here(json!(null), false)], 0)).is_empty());
    let told = [
        format!("report [{ON_NODES:?}]"),
        "Succeeded web: AttachVolume.Attach succeeded for volume \"pv\" ".to_owned(),
    ];
    assert_eq!(done(&planned(Some(&quiet()), &wanted, &[attached()], 0)), told);
    let knows = node(true, &[], &[ON_NODES], None);
    assert!(done(&planned(Some(&knows), &wanted, &[attached()], 0)).is_empty());
}

#[test]
fn what_an_attacher_cannot_do_is_told_to_the_pods() {
    let failed = here(json!({"attached": false, "attachError": {"message": "no such disk"}}), false);
    let told = ["Fails web: AttachVolume.Attach failed for volume \"pv\" : no such disk"];
    assert_eq!(done(&planned(Some(&quiet()), &wanted(&["ReadWriteOnce"]), &[failed], 0)), told);
}

#[test]
fn a_node_that_attaches_by_itself_is_left_alone() {
    let mut node = quiet();
    node.metadata.annotations = None;
    assert!(done(&planned(Some(&node), &wanted(&[]), &[], 0)).is_empty());
    assert!(done(&planned(Some(&node), &[], &[attached()], 0)).is_empty());
}

#[test]
fn what_nobody_wants_goes_when_the_node_has_let_go_of_it() {
    let free = node(true, &[], &[ON_NODES], None);
    // The node is told first.
    assert_eq!(done(&planned(Some(&free), &[], &[attached()], 0)), ["report []", "detach"]);
    let uses = node(true, &[ON_NODES], &[ON_NODES], None);
    let waits = planned(Some(&uses), &[], &[attached()], 0);
    assert!(done(&waits).is_empty());
    assert_eq!((waits.unwanted.len(), waits.look_again), (1, None), "the node will tell");
    assert!(
        done(&planned(Some(&uses), &[], &[attached()], 10_000)).is_empty(),
        "a node that is well is believed"
    );
    assert_eq!(done(&planned(None, &[], &[attached()], 0)), ["detach"]);
    let going = here(json!({"attached": true}), true);
    assert_eq!(done(&planned(Some(&free), &[], &[going], 0)), ["report []"]);
}

#[test]
fn from_a_node_that_is_dead_volumes_are_taken_in_the_end() {
    let silent = node(false, &[ON_NODES], &[ON_NODES], None);
    let early = planned(Some(&silent), &[], &[attached()], 60);
    assert_eq!((done(&early), early.look_again), (Vec::new(), Some(Duration::from_secs(300))));
    assert_eq!(done(&planned(Some(&silent), &[], &[attached()], 360)), ["report []", "detach"]);
    let vouched = node(false, &[ON_NODES], &[ON_NODES], Some(OUT_OF_SERVICE));
    assert_eq!(done(&planned(Some(&vouched), &[], &[attached()], 0)), ["report []", "detach"]);
    // A pod that is to come back to the node keeps it.
    let kept = planned(Some(&silent), &wanted(&["ReadWriteOnce"]), &[attached()], 360);
    assert!(done(&kept).is_empty());
}

#[test]
fn what_others_attached_stays() {
    let mut foreign = attached();
    Arc::make_mut(&mut foreign.attachment).metadata.name = Some("by-hand".to_owned());
    assert_eq!(done(&planned(Some(&quiet()), &[], &[foreign], 0)), [format!("report [{ON_NODES:?}]")]);
    let lost = Attached { volume: None, ..attached() };
    let uses = node(true, &["kubernetes.io/csi/another^h"], &[], None);
    assert!(
        done(&planned(Some(&uses), &[], std::slice::from_ref(&lost), 0)).is_empty(),
        "which one is in use?"
    );
    assert_eq!(done(&planned(Some(&quiet()), &[], &[lost], 0)), ["detach"]);
}

#[test]
fn a_volume_for_one_node_is_not_attached_to_two() {
    let of = |modes: &[&str], rivals: &[Arc<Pod>]| {
        let elsewhere = |_: &Volume| vec!["m".to_owned()];
        let rivals = |_: &Volume| rivals.to_vec();
        let unwanted_for = |_: &str| Duration::ZERO;
        let seen = Seen { here: &[], elsewhere: &elsewhere, rivals: &rivals, unwanted_for: &unwanted_for };
        done(&plan("n", Some(&quiet()), &wanted(modes), &seen))
    };
    let told = |why: &str| [format!("Fails web: Multi-Attach error for volume \"pv\" {why}")];
    let alone = "Volume is already exclusively attached to one node and can't be attached to another";
    assert_eq!(of(&["ReadWriteOnce"], &[]), told(alone));
    assert_eq!(
        of(&["ReadWriteOnce"], &[pod("a", "x"), pod("a", "y"), pod("b", "z")]),
        told("Volume is already used by pod(s) x, y and 1 pod(s) in different namespaces")
    );
    assert_eq!(of(&["ReadWriteOnce"], &[pod("a", "x")]), told("Volume is already used by pod(s) x"));
    assert_eq!(
        of(&["ReadWriteOnce"], &[pod("b", "z")]),
        told("Volume is already used by 1 pod(s) in different namespaces")
    );
    assert_eq!(of(&["ReadWriteMany"], &[]), ["attach pv"]);
}

#[test]
fn pods_that_have_ended_have_no_volumes_unless_the_node_keeps_them() {
    let mut keeps = quiet();
    keeps.metadata.annotations.get_or_insert_default().insert(KEEPS.to_owned(), "true".to_owned());
    let cases = [
        (json!({"status": {"phase": "Running"}}), true),
        (json!({"status": {"phase": "Succeeded"}}), false),
        (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), false),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
                "status": {"containerStatuses": [{"name": "c", "restartCount": 0, "state": {"running": {}}}]}}),
            true,
        ),
    ];
    for (case, has) in cases {
        let pod: Pod = read(case.clone());
        assert_eq!(has_volumes(&pod, &quiet()), has, "{case}");
        assert!(has_volumes(&pod, &keeps), "{case}");
    }
}
