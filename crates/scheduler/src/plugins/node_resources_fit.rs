//! NodeResourcesFit: whether what a node has left is enough, and how full its nodes are to be.

use std::borrow::Cow;

use crate::{
    devices::Devices,
    event::Event,
    framework::{BEST, Filter, Plugin, Point, PreFilter, Reasons, Rejection, Score},
    pod::PodInfo,
    resources::Resources,
    snapshot::{NodeFacts, NodeId, NodeInfo, Snapshot, Surroundings},
};

use super::args::{FitArgs, ScoringStrategy, ShapePoint, Strategy, Weighted};

const NAME: &str = "NodeResourcesFit";

pub(super) struct NodeResourcesFit(pub(super) FitArgs);

/// A resource that a node lacks.
struct Lack<'a> {
    resource: &'a str,
    missing: i64,
    /// All of it would not be enough.
    hopeless: bool,
    of: i64,
}

struct Needs<'a> {
    need: &'a Resources,
    others: Vec<Other<'a>>,
}

struct Other<'a> {
    name: &'a str,
    need: i64,
    /// A DeviceClass stands for it: of a node that has none by itself, devices are claimed (KEP-5004).
    is_claimed: bool,
}

impl<'a> Needs<'a> {
    fn new(args: &FitArgs, need: &'a Resources, around: &Surroundings) -> Self {
        let is_ignored = |name: &str| {
            args.ignored_resources.iter().any(|i| i == name)
                || name
                    .split_once('/')
                    .is_some_and(|(group, _)| args.ignored_resource_groups.iter().any(|g| g == group))
        };
        let others = need.others.iter().filter(|(name, amount)| **amount > 0 && !is_ignored(name));
        let others = others.map(|(name, need)| Other {
            name,
            need: *need,
            is_claimed: around.devices.class_of(name).is_some(),
        });
        Self { need, others: others.collect() }
    }

    fn lacks(&self, have: &NodeFacts, taken: &Resources) -> impl Iterator<Item = Lack<'a>> {
        let (need, have) = (self.need, &have.allocatable);
        let three = [
            ("cpu", need.cpu, have.cpu, taken.cpu),
            ("memory", need.memory, have.memory, taken.memory),
            ("ephemeral-storage", need.ephemeral_storage, have.ephemeral_storage, taken.ephemeral_storage),
        ];
        let others = self.others.iter().filter(|other| !other.is_claimed || have.of(other.name) != 0);
        let others = others.map(|other| (other.name, other.need, have.of(other.name), taken.of(other.name)));
        three.into_iter().chain(others).filter_map(|(resource, need, have, taken)| {
            let missing = need.saturating_sub(have.saturating_sub(taken));
            (need > 0 && missing > 0).then_some(Lack { resource, missing, hopeless: need > have, of: have })
        })
    }
}

fn is_full(node: &NodeInfo) -> bool {
    i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.facts.most_pods
}

impl Filter for Needs<'_> {
    fn is_local(&self) -> bool {
        true
    }

    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let need = self.need;
        let (have, taken) = (&node.facts.allocatable, &node.requested);
        // What nearly always is asked, without looking at each resource by itself.
        if !is_full(node)
            && self.others.is_empty()
            && (need.cpu == 0 || need.cpu <= have.cpu - taken.cpu)
            && (need.memory == 0 || need.memory <= have.memory - taken.memory)
            && (need.ephemeral_storage == 0
                || need.ephemeral_storage <= have.ephemeral_storage - taken.ephemeral_storage)
        {
            return Ok(());
        }
        let mut reasons: Vec<Cow<'static, str>> = Vec::new();
        let mut unresolvable = false;
        if is_full(node) {
            reasons.push("Too many pods".into());
        }
        for lack in self.lacks(&node.facts, taken) {
            unresolvable |= lack.hopeless;
            reasons.push(match lack.resource {
                "cpu" => "Insufficient cpu".into(),
                "memory" => "Insufficient memory".into(),
                other => format!("Insufficient {other}").into(),
            });
        }
        match reasons.as_slice() {
            [] => Ok(()),
            [Cow::Borrowed(one)] => Err(Rejection { plugin: NAME, reasons: Reasons::One(one), unresolvable }),
            _ => Err(Rejection { plugin: NAME, reasons: Reasons::Many(reasons), unresolvable }),
        }
    }

    fn distance(&self, node: &NodeInfo) -> Option<i64> {
        let lacks = self.lacks(&node.facts, &node.requested);
        let parts = lacks.map(|lack| i128::from(lack.missing) * 1000 / i128::from(lack.of.max(1)));
        let sum = parts.sum::<i128>() + if is_full(node) { 10 } else { 0 };
        Some(i64::try_from(sum).unwrap_or(i64::MAX / 16))
    }

    fn remedy(&self, node: &NodeInfo) -> Option<String> {
        let full = is_full(node).then(|| "room for 1 more pod".to_owned());
        let lacks = self.lacks(&node.facts, &node.requested);
        let more = lacks.map(|Lack { resource, missing, .. }| {
            format!("{missing}{} more {resource}", if resource == "cpu" { "m" } else { "" })
        });
        let texts: Vec<String> = full.into_iter().chain(more).collect();
        (!texts.is_empty()).then(|| texts.join(" and "))
    }
}

/// Whether the pod asks for one of the resources by a DeviceClass: then what nodes have of it changes without them.
pub(super) fn are_claimed(resources: &[Weighted], pod: &PodInfo, devices: &Devices) -> bool {
    resources.iter().any(|r| pod.requests.of(&r.name) > 0 && devices.class_of(&r.name).is_some())
}

/// What a resource of a node comes to with the pod there: (requested, allocatable); `None` if it has no say. Of what a
/// node has none of by itself, devices count, if a DeviceClass stands for it (KEP-5004).
pub(super) fn with_pod(
    name: &str,
    pod: &PodInfo,
    node: &NodeInfo,
    devices: &Devices,
    weighed: bool,
) -> Option<(i64, i64)> {
    let have = node.facts.allocatable.of(name);
    let requested = match name {
        "cpu" if weighed => node.weight.0 + pod.weight.0,
        "memory" if weighed => node.weight.1 + pod.weight.1,
        _ => {
            let need = pod.requests.of(name);
            // A resource of which the pod wants nothing is no reason for or against a node, but for the common ones.
            if need == 0 && !matches!(name, "cpu" | "memory" | "ephemeral-storage") {
                return None;
            }
            if have == 0 {
                let (taken, have) = devices.amount(devices.class_of(name)?, &node.facts)?;
                return (have > 0).then_some((taken + need, have));
            }
            node.requested.of(name) + need
        }
    };
    (have != 0).then_some((requested, have))
}

struct Fill<'a> {
    pod: &'a PodInfo,
    devices: &'a Devices,
    resources: &'a [Weighted],
    strategy: Strategy,
    shape: &'a [ShapePoint],
}

/// The score on the broken line through the points, at a utilization.
fn on_line(shape: &[ShapePoint], at: i64) -> i64 {
    let scaled = |p: &ShapePoint| p.score * BEST / 10;
    let Some(after) = shape.iter().position(|p| at <= p.utilization) else {
        return shape.last().map_or(0, scaled);
    };
    let Some(before) = after.checked_sub(1) else { return scaled(&shape[after]) };
    let (a, b) = (&shape[before], &shape[after]);
    scaled(a) + (scaled(b) - scaled(a)) * (at - a.utilization) / (b.utilization - a.utilization)
}

impl Score for Fill<'_> {
    fn is_fixed(&self) -> bool {
        !are_claimed(self.resources, self.pod, self.devices)
    }

    fn score(&self, node: &NodeInfo) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for Weighted { name, weight } in self.resources {
            let Some((requested, have)) = with_pod(name, self.pod, node, self.devices, true) else {
                continue;
            };
            let score = match self.strategy {
                Strategy::LeastAllocated if requested > have => 0,
                Strategy::LeastAllocated => (have - requested) * BEST / have,
                Strategy::MostAllocated => requested.min(have) * BEST / have,
                Strategy::RequestedToCapacityRatio => {
                    let full = if requested > have { 100 } else { requested * 100 / have };
                    let score = on_line(self.shape, full);
                    if score <= 0 {
                        continue;
                    }
                    score
                }
            };
            sum += score * weight;
            weights += weight;
        }
        match (weights, self.strategy) {
            (0, _) => 0,
            (_, Strategy::RequestedToCapacityRatio) => (sum as f64 / weights as f64).round() as i64,
            _ => sum / weights,
        }
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }
    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, all: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Each(Box::new(Needs::new(&self.0, &pod.requests, all.surroundings())))
    }
    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        all: &'a Snapshot,
        _: &[NodeId],
    ) -> Option<Box<dyn Score + 'a>> {
        let ScoringStrategy { type_, resources, requested_to_capacity_ratio } = &self.0.scoring_strategy;
        let shape = &requested_to_capacity_ratio.shape;
        let devices = &all.surroundings().devices;
        Some(Box::new(Fill { pod, devices, resources, strategy: *type_, shape }))
    }
    fn hint(&self, pod: &PodInfo, event: &Event<'_>, around: &Surroundings) -> bool {
        let need = &pod.requests;
        match event {
            Event::PodLeft(_) => true,
            Event::DeviceClassChanged => !pod.asking.is_empty(),
            Event::PlacedPodChanged { old, new } => old.requests != new.requests,
            _ => {
                let grew = |old: &NodeFacts, new: &NodeFacts| {
                    old.most_pods < new.most_pods || new.allocatable.exceeds(&old.allocatable)
                };
                event.node(grew).is_some_and(|node| {
                    node.most_pods > 0
                        && Needs::new(&self.0, need, around)
                            .lacks(node, &Resources::default())
                            .next()
                            .is_none()
                })
            }
        }
    }
}
