use jiff::SignedDuration;
use serde_json::Value;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

fn pod(tolerations: Value, seconds_ago: i64) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "creationTimestamp": ago(1000).to_string()},
        "spec": {"containers": [], "tolerations": tolerations},
        "status": {"conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": ago(seconds_ago).to_string()}]},
    }))
    .expect("a pod")
}

fn taint(key: &str, seconds_ago: Option<i64>) -> Taint {
    let time = seconds_ago.map(|s| ago(s).to_string());
    serde_json::from_value(json!({"key": key, "effect": "NoExecute", "timeAdded": time})).expect("a taint")
}

fn seconds(s: u64) -> Option<Duration> {
    Some(Duration::from_secs(s))
}

#[test]
fn pods_stay_for_as_long_as_they_bear_every_taint() {
    let since = |t: &Taint| t.time_added.as_ref().map(|t| t.0);
    let a = [taint("a", Some(100))];
    let both = [taint("a", Some(100)), taint("b", Some(10))];
    let exists =
        |key: &str, time: Option<i64>| json!({"key": key, "operator": "Exists", "tolerationSeconds": time});
    let cases: Vec<(Value, i64, &[Taint], Option<Duration>)> = vec![
        (json!([]), 500, &a, seconds(0)),
        (json!([exists("a", None)]), 500, &a, None),
        (json!([{"operator": "Exists"}]), 500, &both, None),
        (json!([exists("a", Some(300))]), 500, &a, seconds(200)),
        (json!([exists("a", Some(60))]), 500, &a, seconds(0)),
        // A pod that came to a node that had the taint already has all its time.
        (json!([exists("a", Some(300))]), 20, &a, seconds(280)),
        (json!([{"key": "a", "operator": "Equal", "value": "x"}]), 500, &a, seconds(0)),
        (json!([exists("b", None)]), 500, &a, seconds(0)),
        (json!([exists("a", None), exists("a", Some(1))]), 500, &a, None),
        (json!([exists("a", Some(300)), exists("b", Some(100))]), 500, &both, seconds(90)),
        (json!([exists("a", None), exists("b", Some(100))]), 500, &both, seconds(90)),
    ];
    for (tolerations, came, taints, want) in cases {
        assert_eq!(stays(&pod(tolerations.clone(), came), taints, since, now()), want, "{tolerations}");
    }
}

#[test]
fn taints_that_do_not_say_since_when_are_noted() {
    let mut since = Since::new();
    let key = ObjectKey::new("", "n");
    note(&mut since, &key, &[taint("told", Some(5)), taint("silent", None)], ago(9));
    note(&mut since, &key, &[taint("silent", None), taint("new", None)], now());
    let noted: Vec<_> = since[&key].iter().map(|((key, _), at)| (key.as_str(), *at)).collect();
    assert_eq!(noted, [("new", now()), ("silent", ago(9))]);
    note(&mut since, &key, &[taint("told", Some(5))], now());
    assert_eq!(since, Since::new(), "nothing stays of what is gone");
}
