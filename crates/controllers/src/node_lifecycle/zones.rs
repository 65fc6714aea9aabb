//! How many nodes may be given up, and how fast: when many of a zone seem dead at once, it is rather the network that is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use k8s_openapi::api::core::v1::Node;
use tiphys_client::ObjectKey;
use tokio::time::Instant;

use super::Settings;

/// Fewer dead nodes than this never make a zone a disturbed one.
const FEW: usize = 3;

/// The failure domain of a node: its region and its zone, by their labels; both empty for a node without.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Zone(Box<str>, Box<str>);

impl Zone {
    pub(super) fn of(node: &Node) -> Self {
        let label = |name, old| {
            let labels = node.metadata.labels.as_ref();
            let value = labels.and_then(|l| l.get(name).or_else(|| l.get(old)));
            value.map(|v| v.as_str().into()).unwrap_or_default()
        };
        Self(
            label("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
            label("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
        )
    }
}

/// As upstream's metrics write it; nothing for a node without labels.
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(region, zone) = self;
        if region.is_empty() && zone.is_empty() { Ok(()) } else { write!(f, "{region}:\0:{zone}") }
    }
}

/// How it stands with a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Disruption {
    #[default]
    Normal,
    /// So large a part of its nodes is not ready that something else than the nodes may be at fault.
    Partial,
    /// None of its nodes is ready.
    Full,
}

#[derive(Debug, Default)]
struct Members {
    ready: BTreeSet<ObjectKey>,
    unready: BTreeSet<ObjectKey>,
    disruption: Disruption,
    /// The time from one node that is given up to the next; `None`: none is.
    gap: Option<Duration>,
    /// The earliest time at which the next node may be given up.
    next: Option<Instant>,
    /// Those of the unready that were given up.
    given_up: BTreeSet<ObjectKey>,
}

/// Whether the pods of a node that is not ready may be told to leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    After(Duration),
    /// Not before the state of its zone changes.
    Held,
}

/// Whom a change of one node concerns besides itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Concerned {
    /// These are to be looked at again.
    pub(super) nodes: Vec<ObjectKey>,
    /// All nodes seemed dead, and no longer do: what they did not tell meanwhile tells nothing.
    pub(super) back: bool,
}

/// All zones of the cluster, kept node by node.
#[derive(Debug, Default)]
pub(super) struct Zones {
    zones: BTreeMap<Zone, Members>,
    of: BTreeMap<ObjectKey, Zone>,
    cut_off: bool,
}

impl Zones {
    /// No node of any zone is ready: it is us who are cut off, and nobody is to be given up.
    pub(super) fn cut_off(&self) -> bool {
        self.cut_off
    }

    /// Takes in a node's zone and whether it is ready; `None` for one that is gone.
    pub(super) fn see(
        &mut self,
        settings: &Settings,
        key: &ObjectKey,
        node: Option<(Zone, bool)>,
        now: Instant,
    ) -> Concerned {
        let new = node.as_ref().map(|(zone, _)| zone.clone());
        let mut touched = BTreeSet::new();
        if let Some(old) = self.of.remove(key) {
            if let Some(members) = self.zones.get_mut(&old) {
                members.ready.remove(key);
                members.unready.remove(key);
                if new.as_ref() != Some(&old) {
                    members.given_up.remove(key);
                }
            }
            touched.insert(old);
        }
        if let Some((zone, ready)) = node {
            let members = self.zones.entry(zone.clone()).or_default();
            if ready {
                members.given_up.remove(key);
                members.ready.insert(key.clone());
            } else {
                members.unready.insert(key.clone());
            }
            self.of.insert(key.clone(), zone.clone());
            touched.insert(zone);
        }
        let mut concerned = Concerned::default();
        for zone in touched {
            let Some(members) = self.zones.get_mut(&zone) else { continue };
            if members.ready.is_empty() && members.unready.is_empty() {
                self.zones.remove(&zone);
                continue;
            }
            members.disruption = members.judge(settings);
            let gap = gap(members.rate(settings));
            if members.gap != gap {
                members.gap = gap;
                members.next = members.next.zip(gap).map(|(next, gap)| next.min(now + gap));
                let waiting = members.unready.difference(&members.given_up);
                concerned.nodes.extend(waiting.cloned());
            }
        }
        let cut_off = !self.zones.is_empty() && self.zones.values().all(|m| m.disruption == Disruption::Full);
        if cut_off != self.cut_off {
            concerned.back = self.cut_off;
            self.cut_off = cut_off;
            for members in self.zones.values_mut() {
                members.given_up.clear();
            }
            concerned.nodes = self.of.keys().cloned().collect();
        }
        concerned
    }

    /// Asks for leave to give a node up. Leave that was given stays until the node is ready again.
    pub(super) fn turn(&mut self, key: &ObjectKey, now: Instant) -> Turn {
        if self.cut_off {
            return Turn::Held;
        }
        // A node that the informer has not told of yet will be looked at when it does.
        let Some(members) = self.of.get(key).and_then(|zone| self.zones.get_mut(zone)) else {
            return Turn::Held;
        };
        if members.given_up.contains(key) {
            return Turn::Now;
        }
        let Some(gap) = members.gap else { return Turn::Held };
        match members.next {
            Some(next) if next > now => Turn::After(next - now),
            _ => {
                members.next = Some(now + gap);
                members.given_up.insert(key.clone());
                Turn::Now
            }
        }
    }
}

impl Members {
    fn size(&self) -> usize {
        self.ready.len() + self.unready.len()
    }

    fn judge(&self, settings: &Settings) -> Disruption {
        let unready = self.unready.len();
        let share = unready as f64 / self.size().max(1) as f64;
        match unready {
            0 => Disruption::Normal,
            _ if self.ready.is_empty() => Disruption::Full,
            FEW.. if share >= settings.unhealthy_zone_threshold => Disruption::Partial,
            _ => Disruption::Normal,
        }
    }

    /// How many nodes may be given up each second.
    fn rate(&self, settings: &Settings) -> f64 {
        match self.disruption {
            Disruption::Normal | Disruption::Full => settings.eviction_rate,
            Disruption::Partial if self.size() > settings.large_cluster_threshold => {
                settings.secondary_eviction_rate
            }
            Disruption::Partial => 0.0,
        }
    }
}

/// The time from node to node; `None`: none at all.
fn gap(rate: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(rate.recip()).ok().filter(|_| rate > 0.0)
}

#[cfg(test)]
#[path = "zones_tests.rs"]
mod tests;
