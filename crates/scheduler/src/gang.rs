//! One cycle for all that wait of a gang: enough of them find nodes, or none keeps one (KEP-4671).
//!
//! Each pod is placed with those before it assumed where they go. If in the end fewer have nodes than the gang asks
//! for, all is taken back, before anything was written. No room is made for gangs.

use tiphys_client::ObjectKey;
use tokio::time::Instant;

use crate::{
    cycle::{Found, Refusal},
    event::Event,
    framework::{Errand, Point, Profile},
    plugins::gang_scheduling::NAME,
    pod::SharedPod,
    snapshot::NodeId,
    state::{Outcome, State},
};

/// The condition of a PodGroup that its pods have found nodes.
pub(crate) const SCHEDULED: &str = "PodGroupInitiallyScheduled";

/// A member that has found a node.
struct Placed {
    pod: SharedPod,
    node: Box<str>,
    errands: Vec<Errand>,
}

impl State {
    /// How many of the pod's group have to be placed at once; `None` if it is placed by itself.
    pub(crate) fn gang(&self, profile: &Profile, pod: &SharedPod) -> Option<usize> {
        let group = self.snapshot.surroundings().groups.get(pod.group.as_ref()?)?;
        let least = group.policy.as_ref()?.gang?;
        profile.at(Point::PreEnqueue).any(|(plugin, _)| plugin.name() == NAME).then_some(least)
    }

    /// Decides about all members that wait; the pod is one of them, and in flight.
    pub(crate) fn decide_together(
        &mut self,
        profile: &Profile,
        pod: &SharedPod,
        least: usize,
        now: Instant,
    ) -> Vec<(SharedPod, Outcome)> {
        let groups = &self.snapshot.surroundings().groups;
        let group = pod.group.as_ref().and_then(|key| groups.get(key));
        let members: Vec<_> = group.into_iter().flat_map(|group| &group.members).cloned().collect();
        let there = members.iter().filter(|member| self.snapshot.is_placed(member)).count();
        let mut waiting = vec![pod.clone()];
        // A member that names another scheduler is that one's to place.
        waiting.extend(members.iter().filter_map(|member| self.queue.pull(member, &pod.scheduler, now)));
        waiting.sort_by_key(|member| (std::cmp::Reverse(member.priority), member.created));
        let (mut placed, mut refused) = (Vec::new(), Vec::new());
        let mut left = waiting.into_iter();
        while there + placed.len() + left.len() >= least {
            let Some(member) = left.next() else { break };
            self.prepare(profile, &member);
            match self.search.schedule(profile, &member, &self.snapshot) {
                Found::Node(id) => placed.push(self.put(profile, member, id)),
                Found::Nothing(refusal) => refused.push((member, refusal)),
            }
        }
        if there + placed.len() >= least {
            let bound = placed.into_iter().map(|p| {
                self.queue_sees(&p.pod, now);
                (p.pod, Outcome::Bind(p.node, p.errands))
            });
            let mut outcomes: Vec<_> = bound.collect();
            for (member, refusal) in refused {
                let outcome = self.settle(profile, &member, Found::Nothing(refusal), now);
                outcomes.push((member, outcome));
            }
            return outcomes;
        }
        let found = there + placed.len();
        let message =
            format!("minCount ({least}) cannot be satisfied: {found} scheduled, {} remaining", left.len());
        let plugins = |more: &[&'static str]| {
            let mut plugins = more.to_vec();
            plugins.push(NAME);
            plugins
        };
        // Whatever helps one of them helps all.
        let mut against: Vec<&'static str> = refused.iter().flat_map(|(_, r)| r.plugins.clone()).collect();
        against.sort_unstable();
        against.dedup();
        let retries = refused.iter().any(|(_, refusal)| refusal.retries);
        let back: Vec<SharedPod> = placed.into_iter().rev().map(|p| self.take_back(profile, p)).collect();
        let alike = back.into_iter().chain(left).map(|member| {
            let refusal = Refusal {
                message: message.clone(),
                plugins: plugins(&against),
                is_news: false,
                plan: None,
                gives_up: true,
                release: None,
                retries,
            };
            (member, Box::new(refusal))
        });
        let own = refused.into_iter().map(|(member, refusal)| {
            let message = format!("{message}. {}", refusal.message);
            let plugins = plugins(&against);
            (member, Box::new(Refusal { message, plugins, plan: None, retries, ..*refusal }))
        });
        let all: Vec<_> = own.chain(alike).collect();
        let refuse = |(member, refusal): (SharedPod, Box<Refusal>)| {
            let outcome = self.settle(profile, &member, Found::Nothing(refusal), now);
            (member, outcome)
        };
        all.into_iter().map(refuse).collect()
    }

    fn put(&mut self, profile: &Profile, pod: SharedPod, id: NodeId) -> Placed {
        let errands = self.reserve(profile, &pod, id);
        let node: Box<str> = self.snapshot.node(id).name().into();
        self.snapshot.assume(&pod, &node);
        Placed { pod, node, errands }
    }

    fn take_back(&mut self, profile: &Profile, placed: Placed) -> SharedPod {
        for (plugin, _) in profile.at(Point::Reserve) {
            plugin.unreserve(&placed.pod, &mut self.snapshot);
        }
        self.snapshot.forget(&placed.pod.reference);
        placed.pod
    }

    /// Tells those who wait that the pod has a node.
    fn queue_sees(&mut self, pod: &SharedPod, now: Instant) {
        self.happened(&Event::PodPlaced(pod), now);
    }

    /// A pod of a group has come, or a PodGroup has changed: who may be considered is looked at anew.
    pub(crate) fn groups_changed(&mut self, now: Instant) {
        self.regate(|pod| pod.group.is_some());
        self.happened(&Event::GroupsChanged, now);
    }

    /// What has to be said of the pod's group after it was decided about, and why not all of it is placed; `None` if
    /// that is no news. Once placed, a group counts as placed.
    pub(crate) fn group_news(
        &self,
        pod: &SharedPod,
        outcomes: &[(SharedPod, Outcome)],
    ) -> Option<(ObjectKey, Result<(), String>)> {
        let key = pod.group.as_ref()?;
        let policy = self.snapshot.surroundings().groups.get(key)?.policy.as_ref()?;
        policy.gang?;
        let news = if outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Bind(..))) {
            Ok(())
        } else {
            let why = outcomes.iter().find_map(|(_, outcome)| match outcome {
                Outcome::Refuse(refusal) => Some(refusal.message.clone()),
                Outcome::Bind(..) => None,
            });
            Err(why?)
        };
        let is_known = policy
            .told
            .as_ref()
            .is_some_and(|(placed, message)| *placed || news.as_ref().is_err_and(|news| **message == **news));
        (!is_known).then(|| (key.clone(), news))
    }
}

#[cfg(test)]
#[path = "gang_tests.rs"]
mod tests;
