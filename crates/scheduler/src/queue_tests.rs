use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{plugins::default_profile, pod::PodInfo, snapshot::NodeFacts};

const LONG: Duration = Duration::from_secs(60);

fn pod(name: &str, priority: i32, change: impl Fn(&mut Value)) -> SharedPod {
    let mut pod = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"priority": priority, "containers": []},
    });
    change(&mut pod);
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

fn names(queue: &mut Queue, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| queue.pop(now)).map(|p| p.key().name.to_string()).collect()
}

fn node(labels: Value) -> NodeFacts {
    let node = json!({"metadata": {"name": "n", "labels": labels},
        "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}}});
    NodeFacts::new(serde_json::from_value(node).expect("a node"))
}

#[test]
fn higher_priority_and_older_pods_come_first() {
    let (mut queue, profile, now) = (Queue::default(), default_profile("s"), Instant::now());
    queue.set(&profile, pod("b", 0, |_| {}), now);
    let younger = |p: &mut Value| p["metadata"]["creationTimestamp"] = json!("2026-01-02T00:00:00Z");
    queue.set(&profile, pod("a", 0, younger), now);
    queue.set(&profile, pod("c", 9, |_| {}), now);
    assert_eq!(names(&mut queue, now), ["c", "b", "a"]);
}

#[test]
fn an_unschedulable_pod_waits_for_an_event_that_helps() {
    let (mut queue, profile, now) = (Queue::default(), default_profile("s"), Instant::now());
    let waiting = pod("a", 0, |p| p["spec"]["nodeSelector"] = json!({"zone": "x"}));
    queue.set(&profile, waiting.clone(), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    queue.unschedulable(&waiting.reference, vec!["NodeAffinity"], now);
    let tell = |queue: &mut Queue, event: Event<'_>, at| queue.on_event(|_| Some(&profile), &event, at);
    let (elsewhere, there) = (node(json!({"zone": "y"})), node(json!({"zone": "x"})));
    tell(&mut queue, Event::NodeAdded(&elsewhere), now + LONG);
    tell(&mut queue, Event::PodLeft(&waiting), now + LONG);
    tell(&mut queue, Event::NodeChanged { old: &there, new: &there }, now + LONG);
    assert_eq!(names(&mut queue, now + LONG), [""; 0], "none of these is what the pod waits for");
    queue.set(
        &profile,
        pod("a", 0, |p| {
            p["spec"]["nodeSelector"] = json!({"zone": "x"});
            p["status"] = json!({"phase": "Pending"});
        }),
        now,
    );
    assert_eq!(names(&mut queue, now + LONG), [""; 0], "a status is no reason");
    tell(&mut queue, Event::NodeChanged { old: &elsewhere, new: &there }, now + LONG);
    assert_eq!(names(&mut queue, now + LONG), ["a"], "at once: the back-off is long over");
}

#[test]
fn an_event_within_the_back_off_is_not_lost() {
    let (mut queue, profile, now) = (Queue::default(), default_profile("s"), Instant::now());
    let waiting = pod("a", 0, |_| {});
    queue.set(&profile, waiting.clone(), now);
    let mut at = now;
    for wait in [1, 2, 4, 8, 10, 10] {
        assert_eq!(names(&mut queue, at), ["a"]);
        queue.unschedulable(&waiting.reference, vec!["NodeResourcesFit"], at);
        queue.on_event(|_| Some(&profile), &Event::PodLeft(&waiting), at);
        assert_eq!(names(&mut queue, at), [""; 0], "in back-off");
        at += Duration::from_secs(wait);
        assert_eq!(queue.next_due(), Some(at));
    }
}

#[test]
fn a_failed_binding_is_tried_again_and_one_under_way_is_not() {
    let (mut queue, profile, now) = (Queue::default(), default_profile("s"), Instant::now());
    let waiting = pod("a", 0, |_| {});
    queue.set(&profile, waiting.clone(), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    queue.set(&profile, pod("a", 0, |p| p["metadata"]["labels"] = json!({"a": "b"})), now);
    assert_eq!(names(&mut queue, now + LONG), [""; 0], "it is under way");
    queue.failed(&waiting.reference, now);
    assert_eq!(names(&mut queue, now), [""; 0]);
    assert_eq!(names(&mut queue, now + FIRST_BACKOFF), ["a"]);
}

#[test]
fn a_changed_wish_is_tried_and_nothing_waits_for_ever() {
    let (mut queue, profile, now) = (Queue::default(), default_profile("s"), Instant::now());
    let waiting = pod("a", 0, |p| p["spec"]["nodeSelector"] = json!({"zone": "x"}));
    queue.set(&profile, waiting.clone(), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    queue.unschedulable(&waiting.reference, vec!["NodeAffinity"], now);
    queue.set(&profile, pod("a", 0, |_| {}), now + LONG);
    assert_eq!(names(&mut queue, now + LONG), ["a"]);
    queue.unschedulable(&waiting.reference, vec!["NodeAffinity"], now + LONG);
    assert_eq!(names(&mut queue, now + LONG + LONGEST_WAIT), ["a"]);
}

#[test]
fn gates_keep_a_pod_out_until_they_are_gone() {
    let (mut queue, profile, now) = (Queue::default(), default_profile("s"), Instant::now());
    queue.set(&profile, pod("a", 0, |p| p["spec"]["schedulingGates"] = json!([{"name": "g"}])), now);
    assert_eq!(names(&mut queue, now + LONGEST_WAIT), [""; 0]);
    assert_eq!(queue.next_due(), None);
    queue.set(&profile, pod("a", 0, |_| {}), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    queue.remove(&pod("a", 0, |_| {}).reference);
    assert_eq!(queue.next_due(), None, "a removed pod leaves nothing behind");
}
