//! What a StatefulSet needs next: a pure function of the set, its pods and their claims.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetStatus},
        core::v1::PersistentVolumeClaim,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};

use super::{
    identity::{POD_NAME, claim_names, claims, ordinal, pod_name, range},
    retention::{is_stale, owners},
};
use crate::{
    amount::{Round, scaled},
    history::REVISION,
    object::Object,
    pod::Pod,
    pod_control::BURST,
    pods::{Availability, availability, is_finished, is_ready, phase},
};

/// A pod that a node refuses is made anew after this long at the earliest.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// The names of the revisions that pods may be at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Revisions {
    /// What the last finished rollout led to.
    pub(super) current: String,
    /// What the set now describes.
    pub(super) update: String,
    pub(super) collisions: i32,
}

/// A pod to make, with the name of its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewPod {
    pub(super) ordinal: i32,
    pub(super) revision: String,
}

/// To be done in the order of the fields.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Claims to make, each for the pod of this name.
    pub(super) claims: Vec<(String, PersistentVolumeClaim)>,
    /// Claims whose owners are to be these.
    pub(super) owners: Vec<(Arc<PersistentVolumeClaim>, Vec<OwnerReference>)>,
    /// Pods that lack the label with their name.
    pub(super) name: Vec<Arc<Pod>>,
    pub(super) create: Vec<NewPod>,
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) status: StatefulSetStatus,
    /// When a ready pod becomes an available one, nobody says so.
    pub(super) look_again: Option<Duration>,
}

impl Plan {
    fn again_in(&mut self, wait: Duration) {
        self.look_again = Some(self.look_again.map_or(wait, |w| w.min(wait)));
    }
}

/// `pods` are all that the set owns, `caught_up` says whether they show the set's own last creations and deletions, and
/// `claim` finds a claim of the set's namespace by name.
pub(super) fn plan(
    set: &StatefulSet,
    revisions: &Revisions,
    pods: &[Arc<Pod>],
    claim: &dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>>,
    caught_up: bool,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let mut planner = Planner::new(set, revisions, pods, claim, now);
    planner.measure(pods, &mut plan);
    if caught_up && !set.is_going() {
        planner.act(&mut plan);
    }
    // A batch at a time; what happens to it brings the set back here.
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    plan
}

/// Whether one step lets the next be thought of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Go,
    Wait,
}

struct Planner<'a> {
    set: &'a StatefulSet,
    revisions: &'a Revisions,
    claim: &'a dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>>,
    now: Timestamp,
    /// Each place that the set has, lowest first, with its pod.
    places: Vec<(i32, Option<Arc<Pod>>)>,
    /// Pods without a place, highest first.
    condemned: Vec<Arc<Pod>>,
    /// One at a time, each after the one before is available.
    ordered: bool,
}

impl<'a> Planner<'a> {
    fn new(
        set: &'a StatefulSet,
        revisions: &'a Revisions,
        pods: &[Arc<Pod>],
        claim: &'a dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>>,
        now: Timestamp,
    ) -> Self {
        let mut by_ordinal: BTreeMap<i32, Arc<Pod>> =
            pods.iter().filter_map(|pod| Some((ordinal(set, pod.name())?, pod.clone()))).collect();
        let places = range(set).map(|n| (n, by_ordinal.remove(&n))).collect();
        let condemned = by_ordinal.into_values().rev().collect();
        let ordered = set.spec.pod_management_policy.as_deref() != Some("Parallel");
        Self { set, revisions, claim, now, places, condemned, ordered }
    }

    fn availability(&self, pod: &Pod) -> Availability {
        match phase(pod) {
            "Running" => availability(pod, self.set.spec.min_ready_seconds.unwrap_or(0), self.now),
            _ => Availability::NotReady,
        }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        self.availability(pod) == Availability::Available && !pod.is_going()
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        revision(pod) == self.revisions.update
    }

    /// Counts, for the status.
    fn measure(&self, pods: &[Arc<Pod>], plan: &mut Plan) {
        let (mut ready, mut available, mut current, mut updated) = (0, 0, 0, 0);
        for pod in pods {
            ready += i32::from(phase(pod) == "Running" && is_ready(pod));
            match self.availability(pod) {
                Availability::Available => available += 1,
                Availability::In(wait) => plan.again_in(wait),
                Availability::NotReady => {}
            }
            if !pod.is_going() {
                current += i32::from(revision(pod) == self.revisions.current);
                updated += i32::from(self.is_updated(pod));
            }
        }
        let set = self.set;
        let replicas = i32::try_from(pods.len()).unwrap_or(i32::MAX);
        let wanted = set.spec.replicas.unwrap_or(1);
        let Revisions { current: mut at, update, collisions } = self.revisions.clone();
        if self.rolls() && [updated, ready, replicas] == [wanted; 3] {
            at.clone_from(&update);
            current = updated;
        }
        plan.status = StatefulSetStatus {
            replicas,
            ready_replicas: Some(ready),
            available_replicas: Some(available),
            current_replicas: Some(current),
            updated_replicas: Some(updated),
            current_revision: Some(at),
            update_revision: Some(update),
            collision_count: Some(collisions),
            observed_generation: set.metadata.generation,
            conditions: set.status.as_ref().and_then(|s| s.conditions.clone()),
        };
    }

    fn rolls(&self) -> bool {
        let strategy = self.set.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
        strategy != Some("OnDelete")
    }

    fn partition(&self) -> Option<i32> {
        let rolling = self.set.spec.update_strategy.as_ref()?.rolling_update.as_ref()?;
        Some(rolling.partition.unwrap_or(0))
    }

    /// The revision of a new pod: below the partition a lost pod comes back as it was.
    fn revision_at(&self, ordinal: i32) -> &str {
        let first = range(self.set).start;
        let done = || self.set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0);
        let kept = if self.rolls() { self.partition().unwrap_or_else(done) } else { 0 };
        if ordinal < first.saturating_add(kept) { &self.revisions.current } else { &self.revisions.update }
    }

    fn act(&mut self, plan: &mut Plan) {
        for (ordinal, pod) in &self.places {
            if self.keep(*ordinal, pod.as_ref(), plan) == Then::Wait && self.ordered {
                return;
            }
        }
        for pod in &self.condemned {
            self.own(pod, plan);
        }
        let waited_for = self.first_unavailable();
        for pod in &self.condemned {
            if pod.is_going() {
                if self.ordered {
                    return;
                }
            } else if self.ordered && !self.is_available(pod) && waited_for != Some(pod.uid()) {
                return;
            } else {
                plan.delete.push(pod.clone());
                if self.ordered {
                    return;
                }
            }
        }
        if self.rolls() {
            self.roll(plan);
        }
    }

    /// Sees to one place.
    fn keep(&self, ordinal: i32, pod: Option<&Arc<Pod>>, plan: &mut Plan) -> Then {
        let set = self.set;
        let Some(pod) = pod else {
            let name = pod_name(set, ordinal);
            let goes =
                |claim: &str| (self.claim)(claim).is_some_and(|c| c.is_going() || is_stale(&c, set, &name));
            if !claim_names(set, ordinal).any(|claim| goes(&claim)) {
                self.claims(ordinal, plan);
                plan.create.push(NewPod { ordinal, revision: self.revision_at(ordinal).to_owned() });
            }
            return Then::Wait;
        };
        if is_finished(pod) {
            // However it ended: it is to run. It is made anew when it has gone.
            let made = pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |t| t.0);
            let age = Duration::try_from(self.now.duration_since(made)).unwrap_or_default();
            if age < SHORTEST_LIFE {
                plan.again_in(SHORTEST_LIFE - age);
            } else if !pod.is_going() {
                plan.delete.push(pod.clone());
            }
            return Then::Wait;
        }
        if phase(pod) == "Pending" {
            self.claims(ordinal, plan);
        }
        if self.ordered && !self.is_available(pod) {
            return Then::Wait;
        }
        if pod.metadata.labels.as_ref().and_then(|l| l.get(POD_NAME)).map(String::as_str) != Some(pod.name())
        {
            plan.name.push(pod.clone());
        }
        self.own(pod, plan);
        Then::Go
    }

    /// Makes the claims of one place that are not there.
    fn claims(&self, ordinal: i32, plan: &mut Plan) {
        let missing = claims(self.set, ordinal).filter(|c| (self.claim)(c.name()).is_none());
        plan.claims.extend(missing.map(|claim| (pod_name(self.set, ordinal), claim)));
    }

    /// Sees to the owners of a pod's claims.
    fn own(&self, pod: &Arc<Pod>, plan: &mut Plan) {
        let Some(ordinal) = ordinal(self.set, pod.name()) else { return };
        for claim in claim_names(self.set, ordinal).filter_map(|name| (self.claim)(&name)) {
            if let Some(owners) = owners(self.set, pod, &claim).filter(|_| !claim.is_going()) {
                plan.owners.push((claim, owners));
            }
        }
    }

    /// The lowest pod that is not available; those with a place come before those without.
    fn first_unavailable(&self) -> Option<&str> {
        let placed = self.places.iter().filter_map(|(_, pod)| pod.as_ref());
        placed.chain(self.condemned.iter().rev()).find(|p| !self.is_available(p)).map(|p| p.uid())
    }

    /// Deletes pods of old revisions, highest first, as many as may be missed.
    fn roll(&self, plan: &mut Plan) {
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let most = rolling.and_then(|r| r.max_unavailable.as_ref());
        let wanted = self.set.spec.replicas.unwrap_or(1);
        let most = most.map_or(1, |m| scaled(Some(m), wanted, Round::Down)).max(1);
        let missing = |pod: &Option<Arc<Pod>>| pod.as_ref().is_none_or(|p| !self.is_available(p));
        let unavailable = self.places.iter().filter(|(_, pod)| missing(pod)).count();
        let mut spare = most - i32::try_from(unavailable).unwrap_or(i32::MAX);
        let kept = usize::try_from(self.partition().unwrap_or(0)).unwrap_or(0);
        let going: Vec<&str> = plan.delete.iter().map(|p| p.uid()).collect();
        let old: Vec<Arc<Pod>> = self
            .places
            .iter()
            .skip(kept)
            .rev()
            .filter_map(|(_, pod)| pod.clone())
            .filter(|p| !p.is_going() && !self.is_updated(p) && !going.contains(&p.uid()))
            .collect();
        let (serving, idle): (Vec<_>, Vec<_>) = old.into_iter().partition(|p| self.is_available(p));
        // Nobody misses a pod that does not serve. With order there is none: the rollout waits for it.
        plan.delete.extend(idle);
        for pod in serving {
            if spare <= 0 {
                return;
            }
            plan.delete.push(pod);
            spare -= 1;
        }
    }
}

/// The revision that a pod was made at.
fn revision(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|l| l.get(REVISION)).map(String::as_str).unwrap_or_default()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
