//! What must be known to take an attachment down.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::conf::Chain;
use crate::bridge::{PortMapping, Protocol};

/// One sandbox's attachment: what the plugins were given, and what they answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Attachment {
    pub(super) sandbox: String,
    pub(super) netns: PathBuf,
    pub(super) args: String,
    pub(super) ports: Vec<PortMapping>,
    pub(super) conf: Value,
    /// The last plugin's result; none as long as ADD has not succeeded.
    pub(super) result: Option<Value>,
}

impl Attachment {
    /// What a plugin of the chain is sent.
    pub(super) fn request(&self, chain: &Chain, plugin: &Value) -> Value {
        let mut request = chain.request(plugin);
        if plugin["capabilities"]["portMappings"].as_bool() == Some(true) && !self.ports.is_empty() {
            let ports: Vec<Value> = self.ports.iter().map(port).collect();
            request["runtimeConfig"] = json!({"portMappings": ports});
        }
        if let Some(result) = &self.result {
            request["prevResult"] = result.clone();
        }
        request
    }
}

fn port(port: &PortMapping) -> Value {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let mut mapping =
        json!({"hostPort": port.host_port, "containerPort": port.container_port, "protocol": protocol});
    if let Some(ip) = port.host_ip {
        mapping["hostIP"] = json!(ip);
    }
    mapping
}
