//! A pod as plans see it: by upstream's names, but only what they read. A whole one takes five times the memory, and
//! there may be a hundred thousand.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{
        self, NodeSelectorRequirement, PodExtendedResourceClaimStatus, PodIP, PodResourceClaim,
        PodResourceClaimStatus, Toleration,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use tiphys_client::{lean, storage::ephemeral_claim};

use crate::{
    amount::milli,
    job::{FAILURES, IGNORED_FAILURES, INDEX},
    pods::DELETION_COST,
};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Pod {
    #[serde(default, deserialize_with = "lean::metadata::<Annotations, _>")]
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: Option<PodSpec>,
    pub(crate) status: Option<PodStatus>,
}

/// Those that plans read.
struct Annotations;

impl lean::Reads for Annotations {
    const ANNOTATIONS: &'static [&'static str] = &[DELETION_COST, FAILURES, IGNORED_FAILURES, INDEX];
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodSpec {
    pub(crate) node_name: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) subdomain: Option<String>,
    pub(crate) containers: Vec<Container>,
    pub(crate) init_containers: Option<Vec<Container>>,
    #[serde(deserialize_with = "lean::tolerations")]
    pub(crate) tolerations: Arc<[Toleration]>,
    /// What the pod asks for besides its containers.
    #[serde(rename = "resources", deserialize_with = "only_requests")]
    pub(crate) requests: Option<Arc<Requests>>,
    /// The one node that the pod's affinity leaves it, by name.
    #[serde(rename = "affinity", deserialize_with = "only_node")]
    pub(crate) meant_for: Option<Box<str>>,
    /// The claims of the pod's volumes.
    #[serde(rename = "volumes", deserialize_with = "only_claims")]
    pub(crate) claims: Box<[ClaimUse]>,
    /// The devices that it asks for by claims.
    pub(crate) resource_claims: Box<[PodResourceClaim]>,
}

/// A claim that a pod mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimUse {
    /// By its name.
    Named(Box<str>),
    /// One of the pod's own, by the name of the volume.
    Ephemeral(Box<str>),
}

impl ClaimUse {
    /// The claim's name.
    pub(crate) fn name(&self, pod: &Pod) -> Cow<'_, str> {
        match self {
            Self::Named(name) => Cow::Borrowed(name),
            Self::Ephemeral(volume) => {
                let pod = pod.metadata.name.as_deref().unwrap_or_default();
                Cow::Owned(ephemeral_claim(pod, volume))
            }
        }
    }
}

impl Pod {
    /// The claims of the pod's volumes, as `namespace/name`.
    pub(crate) fn claim_keys(&self) -> Vec<String> {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let claims = self.spec.iter().flat_map(|spec| spec.claims.iter());
        claims.map(|claim| format!("{namespace}/{}", claim.name(self))).collect()
    }
}

/// Of volumes only what they claim.
fn only_claims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<[ClaimUse]>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Volume {
        #[serde(default)]
        name: Box<str>,
        persistent_volume_claim: Option<Named>,
        ephemeral: Option<IgnoredAny>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        claim_name: Box<str>,
    }
    let volumes = Option::<Vec<Volume>>::deserialize(deserializer)?.unwrap_or_default();
    let claim = |volume: Volume| match (volume.persistent_volume_claim, volume.ephemeral) {
        (Some(claim), _) => Some(ClaimUse::Named(claim.claim_name)),
        (None, Some(_)) => Some(ClaimUse::Ephemeral(volume.name)),
        (None, None) => None,
    };
    Ok(volumes.into_iter().filter_map(claim).collect())
}

/// Of an affinity only the name of the node that it requires.
fn only_node<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<str>>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Affinity {
        node_affinity: Option<NodeAffinity>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct NodeAffinity {
        required_during_scheduling_ignored_during_execution: Option<Selector>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Selector {
        node_selector_terms: Vec<Term>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Term {
        match_fields: Option<Vec<NodeSelectorRequirement>>,
    }
    let affinity = Option::<Affinity>::deserialize(deserializer)?;
    let required = affinity
        .and_then(|a| a.node_affinity)
        .and_then(|n| n.required_during_scheduling_ignored_during_execution);
    let fields = required.into_iter().flat_map(|s| s.node_selector_terms).filter_map(|t| t.match_fields);
    let name = fields.flatten().find(|f| f.key == "metadata.name" && f.operator == "In");
    let one = name.and_then(|f| f.values).and_then(|v| <[String; 1]>::try_from(v).ok());
    Ok(one.map(|[name]| name.into()))
}

impl PodSpec {
    /// The ports of all containers that run beside each other.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &ContainerPort> {
        self.running().flat_map(|c| c.ports.iter().flatten())
    }

    /// The containers that run beside each other: sidecars are among them, and come last.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Container> {
        let sidecars = self.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        self.containers.iter().chain(sidecars)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "ReadContainer")]
pub(crate) struct Container {
    ports: Option<Vec<ContainerPort>>,
    restart_policy: Option<String>,
    /// Held once for all pods of a template.
    pub(crate) asks: Arc<Asks>,
}

/// A container's name, and what it asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Asks {
    pub(crate) name: Box<str>,
    pub(crate) requests: Requests,
}

/// Amounts by the names of resources, in thousandths. What is no amount is none.
pub(crate) type Requests = BTreeMap<Box<str>, i64>;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ReadContainer {
    name: Box<str>,
    ports: Option<Vec<ContainerPort>>,
    restart_policy: Option<String>,
    resources: Option<ReadResources>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReadResources {
    requests: Option<BTreeMap<Box<str>, Quantity>>,
}

impl From<ReadResources> for Requests {
    fn from(read: ReadResources) -> Self {
        let amounts = read.requests.unwrap_or_default().into_iter();
        amounts.filter_map(|(name, amount)| Some((name, milli(&amount)?))).collect()
    }
}

impl From<ReadContainer> for Container {
    fn from(read: ReadContainer) -> Self {
        static KNOWN: lean::Alike<Asks> = lean::Alike::new();
        let requests = read.resources.map(Requests::from).unwrap_or_default();
        let asks = KNOWN.hold(Asks { name: read.name, requests });
        Self { ports: read.ports, restart_policy: read.restart_policy, asks }
    }
}

/// What the pod as a whole asks for, if it does.
fn only_requests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<Requests>>, D::Error> {
    static KNOWN: lean::Alike<Requests> = lean::Alike::new();
    let requests = Option::<ReadResources>::deserialize(deserializer)?.map(Requests::from);
    Ok(requests.filter(|requests| !requests.is_empty()).map(|requests| KNOWN.hold(requests)))
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ContainerPort {
    pub(crate) name: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) container_port: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodStatus {
    pub(crate) phase: Option<String>,
    pub(crate) start_time: Option<Time>,
    /// Of a pod that has failed, why.
    pub(crate) message: Option<Box<str>>,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Option<Vec<PodIP>>,
    pub(crate) conditions: Option<Vec<PodCondition>>,
    pub(crate) container_statuses: Option<Vec<ContainerStatus>>,
    pub(crate) init_container_statuses: Option<Vec<ContainerStatus>>,
    /// The claims that were made for it.
    pub(crate) resource_claim_statuses: Box<[PodResourceClaimStatus]>,
    pub(crate) extended_resource_claim_status: Option<Box<PodExtendedResourceClaimStatus>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodCondition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
    /// Of a pod that somebody means to end, who.
    pub(crate) reason: Option<Box<str>>,
    pub(crate) last_transition_time: Option<Time>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    pub(crate) restart_count: i32,
    pub(crate) state: Option<ContainerState>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState {
    pub(crate) terminated: Option<ContainerStateTerminated>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ContainerStateTerminated {
    pub(crate) exit_code: i32,
    pub(crate) finished_at: Option<Time>,
}

tiphys_client::resource_of!(v1::Pod, Pod);
