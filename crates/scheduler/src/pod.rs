//! A pod as the scheduler reads and keeps it.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{self, NodeSelector, PodSpec, PreferredSchedulingTerm, Toleration},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde::Deserialize;
use tiphys_client::{ObjectKey, ObjectRef, lean, placement::HostPort};

use crate::resources::Resources;

/// What the scheduler reads of a pod: by upstream's names, and nothing that it has no use for.
#[derive(Clone, Debug, Deserialize)]
pub struct Pod {
    #[serde(default, deserialize_with = "lean::metadata::<lean::NoAnnotations, _>")]
    metadata: ObjectMeta,
    spec: Option<PodSpec>,
    status: Option<PodStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Option<String>,
    conditions: Option<Vec<PodCondition>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    message: Option<String>,
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        v1::Pod::kind(&())
    }
    fn group(_: &()) -> Cow<'_, str> {
        v1::Pod::group(&())
    }
    fn version(_: &()) -> Cow<'_, str> {
        v1::Pod::version(&())
    }
    fn plural(_: &()) -> Cow<'_, str> {
        v1::Pod::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What the scheduler keeps of a pod.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub reference: ObjectRef,
    pub scheduler: Box<str>,
    /// Empty until bound.
    pub node: Box<str>,
    pub priority: i32,
    pub created: Option<Timestamp>,
    pub requests: Resources,
    /// Milli-CPU and bytes, for scoring.
    pub weight: (i64, i64),
    pub node_selector: Vec<(Box<str>, Box<str>)>,
    pub required_affinity: Option<Box<NodeSelector>>,
    pub preferred_affinity: Vec<PreferredSchedulingTerm>,
    pub tolerations: Arc<[Toleration]>,
    pub host_ports: Vec<HostPort>,
    pub gates: Vec<Box<str>>,
    pub images: Vec<Box<str>>,
    pub going: bool,
    /// Succeeded or failed: it takes up nothing any more.
    pub finished: bool,
    /// What the pod's `PodScheduled` condition says, so that it is not said twice.
    pub told: Option<Box<str>>,
    pub resource_version: Box<str>,
}

impl PodInfo {
    pub fn new(pod: Pod) -> Self {
        let spec = pod.spec.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.clone()).unwrap_or_default();
        let host_ports = HostPort::of(&spec).collect();
        let told =
            status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
        Self {
            reference: ObjectRef::of(&pod.metadata),
            scheduler: spec.scheduler_name.as_deref().unwrap_or("default-scheduler").into(),
            node: spec.node_name.as_deref().unwrap_or_default().into(),
            priority: spec.priority.unwrap_or(0),
            created: pod.metadata.creation_timestamp.as_ref().map(|t| t.0),
            requests: Resources::of_pod(&spec),
            weight: Resources::scored(&spec),
            node_selector: spec
                .node_selector
                .iter()
                .flatten()
                .map(|(k, v)| (k.as_str().into(), v.as_str().into()))
                .collect(),
            required_affinity: affinity.required_during_scheduling_ignored_during_execution.map(Box::new),
            preferred_affinity: affinity
                .preferred_during_scheduling_ignored_during_execution
                .unwrap_or_default(),
            images: spec.containers.iter().filter_map(|c| c.image.as_deref()).map(Into::into).collect(),
            tolerations: lean::alike(spec.tolerations.unwrap_or_default()),
            host_ports,
            gates: spec.scheduling_gates.iter().flatten().map(|g| g.name.as_str().into()).collect(),
            going: pod.metadata.deletion_timestamp.is_some(),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            told: told.and_then(|c| c.message.as_deref()).map(Into::into),
            resource_version: pod.metadata.resource_version.as_deref().unwrap_or_default().into(),
        }
    }

    /// Whether both ask the same of a node.
    pub fn asks_like(&self, other: &Self) -> bool {
        self.requests == other.requests
            && self.node_selector == other.node_selector
            && self.required_affinity == other.required_affinity
            && self.tolerations == other.tolerations
            && self.host_ports == other.host_ports
            && self.gates == other.gates
            && self.priority == other.priority
    }

    pub fn key(&self) -> &ObjectKey {
        &self.reference.key
    }

    /// Whether the pod takes up room on its node.
    pub fn is_placed(&self) -> bool {
        !self.node.is_empty() && !self.finished
    }

    /// Whether a scheduler named `name` should find a node for it.
    pub fn wants(&self, name: &str) -> bool {
        self.node.is_empty() && !self.finished && !self.going && &*self.scheduler == name
    }
}

pub(crate) type SharedPod = Arc<PodInfo>;
