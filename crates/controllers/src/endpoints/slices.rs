//! EndpointSlices: at most a hundred endpoints each, changed in place where that will do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::Service,
        discovery::v1::{
            Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
        },
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use tiphys_client::ObjectKey;

use super::backends::{Backend, Port, labels_for};
use crate::object::Object;

/// On a slice: whose endpoints these are.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Who manages the slices of a Service with a selector.
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The most endpoints of one slice.
const FULL: usize = 100;

#[derive(Debug)]
pub(super) enum Action {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(Arc<EndpointSlice>),
}

/// Slices hold endpoints of one family that share all their ports.
type Group = (&'static str, Vec<Port>);

pub(super) fn family(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

/// What slices are made for.
pub(super) struct Subject {
    /// The namespace and the name of the Service.
    pub(super) key: ObjectKey,
    pub(super) owner: OwnerReference,
    /// The labels of every slice.
    pub(super) labels: BTreeMap<String, String>,
    /// The families to make slices of.
    pub(super) families: Vec<&'static str>,
    /// Whether a family without endpoints still has a slice that says so.
    pub(super) empty_slices: bool,
    pub(super) near: Near,
}

/// Whom endpoints are meant for, as hints tell those who send traffic (KEP-4444, KEP-3015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Near {
    Anywhere,
    SameZone,
    /// Rather on the same node, and else in the same zone.
    SameNode,
}

impl Near {
    fn of(distribution: Option<&str>) -> Self {
        match distribution {
            Some("PreferClose" | "PreferSameZone") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::Anywhere,
        }
    }

    fn hints(self, backend: &Backend) -> Option<EndpointHints> {
        let zone = backend.zone.clone().filter(|_| self != Self::Anywhere);
        let node = backend.node.clone().filter(|_| self == Self::SameNode);
        (backend.ready && (zone.is_some() || node.is_some())).then(|| EndpointHints {
            for_zones: zone.map(|name| vec![ForZone { name }]),
            for_nodes: node.map(|name| vec![ForNode { name }]),
        })
    }
}

impl Subject {
    pub(super) fn of(service: &Service) -> Self {
        let stated = service.spec.as_ref().and_then(|s| s.ip_families.as_deref()).unwrap_or_default();
        let mut families: Vec<_> = stated.iter().map(|f| if f == "IPv6" { "IPv6" } else { "IPv4" }).collect();
        if families.is_empty() {
            families.push("IPv4");
        }
        Self {
            key: service.key(),
            owner: service.as_controller(),
            labels: slice_labels(labels_for(service), service.name(), MANAGER),
            families,
            empty_slices: true,
            near: Near::of(service.spec.as_ref().and_then(|s| s.traffic_distribution.as_deref())),
        }
    }
}

/// The labels by which a Service's slices are found, beside others.
pub(super) fn slice_labels(
    mut labels: BTreeMap<String, String>,
    service: &str,
    manager: &str,
) -> BTreeMap<String, String> {
    labels.insert(SERVICE_NAME.to_owned(), service.to_owned());
    labels.insert(MANAGED_BY.to_owned(), manager.to_owned());
    labels
}

fn endpoint(backend: &Backend, ip: &str, near: Near) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: backend.target.clone(),
        zone: backend.zone.clone(),
        hints: near.hints(backend),
        ..Default::default()
    }
}

fn ports(ports: &[Port]) -> Vec<EndpointPort> {
    let make = |p: &Port| EndpointPort {
        name: Some(p.name.clone()),
        protocol: Some(p.protocol.clone()),
        port: Some(p.port),
        app_protocol: p.app_protocol.clone(),
    };
    ports.iter().map(make).collect()
}

fn group_of(slice: &EndpointSlice) -> Group {
    let mut ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .map(|p| Port {
            name: p.name.clone().unwrap_or_default(),
            protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: p.port.unwrap_or(0),
            app_protocol: p.app_protocol.clone(),
        })
        .collect();
    ports.sort();
    (if slice.address_type == "IPv6" { "IPv6" } else { "IPv4" }, ports)
}

/// `present` are the subject's slices that the planning controller manages.
pub(super) fn plan(subject: &Subject, backends: &[Backend], present: &[Arc<EndpointSlice>]) -> Vec<Action> {
    let mut wanted: BTreeMap<Group, BTreeMap<String, Endpoint>> = BTreeMap::new();
    for &wanted_family in &subject.families {
        for backend in backends {
            let Some(ip) = backend.ips.iter().find(|ip| family(ip) == wanted_family) else { continue };
            let mut key = backend.ports.clone();
            key.sort();
            wanted
                .entry((wanted_family, key))
                .or_default()
                .insert(ip.clone(), endpoint(backend, ip, subject.near));
        }
        if subject.empty_slices && !wanted.keys().any(|(f, _)| *f == wanted_family) {
            wanted.insert((wanted_family, Vec::new()), BTreeMap::new());
        }
    }
    let mut slices: BTreeMap<Group, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in present.iter().filter(|s| !s.is_going()) {
        slices.entry(group_of(slice)).or_default().push(slice.clone());
    }
    let mut actions = Vec::new();
    for (group, endpoints) in wanted {
        let there = slices.remove(&group).unwrap_or_default();
        actions.extend(fill(subject, &group, endpoints, there));
    }
    actions.extend(slices.into_values().flatten().map(Action::Delete));
    actions
}

/// Brings the slices of one group in line: endpoints stay where they are, new ones fill up what has room.
fn fill(
    subject: &Subject,
    group: &Group,
    mut wanted: BTreeMap<String, Endpoint>,
    there: Vec<Arc<EndpointSlice>>,
) -> Vec<Action> {
    let labels = &subject.labels;
    let none_wanted = wanted.is_empty();
    let mut kept: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    for slice in there {
        let mut seen = BTreeSet::new();
        let stay = slice
            .endpoints
            .iter()
            .flatten()
            .filter_map(|e| e.addresses.first())
            .filter(|ip| seen.insert((*ip).clone()))
            .filter_map(|ip| wanted.remove(ip))
            .collect();
        kept.push((slice, stay));
    }
    let mut new = wanted.into_values();
    for (_, endpoints) in &mut kept {
        let room = FULL.saturating_sub(endpoints.len());
        endpoints.extend(new.by_ref().take(room));
    }
    let mut actions = Vec::new();
    let mut placeholder = none_wanted;
    for (slice, endpoints) in kept {
        if endpoints.is_empty() && !std::mem::take(&mut placeholder) {
            actions.push(Action::Delete(slice));
            continue;
        }
        let same = slice.endpoints.as_deref().unwrap_or_default() == endpoints
            && slice.metadata.labels.as_ref() == Some(labels);
        if !same {
            let mut next = (*slice).clone();
            next.endpoints = Some(endpoints);
            next.metadata.labels = Some(labels.clone());
            actions.push(Action::Update(Box::new(next)));
        }
    }
    let rest: Vec<Endpoint> = new.collect();
    let create = |endpoints: Vec<Endpoint>| {
        Action::Create(Box::new(EndpointSlice {
            address_type: group.0.to_owned(),
            endpoints: Some(endpoints),
            ports: Some(ports(&group.1)),
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", subject.key.name)),
                namespace: Some(subject.key.namespace.to_string()),
                labels: Some(labels.clone()),
                owner_references: Some(vec![subject.owner.clone()]),
                ..Default::default()
            },
        }))
    };
    if rest.is_empty() && placeholder {
        actions.push(create(Vec::new()));
    }
    actions.extend(rest.chunks(FULL).map(|part| create(part.to_vec())));
    actions
}
