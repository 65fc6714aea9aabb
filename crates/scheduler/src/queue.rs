//! Pods that wait for a node: now, after a back-off, or until something changes that may make room.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use tiphys_client::ObjectRef;
use tokio::time::Instant;

use crate::{
    framework::{ClusterEvent, Profile},
    pod::SharedPod,
};

/// The first retry waits this long, each further one twice as long as the one before.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// Whatever the hints say, nothing waits longer: a plugin may have missed an event.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// Higher priority first, then the older pod: PrioritySort.
type Rank = (Reverse<i32>, Option<Timestamp>, ObjectRef);

/// Where a pod waits.
#[derive(Debug)]
enum Place {
    Active,
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
    place: Place,
}

#[derive(Default)]
pub(crate) struct Queue {
    entries: BTreeMap<ObjectRef, Entry>,
    active: BTreeSet<Rank>,
    /// When pods that wait for a time are due.
    timed: BTreeSet<(Instant, ObjectRef)>,
}

fn rank(pod: &SharedPod) -> Rank {
    (Reverse(pod.priority), pod.created, pod.reference.clone())
}

fn backoff(attempts: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LAST_BACKOFF)
}

impl Place {
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Backoff(until) => Some(*until),
            Self::Unschedulable { latest, .. } => Some(*latest),
            Self::Active | Self::Gated => None,
        }
    }
}

impl Queue {
    /// A pod to place, new or changed.
    pub(crate) fn set(&mut self, profile: &Profile, pod: SharedPod, now: Instant) {
        let gated = profile.plugins.iter().any(|(p, _)| p.pre_enqueue(&pod).is_err());
        let before = self.take(&pod.reference);
        let attempts = before.as_ref().map_or(0, |e| e.attempts);
        let place = match before {
            _ if gated => Place::Gated,
            // The pod asks for what it asked for; a new status, our own say, is no reason to try again.
            Some(Entry { pod: old, place, .. }) if old.asks_like(&pod) => place,
            Some(Entry { place: Place::Backoff(until), .. }) if until > now => Place::Backoff(until),
            _ => Place::Active,
        };
        self.put(Entry { pod, attempts, place });
    }

    fn take(&mut self, pod: &ObjectRef) -> Option<Entry> {
        let entry = self.entries.remove(pod)?;
        self.active.remove(&rank(&entry.pod));
        if let Some(due) = entry.place.due() {
            self.timed.remove(&(due, pod.clone()));
        }
        Some(entry)
    }

    fn put(&mut self, entry: Entry) {
        let reference = entry.pod.reference.clone();
        if matches!(entry.place, Place::Active) {
            self.active.insert(rank(&entry.pod));
        }
        if let Some(due) = entry.place.due() {
            self.timed.insert((due, reference.clone()));
        }
        self.entries.insert(reference, entry);
    }

    fn move_to(&mut self, pod: &ObjectRef, place: impl FnOnce(&mut Entry) -> Place) {
        if let Some(mut entry) = self.take(pod) {
            entry.place = place(&mut entry);
            self.put(entry);
        }
    }

    pub(crate) fn remove(&mut self, pod: &ObjectRef) {
        self.take(pod);
    }

    /// The next pod to place. It stays known, in back-off, so that changes while it is placed are not lost.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<SharedPod> {
        while let Some((_, due)) = self.timed.first().filter(|(at, _)| *at <= now).cloned() {
            self.move_to(&due, |_| Place::Active);
        }
        let reference = self.active.first().map(|(.., reference)| reference.clone())?;
        self.move_to(&reference, |entry| {
            entry.attempts += 1;
            Place::Backoff(now + backoff(entry.attempts))
        });
        self.entries.get(&reference).map(|entry| entry.pod.clone())
    }

    /// No node fits; the pod waits for something that the plugins care for.
    pub(crate) fn unschedulable(&mut self, pod: &ObjectRef, plugins: Vec<&'static str>, now: Instant) {
        self.move_to(pod, |_| Place::Unschedulable { plugins, latest: now + LONGEST_WAIT });
    }

    /// Something happened: pods that it may help are tried again after a back-off.
    pub(crate) fn on_event(&mut self, profile: &Profile, event: ClusterEvent, now: Instant) {
        let helped: Vec<ObjectRef> = self
            .entries
            .values()
            .filter(|entry| match &entry.place {
                Place::Unschedulable { plugins, .. } => Self::cares(profile, plugins, event),
                _ => false,
            })
            .map(|entry| entry.pod.reference.clone())
            .collect();
        for pod in helped {
            self.move_to(&pod, |entry| Place::Backoff(now + backoff(entry.attempts)));
        }
    }

    fn cares(profile: &Profile, plugins: &[&'static str], event: ClusterEvent) -> bool {
        // With no node at all, nothing has rejected the pod and any node will do.
        if plugins.is_empty() {
            return event == ClusterEvent::NodeAdded;
        }
        profile.plugins.iter().any(|(p, _)| plugins.contains(&p.name()) && p.hint(event))
    }

    /// When a waiting pod is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.active.is_empty() { self.timed.first().map(|(at, _)| *at) } else { Some(Instant::now()) }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
