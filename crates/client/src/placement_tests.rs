use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

#[test]
fn quantities_are_rounded_up_and_other_text_is_refused() {
    let cases = [("1", 1000, 1), ("500m", 500, 1), ("0.1", 100, 1), ("2Ki", 2_048_000, 2048), ("100u", 1, 1)];
    for (text, m, u) in cases {
        let q = Quantity(text.to_owned());
        assert_eq!((milli(&q), units(&q)), (Some(m), Some(u)), "{text}");
    }
    assert_eq!(milli(&Quantity("1Q".to_owned())), None);
    assert_eq!(units(&Quantity(String::new())), None);
}

#[test]
fn a_toleration_covers_what_it_names_and_all_that_it_leaves_open() {
    let taint = read(json!({"key": "k", "value": "7", "effect": "NoExecute"}));
    let cases = [
        (json!({"operator": "Exists"}), true),
        (json!({"key": "k", "operator": "Exists"}), true),
        (json!({"key": "other", "operator": "Exists"}), false),
        (json!({"key": "k", "value": "7"}), true),
        (json!({"key": "k", "value": "8", "operator": "Equal"}), false),
        (json!({"key": "k", "value": "7", "effect": "NoExecute"}), true),
        (json!({"key": "k", "value": "7", "effect": "NoSchedule"}), false),
        (json!({"key": "k", "operator": "Lt", "value": "8"}), true),
        (json!({"key": "k", "operator": "Lt", "value": "7"}), false),
        (json!({"key": "k", "operator": "Gt", "value": "6"}), true),
        (json!({"key": "k", "operator": "Gt", "value": "many"}), false),
        (json!({"key": "k", "operator": "Near", "value": "7"}), false),
    ];
    for (toleration, covers) in cases {
        assert_eq!(tolerates(&read(toleration.clone()), &taint), covers, "{toleration}");
    }
}

#[test]
fn node_selectors_are_alternatives_of_conditions() {
    let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned()), ("cores".to_owned(), "8".to_owned())]);
    let condition = |key: &str, operator: &str, values: Value| json!({"key": key, "operator": operator, "values": values});
    let cases = [
        (condition("zone", "In", json!(["a", "b"])), true),
        (condition("zone", "NotIn", json!(["a"])), false),
        (condition("none", "NotIn", json!(["a"])), true),
        (condition("zone", "Exists", json!([])), true),
        (condition("none", "Exists", json!([])), false),
        (condition("none", "DoesNotExist", json!([])), true),
        (condition("cores", "Gt", json!(["7"])), true),
        (condition("cores", "Gt", json!(["8"])), false),
        (condition("cores", "Lt", json!(["9"])), true),
        (condition("zone", "Lt", json!(["9"])), false),
        (condition("zone", "Like", json!(["a"])), false),
    ];
    for (condition, wanted) in cases {
        let term = read(json!({"matchExpressions": [condition]}));
        assert_eq!(term_matches(&term, "n1", &labels), wanted, "{condition}");
    }
    let by_name = json!({"matchFields": [condition("metadata.name", "In", json!(["n1"]))]});
    let all = |terms: Value| read::<NodeSelector>(json!({"nodeSelectorTerms": terms}));
    assert!(selector_matches(&all(json!([by_name])), "n1", &labels));
    assert!(!selector_matches(&all(json!([by_name])), "n2", &labels));
    assert!(!selector_matches(&all(json!([{}])), "n1", &labels), "an empty term describes no node");
    assert!(selector_matches(&all(json!([{}, by_name])), "n1", &labels));
    assert!(!selector_matches(&all(json!([])), "n1", &labels));
}

#[test]
fn a_host_port_is_given_once_on_each_address() {
    let port =
        |port: i32, ip: &str, protocol: &str| HostPort { ip: ip.into(), protocol: protocol.into(), port };
    let taken = port(80, "10.0.0.1", "TCP");
    let cases = [
        (port(80, "", "TCP"), true),
        (port(80, "::", "TCP"), true),
        (port(80, "10.0.0.1", "TCP"), true),
        (port(80, "10.0.0.2", "TCP"), false),
        (port(80, "10.0.0.1", "UDP"), false),
        (port(81, "10.0.0.1", "TCP"), false),
    ];
    for (wanted, clash) in cases {
        assert_eq!(wanted.clashes(&taken), clash, "{wanted:?}");
        assert_eq!(taken.clashes(&wanted), clash, "{wanted:?}");
    }
    let spec: PodSpec = read(json!({
        "containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 81, "hostIP": "10.0.0.1"}, {"containerPort": 2}]}],
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "ports": [{"containerPort": 1, "hostPort": 82, "protocol": "UDP"}]},
            {"name": "i", "ports": [{"containerPort": 1, "hostPort": 83}]}],
    }));
    assert_eq!(HostPort::of(&spec).collect::<Vec<_>>(), [port(81, "10.0.0.1", "TCP"), port(82, "", "UDP")]);
}

#[test]
fn a_pod_needs_the_most_of_its_phases() {
    let container = |amount: Option<&str>, policy: Option<&str>| {
        let mut c = json!({"name": "c", "restartPolicy": policy});
        if let Some(amount) = amount {
            c["resources"] = json!({"requests": {"cpu": amount}});
        }
        c
    };
    let cpu = |r: &ResourceRequirements| r.requests.as_ref()?.get("cpu").and_then(milli);
    let side = |amount| container(Some(amount), Some("Always"));
    let once = |amount| container(Some(amount), None);
    let cases = [
        // init containers, main containers, the pod's own, the answer
        (json!([]), json!([once("300m"), once("0.2")]), None, 500),
        (json!([once("2"), side("100m"), once("1")]), json!([once("300m")]), None, 2000),
        (json!([side("50m"), once("200m")]), json!([once("100m")]), None, 250),
        (json!([once("200m"), side("50m")]), json!([once("300m")]), None, 350),
        (json!([once("2")]), json!([once("1")]), Some("3"), 3000),
    ];
    for (init, main, whole, wanted) in cases {
        let mut spec = json!({"initContainers": init, "containers": main});
        if let Some(whole) = whole {
            spec["resources"] = json!({"requests": {"cpu": whole}});
        }
        let spec: PodSpec = read(spec);
        assert_eq!(need(&spec, cpu, 10, Some(0)), Some(wanted + 10));
    }
    let spec: PodSpec = read(json!({"containers": [once("1"), container(None, None)]}));
    assert_eq!(need(&spec, cpu, 0, Some(0)), Some(1000));
    assert_eq!(need(&spec, cpu, 0, None), None, "one container is without a limit");
}
