//! What a ReplicaSet needs: a pure function of what is there.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    object::Object,
    pod::Pod,
    pod_control::BURST,
    pods::{Availability, availability, first_to_go, is_active, is_finished, is_ready},
};

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) step: Step,
    /// The status before the step; a failed step adds its condition.
    pub(super) status: ReplicaSetStatus,
    /// When a ready pod becomes an available one, nobody says so.
    pub(super) look_again: Option<Duration>,
}

/// `pods` are all that the set owns, `siblings` the active pods of every set with the same owner, and
/// `caught_up` says whether `pods` shows the set's own last creations and deletions.
pub(super) fn plan(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    siblings: &[Arc<Pod>],
    caught_up: bool,
    now: Timestamp,
) -> Plan {
    let spec = set.spec.clone();
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let active: Vec<_> = pods.iter().filter(|p| is_active(p)).cloned().collect();
    let step = if !caught_up || set.is_going() {
        Step::Nothing
    } else if active.len() < wanted {
        Step::Create((wanted - active.len()).min(BURST))
    } else if active.len() > wanted {
        let many = (active.len() - wanted).min(BURST);
        Step::Delete(first_to_go(active.clone(), siblings, many, now))
    } else {
        Step::Nothing
    };
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let template_labels = spec.template.and_then(|t| t.metadata).and_then(|m| m.labels).unwrap_or_default();
    let (mut labelled, mut ready, mut available) = (0, 0, 0);
    let mut look_again: Option<Duration> = None;
    for pod in &active {
        let labels = pod.metadata.labels.as_ref();
        let full = template_labels.iter().all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v));
        labelled += i32::from(full);
        ready += i32::from(is_ready(pod));
        match availability(pod, min_ready, now) {
            Availability::Available => available += 1,
            Availability::In(wait) => look_again = Some(look_again.map_or(wait, |w| w.min(wait))),
            Availability::NotReady => {}
        }
    }
    let terminating = pods.iter().filter(|p| p.is_going() && !is_finished(p)).count();
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let old = set.status.clone().unwrap_or_default();
    let status = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: Some(labelled),
        ready_replicas: Some(ready),
        available_replicas: Some(available),
        terminating_replicas: Some(count(terminating)),
        observed_generation: set.metadata.generation,
        conditions: old.conditions,
    };
    Plan { step, status, look_again }
}

/// Tells in the status that a step failed, or that none does any longer.
pub(super) fn tell_failure(status: &mut ReplicaSetStatus, failure: Option<(&str, String)>, now: Timestamp) {
    const KIND: &str = "ReplicaFailure";
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().position(|c| c.type_.as_deref() == Some(KIND));
    match failure {
        None => {
            conditions.retain(|c| c.type_.as_deref() != Some(KIND));
        }
        Some((reason, message)) => {
            let condition = ReplicaSetCondition {
                type_: Some(KIND.to_owned()),
                status: Some("True".to_owned()),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: Some(Time(now)),
            };
            match old {
                // Only a change of reason is news; messages name generated pods and always differ.
                Some(i) if conditions[i].reason == condition.reason => {}
                Some(i) => conditions[i] = condition,
                None => conditions.push(condition),
            }
        }
    }
    if status.conditions.as_ref().is_some_and(Vec::is_empty) {
        status.conditions = None;
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
