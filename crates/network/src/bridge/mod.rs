//! The built-in pod network: one bridge a cluster instance, a veth pair a pod.
//!
//! ```text
//!   pod netns                          host netns
//!   eth0 10.244.0.7/32  ── veth pair ── v<id>7 ──┐
//!   default via 10.244.0.1                       ├─ bridge tp<id>  10.244.0.1/24
//!   eth0 10.244.0.8/32  ── veth pair ── v<id>8 ──┘       route 10.96.0.0/16 → tp<id>
//! ```
//!
//! A pod's address is a /32, so every packet between two pods is sent to the host's hardware address and routed by
//! it. That is what makes the service proxy right without `br_netfilter`: the answer of a pod on the same node passes
//! the host again, where its source is turned back into the service's address. With `br_netfilter` (it is on as soon
//! as its module is loaded, and other software may want it) the bridge itself sends such packets on after their
//! destination was rewritten; a pod that reaches itself through a service then needs hairpin mode on its port.
//!
//! Sysctls set, all of them of the network namespace that the process runs in: `net.ipv4.ip_forward=1` (stays on
//! after [`cleanup`]: others may rely on it by then) and, on the bridge alone, `route_localnet=1`, so that node ports
//! answer on 127.0.0.1 too; a rule drops what pods would send there.

mod records;
mod table;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::Ipv4Net;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use self::records::{Record, Records};
use crate::{
    instance::Instance,
    netfilter::{self, Batch, Monitor},
    router::{self, Router},
};

pub use records::{Error as RecordError, gateway};

/// What the pod network of one node is made from.
#[derive(Clone, Debug)]
pub struct Config {
    pub instance: Instance,
    /// This node's pod range, a /8 to a /29. Its first address is the bridge's.
    pub pod_cidr: Ipv4Net,
    /// All nodes' pod ranges: traffic within it keeps its source address.
    pub cluster_cidr: Ipv4Net,
    /// The service range, routed to the bridge so that the node's own packets find a way and a source address.
    pub service_cidr: Ipv4Net,
    /// Where the address records lie. Made if missing.
    pub state_dir: PathBuf,
    /// The pods' MTU; by default that of the link the default route leaves by.
    pub mtu: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// A port of the host that leads to one of a pod's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address to listen on; all of them by default.
    pub host_ip: Option<Ipv4Addr>,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

impl PortMapping {
    fn clashes(&self, other: &PortMapping) -> bool {
        let overlap = match (self.host_ip, other.host_ip) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        overlap && self.host_port == other.host_port && self.protocol == other.protocol
    }
}

/// What failed in the pod network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("pod range {0} is not between a /8 and a /29")]
    PodRange(Ipv4Net),
    #[error("{range} is in use: the host routes {by} to {link}; choose another range")]
    RangeInUse { range: Ipv4Net, by: Ipv4Net, link: String },
    #[error("opening a route socket: {0}")]
    Route(#[source] io::Error),
    #[error(transparent)]
    Link(#[from] router::Error),
    #[error(transparent)]
    Records(#[from] RecordError),
    #[error("writing {}: {source}", path.display())]
    Sysctl { path: PathBuf, source: io::Error },
    #[error("entering network namespace {}: {source}", path.display())]
    Namespace { path: PathBuf, source: io::Error },
    #[error("pod network rules: {0}")]
    Rules(#[from] netfilter::Error),
}

/// Between two repairs of rules: two programs that each undo the other shall not take a core for it.
const REST: Duration = Duration::from_secs(1);

/// The pod network of one node. Safe to use from many tasks; the caller keeps calls for one sandbox in order.
#[derive(Debug)]
pub struct PodNetwork {
    config: Config,
    mtu: u32,
    router: Router,
    monitor: Monitor,
    /// Its records change on disk first and in memory last, so that one that cannot be written changes nothing.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    records: Records,
    netfilter: netfilter::Socket,
}

impl PodNetwork {
    /// Makes the bridge, its addresses, routes and rules, or takes over what an earlier process left. Pods that are
    /// attached stay so.
    pub async fn new(config: Config) -> Result<PodNetwork, Error> {
        if !(8..=29).contains(&config.pod_cidr.prefix_len()) {
            return Err(Error::PodRange(config.pod_cidr));
        }
        let records = Records::open(&config.state_dir, config.pod_cidr)?;
        let router = Router::here().map_err(Error::Route)?;
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => router.default_mtu().await?.unwrap_or(1500),
        };
        let netfilter = netfilter::Socket::open()?;
        let monitor = Monitor::open(&netfilter, config.instance.pod_table())?;
        let state = Mutex::new(State { records, netfilter });
        let network = PodNetwork { config, mtu, router, monitor, state };
        network.ranges_are_free().await?;
        network.make_bridge().await?;
        network.apply_rules(&mut network.state.lock())?;
        Ok(network)
    }

    /// The bridge's address: the pods' gateway, and one that the node itself answers on.
    pub fn gateway(&self) -> Ipv4Addr {
        records::gateway(self.config.pod_cidr)
    }

    /// Gives the sandbox an address and connects its network namespace: `lo` up, `eth0` with address and default
    /// route, host ports open. Doing it again for the same sandbox repairs what is missing and answers the same;
    /// the port mappings are those of the first time. On failure the sandbox holds nothing that it did not hold
    /// before.
    pub async fn attach(
        &self,
        netns: &Path,
        sandbox: &str,
        ports: &[PortMapping],
    ) -> Result<Vec<IpAddr>, Error> {
        let (record, made) = self.state.lock().records.reserve(sandbox, ports)?;
        match self.connect(netns, &record).await {
            Ok(()) => Ok(vec![IpAddr::V4(record.address)]),
            Err(error) => {
                if made && let Err(undo) = self.detach(sandbox).await {
                    tracing::warn!(sandbox, %undo, "an attachment that failed could not be undone");
                }
                Err(error)
            }
        }
    }

    /// Removes the sandbox's link and host ports and gives its address back. A sandbox that is not attached, and
    /// kernel objects that are gone already, are no error.
    pub async fn detach(&self, sandbox: &str) -> Result<(), Error> {
        let Some(record) = self.state.lock().records.get(sandbox).cloned() else { return Ok(()) };
        if let Some(link) = self.router.link(&self.veth(record.address)).await? {
            self.router.delete(link.header.index).await?;
        }
        let mut state = self.state.lock();
        state.records.release(sandbox)?;
        if !record.ports.is_empty() {
            self.apply_rules(&mut state)?;
        }
        Ok(())
    }

    /// Detaches every sandbox that is not among `live`, and removes links of this instance that no record explains.
    pub async fn reconcile(&self, live: &BTreeSet<String>) -> Result<(), Error> {
        let dead: Vec<String> = {
            let state = self.state.lock();
            let held = state.records.iter().map(|(id, _)| id);
            held.filter(|id| !live.contains(*id)).map(str::to_owned).collect()
        };
        for sandbox in dead {
            self.detach(&sandbox).await?;
        }
        for (name, index) in self.router.links(&self.config.instance.veth_prefix()).await? {
            let known = self.state.lock().records.iter().any(|(_, record)| self.veth(record.address) == name);
            if !known {
                self.router.delete(index).await?;
            }
        }
        Ok(())
    }

    /// Puts the rules back whenever another program removes them (`nft flush ruleset`, a firewall that reloads), for as
    /// long as the future is polled.
    pub async fn keep(&self) {
        loop {
            match self.monitor.tampered().await {
                Ok(()) => {
                    tracing::warn!("another program removed rules of the pod network; putting them back")
                }
                Err(error) => {
                    tracing::warn!(%error, "lost sight of the pod network's rules; putting them back")
                }
            }
            if let Err(error) = self.apply_rules(&mut self.state.lock()) {
                tracing::warn!(%error, "the pod network's rules could not be put back");
            }
            tokio::time::sleep(REST).await;
        }
    }

    async fn connect(&self, netns: &Path, record: &Record) -> Result<(), Error> {
        let namespace = |source| Error::Namespace { path: netns.to_owned(), source };
        let bridge = match self.router.link(&self.config.instance.bridge()).await? {
            Some(link) => link.header.index,
            None => self.make_bridge().await?,
        };
        let file = File::open(netns).map_err(namespace)?;
        let inside = Router::inside(file.try_clone().map_err(namespace)?, || {
            // The host answers for every destination; it also sees that two pods share a wire, and says so.
            sysctl_io("conf/all/accept_redirects", "0")?;
            sysctl_io("conf/default/accept_redirects", "0")
        })
        .await
        .map_err(namespace)?;

        let host = self.veth(record.address);
        let existing = self.router.link(&host).await?.map(|link| link.header.index);
        let port = match (existing, inside.link("eth0").await?) {
            (Some(port), Some(eth0)) if router::is_peer(&eth0, port, record.address) => port,
            (stale, _) => {
                if let Some(stale) = stale {
                    self.router.delete(stale).await?;
                }
                self.router.veth(&host, bridge, &file, record.address, self.mtu).await?
            }
        };
        self.router.hairpin(port).await?;

        let gateway = self.gateway();
        if let Some(lo) = inside.link("lo").await? {
            inside.up(lo.header.index).await?;
        }
        if let Some(eth0) = inside.link("eth0").await? {
            let eth0 = eth0.header.index;
            inside.up(eth0).await?;
            inside.address(eth0, record.address, 32).await?;
            inside.on_link(eth0, Ipv4Net::from(gateway), None).await?;
            inside.default_via(eth0, gateway).await?;
        }
        let mut state = self.state.lock();
        if !record.ports.is_empty() {
            self.apply_rules(&mut state)?;
        }
        Ok(())
    }

    /// Fails if a part of our ranges, or all of one, is another link's: another cluster's, or a container engine's. A
    /// wider network around them is no obstacle: the longer prefix wins.
    async fn ranges_are_free(&self) -> Result<(), Error> {
        let bridge = self.router.link(&self.config.instance.bridge()).await?.map(|link| link.header.index);
        let ours = self.config.instance.priority();
        let routes = self.router.routes().await?;
        for route in routes.iter().filter(|route| Some(route.link) != bridge && route.priority != ours) {
            for range in [self.config.pod_cidr, self.config.service_cidr] {
                if range.contains(&route.to) {
                    let link = self.router.name(route.link).await?.unwrap_or_default();
                    return Err(Error::RangeInUse { range, by: route.to, link });
                }
            }
        }
        Ok(())
    }

    async fn make_bridge(&self) -> Result<u32, Error> {
        let name = self.config.instance.bridge();
        let gateway = self.gateway();
        let index = self.router.bridge(&name, gateway, self.mtu).await?;
        self.router.up(index).await?;
        self.router.address(index, gateway, self.config.pod_cidr.prefix_len()).await?;
        self.router.on_link(index, self.config.service_cidr, Some(gateway)).await?;
        sysctl("ip_forward", "1")?;
        sysctl(&format!("conf/{name}/route_localnet"), "1")?;
        Ok(index)
    }

    fn apply_rules(&self, state: &mut State) -> Result<(), Error> {
        let batch = table::render(&self.config, state.records.iter().map(|(_, record)| record));
        Ok(state.netfilter.commit(batch)?)
    }

    fn veth(&self, address: Ipv4Addr) -> String {
        self.config.instance.veth(u32::from(address) - u32::from(self.config.pod_cidr.network()))
    }
}

/// Removes every link and rule that pod networks of this instance made, whichever process did. Addresses and routes
/// go with their links; records on disk are the data directory's.
pub async fn cleanup(instance: Instance) -> Result<(), Error> {
    let router = Router::here().map_err(Error::Route)?;
    for prefix in [instance.veth_prefix(), instance.bridge()] {
        for (_, index) in router.links(&prefix).await? {
            router.delete(index).await?;
        }
    }
    let mut batch = Batch::new();
    batch.remove_table(&instance.pod_table());
    Ok(netfilter::Socket::open()?.commit(batch)?)
}

fn sysctl(name: &str, value: &str) -> Result<(), Error> {
    let path = Path::new(SYSCTLS).join(name);
    sysctl_io(name, value).map_err(|source| Error::Sysctl { path, source })
}

/// Sets a sysctl of the thread's network namespace. One that has the value already need not be writable.
fn sysctl_io(name: &str, value: &str) -> io::Result<()> {
    let path = Path::new(SYSCTLS).join(name);
    if fs::read_to_string(&path)?.trim() == value {
        return Ok(());
    }
    fs::write(&path, value)
}

const SYSCTLS: &str = "/proc/sys/net/ipv4";
