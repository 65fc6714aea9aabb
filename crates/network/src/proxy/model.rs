//! What the proxy keeps of Services and EndpointSlices.

use std::{net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;
use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use tiphys_client::ObjectKey;

use crate::bridge::Protocol;

/// A Service, as far as packets are concerned. IPv4 only: other addresses are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Empty for headless and ExternalName services, which have no address of their own, and for those of other proxies.
    pub cluster_ips: Vec<Ipv4Addr>,
    /// `externalIPs`
    pub external_ips: Vec<Ipv4Addr>,
    /// The load balancer's addresses, unless it delivers to node ports itself (`ipMode: Proxy`).
    pub balanced: Vec<Ipv4Addr>,
    /// `loadBalancerSourceRanges`: who may come by the load balancer's addresses, if not everybody.
    pub sources: Option<Arc<[Ipv4Net]>>,
    pub ports: Vec<ServicePort>,
    /// `sessionAffinity: ClientIP`, with its timeout in seconds.
    pub affinity: Option<u32>,
    /// `internalTrafficPolicy: Local`
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`
    pub external_local: bool,
    /// `healthCheckNodePort`: where load balancers ask whether this node has endpoints.
    pub health_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub name: Box<str>,
    pub protocol: Protocol,
    pub port: u16,
    /// On every address of the node.
    pub node_port: Option<u16>,
}

/// An EndpointSlice, as far as packets are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// The service that it belongs to, by its label; none if no proxy is to serve it.
    pub service: Option<ObjectKey>,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    pub name: Box<str>,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Ipv4Addr,
    pub condition: Condition,
    pub node: Option<Box<str>>,
    pub hints: Hints,
}

/// For whose clients an endpoint is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    pub zones: Box<[Box<str>]>,
    pub nodes: Box<[Box<str>]>,
}

/// What an endpoint is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Ready,
    /// On its way out, but still serving: better than nothing.
    ServingTerminating,
    Unusable,
}

/// A Node, as far as the traffic of services is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: Box<str>,
    /// By its label.
    pub zone: Option<Box<str>>,
    /// Whether it is ready to take traffic from outside, and nobody has ruled that out.
    pub in_service: bool,
    pub addresses: Vec<Ipv4Addr>,
}

/// Another proxy serves a Service with this label, whatever its value.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// No proxy serves an EndpointSlice with this label, whatever its value.
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
/// A node with this label takes no part in load balancing, whatever its value.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

impl Node {
    /// Keeps of the object what the proxy reads.
    pub fn project(object: v1::Node) -> Node {
        let labels = object.metadata.labels.unwrap_or_default();
        let status = object.status.unwrap_or_default();
        let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        Node {
            name: object.metadata.name.unwrap_or_default().into(),
            zone: labels.get(ZONE).filter(|zone| !zone.is_empty()).map(|zone| zone.as_str().into()),
            in_service: ready && !labels.contains_key(EXCLUDED),
            addresses: addresses(status.addresses.iter().flatten().map(|a| &a.address)),
        }
    }
}

fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

fn addresses<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<Ipv4Addr> {
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}

impl Service {
    /// Keeps of the object what the proxy reads.
    pub fn project(object: v1::Service) -> Service {
        let Some(spec) = object.spec else { return Service::default() };
        let labels = object.metadata.labels.unwrap_or_default();
        if spec.type_.as_deref() == Some("ExternalName") || labels.contains_key(PROXY_NAME) {
            return Service::default();
        }
        let listed = spec.cluster_ips.unwrap_or_default();
        let mut cluster_ips = addresses(listed.iter().chain(&spec.cluster_ip));
        cluster_ips.sort_unstable();
        cluster_ips.dedup();
        if cluster_ips.is_empty() {
            return Service::default();
        }

        let external_ips = addresses(spec.external_ips.iter().flatten());
        let ingress = object.status.and_then(|s| s.load_balancer).and_then(|b| b.ingress).unwrap_or_default();
        let delivered = ingress.iter().filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
        let balanced = addresses(delivered.filter_map(|i| i.ip.as_ref()));
        let ranges = spec.load_balancer_source_ranges.filter(|ranges| !ranges.is_empty());
        // Ranges of another family let nobody in here.
        let sources = ranges.map(|all| {
            let nets: Vec<Ipv4Net> = all.iter().filter_map(|r| r.trim().parse().ok()).collect();
            Ipv4Net::aggregate(&nets).into()
        });
        let by_node = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
        let ports = spec.ports.unwrap_or_default().into_iter().filter_map(|p| {
            Some(ServicePort {
                protocol: protocol(p.protocol.as_deref())?,
                port: port(p.port)?,
                node_port: p.node_port.filter(|_| by_node).and_then(port),
                name: p.name.unwrap_or_default().into(),
            })
        });
        let sticky = spec.session_affinity.as_deref() == Some("ClientIP");
        let timeout = spec.session_affinity_config.and_then(|c| c.client_ip).and_then(|c| c.timeout_seconds);
        let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
        let asked = external_local && spec.type_.as_deref() == Some("LoadBalancer");
        Service {
            cluster_ips,
            external_ips,
            balanced,
            sources,
            ports: ports.collect(),
            affinity: sticky.then(|| timeout.and_then(|t| u32::try_from(t).ok()).unwrap_or(10_800).max(1)),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local,
            health_port: spec.health_check_node_port.filter(|_| asked).and_then(port),
        }
    }
}

impl Hints {
    fn project(object: discovery::EndpointHints) -> Hints {
        let zones = object.for_zones.into_iter().flatten().map(|zone| zone.name.into());
        let nodes = object.for_nodes.into_iter().flatten().map(|node| node.name.into());
        Hints { zones: zones.collect(), nodes: nodes.collect() }
    }
}

impl Slice {
    /// Keeps of the object what the proxy reads.
    pub fn project(object: discovery::EndpointSlice) -> Slice {
        let meta = object.metadata;
        let labels = meta.labels.unwrap_or_default();
        if object.address_type != "IPv4" || labels.contains_key(HEADLESS) {
            return Slice::default();
        }
        let service = labels
            .get(SERVICE_LABEL)
            .map(|name| ObjectKey::new(meta.namespace.as_deref().unwrap_or_default(), name));
        let ports = object.ports.unwrap_or_default().into_iter().filter_map(|p| {
            Some(SlicePort {
                protocol: protocol(p.protocol.as_deref())?,
                port: p.port.and_then(port)?,
                name: p.name.unwrap_or_default().into(),
            })
        });
        let endpoints = object.endpoints.unwrap_or_default().into_iter().filter_map(|e| {
            let conditions = e.conditions.unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            let serving = conditions.serving.unwrap_or(ready);
            let terminating = conditions.terminating.unwrap_or(false);
            Some(Endpoint {
                // All addresses of an endpoint are the same one; only the first is to be used.
                address: e.addresses.first()?.parse().ok()?,
                condition: match (ready, serving && terminating) {
                    (true, _) => Condition::Ready,
                    (false, true) => Condition::ServingTerminating,
                    (false, false) => Condition::Unusable,
                },
                node: e.node_name.map(String::into_boxed_str),
                hints: e.hints.map(Hints::project).unwrap_or_default(),
            })
        });
        Slice { service, ports: ports.collect(), endpoints: endpoints.collect() }
    }
}

/// The label by which an EndpointSlice names its service.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
