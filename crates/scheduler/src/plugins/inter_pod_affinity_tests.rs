use std::sync::Arc;

use serde_json::{Value, json};

use super::super::tests::{node_named, scores};
use super::*;
use crate::{
    cycle::{Found, Search},
    plugins::{args::Args, default_profile},
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Two zones: a and b in the first, c in the second, d in none.
fn cluster() -> Snapshot {
    let mut all = Snapshot::default();
    for (name, zone) in [("a", "1"), ("b", "1"), ("c", "2"), ("d", "")] {
        all.set_node(Arc::new(node_named(name, |n| {
            n["metadata"]["labels"] = json!({"host": name});
            if !zone.is_empty() {
                n["metadata"]["labels"]["zone"] = json!(zone);
            }
        })));
    }
    all
}

fn pod(name: &str, app: &str, node: &str, affinity: Value) -> Arc<PodInfo> {
    let pod = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "labels": {"app": app, "hash": "h1"}},
        "spec": {"nodeName": node, "containers": [], "affinity": affinity},
    });
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

/// The nodes where the pod may go.
fn fit(all: &mut Snapshot, pod: &PodInfo) -> String {
    all.prepare(pod, &[]);
    let (_, sifted) = Search::new(1).sift(&default_profile("s"), pod, all);
    let mut names: Vec<&str> = sifted.fit.iter().map(|id| all.node(*id).name()).collect();
    names.sort_unstable();
    names.concat()
}

#[test]
fn terms_keep_pods_together_and_apart() {
    let near = |app: &str, key: &str| json!({"podAffinity": {REQUIRED: [term(app, key)]}});
    let far = |app: &str, key: &str| json!({"podAntiAffinity": {REQUIRED: [term(app, key)]}});
    let mut elsewhere = term("web", "zone");
    elsewhere["namespaces"] = json!(["other"]);
    let mut everywhere = term("web", "zone");
    everywhere["namespaceSelector"] = json!({});
    let mut same_hash = term("web", "zone");
    same_hash["matchLabelKeys"] = json!(["hash"]);
    let mut other_hash = same_hash.clone();
    other_hash["mismatchLabelKeys"] = other_hash["matchLabelKeys"].take();
    let cases: Vec<(&str, Value, &str)> = vec![
        ("nothing asked", Value::Null, "abcd"),
        ("in the zone of one", near("web", "zone"), "ab"),
        ("on the node of one", near("web", "host"), "a"),
        ("with nobody there", near("db", "zone"), ""),
        ("with itself, as the first", near("self", "zone"), "abc"),
        ("apart by zone", far("web", "zone"), "cd"),
        ("apart by node", far("web", "host"), "bcd"),
        ("apart by a label that no node has", far("web", "rack"), "abcd"),
        ("another namespace", json!({"podAffinity": {REQUIRED: [elsewhere]}}), ""),
        ("any namespace", json!({"podAffinity": {REQUIRED: [everywhere]}}), "ab"),
        ("both of two", json!({"podAffinity": {REQUIRED: [term("web", "zone"), term("web", "host")]}}), "a"),
        ("of its own revision", json!({"podAffinity": {REQUIRED: [same_hash]}}), "ab"),
        ("of another revision", json!({"podAffinity": {REQUIRED: [other_hash]}}), ""),
    ];
    for (what, affinity, want) in cases {
        let mut all = cluster();
        all.set_pod(&pod("w", "web", "a", Value::Null));
        assert_eq!(fit(&mut all, &pod("p", "self", "", affinity)), want, "{what}");
    }
}

#[test]
fn placed_pods_keep_others_away_until_they_go() {
    let mut all = cluster();
    let guard = pod("g", "guard", "a", json!({"podAntiAffinity": {REQUIRED: [term("web", "zone")]}}));
    all.set_pod(&guard);
    let web = pod("p", "web", "", Value::Null);
    assert_eq!(fit(&mut all, &web), "cd");
    assert_eq!(fit(&mut all, &pod("p", "db", "", Value::Null)), "abcd");
    all.remove_pod(&guard.reference);
    assert_eq!(fit(&mut all, &web), "abcd");
}

#[test]
fn preferences_of_both_sides_score() {
    let affinity = |all: &mut Snapshot, pod: &PodInfo, args: &Args| scores(NAME, args, pod, all);
    let mut all = cluster();
    all.set_pod(&pod("w", "web", "a", Value::Null));
    all.set_pod(&pod("d", "db", "c", Value::Null));
    let args = Args::default();
    let likes = json!({
        "podAffinity": {PREFERRED: [{"weight": 10, "podAffinityTerm": term("web", "zone")}]},
        "podAntiAffinity": {PREFERRED: [{"weight": 30, "podAffinityTerm": term("db", "zone")}]},
    });
    // a and b 10, c -30, d nothing.
    assert_eq!(affinity(&mut all, &pod("p", "x", "", likes), &args), Some(vec![100, 100, 0, 75]));
    assert_eq!(affinity(&mut all, &pod("p", "x", "", Value::Null), &args), None);
    // What a placed pod requires counts a little, what it prefers by its weight.
    all.set_pod(&pod("r", "r", "a", json!({"podAffinity": {REQUIRED: [term("web", "host")]}})));
    let prefers = json!({"podAffinity": {PREFERRED: [{"weight": 4, "podAffinityTerm": term("x", "host")}]}});
    all.set_pod(&pod("l", "l", "c", prefers));
    assert_eq!(affinity(&mut all, &pod("p", "web", "", Value::Null), &args), Some(vec![100, 0, 0, 0]));
    assert_eq!(affinity(&mut all, &pod("p", "x", "", Value::Null), &args), Some(vec![0, 0, 100, 0]));
    let mut ignoring = Args::default();
    ignoring
        .set(NAME, json!({"hardPodAffinityWeight": 0, "ignorePreferredTermsOfExistingPods": true}))
        .expect("arguments");
    assert_eq!(affinity(&mut all, &pod("p", "x", "", Value::Null), &ignoring), None);
}

#[test]
fn less_important_pods_that_keep_it_away_make_room() {
    let mut all = cluster();
    all.set_pod(&pod("g", "guard", "c", json!({"podAntiAffinity": {REQUIRED: [term("web", "zone")]}})));
    let mut wanting =
        PodInfo::clone(&pod("p", "web", "", json!({"podAffinity": {REQUIRED: [term("web", "zone")]}})));
    wanting.priority = 5;
    wanting.node_selector = vec![("host".into(), "c".into())];
    all.prepare(&wanting, &[]);
    let Found::Nothing(refusal) = Search::new(1).schedule(&default_profile("s"), &wanting, &all) else {
        panic!("the guard is there")
    };
    let plan = refusal.plan.expect("the guard can go");
    assert_eq!((&*plan.node, plan.victims.len()), ("c", 1));
}

#[test]
fn events_that_change_nothing_for_it_do_not_help() {
    let plugin = InterPodAffinity(AffinityArgs::default());
    let wants = pod("p", "x", "", json!({"podAffinity": {REQUIRED: [term("web", "zone")]}}));
    let shuns = pod("p", "x", "", json!({"podAntiAffinity": {REQUIRED: [term("web", "zone")]}}));
    let (web, db) = (pod("w", "web", "a", Value::Null), pod("d", "db", "a", Value::Null));
    for (what, pod, event, helps) in [
        ("one to be with comes", &wants, Event::PodPlaced(&web), true),
        ("another comes", &wants, Event::PodPlaced(&db), false),
        ("one to be with goes", &wants, Event::PodLeft(&web), false),
        ("one to shun goes", &shuns, Event::PodLeft(&web), true),
        ("another goes", &shuns, Event::PodLeft(&db), false),
        ("one to shun becomes another", &shuns, Event::PlacedPodChanged { old: &web, new: &db }, true),
        ("another becomes one to be with", &wants, Event::PlacedPodChanged { old: &db, new: &web }, true),
        ("one that shuns it goes", &web, Event::PodLeft(&shuns), true),
    ] {
        assert_eq!(plugin.hint(pod, &event, &Surroundings::default()), helps, "{what}");
    }
}
