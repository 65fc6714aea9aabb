use serde_json::json;

use super::*;

fn pod(name: &str, node: &str, phase: &str) -> Arc<PodInfo> {
    Arc::new(PodInfo::new(
        serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": name, "uid": name},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}],
                "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"phase": phase},
        }))
        .expect("a pod"),
    ))
}

fn cpu(snapshot: &Snapshot, node: &str) -> i64 {
    snapshot.nodes.get(node).map_or(0, |n| n.requested.cpu)
}

#[test]
fn an_assumed_pod_counts_until_it_is_confirmed_or_forgotten() {
    let mut all = Snapshot::default();
    let waiting = pod("a", "", "Pending");
    all.assume(&waiting, "n1");
    assert_eq!(cpu(&all, "n1"), 1000);
    all.set_pod(&waiting);
    assert_eq!(cpu(&all, "n1"), 1000, "a late word from before the binding changes nothing");
    all.forget(&waiting.reference);
    assert_eq!(cpu(&all, "n1"), 0);

    all.assume(&waiting, "n1");
    all.set_pod(&pod("a", "n2", "Pending"));
    assert_eq!((cpu(&all, "n1"), cpu(&all, "n2")), (0, 1000), "the API's word wins");
    all.forget(&waiting.reference);
    assert_eq!(cpu(&all, "n2"), 1000, "what was confirmed is not forgotten");
}

#[test]
fn finished_and_removed_pods_leave_nothing_behind() {
    let mut all = Snapshot::default();
    for end in ["Succeeded", "Failed"] {
        all.set_pod(&pod("a", "n1", "Running"));
        all.set_pod(&pod("a", "n1", "Running"));
        assert_eq!(cpu(&all, "n1"), 1000, "counted once");
        all.set_pod(&pod("a", "n1", end));
        assert!(all.nodes.is_empty() && all.places.is_empty());
    }
    all.set_pod(&pod("a", "n1", "Running"));
    all.remove_pod(&pod("a", "n1", "Running").reference);
    assert!(all.nodes.is_empty() && all.places.is_empty());
}

#[test]
fn pods_may_come_before_their_node_and_outlive_it() {
    let mut all = Snapshot::default();
    all.set_pod(&pod("a", "n1", "Running"));
    assert_eq!(all.nodes().count(), 0);
    all.set_node(Arc::new(NodeFacts { name: "n1".into(), ..Default::default() }));
    assert_eq!(all.nodes().next().map(|(_, n)| n.requested.cpu), Some(1000));
    all.remove_node("n1");
    assert_eq!(all.nodes().count(), 0);
    assert_eq!(cpu(&all, "n1"), 1000);
}
