use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{plugins::default_profile, pod::PodInfo};

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

#[test]
fn higher_priority_and_older_pods_come_first() {
    let (mut queue, profile, now) = (Queue::default(), default_profile(), Instant::now());
    queue.set(&profile, pod("b", 0, |_| {}), now);
    queue.set(
        &profile,
        pod("a", 0, |p| p["metadata"]["creationTimestamp"] = json!("2026-01-02T00:00:00Z")),
        now,
    );
    queue.set(&profile, pod("c", 9, |_| {}), now);
    assert_eq!(names(&mut queue, now), ["c", "b", "a"]);
}

#[test]
fn an_unschedulable_pod_waits_for_an_event_that_helps() {
    let (mut queue, profile, now) = (Queue::default(), default_profile(), Instant::now());
    let waiting = pod("a", 0, |_| {});
    queue.set(&profile, waiting.clone(), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    queue.unschedulable(&waiting.reference, vec!["NodeResourcesFit"], now);
    let later = now + Duration::from_secs(60);
    assert_eq!(names(&mut queue, later), [""; 0]);
    queue.on_event(&profile, ClusterEvent::NodeTaintsChanged, later);
    assert_eq!(names(&mut queue, later + LAST_BACKOFF), [""; 0], "taints do not make room");
    queue.set(&profile, pod("a", 0, |p| p["status"] = json!({"phase": "Pending"})), later);
    assert_eq!(names(&mut queue, later + LAST_BACKOFF), [""; 0], "a status is no reason");
    queue.on_event(&profile, ClusterEvent::PodLeft, later);
    assert_eq!(names(&mut queue, later), [""; 0], "in back-off");
    assert_eq!(queue.next_due(), Some(later + FIRST_BACKOFF));
    assert_eq!(names(&mut queue, later + FIRST_BACKOFF), ["a"]);
}

#[test]
fn a_changed_wish_is_tried_and_nothing_waits_for_ever() {
    let (mut queue, profile, now) = (Queue::default(), default_profile(), Instant::now());
    let waiting = pod("a", 0, |p| p["spec"]["nodeSelector"] = json!({"zone": "x"}));
    queue.set(&profile, waiting.clone(), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    queue.unschedulable(&waiting.reference, vec!["NodeAffinity"], now);
    queue.set(&profile, pod("a", 0, |_| {}), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    queue.unschedulable(&waiting.reference, vec!["NodeAffinity"], now);
    assert_eq!(names(&mut queue, now + LONGEST_WAIT), ["a"]);
}

#[test]
fn gates_keep_a_pod_out_until_they_are_gone() {
    let (mut queue, profile, now) = (Queue::default(), default_profile(), Instant::now());
    queue.set(&profile, pod("a", 0, |p| p["spec"]["schedulingGates"] = json!([{"name": "g"}])), now);
    assert_eq!(names(&mut queue, now + LONGEST_WAIT), [""; 0]);
    assert_eq!(queue.next_due(), None);
    queue.set(&profile, pod("a", 0, |_| {}), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    queue.remove(&pod("a", 0, |_| {}).reference);
    assert_eq!(queue.next_due(), None, "a removed pod leaves nothing behind");
}
