//! What DNS keeps of Services and EndpointSlices.

use std::net::IpAddr;

use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use tiphys_client::ObjectKey;

use crate::proxy::model::SERVICE_LABEL;

/// A Service, as far as names are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub kind: Kind,
    pub ports: Vec<Port>,
}

/// What a service's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its own addresses.
    ClusterIp(Vec<IpAddr>),
    /// Its endpoints, and names for each of them.
    Headless,
    /// Another name.
    ExternalName(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: Box<str>,
    /// `tcp`, `udp` or `sctp`
    pub protocol: Box<str>,
    pub port: u16,
}

/// An EndpointSlice, as far as names are concerned: the endpoints that may be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    pub service: Option<ObjectKey>,
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    /// The label before the service's name: the pod's hostname, or one made from the address.
    pub label: Box<str>,
}

fn port(name: Option<String>, protocol: Option<String>, number: Option<i32>) -> Option<Port> {
    Some(Port {
        name: name.unwrap_or_default().to_ascii_lowercase().into(),
        protocol: protocol.map_or_else(|| "tcp".into(), |p| p.to_ascii_lowercase().into()),
        port: u16::try_from(number?).ok()?,
    })
}

impl Service {
    /// Keeps of the object what DNS reads.
    pub fn project(object: v1::Service) -> Service {
        let spec = object.spec.unwrap_or_default();
        let listed = spec.cluster_ips.unwrap_or_default();
        let mut addresses: Vec<IpAddr> =
            listed.iter().chain(&spec.cluster_ip).filter_map(|ip| ip.parse().ok()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let kind = match spec.external_name {
            Some(name) if spec.type_.as_deref() == Some("ExternalName") => Kind::ExternalName(name.into()),
            _ if addresses.is_empty() => Kind::Headless,
            _ => Kind::ClusterIp(addresses),
        };
        let ports = spec.ports.unwrap_or_default().into_iter();
        Service { kind, ports: ports.filter_map(|p| port(p.name, p.protocol, Some(p.port))).collect() }
    }
}

impl Slice {
    /// Keeps of the object what DNS reads. Endpoints that are not ready are left out; those of a service with
    /// `publishNotReadyAddresses` are all marked ready by who writes the slice.
    pub fn project(object: discovery::EndpointSlice) -> Slice {
        let meta = object.metadata;
        let label = meta.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
        let service = label.map(|name| ObjectKey::new(meta.namespace.as_deref().unwrap_or_default(), name));
        let ports = object.ports.unwrap_or_default().into_iter();
        let ready = |e: &discovery::Endpoint| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
        let endpoints = object.endpoints.unwrap_or_default().into_iter().filter(ready).filter_map(|e| {
            let address: IpAddr = e.addresses.first()?.parse().ok()?;
            let label = e.hostname.filter(|hostname| !hostname.is_empty());
            Some(Endpoint { address, label: label.unwrap_or_else(|| address_label(address)).into() })
        });
        Slice {
            service,
            ports: ports.filter_map(|p| port(p.name, p.protocol, p.port)).collect(),
            endpoints: endpoints.collect(),
        }
    }
}

/// An address as one label: `10-244-0-7`.
pub(super) fn address_label(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}
