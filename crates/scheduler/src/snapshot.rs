//! What the nodes have, and what is taken of it. Kept up to date by single changes, never rebuilt.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Node, Taint};
use tiphys_client::{ObjectRef, placement::HostPort};

use crate::{pod::PodInfo, resources::Resources};

/// The facts of a node that plugins ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    pub name: Box<str>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub most_pods: i64,
    /// Names of images on the node, with their sizes.
    pub images: BTreeMap<Box<str>, i64>,
}

impl NodeFacts {
    pub fn new(node: Node) -> Self {
        let spec = node.spec.unwrap_or_default();
        let status = node.status.unwrap_or_default();
        let mut allocatable = Resources::new(status.allocatable.as_ref().or(status.capacity.as_ref()));
        let most_pods = allocatable.others.remove("pods").unwrap_or(0);
        let images = status.images.into_iter().flatten().flat_map(|image| {
            let size = image.size_bytes.unwrap_or(0);
            image.names.into_iter().flatten().map(move |name| (name.into_boxed_str(), size))
        });
        Self {
            name: node.metadata.name.unwrap_or_default().into(),
            labels: node.metadata.labels.unwrap_or_default(),
            taints: spec.taints.unwrap_or_default(),
            unschedulable: spec.unschedulable.unwrap_or(false),
            allocatable,
            most_pods,
            images: images.collect(),
        }
    }
}

/// A node and what its pods take.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// `None` while only pods of the node are known.
    pub facts: Option<Arc<NodeFacts>>,
    pub pods: BTreeMap<ObjectRef, Arc<PodInfo>>,
    pub requested: Resources,
    /// Milli-CPU and bytes, counting what asks for nothing as something.
    pub weight: (i64, i64),
    pub host_ports: BTreeSet<HostPort>,
}

impl NodeInfo {
    fn add(&mut self, pod: Arc<PodInfo>) {
        self.remove(&pod.reference);
        self.requested.add(&pod.requests);
        self.weight.0 += pod.weight.0;
        self.weight.1 += pod.weight.1;
        self.host_ports.extend(pod.host_ports.iter().cloned());
        self.pods.insert(pod.reference.clone(), pod);
    }

    fn remove(&mut self, pod: &ObjectRef) -> Option<Arc<PodInfo>> {
        let gone = self.pods.remove(pod)?;
        self.requested.subtract(&gone.requests);
        self.weight.0 -= gone.weight.0;
        self.weight.1 -= gone.weight.1;
        for port in &gone.host_ports {
            self.host_ports.remove(port);
        }
        Some(gone)
    }
}

/// All nodes, by name.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: BTreeMap<Box<str>, NodeInfo>,
    /// Where each placed or assumed pod is counted.
    places: BTreeMap<ObjectRef, Box<str>>,
    /// Pods counted on a node before the API has said so.
    assumed: BTreeSet<ObjectRef>,
}

impl Snapshot {
    /// The nodes that exist, in name order.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeFacts, &NodeInfo)> {
        self.nodes.values().filter_map(|info| Some((&**info.facts.as_ref()?, info)))
    }

    pub fn set_node(&mut self, facts: Arc<NodeFacts>) {
        let name = facts.name.clone();
        self.nodes.entry(name).or_default().facts = Some(facts);
    }

    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.get_mut(name) {
            info.facts = None;
            if info.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// The API's word on a pod; it ends an assumption about the pod.
    pub fn set_pod(&mut self, pod: &Arc<PodInfo>) {
        if pod.is_placed() {
            self.assumed.remove(&pod.reference);
            self.place(pod.clone(), pod.node.clone());
        } else if !self.assumed.contains(&pod.reference) || pod.finished {
            self.remove_pod(&pod.reference);
        }
    }

    /// Counts a pod on a node from now on, until the API confirms it or [`Snapshot::forget`] is called.
    pub fn assume(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.assumed.insert(pod.reference.clone());
        self.place(pod.clone(), node.into());
    }

    /// The binding failed.
    pub fn forget(&mut self, pod: &ObjectRef) {
        if self.assumed.contains(pod) {
            self.remove_pod(pod);
        }
    }

    pub fn is_assumed(&self, pod: &ObjectRef) -> bool {
        self.assumed.contains(pod)
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: Box<str>) {
        if self.places.get(&pod.reference).is_some_and(|place| *place != node) {
            self.lift(&pod.reference);
        }
        self.places.insert(pod.reference.clone(), node.clone());
        self.nodes.entry(node).or_default().add(pod);
    }

    pub fn remove_pod(&mut self, pod: &ObjectRef) {
        self.assumed.remove(pod);
        self.lift(pod);
    }

    fn lift(&mut self, pod: &ObjectRef) {
        let Some(place) = self.places.remove(pod) else { return };
        if let Some(info) = self.nodes.get_mut(&place) {
            info.remove(pod);
            if info.facts.is_none() && info.pods.is_empty() {
                self.nodes.remove(&place);
            }
        }
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
