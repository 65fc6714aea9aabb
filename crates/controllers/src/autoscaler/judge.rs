//! What one metric of an autoscaler asks for, by what was read of it.

use k8s_openapi::{
    api::autoscaling::v2::{
        ContainerResourceMetricStatus, ExternalMetricStatus, MetricIdentifier, MetricSpec, MetricStatus,
        MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use tiphys_api::quantity::{self, Format};

use super::count::{Count, Samples, Scene, Uncountable, by_mean, by_part, by_utilization, by_value};
use crate::amount::milli;

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

/// What one metric asks for.
pub(super) struct Judged {
    pub(super) replicas: i32,
    /// As conditions and events call the metric.
    pub(super) name: String,
    pub(super) status: MetricStatus,
}

/// The reason by which a metric's failure is told.
pub(super) fn reason(metric: &MetricSpec) -> &'static str {
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
pub(super) fn step(metric: &MetricSpec) -> Option<String> {
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

pub(super) fn judge(
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
