//! What the runtime needs of a pod network. The network itself is somebody else's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;
use tiphys_cri::v1::{PortMapping, Protocol};

/// Whatever the network says went wrong.
pub type NetworkError = Box<dyn std::error::Error + Send + Sync>;

/// A sandbox that wants a network.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Names the attachment: the same for attaching and detaching.
    pub sandbox: String,
    /// The network namespace, mounted on a file. Only `lo` is in it.
    pub netns: PathBuf,
    pub pod_namespace: String,
    pub pod_name: String,
    pub pod_uid: String,
    pub ports: Vec<HostPort>,
    /// The pod's annotations: bandwidth, and what other networks may want to know.
    pub annotations: HashMap<String, String>,
}

/// A port of the host that leads to one of the pod's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub protocol: Protocol,
    pub container_port: u16,
    pub host_port: u16,
    /// The host's address that listens; none is all of them.
    pub host_ip: Option<IpAddr>,
}

/// Connects sandboxes. The runtime keeps calls for one sandbox in order; those for different ones overlap.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Connects the sandbox and says its addresses, the main one first. Asked again for the same sandbox it answers
    /// the same.
    ///
    /// # Errors
    /// Nothing of the attachment is left then.
    async fn attach(&self, attachment: &Attachment) -> Result<Vec<IpAddr>, NetworkError>;

    /// Takes all of it back. A sandbox that isn't attached, or whose namespace is gone, is no error.
    async fn detach(&self, sandbox: &str) -> Result<(), NetworkError>;

    /// Why sandboxes can't be connected now; the node reports it as its network not being ready.
    fn problem(&self) -> Option<String> {
        None
    }
}

/// A network with nothing but `lo`: for tests, and for nodes that run host-network pods only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loopback;

#[async_trait]
impl PodNetwork for Loopback {
    async fn attach(&self, _: &Attachment) -> Result<Vec<IpAddr>, NetworkError> {
        Ok(Vec::new())
    }

    async fn detach(&self, _: &str) -> Result<(), NetworkError> {
        Ok(())
    }
}

/// The mappings that open a port of the host. CRI gives 0 for "none".
pub(crate) fn host_ports(mappings: &[PortMapping]) -> Result<Vec<HostPort>, crate::error::Error> {
    let port = |number: i32| {
        u16::try_from(number)
            .map_err(|_| crate::error::Error::Invalid(format!("port {number} is out of range")))
    };
    let mut ports = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.host_port != 0) {
        let host_ip = match mapping.host_ip.as_str() {
            "" | "0.0.0.0" | "::" => None,
            text => Some(text.parse().map_err(|_| {
                crate::error::Error::Invalid(format!("host address {text:?} of a port is no IP address"))
            })?),
        };
        ports.push(HostPort {
            protocol: mapping.protocol(),
            container_port: port(mapping.container_port)?,
            host_port: port(mapping.host_port)?,
            host_ip,
        });
    }
    Ok(ports)
}
