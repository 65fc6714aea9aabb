use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

/// A pod that is ready for an hour and requests 100m of CPU in `web` and 50m in the sidecar `log`.
fn pod(name: &str, change: impl Fn(&mut Value)) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {
            "containers": [{"name": "web", "resources": {"requests": {"cpu": "100m", "memory": "1Ki"}}}],
            "initContainers": [
                {"name": "once", "resources": {}},
                {"name": "log", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
            ],
        },
        "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn tolerance() -> Tolerance {
    Tolerance::of(&HorizontalPodAutoscalerSpec::default())
}

fn scene(pods: &[Arc<Pod>], asked: i32) -> Scene<'_> {
    Scene { pods, asked, there: asked, tolerance: tolerance(), now: now() }
}

fn samples(values: &[(&str, i64)]) -> Samples {
    let window = SignedDuration::from_secs(30);
    values
        .iter()
        .map(|(pod, value)| ((*pod).to_owned(), Sample { at: now(), window, value: *value }))
        .collect()
}

fn pending(pod: &mut Value) {
    pod["status"]["phase"] = json!("Pending");
}
fn going(pod: &mut Value) {
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z");
}
fn failed(pod: &mut Value) {
    pod["status"]["phase"] = json!("Failed");
}
/// Not ready, and never was.
fn never_ready(pod: &mut Value) {
    pod["status"]["conditions"][0]["status"] = json!("False");
    pod["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:00:10Z");
}
/// Not ready, but was.
fn was_ready(pod: &mut Value) {
    pod["status"]["conditions"][0]["status"] = json!("False");
    pod["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:30:00Z");
}
/// Started lately, and became ready within what was measured.
fn just_ready(pod: &mut Value) {
    pod["status"]["startTime"] = json!("2026-01-01T00:58:00Z");
    pod["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:59:45Z");
}
/// Started lately, and was ready all the while it was measured.
fn ready_lately(pod: &mut Value) {
    pod["status"]["startTime"] = json!("2026-01-01T00:58:00Z");
    pod["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:59:15Z");
}
fn fine(_: &mut Value) {}

type Change = fn(&mut Value);

#[test]
fn the_use_of_a_resource_is_kept_at_a_part_of_what_is_requested() {
    // Each pod requests 150m. A pod without a value tells nothing. What each is, the target in percent, and what comes
    // of three replicas: how many, the mean and the utilization of those that count.
    type Case = (&'static str, &'static [(Change, Option<i64>)], i32, (i32, i64, i32));
    let cases: [Case; 17] = [
        ("on target", &[(fine, Some(75)), (fine, Some(75)), (fine, Some(75))], 50, (3, 75, 50)),
        ("twice the target", &[(fine, Some(150)), (fine, Some(150)), (fine, Some(150))], 50, (6, 150, 100)),
        ("half of it", &[(fine, Some(36)), (fine, Some(36)), (fine, Some(36))], 50, (2, 36, 24)),
        ("as good as on target", &[(fine, Some(82)), (fine, Some(82)), (fine, Some(82))], 50, (3, 82, 54)),
        ("just beyond", &[(fine, Some(84)), (fine, Some(84)), (fine, Some(84))], 50, (4, 84, 56)),
        // (300+300)/450 of 50% is 2.66 of three.
        (
            "one missing on the way up",
            &[(fine, Some(300)), (fine, Some(300)), (fine, None)],
            50,
            (8, 300, 200),
        ),
        (
            "missing ones take it all back",
            &[(fine, Some(150)), (fine, None), (fine, None)],
            50,
            (3, 150, 100),
        ),
        // (15+15+150)/450 is 40%.
        ("one missing on the way down", &[(fine, Some(15)), (fine, Some(15)), (fine, None)], 50, (3, 15, 10)),
        (
            "missing where more than all is allowed",
            &[(fine, Some(15)), (fine, Some(15)), (fine, None)],
            200,
            (2, 15, 10),
        ),
        (
            "pending on the way up",
            &[(fine, Some(150)), (fine, Some(150)), (pending, None)],
            50,
            (4, 150, 100),
        ),
        ("pending on the way down", &[(fine, Some(15)), (fine, Some(15)), (pending, None)], 50, (1, 15, 10)),
        (
            "going ones do not count",
            &[(fine, Some(150)), (fine, Some(150)), (going, Some(900))],
            50,
            (4, 150, 100),
        ),
        ("nor do failed ones", &[(fine, Some(150)), (fine, Some(150)), (failed, None)], 50, (4, 150, 100)),
        (
            "nor those never ready",
            &[(fine, Some(150)), (fine, Some(150)), (never_ready, Some(900))],
            50,
            (4, 150, 100),
        ),
        (
            "who was ready counts",
            &[(fine, Some(150)), (fine, Some(150)), (was_ready, Some(150))],
            50,
            (6, 150, 100),
        ),
        (
            "a start does not count",
            &[(fine, Some(150)), (fine, Some(150)), (just_ready, Some(900))],
            50,
            (4, 150, 100),
        ),
        (
            "what follows it does",
            &[(fine, Some(150)), (fine, Some(150)), (ready_lately, Some(150))],
            50,
            (6, 150, 100),
        ),
    ];
    for (case, told, target, (replicas, usage, utilization)) in cases {
        let names: Vec<String> = (0..told.len()).map(|n| format!("p{n}")).collect();
        let pods: Vec<_> = names.iter().zip(told).map(|(name, (change, _))| pod(name, change)).collect();
        let values: Vec<_> = names.iter().zip(told).filter_map(|(n, (_, v))| Some((&**n, (*v)?))).collect();
        let count = by_utilization(scene(&pods, 3), &samples(&values), "cpu", None, target);
        assert_eq!(count, Ok(Count { replicas, usage, utilization: Some(utilization) }), "{case}");
    }
}

#[test]
fn only_the_start_of_processors_is_passed_over() {
    let pods = [pod("a", fine), pod("b", never_ready)];
    let count = by_utilization(
        scene(&pods, 2),
        &samples(&[("a", 2_048_000), ("b", 2_048_000)]),
        "memory",
        Some("web"),
        100,
    );
    assert_eq!(count.map(|count| count.replicas), Ok(4));
}

#[test]
fn one_container_is_judged_by_its_own_request() {
    let pods = [pod("a", fine)];
    let count = by_utilization(scene(&pods, 1), &samples(&[("a", 150)]), "cpu", Some("log"), 100);
    assert_eq!(count, Ok(Count { replicas: 3, usage: 150, utilization: Some(300) }));
}

#[test]
fn a_pods_own_request_stands_for_those_of_its_containers() {
    let whole = pod("a", |p| p["spec"]["resources"] = json!({"requests": {"cpu": "300m"}}));
    assert_eq!(request(&whole, "cpu", None), Ok(300));
    assert_eq!(request(&whole, "cpu", Some("web")), Ok(100));
    assert_eq!(request(&whole, "memory", None), Ok(1_024_000));
    let why = request(&whole, "gpu", None).expect_err("no such request");
    assert_eq!(why.to_string(), "missing pod-level request for gpu in Pod a");
}

#[test]
fn what_cannot_be_judged_says_why() {
    let pods = [pod("a", fine)];
    let judge = |pods: &[Arc<Pod>], values: &[(&str, i64)], resource: &str, container: Option<&str>| {
        let count = by_utilization(scene(pods, 1), &samples(values), resource, container, 50);
        count.expect_err("no count").to_string()
    };
    assert_eq!(
        judge(&[], &[("a", 1)], "cpu", None),
        "no pods returned by selector while calculating replica count"
    );
    let none = "did not receive metrics for targeted pods (pods might be unready)";
    assert_eq!(judge(&pods, &[], "cpu", None), none);
    assert_eq!(judge(&[pod("a", pending)], &[("a", 1)], "cpu", None), none);
    assert_eq!(judge(&pods, &[("x", 1)], "cpu", None), "no metrics returned matched known pods");
    assert_eq!(
        judge(&pods, &[("a", 1)], "memory", None),
        "missing request for memory in container log of Pod a"
    );
    assert_eq!(judge(&pods, &[("a", 1)], "cpu", Some("x")), "container x not found in Pod a");
}

#[test]
fn the_mean_of_a_metric_is_kept() {
    // The target is 100 for each of three; values by pod, and what comes of it.
    type Case = (&'static str, &'static [(Change, Option<i64>)], (i32, i64));
    let cases: [Case; 8] = [
        ("on target", &[(fine, Some(100)), (fine, Some(109)), (fine, Some(91))], (3, 100)),
        ("above", &[(fine, Some(200)), (fine, Some(200)), (fine, Some(200))], (6, 200)),
        ("below", &[(fine, Some(10)), (fine, Some(10)), (fine, Some(10))], (1, 10)),
        ("missing on the way up", &[(fine, Some(400)), (fine, Some(400)), (fine, None)], (8, 400)),
        ("missing on the way down", &[(fine, Some(10)), (fine, Some(10)), (fine, None)], (2, 10)),
        ("missing on target", &[(fine, Some(100)), (fine, Some(100)), (fine, None)], (3, 100)),
        // Readiness is of no interest for what is no processor time.
        ("unready", &[(fine, Some(200)), (fine, Some(200)), (never_ready, Some(200))], (6, 200)),
        ("pending on the way up", &[(fine, Some(300)), (fine, Some(300)), (pending, None)], (6, 300)),
    ];
    for (case, told, (replicas, usage)) in cases {
        let names: Vec<String> = (0..told.len()).map(|n| format!("p{n}")).collect();
        let pods: Vec<_> = names.iter().zip(told).map(|(name, (change, _))| pod(name, change)).collect();
        let values: Vec<_> = names.iter().zip(told).filter_map(|(n, (_, v))| Some((&**n, (*v)?))).collect();
        let count = by_mean(scene(&pods, 3), &samples(&values), "", 100);
        assert_eq!(count, Ok(Count { replicas, usage, utilization: None }), "{case}");
    }
}

#[test]
fn a_change_never_turns_round() {
    // Of eight that are asked for only three tell anything, which alone would be cause to grow.
    let pods = [pod("a", fine), pod("b", fine), pod("c", fine), pod("d", pending)];
    let count = by_mean(scene(&pods, 8), &samples(&[("a", 150), ("b", 150), ("c", 150)]), "", 100);
    assert_eq!(count.map(|count| count.replicas), Ok(8));
}

#[test]
fn what_is_of_no_pod_is_divided_among_those_that_are_ready() {
    let pods = [pod("a", fine), pod("b", fine), pod("c", never_ready), pod("d", pending)];
    let value = |pods, asked, usage| by_value(scene(pods, asked), usage, 100).map(|count| count.replicas);
    assert_eq!(value(&pods, 4, 100), Ok(4));
    assert_eq!(value(&pods, 4, 110), Ok(4));
    assert_eq!(value(&pods, 4, 300), Ok(6));
    assert_eq!(value(&pods, 4, 10), Ok(1));
    assert_eq!(value(&[], 4, 300), Err(Uncountable::NoPods));
    // From none there is nothing to multiply.
    assert_eq!((value(&[], 0, 0), value(&[], 0, 250)), (Ok(0), Ok(3)));
    assert_eq!(value(&pods, 4, i64::MAX), Ok(i32::MAX));
}

#[test]
fn each_pod_has_its_part() {
    let part = |there, usage| {
        let scene = Scene { there, ..scene(&[], 9) };
        let count = by_part(scene, usage, 100);
        (count.replicas, count.usage)
    };
    assert_eq!(part(3, 310), (3, 104));
    assert_eq!(part(3, 900), (9, 300));
    assert_eq!(part(3, 10), (1, 4));
    assert_eq!(part(0, 250), (3, 0));
    assert_eq!(part(0, 0), (0, 0));
    assert_eq!(part(1, i64::MAX).0, i32::MAX);
}

#[test]
fn each_direction_has_a_tolerance_of_its_own() {
    let told = json!({"maxReplicas": 9, "scaleTargetRef": {"kind": "K", "name": "n"},
        "behavior": {"scaleUp": {"tolerance": "0"}, "scaleDown": {"tolerance": "500m"}}});
    let tolerance = Tolerance::of(&serde_json::from_value(told).expect("a spec"));
    let bears = |tolerance: Tolerance| [0.49, 0.5, 0.9, 1.0, 1.01, 1.1].map(|ratio| tolerance.bears(ratio));
    assert_eq!(bears(tolerance), [false, true, true, true, false, false]);
    assert_eq!(bears(self::tolerance()), [false, false, true, true, true, true]);
}
