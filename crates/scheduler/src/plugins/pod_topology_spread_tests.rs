use std::sync::Arc;

use serde_json::{Value, json};

use super::super::tests::{node_named, scores};
use super::*;
use crate::{
    cycle::Search,
    plugins::{args::Args, default_profile},
};

/// Two zones: a and b in the first, c and d in the second; e in none.
fn cluster() -> Snapshot {
    let mut all = Snapshot::default();
    for (name, zone) in [("a", "1"), ("b", "1"), ("c", "2"), ("d", "2"), ("e", "")] {
        all.set_node(Arc::new(node_named(name, |n| {
            n["metadata"]["labels"] = json!({HOSTNAME: name, "name": name});
            if !zone.is_empty() {
                n["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!(zone);
                n["metadata"]["labels"]["zone"] = json!(zone);
            }
            if name == "d" {
                n["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
            }
        })));
    }
    all
}

fn pod(name: &str, node: &str, change: impl Fn(&mut Value)) -> Arc<PodInfo> {
    let mut pod = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "labels": {"app": "web", "hash": "1"}},
        "spec": {"nodeName": node, "containers": []},
    });
    change(&mut pod);
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

fn place(all: &mut Snapshot, nodes: &str) {
    for (i, node) in nodes.chars().enumerate() {
        all.set_pod(&pod(&format!("w{i}"), &node.to_string(), |_| {}));
    }
}

fn hard(key: &str, change: impl Fn(&mut Value)) -> Value {
    let mut constraint = json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}});
    change(&mut constraint);
    constraint
}

fn fit(all: &mut Snapshot, pod: &PodInfo) -> String {
    all.prepare(pod, &[]);
    let (_, sifted) = Search::new(1).sift(&default_profile("s"), pod, all);
    let mut names: Vec<&str> = sifted.fit.iter().map(|id| all.node(*id).name()).collect();
    names.sort_unstable();
    names.concat()
}

#[test]
fn the_skew_stays_within_bounds() {
    let plain = |_: &mut Value| {};
    type Case<'a> = (&'a str, &'a str, Vec<Value>, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("nobody there", "", vec![hard("zone", plain)], "abc"),
        ("one more in the first", "a", vec![hard("zone", plain)], "c"),
        ("as many in both", "ac", vec![hard("zone", plain)], "abc"),
        ("a wider skew", "a", vec![hard("zone", |c| c["maxSkew"] = json!(2))], "abc"),
        ("more zones wanted than there are", "ac", vec![hard("zone", |c| c["minDomains"] = json!(3))], ""),
        ("as many zones wanted", "ac", vec![hard("zone", |c| c["minDomains"] = json!(2))], "abc"),
        ("by node", "aacd", vec![hard(HOSTNAME, plain)], "be"),
        (
            "by node, tainted ones left out",
            "abce",
            vec![hard(HOSTNAME, |c| c["nodeTaintsPolicy"] = json!("Honor"))],
            "abce",
        ),
        ("both", "ac", vec![hard("zone", plain), hard(HOSTNAME, plain)], "b"),
        (
            "of its own revision",
            "a",
            vec![hard("zone", |c| {
                c["labelSelector"] = json!({});
                c["matchLabelKeys"] = json!(["hash"]);
            })],
            "c",
        ),
        (
            "of others",
            "aa",
            vec![hard("zone", |c| c["labelSelector"] = json!({"matchLabels": {"app": "db"}}))],
            "abc",
        ),
    ];
    for (what, placed, constraints, want) in cases {
        let mut all = cluster();
        place(&mut all, placed);
        let pod = pod("p", "", |p| p["spec"]["topologySpreadConstraints"] = json!(constraints));
        assert_eq!(fit(&mut all, &pod), want, "{what}");
    }
}

#[test]
fn nodes_that_the_pod_does_not_admit_are_not_counted_unless_it_says_so() {
    for (policy, want) in [("Honor", "ab"), ("Ignore", "")] {
        let mut all = cluster();
        place(&mut all, "a");
        let pod = pod("p", "", |p| {
            p["spec"]["nodeSelector"] = json!({"zone": "1"});
            p["spec"]["topologySpreadConstraints"] =
                json!([hard("zone", |c| c["nodeAffinityPolicy"] = json!(policy))]);
        });
        assert_eq!(fit(&mut all, &pod), want, "{policy}");
    }
}

#[test]
fn pods_that_go_are_not_counted() {
    let mut all = cluster();
    all.set_pod(&pod("w", "a", |p| p["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")));
    let wanting = pod("p", "", |p| p["spec"]["topologySpreadConstraints"] = json!([hard("zone", |_| {})]));
    assert_eq!(fit(&mut all, &wanting), "abc");
}

#[test]
fn fuller_zones_score_less() {
    let soft = |key: &str| hard(key, |c| c["whenUnsatisfiable"] = json!("ScheduleAnyway"));
    let mut all = cluster();
    place(&mut all, "aabc");
    let even = |all: &mut Snapshot, constraints: Value| {
        let pod = pod("p", "", |p| p["spec"]["topologySpreadConstraints"] = constraints.clone());
        scores(NAME, &Args::default(), &pod, all)
    };
    // Two zones, ln 4 = 1.386: 3 pods are 4, 1 is 1; (4 + 1 - s) / 4; e has no zone.
    assert_eq!(even(&mut all, json!([soft("zone")])), Some(vec![25, 25, 100, 100, 0]));
    // Five nodes, ln 7 = 1.946: 4, 2, 2, 0, 0.
    assert_eq!(even(&mut all, json!([soft(HOSTNAME)])), Some(vec![0, 50, 50, 100, 100]));
    assert_eq!(even(&mut all, json!([hard("zone", |_| {})])), None);
}

#[test]
fn pods_of_a_service_or_an_owner_spread_by_themselves() {
    let mut all = cluster();
    place(&mut all, "aabc");
    let plain = pod("p", "", |_| {});
    let system = Args::default();
    assert_eq!(scores(NAME, &system, &plain, &mut all), None, "nobody selects it");
    let labels = std::collections::BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    let selector = Arc::new(Selector::exactly(labels.iter()));
    all.surroundings_mut().services.insert(ObjectKey::new("ns", "web"), selector.clone());
    // By node (ln 7, skew 3): 5.9, 3.9, 3.9, 2, 2; by zone (none is a value, too: ln 5, skew 5): 3 pods are 8.8, 1 is 5.6.
    assert_eq!(scores(NAME, &system, &plain, &mut all), Some(vec![13, 26, 46, 60, 100]));
    all.surroundings_mut().services.clear();
    all.surroundings_mut().owners.insert(("ReplicaSet", ObjectKey::new("ns", "rs")), selector);
    let owned = pod("p", "", |p| {
        p["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": true}]);
    });
    assert!(scores(NAME, &system, &owned, &mut all).is_some());
    let mut listed = Args::default();
    let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"});
    listed
        .set(NAME, json!({"defaultingType": "List", "defaultConstraints": [constraint]}))
        .expect("arguments");
    assert_eq!(scores(NAME, &listed, &owned, &mut all), Some(vec![25, 25, 100, 100, 0]));
}
