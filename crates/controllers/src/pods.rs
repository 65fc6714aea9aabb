//! What controllers want to know of pods.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{self, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use serde_json::{Value, json};

use crate::{
    object::Object,
    pod::{Pod, PodCondition},
};

/// The pod goes before or after its siblings when some must go: lower costs first.
pub(crate) const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Whether none of its containers will run again.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor going.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !pod.is_going()
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|c| c.status == "True")?.last_transition_time.as_ref().map(|t| t.0)
}

/// When a pod came to its end: its last container's, or as near as can be told.
pub(crate) fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let ends = statuses.iter().filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    let unready = || condition(pod, "Ready").filter(|c| c.status == "False")?.last_transition_time.as_ref();
    let end = ends.max_by_key(|t| t.0).or_else(unready).or(pod.metadata.deletion_timestamp.as_ref());
    end.map(|t| t.0)
}

/// Whether a pod has been ready for long enough, and if not, how long until it will have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    Available,
    In(Duration),
    NotReady,
}

pub(crate) fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    if !is_ready(pod) {
        return Availability::NotReady;
    }
    let Some(since) = ready_since(pod) else {
        return if min_ready_seconds == 0 { Availability::Available } else { Availability::NotReady };
    };
    let wanted = Duration::from_secs(u64::try_from(min_ready_seconds).unwrap_or(0));
    let been = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    if been >= wanted { Availability::Available } else { Availability::In(wanted - been) }
}

/// The condition that a pod goes for a reason that is not its own (KEP-3329), for a strategic merge patch of its status.
pub(crate) fn disrupted(reason: &str, message: &str, now: Timestamp) -> Value {
    json!({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": Time(now)})
}

/// A pod as its template describes it, managed by `owner`. Its name begins with `prefix`.
pub(crate) fn from_template(
    template: &PodTemplateSpec,
    prefix: &str,
    namespace: &str,
    owner: OwnerReference,
) -> v1::Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    v1::Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The prefix of generated names; left out where it would make them invalid.
pub(crate) fn name_prefix(owner: &str) -> String {
    format!("{owner}-")
}

/// Of active pods, the `count` to delete first: the ones that do least, and are missed least.
///
/// `siblings` are all active pods of the same higher owner; nodes that have more of them lose theirs first.
pub(crate) fn first_to_go(
    mut pods: Vec<Arc<Pod>>,
    siblings: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    if count >= pods.len() {
        return pods;
    }
    let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
    for sibling in siblings {
        if let Some(node) = node_of(sibling) {
            *on_node.entry(node).or_default() += 1;
        }
    }
    let crowd = |pod: &Pod| node_of(pod).and_then(|n| on_node.get(n)).copied().unwrap_or(0);
    pods.sort_by(|a, b| keep_order(a, b, crowd(a), crowd(b), now));
    pods.truncate(count);
    pods
}

/// The node that a pod is on.
pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

/// The node that a pod is on, or is for.
pub(crate) fn target_node(pod: &Pod) -> Option<&str> {
    node_of(pod).or_else(|| pod.spec.as_ref()?.meant_for.as_deref())
}

/// Less means that `a` goes before `b`.
fn keep_order(a: &Pod, b: &Pod, crowd_a: usize, crowd_b: usize, now: Timestamp) -> Ordering {
    let stage = |pod: &Pod| match phase(pod) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = |pod: &Pod| pod.annotation(DELETION_COST).and_then(|c| c.parse::<i32>().ok()).unwrap_or(0);
    let restarts = |pod: &Pod| {
        let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
        statuses.into_iter().flatten().map(|c| c.restart_count).max().unwrap_or(0)
    };
    // Ages on a logarithmic scale: what differs by less than a factor of two is alike.
    let bucket = |since: Option<Timestamp>| {
        since
            .map(|t| now.duration_since(t).as_secs().max(0))
            .map_or(i64::MAX, |age| i64::from((age + 1).ilog2()))
    };
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    (node_of(a).is_some().cmp(&node_of(b).is_some()))
        .then_with(|| stage(a).cmp(&stage(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| crowd_b.cmp(&crowd_a))
        .then_with(|| match (is_ready(a), is_ready(b)) {
            (true, true) => bucket(ready_since(a)).cmp(&bucket(ready_since(b))),
            _ => Ordering::Equal,
        })
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| bucket(created(a)).cmp(&bucket(created(b))))
        .then_with(|| a.uid().cmp(b.uid()))
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
