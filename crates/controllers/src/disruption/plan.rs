//! How many pods a budget can spare: a pure function of the budget, its pods and how many there should be.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};

use crate::{
    amount::{Round, scaled},
    object::Object,
    pod::Pod,
    pods::{condition, is_finished, is_ready},
};

/// A pod that was to be evicted is expected to go within this time.
const EVICTED_WITHIN: Duration = Duration::from_secs(120);
const ALLOWED: &str = "DisruptionAllowed";

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) status: PodDisruptionBudgetStatus,
    /// When the next eviction is no longer believed in.
    pub(super) look_again: Option<Duration>,
    /// Pods whose eviction was allowed, and that are there still.
    pub(super) stayed: Vec<Arc<Pod>>,
    /// Pods that say they are being disrupted, and have not been for long.
    pub(super) spared: Vec<Arc<Pod>>,
}

/// Whether the budget counts against what the owners of its pods ask for, and not against the pods.
pub(super) fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.clone().unwrap_or_default();
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// `expected` is how many pods the owners ask for; it is read only if [`needs_scale`] says so.
pub(super) fn plan(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], expected: i32, now: Timestamp) -> Plan {
    let spec = budget.spec.clone().unwrap_or_default();
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (expected, (expected - scaled(Some(most), expected, Round::Up)).max(0)),
        (None, Some(IntOrString::Int(least))) => (i32::try_from(pods.len()).unwrap_or(i32::MAX), *least),
        (None, Some(least)) => (expected, scaled(Some(least), expected, Round::Up)),
        (None, None) => (0, 0),
    };
    let old = budget.status.clone().unwrap_or_default();
    let promised = old.disrupted_pods.unwrap_or_default();
    let mut plan = Plan {
        status: PodDisruptionBudgetStatus::default(),
        look_again: None,
        stayed: Vec::new(),
        spared: Vec::new(),
    };
    let mut again_in = |wait: Duration| plan.look_again = Some(plan.look_again.map_or(wait, |w| w.min(wait)));
    let left = |since: Timestamp| {
        let been = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        EVICTED_WITHIN.checked_sub(been).filter(|left| !left.is_zero())
    };
    let (mut healthy, mut disrupted) = (0, BTreeMap::new());
    for pod in pods.iter().filter(|pod| !pod.is_going()) {
        if let Some(since) = disruption(pod) {
            match left(since) {
                Some(wait) => again_in(wait),
                None => plan.spared.push(pod.clone()),
            }
        }
        if let Some(at) = promised.get(pod.name()) {
            match left(at.0) {
                Some(wait) => {
                    again_in(wait);
                    disrupted.insert(pod.name().to_owned(), at.clone());
                    continue;
                }
                None => plan.stayed.push(pod.clone()),
            }
        }
        healthy += i32::from(is_ready(pod));
    }
    // What has no pods yet allows nothing: the first may appear any moment.
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let (status, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let generation = budget.metadata.generation;
    plan.status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        observed_generation: generation,
        conditions: Some(conditions(old.conditions, generation, status, reason, "", now)),
    };
    plan
}

/// The status of a budget that cannot be worked out: it allows nothing until it can.
pub(super) fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    let generation = budget.metadata.generation;
    status.disruptions_allowed = Some(0);
    status.conditions =
        Some(conditions(status.conditions.take(), generation, "False", "SyncFailed", why, now));
    status
}

fn conditions(
    old: Option<Vec<Condition>>,
    generation: Option<i64>,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let mut all = old.unwrap_or_default();
    let before = all.iter().find(|c| c.type_ == ALLOWED && c.status == status);
    let since = before.map_or(Time(now), |c| c.last_transition_time.clone());
    all.retain(|c| c.type_ != ALLOWED);
    all.push(Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since,
    });
    all
}

/// Since when somebody other than its node means to end the pod.
fn disruption(pod: &Pod) -> Option<Timestamp> {
    let told = condition(pod, "DisruptionTarget").filter(|c| c.status == "True")?;
    let lives = !is_finished(pod);
    let by_node = told.reason.as_deref() == Some("TerminationByKubelet");
    told.last_transition_time.as_ref().map(|t| t.0).filter(|_| lives && !by_node)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
