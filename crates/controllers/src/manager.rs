//! All controllers of a cluster, together.

use std::sync::Arc;

use kube::Client;
use tiphys_client::events::Recorder;
use tiphys_pki::Authority;
use tokio::task::JoinSet;

use crate::{
    attach_detach::AttachDetach,
    autoscaler::Autoscalers,
    bootstrap::{BootstrapSigner, TokenCleaner},
    certificates::Certificates,
    controller::{Controller, Tools},
    cron_job::CronJobs,
    daemon_set::DaemonSets,
    deployment::Deployments,
    disruption::Disruption,
    endpoints::{EndpointSliceMirroring, EndpointSlices, LegacyEndpoints},
    garbage,
    informers::Informers,
    job::{Jobs, OrphanedPods, TtlAfterFinished},
    load_balancer::{self, LoadBalancers},
    namespace::Namespaces,
    node_ipam::{self, NodeIpam},
    node_lifecycle::{self, NodeLifecycle, TaintEviction},
    pod_gc::PodGc,
    policy_status::PolicyStatus,
    replica_set::{ReplicaSets, ReplicationControllers},
    resource_claims::{ResourceClaims, UnusedResourceClaims},
    resource_quota::ResourceQuotas,
    role_aggregation::RoleAggregation,
    service_account::{RootCa, ServiceAccounts},
    stateful_set::StatefulSets,
    storage_version::StorageVersionMigrations,
    volumes::{AttributesProtection, Binder, ClaimProtection, EphemeralVolumes, Expansion, VolumeProtection},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A controller ended, which none does by itself.
    #[error("a controller stopped: {0}")]
    Stopped(String),
}

/// Runs every controller. Reads are shared; each controller writes with a client of its own.
pub struct ControllerManager {
    tasks: JoinSet<()>,
}

/// What controllers are told of their cluster.
#[derive(Clone)]
pub struct Config {
    /// The certificates, in PEM, by which pods know the API server.
    pub root_ca: String,
    /// Signs the certificates that are asked for in the cluster.
    pub authority: Arc<Authority>,
    /// When nodes are given up, and how fast.
    pub node_lifecycle: node_lifecycle::Settings,
    /// Where nodes' ranges of addresses for pods come from; `None` leaves them to somebody else.
    pub node_ipam: Option<node_ipam::Settings>,
    /// What services of type LoadBalancer get; `None` leaves them to somebody else.
    pub load_balancer: Option<load_balancer::Settings>,
}

impl ControllerManager {
    /// `reads` is the identity of the shared informers. `client_for` is asked once for each controller, by
    /// the name of its service account in `kube-system`.
    pub fn start(config: Config, reads: &Client, client_for: impl Fn(&'static str) -> Client) -> Self {
        let mut start = Start { tasks: JoinSet::new(), informers: Informers::new(reads), client_for };
        start.controller(ReplicaSets::new);
        start.controller(ReplicationControllers::new);
        start.controller(Deployments::new);
        start.controller(StatefulSets::new);
        start.controller(DaemonSets::new);
        start.controller(Disruption::new);
        start.controller(Autoscalers::new);
        start.controller(EndpointSlices::new);
        start.controller(LegacyEndpoints::new);
        start.controller(EndpointSliceMirroring::new);
        start.controller(Jobs::new);
        start.controller(CronJobs::new);
        start.controller(OrphanedPods::new);
        start.controller(TtlAfterFinished::new);
        start.controller(ServiceAccounts::new);
        start.controller(|tools, informers| RootCa::new(tools, informers, config.root_ca));
        start.controller(|tools, informers| NodeLifecycle::new(tools, informers, config.node_lifecycle));
        start.controller(TaintEviction::new);
        if let Some(settings) = config.node_ipam {
            start.controller(|tools, informers| NodeIpam::new(tools, informers, settings));
        }
        if let Some(settings) = config.load_balancer {
            start.controller(|tools, informers| LoadBalancers::new(tools, informers, settings));
        }
        start.controller(PodGc::new);
        start.controller(Namespaces::new);
        start.controller(ResourceQuotas::new);
        start.controller(RoleAggregation::new);
        start.controller(TokenCleaner::new);
        start.controller(BootstrapSigner::new);
        start.controller(|tools, informers| Certificates::new(tools, informers, config.authority));
        start.controller(PolicyStatus::new);
        start.controller(Binder::new);
        start.controller(ClaimProtection::new);
        start.controller(VolumeProtection::new);
        start.controller(EphemeralVolumes::new);
        start.controller(Expansion::new);
        start.controller(AttributesProtection::new);
        start.controller(AttachDetach::new);
        start.controller(StorageVersionMigrations::new);
        start.controller(ResourceClaims::new);
        start.controller(UnusedResourceClaims::new);
        start.task(garbage::NAME, garbage::NAME, |tools, _| garbage::run(tools));
        let Start { mut tasks, informers, .. } = start;
        informers.start(&mut tasks);
        Self { tasks }
    }

    /// Waits for as long as all controllers run, which is until this is dropped unless one panics.
    pub async fn wait(mut self) -> Result<(), Error> {
        match self.tasks.join_next().await {
            Some(Err(error)) => Err(Error::Stopped(error.to_string())),
            Some(Ok(())) | None => Err(Error::Stopped("its work came to an end".to_owned())),
        }
    }
}

struct Start<F> {
    tasks: JoinSet<()>,
    informers: Informers,
    client_for: F,
}

impl<F: Fn(&'static str) -> Client> Start<F> {
    fn controller<C: Controller>(&mut self, new: impl FnOnce(Tools, &mut Informers) -> C) {
        self.task(C::NAME, C::ACCOUNT, |tools, informers| new(tools, informers).run());
    }

    /// Runs what tells its events as `name` and writes as the service account `account`.
    fn task<Run>(
        &mut self,
        name: &'static str,
        account: &'static str,
        new: impl FnOnce(Tools, &mut Informers) -> Run,
    ) where
        Run: Future<Output = ()> + Send + 'static,
    {
        let client = (self.client_for)(account);
        let (events, sink) = Recorder::new(client.clone(), name, "");
        let run = new(Tools { client, events }, &mut self.informers);
        // The sink ends early for a controller that tells of nothing.
        self.tasks.spawn(async move {
            tokio::join!(run, sink.run());
        });
    }
}
