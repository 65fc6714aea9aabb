use serde_json::json;

use super::*;

fn pods() -> Vec<PodMetrics> {
    let list = json!({"items": [
        {"metadata": {"name": "a"}, "timestamp": "2026-01-01T00:00:30Z", "window": "1m30.5s", "containers": [
            {"name": "web", "usage": {"cpu": "1500000n", "memory": "1Ki"}}, {"name": "log", "usage": {"cpu": "2m"}}]},
        {"metadata": {"name": "b"}, "timestamp": "2026-01-01T00:00:31Z", "window": "?", "containers": [
            {"name": "log", "usage": {"cpu": "2m"}}]},
        {"metadata": {"name": "c"}, "timestamp": "2026-01-01T00:00:31Z", "window": "15s"},
    ]});
    serde_json::from_value::<List<PodMetrics>>(list).expect("a list").items
}

#[test]
fn a_pod_uses_what_its_containers_use() {
    let told = |resource, container| -> Vec<(String, i64)> {
        of_resource(&pods(), resource, container).into_iter().map(|(pod, s)| (pod, s.value)).collect()
    };
    let all = |list: &[(&str, i64)]| -> Vec<(String, i64)> {
        list.iter().map(|(pod, value)| ((*pod).to_owned(), *value)).collect()
    };
    // What is finer than a thousandth is rounded up.
    assert_eq!(told("cpu", None), all(&[("a", 4), ("b", 2)]));
    // One container of the first says nothing of its memory.
    assert_eq!(told("memory", None), all(&[]));
    assert_eq!(told("memory", Some("web")), all(&[("a", 1_024_000)]));
    assert_eq!(told("cpu", Some("log")), all(&[("a", 2), ("b", 2)]));
    let samples = of_resource(&pods(), "cpu", None);
    assert_eq!(samples["a"].window, SignedDuration::from_millis(90_500));
    assert_eq!(samples["a"].at, "2026-01-01T00:00:30Z".parse().expect("a time"));
    assert_eq!(samples["b"].window, WINDOW);
}

#[test]
fn adapters_of_both_versions_are_understood() {
    let list = json!({"items": [
        {"describedObject": {"name": "a"}, "timestamp": "2026-01-01T00:00:30Z", "windowSeconds": 20, "value": "1500m"},
        {"describedObject": {"name": "b"}, "timestamp": "2026-01-01T00:00:30Z", "window": 30, "value": "2k"},
        {"describedObject": {"name": "c"}, "timestamp": null, "value": "what?"},
    ]});
    let samples = of_pods(serde_json::from_value::<List<MetricValue>>(list).expect("a list").items);
    let told = |pod: &str| (samples[pod].value, samples[pod].window.as_secs());
    assert_eq!((told("a"), told("b"), told("c")), ((1500, 20), (2_000_000, 30), (0, 60)));
}

#[test]
fn names_and_selectors_cannot_leave_their_place() {
    assert_eq!(quoted("a/../b?c#d e"), "a%2F..%2Fb%3Fc%23d%20e");
    assert_eq!(
        form(&[("labelSelector", "a in (b,c)"), ("metricLabelSelector", "")]),
        "?labelSelector=a%20in%20%28b%2Cc%29"
    );
    assert_eq!(form(&[("labelSelector", "")]), "");
}
