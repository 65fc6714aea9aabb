//! Addresses of load balancers that lie in a link of this node are answered for there, by ARP (RFC 826), so that who
//! is in the link finds a node for them. Of the nodes in a link one answers for an address; which, all of them find
//! by the same rule ([`plan`]). What then comes, the service proxy delivers.
//!
//! The address belongs to no interface: nobody but the service's endpoints is reached at it, and nothing is left
//! when the process ends. IPv4 only, as the proxy.

mod arp;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use nix::errno::Errno;
use parking_lot::Mutex;
use tiphys_client::{Change, ObjectKey};
use tokio::{sync::Notify, time::Instant};

use self::{arp::Arp, plan::Station};
use crate::{
    links::{self, Links},
    proxy::{
        model::{Node, Service, Slice},
        run::Cluster,
    },
};

/// Between two announcements of an address (RFC 5227, ANNOUNCE_INTERVAL), of which there are two.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a node that could not listen to its links waits for the next try.
const RETRY: Duration = Duration::from_secs(5);

/// Why a node does not announce. Tried again after a while.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("opening a socket for ARP: {0}")]
    Open(#[source] Errno),
    #[error(transparent)]
    Links(#[from] links::Error),
    #[error("receiving ARP: {0}")]
    Receive(#[source] std::io::Error),
}

/// The services that have addresses of load balancers, kept as objects change.
#[derive(Debug, Default)]
pub(crate) struct Balanced {
    services: Mutex<BTreeSet<ObjectKey>>,
    changed: Notify,
}

impl Balanced {
    pub(crate) fn service(&self, change: &Change<Service>) {
        let is_balanced =
            |service: &Option<Arc<Service>>| service.as_ref().is_some_and(|s| !s.balanced.is_empty());
        match is_balanced(&change.new) {
            true => drop(self.services.lock().insert(change.key.clone())),
            false => drop(self.services.lock().remove(&change.key)),
        }
        if is_balanced(&change.new) || is_balanced(&change.old) {
            self.changed.notify_one();
        }
    }

    pub(crate) fn slice(&self, change: &Change<Slice>) {
        let touched = change.old.iter().chain(&change.new).filter_map(|slice| slice.service.as_ref());
        if touched.into_iter().any(|key| self.services.lock().contains(key)) {
            self.changed.notify_one();
        }
    }

    pub(crate) fn node(&self, change: &Change<Node>) {
        if change.old != change.new {
            self.changed.notify_one();
        }
    }
}

/// Answers for addresses of these ranges until it is dropped. Does nothing if there are none.
pub(crate) async fn run(
    cluster: &Cluster,
    me: &str,
    ranges: &[RangeInclusive<Ipv4Addr>],
    balanced: &Balanced,
) {
    if ranges.is_empty() {
        return std::future::pending().await;
    }
    cluster.synced().await;
    loop {
        let Err(error) = announce(cluster, me, ranges, balanced).await;
        tracing::warn!(%error, "load balancers' addresses are not announced; trying again");
        tokio::time::sleep(RETRY).await;
    }
}

async fn announce(
    cluster: &Cluster,
    me: &str,
    ranges: &[RangeInclusive<Ipv4Addr>],
    balanced: &Balanced,
) -> Result<std::convert::Infallible, Error> {
    let (arp, links) = (Arp::open()?, Links::open()?);
    let mut stations = BTreeMap::<Ipv4Addr, Station>::new();
    // What is to be announced once more, and when; the first to come first, each address once.
    let mut again = VecDeque::<(Instant, Ipv4Addr)>::new();
    loop {
        let ports = links::read()?;
        let before = std::mem::replace(&mut stations, {
            let wanted = wanted(cluster, ranges, balanced);
            plan::stations(&wanted, &cluster.nodes.list(), me, ports.values().map(|port| &port.link))
        });
        for (address, station) in stations.iter().filter(|(a, station)| before.get(a) != Some(station)) {
            tracing::info!(%address, link = station.link, "answering for a load balancer's address");
            arp.announce(*address, station, &ports);
            again.retain(|(_, other)| other != address);
            again.push_back((Instant::now() + AGAIN, *address));
        }
        loop {
            let next = again.front().map(|(when, _)| *when);
            tokio::select! {
                () = balanced.changed.notified() => break,
                changed = links.changed() => { changed?; break }
                request = arp.request() => {
                    let request = request?;
                    if let Some(station) = stations.get(&request.wanted()).filter(|s| s.link == request.link()) {
                        arp.answer(&request, station);
                    }
                }
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    if let Some((_, address)) = again.pop_front()
                        && let Some(station) = stations.get(&address)
                    {
                        arp.announce(address, station, &ports);
                    }
                }
            }
        }
    }
}

/// The addresses to answer for, each with the nodes that may if not all of them may: where the policy is Local, those
/// with an endpoint that is ready.
fn wanted(cluster: &Cluster, ranges: &[RangeInclusive<Ipv4Addr>], balanced: &Balanced) -> plan::Wanted {
    let mut wanted = plan::Wanted::new();
    let keys: Vec<ObjectKey> = balanced.services.lock().iter().cloned().collect();
    for key in keys {
        let Some(service) = cluster.services.get(&key) else { continue };
        let nodes = service.external_local.then(|| plan::with_endpoints(&cluster.slices_of(&key)));
        let ours = |address: &&Ipv4Addr| ranges.iter().any(|range| range.contains(*address));
        for address in service.balanced.iter().filter(ours) {
            plan::want(&mut wanted, *address, nodes.as_ref());
        }
    }
    wanted
}
