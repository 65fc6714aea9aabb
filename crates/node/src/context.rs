//! What every pod worker of a node shares.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tiphys_client::{Reader, Recorder};
use tokio::sync::watch;

use crate::bundles::Bundles;
use crate::cgroups::Cgroups;
use crate::config::Config;
use crate::content::ContentStore;
use crate::features::Features;
use crate::images::Images;
use crate::key::PodKey;
use crate::machine::Machine;
use crate::names::Resolver;
use crate::services::ServiceFacts;
use crate::userns::Ranges;
use crate::volumes::PodDir;

/// Shared by all workers; nothing in it changes but through its own locks.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) machine: Machine,
    pub(crate) allocatable: BTreeMap<String, Quantity>,
    pub(crate) kube: kube::Client,
    pub(crate) cri: tiphys_cri::Client,
    /// The runtime's name, the scheme of container ids.
    pub(crate) runtime: String,
    /// What runtime and kernel can do.
    pub(crate) features: Features,
    pub(crate) events: Recorder,
    pub(crate) contents: ContentStore,
    /// Trust anchors that volumes show.
    pub(crate) bundles: Bundles,
    /// Ranges of user ids of pods that have their own.
    pub(crate) ranges: Ranges,
    pub(crate) images: Images,
    pub(crate) services: Reader<ServiceFacts>,
    pub(crate) cgroups: Cgroups,
    /// The host's own resolver.
    pub(crate) resolver: Resolver,
    /// This node as the API has it.
    pub(crate) node: watch::Receiver<Option<Arc<Node>>>,
}

impl Context {
    pub(crate) fn pod_dir(&self, key: &PodKey) -> PodDir {
        PodDir::new(&self.config.data_dir, &key.uid)
    }

    /// The services that a pod of `namespace` is told about.
    pub(crate) fn services_for(&self, namespace: &str) -> Vec<ServiceFacts> {
        let own = self.services.list_in(namespace);
        let api = self.services.get(&tiphys_client::ObjectKey::new("default", "kubernetes"));
        let api = api.filter(|_| namespace != "default");
        own.iter().chain(&api).map(|s| ServiceFacts::clone(s)).collect()
    }
}

/// What events about a pod are about.
pub(crate) fn about_pod(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// What events about one container of a pod are about.
pub(crate) fn about_container(pod: &Pod, name: &str) -> ObjectReference {
    use crate::pod::{self, Role};
    let list = match pod::find_container(pod, name).map(|c| c.role) {
        Some(Role::Init | Role::Sidecar) => "initContainers",
        Some(Role::Ephemeral) => "ephemeralContainers",
        Some(Role::Main) | None => "containers",
    };
    ObjectReference { field_path: Some(format!("spec.{list}{{{name}}}")), ..about_pod(pod) }
}
