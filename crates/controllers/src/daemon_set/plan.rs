//! What a DaemonSet needs next: a pure function of the set, the nodes and its pods.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, DaemonSetStatus},
    core::v1::Node,
};

use super::eligible::{Eligibility, Eligible};
use crate::{
    amount::{Round, scaled},
    history::REVISION,
    object::Object,
    pod::Pod,
    pod_control::BURST,
    pods::{Availability, availability, is_finished, is_ready, node_of, phase, target_node},
};

/// A daemon pod that came to an end, which none should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) pod: String,
    pub(super) node: String,
    pub(super) failed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The nodes to make pods for.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Of those that are deleted, the ones to tell of.
    pub(super) ended: Vec<Ended>,
    pub(super) status: DaemonSetStatus,
    /// When a ready pod becomes an available one, or a back-off ends, nobody says so.
    pub(super) look_again: Option<Duration>,
}

/// What a plan looks at.
pub(super) struct Seen<'a> {
    pub(super) set: &'a DaemonSet,
    /// The hash of what the set now describes.
    pub(super) hash: &'a str,
    pub(super) collisions: i32,
    pub(super) nodes: &'a [Arc<Node>],
    /// All that the set owns.
    pub(super) pods: &'a [Arc<Pod>],
    /// Whether `pods` shows the set's own last creations and deletions.
    pub(super) caught_up: bool,
    /// How much longer a failed pod is kept on a node.
    pub(super) backoff: &'a dyn Fn(&str) -> Duration,
    pub(super) now: Timestamp,
}

pub(super) fn plan(seen: &Seen<'_>) -> Plan {
    let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in seen.pods {
        // What has ended, and is kept by a finalizer alone, is as good as gone; without one it is so in a moment.
        let kept = pod.metadata.finalizers.as_ref().is_some_and(|f| !f.is_empty());
        if kept && pod.is_going() && is_finished(pod) {
            continue;
        }
        if let Some(node) = target_node(pod) {
            by_node.entry(node.to_owned()).or_default().push(pod.clone());
        }
    }
    for pods in by_node.values_mut() {
        // The one that counts comes first: bound before unbound, then the oldest.
        pods.sort_by_cached_key(|p| (node_of(p).is_none(), created(p), p.name().to_owned()));
    }
    let eligibility = Eligibility::of(seen.set);
    let places = seen.nodes.iter().map(|node| {
        let pods = by_node.remove(node.name()).unwrap_or_default();
        Place { node: node.name().to_owned(), eligible: eligibility.of_node(node), pods }
    });
    let places: Vec<Place> = places.collect();
    let mut planner = Planner { seen, places, plan: Plan::default() };
    planner.measure();
    if seen.caught_up {
        planner.manage();
        // Nobody else deletes what waits for a node that is gone.
        let lost = by_node.into_values().flatten().filter(|p| node_of(p).is_none() && !p.is_going());
        planner.plan.delete.extend(lost);
        let idle = planner.plan.create.is_empty() && planner.plan.delete.is_empty();
        if idle && planner.rolls() {
            planner.roll();
        }
        planner.plan.create.truncate(BURST);
        planner.plan.delete.truncate(BURST);
    }
    planner.plan
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|t| t.0)
}

/// A node, and the set's pods there, the one that counts first.
struct Place {
    node: String,
    eligible: Eligible,
    pods: Vec<Arc<Pod>>,
}

struct Planner<'a> {
    seen: &'a Seen<'a>,
    places: Vec<Place>,
    plan: Plan,
}

/// The pods of a place in a rollout.
struct Pair {
    new: Option<Arc<Pod>>,
    old: Option<Arc<Pod>>,
}

/// A place in a rollout.
struct Side {
    node: String,
    /// Whether the set puts pods there.
    wanted: bool,
    /// Nothing, if there are more of one kind.
    pods: Option<Pair>,
}

impl Planner<'_> {
    fn is_updated(&self, pod: &Pod) -> bool {
        let label = pod.metadata.labels.as_ref().and_then(|l| l.get(REVISION));
        label.is_some_and(|hash| hash == self.seen.hash)
    }

    fn availability(&self, pod: &Pod) -> Availability {
        availability(pod, self.seen.set.spec.min_ready_seconds.unwrap_or(0), self.seen.now)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        self.availability(pod) == Availability::Available
    }

    fn again_in(&mut self, wait: Duration) {
        self.plan.look_again = Some(self.plan.look_again.map_or(wait, |w| w.min(wait)));
    }

    fn measure(&mut self) {
        let set = self.seen.set;
        let (mut desired, mut current, mut stray, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
        let mut waits = Vec::new();
        for place in &self.places {
            if place.eligible != Eligible::Yes {
                stray += i32::from(!place.pods.is_empty());
                continue;
            }
            desired += 1;
            let Some(first) = place.pods.first() else { continue };
            current += 1;
            ready += i32::from(is_ready(first));
            updated += i32::from(self.is_updated(first));
            available += i32::from(self.is_available(first));
            waits.extend(place.pods.iter().filter_map(|pod| match self.availability(pod) {
                Availability::In(wait) => Some(wait),
                _ => None,
            }));
        }
        waits.into_iter().for_each(|wait| self.again_in(wait));
        let old = set.status.clone().unwrap_or_default();
        self.plan.status = DaemonSetStatus {
            desired_number_scheduled: desired,
            current_number_scheduled: current,
            number_misscheduled: stray,
            number_ready: ready,
            number_available: Some(available),
            number_unavailable: Some(desired - available),
            updated_number_scheduled: Some(updated),
            // A generation that was only looked at is not observed.
            observed_generation: if self.seen.caught_up {
                set.metadata.generation
            } else {
                old.observed_generation
            },
            collision_count: Some(self.seen.collisions).filter(|n| *n > 0).or(old.collision_count),
            conditions: old.conditions,
        };
    }

    /// Sees to it that every eligible node has a pod, and no other.
    fn manage(&mut self) {
        let mut waits = Vec::new();
        let mut plan = std::mem::take(&mut self.plan);
        let surges = self.surge(1) > 0;
        for place in &self.places {
            let mut standing = place.pods.iter().filter(|p| !p.is_going()).peekable();
            // Where there may be two pods, the next comes while the last is going.
            let room = if surges { standing.peek().is_none() } else { place.pods.is_empty() };
            match place.eligible {
                Eligible::Yes if room => plan.create.push(place.node.clone()),
                Eligible::No => plan.delete.extend(standing.cloned()),
                Eligible::Yes | Eligible::ToStay => {
                    let mut running = Vec::new();
                    for pod in standing {
                        let failed = phase(pod) == "Failed";
                        let wait = (self.seen.backoff)(&place.node);
                        if failed && !wait.is_zero() {
                            waits.push(wait);
                        } else if failed || phase(pod) == "Succeeded" {
                            let ended =
                                Ended { pod: pod.name().to_owned(), node: place.node.clone(), failed };
                            plan.ended.push(ended);
                            plan.delete.push(pod.clone());
                        } else {
                            running.push(pod.clone());
                        }
                    }
                    plan.delete.extend(self.excess(running));
                }
            }
        }
        self.plan = plan;
        waits.into_iter().for_each(|wait| self.again_in(wait));
    }

    /// What there is too much of on a node: all but the first, and while a rollout surges all but the first of either side.
    fn excess(&self, running: Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
        if self.surge(1) == 0 {
            return running.into_iter().skip(1).collect();
        }
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|p| self.is_updated(p));
        let mut excess: Vec<_> = new.iter().skip(1).chain(old.iter().skip(1)).cloned().collect();
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!is_ready(old) || self.is_available(new))
        {
            excess.push(old.clone());
        }
        excess
    }

    fn rolls(&self) -> bool {
        let strategy = self.seen.set.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
        strategy != Some("OnDelete")
    }

    /// How many nodes of so many may have a second pod.
    fn surge(&self, nodes: i32) -> i32 {
        let strategy = self.seen.set.spec.update_strategy.as_ref().filter(|_| self.rolls());
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        scaled(rolling.and_then(|r| r.max_surge.as_ref()), nodes, Round::Up)
    }

    /// How many nodes of so many may be without an available pod. Both zero would never move.
    fn unavailable(&self, nodes: i32) -> i32 {
        let strategy = self.seen.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref());
        match unavailable.map_or(1, |u| scaled(Some(u), nodes, Round::Up)) {
            0 if self.surge(nodes) == 0 => 1,
            most => most,
        }
    }

    /// The next pods of a rollout.
    fn roll(&mut self) {
        let desired = self.plan.status.desired_number_scheduled;
        let surge = self.surge(desired);
        // A node whose pods are more than one of a side is left to `manage`, and counts against what may be missed.
        let sides: Vec<Side> = self
            .places
            .iter()
            .filter(|place| place.eligible == Eligible::Yes || !place.pods.is_empty())
            .map(|place| Side {
                node: place.node.clone(),
                wanted: place.eligible == Eligible::Yes,
                pods: self.pair(place),
            })
            .collect();
        if surge == 0 { self.replace(sides, desired) } else { self.surpass(sides, desired, surge) }
    }

    fn pair(&self, place: &Place) -> Option<Pair> {
        let standing = place.pods.iter().filter(|p| !p.is_going()).cloned();
        let (new, old): (Vec<_>, Vec<_>) = standing.partition(|p| self.is_updated(p));
        (new.len() <= 1 && old.len() <= 1)
            .then(|| Pair { new: new.into_iter().next(), old: old.into_iter().next() })
    }

    /// Deletes old pods: those that do not serve at once, and of others as many as may be missed beside them.
    fn replace(&mut self, sides: Vec<Side>, desired: i32) {
        let (mut missing, mut serving) = (0, Vec::new());
        for side in sides {
            match side.pods {
                Some(Pair { new: Some(new), old: None }) => missing += i32::from(!self.is_available(&new)),
                Some(Pair { new: None, old: Some(old) }) if self.is_available(&old) => serving.push(old),
                Some(Pair { new: None, old: Some(old) }) => {
                    self.plan.delete.push(old);
                    missing += 1;
                }
                _ => missing += 1,
            }
        }
        let spare = usize::try_from(self.unavailable(desired) - missing).unwrap_or(0);
        self.plan.delete.extend(serving.into_iter().take(spare));
    }

    /// Makes new pods beside old ones, as many as may be too many; beside those that do not serve, at once. Where no pod
    /// belongs any more, the old one serves until there are enough without it.
    fn surpass(&mut self, sides: Vec<Side>, desired: i32, surge: i32) {
        let (mut coming, mut available) = (0, 0);
        let (mut serving, mut unwanted) = (Vec::new(), Vec::new());
        for Side { node, wanted, pods } in sides {
            let Some(Pair { new, old }) = pods else {
                coming += 1;
                continue;
            };
            available += i32::from(old.as_ref().or(new.as_ref()).is_some_and(|pod| self.is_available(pod)));
            match (new, old) {
                (_, None) => {}
                (None, Some(old)) => match (self.is_available(&old), wanted) {
                    (true, true) => serving.push(node),
                    (true, false) => unwanted.push(old),
                    (false, true) => self.plan.create.push(node),
                    (false, false) => self.plan.delete.push(old),
                },
                (Some(new), Some(old)) if self.is_available(&new) => self.plan.delete.push(old),
                _ => coming += 1,
            }
        }
        let spare = |all: i32, used: i32| usize::try_from(all - used).unwrap_or(0);
        self.plan.create.extend(serving.into_iter().take(spare(surge, coming)));
        self.plan.delete.extend(unwanted.into_iter().take(spare(available, desired)));
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
