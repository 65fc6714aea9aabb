//! Pods that wait for a node: now, after a back-off, or until something changes that may make room.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use tiphys_client::ObjectRef;
use tokio::time::Instant;

use crate::{event::Event, framework::Profile, pod::SharedPod};

/// The first retry waits this long, each further one twice as long as the one before.
pub(crate) const FIRST_BACKOFF: Duration = Duration::from_secs(1);
pub(crate) const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// Whatever the hints say, nothing waits longer: a plugin may have missed an event.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// Higher priority first, then the older pod: PrioritySort.
type Rank = (Reverse<i32>, Option<Timestamp>, ObjectRef);

/// Where a pod waits.
///
/// ```text
///   set → Active → (pop) InFlight → (bound) gone
///          ↑            ├→ (nothing fits) Unschedulable → (event) Backoff or Active
///          └─ Backoff ←─┴→ (failed) Backoff
///   set → Gated → (changed) Active
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Active,
    /// A cycle or a binding is under way.
    InFlight,
    Backoff(Instant),
    /// Until an event that one of the plugins cares for, at the latest until the instant.
    Unschedulable {
        plugins: Vec<&'static str>,
        latest: Instant,
    },
    /// Until the pod itself changes.
    Gated,
}

struct Entry {
    pod: SharedPod,
    attempts: u32,
    /// When the last attempt began.
    tried: Option<Instant>,
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
    /// When pods that wait for a time are due.
    timed: BTreeSet<(Instant, ObjectRef)>,
    backoff: Backoff,
}

fn rank(pod: &SharedPod) -> Rank {
    (Reverse(pod.priority), pod.created, pod.reference.clone())
}

impl Place {
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Backoff(until) => Some(*until),
            Self::Unschedulable { latest, .. } => Some(*latest),
            Self::Active | Self::InFlight | Self::Gated => None,
        }
    }
}

impl Queue {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { backoff, ..Self::default() }
    }

    /// A pod to place, new or changed.
    pub(crate) fn set(&mut self, profile: &Profile, pod: SharedPod, now: Instant) {
        let gated = profile.gate(&pod).is_some();
        let Some(Entry { pod: old, attempts, tried, place }) = self.take(&pod.reference) else {
            let place = if gated { Place::Gated } else { Place::Active };
            self.put(Entry { pod, attempts: 0, tried: None, place });
            return;
        };
        let place = match place {
            Place::InFlight => Place::InFlight,
            _ if gated => Place::Gated,
            // The pod asks for what it asked for; a new status, our own say, is no reason to try again.
            place if place != Place::Gated && old.asks_like(&pod) => place,
            _ => self.after_backoff(attempts, tried, now),
        };
        self.put(Entry { pod, attempts, tried, place });
    }

    /// Where a pod goes that is worth another try.
    fn after_backoff(&self, attempts: u32, tried: Option<Instant>, now: Instant) -> Place {
        let Some(tried) = tried else { return Place::Active };
        let Backoff { first, last } = self.backoff;
        let due = tried + first.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(last);
        if due <= now { Place::Active } else { Place::Backoff(due) }
    }

    fn take(&mut self, pod: &ObjectRef) -> Option<Entry> {
        let entry = self.entries.remove(pod)?;
        match &entry.place {
            Place::Active => drop(self.active.remove(&rank(&entry.pod))),
            Place::Unschedulable { .. } => drop(self.unschedulable.remove(pod)),
            Place::InFlight | Place::Backoff(_) | Place::Gated => {}
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
            Place::InFlight | Place::Backoff(_) | Place::Gated => {}
        }
        if let Some(due) = entry.place.due() {
            self.timed.insert((due, reference.clone()));
        }
        self.entries.insert(reference, entry);
    }

    fn move_to(&mut self, pod: &ObjectRef, place: impl FnOnce(&Self, &mut Entry) -> Place) {
        if let Some(mut entry) = self.take(pod) {
            entry.place = place(self, &mut entry);
            self.put(entry);
        }
    }

    pub(crate) fn remove(&mut self, pod: &ObjectRef) {
        self.take(pod);
    }

    /// The next pod to place. It stays known, in flight, until it is removed or put back.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<SharedPod> {
        while let Some((_, due)) = self.timed.first().filter(|(at, _)| *at <= now).cloned() {
            self.move_to(&due, |_, _| Place::Active);
        }
        let reference = self.active.first().map(|(.., reference)| reference.clone())?;
        self.move_to(&reference, |_, entry| {
            entry.attempts += 1;
            entry.tried = Some(now);
            Place::InFlight
        });
        self.entries.get(&reference).map(|entry| entry.pod.clone())
    }

    /// No node fits; the pod waits for something that the plugins care for.
    pub(crate) fn unschedulable(&mut self, pod: &ObjectRef, plugins: Vec<&'static str>, now: Instant) {
        self.move_to(pod, |_, _| Place::Unschedulable { plugins, latest: now + LONGEST_WAIT });
    }

    /// Something else went wrong: the pod is tried again after a back-off.
    pub(crate) fn failed(&mut self, pod: &ObjectRef, now: Instant) {
        self.move_to(pod, |queue, entry| queue.after_backoff(entry.attempts, entry.tried, now));
    }

    /// Something happened: pods that it may help are tried again, at the earliest when their back-off is over.
    ///
    /// `profile` finds the plugins of a pod.
    pub(crate) fn on_event<'a>(
        &mut self,
        profile: impl Fn(&str) -> Option<&'a Profile>,
        event: &Event<'_>,
        now: Instant,
    ) {
        let helps = |reference: &&ObjectRef| {
            let Some(Entry { pod, place: Place::Unschedulable { plugins, .. }, .. }) =
                self.entries.get(reference)
            else {
                return false;
            };
            // With no node at all, nothing has rejected the pod and any node will do.
            if plugins.is_empty() {
                return matches!(event, Event::NodeAdded(_));
            }
            profile(&pod.scheduler).is_some_and(|profile| profile.hint(plugins, pod, event))
        };
        let helped: Vec<ObjectRef> = self.unschedulable.iter().filter(helps).cloned().collect();
        for pod in helped {
            self.move_to(&pod, |queue, entry| queue.after_backoff(entry.attempts, entry.tried, now));
        }
    }

    /// When a waiting pod is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.active.is_empty() { self.timed.first().map(|(at, _)| *at) } else { Some(Instant::now()) }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
