use serde_json::{Value, json};

use super::*;
use crate::{
    cycle::{Found, Refusal, Search},
    plugins::default_profile,
    selector::Selector,
    snapshot::NodeFacts,
};

/// Nodes of 3 CPU each, with pods of (name, node, cpu, priority, minute of start).
fn cluster(pods: &[(&str, &str, u32, i32, u32)]) -> Snapshot {
    let mut all = Snapshot::default();
    for name in ["a", "b", "c"] {
        let node = json!({"metadata": {"name": name, "labels": {"name": name}},
            "status": {"allocatable": {"cpu": "3", "memory": "8Gi", "pods": "110"}}});
        all.set_node(Arc::new(NodeFacts::new(serde_json::from_value(node).expect("a node"))));
    }
    for (name, node, cpu, priority, minute) in pods {
        all.set_pod(&pod(name, *cpu, *priority, |p| {
            p["spec"]["nodeName"] = json!(node);
            p["status"] = json!({"startTime": format!("2026-01-01T00:{minute:02}:00Z")});
        }));
    }
    all
}

fn pod(name: &str, cpu: u32, priority: i32, change: impl Fn(&mut Value)) -> Arc<PodInfo> {
    let mut pod = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "labels": {"name": name}},
        "spec": {"priority": priority,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu.to_string()}}}]},
    });
    change(&mut pod);
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

fn refused(all: &mut Snapshot, pod: &PodInfo) -> Box<Refusal> {
    all.prepare(pod, &[]);
    match Search::new(1).schedule(&default_profile("s"), pod, all) {
        Found::Node(_) => panic!("it fits"),
        Found::Nothing(refusal) => refusal,
    }
}

/// `a: x y`: where, and who has to go.
fn plan(all: &mut Snapshot, pod: &PodInfo) -> String {
    let refusal = refused(all, pod);
    let Some(plan) = refusal.plan else { return refusal.message };
    let victims: Vec<&str> = plan.victims.iter().map(|p| &*p.reference.key.name).collect();
    format!("{}: {}", plan.node, victims.join(" "))
}

#[test]
fn the_cheapest_node_is_chosen_by_upstreams_rules() {
    let important = pod("p", 2, 100, |_| {});
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str, u32, i32, u32)], &'a str);
    let cases: &[Case<'_>] = &[
        (
            "the lowest highest priority",
            &[("x", "a", 3, 20, 0), ("y", "b", 3, 10, 0), ("z", "c", 3, 30, 0)],
            "b: y",
        ),
        (
            "then the smallest sum",
            &[
                ("x", "a", 1, 10, 0),
                ("x2", "a", 1, 10, 0),
                ("x3", "a", 1, 10, 0),
                ("y", "b", 2, 10, 0),
                ("y2", "b", 1, 200, 0),
                ("z", "c", 3, 30, 0),
            ],
            "b: y",
        ),
        (
            "then those that started last",
            &[("x", "a", 3, 10, 1), ("y", "b", 3, 10, 3), ("z", "c", 3, 10, 2)],
            "b: y",
        ),
        (
            "no more than must",
            &[("x", "a", 1, 10, 0), ("x2", "a", 2, 20, 0), ("y", "b", 3, 100, 0), ("z", "c", 3, 100, 0)],
            "a: x2",
        ),
        (
            "of the same importance, those that started last",
            &[
                ("x", "a", 1, 10, 0),
                ("x2", "a", 1, 10, 5),
                ("x3", "a", 1, 10, 3),
                ("y", "b", 3, 100, 0),
                ("z", "c", 3, 100, 0),
            ],
            "a: x3 x2",
        ),
        (
            "nobody is less important",
            &[("x", "a", 3, 100, 0), ("y", "b", 3, 100, 0), ("z", "c", 3, 200, 0)],
            "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.",
        ),
        (
            "not even without them",
            &[("x", "a", 1, 10, 0), ("x2", "a", 2, 100, 0), ("y", "b", 3, 100, 0), ("z", "c", 3, 200, 0)],
            "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 1 Insufficient cpu, 2 No preemption victims found for incoming pod.",
        ),
    ];
    for (what, pods, want) in cases {
        assert_eq!(plan(&mut cluster(pods), &important), *want, "{what}");
    }
}

#[test]
fn budgets_are_spared_where_that_is_possible() {
    let mut all = cluster(&[("x", "a", 3, 10, 0), ("y", "b", 3, 20, 0), ("z", "c", 3, 30, 0)]);
    let selector = |name: &str| {
        let labels = std::collections::BTreeMap::from([("name".to_owned(), name.to_owned())]);
        Selector::exactly(labels.iter())
    };
    let budget =
        |name: &str, left| Arc::new(Budget { selector: selector(name), left, going: Default::default() });
    let key = |name: &str| tiphys_client::ObjectKey::new("ns", name);
    all.surroundings_mut().budgets.insert(key("x"), budget("x", 0));
    all.surroundings_mut().budgets.insert(key("y"), budget("y", 1));
    assert_eq!(plan(&mut all, &pod("p", 2, 100, |_| {})), "b: y");
    all.surroundings_mut().budgets.insert(key("y"), budget("y", 0));
    all.surroundings_mut().budgets.insert(key("z"), budget("z", 0));
    assert_eq!(plan(&mut all, &pod("p", 2, 100, |_| {})), "a: x", "if there is no other way");
}

#[test]
fn some_may_not_and_some_need_not() {
    let full = [("x", "a", 3, 10, 0), ("y", "b", 3, 10, 0), ("z", "c", 3, 10, 0)];
    let peaceful = pod("p", 2, 100, |p| p["spec"]["preemptionPolicy"] = json!("Never"));
    assert_eq!(
        plan(&mut cluster(&full), &peaceful),
        "0/3 nodes are available: 3 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    );
    let mut all = cluster(&full);
    all.set_pod(&pod("x", 3, 10, |p| {
        p["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        p["spec"]["nodeName"] = json!("a");
        p["status"] = json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]});
    }));
    let waiting = pod("p", 2, 100, |_| {});
    all.nominate(&waiting, "a");
    let refusal = refused(&mut all, &waiting);
    assert!(refusal.plan.is_none() && !refusal.gives_up, "{}", refusal.message);
    assert!(
        refusal.message.ends_with("preemption: not eligible due to a terminating pod on the nominated node.")
    );
    all.remove_pod(&pod("x", 3, 10, |_| {}).reference);
    all.prepare(&waiting, &[]);
    let found = Search::new(1).schedule(&default_profile("s"), &waiting, &all);
    assert!(matches!(found, Found::Node(id) if all.node(id).name() == "a"));
}

#[test]
fn what_no_victim_can_help_is_not_tried() {
    let mut all = cluster(&[("x", "a", 3, 10, 0), ("y", "b", 3, 10, 0), ("z", "c", 3, 10, 0)]);
    let picky = pod("p", 4, 100, |p| p["spec"]["nodeSelector"] = json!({"name": "a"}));
    assert_eq!(
        plan(&mut all, &picky),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match Pod's node affinity/selector. \
         preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
}

#[test]
fn lesser_pods_that_room_was_made_for_look_elsewhere() {
    let mut all = cluster(&[("x", "a", 3, 10, 0), ("y", "b", 3, 200, 0), ("z", "c", 3, 200, 0)]);
    let lesser = pod("lesser", 3, 50, |_| {});
    all.nominate(&lesser, "a");
    let refusal = refused(&mut all, &pod("p", 3, 100, |_| {}));
    let plan = refusal.plan.expect("a plan");
    assert_eq!(plan.displaced.iter().map(|p| &*p.reference.key.name).collect::<Vec<_>>(), ["lesser"]);
}
