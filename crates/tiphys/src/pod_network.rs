//! The built-in pod network as the runtime wants it.

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use tiphys_cri::v1::Protocol;
use tiphys_network::bridge;
use tiphys_runtime::{
    PodNetwork,
    network::{Attachment, HostPort, NetworkError},
};

pub(crate) struct BuiltIn(pub(crate) Arc<bridge::PodNetwork>);

#[async_trait]
impl PodNetwork for BuiltIn {
    async fn attach(&self, attachment: &Attachment) -> Result<Vec<IpAddr>, NetworkError> {
        let ports = attachment.ports.iter().filter_map(mapping).collect::<Vec<_>>();
        let addresses = self.0.attach(&attachment.netns, &attachment.sandbox, &ports).await?;
        Ok(addresses)
    }

    async fn detach(&self, sandbox: &str) -> Result<(), NetworkError> {
        Ok(self.0.detach(sandbox).await?)
    }
}

/// A port for an address of another family is not this network's to open.
fn mapping(port: &HostPort) -> Option<bridge::PortMapping> {
    let host_ip = match port.host_ip {
        None => None,
        Some(IpAddr::V4(ip)) => Some(ip).filter(|ip| !ip.is_unspecified()),
        Some(IpAddr::V6(ip)) if ip.is_unspecified() => None,
        Some(IpAddr::V6(_)) => return None,
    };
    Some(bridge::PortMapping {
        host_ip,
        host_port: port.host_port,
        container_port: port.container_port,
        protocol: match port.protocol {
            Protocol::Tcp => bridge::Protocol::Tcp,
            Protocol::Udp => bridge::Protocol::Udp,
            Protocol::Sctp => bridge::Protocol::Sctp,
        },
    })
}
