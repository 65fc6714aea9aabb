//! The four plugins of volumes, over one small cluster.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tiphys_client::ObjectKey;

use super::{default_profile, tests::node_named};
use crate::{
    cycle::{Found, Search},
    framework::{Errand, Point},
    pod::PodInfo,
    snapshot::Snapshot,
    volumes::{Capacity, Claim, Class, Volume},
};

/// Nodes a and b in zones of these names, c in none.
fn cluster() -> Snapshot {
    let mut all = Snapshot::default();
    for name in ["a", "b", "c"] {
        all.set_node(Arc::new(node_named(name, |n| {
            n["metadata"]["labels"] = json!({"name": name});
            if name != "c" {
                n["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!(name);
            }
        })));
    }
    for (name, provisioner, mode) in [
        ("waits", "made.io", "WaitForFirstConsumer"),
        ("by-hand", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
        ("now", "made.io", "Immediate"),
    ] {
        let class =
            json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
        let class = Class::new(serde_json::from_value(class).expect("a class"));
        all.storage().classes.insert(name.into(), Arc::new(class));
    }
    all
}

fn claim(all: &mut Snapshot, name: &str, change: impl Fn(&mut Value)) {
    let mut claim = json!({"metadata": {"namespace": "ns", "name": name, "uid": name, "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}});
    change(&mut claim);
    let claim = Claim::new(serde_json::from_value(claim).expect("a claim"));
    all.storage().claims.insert(ObjectKey::new("ns", name), Arc::new(claim));
}

fn volume(all: &mut Snapshot, name: &str, node: &str, change: impl Fn(&mut Value)) {
    let mut volume = json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "10Gi"}, "csi": {"driver": "made.io", "volumeHandle": name}}});
    if !node.is_empty() {
        volume["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "name", "operator": "In", "values": [node]}]}]}});
    }
    change(&mut volume);
    let volume = Volume::new(serde_json::from_value(volume).expect("a volume"));
    all.storage().volumes.insert(name.into(), Arc::new(volume));
}

fn pod(name: &str, node: &str, volumes: Value) -> Arc<PodInfo> {
    let pod = json!({"metadata": {"namespace": "ns", "name": name, "uid": name},
        "spec": {"nodeName": node, "containers": [], "volumes": volumes}});
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

fn uses(claim: &str) -> Value {
    json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}])
}

/// Where the pod may go, or what is said.
fn fit(all: &mut Snapshot, pod: &PodInfo) -> String {
    all.prepare(pod, &[]);
    let (_, sifted) = Search::new(1).sift(&default_profile("s"), pod, all);
    if sifted.fit.is_empty() {
        return sifted.unfit.message();
    }
    let mut names: Vec<&str> = sifted.fit.iter().map(|id| all.node(*id).name()).collect();
    names.sort_unstable();
    names.concat()
}

#[test]
fn pods_go_where_their_volumes_are_or_can_be() {
    let mut all = cluster();
    volume(&mut all, "on-b", "b", |_| {});
    volume(&mut all, "in-zone", "", |v| {
        v["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "a__x"})
    });
    volume(&mut all, "free", "a", |v| v["spec"]["storageClassName"] = json!("by-hand"));
    volume(&mut all, "taken", "b", |v| {
        v["spec"]["storageClassName"] = json!("by-hand");
        v["spec"]["claimRef"] = json!({"namespace": "ns", "name": "other", "uid": "o"});
    });
    let class = |name: &'static str| move |c: &mut Value| c["spec"]["storageClassName"] = json!(name);
    claim(&mut all, "on-b", |c| c["spec"]["volumeName"] = json!("on-b"));
    claim(&mut all, "in-zone", |c| c["spec"]["volumeName"] = json!("in-zone"));
    claim(&mut all, "nowhere", |c| c["spec"]["volumeName"] = json!("nowhere"));
    claim(&mut all, "waits", class("waits"));
    claim(&mut all, "now", class("now"));
    claim(&mut all, "by-hand", class("by-hand"));
    claim(&mut all, "as-of-old", |c| {
        c["metadata"]["annotations"] = json!({"volume.beta.kubernetes.io/storage-class": "by-hand"});
    });
    claim(&mut all, "large", |c| {
        class("by-hand")(c);
        c["spec"]["resources"]["requests"]["storage"] = json!("11Gi");
    });
    claim(&mut all, "going", |c| c["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    claim(&mut all, "lost", |c| {
        c["spec"]["volumeName"] = json!("gone");
        c["status"] = json!({"phase": "Lost"});
    });
    for (name, want) in [
        ("on-b", "b"),
        ("in-zone", "ac"),
        ("waits", "abc"),
        ("by-hand", "a"),
        ("as-of-old", "a"),
        ("large", "0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind."),
        (
            "nowhere",
            "0/3 nodes are available: 3 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
        ),
        ("now", "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
        ("absent", "0/3 nodes are available: persistentvolumeclaim \"absent\" not found."),
        ("going", "0/3 nodes are available: persistentvolumeclaim \"going\" is being deleted."),
        (
            "lost",
            "0/3 nodes are available: persistentvolumeclaim \"lost\" bound to non-existent persistentvolume \"gone\".",
        ),
    ] {
        assert_eq!(fit(&mut all, &pod("p", "", uses(name))), want, "{name}");
    }
}

#[test]
fn a_volume_is_promised_once_and_others_are_asked_for() {
    let mut all = cluster();
    volume(&mut all, "free", "a", |v| v["spec"]["storageClassName"] = json!("waits"));
    for name in ["one", "two"] {
        claim(&mut all, name, |c| c["spec"]["storageClassName"] = json!("waits"));
    }
    let profile = default_profile("s");
    let reserve = |all: &mut Snapshot, pod: &PodInfo| {
        let a = all.find("a").expect("a node").id;
        profile.at(Point::Reserve).flat_map(|(plugin, _)| plugin.reserve(pod, all, a)).collect::<Vec<_>>()
    };
    let (one, two) = (pod("p", "", uses("one")), pod("q", "", uses("two")));
    let bound =
        Errand::BindVolume { volume: "free".into(), claim: ObjectKey::new("ns", "one"), uid: "one".into() };
    assert_eq!(reserve(&mut all, &one), [bound]);
    let made = Errand::Provision { claim: ObjectKey::new("ns", "two"), node: "a".into() };
    assert_eq!(reserve(&mut all, &two), [made]);
    profile.at(Point::Reserve).for_each(|(plugin, _)| plugin.unreserve(&one, &mut all));
    assert!(
        matches!(&reserve(&mut all, &two)[..], [Errand::BindVolume { volume, .. }] if &**volume == "free")
    );
}

#[test]
fn drivers_that_tell_what_is_left_are_believed() {
    let mut all = cluster();
    claim(&mut all, "waits", |c| c["spec"]["storageClassName"] = json!("waits"));
    all.storage().measured.insert("made.io".into());
    for (node, size) in [("a", "4Gi"), ("b", "20Gi")] {
        let capacity = json!({"metadata": {"name": node}, "storageClassName": "waits", "capacity": size,
            "nodeTopology": {"matchLabels": {"name": node}}});
        let capacity = Capacity::new(serde_json::from_value(capacity).expect("a capacity"));
        all.storage().capacities.insert(ObjectKey::new("ns", node), Arc::new(capacity));
    }
    assert_eq!(fit(&mut all, &pod("p", "", uses("waits"))), "b");
}

#[test]
fn nodes_take_so_many_volumes_of_a_driver() {
    let mut all = cluster();
    for name in ["one", "two", "three"] {
        volume(&mut all, name, "", |_| {});
        claim(&mut all, name, |c| c["spec"]["volumeName"] = json!(name));
    }
    for node in ["a", "b", "c"] {
        let limit = if node == "c" { 9 } else { 1 };
        all.storage().limits.insert(node.into(), Arc::new(BTreeMap::from([("made.io".into(), limit)])));
    }
    all.set_pod(&pod("q", "a", uses("one")));
    assert_eq!(fit(&mut all, &pod("p", "", uses("two"))), "bc");
    assert_eq!(fit(&mut all, &pod("p", "", uses("one"))), "abc", "it is there already");
    all.set_pod(&pod("r", "b", uses("two")));
    all.set_pod(&pod("s", "c", uses("two")));
    all.storage().limits.insert("c".into(), Arc::new(BTreeMap::from([("made.io".into(), 1)])));
    assert_eq!(
        fit(&mut all, &pod("p", "", uses("three"))),
        "0/3 nodes are available: 3 node(s) exceed max volume count."
    );
}

#[test]
fn disks_and_claims_for_one_pod_are_not_shared() {
    let mut all = cluster();
    let disk = |name: &str, read_only: bool| json!([{"name": "v", "gcePersistentDisk": {"pdName": name, "readOnly": read_only}}]);
    all.set_pod(&pod("q", "a", disk("d", true)));
    assert_eq!(fit(&mut all, &pod("p", "", disk("d", true))), "abc", "all of them read");
    assert_eq!(fit(&mut all, &pod("p", "", disk("d", false))), "bc");
    assert_eq!(fit(&mut all, &pod("p", "", disk("e", false))), "abc");
    volume(&mut all, "v", "", |_| {});
    claim(&mut all, "single", |c| {
        c["spec"]["volumeName"] = json!("v");
        c["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    });
    assert_eq!(fit(&mut all, &pod("p", "", uses("single"))), "abc");
    let user = pod("r", "c", uses("single"));
    all.set_pod(&user);
    let mut important = PodInfo::clone(&pod("p", "", uses("single")));
    important.priority = 1;
    all.prepare(&important, &[]);
    let Found::Nothing(refusal) = Search::new(1).schedule(&default_profile("s"), &important, &all) else {
        panic!("the claim is in use")
    };
    let plan = refusal.plan.expect("the user can go");
    assert_eq!((&*plan.node, plan.victims.len()), ("c", 1));
}
