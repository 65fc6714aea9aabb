//! Cluster IPs and node ports of Services.
//!
//! Ranges are split as upstream splits them (KEP-3070, KEP-3668): what the server picks lies in the upper
//! part while that has room, so that addresses which people choose from the lower part stay free.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use rand::Rng;
use serde_json::{Map, Value, json};
use tiphys_api::field::{Cause, Error, Errors, Path};
use tiphys_api::meta;
use tiphys_store::Key;

use crate::registry::claims::Claimant;

mod families;

/// What Services can get.
#[derive(Clone, Debug)]
pub struct Services {
    addresses: IpNet,
    node_ports: RangeInclusive<u16>,
}

/// How many values are tried before a range counts as full.
const TRIES: usize = 256;

/// What is asked for by the older field alone is meant by the newer, too.
fn list_address(spec: &mut Map<String, Value>) {
    if spec.get("clusterIPs").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        match text(spec.get("clusterIP")) {
            "" => drop(spec.remove("clusterIPs")),
            asked => drop(spec.insert("clusterIPs".into(), json!([asked.to_owned()]))),
        }
    }
}

impl Services {
    pub fn new(addresses: IpNet, node_ports: RangeInclusive<u16>) -> Self {
        Self { addresses, node_ports }
    }

    /// How many addresses can be given out: all but the network's own and, for IPv4, the broadcast address.
    fn size(&self) -> u128 {
        let bits = self.addresses.max_prefix_len() - self.addresses.prefix_len();
        let all = 1u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX);
        let reserved = if self.addresses.addr().is_ipv4() { 2 } else { 1 };
        all.saturating_sub(reserved)
    }

    /// The address at a place in the range; the first is at 0.
    fn address(&self, place: u128) -> IpAddr {
        match self.addresses.network() {
            // The place is below the size, so it fits whatever the family is.
            IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() + place as u32 + 1).into(),
            IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() + place + 1).into(),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
            && address != self.addresses.network()
            && (address.is_ipv6() || address != self.addresses.broadcast())
    }

    fn pick_address(&self, taken: &dyn Fn(&Key) -> bool) -> Option<IpAddr> {
        let size = self.size();
        let place =
            pick(size, (size / 16).clamp(16, 256), |place| !taken(&address_key(self.address(place))))?;
        Some(self.address(place))
    }

    fn pick_port(&self, taken: impl Fn(u16) -> bool) -> Option<u16> {
        let first = *self.node_ports.start();
        let size = self.node_ports.len() as u128;
        let place = pick(size, (size / 32).clamp(16, 128), |place| !taken(first + place as u16))?;
        Some(first + place as u16)
    }

    fn family(&self) -> &'static str {
        if self.addresses.addr().is_ipv4() { "IPv4" } else { "IPv6" }
    }

    fn assign_addresses(
        &self,
        service: &mut Value,
        old: &Value,
        taken: &dyn Fn(&Key) -> bool,
        errors: &mut Errors,
    ) {
        let path = Path::new("spec").child("clusterIPs");
        let spec = meta::child_mut(meta::as_map(service), "spec");
        if !has_address(spec.get("type")) {
            // The address of a Service that becomes an ExternalName goes with it, unless the caller insists.
            if has_address(old["spec"].get("type")) && spec.get("clusterIP") == old["spec"].get("clusterIP") {
                for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                    spec.remove(field);
                }
            }
            list_address(spec);
            return;
        }
        let had = old["spec"]["clusterIP"].as_str().unwrap_or_default();
        if text(spec.get("clusterIP")).is_empty() && !had.is_empty() {
            for field in ["clusterIP", "clusterIPs"] {
                spec.insert(field.into(), old["spec"][field].clone());
            }
        }
        list_address(spec);
        let before = errors.len();
        families::decide(spec, &old["spec"], self.family(), errors);
        if errors.len() > before {
            return;
        }
        if text(spec.get("clusterIP")).is_empty() {
            match self.pick_address(taken) {
                Some(address) => {
                    let address = address.to_string();
                    spec.insert("clusterIPs".into(), json!([address]));
                    spec.insert("clusterIP".into(), address.into());
                }
                None => {
                    let detail = "failed to allocate a serviceIP: range is full";
                    errors.push(error(&path, Cause::Internal, Value::Null, detail));
                    return;
                }
            }
        }
        let asked = text(spec.get("clusterIP")).to_owned();
        // What is no address is for validation to say.
        let Ok(address) = asked.parse::<IpAddr>() else { return };
        let wrong = if !self.contains(address) {
            format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {}",
                self.addresses.trunc()
            )
        } else if taken(&address_key(address)) {
            "provided IP is already allocated".to_owned()
        } else {
            return;
        };
        let detail = format!("failed to allocate IP {address}: {wrong}");
        errors.push(error(&path, Cause::Invalid, json!([asked]), &detail));
    }

    fn assign_ports(
        &self,
        service: &mut Value,
        old: &Value,
        taken: &dyn Fn(&Key) -> bool,
        errors: &mut Errors,
    ) {
        let wanted = has_node_ports(&service["spec"]);
        let before = ports(old);
        let had: Vec<u16> = before.iter().filter_map(node_port).collect();
        let mut own: Vec<(u64, u16)> = Vec::new();
        let path = Path::new("spec").child("ports");
        let Some(list) = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut) else { return };
        for (index, port) in list.iter_mut().enumerate() {
            let path = path.index(index).child("nodePort");
            let Some(number) = port["port"].as_u64() else { continue };
            let said = node_port(port);
            if !wanted {
                // The port of a type that had one goes with the type.
                if said.is_some_and(|p| had.contains(&p)) && has_node_ports(&old["spec"]) {
                    meta::as_map(port).remove("nodePort");
                }
                continue;
            }
            let kept = || {
                let same = |b: &&Value| b["port"] == port["port"] && b["protocol"] == port["protocol"];
                before.iter().find(same).and_then(node_port)
            };
            // The same port of another protocol is reached by the same node port.
            let shared = || own.iter().find(|(n, _)| *n == number).map(|(_, p)| *p);
            let used = |p: u16| taken(&port_key(p)) || own.iter().any(|(_, o)| *o == p) || had.contains(&p);
            let chosen = match said.or_else(kept).or_else(shared).or_else(|| self.pick_port(used)) {
                Some(chosen) => chosen,
                None => {
                    let detail = "failed to allocate a nodePort: range is full";
                    errors.push(error(&path, Cause::Internal, Value::Null, detail));
                    continue;
                }
            };
            if !had.contains(&chosen) {
                let wrong = if !self.node_ports.contains(&chosen) {
                    let (first, last) = (self.node_ports.start(), self.node_ports.end());
                    Some(format!(
                        "provided port is not in the valid range. The range of valid ports is {first}-{last}"
                    ))
                } else if taken(&port_key(chosen)) {
                    Some("provided port is already allocated".to_owned())
                } else {
                    None
                };
                if let Some(detail) = wrong {
                    errors.push(error(&path, Cause::Invalid, chosen.into(), &detail));
                }
            }
            port["nodePort"] = chosen.into();
            own.push((number, chosen));
        }
    }

    fn assign_health_port(
        &self,
        service: &mut Value,
        old: &Value,
        taken: &dyn Fn(&Key) -> bool,
        errors: &mut Errors,
    ) {
        let path = Path::new("spec").child("healthCheckNodePort");
        let had = health_port(old);
        let spec = meta::child_mut(meta::as_map(service), "spec");
        if !(text(spec.get("type")) == "LoadBalancer" && text(spec.get("externalTrafficPolicy")) == "Local") {
            if had.is_some() && had == spec.get("healthCheckNodePort").and_then(as_port) {
                spec.remove("healthCheckNodePort");
            }
            return;
        }
        let said = spec.get("healthCheckNodePort").and_then(as_port);
        match said.or(had).or_else(|| self.pick_port(|p| taken(&port_key(p)))) {
            Some(port) if had != Some(port) && taken(&port_key(port)) => {
                errors.push(error(&path, Cause::Invalid, port.into(), "provided port is already allocated"));
            }
            Some(port) => drop(spec.insert("healthCheckNodePort".into(), port.into())),
            None => {
                let detail = "failed to allocate a HealthCheck NodePort: range is full";
                errors.push(error(&path, Cause::Internal, Value::Null, detail));
            }
        }
    }
}

impl Claimant for Services {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "services"
    }

    fn assign(&self, service: &mut Value, old: &Value, taken: &dyn Fn(&Key) -> bool) -> Result<(), Errors> {
        let mut errors = Vec::new();
        self.assign_addresses(service, old, taken, &mut errors);
        self.assign_ports(service, old, taken, &mut errors);
        self.assign_health_port(service, old, taken, &mut errors);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn claims(&self, service: &Value) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        if has_address(service["spec"].get("type")) {
            let addresses = meta::items(service, &["spec", "clusterIPs"]).iter().filter_map(Value::as_str);
            keys.extend(addresses.filter_map(|a| a.parse().ok()).map(address_key));
        }
        keys.extend(ports(service).iter().filter_map(node_port).map(port_key));
        keys.extend(health_port(service).map(port_key));
        keys
    }
}

/// A free place among `size`, at random: from those at `low` and after while they last.
fn pick(size: u128, low: u128, free: impl Fn(u128) -> bool) -> Option<u128> {
    if size == 0 {
        return None;
    }
    let low = if low >= size { 0 } else { low };
    let mut rng = rand::rng();
    for range in [low..size, 0..low] {
        if range.is_empty() {
            continue;
        }
        let start = rng.random_range(range.clone());
        let (length, tries) = (range.end - range.start, TRIES as u128);
        for step in 0..length.min(tries) {
            let place = range.start + (start - range.start + step) % length;
            if free(place) {
                return Some(place);
            }
        }
    }
    None
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

fn has_address(of_type: Option<&Value>) -> bool {
    matches!(text(of_type), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn has_node_ports(spec: &Value) -> bool {
    match text(spec.get("type")) {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

fn ports(service: &Value) -> &[Value] {
    meta::items(service, &["spec", "ports"])
}

fn as_port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0)
}

fn node_port(port: &Value) -> Option<u16> {
    as_port(&port["nodePort"])
}

fn health_port(service: &Value) -> Option<u16> {
    as_port(&service["spec"]["healthCheckNodePort"])
}

fn address_key(address: IpAddr) -> Key {
    Key::new(format!("/claims/clusterips/{address}"))
}

fn port_key(port: u16) -> Key {
    Key::new(format!("/claims/nodeports/{port}"))
}

fn error(path: &Path, cause: Cause, value: Value, detail: &str) -> Error {
    Error { path: path.clone(), cause, value, detail: detail.to_owned() }
}

#[cfg(test)]
#[path = "alloc_tests.rs"]
mod tests;
