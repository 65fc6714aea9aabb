//! Which addresses a Service of type LoadBalancer has.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service};

use super::pool::{Pool, Range};
use crate::object::Object;

/// The class of the load balancers that this controller makes. A Service of no class has one of these, too.
pub(super) const CLASS: &str = "tiphys.io/addresses";
pub(super) const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// A node with this label takes no part, whatever its value.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A port, by which services of one address are told apart.
pub(super) type Port = (&'static str, i32);

fn protocol(name: Option<&str>) -> &'static str {
    match name {
        Some("UDP") => "UDP",
        Some("SCTP") => "SCTP",
        _ => "TCP",
    }
}

/// Why a Service has no address. Its text is what the event tells.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("port {1}/{0} of {2} is taken by service {3}")]
    Taken(&'static str, i32, IpAddr, String),
    #[error("port {1}/{0} is the node's own")]
    Reserved(&'static str, i32),
    #[error("port {1}/{0} is the node port of service {2}")]
    NodePort(&'static str, i32, String),
    #[error("loadBalancerIP {0} is no address")]
    NoAddress(String),
    #[error("loadBalancerIP {0} is not among the addresses that load balancers may have")]
    Foreign(IpAddr),
    #[error("no {0} address of the pool is free")]
    Exhausted(&'static str),
    #[error("there are no available nodes for LoadBalancer")]
    NoNodes,
}

fn spec<T>(
    service: &Service,
    of: impl Fn(&k8s_openapi::api::core::v1::ServiceSpec) -> Option<T>,
) -> Option<T> {
    service.spec.as_ref().and_then(of)
}

/// Whether the Service wants a load balancer of this controller.
pub(super) fn is_wanted(service: &Service) -> bool {
    let class = spec(service, |s| s.load_balancer_class.clone());
    !service.is_going()
        && spec(service, |s| s.type_.clone()).as_deref() == Some("LoadBalancer")
        && class.is_none_or(|class| class == CLASS)
}

/// Whether it has anything of this controller's.
pub(super) fn is_held(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

pub(super) fn is_local(service: &Service) -> bool {
    spec(service, |s| s.external_traffic_policy.clone()).as_deref() == Some("Local")
}

fn ports(service: &Service) -> BTreeSet<Port> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports.map(|p| (protocol(p.protocol.as_deref()), p.port)).collect()
}

fn node_ports(service: &Service) -> impl Iterator<Item = Port> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports.filter_map(|p| Some((protocol(p.protocol.as_deref()), p.node_port?)))
}

fn families(service: &Service) -> Vec<&'static str> {
    let stated = spec(service, |s| s.ip_families.clone()).unwrap_or_default();
    let mut families: Vec<_> = stated.iter().map(|f| if f == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    if families.is_empty() {
        families.push("IPv4");
    }
    families
}

pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The addresses that the Service's status tells.
pub(super) fn addresses(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = status.and_then(|b| b.ingress.as_ref());
    ingress.into_iter().flatten().filter_map(|i| i.ip.as_ref()?.parse().ok()).collect()
}

pub(super) fn ingress(address: IpAddr) -> LoadBalancerIngress {
    LoadBalancerIngress {
        ip: Some(address.to_string()),
        ip_mode: Some("VIP".to_owned()),
        ..LoadBalancerIngress::default()
    }
}

/// The addresses at which a node that is ready is reached from outside: its external ones, or else its internal ones.
pub(super) fn reached(node: &Node) -> Vec<IpAddr> {
    let status = node.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let excluded = node.metadata.labels.as_ref().is_some_and(|l| l.contains_key(EXCLUDED));
    if !ready || excluded || node.is_going() {
        return Vec::new();
    }
    let of = |kind: &str| -> Vec<IpAddr> {
        let all = status.addresses.iter().flatten().filter(|a| a.type_ == kind);
        all.filter_map(|a| a.address.parse().ok()).collect()
    };
    Some(of("ExternalIP")).filter(|all| !all.is_empty()).unwrap_or_else(|| of("InternalIP"))
}

/// What else there is in the cluster that addresses depend on.
pub(super) struct Surroundings<'a> {
    /// All other services, and the addresses that they have.
    pub(super) others: &'a [(&'a Service, Vec<IpAddr>)],
    /// By their names, the addresses of the nodes that may take part.
    pub(super) nodes: &'a BTreeMap<String, Vec<IpAddr>>,
    /// The nodes with endpoints of the Service, where only those may answer.
    pub(super) endpoints: Option<BTreeSet<String>>,
    /// Ports over TCP of the nodes' own servers.
    pub(super) reserved: &'a [u16],
}

impl Surroundings<'_> {
    /// Who has one of the ports at the address already.
    fn taken(&self, address: IpAddr, ports: &BTreeSet<Port>) -> Option<Refusal> {
        let there = self.others.iter().filter(|(_, addresses)| addresses.contains(&address));
        there.flat_map(|(other, _)| self::ports(other).into_iter().map(move |port| (port, other))).find_map(
            |(port, other)| {
                let name = || other.key().to_string();
                ports.contains(&port).then(|| Refusal::Taken(port.0, port.1, address, name()))
            },
        )
    }
}

/// The addresses of a Service that wants some; `now` are those that it has.
pub(super) fn plan(
    pool: &Pool,
    service: &Service,
    now: &[IpAddr],
    around: &Surroundings<'_>,
) -> Result<Vec<IpAddr>, Refusal> {
    let asked = spec(service, |s| s.load_balancer_ip.clone()).filter(|ip| !ip.is_empty());
    let asked: Option<IpAddr> = match asked {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| Refusal::NoAddress(text))?),
    };
    match pool {
        Pool::Nodes => of_nodes(service, asked, now, around),
        Pool::Ranges(ranges) => of_ranges(ranges, service, asked, now, around),
    }
}

/// Nodes' own addresses, which services share as long as their ports differ.
fn of_nodes(
    service: &Service,
    asked: Option<IpAddr>,
    now: &[IpAddr],
    around: &Surroundings<'_>,
) -> Result<Vec<IpAddr>, Refusal> {
    let ports = ports(service);
    for (protocol, port) in &ports {
        if *protocol == "TCP" && around.reserved.iter().any(|r| i32::from(*r) == *port) {
            return Err(Refusal::Reserved(protocol, *port));
        }
    }
    let mut node_ports =
        around.others.iter().flat_map(|(other, _)| node_ports(other).map(move |port| (port, other)));
    if let Some(((protocol, port), other)) = node_ports.find(|(port, _)| ports.contains(port)) {
        return Err(Refusal::NodePort(protocol, port, other.key().to_string()));
    }
    let families = families(service);
    let chosen = around.nodes.iter().filter(|(name, _)| match &around.endpoints {
        Some(with) => with.contains(*name),
        None => true,
    });
    let mut all: Vec<IpAddr> = chosen.flat_map(|(_, addresses)| addresses.iter().copied()).collect();
    all.retain(|address| families.contains(&family(*address)));
    if let Some(asked) = asked {
        let known = around.nodes.values().flatten().any(|address| *address == asked);
        if !known && !around.nodes.is_empty() {
            return Err(Refusal::Foreign(asked));
        }
        all.retain(|address| *address == asked);
    }
    all.sort_unstable_by_key(|a| (families.iter().position(|f| *f == family(*a)), *a));
    all.dedup();
    if around.nodes.is_empty() {
        // Nobody is there to take over: who has an address keeps it.
        return if now.is_empty() { Err(Refusal::NoNodes) } else { Ok(now.to_vec()) };
    }
    match all.iter().find_map(|address| around.taken(*address, &ports)) {
        Some(refusal) => Err(refusal),
        None => Ok(all),
    }
}

/// An address of the pool for each family; shared only with who has asked for the same by name.
fn of_ranges(
    ranges: &[Range],
    service: &Service,
    asked: Option<IpAddr>,
    now: &[IpAddr],
    around: &Surroundings<'_>,
) -> Result<Vec<IpAddr>, Refusal> {
    let within = |address: IpAddr| ranges.iter().any(|range| range.contains(address));
    let ports = ports(service);
    if let Some(asked) = asked {
        if !within(asked) || !families(service).contains(&family(asked)) {
            return Err(Refusal::Foreign(asked));
        }
        return around.taken(asked, &ports).map_or(Ok(vec![asked]), Err);
    }
    let used: BTreeSet<IpAddr> = around.others.iter().flat_map(|(_, all)| all.iter().copied()).collect();
    let free = |address: &IpAddr| !used.contains(address);
    let policy = spec(service, |s| s.ip_family_policy.clone());
    let mut got = Vec::new();
    for wanted in families(service) {
        let kept = now.iter().copied().find(|a| family(*a) == wanted && within(*a) && free(a));
        let first = || {
            let addresses = ranges.iter().filter(|r| r.family() == wanted).flat_map(Range::addresses);
            // One more than are in use is enough to find a free one.
            addresses.take(used.len() + 1).find(free)
        };
        match kept.or_else(first) {
            Some(address) => got.push(address),
            None if !got.is_empty() && policy.as_deref() == Some("PreferDualStack") => {}
            None => return Err(Refusal::Exhausted(wanted)),
        }
    }
    Ok(got)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
