//! Which address leads where: a pure function of one service and its slices.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use ipnet::Ipv4Net;

use super::model::{Condition, Endpoint, Service, Slice};
use crate::bridge::Protocol;

/// Where clients knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// [`Ipv4Addr::UNSPECIFIED`] stands for every address of the node.
    pub address: Ipv4Addr,
    pub protocol: Protocol,
    pub port: u16,
}

/// Where a frontend leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To one of these (sorted, at least one) in turn.
    Endpoints {
        endpoints: Vec<SocketAddrV4>,
        /// For how many seconds a client that comes again is sent to the same endpoint.
        affinity: Option<u32>,
        /// The endpoint sees the node's address instead of the client's, because its answer could take another way
        /// than through this node.
        masquerade: bool,
        /// Who may come, if not everybody; nobody else is answered.
        sources: Option<Arc<[Ipv4Net]>>,
    },
    /// Nobody is there: the client is told at once.
    Reject,
    /// Somebody is there, but not for this node's clients: another node may answer, so silence.
    Drop,
}

impl Route {
    pub(crate) fn endpoints(&self) -> &[SocketAddrV4] {
        match self {
            Route::Endpoints { endpoints, .. } => endpoints,
            Route::Reject | Route::Drop => &[],
        }
    }

    fn only_from(mut self, from: Option<Arc<[Ipv4Net]>>) -> Route {
        if let Route::Endpoints { sources, .. } = &mut self {
            *sources = from;
        }
        self
    }
}

/// All routes of one service, on the node of this name.
pub fn routes(service: &Service, slices: &[impl AsRef<Slice>], node: &str) -> BTreeMap<Frontend, Route> {
    let mut routes = BTreeMap::new();
    for port in &service.ports {
        let mut candidates: Vec<(SocketAddrV4, &Endpoint)> = Vec::new();
        for slice in slices.iter().map(AsRef::as_ref) {
            for slice_port in &slice.ports {
                if slice_port.name == port.name && slice_port.protocol == port.protocol {
                    candidates.extend(
                        slice.endpoints.iter().map(|e| (SocketAddrV4::new(e.address, slice_port.port), e)),
                    );
                }
            }
        }
        let frontend = |address, number| Frontend { address, protocol: port.protocol, port: number };
        let internal = route(service, &candidates, service.internal_local.then_some(node), false);
        for address in &service.cluster_ips {
            routes.insert(frontend(*address, port.port), internal.clone());
        }
        // With the Local policy a client's connection never leaves the node, and its address is kept.
        let external =
            route(service, &candidates, service.external_local.then_some(node), !service.external_local);
        let guarded = external.clone().only_from(service.sources.clone());
        for address in &service.balanced {
            routes.entry(frontend(*address, port.port)).or_insert_with(|| guarded.clone());
        }
        for address in &service.external_ips {
            routes.entry(frontend(*address, port.port)).or_insert_with(|| external.clone());
        }
        if let Some(node_port) = port.node_port {
            routes.insert(frontend(Ipv4Addr::UNSPECIFIED, node_port), external);
        }
    }
    routes
}

/// The endpoints that are ready, or else those that still serve while they terminate; of one node only if `node` is
/// given.
fn route(
    service: &Service,
    candidates: &[(SocketAddrV4, &Endpoint)],
    node: Option<&str>,
    masquerade: bool,
) -> Route {
    let pick = |node: Option<&str>| {
        let with = |condition| {
            let mut found: Vec<SocketAddrV4> = candidates
                .iter()
                .filter(|(_, e)| e.condition == condition && (node.is_none() || e.node.as_deref() == node))
                .map(|(address, _)| *address)
                .collect();
            found.sort_unstable();
            found.dedup();
            Some(found).filter(|found| !found.is_empty())
        };
        with(Condition::Ready).or_else(|| with(Condition::ServingTerminating))
    };
    match pick(node) {
        Some(endpoints) => {
            Route::Endpoints { endpoints, affinity: service.affinity, masquerade, sources: None }
        }
        None if node.is_some() && pick(None).is_some() => Route::Drop,
        None => Route::Reject,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
