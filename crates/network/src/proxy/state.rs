//! What the kernel's tables shall hold, kept as services come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    ops::RangeInclusive,
};

use ipnet::Ipv4Net;
use tiphys_client::ObjectKey;

use super::plan::{Frontend, Route};

/// The chain that picks one of `count` endpoints. Shared by all frontends that are alike, so that their number does
/// not grow with that of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Picker {
    pub count: u32,
    /// For frontends on every address of the node, whose key in the tables has no address.
    pub any_address: bool,
    /// For clients in the cluster, which other endpoints are for.
    pub inside: bool,
    pub masquerade: bool,
    pub affinity: Option<u32>,
    /// Frontends of one picker take turns at one counter. Some lanes of them keep two services, which a client asks
    /// by turns, from always getting the same endpoint each.
    pub lane: u8,
}

const LANES: u32 = 8;

/// For whose packets an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clients {
    All,
    /// Of pods and of the node itself. What is for all is theirs where nothing is for them alone.
    Inside,
}

/// One element of one of the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// Packets for the frontend go to the picker, which tells whose.
    Dispatch(Frontend, Picker),
    /// The frontend's endpoint by its number, counted from zero; with affinity also by its identity.
    Endpoint(Clients, Frontend, u32, SocketAddrV4),
    /// The identity of the endpoint that has this number now. Numbers shift as endpoints come and go; what clients
    /// remember is the identity.
    Identity(Clients, Frontend, u32, u32),
    Reject(Frontend),
    Drop(Frontend),
    /// Only who is admitted may come by the frontend.
    Guarded(Frontend),
    /// Whose address lies in the network may come.
    Admitted(Frontend, Ipv4Net),
    /// An endpoint that may be its own client.
    Hairpin(Ipv4Addr),
    /// The node answers for the address, which is that of services alone: what is no frontend there is nobody's.
    Announced(Ipv4Addr),
}

/// A step from one table to the next. Steps are in an order in which no element refers to what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    AddPicker(Picker),
    Remove(Element),
    Add(Element),
    RemovePicker(Picker),
}

/// All routes of all services, and what the kernel holds for them.
///
/// A frontend that several services claim (they may name the same external address) belongs to the first of them by
/// namespace and name, whatever the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct State {
    services: BTreeMap<ObjectKey, Vec<Frontend>>,
    claims: BTreeMap<Frontend, Vec<(ObjectKey, Route)>>,
    pickers: BTreeMap<Picker, u32>,
    hairpins: BTreeMap<Ipv4Addr, u32>,
    /// Addresses that are announced if services have them.
    ranges: Vec<RangeInclusive<Ipv4Addr>>,
    /// Those that have frontends, and how many.
    announced: BTreeMap<Ipv4Addr, u32>,
}

impl State {
    /// Nothing yet; of the addresses of services, those in `ranges` are announced.
    pub fn new(ranges: Vec<RangeInclusive<Ipv4Addr>>) -> Self {
        Self { ranges, ..Self::default() }
    }

    /// Replaces all routes of one service, none for a service that is gone, and tells the changes that this makes.
    pub fn replace(&mut self, service: &ObjectKey, routes: BTreeMap<Frontend, Route>) -> Vec<Change> {
        let frontends: Vec<Frontend> = routes.keys().copied().collect();
        let old = match frontends.is_empty() {
            true => self.services.remove(service),
            false => self.services.insert(service.clone(), frontends.clone()),
        };
        let affected: BTreeSet<Frontend> = old.into_iter().flatten().chain(frontends).collect();
        let mut routes = routes;
        let mut changes = Changes::default();
        for frontend in affected {
            let claims = self.claims.entry(frontend).or_default();
            let before = claims.first().map(|(_, route)| route.clone());
            claims.retain(|(claimant, _)| claimant != service);
            if let Some(route) = routes.remove(&frontend) {
                let at = claims.partition_point(|(claimant, _)| claimant < service);
                claims.insert(at, (service.clone(), route));
            }
            let after = claims.first().map(|(_, route)| route.clone());
            if claims.is_empty() {
                self.claims.remove(&frontend);
            }
            if before != after {
                self.step(frontend, before.as_ref(), after.as_ref(), &mut changes);
            }
        }
        changes.in_order()
    }

    fn step(
        &mut self,
        frontend: Frontend,
        before: Option<&Route>,
        after: Option<&Route>,
        changes: &mut Changes,
    ) {
        let old = before.map(|route| elements(frontend, route)).unwrap_or_default();
        let new = after.map(|route| elements(frontend, route)).unwrap_or_default();
        for element in new.difference(&old) {
            changes.add.insert(*element);
            if let Element::Dispatch(_, picker) = element
                && count_up(&mut self.pickers, *picker)
            {
                changes.add_pickers.insert(*picker);
            }
        }
        for element in old.difference(&new) {
            changes.remove.insert(*element);
            if let Element::Dispatch(_, picker) = element
                && count_down(&mut self.pickers, *picker)
            {
                changes.remove_pickers.insert(*picker);
            }
        }
        let address = frontend.address;
        if self.ranges.iter().any(|range| range.contains(&address)) {
            match (before.is_some(), after.is_some()) {
                (false, true) if count_up(&mut self.announced, address) => {
                    changes.add.insert(Element::Announced(address));
                }
                (true, false) if count_down(&mut self.announced, address) => {
                    changes.remove.insert(Element::Announced(address));
                }
                _ => {}
            }
        }
        // One hairpin serves every frontend that has the address among its endpoints.
        for endpoint in after.into_iter().flat_map(Route::endpoints) {
            if count_up(&mut self.hairpins, *endpoint.ip()) {
                changes.add.insert(Element::Hairpin(*endpoint.ip()));
            }
        }
        for endpoint in before.into_iter().flat_map(Route::endpoints) {
            if count_down(&mut self.hairpins, *endpoint.ip()) {
                changes.remove.insert(Element::Hairpin(*endpoint.ip()));
            }
        }
    }

    /// The changes that lead from empty tables to this state.
    pub fn everything(&self) -> impl Iterator<Item = Change> {
        let pickers = self.pickers.keys().map(|picker| Change::AddPicker(*picker));
        let routes =
            self.claims.iter().filter_map(|(frontend, claims)| Some((*frontend, &claims.first()?.1)));
        let elements = routes.flat_map(|(frontend, route)| elements(frontend, route));
        let hairpins = self.hairpins.keys().map(|address| Element::Hairpin(*address));
        let announced = self.announced.keys().map(|address| Element::Announced(*address));
        pickers.chain(elements.chain(hairpins).chain(announced).map(Change::Add))
    }

    /// Where the frontend leads now.
    pub fn route(&self, frontend: &Frontend) -> Option<&Route> {
        self.claims.get(frontend)?.first().map(|(_, route)| route)
    }

    /// The services that have routes, and the frontends that they claim.
    pub fn services(&self) -> impl Iterator<Item = (&ObjectKey, &[Frontend])> {
        self.services.iter().map(|(service, frontends)| (service, frontends.as_slice()))
    }

    /// The frontends that a service claims.
    pub fn frontends(&self, service: &ObjectKey) -> &[Frontend] {
        self.services.get(service).map(Vec::as_slice).unwrap_or_default()
    }
}

fn elements(frontend: Frontend, route: &Route) -> BTreeSet<Element> {
    let mut elements = BTreeSet::new();
    let sources = match route {
        Route::Endpoints { endpoints, affinity, masquerade, sources } => {
            picked(&mut elements, Clients::All, frontend, endpoints, *masquerade, *affinity);
            sources
        }
        Route::Local { here, anywhere, affinity, sources } => {
            match here.is_empty() {
                true => drop(elements.insert(Element::Drop(frontend))),
                false => picked(&mut elements, Clients::All, frontend, here, false, *affinity),
            }
            // What the node itself sends is masqueraded all the same, see the picker's rules.
            picked(&mut elements, Clients::Inside, frontend, anywhere, false, *affinity);
            sources
        }
        Route::Drop => return BTreeSet::from([Element::Drop(frontend)]),
        Route::Reject => return BTreeSet::from([Element::Reject(frontend)]),
    };
    if let Some(sources) = sources {
        elements.insert(Element::Guarded(frontend));
        elements.extend(sources.iter().map(|net| Element::Admitted(frontend, net.trunc())));
    }
    elements
}

/// Adds what leads these clients to one of the endpoints.
fn picked(
    elements: &mut BTreeSet<Element>,
    clients: Clients,
    frontend: Frontend,
    endpoints: &[SocketAddrV4],
    masquerade: bool,
    affinity: Option<u32>,
) {
    let picker = Picker {
        count: endpoints.len() as u32,
        any_address: frontend.address.is_unspecified(),
        inside: clients == Clients::Inside,
        masquerade,
        affinity,
        lane: ((u32::from(frontend.address) ^ u32::from(frontend.port)) % LANES) as u8,
    };
    elements.insert(Element::Dispatch(frontend, picker));
    let numbered = (0..).zip(endpoints);
    elements.extend(numbered.clone().map(|(n, endpoint)| Element::Endpoint(clients, frontend, n, *endpoint)));
    if affinity.is_some() {
        let mut last = 0;
        for (number, endpoint) in numbered {
            // The address, which is far above any number; the endpoints are sorted, so another port of the same
            // address gets the next value.
            let identity = u32::from(*endpoint.ip()).max(last + 1);
            elements.insert(Element::Identity(clients, frontend, number, identity));
            elements.insert(Element::Endpoint(clients, frontend, identity, *endpoint));
            last = identity;
        }
    }
}

/// Whether it is the first.
fn count_up<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) -> bool {
    let count = counts.entry(key).or_default();
    *count += 1;
    *count == 1
}

/// Whether it was the last.
fn count_down<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) -> bool {
    let last = match counts.get_mut(&key) {
        Some(count) => {
            *count -= 1;
            *count == 0
        }
        None => false,
    };
    if last {
        counts.remove(&key);
    }
    last
}

#[derive(Default)]
struct Changes {
    add_pickers: BTreeSet<Picker>,
    remove: BTreeSet<Element>,
    add: BTreeSet<Element>,
    remove_pickers: BTreeSet<Picker>,
}

impl Changes {
    /// A frontend's new element may have the key of its old one, so all removals come before all additions. What one
    /// frontend let go and another took up within the step is left alone.
    fn in_order(self) -> Vec<Change> {
        let add_pickers = self.add_pickers.difference(&self.remove_pickers).map(|p| Change::AddPicker(*p));
        let remove = self.remove.difference(&self.add).map(|e| Change::Remove(*e));
        let add = self.add.difference(&self.remove).map(|e| Change::Add(*e));
        let remove_pickers =
            self.remove_pickers.difference(&self.add_pickers).map(|p| Change::RemovePicker(*p));
        add_pickers.chain(remove).chain(add).chain(remove_pickers).collect()
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
