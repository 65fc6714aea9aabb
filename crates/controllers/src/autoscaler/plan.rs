//! What an autoscaler does at a look: a pure function of it, its target's scale, the pods and what was read of its
//! metrics, and of what is remembered of it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::autoscaling::{
        v1::Scale,
        v2::{
            HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus,
            MetricSpec, MetricStatus,
        },
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use tiphys_client::ObjectKey;

use super::{
    count::{Scene, Tolerance},
    judge::{Failure, Reading, judge, reason, step},
    pace::{Memory, Told, pace},
};
use crate::pod::Pod;

const ABLE: &str = "AbleToScale";
const ACTIVE: &str = "ScalingActive";
const LIMITED: &str = "ScalingLimited";
const SCALED_TO_ZERO: &str = "ScaledToZero";

/// Why the pods of a target cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unselected {
    #[error("selector is required")]
    NoSelector,
    #[error("couldn't convert selector into a corresponding internal selector object: {0}")]
    Invalid(String),
    #[error("pods by selector {selector} are controlled by more than one HPA (e.g. {})", names(.by))]
    Ambiguous { selector: String, by: Vec<ObjectKey> },
}

/// Autoscalers as Go shows a list of their names.
fn names(keys: &[ObjectKey]) -> String {
    let names: Vec<_> = keys.iter().map(|key| format!("{{{} {}}}", key.name, key.namespace)).collect();
    format!("[{}]", names.join(" "))
}

/// The pods of a target, and what was read of each metric, in their order.
pub(super) struct Selected {
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) readings: Vec<Result<Reading, Failure>>,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

fn warning(reason: &'static str, message: impl ToString) -> Event {
    Event { warning: true, reason, message: message.to_string() }
}

/// What the target is told to have from now on, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rescale {
    pub(super) before: i32,
    pub(super) after: i32,
    reason: String,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) status: HorizontalPodAutoscalerStatus,
    pub(super) rescale: Option<Rescale>,
    pub(super) events: Vec<Event>,
    sleeps: Sleep,
}

/// How an autoscaler stands to targets without any pod.
#[derive(Clone, Copy, Debug)]
struct Sleep {
    fewest: i32,
    /// Something tells when the target is wanted again.
    can_wake: bool,
    /// It was put to sleep by this autoscaler.
    slept: bool,
}

impl Sleep {
    fn of(autoscaler: &HorizontalPodAutoscaler) -> Self {
        let spec = &autoscaler.spec;
        let from_outside = |metric: &MetricSpec| matches!(&*metric.type_, "Object" | "External");
        let conditions = autoscaler.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let mut known = conditions.filter(|c| c.type_ == SCALED_TO_ZERO);
        Self {
            fewest: spec.min_replicas.unwrap_or(1),
            can_wake: spec.metrics.iter().flatten().any(from_outside),
            slept: known.any(|c| c.status == "True"),
        }
    }
}

/// What there is to do with what the target has.
enum Course {
    /// Metrics decide.
    Measure,
    /// Somebody else has switched the target off.
    Leave,
    /// It is out of range.
    Go(i32, &'static str),
}

fn course(autoscaler: &HorizontalPodAutoscaler, current: i32) -> Course {
    let sleep = Sleep::of(autoscaler);
    let most = autoscaler.spec.max_replicas;
    match current {
        0 if sleep.slept && (sleep.fewest != 0 || sleep.can_wake) => Course::Measure,
        0 => Course::Leave,
        _ if current > most => Course::Go(most, "Current number of replicas above Spec.MaxReplicas"),
        _ if current < sleep.fewest => {
            Course::Go(sleep.fewest, "Current number of replicas below Spec.MinReplicas")
        }
        _ => Course::Measure,
    }
}

/// What a scale tells its target to have.
pub(super) fn asked(scale: &Scale) -> i32 {
    scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
}

/// Whether metrics decide on the target, so that they have to be read.
pub(super) fn measures(autoscaler: &HorizontalPodAutoscaler, scale: &Scale) -> bool {
    matches!(course(autoscaler, asked(scale)), Course::Measure)
}

impl Plan {
    fn begin(autoscaler: &HorizontalPodAutoscaler) -> Self {
        let status = autoscaler.status.clone().unwrap_or_default();
        Self { status, rescale: None, events: Vec::new(), sleeps: Sleep::of(autoscaler) }
    }

    fn set(&mut self, kind: &str, status: bool, reason: &str, message: String, now: Timestamp) {
        let status = if status { "True" } else { "False" };
        let all = self.status.conditions.get_or_insert_default();
        let at = all.iter().position(|c| c.type_ == kind).unwrap_or_else(|| {
            all.push(HorizontalPodAutoscalerCondition { type_: kind.to_owned(), ..Default::default() });
            all.len() - 1
        });
        let condition = &mut all[at];
        if condition.status != status {
            condition.last_transition_time = Some(Time(now));
        }
        condition.status = status.to_owned();
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message);
    }

    fn tell(&mut self, kind: &str, told: Told, now: Timestamp) {
        self.set(kind, told.status, told.reason, told.message.to_owned(), now);
    }

    /// The target's scale cannot be read.
    pub(super) fn no_scale(autoscaler: &HorizontalPodAutoscaler, why: &str, now: Timestamp) -> Self {
        let mut plan = Self::begin(autoscaler);
        plan.events.push(warning("FailedGetScale", why));
        let message = format!("the HPA controller was unable to get the target's current scale: {why}");
        plan.set(ABLE, false, "FailedGetScale", message, now);
        plan
    }

    /// What became of the change of the target's scale.
    pub(super) fn scaled(&mut self, result: Result<(), String>, now: Timestamp) {
        let Some(Rescale { before, after, reason }) = self.rescale.take() else { return };
        match result {
            Ok(()) => {
                let message = format!("the HPA controller was able to update the target scale to {after}");
                self.set(ABLE, true, "SucceededRescale", message, now);
                let message = format!("New size: {after}; reason: {reason}");
                self.events.push(Event { warning: false, reason: "SuccessfulRescale", message });
                self.status.desired_replicas = after;
                self.status.last_scale_time = Some(Time(now));
                let Sleep { fewest, can_wake, .. } = self.sleeps;
                let sleeps = before > 0 && after == 0 && fewest == 0 && can_wake;
                let (reason, message) = match sleeps {
                    true => (SCALED_TO_ZERO, "the HPA controller scaled the workload to zero"),
                    false => ("NotScaledToZero", "the HPA controller did not scale the workload to zero"),
                };
                self.set(SCALED_TO_ZERO, sleeps, reason, message.to_owned(), now);
            }
            Err(error) => {
                let message = format!("New size: {after}; reason: {reason}; error: {error}");
                self.events.push(warning("FailedRescale", message));
                let message = format!("the HPA controller was unable to update the target scale: {error}");
                self.set(ABLE, false, "FailedUpdateScale", message, now);
            }
        }
    }
}

/// `selected` is read only if [`measures`] says so. The status is as it will be if the target keeps what it has; see
/// [`Plan::scaled`].
pub(super) fn plan(
    autoscaler: &HorizontalPodAutoscaler,
    scale: &Scale,
    selected: Result<Selected, Unselected>,
    memory: &mut Memory,
    now: Timestamp,
) -> Plan {
    let current = asked(scale);
    let mut plan = Plan::begin(autoscaler);
    let able = "the HPA controller was able to get the target's current scale";
    plan.set(ABLE, true, "SucceededGetScale", able.to_owned(), now);
    memory.begin(current, now);
    plan.status.current_replicas = Some(current);
    plan.status.observed_generation = autoscaler.metadata.generation;
    let before = plan.status.desired_replicas;
    plan.status.desired_replicas = current;
    plan.status.current_metrics = None;
    match course(autoscaler, current) {
        Course::Leave => {
            let message = "scaling is disabled since the replica count of the target is zero";
            plan.set(ACTIVE, false, "ScalingDisabled", message.to_owned(), now);
        }
        Course::Go(after, reason) => {
            plan.rescale = Some(Rescale { before: current, after, reason: reason.to_owned() });
        }
        Course::Measure => {
            let wanted = wanted(autoscaler, scale, selected, &mut plan, now);
            match wanted {
                Ok(wanted) => aim(autoscaler, current, wanted, memory, &mut plan, now),
                // Nothing is decided.
                Err(why) => {
                    plan.status.desired_replicas = before;
                    plan.events.push(warning("FailedComputeMetricsReplicas", why));
                }
            }
        }
    }
    plan
}

/// How many replicas the metrics want, and which of them does.
struct Wanted {
    replicas: i32,
    by: String,
}

/// Goes where the metrics want the target, as fast as it may.
fn aim(
    autoscaler: &HorizontalPodAutoscaler,
    current: i32,
    wanted: Wanted,
    memory: &mut Memory,
    plan: &mut Plan,
    now: Timestamp,
) {
    let fewest = plan.sleeps.fewest;
    // None is more than what nobody has asked for.
    let aimed = wanted.replicas.max(0);
    let mut reason = match aimed {
        _ if aimed > current => format!("{} above target", wanted.by),
        _ if aimed < current => "All metrics below target".to_owned(),
        _ => String::new(),
    };
    let paced = pace(&autoscaler.spec, fewest, current, aimed, memory, now);
    plan.tell(ABLE, paced.able, now);
    plan.tell(LIMITED, paced.limited, now);
    let mut after = paced.replicas;
    if current == 0 && plan.sleeps.slept && after < fewest {
        after = fewest;
        if reason.is_empty() {
            "Current number of replicas below Spec.MinReplicas".clone_into(&mut reason);
        }
    }
    if after != current {
        plan.rescale = Some(Rescale { before: current, after, reason });
    }
}

/// The most that any metric asks for. Where some cannot be judged, the others may only ask for more.
fn wanted(
    autoscaler: &HorizontalPodAutoscaler,
    scale: &Scale,
    selected: Result<Selected, Unselected>,
    plan: &mut Plan,
    now: Timestamp,
) -> Result<Wanted, String> {
    let Selected { pods, readings } = match selected {
        Ok(selected) => selected,
        Err(why) => {
            let (event, reason) = match why {
                Unselected::NoSelector => ("SelectorRequired", "InvalidSelector"),
                Unselected::Invalid(_) => ("InvalidSelector", "InvalidSelector"),
                Unselected::Ambiguous { .. } => ("AmbiguousSelector", "AmbiguousSelector"),
            };
            plan.events.push(warning(event, &why));
            let message = match why {
                Unselected::NoSelector => "the HPA target's scale is missing a selector".to_owned(),
                _ => why.to_string(),
            };
            plan.set(ACTIVE, false, reason, message, now);
            return Err(why.to_string());
        }
    };
    let spec = &autoscaler.spec;
    let scene = Scene {
        pods: &pods,
        asked: asked(scale),
        there: scale.status.as_ref().map_or(0, |status| status.replicas),
        tolerance: Tolerance::of(spec),
        now,
    };
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    let mut best: Option<Wanted> = None;
    let mut first: Option<(&'static str, Failure, Failure)> = None;
    let mut failed = 0;
    let mut statuses = Vec::with_capacity(metrics.len());
    for (metric, reading) in metrics.iter().zip(readings) {
        match judge(metric, reading, scene) {
            Ok(judged) => {
                if best.as_ref().is_none_or(|best| best.replicas == 0 || judged.replicas > best.replicas) {
                    best = Some(Wanted { replicas: judged.replicas, by: judged.name });
                }
                statuses.push(judged.status);
            }
            Err(failure) => {
                let reason = reason(metric);
                plan.events.push(warning(reason, &failure));
                failed += 1;
                let whole = match step(metric) {
                    Some(step) => failure.clone().at(step),
                    None => failure.clone(),
                };
                first.get_or_insert((reason, failure, whole));
                // Readers go by the place.
                statuses.push(MetricStatus::default());
            }
        }
    }
    plan.status.current_metrics = Some(statuses).filter(|statuses| !statuses.is_empty());
    let Some((reason, failure, whole)) = first else {
        let wanted = best.ok_or("invalid metrics (0 invalid out of 0)")?;
        active(plan, &wanted, now);
        return Ok(wanted);
    };
    match best.filter(|best| best.replicas >= scene.asked) {
        Some(best) => {
            active(plan, &best, now);
            Ok(best)
        }
        None => {
            let message = format!("the HPA was unable to compute the replica count: {failure}");
            plan.set(ACTIVE, false, reason, message, now);
            let all = metrics.len();
            Err(format!("invalid metrics ({failed} invalid out of {all}), first error is: {whole}"))
        }
    }
}

fn active(plan: &mut Plan, wanted: &Wanted, now: Timestamp) {
    let by = &wanted.by;
    let message = format!("the HPA was able to successfully calculate a replica count from {by}");
    plan.set(ACTIVE, true, "ValidMetricFound", message, now);
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
