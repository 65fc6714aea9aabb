//! A pod as the scheduler reads and keeps it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        self, NodeSelector, PodResourceClaim, PodResourceClaimStatus, PodSpec, PreferredSchedulingTerm,
        Toleration,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde::Deserialize;
use tiphys_client::{ObjectKey, ObjectRef, lean, placement::HostPort};

use crate::{
    devices::{
        ClaimUse,
        extended::{self, Asking},
    },
    resources::Resources,
    selector::Labels,
    terms::Terms,
    volumes::{self, VolumeUse},
};

/// What the scheduler reads of a pod: by upstream's names, and nothing that it has no use for.
#[derive(Clone, Debug, Deserialize)]
pub struct Pod {
    #[serde(default, deserialize_with = "lean::metadata::<lean::NoAnnotations, _>")]
    metadata: ObjectMeta,
    spec: Option<PodSpec>,
    status: Option<PodStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    phase: Option<String>,
    start_time: Option<Time>,
    nominated_node_name: Option<String>,
    conditions: Option<Vec<PodCondition>>,
    resource_claim_statuses: Option<Vec<PodResourceClaimStatus>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    reason: String,
    message: Option<String>,
}

tiphys_client::resource_of!(v1::Pod, Pod);

/// What the scheduler keeps of a pod.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub reference: ObjectRef,
    pub labels: Labels,
    pub scheduler: Box<str>,
    /// Empty until bound.
    pub node: Box<str>,
    /// Where other pods make room for this one; empty for nowhere.
    pub nominated: Box<str>,
    pub priority: i32,
    /// `preemptionPolicy: Never`.
    pub is_peaceful: bool,
    pub created: Option<Timestamp>,
    pub started: Option<Timestamp>,
    pub requests: Resources,
    /// Milli-CPU and bytes, for scoring.
    pub weight: (i64, i64),
    pub node_selector: Vec<(Box<str>, Box<str>)>,
    pub required_affinity: Option<Box<NodeSelector>>,
    pub preferred_affinity: Vec<PreferredSchedulingTerm>,
    /// What the pod asks of other pods.
    pub terms: Option<Box<Terms>>,
    pub tolerations: Arc<[Toleration]>,
    pub host_ports: Vec<HostPort>,
    pub gates: Vec<Box<str>>,
    /// The PodGroup that it belongs to (KEP-4671).
    pub group: Option<ObjectKey>,
    /// By their full names.
    pub images: Vec<Box<str>>,
    pub volumes: Vec<VolumeUse>,
    /// Its claims to devices.
    pub devices: Vec<ClaimUse>,
    /// Which containers ask for extended resources.
    pub asking: Box<[Asking]>,
    /// Kind and name of what manages the pod.
    pub owner: Option<(Box<str>, Box<str>)>,
    pub going: bool,
    /// Being deleted to make room for another.
    pub is_victim: bool,
    /// Succeeded or failed: it takes up nothing any more.
    pub finished: bool,
    /// What the pod's `PodScheduled` condition says, so that it is not said twice.
    pub told: Option<Box<str>>,
    pub resource_version: Box<str>,
}

/// An image's name with a tag, as nodes list it.
fn full_name(image: &str) -> Box<str> {
    let tagged = image.rfind(':').is_some_and(|colon| image.rfind('/').is_none_or(|slash| slash < colon));
    if tagged { image.into() } else { format!("{image}:latest").into() }
}

/// What a pod says of its claims to devices; those that it was found to do without are none.
fn device_claims(
    claims: Option<&[PodResourceClaim]>,
    statuses: Option<&[PodResourceClaimStatus]>,
) -> Vec<ClaimUse> {
    let made = |claim: &PodResourceClaim| {
        let status = statuses.into_iter().flatten().find(|status| status.name == claim.name);
        match status {
            None => Some(ClaimUse::NotYet(claim.name.as_str().into())),
            Some(status) => status.resource_claim_name.as_deref().map(|name| ClaimUse::Made(name.into())),
        }
    };
    let used = claims.into_iter().flatten().filter_map(|claim| match claim.resource_claim_name.as_deref() {
        Some(name) => Some(ClaimUse::Named(name.into())),
        None => made(claim),
    });
    used.collect()
}

impl PodInfo {
    pub fn new(pod: Pod) -> Self {
        let spec = pod.spec.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let metadata = pod.metadata;
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.clone()).unwrap_or_default();
        let host_ports = HostPort::of(&spec).collect();
        let conditions = || status.conditions.iter().flatten();
        let told = conditions().find(|c| c.type_ == "PodScheduled" && c.status == "False");
        let is_victim =
            conditions().any(|c| c.type_ == "DisruptionTarget" && c.reason == "PreemptionByScheduler");
        let reference = ObjectRef::of(&metadata);
        let labels = metadata.labels.clone().unwrap_or_default();
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let owner = tiphys_client::key::controller_of(&metadata);
        let pairs = spec.node_selector.iter().flatten();
        Self {
            scheduler: spec.scheduler_name.as_deref().unwrap_or("default-scheduler").into(),
            node: spec.node_name.as_deref().unwrap_or_default().into(),
            nominated: status.nominated_node_name.as_deref().unwrap_or_default().into(),
            priority: spec.priority.unwrap_or(0),
            is_peaceful: spec.preemption_policy.as_deref() == Some("Never"),
            created: metadata.creation_timestamp.as_ref().map(|t| t.0),
            started: status.start_time.as_ref().map(|t| t.0),
            requests: Resources::of_pod(&spec),
            weight: Resources::scored(&spec),
            node_selector: pairs.map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect(),
            required_affinity: affinity.required_during_scheduling_ignored_during_execution.map(Box::new),
            preferred_affinity: affinity
                .preferred_during_scheduling_ignored_during_execution
                .unwrap_or_default(),
            terms: Terms::of(&reference.key.namespace, &labels, &spec),
            images: containers.filter_map(|c| c.image.as_deref()).map(full_name).collect(),
            volumes: volumes::used(&reference.key.name, &spec),
            devices: device_claims(
                spec.resource_claims.as_deref(),
                status.resource_claim_statuses.as_deref(),
            ),
            asking: extended::asking(&spec),
            owner: owner.map(|o| (o.kind.as_str().into(), o.name.as_str().into())),
            tolerations: lean::alike(spec.tolerations.unwrap_or_default()),
            host_ports,
            gates: spec.scheduling_gates.iter().flatten().map(|g| g.name.as_str().into()).collect(),
            group: spec
                .scheduling_group
                .and_then(|g| g.pod_group_name)
                .map(|name| ObjectKey { namespace: reference.key.namespace.clone(), name: name.into() }),
            going: metadata.deletion_timestamp.is_some(),
            is_victim,
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            told: told.and_then(|c| c.message.as_deref()).map(Into::into),
            resource_version: metadata.resource_version.as_deref().unwrap_or_default().into(),
            reference,
            labels,
        }
    }

    /// Whether both ask the same of a node and of other pods.
    pub fn asks_like(&self, other: &Self) -> bool {
        self.requests == other.requests
            && self.labels == other.labels
            && self.node_selector == other.node_selector
            && self.required_affinity == other.required_affinity
            && self.terms == other.terms
            && self.tolerations == other.tolerations
            && self.host_ports == other.host_ports
            && self.gates == other.gates
            && self.devices == other.devices
            && self.priority == other.priority
    }

    /// Whether other pods see no difference between the two where they lie.
    pub fn counts_like(&self, other: &Self) -> bool {
        self.going == other.going
            && self.labels == other.labels
            && self.terms == other.terms
            && self.requests == other.requests
            && self.weight == other.weight
    }

    pub fn key(&self) -> &ObjectKey {
        &self.reference.key
    }

    /// Whether the pod takes up room on its node.
    pub fn is_placed(&self) -> bool {
        !self.node.is_empty() && !self.finished
    }

    /// Whether a node should be found for it.
    pub fn waits(&self) -> bool {
        self.node.is_empty() && !self.finished && !self.going
    }
}

pub(crate) type SharedPod = Arc<PodInfo>;
