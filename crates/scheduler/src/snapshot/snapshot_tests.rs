use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn pod(name: &str, change: impl Fn(&mut Value)) -> Arc<PodInfo> {
    let mut pod = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}],
            "resources": {"requests": {"cpu": "1"}}}]},
    });
    change(&mut pod);
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

fn on(name: &str, node: &str, phase: &str) -> Arc<PodInfo> {
    pod(name, |p| {
        p["spec"]["nodeName"] = json!(node);
        p["status"] = json!({"phase": phase});
    })
}

fn node(name: &str, labels: Value) -> Arc<NodeFacts> {
    let node = json!({"metadata": {"name": name, "labels": labels}});
    Arc::new(NodeFacts::new(serde_json::from_value(node).expect("a node")))
}

fn cpu(all: &Snapshot, node: &str) -> i64 {
    all.ids.get(node).map_or(0, |id| all.node(*id).requested.cpu)
}

fn is_empty(all: &Snapshot) -> bool {
    all.ids.is_empty() && all.places.is_empty() && all.nodes.iter().all(|node| node.pods.is_empty())
}

#[test]
fn an_assumed_pod_counts_until_it_is_confirmed_or_forgotten() {
    let mut all = Snapshot::default();
    let waiting = on("a", "", "Pending");
    all.assume(&waiting, "n1");
    assert_eq!(cpu(&all, "n1"), 1000);
    all.set_pod(&waiting);
    assert_eq!(cpu(&all, "n1"), 1000, "a late word from before the binding changes nothing");
    all.forget(&waiting.reference);
    assert_eq!(cpu(&all, "n1"), 0);

    all.assume(&waiting, "n1");
    all.set_pod(&on("a", "n2", "Pending"));
    assert_eq!((cpu(&all, "n1"), cpu(&all, "n2")), (0, 1000), "the API's word wins");
    all.forget(&waiting.reference);
    assert_eq!(cpu(&all, "n2"), 1000, "what was confirmed is not forgotten");
}

#[test]
fn finished_and_removed_pods_leave_nothing_behind() {
    let mut all = Snapshot::default();
    for end in ["Succeeded", "Failed"] {
        all.set_pod(&on("a", "n1", "Running"));
        all.set_pod(&on("a", "n1", "Running"));
        assert_eq!(cpu(&all, "n1"), 1000, "counted once");
        all.set_pod(&on("a", "n1", end));
        assert!(is_empty(&all));
    }
    all.set_pod(&on("a", "n1", "Running"));
    all.remove_pod(&on("a", "n1", "Running").reference);
    assert!(is_empty(&all));
    all.set_node(node("n2", json!({})));
    assert_eq!(all.nodes.len(), 1, "the number of a node that is gone is given out again");
}

#[test]
fn pods_may_come_before_their_node_and_outlive_it() {
    let mut all = Snapshot::default();
    all.set_pod(&on("a", "n1", "Running"));
    assert!(all.find("n1").is_none());
    all.set_node(node("n1", json!({})));
    assert_eq!(all.find("n1").map(|n| n.requested.cpu), Some(1000));
    all.remove_node("n1");
    assert!(all.find("n1").is_none());
    assert_eq!(cpu(&all, "n1"), 1000);
}

#[test]
fn zones_are_tried_in_turn() {
    let mut all = Snapshot::default();
    for (name, zone) in [("a", "x"), ("b", "x"), ("c", "y"), ("d", "x"), ("e", "z")] {
        all.set_node(node(name, json!({"topology.kubernetes.io/zone": zone})));
    }
    all.prepare(&pod("p", |_| {}), &[]);
    let names: Vec<_> = all.order().iter().map(|id| all.node(*id).name()).collect();
    assert_eq!(names, ["a", "c", "e", "b", "d"]);
}

#[test]
fn a_nomination_ends_when_the_pod_has_a_node_or_is_no_more() {
    let mut all = Snapshot::default();
    all.set_node(node("n1", json!({})));
    let waiting = pod("a", |p| p["status"] = json!({"nominatedNodeName": "n1"}));
    let id = all.find("n1").expect("a node").id;
    all.set_pod(&waiting);
    assert_eq!(all.nominated(id).len(), 1);
    all.assume(&waiting, "n1");
    assert_eq!(all.nominated(id).len(), 0);
    all.forget(&waiting.reference);
    all.nominate(&waiting, "n1");
    all.remove_pod(&waiting.reference);
    assert_eq!(all.nominated(id).len(), 0);
    assert!(all.nomination(&waiting.reference).is_none());
}

/// A change of the cluster.
#[derive(Clone, Debug)]
enum Step {
    Node { name: u8, zone: u8 },
    NoNode(u8),
    Pod { name: u8, node: u8, label: u8, terms: u8, going: bool },
    NoPod(u8),
    Assume { name: u8, node: u8 },
    Forget(u8),
    Namespace(u8),
    Ask(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..5_u8, 0..4_u8).prop_map(|(name, zone)| Step::Node { name, zone }),
        (0..5_u8).prop_map(Step::NoNode),
        (0..8_u8, 0..6_u8, 0..3_u8, 0..5_u8, any::<bool>())
            .prop_map(|(name, node, label, terms, going)| Step::Pod { name, node, label, terms, going }),
        (0..8_u8).prop_map(Step::NoPod),
        (0..8_u8, 0..5_u8).prop_map(|(name, node)| Step::Assume { name, node }),
        (0..8_u8).prop_map(Step::Forget),
        (0..3_u8).prop_map(Step::Namespace),
        (0..5_u8).prop_map(Step::Ask),
    ];
    proptest::collection::vec(step, 0..60)
}

/// A pod on a node (5: on none), with one of a few labels, that asks one of a few things of others.
fn wishing(name: u8, node: u8, label: u8, terms: u8, going: bool) -> Arc<PodInfo> {
    pod(&format!("p{name}"), |p| {
        p["metadata"]["labels"] = json!({"app": format!("l{label}")});
        if node < 5 {
            p["spec"]["nodeName"] = json!(format!("n{node}"));
        }
        if going {
            p["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let selector = json!({"matchLabels": {"app": "l1"}});
        let term = |key: &str| json!({"labelSelector": selector, "topologyKey": key});
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        p["spec"]["affinity"] = match terms {
            1 => json!({"podAntiAffinity": {required: [term("host"), term("zone")]}}),
            2 => json!({"podAffinity": {required: [term("zone")]}}),
            3 => {
                let mut term = term("zone");
                term["namespaceSelector"] = json!({"matchLabels": {"team": "t1"}});
                json!({"podAffinity": {preferred: [{"weight": 7, "podAffinityTerm": term}]}})
            }
            _ => Value::Null,
        };
        if terms == 4 {
            p["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]);
        }
    })
}

/// What of the snapshot must not depend on how it came about.
fn told(all: &Snapshot) -> impl PartialEq + std::fmt::Debug + use<> {
    let nodes = all.ids.iter().map(|(name, id)| {
        let node = all.node(*id);
        let mut pods: Vec<_> = node.pods.iter().map(|p| p.reference.clone()).collect();
        pods.sort();
        (name.to_string(), node.exists, pods, node.requested.clone(), node.weight, node.host_ports.len())
    });
    (nodes.collect::<Vec<_>>(), all.counts.named(), all.traits)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn single_changes_come_to_what_counting_anew_comes_to(steps in steps()) {
        let mut all = Snapshot::default();
        let mut asked = Vec::new();
        for step in steps {
            match step {
                Step::Node { name, zone } => {
                    let mut labels = json!({"host": format!("n{name}")});
                    // The last zone is none.
                    if zone < 3 {
                        labels["zone"] = json!(format!("z{zone}"));
                    }
                    all.set_node(node(&format!("n{name}"), labels));
                }
                Step::NoNode(name) => all.remove_node(&format!("n{name}")),
                Step::Pod { name, node, label, terms, going } => {
                    all.set_pod(&wishing(name, node, label, terms, going));
                }
                Step::NoPod(name) => all.remove_pod(&wishing(name, 5, 0, 0, false).reference),
                Step::Assume { name, node } => {
                    all.assume(&wishing(name, 5, 1, 1, false), &format!("n{node}"));
                }
                Step::Forget(name) => all.forget(&wishing(name, 5, 0, 0, false).reference),
                Step::Namespace(team) => {
                    let labels = Labels::from([("team".to_owned(), format!("t{team}"))]);
                    all.set_namespace("ns", Some(labels));
                    asked.retain(|terms| *terms != 3);
                }
                Step::Ask(terms) => {
                    all.prepare(&wishing(9, 5, 0, terms, false), &[]);
                    asked.push(terms);
                }
            }
        }
        let mut anew = Snapshot { surroundings: all.surroundings.clone(), ..Snapshot::default() };
        for node in all.nodes.iter().filter(|node| node.exists) {
            anew.set_node(node.facts.clone());
        }
        for (name, id) in &all.ids {
            for pod in &all.node(*id).pods {
                anew.place(pod.clone(), name);
            }
        }
        for terms in asked {
            anew.prepare(&wishing(9, 5, 0, terms, false), &[]);
        }
        prop_assert_eq!(told(&all), told(&anew));
    }
}
