use serde_json::{Value, json};

use super::*;
use crate::autoscaler::count::Sample;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).expect("a time")
}

fn autoscaler(change: impl Fn(&mut Value)) -> HorizontalPodAutoscaler {
    let mut autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "ns", "generation": 3},
        "spec": {"minReplicas": 1, "maxReplicas": 10,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 50}}}]},
    });
    change(&mut autoscaler);
    serde_json::from_value(autoscaler).expect("an autoscaler")
}

fn scale(replicas: i32) -> Scale {
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"},
        "spec": {"replicas": replicas}, "status": {"replicas": replicas, "selector": "app=web"}});
    serde_json::from_value(scale).expect("a scale")
}

/// So many pods that are ready, each of which requests 100m and 1Mi.
fn pods(count: i32) -> Vec<Arc<Pod>> {
    let pod = |n| {
        let pod = json!({
            "metadata": {"name": format!("p{n}"), "namespace": "ns"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}]},
            "status": {"phase": "Running", "startTime": "2025-12-31T00:00:00Z", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2025-12-31T00:00:00Z"}]},
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    };
    (0..count).map(pod).collect()
}

fn each(count: i32, value: i64) -> Result<Reading, Failure> {
    let sample = Sample { at: at(0), window: jiff::SignedDuration::from_secs(15), value };
    Ok(Reading::Pods((0..count).map(|n| (format!("p{n}"), sample)).collect()))
}

fn unread(why: &str) -> Result<Reading, Failure> {
    Err(Failure::Unread(why.to_owned()))
}

/// What comes of `current` pods at one look of an autoscaler that was never looked at.
fn look(autoscaler: &HorizontalPodAutoscaler, current: i32, readings: Vec<Result<Reading, Failure>>) -> Plan {
    let selected = Ok(Selected { pods: pods(current), readings });
    plan(autoscaler, &scale(current), selected, &mut Memory::default(), at(0))
}

fn condition<'a>(plan: &'a Plan, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let found = plan.status.conditions.iter().flatten().find(|c| c.type_ == kind)?;
    Some((&found.status, found.reason.as_deref().unwrap_or(""), found.message.as_deref().unwrap_or("")))
}

fn told(plan: &Plan) -> Vec<(&str, &str)> {
    plan.events.iter().map(|event| (event.reason, &*event.message)).collect()
}

fn aim(plan: &Plan) -> Option<(i32, &str)> {
    plan.rescale.as_ref().map(|rescale| (rescale.after, &*rescale.reason))
}

#[test]
fn a_target_that_is_busy_grows() {
    let mut plan = look(&autoscaler(|_| ()), 2, vec![each(2, 100)]);
    assert_eq!(aim(&plan), Some((4, "cpu resource utilization (percentage of request) above target")));
    assert_eq!(
        condition(&plan, "AbleToScale"),
        Some(("True", "ReadyForNewScale", "recommended size matches current size"))
    );
    let active = "the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)";
    assert_eq!(condition(&plan, "ScalingActive"), Some(("True", "ValidMetricFound", active)));
    let limited = "the desired count is within the acceptable range";
    assert_eq!(condition(&plan, "ScalingLimited"), Some(("False", "DesiredWithinRange", limited)));
    assert_eq!(told(&plan), []);

    plan.scaled(Ok(()), at(1));
    let able = "the HPA controller was able to update the target scale to 4";
    assert_eq!(condition(&plan, "AbleToScale"), Some(("True", "SucceededRescale", able)));
    let said = "New size: 4; reason: cpu resource utilization (percentage of request) above target";
    assert_eq!(told(&plan), [("SuccessfulRescale", said)]);
    let status = serde_json::to_value(&plan.status).expect("a status");
    assert_eq!((&status["currentReplicas"], &status["desiredReplicas"]), (&json!(2), &json!(4)));
    assert_eq!(
        (&status["observedGeneration"], &status["lastScaleTime"]),
        (&json!(3), &json!("2026-01-01T00:00:01Z"))
    );
    let current = json!({"averageUtilization": 100, "averageValue": "100m"});
    assert_eq!(
        status["currentMetrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "current": current}}])
    );
    assert_eq!(condition(&plan, SCALED_TO_ZERO).map(|c| (c.0, c.1)), Some(("False", "NotScaledToZero")));
}

#[test]
fn a_scale_that_cannot_be_changed_is_told() {
    let mut plan = look(&autoscaler(|_| ()), 2, vec![each(2, 100)]);
    plan.scaled(Err("no".to_owned()), at(1));
    let able = "the HPA controller was unable to update the target scale: no";
    assert_eq!(condition(&plan, "AbleToScale"), Some(("False", "FailedUpdateScale", able)));
    let said =
        "New size: 4; reason: cpu resource utilization (percentage of request) above target; error: no";
    assert_eq!(told(&plan), [("FailedRescale", said)]);
    assert_eq!((plan.status.desired_replicas, plan.status.last_scale_time), (2, None));
}

#[test]
fn a_target_at_rest_keeps_what_it_has_and_then_shrinks() {
    let autoscaler = autoscaler(|_| ());
    let mut memory = Memory::default();
    let mut look = |seconds| {
        let selected = Ok(Selected { pods: pods(4), readings: vec![each(4, 10)] });
        plan(&autoscaler, &scale(4), selected, &mut memory, at(seconds))
    };
    let held = look(0);
    assert_eq!((aim(&held), held.status.desired_replicas), (None, 4));
    assert_eq!(condition(&held, "AbleToScale").map(|c| c.1), Some("ScaleDownStabilized"));
    assert_eq!(aim(&look(301)), Some((1, "All metrics below target")));
}

#[test]
fn a_target_out_of_range_is_brought_back_without_a_look_at_metrics() {
    for (current, expected) in [
        (12, (10, "Current number of replicas above Spec.MaxReplicas")),
        (1, (2, "Current number of replicas below Spec.MinReplicas")),
    ] {
        let autoscaler = autoscaler(|a| a["spec"]["minReplicas"] = json!(2));
        assert!(!measures(&autoscaler, &scale(current)));
        let plan = look(&autoscaler, current, vec![]);
        assert_eq!(aim(&plan), Some(expected));
        assert_eq!(condition(&plan, "AbleToScale").map(|c| c.1), Some("SucceededGetScale"));
        assert_eq!(condition(&plan, "ScalingActive"), None);
    }
}

#[test]
fn a_target_that_somebody_switched_off_stays_off() {
    let autoscaler = autoscaler(|_| ());
    assert!(!measures(&autoscaler, &scale(0)));
    let plan = look(&autoscaler, 0, vec![]);
    assert_eq!(aim(&plan), None);
    let message = "scaling is disabled since the replica count of the target is zero";
    assert_eq!(condition(&plan, "ScalingActive"), Some(("False", "ScalingDisabled", message)));
}

#[test]
fn what_was_put_to_sleep_is_woken_by_what_is_asked_from_outside() {
    let asleep = |fewest: i32, slept: &str| {
        autoscaler(|a| {
            a["spec"]["minReplicas"] = json!(fewest);
            a["spec"]["metrics"] = json!([{"type": "External", "external": {"metric": {"name": "queue"},
                "target": {"type": "AverageValue", "averageValue": "10"}}}]);
            a["status"] = json!({"desiredReplicas": 0, "conditions": [
                {"type": "ScaledToZero", "status": slept, "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        })
    };
    let queue = |length: i64| vec![Ok(Reading::Whole(length * 1000))];
    let woken = look(&asleep(0, "True"), 0, queue(25));
    assert_eq!(aim(&woken), Some((3, "external metric queue(nil) above target")));
    assert_eq!(aim(&look(&asleep(0, "True"), 0, queue(0))), None);
    assert_eq!(aim(&look(&asleep(0, "False"), 0, queue(25))), None);
    // The fewest were made more while it slept.
    let raised = look(&asleep(2, "True"), 0, queue(0));
    assert_eq!(aim(&raised).map(|(after, _)| after), Some(2));

    let mut woken = woken;
    woken.scaled(Ok(()), at(0));
    assert_eq!(condition(&woken, SCALED_TO_ZERO).map(|c| (c.0, c.1)), Some(("False", "NotScaledToZero")));
    let awake = asleep(0, "False");
    let mut memory = Memory::default();
    let selected = || Ok(Selected { pods: pods(2), readings: queue(0) });
    assert_eq!(aim(&plan(&awake, &scale(2), selected(), &mut memory, at(0))), None);
    let mut slept = plan(&awake, &scale(2), selected(), &mut memory, at(301));
    assert_eq!(aim(&slept), Some((0, "All metrics below target")));
    slept.scaled(Ok(()), at(301));
    assert_eq!(condition(&slept, SCALED_TO_ZERO).map(|c| (c.0, c.1)), Some(("True", "ScaledToZero")));
}

/// Each sort of metric with its target, what is read, and what comes of two replicas: the aim, what is shown of the
/// metric, and what it is called.
#[test]
fn every_sort_of_metric_counts() {
    let of = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"});
    let whole = |value: i64| Ok(Reading::Whole(value));
    type Case = (Value, Result<Reading, Failure>, i32, Value, &'static str);
    let cases: Vec<Case> = vec![
        (
            json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Mi"}}}),
            each(2, 2_097_152_000),
            4,
            json!({"averageValue": "2Mi"}),
            "memory resource",
        ),
        (
            json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                "target": {"type": "Utilization", "averageUtilization": 50}}}),
            each(2, 75),
            3,
            json!({"averageUtilization": 75, "averageValue": "75m"}),
            "cpu container resource utilization (percentage of request)",
        ),
        (
            json!({"type": "Pods", "pods": {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "10"}}}),
            each(2, 20_000),
            4,
            json!({"averageValue": "20"}),
            "pods metric hits",
        ),
        (
            json!({"type": "Object", "object": {"describedObject": of, "metric": {"name": "hits"},
                "target": {"type": "Value", "value": "10"}}}),
            whole(15_000),
            3,
            json!({"value": "15"}),
            "Ingress metric hits",
        ),
        (
            json!({"type": "Object", "object": {"describedObject": of, "metric": {"name": "hits"},
                "target": {"type": "AverageValue", "averageValue": "10"}}}),
            whole(35_000),
            4,
            json!({"averageValue": "17500m"}),
            "external metric hits(nil)",
        ),
        (
            json!({"type": "External", "external": {"metric": {"name": "queue", "selector": {"matchLabels": {"q": "a"}}},
                "target": {"type": "Value", "value": "10"}}}),
            whole(15_000),
            3,
            json!({"value": "15"}),
            "external metric queue(&LabelSelector{MatchLabels:map[string]string{q: a,},MatchExpressions:[]LabelSelectorRequirement{},})",
        ),
        (
            json!({"type": "External", "external": {"metric": {"name": "queue"},
                "target": {"type": "AverageValue", "averageValue": "10"}}}),
            whole(35_000),
            4,
            json!({"averageValue": "17500m"}),
            "external metric queue(nil)",
        ),
    ];
    for (metric, reading, after, shown, name) in cases {
        let autoscaler = autoscaler(|a| a["spec"]["metrics"] = json!([metric]));
        let plan = look(&autoscaler, 2, vec![reading]);
        assert_eq!(aim(&plan), Some((after, &*format!("{name} above target"))), "{metric}");
        let status = serde_json::to_value(&plan.status.current_metrics).expect("a status");
        let sort = metric.as_object().and_then(|m| m.keys().find(|key| *key != "type")).expect("a sort");
        assert_eq!((&status[0]["type"], &status[0][sort]["current"]), (&metric["type"], &shown), "{metric}");
    }
}

#[test]
fn of_several_metrics_the_greatest_counts() {
    let autoscaler = autoscaler(|a| {
        let metric = |name: &str, target: i32| {
            json!({"type": "External", "external": {"metric": {"name": name},
            "target": {"type": "AverageValue", "averageValue": target.to_string()}}})
        };
        a["spec"]["metrics"] = json!([metric("a", 10), metric("b", 10), metric("c", 10)]);
    });
    let value = |value: i64| Ok(Reading::Whole(value * 1000));
    let plan = look(&autoscaler, 2, vec![value(5), value(35), value(15)]);
    assert_eq!(aim(&plan), Some((4, "external metric b(nil) above target")));

    // One that cannot be judged keeps the others from shrinking the target, not from making it grow.
    let plan = look(&autoscaler, 2, vec![unread("gone"), value(35), value(15)]);
    assert_eq!(aim(&plan).map(|(after, _)| after), Some(4));
    assert_eq!(condition(&plan, "ScalingActive").map(|c| c.0), Some("True"));
    assert_eq!(told(&plan), [("FailedGetExternalMetric", "gone")]);
    assert_eq!(plan.status.current_metrics.as_ref().map(|all| all[0].type_.as_str()), Some(""));
    let plan = look(&autoscaler, 2, vec![unread("gone"), value(1), value(1)]);
    assert_eq!((aim(&plan), plan.status.desired_replicas), (None, 0));
    let why = "invalid metrics (1 invalid out of 3), first error is: failed to get a external metric value: \
               failed to get a external metric: gone";
    assert_eq!(told(&plan), [("FailedGetExternalMetric", "gone"), ("FailedComputeMetricsReplicas", why)]);
    let active = "the HPA was unable to compute the replica count: gone";
    assert_eq!(condition(&plan, "ScalingActive"), Some(("False", "FailedGetExternalMetric", active)));
}

#[test]
fn what_keeps_a_resource_from_being_judged_is_told_in_upstreams_words() {
    let plan = look(&autoscaler(|_| ()), 2, vec![unread("no metrics returned from resource metrics API")]);
    let why = "failed to get cpu utilization: unable to get metrics for resource cpu: \
               no metrics returned from resource metrics API";
    let whole = format!(
        "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {why}"
    );
    assert_eq!(told(&plan), [("FailedGetResourceMetric", why), ("FailedComputeMetricsReplicas", &whole)]);
    let active = format!("the HPA was unable to compute the replica count: {why}");
    assert_eq!(condition(&plan, "ScalingActive"), Some(("False", "FailedGetResourceMetric", &*active)));
    assert_eq!(condition(&plan, "AbleToScale").map(|c| c.1), Some("SucceededGetScale"));
    assert_eq!(plan.status.current_replicas, Some(2));
}

#[test]
fn a_selector_that_tells_no_pods_is_told() {
    let key = |name| ObjectKey::new("ns", name);
    let invalid = "couldn't convert selector into a corresponding internal selector object: hm";
    let ambiguous = "pods by selector app=web are controlled by more than one HPA (e.g. [{a ns} {b ns}])";
    let cases = [
        (
            Unselected::NoSelector,
            "SelectorRequired",
            "selector is required",
            "InvalidSelector",
            "the HPA target's scale is missing a selector",
        ),
        (Unselected::Invalid("hm".to_owned()), "InvalidSelector", invalid, "InvalidSelector", invalid),
        (
            Unselected::Ambiguous { selector: "app=web".to_owned(), by: vec![key("a"), key("b")] },
            "AmbiguousSelector",
            ambiguous,
            "AmbiguousSelector",
            ambiguous,
        ),
    ];
    for (why, event, said, reason, message) in cases {
        let plan = plan(&autoscaler(|_| ()), &scale(2), Err(why), &mut Memory::default(), at(0));
        assert_eq!(told(&plan), [(event, said), ("FailedComputeMetricsReplicas", said)]);
        assert_eq!(condition(&plan, "ScalingActive"), Some(("False", reason, message)));
        assert_eq!(aim(&plan), None);
    }
}

#[test]
fn a_target_that_cannot_be_read_is_told() {
    let plan = Plan::no_scale(&autoscaler(|_| ()), "it is not there", at(0));
    assert_eq!(told(&plan), [("FailedGetScale", "it is not there")]);
    let able = "the HPA controller was unable to get the target's current scale: it is not there";
    assert_eq!(condition(&plan, "AbleToScale"), Some(("False", "FailedGetScale", able)));
}

#[test]
fn a_condition_has_been_so_since_it_became_so() {
    let old = autoscaler(|a| {
        a["status"] = json!({"desiredReplicas": 2, "conditions": [
            {"type": "AbleToScale", "status": "True", "reason": "x", "lastTransitionTime": "2025-01-01T00:00:00Z"},
            {"type": "ScalingActive", "status": "False", "reason": "x", "lastTransitionTime": "2025-01-01T00:00:00Z"}]});
    });
    let plan = look(&old, 2, vec![each(2, 50)]);
    let since = plan.status.conditions.iter().flatten().map(|c| c.last_transition_time.as_ref().map(|t| t.0));
    let long_ago: Timestamp = "2025-01-01T00:00:00Z".parse().expect("a time");
    assert_eq!(since.collect::<Vec<_>>(), [Some(long_ago), Some(at(0)), Some(at(0))]);
}
