//! One informer a kind, shared by all controllers.

use k8s_openapi::api::{
    admissionregistration::v1::ValidatingAdmissionPolicy,
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::{CronJob, Job},
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::{
        ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim,
        ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
    },
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
    rbac::v1::ClusterRole,
    resource::v1::{Device, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice},
    storage::v1::{CSIDriver, StorageClass, VolumeAttachment, VolumeAttributesClass},
    storagemigration::v1::StorageVersionMigration,
};
use kube::{Api, Client, runtime::watcher};
use serde::de::DeserializeOwned;
use tiphys_client::{Informer, key::controller_of};
use tokio::task::JoinSet;

use crate::{
    attach_detach, device_eviction,
    endpoints::{legacy, mirror},
    object::Object,
    pod::Pod,
    resource_claims, token_secrets, volumes,
};

/// Objects by the UID of the owner that manages them.
pub(crate) const BY_CONTROLLER: &str = "controller";
/// Pods and volumes by the claim that they name, as `namespace/name`.
pub(crate) const BY_CLAIM: &str = "claim";
/// Pods by the claims to devices that they name or were made for them, as `namespace/name`.
pub(crate) const BY_RESOURCE_CLAIM: &str = "resource claim";
/// Pods by the templates of such claims, as `namespace/name`.
pub(crate) const BY_RESOURCE_TEMPLATE: &str = "resource claim template";
/// Slices of devices, and claims to devices that have some, by pool: `driver/pool`.
pub(crate) const BY_POOL: &str = "pool";
/// Claims and volumes by the VolumeAttributesClasses that they name.
pub(crate) const BY_ATTRIBUTES: &str = "attributes class";
/// Claims that are not bound; all in the group of no name.
pub(crate) const UNBOUND: &str = "unbound";
/// Attachments of volumes by the PersistentVolume that they attach.
pub(crate) const BY_VOLUME: &str = "volume";
/// Pods, and attachments of volumes, by the name of their node.
pub(crate) const BY_NODE: &str = "node";
/// Secrets with tokens by the account that they are for, as `namespace/name`.
pub(crate) const BY_ACCOUNT: &str = "account";
/// Accounts by the Secrets that they name, as `namespace/name`.
pub(crate) const BY_SECRET: &str = "secret";
/// The namespace of the leases of nodes.
pub(crate) const LEASES: &str = "kube-node-lease";
/// Objects that nobody manages, by namespace.
pub(crate) const ORPHANS: &str = "orphans";

/// An informer that keeps the object itself, less what no plan reads.
pub(crate) type Kept<K> = Informer<K, K>;

pub(crate) struct Informers {
    pub(crate) pods: Kept<Pod>,
    pub(crate) replica_sets: Kept<ReplicaSet>,
    pub(crate) replication_controllers: Kept<ReplicationController>,
    pub(crate) deployments: Kept<Deployment>,
    pub(crate) stateful_sets: Kept<StatefulSet>,
    pub(crate) daemon_sets: Kept<DaemonSet>,
    pub(crate) revisions: Kept<ControllerRevision>,
    pub(crate) volume_claims: Kept<PersistentVolumeClaim>,
    pub(crate) volumes: Kept<PersistentVolume>,
    pub(crate) storage_classes: Kept<StorageClass>,
    pub(crate) csi_drivers: Kept<CSIDriver>,
    pub(crate) attributes_classes: Kept<VolumeAttributesClass>,
    pub(crate) attachments: Kept<VolumeAttachment>,
    pub(crate) disruption_budgets: Kept<PodDisruptionBudget>,
    pub(crate) services: Kept<Service>,
    pub(crate) endpoint_slices: Kept<EndpointSlice>,
    /// Endpoints that no controller here has made.
    pub(crate) custom_endpoints: Kept<Endpoints>,
    pub(crate) jobs: Kept<Job>,
    pub(crate) cron_jobs: Kept<CronJob>,
    pub(crate) autoscalers: Kept<HorizontalPodAutoscaler>,
    pub(crate) nodes: Kept<Node>,
    /// The leases by which nodes tell that they are alive.
    pub(crate) node_leases: Kept<Lease>,
    pub(crate) namespaces: Kept<Namespace>,
    pub(crate) service_accounts: Kept<ServiceAccount>,
    pub(crate) resource_quotas: Kept<ResourceQuota>,
    /// Secrets that hold the token of an account.
    pub(crate) token_secrets: Kept<Secret>,
    /// Bootstrap tokens.
    pub(crate) bootstrap_tokens: Kept<Secret>,
    /// What whoever wants to join the cluster reads first: one ConfigMap.
    pub(crate) cluster_info: Kept<ConfigMap>,
    pub(crate) cluster_roles: Kept<ClusterRole>,
    pub(crate) signing_requests: Kept<CertificateSigningRequest>,
    pub(crate) validating_policies: Kept<ValidatingAdmissionPolicy>,
    pub(crate) migrations: Kept<StorageVersionMigration>,
    pub(crate) resource_claims: Kept<ResourceClaim>,
    pub(crate) resource_templates: Kept<ResourceClaimTemplate>,
    pub(crate) resource_slices: Kept<ResourceSlice>,
    pub(crate) device_taint_rules: Kept<DeviceTaintRule>,
    /// The ConfigMaps that hold the root certificates, one in each namespace.
    pub(crate) root_cas: Kept<ConfigMap>,
}

impl Informers {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            pods: owned(client, |pod| pod)
                .index(BY_NODE, |pod: &Pod| {
                    pod.spec.as_ref().and_then(|s| s.node_name.clone()).into_iter().collect()
                })
                .index(BY_CLAIM, Pod::claim_keys)
                .index(BY_RESOURCE_CLAIM, resource_claims::by_claim)
                .index(BY_RESOURCE_TEMPLATE, resource_claims::by_template),
            replica_sets: owned(client, slim),
            replication_controllers: owned(client, slim),
            deployments: owned(client, slim),
            stateful_sets: all(client, slim),
            daemon_sets: all(client, slim),
            revisions: owned(client, slim),
            volume_claims: all(client, slim)
                .index(UNBOUND, volumes::unbound)
                .index(BY_ATTRIBUTES, volumes::attributes_of_claim),
            volumes: all(client, slim)
                .index(BY_CLAIM, volumes::by_claim_named)
                .index(BY_ATTRIBUTES, volumes::attributes_of_volume),
            storage_classes: all(client, slim),
            csi_drivers: all(client, slim),
            attributes_classes: all(client, slim),
            attachments: all(client, slim)
                .index(BY_NODE, attach_detach::by_node)
                .index(BY_VOLUME, attach_detach::by_volume),
            disruption_budgets: all(client, slim),
            services: all(client, slim),
            endpoint_slices: all(client, slim),
            custom_endpoints: Informer::new(
                Api::all(client.clone()),
                watcher::Config::default().labels(&format!(
                    "{}!={},{}!=true",
                    legacy::MANAGED_BY,
                    legacy::MANAGER,
                    mirror::SKIP
                )),
                slim,
            ),
            jobs: owned(client, slim),
            cron_jobs: all(client, slim),
            autoscalers: all(client, slim),
            nodes: all(client, slim),
            node_leases: Informer::new(
                Api::namespaced(client.clone(), LEASES),
                watcher::Config::default(),
                slim,
            ),
            namespaces: all(client, slim),
            service_accounts: all(client, slim).index(BY_SECRET, token_secrets::by_secret),
            resource_quotas: all(client, slim),
            token_secrets: Informer::new(
                Api::all(client.clone()),
                watcher::Config::default().fields("type=kubernetes.io/service-account-token"),
                slim,
            )
            .index(BY_ACCOUNT, token_secrets::by_account),
            bootstrap_tokens: Informer::new(
                Api::namespaced(client.clone(), "kube-system"),
                watcher::Config::default().fields("type=bootstrap.kubernetes.io/token"),
                slim,
            ),
            cluster_info: Informer::new(
                Api::namespaced(client.clone(), "kube-public"),
                watcher::Config::default().fields("metadata.name=cluster-info"),
                slim,
            ),
            cluster_roles: all(client, slim),
            signing_requests: all(client, slim),
            validating_policies: all(client, slim),
            migrations: all(client, slim),
            resource_claims: owned(client, slim).index(BY_POOL, device_eviction::pools_of_claim),
            resource_templates: all(client, slim),
            resource_slices: all(client, slim_slice).index(BY_POOL, device_eviction::pool_of_slice),
            device_taint_rules: all(client, slim),
            root_cas: Informer::new(
                Api::all(client.clone()),
                watcher::Config::default().fields("metadata.name=kube-root-ca.crt"),
                slim,
            ),
        }
    }

    /// Starts all of them. What controllers want to hear of must have been asked for before.
    pub(crate) fn start(self, tasks: &mut JoinSet<()>) {
        tasks.spawn(self.pods.run());
        tasks.spawn(self.replica_sets.run());
        tasks.spawn(self.replication_controllers.run());
        tasks.spawn(self.deployments.run());
        tasks.spawn(self.stateful_sets.run());
        tasks.spawn(self.daemon_sets.run());
        tasks.spawn(self.revisions.run());
        tasks.spawn(self.volume_claims.run());
        tasks.spawn(self.volumes.run());
        tasks.spawn(self.storage_classes.run());
        tasks.spawn(self.csi_drivers.run());
        tasks.spawn(self.attributes_classes.run());
        tasks.spawn(self.attachments.run());
        tasks.spawn(self.disruption_budgets.run());
        tasks.spawn(self.services.run());
        tasks.spawn(self.endpoint_slices.run());
        tasks.spawn(self.custom_endpoints.run());
        tasks.spawn(self.jobs.run());
        tasks.spawn(self.cron_jobs.run());
        tasks.spawn(self.autoscalers.run());
        tasks.spawn(self.nodes.run());
        tasks.spawn(self.node_leases.run());
        tasks.spawn(self.namespaces.run());
        tasks.spawn(self.service_accounts.run());
        tasks.spawn(self.resource_quotas.run());
        tasks.spawn(self.token_secrets.run());
        tasks.spawn(self.bootstrap_tokens.run());
        tasks.spawn(self.cluster_info.run());
        tasks.spawn(self.cluster_roles.run());
        tasks.spawn(self.signing_requests.run());
        tasks.spawn(self.validating_policies.run());
        tasks.spawn(self.migrations.run());
        tasks.spawn(self.resource_claims.run());
        tasks.spawn(self.resource_templates.run());
        tasks.spawn(self.resource_slices.run());
        tasks.spawn(self.device_taint_rules.run());
        tasks.spawn(self.root_cas.run());
    }
}

fn all<K>(client: &Client, project: fn(K) -> K) -> Kept<K>
where
    K: Object + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    Informer::new(Api::all(client.clone()), watcher::Config::default(), project)
}

/// An informer whose objects are found by their manager.
fn owned<K>(client: &Client, project: fn(K) -> K) -> Kept<K>
where
    K: Object + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    all(client, project)
        .index(BY_CONTROLLER, |object: &K| {
            controller_of(object.meta()).map(|owner| owner.uid.clone()).into_iter().collect()
        })
        .index(ORPHANS, |object: &K| match controller_of(object.meta()) {
            None => object.meta().namespace.clone().into_iter().collect(),
            Some(_) => Vec::new(),
        })
}

/// Of devices, nothing but their names and taints.
fn slim_slice(slice: ResourceSlice) -> ResourceSlice {
    let mut slice = slim(slice);
    slice.spec.shared_counters = None;
    for device in slice.spec.devices.iter_mut().flatten() {
        let (name, taints) = (std::mem::take(&mut device.name), device.taints.take());
        *device = Device { name, taints, ..Device::default() };
    }
    slice
}

fn slim<K: Object>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}
