use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

/// A claim that has g0 and g1 of a pool, for the pod of UID `p`.
fn claim(tolerations: Value) -> ResourceClaim {
    let given = |device: &str| json!({"request": "r", "driver": "d.io", "pool": "n", "device": device, "tolerations": tolerations});
    let claim = json!({"metadata": {"namespace": "a", "name": "c"}, "spec": {}, "status": {
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "p"}],
        "allocation": {"devices": {"results": [given("g0"), given("g1")]}}}});
    serde_json::from_value(claim).expect("a claim")
}

fn slice(generation: i64, device: &str, taints: Value) -> Arc<ResourceSlice> {
    let slice = json!({"metadata": {"name": "s"}, "spec": {"driver": "d.io", "nodeName": "n",
        "pool": {"name": "n", "generation": generation, "resourceSliceCount": 1},
        "devices": [{"name": device, "taints": taints}]}});
    Arc::new(serde_json::from_value(slice).expect("a slice"))
}

fn taint(effect: &str, since: &str) -> Value {
    json!({"key": "k", "value": "v", "effect": effect, "timeAdded": since})
}

fn rule(uid: &str, selector: Value, taint: Value) -> Arc<DeviceTaintRule> {
    let rule =
        json!({"metadata": {"name": uid, "uid": uid}, "spec": {"deviceSelector": selector, "taint": taint}});
    Arc::new(serde_json::from_value(rule).expect("a rule"))
}

fn at(when: &str, rules: &[&str]) -> Option<Eviction> {
    let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
    Some(Eviction { when: when.parse().expect("a time"), rules })
}

#[test]
fn pods_leave_when_the_first_taint_is_borne_no_longer() {
    let (early, late) = ("2026-01-01T11:00:00Z", "2026-01-01T11:30:00Z");
    let exists =
        |seconds: Value| json!([{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    let driven = |since| slice(1, "g1", json!([taint("NoExecute", since)]));
    let all = |uid: &str, since| rule(uid, json!({}), taint("NoExecute", since));
    for (why, tolerations, slices, rules, wanted) in [
        ("no taint", json!([]), vec![], vec![], None),
        ("a driver's", json!([]), vec![driven(early)], vec![], at(early, &[])),
        (
            "another device's",
            json!([]),
            vec![slice(1, "g2", json!([taint("NoExecute", early)]))],
            vec![],
            None,
        ),
        (
            "another effect",
            json!([]),
            vec![slice(1, "g1", json!([taint("NoSchedule", early)]))],
            vec![],
            None,
        ),
        ("of an older slice", json!([]), vec![driven(early), slice(2, "g1", json!([]))], vec![], None),
        ("borne for ever", exists(Value::Null), vec![driven(early)], vec![], None),
        ("borne for long", exists(json!(60)), vec![driven(early)], vec![], at("2026-01-01T11:01:00Z", &[])),
        ("less than no time", exists(json!(-5)), vec![driven(early)], vec![], at(early, &[])),
        (
            "the shorter of two",
            json!([{"operator": "Exists", "tolerationSeconds": 90}, {"key": "k", "value": "v", "tolerationSeconds": 30}]),
            vec![driven(early)],
            vec![],
            at("2026-01-01T11:00:30Z", &[]),
        ),
        ("another's value", json!([{"key": "k", "value": "w"}]), vec![driven(early)], vec![], at(early, &[])),
        (
            "another effect is borne",
            json!([{"operator": "Exists", "effect": "NoSchedule"}]),
            vec![driven(early)],
            vec![],
            at(early, &[]),
        ),
        ("a rule's", json!([]), vec![], vec![all("r", late)], at(late, &["r"])),
        ("both", json!([]), vec![driven(late)], vec![all("r", early)], at(early, &["r"])),
        (
            "of two rules, one for another driver",
            json!([]),
            vec![],
            vec![all("r", early), rule("q", json!({"driver": "e.io"}), taint("NoExecute", early))],
            at(early, &["r"]),
        ),
        (
            "a rule about nothing",
            json!([]),
            vec![],
            vec![rule("r", Value::Null, taint("NoExecute", early))],
            None,
        ),
        (
            "nobody knows since when",
            json!([]),
            vec![],
            vec![rule("r", json!({"device": "g0"}), json!({"key": "k", "effect": "NoExecute"}))],
            at(NOW, &["r"]),
        ),
    ] {
        let of_pool = |name: &str| if name == "d.io/n" { slices.clone() } else { Vec::new() };
        assert_eq!(of_claim(&claim(tolerations), of_pool, &rules, now()), wanted, "{why}");
    }
}

#[test]
fn only_pods_that_use_their_claims_leave() {
    let pod = |change: fn(&mut Value)| {
        let mut pod = json!({"metadata": {"namespace": "a", "name": "p", "uid": "p"},
            "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running"}});
        change(&mut pod);
        serde_json::from_value::<Pod>(pod).expect("a pod")
    };
    let when = |claim: &ResourceClaim| match claim.metadata.name.as_deref() {
        Some("early") => at("2026-01-01T11:00:00Z", &["r"]),
        Some("late") => at("2026-01-01T11:30:00Z", &["q"]),
        _ => None,
    };
    let named = |names: &[&str]| {
        let claims = names.iter().map(|name| {
            let mut claim = claim(json!([]));
            claim.metadata.name = Some((*name).to_owned());
            Arc::new(claim)
        });
        claims.collect::<Vec<_>>()
    };
    let both = at("2026-01-01T11:00:00Z", &["q", "r"]);
    let running = pod(|_| {});
    for (pod, names, wanted) in [
        (&running, &["early", "late", "never"][..], both),
        (&running, &["never"], None),
        (&pod(|p| p["metadata"]["uid"] = json!("other")), &["early"], None),
        (&pod(|p| p["spec"]["nodeName"] = Value::Null), &["early"], None),
        (&pod(|p| p["status"]["phase"] = json!("Succeeded")), &["early"], None),
        (&pod(|p| p["metadata"]["deletionTimestamp"] = json!(NOW)), &["early"], None),
    ] {
        assert_eq!(of_pod(pod, named(names).into_iter(), when), wanted);
    }
}

#[test]
fn a_rule_says_how_far_it_is() {
    let known =
        |pods, namespaces, evicted| Reckoning { pods, namespaces, published: 1, allocated: 2, evicted };
    for (effect, known, wanted) in [
        ("NoExecute", known(0, 0, 0), (false, "NotStarted", "")),
        (
            "NoExecute",
            known(1, 1, 0),
            (true, "PodsPendingEviction", "1 pod needs to be evicted in 1 namespace."),
        ),
        (
            "NoExecute",
            known(3, 2, 1),
            (
                true,
                "PodsPendingEviction",
                "3 pods need to be evicted in 2 different namespaces. 1 pod evicted since starting the controller.",
            ),
        ),
        ("NoExecute", known(0, 0, 2), (false, "Completed", "2 pods evicted since starting the controller.")),
        (
            "NoSchedule",
            known(0, 0, 0),
            (false, "OtherEffect", "Eviction only happens for the NoExecute effect."),
        ),
    ] {
        let (going, reason, message) = told(effect, known);
        assert_eq!((going, reason, &*message), wanted);
    }
    let (going, reason, message) = told("None", known(1, 1, 0));
    let begin =
        "1 published device selected. 2 allocated devices selected. 1 pod would be evicted in 1 namespace if";
    assert!(!going && reason == "NoEffect" && message.starts_with(begin), "{message}");
}
