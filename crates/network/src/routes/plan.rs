//! Which range is behind which address: a pure function.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;

use super::Config;

/// A node with pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(super) name: Box<str>,
    /// `spec.podCIDR`
    pub(super) range: Option<Ipv4Net>,
    /// Those of the type InternalIP.
    pub(super) addresses: Vec<Ipv4Addr>,
}

/// The routes to other nodes' pods. `networks` are those that this node has an address of its own in: who has none there
/// is no neighbour, and the ways to its pods are somebody else's to make. What a node says of itself never leads packets
/// away that are for this node's pods or for what is no pod's; of two that say the same, the first in their order has it.
pub(super) fn wanted(
    peers: &[Arc<Peer>],
    config: &Config,
    networks: &[Ipv4Net],
) -> BTreeMap<Ipv4Net, Ipv4Addr> {
    let is_neighbour = |address: &&Ipv4Addr| {
        let around = networks.iter().any(|network| network.contains(*address));
        around && networks.iter().all(|network| network.addr() != **address)
    };
    let mut wanted = BTreeMap::<Ipv4Net, Ipv4Addr>::new();
    for peer in peers.iter().filter(|peer| *peer.name != *config.node) {
        let Some((range, address)) = peer.range.zip(peer.addresses.iter().find(is_neighbour)) else {
            continue;
        };
        let range = range.trunc();
        let overlaps = |other: &Ipv4Net| range.contains(other) || other.contains(&range);
        if config.cluster_cidr.contains(&range) && !overlaps(&config.pod_cidr) && !wanted.keys().any(overlaps)
        {
            wanted.insert(range, *address);
        }
    }
    wanted
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
