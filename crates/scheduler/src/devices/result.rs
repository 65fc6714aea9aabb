//! What is written of an allocation.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
        resource::v1::{
            AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult,
            DeviceRequestAllocationResult,
        },
    },
    apimachinery::pkg::api::resource::Quantity,
};
use uuid::Uuid;

use super::{
    allocate::Given,
    capacity::Amounts,
    kinds::{Claim, Class, Device, Reach, Way},
};

/// What a claim's status says when it has been given these devices on the node. Each share has a name of its own.
pub fn allocation<'a>(
    claim: &Claim,
    given: &[Given<'_>],
    node: &str,
    class: impl Fn(&str) -> Option<&'a Class>,
) -> AllocationResult {
    let results = given.iter().map(|g| {
        let (way, device) = (way(claim, g), g.offer.device);
        let (id, some) = (&device.id, |of: &Vec<String>| Some(of.clone()).filter(|of| !of.is_empty()));
        DeviceRequestAllocationResult {
            request: way.name.to_string(),
            driver: id.driver.to_string(),
            pool: id.pool.to_string(),
            device: id.name.to_string(),
            admin_access: way.is_admin.then_some(true),
            tolerations: Some(way.tolerations.clone()).filter(|t| !t.is_empty()),
            binding_conditions: some(&device.conditions),
            binding_failure_conditions: some(&device.failures),
            consumed_capacity: g.share.as_ref().and_then(|share| consumed(device, share)),
            share_id: g.share.as_ref().map(|_| Uuid::new_v4().to_string()),
            ..DeviceRequestAllocationResult::default()
        }
    });
    let config = config(claim, given, class);
    let devices = DeviceAllocationResult {
        results: Some(results.collect()),
        config: Some(config).filter(|config| !config.is_empty()),
    };
    AllocationResult { devices: Some(devices), node_selector: nodes(given, node), allocation_timestamp: None }
}

/// By the names that the driver has for them.
fn consumed(device: &Device, share: &Amounts) -> Option<BTreeMap<String, Quantity>> {
    let named = device.capacity.iter().filter_map(|(full, capacity)| {
        Some((capacity.name.to_string(), Quantity(share.get(full)?.to_string())))
    });
    Some(named.collect::<BTreeMap<_, _>>()).filter(|named| !named.is_empty())
}

fn way<'a>(claim: &'a Claim, given: &Given<'_>) -> &'a Way {
    &claim.requests[given.request].ways[given.way]
}

/// The parameters that drivers are told: those of the classes, then those of the claim.
fn config<'a>(
    claim: &Claim,
    given: &[Given<'_>],
    class: impl Fn(&str) -> Option<&'a Class>,
) -> Vec<DeviceAllocationConfiguration> {
    let mut chosen: Vec<&Way> = Vec::new();
    for g in given {
        let way = way(claim, g);
        if !chosen.iter().any(|known| std::ptr::eq(*known, way)) {
            chosen.push(way);
        }
    }
    let mut config = Vec::new();
    let mut told: Vec<&str> = Vec::new();
    for way in &chosen {
        if told.contains(&&*way.class) {
            continue;
        }
        told.push(&way.class);
        let of_class = chosen.iter().filter(|other| other.class == way.class);
        let requests: Vec<String> = of_class.map(|other| other.name.to_string()).collect();
        let given = class(&way.class).into_iter().flat_map(|class| &class.config);
        config.extend(given.map(|given| DeviceAllocationConfiguration {
            opaque: given.opaque.clone(),
            requests: Some(requests.clone()),
            source: "FromClass".to_owned(),
        }));
    }
    for given in &claim.config {
        let requests = given.requests.clone().unwrap_or_default();
        let is_about = |way: &&Way| {
            let request = way.name.split('/').next().unwrap_or_default();
            requests.iter().any(|name| **name == *way.name || **name == *request)
        };
        if requests.is_empty() || chosen.iter().any(is_about) {
            config.push(DeviceAllocationConfiguration {
                opaque: given.opaque.clone(),
                requests: Some(requests),
                source: "FromClaim".to_owned(),
            });
        }
    }
    for given in &mut config {
        // None stands for all.
        given.requests = given.requests.take().filter(|r| !r.is_empty() && r.len() < claim.requests.len());
    }
    config
}

/// From where all of the devices can be used; `None`: from everywhere.
fn nodes(given: &[Given<'_>], node: &str) -> Option<NodeSelector> {
    let mut term = NodeSelectorTerm::default();
    for g in given {
        let (slice, device) = (g.offer.slice, g.offer.device);
        let reach = if slice.reach == Reach::ByDevice { &device.reach } else { &slice.reach };
        match reach {
            _ if device.binds => return Some(only(node)),
            Reach::Node(_) => return Some(only(node)),
            Reach::Nodes(selector) => {
                // Validation lets one term through.
                for of in &selector.node_selector_terms {
                    add(&mut term.match_fields, of.match_fields.as_deref());
                    add(&mut term.match_expressions, of.match_expressions.as_deref());
                }
            }
            Reach::All | Reach::ByDevice | Reach::Nowhere => {}
        }
    }
    let is_open = term.match_fields.is_none() && term.match_expressions.is_none();
    (!is_open).then(|| NodeSelector { node_selector_terms: vec![term] })
}

fn add(to: &mut Option<Vec<NodeSelectorRequirement>>, more: Option<&[NodeSelectorRequirement]>) {
    for requirement in more.into_iter().flatten() {
        let known = to.get_or_insert_default();
        if !known.contains(requirement) {
            known.push(requirement.clone());
        }
    }
}

fn only(node: &str) -> NodeSelector {
    let name = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![name]), match_expressions: None };
    NodeSelector { node_selector_terms: vec![term] }
}
