//! NodeVolumeLimits: a node takes so many volumes of a driver (CSINode).

use std::collections::{BTreeMap, BTreeSet};

use tiphys_client::ObjectKey;

use crate::{
    event::Event,
    framework::{Filter, Plugin, Point, PreFilter, Rejection},
    pod::PodInfo,
    snapshot::{NodeInfo, Snapshot, Surroundings, claims},
    volumes::Storage,
};

const NAME: &str = "NodeVolumeLimits";

pub(super) struct NodeVolumeLimits;

/// By driver, the volumes that claims stand for.
type Attached = BTreeMap<Box<str>, BTreeSet<Box<str>>>;

fn attached(storage: &Storage, claims: impl Iterator<Item = ObjectKey>) -> Attached {
    let mut attached = Attached::new();
    for (driver, handle) in claims.filter_map(|claim| storage.attached(&claim)) {
        attached.entry(driver).or_default().insert(handle);
    }
    attached
}

struct Limited<'a> {
    storage: &'a Storage,
    new: Attached,
}

impl Filter for Limited<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(limits) = self.storage.limits.get(node.name()) else { return Ok(()) };
        if !self.new.keys().any(|driver| limits.contains_key(driver)) {
            return Ok(());
        }
        let there = attached(self.storage, node.pods.iter().flat_map(|pod| claims(pod)));
        let none = BTreeSet::new();
        let exceeded = self.new.iter().any(|(driver, new)| {
            let there = there.get(driver).unwrap_or(&none);
            let more = new.difference(there).count();
            more > 0 && limits.get(driver).is_some_and(|limit| there.len() + more > *limit)
        });
        if exceeded { Err(Rejection::new(NAME, "node(s) exceed max volume count")) } else { Ok(()) }
    }
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }
    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, all: &'a Snapshot) -> PreFilter<'a> {
        let storage = &all.surroundings().storage;
        let new = attached(storage, claims(pod));
        if new.is_empty() { PreFilter::Skip } else { PreFilter::Each(Box::new(Limited { storage, new })) }
    }
    fn hint(&self, _: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        match event {
            Event::PodLeft(left) => claims(left).next().is_some(),
            Event::NodeAdded(_) | Event::StorageChanged => true,
            _ => false,
        }
    }
}
