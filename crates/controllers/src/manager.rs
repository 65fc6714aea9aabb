//! All controllers of a cluster, together.

use std::{collections::BTreeSet, sync::Arc};

use kube::Client;
use tiphys_client::events::Recorder;
use tiphys_pki::Authority;
use tokio::task::JoinSet;
use tracing::warn;

use crate::{
    attach_detach::AttachDetach,
    autoscaler::Autoscalers,
    bootstrap::{BootstrapSigner, TokenCleaner},
    certificates::{self, Certificates, Duties},
    controller::{Controller, Tools},
    cron_job::CronJobs,
    daemon_set::DaemonSets,
    deployment::Deployments,
    device_eviction::DeviceTaintEviction,
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
    selection::{Selection, Unknown},
    service_account::{RootCa, ServiceAccounts},
    stateful_set::StatefulSets,
    storage_version::StorageVersionMigrations,
    token_secrets::TokenSecrets,
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
#[derive(Clone, Default)]
pub struct Config {
    /// The certificates, in PEM, by which pods know the API server. Without them nobody publishes any.
    pub root_ca: Option<String>,
    /// Signs the certificates that are asked for in the cluster. Without it they are approved and cleaned up, but another
    /// has to sign.
    pub authority: Option<Arc<Authority>>,
    /// When nodes are given up, and how fast.
    pub node_lifecycle: node_lifecycle::Settings,
    /// Where nodes' ranges of addresses for pods come from; `None` leaves them to somebody else.
    pub node_ipam: Option<node_ipam::Settings>,
    /// What services of type LoadBalancer get; `None` leaves them to somebody else.
    pub load_balancer: Option<load_balancer::Settings>,
    /// Which of them run.
    pub selection: Selection,
}

impl Config {
    /// The controllers of `--controllers`; see [`Selection`].
    ///
    /// # Errors
    /// There is none of such a name.
    pub fn select(names: Vec<String>) -> Result<Selection, Unknown> {
        let mut known = Names::default();
        roll(&mut known, Self::default());
        Selection::new(names, known.0.into_iter().collect())
    }
}

/// Goes through all controllers.
fn roll(start: &mut impl Roll, config: Config) {
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
    let root_ca = config.root_ca.clone();
    start.controller(|tools, informers| TokenSecrets::new(tools, informers, root_ca));
    match config.root_ca {
        Some(root_ca) => start.controller(|tools, informers| RootCa::new(tools, informers, root_ca)),
        None => start.absent(RootCa::SWITCH),
    }
    start.controller(|tools, informers| NodeLifecycle::new(tools, informers, config.node_lifecycle));
    start.controller(TaintEviction::new);
    match config.node_ipam {
        Some(settings) => start.controller(|tools, informers| NodeIpam::new(tools, informers, settings)),
        None => start.left(NodeIpam::SWITCH),
    }
    match config.load_balancer {
        Some(settings) => start.controller(|tools, informers| LoadBalancers::new(tools, informers, settings)),
        None => start.left(LoadBalancers::SWITCH),
    }
    start.controller(PodGc::new);
    start.controller(Namespaces::new);
    start.controller(ResourceQuotas::new);
    start.controller(RoleAggregation::new);
    start.controller(TokenCleaner::new);
    start.controller(BootstrapSigner::new);
    let signs = match config.authority {
        Some(authority) => start.wants(certificates::SIGNING).then_some(authority),
        None => {
            start.absent(certificates::SIGNING);
            None
        }
    };
    let duties = Duties {
        approves: start.wants(certificates::APPROVING),
        signs,
        cleans: start.wants(certificates::CLEANING),
    };
    if duties.any() {
        start.task(Certificates::NAME, Certificates::ACCOUNT, |tools, informers| {
            Certificates::new(tools, informers, duties).run()
        });
    }
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
    start.controller(DeviceTaintEviction::new);
    if start.wants(garbage::SWITCH) {
        start.task(garbage::NAME, garbage::NAME, |tools, _| garbage::run(tools));
    }
}

impl ControllerManager {
    /// `reads` is the identity of the shared informers. `client_for` is asked once for each controller that runs, by
    /// the name of its service account in `kube-system`.
    pub fn start(config: Config, reads: &Client, client_for: impl Fn(&'static str) -> Client) -> Self {
        let selection = config.selection.clone();
        let mut start =
            Start { tasks: JoinSet::new(), informers: Informers::new(reads), client_for, selection };
        roll(&mut start, config);
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

/// One who goes through all controllers.
trait Roll {
    /// Whether this controller is to run, by the name that switches it.
    fn wants(&mut self, switch: &'static str) -> bool;

    /// The controller has not got what it needs.
    fn absent(&mut self, switch: &'static str) {
        if self.wants(switch) {
            warn!(controller = switch, "does not run: nothing was given for it to work with");
        }
    }

    /// The controller's work is somebody else's.
    fn left(&mut self, switch: &'static str) {
        self.wants(switch);
    }

    fn controller<C: Controller>(&mut self, new: impl FnOnce(Tools, &mut Informers) -> C) {
        if self.wants(C::SWITCH) {
            self.task(C::NAME, C::ACCOUNT, |tools, informers| new(tools, informers).run());
        }
    }

    /// Runs what tells its events as `name` and writes as the service account `account`.
    fn task<Run>(
        &mut self,
        name: &'static str,
        account: &'static str,
        new: impl FnOnce(Tools, &mut Informers) -> Run,
    ) where
        Run: Future<Output = ()> + Send + 'static;
}

/// Learns the names of all.
#[derive(Default)]
struct Names(BTreeSet<&'static str>);

impl Roll for Names {
    fn wants(&mut self, switch: &'static str) -> bool {
        self.0.insert(switch);
        false
    }

    fn task<Run>(&mut self, _: &'static str, _: &'static str, _: impl FnOnce(Tools, &mut Informers) -> Run)
    where
        Run: Future<Output = ()> + Send + 'static,
    {
        // It wants none.
    }
}

/// Starts them.
struct Start<F> {
    tasks: JoinSet<()>,
    informers: Informers,
    client_for: F,
    selection: Selection,
}

impl<F: Fn(&'static str) -> Client> Roll for Start<F> {
    fn wants(&mut self, switch: &'static str) -> bool {
        self.selection.has(switch)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_switched_by_upstreams_names() {
        let mut known = Names::default();
        roll(&mut known, Config::default());
        for name in [
            "certificatesigningrequest-approving-controller",
            "certificatesigningrequest-cleaner-controller",
            "certificatesigningrequest-signing-controller",
            "clusterrole-aggregation-controller",
            "cronjob-controller",
            "daemonset-controller",
            "deployment-controller",
            "device-taint-eviction-controller",
            "disruption-controller",
            "endpoints-controller",
            "endpointslice-controller",
            "endpointslice-mirroring-controller",
            "ephemeral-volume-controller",
            "garbage-collector-controller",
            "horizontal-pod-autoscaler-controller",
            "job-controller",
            "namespace-controller",
            "node-ipam-controller",
            "node-lifecycle-controller",
            "persistentvolume-attach-detach-controller",
            "persistentvolume-binder-controller",
            "persistentvolume-expander-controller",
            "persistentvolume-protection-controller",
            "persistentvolumeclaim-protection-controller",
            "pod-garbage-collector-controller",
            "replicaset-controller",
            "replicationcontroller-controller",
            "resourceclaim-controller",
            "resourcequota-controller",
            "root-ca-certificate-publisher-controller",
            "service-lb-controller",
            "serviceaccount-controller",
            "serviceaccount-token-controller",
            "statefulset-controller",
            "storage-version-migrator-controller",
            "taint-eviction-controller",
            "token-cleaner-controller",
            "ttl-after-finished-controller",
            "validatingadmissionpolicy-status-controller",
            "volumeattributesclass-protection-controller",
        ] {
            assert!(known.0.contains(name), "{name}");
            Config::select(vec![format!("-{name}")]).expect("it is known");
        }
        Config::select(vec!["deployment".to_owned()]).expect_err("it has another name");
    }
}
