use super::*;

#[test]
fn windows_are_written_as_go_writes_them() {
    let told =
        [(15_000, "15s"), (15_012, "15.012s"), (1_500, "1.5s"), (60_000, "1m0s"), (90_250, "1m30.25s")];
    for (millis, text) in told {
        assert_eq!(as_go(SignedDuration::from_millis(millis)), text);
    }
}

#[test]
fn use_is_what_was_spent_in_the_window() {
    let used = Used { cpu: 0, memory: 3 << 20 };
    let told = usage(1_234_567_890, used, SignedDuration::from_secs(10));
    assert_eq!(told, json!({"cpu": "123456789n", "memory": "3Mi"}));
    let told = usage(u64::MAX, Used { cpu: 0, memory: u64::MAX }, SignedDuration::from_nanos(1));
    assert!(told["cpu"].is_string() && told["memory"].is_string());
}

#[test]
fn only_what_began_since_is_counted_from_its_beginning() {
    let status = |name: &str, at: &str| json!({"name": name, "state": {"running": {"startedAt": at}}});
    let pod = json!({"status": {
        "containerStatuses": [status("old", "2026-01-01T00:00:00Z"), status("new", "2026-01-01T00:00:10Z"),
                              {"name": "ended", "state": {"terminated": {}}}],
        "initContainerStatuses": [status("sidecar", "2026-01-01T00:00:11Z")]}});
    let since: Timestamp = "2026-01-01T00:00:10.5Z".parse().unwrap();
    let told = ["old", "new", "ended", "sidecar", "unknown"].map(|name| started_after(&pod, name, since));
    assert_eq!(told, [false, true, false, true, false]);
}

#[test]
fn a_row_tells_the_sum_of_the_containers() {
    let told = json!({"metadata": {"name": "p"}, "window": "15s", "containers": [
        {"name": "a", "usage": {"cpu": "1500000n", "memory": "1Mi"}}, {"name": "b", "usage": {"cpu": "1m", "memory": "1Mi"}}]});
    assert_eq!(row(&told)["cells"], json!(["p", "2500u", "2Mi", "15s"]));
    let table = table(vec![row(&told)], false);
    assert_eq!(table["columnDefinitions"].as_array().unwrap().len(), 4);
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "p");
}
