//! How fast a target may go where its metrics want it: what was recommended of late, what was done of late, and the
//! rules of `behavior`. Pure, but for what it remembers of one autoscaler.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec,
};

/// The widest window that `behavior` may have, and the longest period.
const WIDEST: SignedDuration = SignedDuration::from_secs(3600);
const LONGEST: SignedDuration = SignedDuration::from_secs(1800);
/// A target gets no smaller than any recommendation of this time, unless its behavior says otherwise.
const DOWNSCALE_WINDOW: SignedDuration = SignedDuration::from_secs(300);

/// What happened lately, oldest first: bounded by how often anything happens within its span.
#[derive(Debug, Default)]
struct Recent(VecDeque<(Timestamp, i32)>);

impl Recent {
    fn add(&mut self, now: Timestamp, value: i32, span: SignedDuration) {
        // A clock that was set back leaves what seems to come; it is as good as past.
        self.0.retain(|(at, _)| now.duration_since(*at).abs() <= span);
        self.0.push_back((now, value));
    }

    /// What is younger than `span`.
    fn since(&self, now: Timestamp, span: SignedDuration) -> impl Iterator<Item = i32> {
        self.0.iter().filter(move |(at, _)| now.duration_since(*at) < span).map(|(_, value)| *value)
    }

    fn sum(&self, now: Timestamp, seconds: i32) -> i32 {
        self.since(now, SignedDuration::from_secs(seconds.into())).fold(0, i32::saturating_add)
    }
}

/// What is remembered of an autoscaler between two looks. It is not stored: a new process starts with what it finds.
#[derive(Debug, Default)]
pub(super) struct Memory {
    recommended: Recent,
    added: Recent,
    removed: Recent,
}

impl Memory {
    /// What the target has at the first look is the first recommendation.
    pub(super) fn begin(&mut self, replicas: i32, now: Timestamp) {
        if self.recommended.0.is_empty() {
            self.recommended.add(now, replicas, WIDEST);
        }
    }

    /// The target was told to have other replicas.
    pub(super) fn scaled(&mut self, before: i32, after: i32, now: Timestamp) {
        let change = after.saturating_sub(before);
        let events = if change > 0 { &mut self.added } else { &mut self.removed };
        events.add(now, change.saturating_abs(), LONGEST);
    }
}

/// A condition of the autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) status: bool,
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
}

const fn told(status: bool, reason: &'static str, message: &'static str) -> Told {
    Told { status, reason, message }
}

const READY: Told = told(true, "ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: Told = told(
    true,
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Told = told(
    true,
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const WITHIN: Told = told(false, "DesiredWithinRange", "the desired count is within the acceptable range");
const UP_LIMIT: Told =
    told(true, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Told = told(
    true,
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const TOO_MANY: Told =
    told(true, "TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: Told =
    told(true, "TooFewReplicas", "the desired replica count is less than the minimum replica count");

/// What a target is to have now on its way to what its metrics want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) replicas: i32,
    /// `AbleToScale`
    pub(super) able: Told,
    /// `ScalingLimited`
    pub(super) limited: Told,
}

/// `current` are the replicas that the target is told to have, `wanted` those that its metrics ask for.
pub(super) fn pace(
    spec: &HorizontalPodAutoscalerSpec,
    fewest: i32,
    current: i32,
    wanted: i32,
    memory: &mut Memory,
    now: Timestamp,
) -> Pace {
    let recommended = match &spec.behavior {
        None => {
            // What is exactly as old as the window counts.
            let span = DOWNSCALE_WINDOW + SignedDuration::from_nanos(1);
            memory.recommended.since(now, span).fold(wanted, i32::max)
        }
        Some(behavior) => {
            let (up, down) = windows(behavior);
            let lowest = memory.recommended.since(now, up).fold(wanted, i32::min);
            let highest = memory.recommended.since(now, down).fold(wanted, i32::max);
            current.max(lowest).min(highest)
        }
    };
    memory.recommended.add(now, wanted, WIDEST);
    let able = match recommended == wanted {
        true => READY,
        false if spec.behavior.is_some() && wanted >= current => UP_STABILIZED,
        false => DOWN_STABILIZED,
    };
    let (replicas, limited) = match &spec.behavior {
        None => within(recommended, fewest, most(spec.max_replicas, burst(current))),
        Some(behavior) if recommended > current => {
            let limit = up_limit(current, memory, behavior.scale_up.as_ref(), now).max(current);
            within(recommended, i32::MIN, most(spec.max_replicas, limit))
        }
        Some(behavior) if recommended < current => {
            let limit = down_limit(current, memory, behavior.scale_down.as_ref(), now).min(current);
            let (least, why) = if fewest < limit { (limit, DOWN_LIMIT) } else { (fewest, TOO_FEW) };
            if recommended < least { (least, why) } else { (recommended, WITHIN) }
        }
        Some(_) => (recommended, WITHIN),
    };
    Pace { replicas, able, limited }
}

/// How far without rules a target may grow at once.
fn burst(current: i32) -> i32 {
    current.saturating_mul(2).max(4)
}

/// The most that a target may have, and why no more.
fn most(max: i32, limit: i32) -> (i32, Told) {
    if max > limit { (limit, UP_LIMIT) } else { (max, TOO_MANY) }
}

fn within(wanted: i32, fewest: i32, (most, why): (i32, Told)) -> (i32, Told) {
    match wanted {
        _ if wanted < fewest => (fewest, TOO_FEW),
        _ if wanted > most => (most, why),
        _ => (wanted, WITHIN),
    }
}

/// The windows of recommendations that count on the way up and down.
fn windows(behavior: &HorizontalPodAutoscalerBehavior) -> (SignedDuration, SignedDuration) {
    let window = |rules: &Option<HPAScalingRules>| {
        let seconds = rules.as_ref().and_then(|r| r.stabilization_window_seconds);
        seconds.map(|seconds| SignedDuration::from_secs(seconds.into()))
    };
    (
        window(&behavior.scale_up).unwrap_or(SignedDuration::ZERO),
        window(&behavior.scale_down).unwrap_or(DOWNSCALE_WINDOW),
    )
}

/// Which of the limits by all policies counts.
enum Select {
    Disabled,
    /// The one that allows the least change.
    Least,
    Most,
}

fn select(rules: Option<&HPAScalingRules>) -> Select {
    match rules.and_then(|rules| rules.select_policy.as_deref()) {
        Some("Disabled") => Select::Disabled,
        Some("Min") => Select::Least,
        _ => Select::Most,
    }
}

fn policies(rules: Option<&HPAScalingRules>) -> &[HPAScalingPolicy] {
    rules.and_then(|rules| rules.policies.as_deref()).unwrap_or_default()
}

/// What the target had when the policy's period began.
fn at_start(current: i32, memory: &Memory, policy: &HPAScalingPolicy, now: Timestamp) -> i32 {
    let (added, removed) = (&memory.added, &memory.removed);
    let period = policy.period_seconds;
    current.saturating_sub(added.sum(now, period)).saturating_add(removed.sum(now, period))
}

fn up_limit(current: i32, memory: &Memory, rules: Option<&HPAScalingRules>, now: Timestamp) -> i32 {
    let limits = policies(rules).iter().map(|policy| {
        let start = at_start(current, memory, policy, now);
        match &*policy.type_ {
            "Percent" => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
            _ => start.saturating_add(policy.value),
        }
    });
    match select(rules) {
        Select::Disabled => current,
        Select::Least => limits.min().unwrap_or(i32::MAX),
        Select::Most => limits.max().unwrap_or(i32::MIN),
    }
}

fn down_limit(current: i32, memory: &Memory, rules: Option<&HPAScalingRules>, now: Timestamp) -> i32 {
    let limits = policies(rules).iter().map(|policy| {
        let start = at_start(current, memory, policy, now);
        match &*policy.type_ {
            "Percent" => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
            _ => start.saturating_sub(policy.value),
        }
    });
    match select(rules) {
        Select::Disabled => current,
        Select::Least => limits.max().unwrap_or(i32::MIN),
        Select::Most => limits.min().unwrap_or(i32::MAX),
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
