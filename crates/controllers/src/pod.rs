//! A pod as plans see it: by upstream's names, but only what they read. A whole one takes five times the memory, and
//! there may be a hundred thousand.

use std::{borrow::Cow, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{self, PodIP, Toleration},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::Resource;
use serde::Deserialize;
use tiphys_client::lean;

use crate::{
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
}

impl PodSpec {
    /// The ports of all containers that run beside each other: sidecars are among them.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &ContainerPort> {
        let sidecars = self.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        self.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Container {
    ports: Option<Vec<ContainerPort>>,
    restart_policy: Option<String>,
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
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Option<Vec<PodIP>>,
    pub(crate) conditions: Option<Vec<PodCondition>>,
    pub(crate) container_statuses: Option<Vec<ContainerStatus>>,
    pub(crate) init_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodCondition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
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
