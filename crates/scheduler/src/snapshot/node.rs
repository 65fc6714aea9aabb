//! One node: its facts, and what its pods take of it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Taint};
use tiphys_client::{ObjectRef, placement::HostPort};

use crate::{pod::PodInfo, resources::Resources, selector::Labels};

/// A node's number in the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The facts of a node that plugins ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    pub name: Box<str>,
    pub labels: Labels,
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

    /// Whether a taint keeps pods away.
    pub fn repels(&self) -> bool {
        self.taints.iter().any(|t| t.effect != "PreferNoSchedule")
    }

    /// Whether a taint makes pods rather go elsewhere.
    pub fn is_disliked(&self) -> bool {
        self.taints.iter().any(|t| t.effect == "PreferNoSchedule")
    }

    /// Region and zone, by which nodes are tried in turn.
    pub(super) fn zone(&self) -> (&str, &str) {
        let label = |key| self.labels.get(key).map_or("", String::as_str);
        (label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
    }
}

/// A node and what its pods take.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub id: NodeId,
    /// Another one after each change of anything here; none comes twice in a snapshot.
    pub version: u64,
    /// Those of a node without a name and with nothing, while only pods of the node are known.
    pub facts: Arc<NodeFacts>,
    pub(super) exists: bool,
    pub pods: Vec<Arc<PodInfo>>,
    pub requested: Resources,
    /// Milli-CPU and bytes, counting what asks for nothing as something.
    pub weight: (i64, i64),
    pub host_ports: Vec<HostPort>,
    /// Pods that room is made for here.
    pub nominated: Vec<Arc<PodInfo>>,
}

impl NodeInfo {
    pub(super) fn new(id: NodeId) -> Self {
        Self {
            id,
            version: 0,
            facts: Arc::default(),
            exists: false,
            pods: Vec::new(),
            requested: Resources::default(),
            weight: (0, 0),
            host_ports: Vec::new(),
            nominated: Vec::new(),
        }
    }

    /// Counts a pod.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.weight.0 += pod.weight.0;
        self.weight.1 += pod.weight.1;
        self.host_ports.extend(pod.host_ports.iter().cloned());
        self.pods.push(pod);
    }

    /// Counts a pod no longer.
    pub fn remove(&mut self, pod: &ObjectRef) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|p| p.reference == *pod)?;
        let gone = self.pods.swap_remove(at);
        self.requested.subtract(&gone.requests);
        self.weight.0 -= gone.weight.0;
        self.weight.1 -= gone.weight.1;
        for port in &gone.host_ports {
            if let Some(at) = self.host_ports.iter().position(|p| p == port) {
                self.host_ports.swap_remove(at);
            }
        }
        Some(gone)
    }

    pub fn name(&self) -> &str {
        &self.facts.name
    }
}
