//! All that the scheduler decides, without an API: pods and nodes come in, and what is to be written comes out.

use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use crate::{
    config::Config,
    cycle::{Found, Refusal, Search},
    event::Event,
    framework::{Errand, Point, Profile},
    metrics::{Laps, Tried},
    plugins::dynamic_resources,
    pod::{PodInfo, SharedPod},
    queue::Queue,
    snapshot::{NodeFacts, NodeId, Snapshot},
};

/// What is to be written after a cycle.
pub enum Outcome {
    /// To this node, once these errands are done.
    Bind(Box<str>, Vec<Errand>),
    Refuse(Box<Refusal>),
}

/// The queue, the snapshot, and what goes on from one cycle to the next.
pub struct State {
    pub(crate) profiles: Arc<[Profile]>,
    pub(crate) queue: Queue,
    pub(crate) snapshot: Snapshot,
    pub(crate) search: Search,
}

impl State {
    pub fn new(config: &Config) -> Self {
        Self {
            profiles: config.profiles.clone(),
            queue: Queue::new(config.backoff),
            snapshot: Snapshot::default(),
            search: Search::new(config.seed),
        }
    }

    /// Something outside of nodes and pods has changed.
    pub(crate) fn take(
        &mut self,
        event: Option<&Event<'_>>,
        change: &mut dyn FnMut(&mut Snapshot),
        now: Instant,
    ) {
        change(&mut self.snapshot);
        match event {
            Some(Event::GroupsChanged) => self.groups_changed(now),
            Some(event @ Event::DeviceClaimChanged { claim, .. }) => {
                self.regate(|pod| dynamic_resources::keys(pod).any(|key| key == **claim));
                self.happened(event, now);
            }
            Some(event) => self.happened(event, now),
            None => {}
        }
    }

    /// Whether those of the pods that may not be considered yet still may not is looked at anew.
    pub(crate) fn regate(&mut self, may_be_free: impl Fn(&PodInfo) -> bool) {
        let Self { profiles, queue, snapshot, .. } = self;
        queue.regate(|pod| {
            let profile = find(profiles, &pod.scheduler).filter(|_| may_be_free(pod));
            profile.is_none_or(|profile| profile.gate(pod, snapshot.surroundings()).is_some())
        });
    }

    pub(crate) fn happened(&mut self, event: &Event<'_>, now: Instant) {
        let Self { profiles, queue, snapshot, .. } = self;
        queue.on_event(|scheduler| find(profiles, scheduler), event, snapshot.surroundings(), now);
        if let Event::PodLeft(left) = event {
            for pod in queue.awaiting(&left.node) {
                if leaving(snapshot, &pod).is_none() {
                    queue.has_room(&pod.reference);
                }
            }
        }
    }

    /// The API's word on a pod; never neither.
    pub fn pod_changed(&mut self, old: Option<&PodInfo>, new: Option<&SharedPod>, now: Instant) {
        // A name that came back under another UID is another pod.
        if let Some(old) = old
            && new.is_none_or(|new| new.reference != old.reference)
        {
            let made_room = self.snapshot.nomination(&old.reference).is_some();
            self.queue.remove(&old.reference);
            self.snapshot.remove_pod(&old.reference);
            self.snapshot.set_member(old, false);
            if made_room && !old.is_placed() {
                self.happened(&Event::PodLeft(old), now);
            }
        }
        if let Some(new) = new {
            if old.is_some_and(|old| !old.nominated.is_empty()) && new.nominated.is_empty() {
                self.snapshot.withdraw(&new.reference);
            }
            self.snapshot.set_pod(new);
            let is_news = self.snapshot.set_member(new, new.is_placed() || new.waits());
            match find(&self.profiles, &new.scheduler).filter(|_| new.waits()) {
                Some(_) if self.snapshot.is_assumed(&new.reference) => {}
                Some(profile) => {
                    let gated = profile.gate(new, self.snapshot.surroundings()).is_some();
                    self.queue.set(new.clone(), gated, now);
                }
                None => self.queue.remove(&new.reference),
            }
            if is_news {
                self.groups_changed(now);
            }
        }
        let new = new.map(|new| &**new);
        match (old.filter(|p| p.is_placed()), new.filter(|p| p.is_placed())) {
            (Some(old), None) => self.happened(&Event::PodLeft(old), now),
            (None, Some(new)) => self.happened(&Event::PodPlaced(new), now),
            (Some(old), Some(new)) if !old.counts_like(new) => {
                self.happened(&Event::PlacedPodChanged { old, new }, now);
            }
            _ => {}
        }
    }

    /// The API's word on a node; never neither.
    pub fn node_changed(&mut self, old: Option<&NodeFacts>, new: Option<&Arc<NodeFacts>>, now: Instant) {
        match (old, new) {
            (None, None) => {}
            (Some(old), None) => self.snapshot.remove_node(&old.name),
            (None, Some(new)) => {
                self.snapshot.set_node(new.clone());
                self.happened(&Event::NodeAdded(new), now);
            }
            // A heartbeat.
            (Some(old), Some(new)) if *old == **new => {}
            (Some(old), Some(new)) => {
                self.snapshot.set_node(new.clone());
                self.happened(&Event::NodeChanged { old, new }, now);
            }
        }
    }

    /// The pod whose turn it is.
    pub fn next(&mut self, now: Instant) -> Option<SharedPod> {
        self.queue.pop(now)
    }

    /// A pod that fits nowhere, with each node's answer: when no other has to be placed, and not too often.
    pub fn explained(&mut self, now: Instant) -> Option<(SharedPod, Value)> {
        let pod = self.queue.explained(now).filter(|pod| !self.snapshot.is_assumed(&pod.reference))?;
        let profiles = self.profiles.clone();
        let profile = find(&profiles, &pod.scheduler)?;
        self.prepare(profile, &pod);
        let report = self.search.explain(profile, &pod, &self.snapshot)?;
        Some((pod, report))
    }

    /// Chooses a node, and assumes the pod there. Of a gang, all that wait are decided about together; if no profile is
    /// for the pod, nothing is.
    pub fn decide(&mut self, pod: &SharedPod, now: Instant) -> Vec<(SharedPod, Outcome)> {
        let profiles = self.profiles.clone();
        let Some(profile) = find(&profiles, &pod.scheduler) else { return Vec::new() };
        if let Some(least) = self.gang(profile, pod) {
            return self.decide_together(profile, pod, least, now);
        }
        self.prepare(profile, pod);
        let found = self.search.schedule(profile, pod, &self.snapshot);
        vec![(pod.clone(), self.settle(profile, pod, found, now))]
    }

    /// Has counted what the plugins will ask about the pod.
    pub(crate) fn prepare(&mut self, profile: &Profile, pod: &PodInfo) {
        let mut more = Vec::new();
        for enabled in &profile.plugins {
            more.extend(enabled.plugin.counts(pod, self.snapshot.surroundings()));
        }
        self.snapshot.prepare(pod, &more);
    }

    /// Takes what was found into the snapshot and the queue.
    pub(crate) fn settle(
        &mut self,
        profile: &Profile,
        pod: &SharedPod,
        found: Found,
        now: Instant,
    ) -> Outcome {
        let refusal = match found {
            Found::Node(id) => return self.assume(profile, pod, id, now),
            Found::Nothing(refusal) => refusal,
        };
        if let Some(plan) = &refusal.plan {
            // The pod stays in flight until its victims have been told to go.
            self.snapshot.follow(pod, plan);
        } else {
            match leaving(&self.snapshot, pod) {
                Some(node) => self.queue.awaits(&pod.reference, node, refusal.plugins.clone(), now),
                None if refusal.retries => self.queue.failed(&pod.reference, now),
                None => self.queue.unschedulable(&pod.reference, refusal.plugins.clone(), now),
            }
            if refusal.gives_up {
                self.snapshot.withdraw(&pod.reference);
            }
        }
        if refusal.is_news {
            self.queue.explain(&pod.reference, now);
        }
        Outcome::Refuse(refusal)
    }

    fn assume(&mut self, profile: &Profile, pod: &SharedPod, id: NodeId, now: Instant) -> Outcome {
        let errands = self.reserve(profile, pod, id);
        let node: Box<str> = self.snapshot.node(id).name().into();
        self.snapshot.assume(pod, &node);
        // What waits to be beside this pod need not wait for the API to say that it is there.
        self.happened(&Event::PodPlaced(pod), now);
        Outcome::Bind(node, errands)
    }

    /// Lets plugins take what the pod needs on the node.
    pub(crate) fn reserve(&mut self, profile: &Profile, pod: &PodInfo, id: NodeId) -> Vec<Errand> {
        let (mut errands, mut laps) = (Vec::new(), Laps::begin(&profile.scheduler));
        for (plugin, _) in profile.at(Point::Reserve) {
            errands.extend(plugin.reserve(pod, &mut self.snapshot, id));
        }
        laps.end(Point::Reserve, "Success");
        errands
    }

    /// When the attempt at the pod, in flight, that began at an instant comes to be counted.
    pub(crate) fn tried(&self, pod: &PodInfo, begun: std::time::Instant, now: Instant) -> Tried {
        let (attempts, first) = self.queue.tries(&pod.reference).unwrap_or((1, now));
        Tried { begun, attempts, first }
    }

    /// The victims have been told to go, but for those that are `spared`: nobody could tell them.
    pub fn made_room(
        &mut self,
        pod: &PodInfo,
        plugins: Vec<&'static str>,
        spared: &[SharedPod],
        now: Instant,
    ) {
        for victim in spared {
            self.snapshot.set_pod(victim);
        }
        match leaving(&self.snapshot, pod) {
            _ if !spared.is_empty() => self.queue.failed(&pod.reference, now),
            Some(node) => self.queue.awaits(&pod.reference, node, plugins, now),
            None => self.queue.has_room(&pod.reference),
        }
    }

    /// The pod does not go where it was assumed to go. `is_gone`: nor anywhere else.
    pub(crate) fn forget(&mut self, pod: &PodInfo, is_gone: bool, now: Instant) {
        let profiles = self.profiles.clone();
        for (plugin, _) in find(&profiles, &pod.scheduler).iter().flat_map(|p| p.at(Point::Reserve)) {
            plugin.unreserve(pod, &mut self.snapshot);
        }
        self.snapshot.forget(&pod.reference);
        if is_gone {
            self.queue.remove(&pod.reference);
        } else {
            self.queue.failed(&pod.reference, now);
        }
        self.happened(&Event::PodLeft(pod), now);
    }
}

/// The node where others are about to make room for the pod.
fn leaving(all: &Snapshot, pod: &PodInfo) -> Option<Box<str>> {
    let node = all.nomination(&pod.reference)?;
    let is_leaving = |p: &Arc<PodInfo>| p.going && p.is_victim && p.priority < pod.priority;
    node.pods.iter().any(is_leaving).then(|| node.name().into())
}

/// The plugins of the pods that name the scheduler.
pub(crate) fn find<'a>(profiles: &'a [Profile], scheduler: &str) -> Option<&'a Profile> {
    profiles.iter().find(|profile| *profile.scheduler == *scheduler)
}
