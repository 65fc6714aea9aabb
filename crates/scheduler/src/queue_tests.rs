use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    plugins::default_profile,
    pod::PodInfo,
    snapshot::{NodeFacts, Surroundings},
};

const LONG: Duration = Duration::from_secs(60);

fn pod(name: &str, priority: i32, change: impl Fn(&mut Value)) -> SharedPod {
    let mut pod = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"priority": priority, "containers": []},
    });
    change(&mut pod);
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

fn set(queue: &mut Queue, pod: SharedPod, now: Instant) {
    let gated = default_profile("s").gate(&pod, &Surroundings::default()).is_some();
    queue.set(pod, gated, now);
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
    let (mut queue, now) = (Queue::default(), Instant::now());
    set(&mut queue, pod("b", 0, |_| {}), now);
    let younger = |p: &mut Value| p["metadata"]["creationTimestamp"] = json!("2026-01-02T00:00:00Z");
    set(&mut queue, pod("a", 0, younger), now);
    set(&mut queue, pod("c", 9, |_| {}), now);
    assert_eq!(names(&mut queue, now), ["c", "b", "a"]);
}

#[test]
fn an_unschedulable_pod_waits_for_an_event_that_helps() {
    let (mut queue, profile, now) = (Queue::default(), default_profile("s"), Instant::now());
    let waiting = pod("a", 0, |p| p["spec"]["nodeSelector"] = json!({"zone": "x"}));
    set(&mut queue, waiting.clone(), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    queue.unschedulable(&waiting.reference, vec!["NodeAffinity"], now);
    let around = Surroundings::default();
    let tell =
        |queue: &mut Queue, event: Event<'_>, at| queue.on_event(|_| Some(&profile), &event, &around, at);
    let (elsewhere, there) = (node(json!({"zone": "y"})), node(json!({"zone": "x"})));
    tell(&mut queue, Event::NodeAdded(&elsewhere), now + LONG);
    tell(&mut queue, Event::PodLeft(&waiting), now + LONG);
    tell(&mut queue, Event::NodeChanged { old: &there, new: &there }, now + LONG);
    assert_eq!(names(&mut queue, now + LONG), [""; 0], "none of these is what the pod waits for");
    set(
        &mut queue,
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
fn who_is_in_back_off_gives_way_to_others_but_does_not_idle() {
    let (mut queue, profile, now) = (Queue::default(), default_profile("s"), Instant::now());
    let waiting = pod("a", 9, |_| {});
    set(&mut queue, waiting.clone(), now);
    let mut at = now;
    for wait in [1, 2, 4, 8, 10, 10] {
        assert_eq!(queue.pop(at).map(|p| p.key().name.to_string()).as_deref(), Some("a"));
        queue.unschedulable(&waiting.reference, vec!["NodeResourcesFit"], at);
        queue.on_event(|_| Some(&profile), &Event::PodLeft(&waiting), &Surroundings::default(), at);
        set(&mut queue, pod("b", 0, |_| {}), at);
        let before = at + Duration::from_secs(wait) - Duration::from_millis(1);
        let first = queue.pop(before).map(|p| p.key().name.to_string());
        assert_eq!(first.as_deref(), Some("b"), "though the other one matters more");
        queue.remove(&pod("b", 0, |_| {}).reference);
        at += Duration::from_secs(wait);
    }
    assert_eq!(names(&mut queue, at - Duration::from_millis(1)), ["a"], "there is nobody else");
    assert_eq!(queue.next_due(), None);
}

#[test]
fn who_awaits_room_is_not_woken_by_the_victims_of_others() {
    let (mut queue, profile, now) = (Queue::default(), default_profile("s"), Instant::now());
    let waiting = pod("a", 0, |_| {});
    let victim = pod("v", 0, |p| {
        p["status"] = json!({"conditions": [{"type": "DisruptionTarget", "status": "True",
            "reason": "PreemptionByScheduler"}]});
    });
    set(&mut queue, waiting.clone(), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    queue.awaits(&waiting.reference, "n".into(), vec!["NodeResourcesFit"], now);
    assert_eq!(queue.awaiting("n").len(), 1);
    queue.on_event(|_| Some(&profile), &Event::PodLeft(&victim), &Surroundings::default(), now);
    assert_eq!(names(&mut queue, now + LONG), [""; 0], "that room is for somebody else");
    queue.has_room(&waiting.reference);
    assert_eq!(names(&mut queue, now), ["a"], "without a back-off");
    queue.awaits(&waiting.reference, "n".into(), vec!["NodeResourcesFit"], now);
    queue.on_event(|_| Some(&profile), &Event::PodLeft(&waiting), &Surroundings::default(), now);
    assert_eq!(names(&mut queue, now), ["a"], "what leaves by itself may help anybody");
    assert!(queue.awaiting("n").is_empty());
}

#[test]
fn a_failed_binding_is_tried_again_and_one_under_way_is_not() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let waiting = pod("a", 0, |_| {});
    set(&mut queue, waiting.clone(), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    set(&mut queue, pod("a", 0, |p| p["metadata"]["labels"] = json!({"a": "b"})), now);
    assert_eq!(names(&mut queue, now + LONG), [""; 0], "it is under way");
    queue.failed(&waiting.reference, now);
    assert_eq!(names(&mut queue, now), [""; 0]);
    assert_eq!(names(&mut queue, now + FIRST_BACKOFF), ["a"]);
}

#[test]
fn a_changed_wish_is_tried_and_nothing_waits_for_ever() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let waiting = pod("a", 0, |p| p["spec"]["nodeSelector"] = json!({"zone": "x"}));
    set(&mut queue, waiting.clone(), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    queue.unschedulable(&waiting.reference, vec!["NodeAffinity"], now);
    set(&mut queue, pod("a", 0, |_| {}), now + LONG);
    assert_eq!(names(&mut queue, now + LONG), ["a"]);
    queue.unschedulable(&waiting.reference, vec!["NodeAffinity"], now + LONG);
    assert_eq!(names(&mut queue, now + LONG + LONGEST_WAIT), ["a"]);
}

#[test]
fn gates_keep_a_pod_out_until_they_are_gone() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    set(&mut queue, pod("a", 0, |p| p["spec"]["schedulingGates"] = json!([{"name": "g"}])), now);
    assert_eq!(names(&mut queue, now + LONGEST_WAIT), [""; 0]);
    assert_eq!(queue.next_due(), None);
    set(&mut queue, pod("a", 0, |_| {}), now);
    assert_eq!(names(&mut queue, now), ["a"]);
    queue.remove(&pod("a", 0, |_| {}).reference);
    assert_eq!(queue.next_due(), None, "a removed pod leaves nothing behind");
}

#[test]
fn what_nodes_say_is_told_when_nobody_has_to_be_placed_and_not_too_often() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let told = |queue: &mut Queue, at| queue.explained(at).map(|p| p.key().name.to_string());
    let waiting = pod("a", 0, |_| {});
    set(&mut queue, waiting.clone(), now);
    queue.pop(now);
    queue.unschedulable(&waiting.reference, vec!["NodeResourcesFit"], now);
    queue.explain(&waiting.reference, now);
    set(&mut queue, pod("b", 0, |_| {}), now);
    assert_eq!(told(&mut queue, now), None, "another has to be placed");
    let other = queue.pop(now).expect("it is there");
    assert_eq!(told(&mut queue, now).as_deref(), Some("a"));
    assert_eq!(told(&mut queue, now), None, "once");
    for _ in 0..2 {
        queue.explain(&waiting.reference, now);
    }
    assert_eq!(queue.next_due(), Some(now + EXPLAINED_EVERY));
    assert_eq!(told(&mut queue, now), None, "too soon");
    assert_eq!(told(&mut queue, now + EXPLAINED_EVERY).as_deref(), Some("a"));
    assert_eq!(told(&mut queue, now + LONG), None, "once");
    queue.explain(&waiting.reference, now);
    queue.remove(&waiting.reference);
    queue.remove(&other.reference);
    assert_eq!(told(&mut queue, now + LONG), None, "it is gone");
    assert!(queue.unexplained.is_empty());
}
