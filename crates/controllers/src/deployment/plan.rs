//! What a Deployment needs next: a pure function of the Deployment, its ReplicaSets and their pods.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};

use super::{
    numbers::{Bounds, grow, proportion, shrink},
    sets::{
        self, Annotations, DESIRED_REPLICAS, available, new_and_old, newest_first, replicas, size_annotations,
    },
    status::{News, complete, status},
};
use crate::object::Object;

#[derive(Debug)]
pub(super) enum Action {
    /// Makes the new set; if its name is taken by something else, the collision count must grow.
    Create(Box<ReplicaSet>),
    /// Gives a set its next size and annotations.
    Resize { set: Arc<ReplicaSet>, to: i32, annotations: Annotations },
    /// Brings the new set's annotations and readiness time up to date.
    Describe { set: Arc<ReplicaSet>, annotations: Annotations, min_ready_seconds: i32 },
    /// Lets an old, empty set go.
    Delete(Arc<ReplicaSet>),
    /// Tells on the Deployment which revision it is at.
    Mark { revision: i64 },
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) status: DeploymentStatus,
    pub(super) look_again: Option<Duration>,
}

/// `old_pods_run` says whether a pod of an old set still runs, or may.
pub(super) fn plan(
    deployment: &Deployment,
    all: &[Arc<ReplicaSet>],
    old_pods_run: bool,
    now: Timestamp,
) -> Plan {
    let bounds = Bounds::of(deployment);
    let (new, old) = new_and_old(deployment, all);
    let mut planner = Planner { deployment, bounds, new, old, actions: Vec::new(), news: News::None };
    if !deployment.is_going() {
        planner.act(old_pods_run);
    }
    let Planner { new, actions, news, old, .. } = planner;
    let created = actions.iter().find_map(|a| if let Action::Create(set) = a { Some(&**set) } else { None });
    let (status, look_again) = status(deployment, new.as_deref().or(created), all, news, now);
    let mut actions = actions;
    if !deployment.is_going() && actions.is_empty() && complete(deployment, &status) {
        actions.extend(history(deployment, old));
    }
    Plan { actions, status, look_again }
}

struct Planner<'a> {
    deployment: &'a Deployment,
    bounds: Bounds,
    new: Option<Arc<ReplicaSet>>,
    old: Vec<Arc<ReplicaSet>>,
    actions: Vec<Action>,
    news: News,
}

impl Planner<'_> {
    fn act(&mut self, old_pods_run: bool) {
        let spec = &self.deployment.spec;
        let paused = spec.paused == Some(true);
        if paused || self.wanted_changed() {
            self.describe();
            self.scale();
            return;
        }
        if self.recreates() { self.recreate(old_pods_run) } else { self.roll() }
    }

    fn recreates(&self) -> bool {
        self.deployment.spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate")
    }

    /// Whether the wanted number is another than the one that the sets were last sized for.
    fn wanted_changed(&self) -> bool {
        self.new.iter().chain(&self.old).filter(|s| replicas(s) > 0).any(|set| {
            let sized_for = set.annotation(DESIRED_REPLICAS).and_then(|n| n.parse::<i32>().ok());
            sized_for.is_some_and(|n| n != self.bounds.wanted)
        })
    }

    fn resize(&mut self, set: &Arc<ReplicaSet>, to: i32) {
        let mut annotations = set.metadata.annotations.clone().unwrap_or_default();
        size_annotations(&mut annotations, self.bounds);
        if replicas(set) != to || Some(&annotations) != set.metadata.annotations.as_ref() {
            self.actions.push(Action::Resize { set: set.clone(), to, annotations });
        }
    }

    /// Keeps the new set's annotations, and the Deployment's revision, true.
    fn describe(&mut self) {
        let Some(new) = self.new.clone() else { return };
        let next = sets::next_revision(&self.old);
        let current = new.metadata.annotations.as_ref();
        let annotations = sets::annotations(self.deployment, current, next, self.bounds);
        let min_ready_seconds = self.deployment.spec.min_ready_seconds.unwrap_or(0);
        let ready_now = new.spec.min_ready_seconds.unwrap_or(0);
        let revision = annotations.get(sets::REVISION).and_then(|r| r.parse().ok()).unwrap_or(next);
        // A change of the wanted number is spread by `scale`, which must still see the old measure.
        let told = Some(&annotations) == current || self.wanted_changed();
        if !told || min_ready_seconds != ready_now {
            let annotations =
                if self.wanted_changed() { current.cloned().unwrap_or_default() } else { annotations };
            self.actions.push(Action::Describe { set: new, annotations, min_ready_seconds });
        }
        self.news = News::Found;
        self.mark(revision);
    }

    fn mark(&mut self, revision: i64) {
        if sets::revision(&self.deployment.metadata) != revision {
            self.actions.push(Action::Mark { revision });
        }
    }

    fn create(&mut self, size: i32) {
        let next = sets::next_revision(&self.old);
        self.actions.push(Action::Create(Box::new(sets::make(self.deployment, next, self.bounds, size))));
        self.news = News::Created;
        self.mark(next);
    }

    /// Brings sizes in line with a changed wanted number, in the middle of a rollout as well.
    fn scale(&mut self) {
        let mut all: Vec<_> = self.new.iter().chain(&self.old).cloned().collect();
        all.sort_by(|a, b| newest_first(a, b));
        let active: Vec<_> = all.iter().filter(|s| replicas(s) > 0).cloned().collect();
        let only = match active.as_slice() {
            [] => self.new.clone().or_else(|| all.first().cloned()),
            [one] => Some(one.clone()),
            _ => None,
        };
        if let Some(only) = only {
            self.resize(&only, self.bounds.wanted);
            return;
        }
        if let Some(new) = &self.new
            && replicas(new) == self.bounds.wanted
            && available(new) == self.bounds.wanted
            && new.annotation(DESIRED_REPLICAS) == Some(&self.bounds.wanted.to_string())
        {
            for set in self.old.clone().iter().filter(|s| replicas(s) > 0) {
                self.resize(set, 0);
            }
            return;
        }
        if self.recreates() {
            return;
        }
        for (set, to) in proportion(self.bounds, &active) {
            self.resize(&set, to);
        }
    }

    fn roll(&mut self) {
        let all = self.new.iter().chain(&self.old).map(|s| replicas(s)).sum();
        let Some(new) = self.new.clone() else {
            self.create(grow(self.bounds, 0, all));
            return;
        };
        self.describe();
        let size = grow(self.bounds, replicas(&new), all);
        if size != replicas(&new) {
            // One action on a set at a time: a resize carries the annotations as well.
            self.actions.retain(|a| !matches!(a, Action::Describe { .. }));
            let next = sets::next_revision(&self.old);
            let current = new.metadata.annotations.as_ref();
            let annotations = sets::annotations(self.deployment, current, next, self.bounds);
            self.actions.push(Action::Resize { set: new, to: size, annotations });
            return;
        }
        for (set, to) in shrink(self.bounds, &new, &self.old) {
            self.resize(&set, to);
        }
    }

    fn recreate(&mut self, old_pods_run: bool) {
        let running: Vec<_> = self.old.iter().filter(|s| replicas(s) > 0).cloned().collect();
        if !running.is_empty() {
            for set in running {
                self.resize(&set, 0);
            }
            return;
        }
        if old_pods_run {
            return;
        }
        match self.new.clone() {
            None => self.create(self.bounds.wanted),
            Some(new) => {
                self.describe();
                if replicas(&new) != self.bounds.wanted {
                    self.actions.retain(|a| !matches!(a, Action::Describe { .. }));
                    self.resize(&new, self.bounds.wanted);
                }
            }
        }
    }
}

/// The old sets beyond the history that the Deployment wants to keep, the oldest revisions first.
fn history(deployment: &Deployment, mut old: Vec<Arc<ReplicaSet>>) -> Vec<Action> {
    let limit = deployment.spec.revision_history_limit.unwrap_or(10);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    old.retain(|s| !s.is_going());
    old.sort_by_key(|s| sets::revision(&s.metadata));
    let excess = old.len().saturating_sub(limit);
    let empty = |s: &Arc<ReplicaSet>| {
        let status = s.status.as_ref();
        replicas(s) == 0
            && status.map_or(0, |s| s.replicas) == 0
            && status.and_then(|s| s.observed_generation) >= s.metadata.generation
    };
    old.into_iter().take(excess).filter(empty).map(Action::Delete).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
