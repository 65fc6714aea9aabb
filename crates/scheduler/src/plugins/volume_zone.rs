//! VolumeZone: a volume that names its zone can be used there alone.

use crate::{
    event::Event,
    framework::{Filter, Plugin, Point, PreFilter, Rejection},
    pod::PodInfo,
    selector::Labels,
    snapshot::{NodeInfo, Snapshot, Surroundings, claims},
};

const NAME: &str = "VolumeZone";
const KEYS: [(&str, &str); 2] = [
    ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
];

pub(super) struct VolumeZone;

/// Either name of a label, which may name several zones of a volume.
fn label<'a>(labels: &'a Labels, (name, old): (&str, &str)) -> Option<&'a str> {
    labels.get(name).or_else(|| labels.get(old)).map(String::as_str)
}

struct Zoned<'a>(Vec<&'a Labels>);

impl Filter for Zoned<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let labels = &node.facts.labels;
        // A node that names no zone is in all of them.
        if KEYS.iter().all(|key| label(labels, *key).is_none()) {
            return Ok(());
        }
        let reaches = |volume: &&Labels| {
            KEYS.iter().all(|key| {
                let Some(zones) = label(volume, *key) else { return true };
                label(labels, *key).is_some_and(|zone| zones.split("__").any(|z| z == zone))
            })
        };
        if self.0.iter().all(reaches) {
            return Ok(());
        }
        Err(Rejection::hopeless(NAME, "node(s) had no available volume zone"))
    }
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }
    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, all: &'a Snapshot) -> PreFilter<'a> {
        let storage = &all.surroundings().storage;
        let volumes = claims(pod).filter_map(|key| storage.volumes.get(&storage.claims.get(&key)?.volume));
        let zoned = volumes.map(|volume| &volume.labels);
        let zoned: Vec<_> =
            zoned.filter(|labels| KEYS.iter().any(|key| label(labels, *key).is_some())).collect();
        if zoned.is_empty() { PreFilter::Skip } else { PreFilter::Each(Box::new(Zoned(zoned))) }
    }
    fn hint(&self, _: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        matches!(event, Event::StorageChanged) || event.node(|old, new| old.labels != new.labels).is_some()
    }
}
