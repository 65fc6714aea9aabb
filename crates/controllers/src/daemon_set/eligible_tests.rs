use serde_json::{Value, json};

use super::*;

fn set(change: impl Fn(&mut Value)) -> DaemonSet {
    let mut set = json!({
        "metadata": {"name": "agent", "namespace": "ns", "uid": "set",
            "annotations": {"deprecated.daemonset.template.generation": "7"}},
        "spec": {"selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": []}}},
    });
    change(&mut set["spec"]["template"]["spec"]);
    serde_json::from_value(set).expect("a set")
}

fn node(labels: Value, taints: Value) -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n1", "labels": labels}, "spec": {"taints": taints}}))
        .expect("a node")
}

#[test]
fn a_pod_belongs_where_its_template_would_go() {
    let affinity = |operator: &str| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "disk", "operator": operator}]}]}}})
    };
    let taint = |key: &str, effect: &str| json!([{"key": key, "effect": effect}]);
    let cases = [
        (json!({}), json!({}), json!([]), Eligible::Yes),
        (json!({"nodeName": "n1"}), json!({}), json!([]), Eligible::Yes),
        (json!({"nodeName": "n2"}), json!({}), json!([]), Eligible::No),
        (json!({"nodeSelector": {"disk": "ssd"}}), json!({"disk": "ssd"}), json!([]), Eligible::Yes),
        (json!({"nodeSelector": {"disk": "ssd"}}), json!({"disk": "hdd"}), json!([]), Eligible::No),
        (json!({"affinity": affinity("Exists")}), json!({}), json!([]), Eligible::No),
        (json!({"affinity": affinity("DoesNotExist")}), json!({}), json!([]), Eligible::Yes),
        (json!({}), json!({}), taint("mine", "NoSchedule"), Eligible::ToStay),
        (json!({}), json!({}), taint("mine", "NoExecute"), Eligible::No),
        (json!({}), json!({}), taint("mine", "PreferNoSchedule"), Eligible::Yes),
        (
            json!({"tolerations": [{"operator": "Exists"}]}),
            json!({}),
            taint("mine", "NoExecute"),
            Eligible::Yes,
        ),
        (json!({}), json!({}), taint("node.kubernetes.io/not-ready", "NoExecute"), Eligible::Yes),
        (json!({}), json!({}), taint("node.kubernetes.io/unreachable", "NoExecute"), Eligible::Yes),
        (json!({}), json!({}), taint("node.kubernetes.io/unschedulable", "NoSchedule"), Eligible::Yes),
        (json!({}), json!({}), taint("node.kubernetes.io/disk-pressure", "NoSchedule"), Eligible::Yes),
        (json!({}), json!({}), taint("node.kubernetes.io/memory-pressure", "NoSchedule"), Eligible::Yes),
        (json!({}), json!({}), taint("node.kubernetes.io/pid-pressure", "NoSchedule"), Eligible::Yes),
        (
            json!({}),
            json!({}),
            taint("node.kubernetes.io/network-unavailable", "NoSchedule"),
            Eligible::ToStay,
        ),
        (
            json!({"hostNetwork": true}),
            json!({}),
            taint("node.kubernetes.io/network-unavailable", "NoSchedule"),
            Eligible::Yes,
        ),
    ];
    for (spec, labels, taints, want) in cases {
        let set = set(|s| {
            for (name, value) in spec.as_object().into_iter().flatten() {
                s[name] = value.clone();
            }
        });
        let node = node(labels, taints);
        assert_eq!(Eligibility::of(&set).of_node(&node), want, "{spec}, {node:?}");
    }
}

#[test]
fn a_pod_names_its_node_and_bears_what_befalls_it() {
    let with_its_own = set(|s| {
        s["tolerations"] = json!([
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
            {"key": "mine", "operator": "Exists"}]);
        s["affinity"] = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "disk", "operator": "Exists"}]}]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}});
    });
    let pod = serde_json::to_value(pod(&with_its_own, "5f", "n1")).expect("a pod");
    assert_eq!(pod["metadata"]["generateName"], "agent-");
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "agent", "controller-revision-hash": "5f", "pod-template-generation": "7"})
    );
    let affinity = &pod["spec"]["affinity"]["nodeAffinity"];
    assert_eq!(
        affinity["requiredDuringSchedulingIgnoredDuringExecution"],
        json!({"nodeSelectorTerms": [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]})
    );
    assert!(affinity["preferredDuringSchedulingIgnoredDuringExecution"].is_array(), "wishes are kept");
    let tolerations = pod["spec"]["tolerations"].as_array().expect("tolerations");
    assert_eq!(tolerations.len(), 7);
    assert!(tolerations.iter().all(|t| t.get("tolerationSeconds").is_none()), "forever: {tolerations:?}");
    // Its controller finds it under the node, before it is bound.
    let pod: crate::pod::Pod = serde_json::from_value(pod).expect("a pod");
    assert_eq!(crate::pods::target_node(&pod), Some("n1"));
}
