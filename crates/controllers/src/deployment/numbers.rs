//! How many replicas each ReplicaSet of a Deployment should have.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::sets::{MAX_REPLICAS, available, newest_first, replicas};
use crate::{
    amount::{Round, scaled},
    object::Object,
};

/// How far a rollout may go above and below the wanted number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) wanted: i32,
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

impl Bounds {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.clone();
        let wanted = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.unwrap_or_default();
        if strategy.type_.as_deref() == Some("Recreate") {
            return Self { wanted, surge: 0, unavailable: wanted };
        }
        let rolling = strategy.rolling_update.unwrap_or_default();
        let surge = scaled(rolling.max_surge.as_ref(), wanted, Round::Up);
        let unavailable = scaled(rolling.max_unavailable.as_ref(), wanted, Round::Down).min(wanted);
        // Both zero would never move; upstream then lets one be unavailable.
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { wanted, surge, unavailable }
    }

    /// The most pods that may exist; none if none are wanted.
    pub(super) fn most(self) -> i32 {
        if self.wanted == 0 { 0 } else { self.wanted.saturating_add(self.surge) }
    }

    /// The fewest pods that must be available.
    pub(super) fn fewest(self) -> i32 {
        (self.wanted - self.unavailable).max(0)
    }
}

/// How many replicas the new set should have next in a rolling update.
pub(super) fn grow(bounds: Bounds, new: i32, all: i32) -> i32 {
    if new >= bounds.wanted {
        return bounds.wanted;
    }
    let room = bounds.wanted.saturating_add(bounds.surge) - all;
    if room <= 0 { new } else { new + room.min(bounds.wanted - new) }
}

/// By how much old sets shrink in a rolling update: first pods that serve nobody, then as many as can be
/// missed. Returns each set that shrinks with its next size.
pub(super) fn shrink(
    bounds: Bounds,
    new: &ReplicaSet,
    old: &[Arc<ReplicaSet>],
) -> Vec<(Arc<ReplicaSet>, i32)> {
    let total =
        |sets: &[Arc<ReplicaSet>], count: fn(&ReplicaSet) -> i32| sets.iter().map(|s| count(s)).sum::<i32>();
    // What it tells of its pods may be older than its size.
    let new_unavailable = (replicas(new) - available(new)).max(0);
    let mut room = replicas(new) + total(old, replicas) - bounds.fewest() - new_unavailable;
    if room <= 0 {
        return Vec::new();
    }
    let mut oldest_first = old.to_vec();
    oldest_first.sort_by(|a, b| newest_first(b, a));
    let mut sizes: BTreeMap<usize, i32> = BTreeMap::new();
    for (i, set) in oldest_first.iter().enumerate() {
        let idle = (replicas(set) - available(set)).max(0).min(room);
        room -= idle;
        sizes.insert(i, replicas(set) - idle);
    }
    let mut spare = available(new) + total(old, available) - bounds.fewest();
    for (i, _) in oldest_first.iter().enumerate() {
        let size = sizes.entry(i).or_default();
        // So may what the others tell: then some of their pods are about to go.
        let by = (*size).min(spare).min(room).max(0);
        *size -= by;
        spare -= by;
        room -= by;
    }
    sizes
        .into_iter()
        .map(|(i, size)| (oldest_first[i].clone(), size))
        .filter(|(set, size)| replicas(set) != *size)
        .collect()
}

/// Spreads a change of the wanted number over the sets of an unfinished rollout, in proportion to their sizes.
pub(super) fn proportion(bounds: Bounds, active: &[Arc<ReplicaSet>]) -> Vec<(Arc<ReplicaSet>, i32)> {
    let all: i32 = active.iter().map(|s| replicas(s)).sum();
    let to_add = bounds.most() - all;
    let mut sets = active.to_vec();
    // The larger first; among equals the newer when growing, the older when shrinking.
    sets.sort_by(|a, b| {
        replicas(b)
            .cmp(&replicas(a))
            .then_with(|| if to_add > 0 { newest_first(a, b) } else { newest_first(b, a) })
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(sets.len());
    for set in &sets {
        let size = replicas(set);
        let share = if to_add == 0 { 0 } else { share(set, size, bounds, to_add - added, to_add > 0) };
        sizes.push(size + share);
        added += share;
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + (to_add - added)).max(0);
    }
    sets.into_iter().zip(sizes).collect()
}

fn share(set: &ReplicaSet, size: i32, bounds: Bounds, left: i32, growing: bool) -> i32 {
    let before = set.annotation(MAX_REPLICAS).and_then(|n| n.parse::<i64>().ok()).filter(|n| *n > 0);
    let before = before.unwrap_or(i64::from(bounds.most().max(1)));
    let exact = i64::from(size) * i64::from(bounds.most());
    // Rounded to the nearest.
    let fair = (2 * exact + before).div_euclid(2 * before) - i64::from(size);
    let fair = i32::try_from(fair).unwrap_or(i32::MAX);
    if growing { fair.min(left).max(0) } else { fair.max(left).min(0) }
}
