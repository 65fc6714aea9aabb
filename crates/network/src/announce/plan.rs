//! Which node answers for an address, in which link: a pure function that comes to the same on every node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use ipnet::Ipv4Net;

use crate::{
    links::Link,
    proxy::model::{Condition, Node, Slice},
};

/// Addresses to answer for, and the nodes that may, if not all of them may.
pub(super) type Wanted = BTreeMap<Ipv4Addr, Option<BTreeSet<Box<str>>>>;

/// Where this node answers for an address, and as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Station {
    pub(super) link: u32,
    pub(super) hardware: [u8; 6],
}

/// The nodes with an endpoint that is ready.
pub(super) fn with_endpoints(slices: &[Arc<Slice>]) -> BTreeSet<Box<str>> {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    endpoints.filter(|e| e.condition == Condition::Ready).filter_map(|e| e.node.clone()).collect()
}

/// Adds an address of a service. One that several have is answered for where all of them can be served.
pub(super) fn want(wanted: &mut Wanted, address: Ipv4Addr, nodes: Option<&BTreeSet<Box<str>>>) {
    let known = wanted.entry(address).or_default();
    *known = match (known.take(), nodes) {
        (Some(some), Some(others)) => Some(some.intersection(others).cloned().collect()),
        (some, others) => some.or_else(|| others.cloned()),
    };
}

/// The addresses that this node answers for. Those that it has itself are the kernel's to answer for.
pub(super) fn stations<'a>(
    wanted: &Wanted,
    nodes: &[Arc<Node>],
    me: &str,
    links: impl Iterator<Item = &'a Link> + Clone,
) -> BTreeMap<Ipv4Addr, Station> {
    let own: BTreeSet<Ipv4Addr> = links.clone().flat_map(|l| &l.addresses).map(Ipv4Net::addr).collect();
    let mut stations = BTreeMap::new();
    for (address, only) in wanted.iter().filter(|(address, _)| !own.contains(address)) {
        let networks = links.clone().flat_map(|link| link.addresses.iter().map(move |net| (net, link)));
        let around = networks.filter(|(net, _)| net.contains(address));
        // The narrowest network, as a route would be chosen.
        let Some((net, link)) =
            around.max_by_key(|(net, link)| (net.prefix_len(), std::cmp::Reverse(link.index)))
        else {
            continue;
        };
        let may = |node: &&Arc<Node>| {
            let reaches = *node.name == *me || node.addresses.iter().any(|a| net.contains(a));
            node.in_service && reaches && only.as_ref().is_none_or(|only| only.contains(&node.name))
        };
        let elected = nodes.iter().filter(may).min_by_key(|node| (rank(*address, &node.name), &node.name));
        if elected.is_some_and(|node| *node.name == *me) {
            stations.insert(*address, Station { link: link.index, hardware: link.hardware });
        }
    }
    stations
}

/// The place of a node among those that could answer for an address. It depends on nothing else, so that addresses are
/// spread over the nodes, and a node that goes takes along only its own.
fn rank(address: Ipv4Addr, node: &str) -> u64 {
    // FNV-1a: it has to be the same in every release. The last step spreads what the last bytes have changed.
    let hash =
        address.octets().iter().chain(node.as_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
