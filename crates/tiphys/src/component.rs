//! `tiphys controller-manager` and `tiphys scheduler`: the loops as processes of their own.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use anyhow::{Context, Result, bail};
use clap::ArgAction;
use ipnet::Ipv4Net;
use serde::Deserialize;
use tiphys_api::KUBELET_PORT;
use tiphys_apiserver::identity::Component;
use tiphys_controllers::{NodeIpamSettings, Parted};
use tiphys_pki::Authority;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    election_flags::{ElectionFile, ElectionFlags},
    files,
    loops::{self, Scheduling},
    node_flags::NodeFlags,
    remote::Remote,
    up,
};

/// The flags of `tiphys controller-manager`, under upstream's names.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ControllerManagerFlags {
    /// A kubeconfig with the identity `system:kube-controller-manager`; without it this is a pod of the cluster.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Which controllers run: `foo` is on, `-foo` is off, `*` stands for all that are not named.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "*",
        allow_hyphen_values = true,
        value_name = "NAMES"
    )]
    controllers: Vec<String>,
    /// Whether each controller works as a service account of its own, as the default roles expect. Else the kubeconfig's
    /// identity has to be allowed all that they do.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    use_service_account_credentials: bool,
    /// The certificate of the authority that signs what CertificateSigningRequests ask for. Without it nothing is signed.
    #[arg(long, requires = "cluster_signing_key_file", value_name = "FILE")]
    cluster_signing_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "cluster_signing_cert_file", value_name = "FILE")]
    cluster_signing_key_file: Option<PathBuf>,
    /// The certificates by which pods know the API server; by default those of the kubeconfig.
    #[arg(long, value_name = "FILE")]
    root_ca_file: Option<PathBuf>,
    /// The addresses of pods, of which each node that brings no range gets a part. Without it nodes are given none.
    #[arg(long, value_name = "NETWORK")]
    cluster_cidr: Option<Ipv4Net>,
    /// How large a node's part is: the length of its prefix.
    #[arg(long, default_value_t = 24, value_name = "LENGTH")]
    node_cidr_mask_size: u8,
    /// The addresses of Services, which no node gets.
    #[arg(long, value_name = "NETWORK")]
    service_cluster_ip_range: Option<Ipv4Net>,
    #[command(flatten)]
    nodes: NodeFlags,
    #[command(flatten)]
    election: ElectionFlags,
}

/// The flags of `tiphys scheduler`, under upstream's names.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SchedulerFlags {
    /// A kubeconfig with the identity `system:kube-scheduler`; without it this is a pod of the cluster.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A KubeSchedulerConfiguration; what flags say goes over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    election: ElectionFlags,
}

/// What a KubeSchedulerConfiguration says of the process.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProcessFile {
    leader_election: ElectionFile,
    client_connection: ConnectionFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConnectionFile {
    kubeconfig: Option<PathBuf>,
}

impl ControllerManagerFlags {
    fn node_ipam(&self) -> Result<Option<NodeIpamSettings>> {
        let Some(range) = self.cluster_cidr.filter(|_| self.nodes.allocate_node_cidrs) else {
            return Ok(None);
        };
        let parted = Parted::new(range.into(), self.node_cidr_mask_size);
        let ranges = vec![parted.context("--cluster-cidr and --node-cidr-mask-size")?];
        let taken = self.service_cluster_ip_range.map(Into::into).into_iter().collect();
        Ok(Some(NodeIpamSettings { ranges, taken }))
    }
}

pub(crate) fn controller_manager(flags: ControllerManagerFlags) -> Result<()> {
    let node_ipam = flags.node_ipam()?;
    let selection = tiphys_controllers::Config::select(flags.controllers).context("--controllers")?;
    let authority = match flags.cluster_signing_cert_file.zip(flags.cluster_signing_key_file) {
        Some((certificate, key)) => {
            let loaded = Authority::load(&certificate, &key, SystemTime::now());
            Some(Arc::new(loaded.context("--cluster-signing-cert-file and --cluster-signing-key-file")?))
        }
        None => None,
    };
    let root_ca =
        flags.root_ca_file.as_deref().map(files::read_text).transpose().context("--root-ca-file")?;
    if root_ca.as_deref().is_some_and(|text| !text.contains("-----BEGIN CERTIFICATE-----")) {
        bail!("--root-ca-file: there is no certificate in it");
    }
    up::runtime()?.block_on(async {
        let remote = Remote::open(flags.kubeconfig.as_deref(), &Component::ControllerManager).await?;
        let root_ca = root_ca.or_else(|| remote.root_ca().map(str::to_owned));
        let config = tiphys_controllers::Config {
            root_ca,
            authority,
            node_lifecycle: flags.nodes.lifecycle(),
            node_ipam,
            load_balancer: flags.nodes.load_balancer(&[remote.port(), KUBELET_PORT]),
            selection,
        };
        let election = flags.election.election(loops::CONTROLLERS, remote.own())?;
        let connect = remote.connect(flags.use_service_account_credentials);
        loops::controllers(election, connect, config, interrupted()?).await
    })
}

pub(crate) fn scheduler(flags: SchedulerFlags) -> Result<()> {
    let scheduling = Scheduling::read(flags.config.as_ref())?;
    let process: ProcessFile = match scheduling.text() {
        Some(text) => serde_saphyr::from_str(text).context("--config")?,
        None => ProcessFile::default(),
    };
    let election = flags.election.or(process.leader_election).context("--config")?;
    let given = process.client_connection.kubeconfig.filter(|file| !file.as_os_str().is_empty());
    let kubeconfig = flags.kubeconfig.or(given);
    up::runtime()?.block_on(async {
        let remote = Remote::open(kubeconfig.as_deref(), &Component::Scheduler).await?;
        let election = election.election(loops::SCHEDULER, remote.own())?;
        loops::scheduler(election, remote.connect(false), scheduling, interrupted()?).await
    })
}

/// Ends when somebody wants this process to.
fn interrupted() -> Result<impl Future<Output = ()>> {
    let mut interrupted = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    let mut terminated = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    Ok(async move {
        tokio::select! { _ = interrupted.recv() => {}, _ = terminated.recv() => {} }
    })
}
