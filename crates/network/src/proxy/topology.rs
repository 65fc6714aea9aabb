//! Which of a service's endpoints its clients on this node are meant for, by the hints that the endpoints carry
//! (KEP-2433, KEP-4444, KEP-3015). What the service itself wishes (`trafficDistribution`), its hints have in them.

use super::model::{Condition, Endpoint};

/// Where this proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The node's name, as endpoints carry it.
    pub node: &'a str,
    /// The node's zone, if it is labelled with one.
    pub zone: Option<&'a str>,
}

/// How near endpoints have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nearness {
    Anywhere,
    Zone,
    Node,
}

impl Place<'_> {
    fn node_is_among(&self, endpoint: &Endpoint) -> bool {
        endpoint.hints.nodes.iter().any(|name| **name == *self.node)
    }

    fn zone_is_among(&self, endpoint: &Endpoint) -> bool {
        self.zone.is_some_and(|zone| endpoint.hints.zones.iter().any(|name| **name == *zone))
    }

    /// Hints count only if each endpoint that is ready has some, and some of them are for this place: else they are
    /// being written, or would leave nobody.
    pub(super) fn nearness<'a>(&self, endpoints: impl Iterator<Item = &'a Endpoint> + Clone) -> Nearness {
        let ready = endpoints.filter(|e| e.condition == Condition::Ready);
        if ready.clone().all(|e| !e.hints.nodes.is_empty()) && ready.clone().any(|e| self.node_is_among(e)) {
            Nearness::Node
        } else if ready.clone().all(|e| !e.hints.zones.is_empty())
            && ready.clone().any(|e| self.zone_is_among(e))
        {
            Nearness::Zone
        } else {
            Nearness::Anywhere
        }
    }

    pub(super) fn is_near(&self, endpoint: &Endpoint, nearness: Nearness) -> bool {
        match nearness {
            Nearness::Anywhere => true,
            Nearness::Zone => self.zone_is_among(endpoint),
            Nearness::Node => self.node_is_among(endpoint),
        }
    }
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
