//! What somebody wrote into the Endpoints of a Service without a selector, told by EndpointSlices, which is where
//! everybody looks now.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints, Service};

use super::{
    backends::{Backend, HEADLESS, Port},
    slices::{Near, Subject, slice_labels},
};
use crate::object::Object;

/// Who manages such slices.
pub(super) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints with this label are not mirrored.
pub(crate) const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// So many addresses of one subset are mirrored at most.
const MOST_OF_SUBSET: usize = 1000;
/// Endpoints that serve to elect a leader lead nowhere.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// Whether the Service has nothing but these Endpoints to say where it leads.
pub(super) fn is_mirrored(service: &Service, endpoints: &Endpoints) -> bool {
    let spec = service.spec.as_ref();
    let selects = spec.and_then(|s| s.selector.as_ref()).is_some_and(|s| !s.is_empty());
    let elsewhere = spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName");
    !selects && !elsewhere && endpoints.annotation(LEADER).is_none()
}

/// Whose slices they are: the Endpoints'.
pub(super) fn subject(endpoints: &Endpoints) -> Subject {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    Subject {
        key: endpoints.key(),
        owner: endpoints.as_controller(),
        labels: slice_labels(labels, endpoints.name(), MANAGER),
        families: vec!["IPv4", "IPv6"],
        empty_slices: false,
        near: Near::Anywhere,
    }
}

/// One backend an address of each subset.
pub(super) fn backends(endpoints: &Endpoints) -> Vec<Backend> {
    let mut all = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<Port> = subset.ports.iter().flatten().map(port).collect();
        let backend = |address: &EndpointAddress, ready| Backend {
            ips: vec![address.ip.clone()],
            ports: ports.clone(),
            ready,
            serving: ready,
            terminating: false,
            hostname: address.hostname.clone().filter(|h| !h.is_empty()),
            node: address.node_name.clone(),
            zone: None,
            target: address.target_ref.clone(),
        };
        let ready = subset.addresses.iter().flatten().map(|a| backend(a, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|a| backend(a, false));
        all.extend(ready.chain(unready).take(MOST_OF_SUBSET));
    }
    all
}

fn port(port: &EndpointPort) -> Port {
    Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        port: port.port,
        app_protocol: port.app_protocol.clone(),
    }
}
