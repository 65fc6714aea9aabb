//! Which address leads where: a pure function of one service and its slices.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use ipnet::Ipv4Net;

use super::{
    model::{Condition, Endpoint, Service, Slice},
    topology::Place,
};
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
    /// `externalTrafficPolicy: Local`: who comes from outside gets to endpoints of this node, which see its address,
    /// or, if there are none, no answer, as another node may give one. To clients in the cluster the address is that
    /// of something beyond it that could choose any node, so they get to any endpoint.
    Local {
        /// On this node (sorted).
        here: Vec<SocketAddrV4>,
        /// Wherever they are (sorted, at least one).
        anywhere: Vec<SocketAddrV4>,
        /// As above.
        affinity: Option<u32>,
        sources: Option<Arc<[Ipv4Net]>>,
    },
    /// Nobody is there: the client is told at once.
    Reject,
    /// Somebody is there, but not for this node's clients: another node may answer, so silence.
    Drop,
}

impl Route {
    /// Where it leads whom ever; an endpoint may be named twice.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &SocketAddrV4> {
        let (some, more): (&[_], &[_]) = match self {
            Route::Endpoints { endpoints, .. } => (endpoints, &[]),
            Route::Local { here, anywhere, .. } => (here, anywhere),
            Route::Reject | Route::Drop => (&[], &[]),
        };
        some.iter().chain(more)
    }

    fn only_from(mut self, from: Option<Arc<[Ipv4Net]>>) -> Route {
        if let Route::Endpoints { sources, .. } | Route::Local { sources, .. } = &mut self {
            *sources = from;
        }
        self
    }
}

/// All routes of one service, at this place.
pub fn routes(
    service: &Service,
    slices: &[impl AsRef<Slice>],
    place: Place<'_>,
) -> BTreeMap<Frontend, Route> {
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
        let chosen = Chosen::of(&candidates, place);
        let internal = match service.internal_local {
            true => chosen.here_only(service),
            false => chosen.anywhere(service, false),
        };
        for address in &service.cluster_ips {
            routes.insert(frontend(*address, port.port), internal.clone());
        }
        let external = match service.external_local {
            true => chosen.here_for_strangers(service),
            false => chosen.anywhere(service, true),
        };
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

/// How many endpoints of a service are on this node and ready, whatever their ports.
pub(super) fn ready_here(slices: &[impl AsRef<Slice>], node: &str) -> usize {
    let all = slices.iter().flat_map(|slice| &slice.as_ref().endpoints);
    let here = all.filter(|e| e.condition == Condition::Ready && e.node.as_deref() == Some(node));
    here.map(|e| e.address).collect::<BTreeSet<_>>().len()
}

/// The endpoints of one port that take connections: those that are ready, or else those that still serve while they
/// terminate; sorted, each once.
struct Chosen {
    /// In the whole cluster, as near as hints say. Empty only if there are none in the whole cluster.
    anywhere: Vec<SocketAddrV4>,
    /// On this node, whatever hints say.
    here: Vec<SocketAddrV4>,
}

impl Chosen {
    fn of(candidates: &[(SocketAddrV4, &Endpoint)], place: Place<'_>) -> Chosen {
        let nearness = place.nearness(candidates.iter().map(|(_, endpoint)| *endpoint));
        let with = |condition, fits: &dyn Fn(&Endpoint) -> bool| {
            let fitting = candidates.iter().filter(|(_, e)| e.condition == condition && fits(e));
            let mut found: Vec<SocketAddrV4> = fitting.map(|(address, _)| *address).collect();
            found.sort_unstable();
            found.dedup();
            Some(found).filter(|found| !found.is_empty())
        };
        let last = |fits| with(Condition::ServingTerminating, fits).unwrap_or_default();
        let is_here = |e: &Endpoint| e.node.as_deref() == Some(place.node);
        Chosen {
            anywhere: with(Condition::Ready, &|e| place.is_near(e, nearness))
                .unwrap_or_else(|| last(&|_| true)),
            here: with(Condition::Ready, &is_here).unwrap_or_else(|| last(&is_here)),
        }
    }

    fn anywhere(&self, service: &Service, masquerade: bool) -> Route {
        if self.anywhere.is_empty() {
            return Route::Reject;
        }
        let (endpoints, affinity) = (self.anywhere.clone(), service.affinity);
        Route::Endpoints { endpoints, affinity, masquerade, sources: None }
    }

    fn here_only(&self, service: &Service) -> Route {
        match (self.here.is_empty(), self.anywhere.is_empty()) {
            (false, _) => {
                let (endpoints, affinity) = (self.here.clone(), service.affinity);
                Route::Endpoints { endpoints, affinity, masquerade: false, sources: None }
            }
            (true, false) => Route::Drop,
            (true, true) => Route::Reject,
        }
    }

    fn here_for_strangers(&self, service: &Service) -> Route {
        if self.anywhere.is_empty() {
            return Route::Reject;
        }
        let (here, anywhere) = (self.here.clone(), self.anywhere.clone());
        Route::Local { here, anywhere, affinity: service.affinity, sources: None }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
