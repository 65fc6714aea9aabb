//! What an autoscaler does at a look: a pure function of it, its target's scale, the pods and what was read of its
//! metrics, and of what is remembered of it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::autoscaling::{
        v1::Scale,
        v2::{
            ContainerResourceMetricStatus, ExternalMetricStatus, HorizontalPodAutoscaler,
            HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricIdentifier, MetricSpec,
            MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus,
            ResourceMetricStatus,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, Time},
    },
};
use tiphys_api::quantity::{self, Format};
use tiphys_client::ObjectKey;

use super::{
    count::{Count, Samples, Scene, Tolerance, Uncountable, by_mean, by_part, by_utilization, by_value},
    pace::{Memory, Told, pace},
};
use crate::{amount::milli, pod::Pod};

const ABLE: &str = "AbleToScale";
const ACTIVE: &str = "ScalingActive";
const LIMITED: &str = "ScalingLimited";
const SCALED_TO_ZERO: &str = "ScaledToZero";

/// What was read of a metric; values are in thousandths.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reading {
    /// Of resources and metrics of pods.
    Pods(Samples),
    /// Of an object, or from outside: the sum of what there is.
    Whole(i64),
}

/// Why a metric was not read, or asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Unread(String),
    #[error(transparent)]
    Uncountable(#[from] Uncountable),
    #[error("{0}")]
    Target(&'static str),
    #[error("unknown metric source type {0:?}")]
    Source(String),
    #[error("{step}: {source}")]
    At { step: String, source: Box<Failure> },
}

impl Failure {
    pub(super) fn at(self, step: impl Into<String>) -> Self {
        Self::At { step: step.into(), source: Box::new(self) }
    }
}

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

/// What one metric asks for.
struct Judged {
    replicas: i32,
    /// As conditions and events call the metric.
    name: String,
    status: MetricStatus,
}

/// The reason by which a metric's failure is told.
fn reason(metric: &MetricSpec) -> &'static str {
    match &*metric.type_ {
        "Object" => "FailedGetObjectMetric",
        "Pods" => "FailedGetPodsMetric",
        "Resource" => "FailedGetResourceMetric",
        "ContainerResource" => "FailedGetContainerResourceMetric",
        "External" => "FailedGetExternalMetric",
        _ => "InvalidMetricSourceType",
    }
}

/// At which step of the whole a metric's failure is.
fn step(metric: &MetricSpec) -> Option<String> {
    Some(match metric {
        MetricSpec { object: Some(m), .. } => match m.target.average_value.is_some() {
            true => {
                format!("failed to get object metric value: failed to get {} object metric", m.metric.name)
            }
            false => "failed to get object metric value".to_owned(),
        },
        MetricSpec { pods: Some(_), .. } => "failed to get pods metric value".to_owned(),
        MetricSpec { resource: Some(m), .. } => format!("failed to get {} resource metric value", m.name),
        MetricSpec { container_resource: Some(m), .. } => {
            format!("failed to get {} container metric value", m.container)
        }
        MetricSpec { external: Some(m), .. } => {
            let name = &m.metric.name;
            let inner = match m.target.average_value.is_some() {
                true => format!("failed to get {name} external metric"),
                false => format!("failed to get external metric {name}"),
            };
            format!("failed to get {name} external metric value: {inner}")
        }
        _ => return None,
    })
}

fn judge(
    metric: &MetricSpec,
    reading: Result<Reading, Failure>,
    scene: Scene<'_>,
) -> Result<Judged, Failure> {
    let type_ = metric.type_.clone();
    match (&*type_, metric) {
        ("Resource", MetricSpec { resource: Some(metric), .. }) => {
            let (count, name) = judge_resource(&metric.name, None, &metric.target, reading, scene)?;
            let current = used(count, &metric.name);
            let resource = Some(ResourceMetricStatus { name: metric.name.clone(), current });
            let status = MetricStatus { type_, resource, ..Default::default() };
            Ok(Judged { replicas: count.replicas, name, status })
        }
        ("ContainerResource", MetricSpec { container_resource: Some(metric), .. }) => {
            let container = Some(&*metric.container);
            let (count, name) = judge_resource(&metric.name, container, &metric.target, reading, scene)?;
            let current = used(count, &metric.name);
            let (name_, container) = (metric.name.clone(), metric.container.clone());
            let container_resource = Some(ContainerResourceMetricStatus { name: name_, container, current });
            let status = MetricStatus { type_, container_resource, ..Default::default() };
            Ok(Judged { replicas: count.replicas, name, status })
        }
        ("Pods", MetricSpec { pods: Some(metric), .. }) => {
            let id = &metric.metric;
            let mean = amount(metric.target.average_value.as_ref()).unwrap_or(0);
            let samples = reading.and_then(samples).map_err(|why| {
                let step = format!("unable to get metric {}", id.name);
                why.at(step)
            })?;
            let count = by_mean(scene, &samples, "", mean)?;
            let current = MetricValueStatus { average_value: Some(thousandths(count.usage)), ..nothing() };
            let pods = Some(PodsMetricStatus { metric: id.clone(), current });
            let status = MetricStatus { type_, pods, ..Default::default() };
            let name = format!("pods metric {}", id.name);
            Ok(Judged { replicas: count.replicas, name, status })
        }
        ("Object", MetricSpec { object: Some(metric), .. }) => {
            let (id, of) = (&metric.metric, &metric.described_object);
            let reading = reading.and_then(whole);
            let (count, current, name) = match aimed(&metric.target) {
                Some(Aim::Value(target)) => {
                    let count = divided(scene, reading?, target)?;
                    let name = format!("{} metric {}", of.kind, id.name);
                    (count, MetricValueStatus { value: Some(thousandths(count.usage)), ..nothing() }, name)
                }
                Some(Aim::Part(target)) => {
                    let count = by_part(scene, reading?, target);
                    let part = Some(thousandths(count.usage));
                    (count, MetricValueStatus { average_value: part, ..nothing() }, outside(id))
                }
                None => {
                    return Err(Failure::Target(
                        "invalid object metric source: neither a value target nor an average value target was set",
                    ));
                }
            };
            let object =
                Some(ObjectMetricStatus { described_object: of.clone(), metric: id.clone(), current });
            let status = MetricStatus { type_, object, ..Default::default() };
            Ok(Judged { replicas: count.replicas, name, status })
        }
        ("External", MetricSpec { external: Some(metric), .. }) => {
            let id = &metric.metric;
            let reading = reading.and_then(whole);
            // Of two targets the one for each pod counts.
            let mean = amount(metric.target.average_value.as_ref());
            let (count, current) = match (mean, &metric.target.value) {
                (Some(target), _) => {
                    let count = by_part(scene, reading?, target);
                    let part = Some(thousandths(count.usage));
                    (count, MetricValueStatus { average_value: part, ..nothing() })
                }
                (None, Some(target)) => {
                    let count = divided(scene, reading?, amount(Some(target)).unwrap_or(0))?;
                    (count, MetricValueStatus { value: Some(thousandths(count.usage)), ..nothing() })
                }
                (None, None) => {
                    return Err(Failure::Target(
                        "invalid external metric source: neither a value target nor an average value target was set",
                    ));
                }
            };
            let external = Some(ExternalMetricStatus { metric: id.clone(), current });
            let status = MetricStatus { type_, external, ..Default::default() };
            Ok(Judged { replicas: count.replicas, name: outside(id), status })
        }
        _ => Err(Failure::Source(type_)),
    }
}

/// What a value that all ready pods share asks for.
fn divided(scene: Scene<'_>, value: i64, target: i64) -> Result<Count, Failure> {
    by_value(scene, value, target).map_err(|why| Failure::from(why).at("unable to calculate ready pods"))
}

/// What the use of a resource, by pods or one of their containers, asks for.
fn judge_resource(
    resource: &str,
    container: Option<&str>,
    target: &MetricTarget,
    reading: Result<Reading, Failure>,
    scene: Scene<'_>,
) -> Result<(Count, String), Failure> {
    let samples = || {
        let step = format!("unable to get metrics for resource {resource}");
        reading.and_then(samples).map_err(|why| why.at(step))
    };
    if let Some(mean) = amount(target.average_value.as_ref()) {
        let counted = samples().and_then(|samples| Ok(by_mean(scene, &samples, resource, mean)?));
        let count = counted.map_err(|why| why.at(format!("failed to get {resource} usage")))?;
        return Ok((count, format!("{resource} resource")));
    }
    let Some(percent) = target.average_utilization else {
        return Err(Failure::Target(
            "invalid resource metric source: neither an average utilization target nor an average value (usage) \
             target was set",
        ));
    };
    let counted =
        samples().and_then(|samples| Ok(by_utilization(scene, &samples, resource, container, percent)?));
    let count = counted.map_err(|why| why.at(format!("failed to get {resource} utilization")))?;
    let sort = if container.is_some() { "container resource" } else { "resource" };
    Ok((count, format!("{resource} {sort} utilization (percentage of request)")))
}

fn samples(reading: Reading) -> Result<Samples, Failure> {
    match reading {
        Reading::Pods(samples) => Ok(samples),
        Reading::Whole(_) => Err(Failure::Unread("one value was read where each pod has its own".to_owned())),
    }
}

fn whole(reading: Reading) -> Result<i64, Failure> {
    match reading {
        Reading::Whole(value) => Ok(value),
        Reading::Pods(_) => Err(Failure::Unread("pods were read where there is one value".to_owned())),
    }
}

/// What an object's metric is kept at.
enum Aim {
    Value(i64),
    Part(i64),
}

fn aimed(target: &MetricTarget) -> Option<Aim> {
    match &*target.type_ {
        "Value" => amount(target.value.as_ref()).map(Aim::Value),
        "AverageValue" => amount(target.average_value.as_ref()).map(Aim::Part),
        _ => None,
    }
}

fn amount(quantity: Option<&Quantity>) -> Option<i64> {
    quantity.and_then(milli)
}

fn nothing() -> MetricValueStatus {
    MetricValueStatus::default()
}

fn thousandths(value: i64) -> Quantity {
    Quantity(quantity::Quantity::from_milli(value).to_string())
}

/// The use of a resource, as the metrics API writes it.
fn used(count: Count, resource: &str) -> MetricValueStatus {
    let usage = match resource {
        "memory" if count.usage.unsigned_abs() >= 1_024_000 => {
            let bytes = count.usage.saturating_add(999).div_euclid(1000);
            Quantity(quantity::Quantity::from_units(bytes, Format::BinarySI).to_string())
        }
        _ => thousandths(count.usage),
    };
    MetricValueStatus { average_utilization: count.utilization, average_value: Some(usage), ..nothing() }
}

/// A metric from outside as messages call it: its selector stands there as Go shows it.
fn outside(id: &MetricIdentifier) -> String {
    format!("external metric {}({})", id.name, id.selector.as_ref().map_or("nil".to_owned(), as_go))
}

pub(super) fn as_go(selector: &LabelSelector) -> String {
    let labels: Vec<_> =
        selector.match_labels.iter().flatten().map(|(name, value)| format!("{name}: {value},")).collect();
    let expressions = selector.match_expressions.iter().flatten().map(|e| {
        let values = e.values.as_deref().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", e.key, e.operator)
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.join(" "),
        expressions.collect::<String>()
    )
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
