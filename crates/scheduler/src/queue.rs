//! Pods that wait for a node: now, after a back-off, or until something changes that may make room.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use tiphys_client::ObjectRef;
use tokio::time::Instant;

use crate::{event::Event, framework::Profile, metrics::Reading, pod::SharedPod, snapshot::Surroundings};

/// The first retry waits this long, each further one twice as long as the one before.
pub(crate) const FIRST_BACKOFF: Duration = Duration::from_secs(1);
pub(crate) const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// What each node says to a pod is told at most this often.
const EXPLAINED_EVERY: Duration = Duration::from_secs(5);
/// Whatever the hints say, nothing waits longer: a plugin may have missed an event.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// What metrics call it when a pod was tried and has no node.
const FAILED: &str = "ScheduleAttemptFailure";

/// Higher priority first, then the older pod: PrioritySort.
type Rank = (Reverse<i32>, Option<Timestamp>, ObjectRef);

/// Where a pod waits.
///
/// ```text
///   set → Active → (pop) InFlight → (bound) gone
///          ↑            ├→ (nothing fits) Unschedulable → (event) Backoff or Active
///          │            ├→ (others make room) Awaiting → (they are gone) Active
///          └─ Backoff ←─┴→ (failed) Backoff
///   set → Gated → (changed) Active
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Active,
    /// A cycle or a binding is under way.
    InFlight,
    /// `early`: if no other pod is to be placed, also before (KEP-5142); not after an error, which waits for others.
    Backoff {
        until: Instant,
        early: bool,
    },
    /// Until an event that one of the plugins cares for, at the latest until the instant.
    Unschedulable {
        plugins: Vec<&'static str>,
        latest: Instant,
    },
    /// Until those are gone that make room for it on the node, or something happens elsewhere that helps.
    Awaiting {
        node: Box<str>,
        plugins: Vec<&'static str>,
        latest: Instant,
    },
    /// Until the pod itself changes.
    Gated,
}

struct Entry {
    pod: SharedPod,
    attempts: u32,
    /// When the first attempt began, and the last.
    first: Option<Instant>,
    tried: Option<Instant>,
    /// When it has to be told, or was told last, what each node says.
    explained: Option<Instant>,
    place: Place,
}

/// How long a pod waits after its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) last: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: FIRST_BACKOFF, last: LAST_BACKOFF }
    }
}

#[derive(Default)]
pub(crate) struct Queue {
    entries: BTreeMap<ObjectRef, Entry>,
    active: BTreeSet<Rank>,
    unschedulable: BTreeSet<ObjectRef>,
    gated: BTreeSet<ObjectRef>,
    /// By the node where others make room.
    awaiting: BTreeMap<Box<str>, BTreeSet<ObjectRef>>,
    /// For how many that are unschedulable or awaiting a plugin has said no, by the scheduler that they name.
    rejected: BTreeMap<&'static str, BTreeMap<Box<str>, usize>>,
    /// How many came to wait, by where and why.
    incoming: BTreeMap<(&'static str, &'static str), u64>,
    /// Those in back-off that need not stay there for long.
    early: BTreeSet<(Instant, ObjectRef)>,
    /// Those that have to be told what each node says.
    unexplained: BTreeSet<(Instant, ObjectRef)>,
    /// When pods that wait for a time are due.
    timed: BTreeSet<(Instant, ObjectRef)>,
    backoff: Backoff,
}

fn rank(pod: &SharedPod) -> Rank {
    (Reverse(pod.priority), pod.created, pod.reference.clone())
}

/// Whether more pods on nodes never turn the plugin's rejection around.
fn is_deaf(plugin: &str) -> bool {
    matches!(
        plugin,
        "DynamicResources"
            | "NodeResourcesFit"
            | "NodeAffinity"
            | "NodePorts"
            | "NodeName"
            | "TaintToleration"
            | "NodeUnschedulable"
    )
}

impl Place {
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Backoff { until, .. } => Some(*until),
            Self::Unschedulable { latest, .. } | Self::Awaiting { latest, .. } => Some(*latest),
            Self::Active | Self::InFlight | Self::Gated => None,
        }
    }

    /// What metrics call it.
    fn queue(&self) -> Option<&'static str> {
        match self {
            Self::Active => Some("active"),
            Self::Backoff { .. } => Some("backoff"),
            Self::Unschedulable { .. } | Self::Awaiting { .. } | Self::Gated => Some("unschedulable"),
            Self::InFlight => None,
        }
    }

    fn plugins(&self) -> &[&'static str] {
        match self {
            Self::Unschedulable { plugins, .. } | Self::Awaiting { plugins, .. } => plugins,
            _ => &[],
        }
    }
}

impl Queue {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { backoff, ..Self::default() }
    }

    /// A pod to place, new or changed.
    ///
    /// `gated`: it may not be considered yet.
    pub(crate) fn set(&mut self, pod: SharedPod, gated: bool, now: Instant) {
        let Some(Entry { pod: old, attempts, first, tried, explained, place }) = self.take(&pod.reference)
        else {
            let place = if gated { Place::Gated } else { Place::Active };
            self.count(&place, "UnschedulablePodAdd");
            self.put(Entry { pod, attempts: 0, first: None, tried: None, explained: None, place });
            return;
        };
        let place = match place {
            Place::InFlight => Place::InFlight,
            Place::Gated if gated => Place::Gated,
            // The pod asks for what it asked for; a new status, our own say, is no reason to try again.
            place if place != Place::Gated && !gated && old.asks_like(&pod) => place,
            _ => {
                let free = self.after_backoff(attempts, tried, now, true);
                let place = if gated { Place::Gated } else { free };
                self.count(&place, "UnschedulablePodUpdate");
                place
            }
        };
        self.put(Entry { pod, attempts, first, tried, explained, place });
    }

    /// Where a pod goes that is worth another try.
    fn after_backoff(&self, attempts: u32, tried: Option<Instant>, now: Instant, early: bool) -> Place {
        let Some(tried) = tried else { return Place::Active };
        let Backoff { first, last } = self.backoff;
        let due = tried + first.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(last);
        if due <= now { Place::Active } else { Place::Backoff { until: due, early } }
    }

    fn take(&mut self, pod: &ObjectRef) -> Option<Entry> {
        let entry = self.entries.remove(pod)?;
        match &entry.place {
            Place::Active => drop(self.active.remove(&rank(&entry.pod))),
            Place::Unschedulable { .. } => drop(self.unschedulable.remove(pod)),
            Place::Awaiting { node, .. } => {
                if let Some(pods) = self.awaiting.get_mut(node) {
                    pods.remove(pod);
                    if pods.is_empty() {
                        self.awaiting.remove(node);
                    }
                }
            }
            Place::Backoff { until, early } => {
                if *early {
                    self.early.remove(&(*until, pod.clone()));
                }
            }
            Place::Gated => drop(self.gated.remove(pod)),
            Place::InFlight => {}
        }
        for plugin in entry.place.plugins() {
            let by_scheduler = self.rejected.get_mut(plugin);
            if let Some(count) = by_scheduler.and_then(|counts| counts.get_mut(&entry.pod.scheduler)) {
                *count -= 1;
            }
        }
        if let Some(due) = entry.place.due() {
            self.timed.remove(&(due, pod.clone()));
        }
        Some(entry)
    }

    fn put(&mut self, entry: Entry) {
        let reference = entry.pod.reference.clone();
        match &entry.place {
            Place::Active => drop(self.active.insert(rank(&entry.pod))),
            Place::Unschedulable { .. } => drop(self.unschedulable.insert(reference.clone())),
            Place::Awaiting { node, .. } => {
                self.awaiting.entry(node.clone()).or_default().insert(reference.clone());
            }
            Place::Backoff { until, early } => {
                if *early {
                    self.early.insert((*until, reference.clone()));
                }
            }
            Place::Gated => drop(self.gated.insert(reference.clone())),
            Place::InFlight => {}
        }
        for plugin in entry.place.plugins() {
            let by_scheduler = self.rejected.entry(plugin).or_default();
            match by_scheduler.get_mut(&entry.pod.scheduler) {
                Some(count) => *count += 1,
                None => drop(by_scheduler.insert(entry.pod.scheduler.clone(), 1)),
            }
        }
        if let Some(due) = entry.place.due() {
            self.timed.insert((due, reference.clone()));
        }
        self.entries.insert(reference, entry);
    }

    /// `event`: why, as metrics call it.
    fn move_to(
        &mut self,
        pod: &ObjectRef,
        event: &'static str,
        place: impl FnOnce(&Self, &mut Entry) -> Place,
    ) {
        if let Some(mut entry) = self.take(pod) {
            entry.place = place(self, &mut entry);
            self.count(&entry.place, event);
            self.put(entry);
        }
    }

    fn count(&mut self, place: &Place, event: &'static str) {
        if let Some(queue) = place.queue() {
            *self.incoming.entry((queue, event)).or_default() += 1;
        }
    }

    /// How often the pod has been tried, and when that began.
    pub(crate) fn tries(&self, pod: &ObjectRef) -> Option<(u32, Instant)> {
        let entry = self.entries.get(pod)?;
        Some((entry.attempts, entry.first?))
    }

    /// What metrics tell.
    pub(crate) fn read(&self) -> Reading {
        let awaiting: usize = self.awaiting.values().map(BTreeSet::len).sum();
        let unschedulable = self.unschedulable.len() + awaiting;
        let pending = [
            ("active", self.active.len()),
            ("backoff", self.timed.len().saturating_sub(unschedulable)),
            ("unschedulable", unschedulable),
            ("gated", self.gated.len()),
        ];
        let rejected = self.rejected.iter().flat_map(|(plugin, counts)| {
            counts.iter().map(|(scheduler, count)| ((*plugin, scheduler.clone()), *count))
        });
        Reading {
            pending: pending.into(),
            unschedulable: rejected.collect(),
            incoming: self.incoming.clone(),
        }
    }

    pub(crate) fn remove(&mut self, pod: &ObjectRef) {
        if let Some(Entry { explained: Some(due), .. }) = self.take(pod) {
            self.unexplained.remove(&(due, pod.clone()));
        }
    }

    /// What each node says to the pod is news.
    pub(crate) fn explain(&mut self, pod: &ObjectRef, now: Instant) {
        let Some(entry) = self.entries.get_mut(pod) else { return };
        if entry.explained.is_some_and(|due| self.unexplained.contains(&(due, pod.clone()))) {
            return;
        }
        let due = entry.explained.map_or(now, |last| now.max(last + EXPLAINED_EVERY));
        entry.explained = Some(due);
        self.unexplained.insert((due, pod.clone()));
    }

    /// The next pod to be told, if none has to be placed first.
    pub(crate) fn explained(&mut self, now: Instant) -> Option<SharedPod> {
        self.unexplained.first().filter(|(due, _)| *due <= now && self.active.is_empty())?;
        let (_, pod) = self.unexplained.pop_first()?;
        let entry = self.entries.get_mut(&pod)?;
        entry.explained = Some(now);
        Some(entry.pod.clone())
    }

    /// Whether pods may be considered has to be looked at anew.
    pub(crate) fn regate(&mut self, is_gated: impl Fn(&SharedPod) -> bool) {
        let free = |pod: &&ObjectRef| self.entries.get(pod).is_some_and(|entry| !is_gated(&entry.pod));
        let free: Vec<ObjectRef> = self.gated.iter().filter(free).cloned().collect();
        for pod in free {
            self.move_to(&pod, "ForceActivate", |_, _| Place::Active);
        }
    }

    /// Takes a pod of the scheduler out of turn; `None` if it does not wait, or may not be considered.
    pub(crate) fn pull(&mut self, pod: &ObjectRef, scheduler: &str, now: Instant) -> Option<SharedPod> {
        let entry = self.entries.get(pod).filter(|entry| *entry.pod.scheduler == *scheduler)?;
        if matches!(entry.place, Place::InFlight | Place::Gated) {
            return None;
        }
        let pulled = entry.pod.clone();
        self.begin(pod, now);
        Some(pulled)
    }

    fn begin(&mut self, pod: &ObjectRef, now: Instant) {
        self.move_to(pod, "", |_, entry| {
            entry.attempts += 1;
            entry.first.get_or_insert(now);
            entry.tried = Some(now);
            Place::InFlight
        });
    }

    /// The next pod to place. It stays known, in flight, until it is removed or put back.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<SharedPod> {
        while let Some((_, due)) = self.timed.first().filter(|(at, _)| *at <= now).cloned() {
            let rests = self.entries.get(&due).is_some_and(|e| matches!(e.place, Place::Backoff { .. }));
            let event = if rests { "BackoffComplete" } else { "UnschedulableTimeout" };
            self.move_to(&due, event, |_, _| Place::Active);
        }
        let reference = match self.active.first() {
            Some((.., reference)) => reference.clone(),
            None => {
                let (_, early) = self.early.first()?.clone();
                self.count(&Place::Active, "PopFromBackoffQ");
                early
            }
        };
        self.begin(&reference, now);
        self.entries.get(&reference).map(|entry| entry.pod.clone())
    }

    /// No node fits; the pod waits for something that the plugins care for.
    pub(crate) fn unschedulable(&mut self, pod: &ObjectRef, plugins: Vec<&'static str>, now: Instant) {
        self.move_to(pod, FAILED, |_, _| Place::Unschedulable { plugins, latest: now + LONGEST_WAIT });
    }

    /// Others are leaving the node to make room for the pod.
    pub(crate) fn awaits(
        &mut self,
        pod: &ObjectRef,
        node: Box<str>,
        plugins: Vec<&'static str>,
        now: Instant,
    ) {
        self.move_to(pod, FAILED, |_, _| Place::Awaiting { node, plugins, latest: now + LONGEST_WAIT });
    }

    /// The room is there: the pod has waited for it, and need not wait for anything else.
    pub(crate) fn has_room(&mut self, pod: &ObjectRef) {
        self.move_to(pod, "AssignedPodDelete", |_, _| Place::Active);
    }

    /// The pods for which others make room on the node.
    pub(crate) fn awaiting(&self, node: &str) -> Vec<SharedPod> {
        let pods = self.awaiting.get(node).into_iter().flatten();
        pods.filter_map(|pod| self.entries.get(pod)).map(|entry| entry.pod.clone()).collect()
    }

    /// Something else went wrong: the pod is tried again after a back-off.
    pub(crate) fn failed(&mut self, pod: &ObjectRef, now: Instant) {
        self.move_to(pod, FAILED, |queue, entry| {
            queue.after_backoff(entry.attempts, entry.tried, now, false)
        });
    }

    /// Something happened: pods that it may help are tried again, at the earliest when their back-off is over.
    ///
    /// `profile` finds the plugins of a pod.
    pub(crate) fn on_event<'a>(
        &mut self,
        profile: impl Fn(&str) -> Option<&'a Profile>,
        event: &Event<'_>,
        around: &Surroundings,
        now: Instant,
    ) {
        // Most events are of no concern to any plugin that keeps a pod waiting.
        let minds = |plugin: &&'static str| !(matches!(event, Event::PodPlaced(_)) && is_deaf(plugin));
        let is_node = matches!(event, Event::NodeAdded(_));
        if !is_node
            && !self
                .rejected
                .iter()
                .any(|(plugin, counts)| minds(plugin) && counts.values().any(|count| *count > 0))
        {
            return;
        }
        let helps = |reference: &&ObjectRef| {
            let Some(Entry { pod, place, .. }) = self.entries.get(reference) else { return false };
            let plugins = place.plugins();
            // With no node at all, nothing has rejected the pod and any node will do.
            if plugins.is_empty() {
                return matches!(event, Event::NodeAdded(_));
            }
            profile(&pod.scheduler).is_some_and(|profile| profile.hint(plugins, pod, event, around))
        };
        // What leaves to make room is of no use to others that wait for such room elsewhere.
        let is_victim = matches!(event, Event::PodLeft(left) if left.is_victim);
        let awaiting = self.awaiting.values().flatten().filter(|_| !is_victim);
        let helped: Vec<ObjectRef> =
            self.unschedulable.iter().chain(awaiting).filter(helps).cloned().collect();
        for pod in helped {
            self.move_to(&pod, event.label(), |queue, entry| {
                queue.after_backoff(entry.attempts, entry.tried, now, true)
            });
        }
    }

    /// When a waiting pod is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.active.is_empty() && self.early.is_empty() {
            let first = [self.timed.first(), self.unexplained.first()];
            first.into_iter().flatten().map(|(at, _)| *at).min()
        } else {
            Some(Instant::now())
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
