//! The `Endpoints` object of a Service, which EndpointSlices have replaced and old clients still read.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    backends::{Backend, Port, is_headless, labels_for},
    slices::family,
};

pub(crate) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
pub(crate) const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// More addresses are left out, which an annotation tells.
const MOST_ADDRESSES: usize = 1000;

/// The object as it should be; `None` if what is there is right already.
pub(super) fn plan(
    service: &Service,
    backends: &[Backend],
    present: Option<&Endpoints>,
) -> Option<Endpoints> {
    type Sides = (Vec<EndpointAddress>, Vec<EndpointAddress>);
    let mut groups: BTreeMap<Vec<Port>, Sides> = BTreeMap::new();
    // There is room for one family only.
    let families = service.spec.as_ref().and_then(|s| s.ip_families.as_ref());
    let primary = families.and_then(|f| f.first()).map_or("IPv4", String::as_str);
    let mut ordered: Vec<&Backend> = backends.iter().filter(|b| !b.terminating || b.ready).collect();
    // What is ready stays when there is no room for all.
    ordered.sort_by_key(|b| !b.ready);
    let truncated = ordered.len() > MOST_ADDRESSES;
    for backend in ordered.into_iter().take(MOST_ADDRESSES) {
        let Some(ip) = backend.ips.iter().find(|ip| family(ip) == primary) else { continue };
        if backend.ports.is_empty() && !is_headless(service) {
            continue;
        }
        let address = EndpointAddress {
            ip: ip.clone(),
            hostname: backend.hostname.clone(),
            node_name: backend.node.clone(),
            target_ref: backend.target.clone(),
        };
        let mut ports = backend.ports.clone();
        ports.sort();
        let (ready, unready) = groups.entry(ports).or_default();
        if backend.ready { ready.push(address) } else { unready.push(address) }
    }
    let side = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        (!addresses.is_empty()).then_some(addresses)
    };
    let subsets: Vec<EndpointSubset> = groups
        .into_iter()
        .map(|(ports, (ready, unready))| EndpointSubset {
            addresses: side(ready),
            not_ready_addresses: side(unready),
            ports: (!ports.is_empty()).then(|| ports.into_iter().map(port).collect()),
        })
        .collect();
    let mut labels = labels_for(service);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let subsets = (!subsets.is_empty()).then_some(subsets);
    let mut annotations = present.and_then(|p| p.metadata.annotations.clone()).unwrap_or_default();
    annotations.remove(OVER_CAPACITY);
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    let same = present.is_some_and(|p| {
        p.subsets.as_deref().unwrap_or_default() == subsets.as_deref().unwrap_or_default()
            && p.metadata.labels.as_ref() == Some(&labels)
            && p.metadata.annotations.clone().unwrap_or_default() == annotations
    });
    (!same).then(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            resource_version: present.and_then(|p| p.metadata.resource_version.clone()),
            ..Default::default()
        },
        subsets,
    })
}

fn port(port: Port) -> EndpointPort {
    EndpointPort {
        name: (!port.name.is_empty()).then_some(port.name),
        protocol: Some(port.protocol),
        port: port.port,
        app_protocol: port.app_protocol,
    }
}
