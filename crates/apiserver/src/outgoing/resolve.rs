//! From a Service's name to addresses that can be dialled.

use std::net::SocketAddr;

use serde_json::Value;
use tiphys_api::meta;

use super::Step;
use crate::source::Source;

/// Where the calls to a Service go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Addresses(Vec<SocketAddr>),
    /// An `ExternalName`.
    Name(String, u16),
}

/// The ready endpoints behind a port of a Service, as they are now.
///
/// # Errors
/// There is no such Service or port, or nobody is ready.
pub(super) fn service(source: &dyn Source, namespace: &str, name: &str, port: u16) -> Result<Target, Step> {
    let service =
        source.get("", "services", namespace, name).ok_or_else(|| Step::NoService(name.to_owned()))?;
    let service = service.tree();
    if meta::text(&service, &["spec", "type"]) == "ExternalName" {
        return Ok(Target::Name(meta::text(&service, &["spec", "externalName"]).to_owned(), port));
    }
    let mut ports = meta::items(&service, &["spec", "ports"]).iter();
    let wanted = ports
        .find(|p| p["port"].as_u64() == Some(port.into()))
        .ok_or_else(|| Step::NoPort { service: name.to_owned(), port })?;
    let port_name = wanted["name"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    for slice in source.list("discovery.k8s.io", "endpointslices", Some(namespace)) {
        let slice = slice.tree();
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] == name {
            found.extend(ready(&slice, port_name));
        }
    }
    if found.is_empty() {
        return Err(Step::NoEndpoints(name.to_owned()));
    }
    Ok(Target::Addresses(found))
}

/// The addresses of a slice's ready endpoints at the port of this name.
fn ready(slice: &Value, port_name: &str) -> Vec<SocketAddr> {
    let mut ports = meta::items(slice, &["ports"]).iter();
    let port = ports.find(|p| p["name"].as_str().unwrap_or_default() == port_name);
    let Some(port) = port.and_then(|p| u16::try_from(p["port"].as_u64()?).ok()) else { return Vec::new() };
    meta::items(slice, &["endpoints"])
        .iter()
        .filter(|endpoint| endpoint["conditions"]["ready"] != false)
        .filter_map(|endpoint| meta::items(endpoint, &["addresses"]).first()?.as_str()?.parse().ok())
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}
