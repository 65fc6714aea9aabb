//! How many replicas one metric asks for: a pure function of what was read of it, and of the pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerSpec};

use crate::{
    amount::milli,
    object::Object,
    pod::{Pod, PodSpec, Requests},
    pods::{condition, is_active, is_ready, phase},
};

/// A pod that has not run for longer may still be busy with its start.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// A pod that became unready within this time of its start was never ready.
const INITIAL_READINESS: SignedDuration = SignedDuration::from_secs(30);
/// How far from its target a ratio may be before anything is done.
const TOLERANCE: f64 = 0.1;

/// What was read of one pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    /// Over how long it was measured.
    pub(super) window: SignedDuration,
    /// In thousandths.
    pub(super) value: i64,
}

/// By the names of pods.
pub(super) type Samples = BTreeMap<String, Sample>;

/// Ratios of usage to target that are as good as one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    down: f64,
    up: f64,
}

impl Tolerance {
    pub(super) fn of(spec: &HorizontalPodAutoscalerSpec) -> Self {
        let told = |rules: Option<&HPAScalingRules>| {
            let amount = rules.and_then(|rules| rules.tolerance.as_ref()).and_then(milli);
            amount.map_or(TOLERANCE, |thousandths| thousandths as f64 / 1000.0)
        };
        let behavior = spec.behavior.as_ref();
        Self {
            down: told(behavior.and_then(|b| b.scale_down.as_ref())),
            up: told(behavior.and_then(|b| b.scale_up.as_ref())),
        }
    }

    fn bears(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What a metric is judged against.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    /// All that the target's selector selects.
    pub(super) pods: &'a [Arc<Pod>],
    /// What the target is told to have.
    pub(super) asked: i32,
    /// What it has.
    pub(super) there: i32,
    pub(super) tolerance: Tolerance,
    pub(super) now: Timestamp,
}

/// Why a metric asks for nothing, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Uncountable {
    #[error("no pods returned by selector while calculating replica count")]
    NoPods,
    #[error("did not receive metrics for targeted pods (pods might be unready)")]
    NoneMeasured,
    #[error("no metrics returned matched known pods")]
    NoneKnown,
    #[error("missing request for {resource} in container {container} of Pod {pod}")]
    NoRequest { resource: String, container: String, pod: String },
    #[error("missing pod-level request for {resource} in Pod {pod}")]
    NoPodRequest { resource: String, pod: String },
    #[error("container {container} not found in Pod {pod}")]
    NoContainer { container: String, pod: String },
}

/// What a metric asks for, and what was found out on the way; usage is in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) replicas: i32,
    pub(super) usage: i64,
    /// In percent of what is requested.
    pub(super) utilization: Option<i32>,
}

/// What the samples of some pods come to.
#[derive(Clone, Copy)]
struct Measured {
    /// To the target.
    ratio: f64,
    usage: i64,
    utilization: Option<i32>,
}

type Values<'a> = BTreeMap<&'a str, i64>;

/// Keeps the pods' use of a resource at `target` percent of what they, or one of their containers, request.
pub(super) fn by_utilization(
    scene: Scene<'_>,
    samples: &Samples,
    resource: &str,
    container: Option<&str>,
    target: i32,
) -> Result<Count, Uncountable> {
    // Requests are asked for only once something was measured.
    let requests = || -> Result<BTreeMap<&str, i64>, Uncountable> {
        scene.pods.iter().map(|pod| Ok((pod.name(), request(pod, resource, container)?))).collect()
    };
    let measure = |values: &Values<'_>, requests: &BTreeMap<&str, i64>| {
        let known = values.iter().filter_map(|(pod, value)| Some((*value, *requests.get(pod)?)));
        let (mut used, mut requested, mut pods) = (0_i128, 0_i128, 0_i128);
        for (value, request) in known {
            (used, requested, pods) = (used + i128::from(value), requested + i128::from(request), pods + 1);
        }
        if requested == 0 {
            return Err(Uncountable::NoneKnown);
        }
        let utilization = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
        let usage = i64::try_from(used / pods).unwrap_or(i64::MAX);
        let ratio = f64::from(utilization) / f64::from(target);
        Ok(Measured { ratio, usage, utilization: Some(utilization) })
    };
    // One that tells nothing is taken to use all that it asks for, or what it may.
    let absent = |pod: &str, requests: &BTreeMap<&str, i64>| {
        let used = i128::from(requests.get(pod).copied().unwrap_or(0)) * i128::from(target.max(100)) / 100;
        i64::try_from(used).unwrap_or(i64::MAX)
    };
    settle(scene, samples, resource, requests, measure, absent)
}

/// Keeps the mean of what the pods tell at `target`. `resource` is empty for what is no resource.
pub(super) fn by_mean(
    scene: Scene<'_>,
    samples: &Samples,
    resource: &str,
    target: i64,
) -> Result<Count, Uncountable> {
    let measure = |values: &Values<'_>, (): &()| {
        let used: i128 = values.values().copied().map(i128::from).sum();
        let usage = used / i128::try_from(values.len().max(1)).unwrap_or(1);
        let usage = i64::try_from(usage).unwrap_or(i64::MAX);
        Ok(Measured { ratio: usage as f64 / target as f64, usage, utilization: None })
    };
    settle(scene, samples, resource, || Ok(()), measure, |_, ()| target)
}

/// What all metrics of pods have in common: what becomes of pods that tell nothing, or not yet anything that counts.
fn settle<'a, K>(
    scene: Scene<'a>,
    samples: &'a Samples,
    resource: &str,
    know: impl Fn() -> Result<K, Uncountable>,
    measure: impl Fn(&Values<'a>, &K) -> Result<Measured, Uncountable>,
    absent: impl Fn(&str, &K) -> i64,
) -> Result<Count, Uncountable> {
    if scene.pods.is_empty() {
        return Err(Uncountable::NoPods);
    }
    let groups = Groups::of(scene, samples, resource);
    let counts = |pod: &str| !groups.unready.contains(pod) && !groups.ignored.contains(pod);
    let measured = samples.iter().filter(|(pod, _)| counts(pod));
    let mut values: Values<'a> = measured.map(|(pod, sample)| (pod.as_str(), sample.value)).collect();
    if values.is_empty() {
        return Err(Uncountable::NoneMeasured);
    }
    let known = know()?;
    let first = measure(&values, &known)?;
    let asks = |replicas| Count { replicas, usage: first.usage, utilization: first.utilization };
    let rising = first.ratio > 1.0 && !groups.unready.is_empty();
    if !rising && groups.missing.is_empty() {
        let enough = scene.tolerance.bears(first.ratio);
        return Ok(asks(if enough { scene.asked } else { ceil(first.ratio * groups.ready as f64) }));
    }
    // Whoever tells nothing is taken to do what speaks against a change.
    for pod in &groups.missing {
        if first.ratio < 1.0 {
            values.insert(pod, absent(pod, &known));
        } else if first.ratio > 1.0 {
            values.insert(pod, 0);
        }
    }
    if rising {
        values.extend(groups.unready.iter().map(|pod| (*pod, 0)));
    }
    let ratio = measure(&values, &known)?.ratio;
    let turned = (first.ratio < 1.0 && ratio > 1.0) || (first.ratio > 1.0 && ratio < 1.0);
    if scene.tolerance.bears(ratio) || turned {
        return Ok(asks(scene.asked));
    }
    let replicas = ceil(ratio * values.len() as f64);
    let turned = (ratio < 1.0 && replicas > scene.asked) || (ratio > 1.0 && replicas < scene.asked);
    Ok(asks(if turned { scene.asked } else { replicas }))
}

/// Keeps a value that is of no pod at `target`: what is for all pods that are ready is divided among more or fewer.
pub(super) fn by_value(scene: Scene<'_>, usage: i64, target: i64) -> Result<Count, Uncountable> {
    let ratio = usage as f64 / target as f64;
    let asks = |replicas| Count { replicas, usage, utilization: None };
    if scene.asked == 0 {
        return Ok(asks(ceil(ratio)));
    }
    if scene.tolerance.bears(ratio) {
        return Ok(asks(scene.asked));
    }
    if scene.pods.is_empty() {
        return Err(Uncountable::NoPods);
    }
    let ready = scene.pods.iter().filter(|pod| phase(pod) == "Running" && is_ready(pod)).count();
    Ok(asks(ceil(ratio * ready as f64)))
}

/// Keeps each pod's part of a value that is of no pod at `target`.
pub(super) fn by_part(scene: Scene<'_>, usage: i64, target: i64) -> Count {
    let ratio = usage as f64 / (target as f64 * f64::from(scene.there));
    let replicas =
        if scene.tolerance.bears(ratio) { scene.there } else { ceil(usage as f64 / target as f64) };
    let part = if scene.there == 0 { 0 } else { (usage as f64 / f64::from(scene.there)).ceil() as i64 };
    Count { replicas, usage: part, utilization: None }
}

/// The next whole number that a target can have; what is beyond all is the most.
fn ceil(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

/// The pods by what they can tell.
struct Groups<'a> {
    ready: usize,
    /// What they tell does not count yet.
    unready: BTreeSet<&'a str>,
    /// They should tell something.
    missing: BTreeSet<&'a str>,
    /// They go, or are at their end.
    ignored: BTreeSet<&'a str>,
}

impl<'a> Groups<'a> {
    fn of(scene: Scene<'a>, samples: &Samples, resource: &str) -> Self {
        let none = BTreeSet::new;
        let mut groups = Self { ready: 0, unready: none(), missing: none(), ignored: none() };
        for pod in scene.pods {
            match samples.get(pod.name()) {
                _ if !is_active(pod) => drop(groups.ignored.insert(pod.name())),
                _ if phase(pod) == "Pending" => drop(groups.unready.insert(pod.name())),
                None => drop(groups.missing.insert(pod.name())),
                Some(sample) if resource == "cpu" && starts(pod, sample, scene.now) => {
                    groups.unready.insert(pod.name());
                }
                Some(_) => groups.ready += 1,
            }
        }
        groups
    }
}

/// Whether what the pod does may be its start, and not its work.
fn starts(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(started), Some(ready)) = (started, condition(pod, "Ready")) else { return true };
    let changed = ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let unready = ready.status == "False";
    if now.duration_since(started.0) < CPU_INITIALIZATION {
        return unready || sample.at.duration_since(changed) < sample.window;
    }
    // It has never been ready.
    unready && changed.duration_since(started.0) < INITIAL_READINESS
}

/// What a pod, or one of its containers, requests of a resource.
fn request(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, Uncountable> {
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    let no_request = |container: &str| Uncountable::NoRequest {
        resource: resource.to_owned(),
        container: container.to_owned(),
        pod: pod.name().to_owned(),
    };
    let of = |requests: &Requests| requests.get(resource).copied();
    if let Some(name) = container {
        let mut found = spec.running().map(|c| &c.asks).filter(|asks| *asks.name == *name);
        let found = found.next().ok_or_else(|| Uncountable::NoContainer {
            container: name.to_owned(),
            pod: pod.name().to_owned(),
        })?;
        return of(&found.requests).ok_or_else(|| no_request(name));
    }
    let each = || spec.running().map(|c| (&*c.asks.name, of(&c.asks.requests)));
    if let Some(whole) = &spec.requests {
        let sum = || each().filter_map(|(_, request)| request).reduce(i64::saturating_add);
        return of(whole).or_else(sum).ok_or_else(|| Uncountable::NoPodRequest {
            resource: resource.to_owned(),
            pod: pod.name().to_owned(),
        });
    }
    each().try_fold(0_i64, |sum, (name, request)| {
        Ok(sum.saturating_add(request.ok_or_else(|| no_request(name))?))
    })
}

#[cfg(test)]
#[path = "count_tests.rs"]
mod tests;
