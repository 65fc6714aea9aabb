//! The flags of a cluster, and what follows from them.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ipnet::Ipv4Net;
use tiphys_api::KUBELET_PORT;
use tiphys_apiserver::{
    admission,
    audit::{self, Policy},
    trace,
};
use tiphys_controllers::{NodeIpamSettings, Parted};

use crate::{
    data_dir, files, node_flags::NodeFlags, permission_flags::PermissionFlags, storage::StorageFlags,
    token_flags::TokenFlags,
};

/// What can be set of a cluster.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) data: data_dir::Flag,
    /// Addresses that the API listens on.
    #[arg(long, default_value = "0.0.0.0")]
    pub(crate) bind_address: IpAddr,
    /// The port of the API.
    #[arg(long, default_value_t = 6443)]
    pub(crate) secure_port: u16,
    /// The port of the node's own API: logs, exec, metrics.
    #[arg(long, default_value_t = KUBELET_PORT)]
    pub(crate) kubelet_port: u16,
    #[command(flatten)]
    pub(crate) ranges: Ranges,
    /// The name of this node; by default the host's.
    #[arg(long)]
    pub(crate) node_name: Option<String>,
    /// A directory of manifests of pods that this node runs whatever the API says.
    #[arg(long)]
    pub(crate) pod_manifest_path: Option<PathBuf>,
    /// Settings of the kernel that pods may have for themselves beside those that are safe on every node; with a `*` at the
    /// end, all whose names begin so.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) allowed_unsafe_sysctls: Vec<tiphys_node::sysctls::Pattern>,
    /// The socket of another CRI runtime, such as `unix:///run/containerd/containerd.sock`.
    #[arg(long)]
    pub(crate) container_runtime_endpoint: Option<String>,
    /// Whether the API serves the versions that Kubernetes has removed since 1.16, and initializers.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) removed_apis: bool,
    #[command(flatten)]
    pub(crate) storage: StorageFlags,
    #[command(flatten)]
    pub(crate) audit: AuditFlags,
    #[command(flatten)]
    pub(crate) tokens: TokenFlags,
    #[command(flatten)]
    pub(crate) permissions: PermissionFlags,
    /// An AdmissionConfiguration: the configurations of the plug-ins PodSecurity and ResourceQuota.
    #[arg(long)]
    pub(crate) admission_control_config_file: Option<PathBuf>,
    /// A TracingConfiguration: which requests are traced, and the collector (OTLP over HTTP) that is told.
    #[arg(long)]
    pub(crate) tracing_config_file: Option<PathBuf>,
    /// A KubeSchedulerConfiguration: the scheduler's profiles, their plugins, and what these are told.
    #[arg(long)]
    pub(crate) scheduler_config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) nodes: NodeFlags,
    /// Leave the control loops to `tiphys controller-manager`; its kubeconfig is written to the data directory.
    #[arg(long)]
    pub(crate) disable_controller_manager: bool,
    /// Leave the scheduler to `tiphys scheduler`; its kubeconfig is written to the data directory.
    #[arg(long)]
    pub(crate) disable_scheduler: bool,
}

/// What is recorded of requests to the API, and where.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Audit")]
pub(crate) struct AuditFlags {
    /// An audit.k8s.io/v1 Policy; by default changes of objects are recorded, without their contents.
    #[arg(long)]
    pub(crate) audit_policy_file: Option<PathBuf>,
    /// The log; `-` is the standard output. By default `audit/audit.log` in the data directory.
    #[arg(long)]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// A log of this many megabytes is put aside.
    #[arg(long, default_value_t = 16)]
    pub(crate) audit_log_maxsize: u64,
    /// How many logs that were put aside stay; 0: all.
    #[arg(long, default_value_t = 3)]
    pub(crate) audit_log_maxbackup: usize,
    /// For how many days they stay; 0: without end.
    #[arg(long, default_value_t = 0)]
    pub(crate) audit_log_maxage: u64,
    /// A file like a kubeconfig that names a server which takes events, too.
    #[arg(long)]
    pub(crate) audit_webhook_config_file: Option<PathBuf>,
    /// Events that wait for that server; what comes on top is dropped.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) audit_webhook_batch_buffer_size: usize,
    /// The most events in one request to it.
    #[arg(long, default_value_t = 400)]
    pub(crate) audit_webhook_batch_max_size: usize,
    /// The most seconds that an event waits for others to be sent with.
    #[arg(long, default_value_t = 30)]
    pub(crate) audit_webhook_batch_max_wait: u64,
}

impl Default for AuditFlags {
    /// What the flags say that nobody gives.
    fn default() -> Self {
        Self {
            audit_policy_file: None,
            audit_log_path: None,
            audit_log_maxsize: 16,
            audit_log_maxbackup: 3,
            audit_log_maxage: 0,
            audit_webhook_config_file: None,
            audit_webhook_batch_buffer_size: 10_000,
            audit_webhook_batch_max_size: 400,
            audit_webhook_batch_max_wait: 30,
        }
    }
}

impl AuditFlags {
    /// What the API server is told; `log` is where the log is by default.
    pub(crate) fn config(&self, log: PathBuf) -> Result<audit::Config> {
        let policy = match &self.audit_policy_file {
            None => Policy::DEFAULT.as_bytes().to_vec(),
            Some(file) => files::read(file).context("the audit policy (--audit-policy-file)")?,
        };
        let policy = Policy::parse(&policy).context("the audit policy (--audit-policy-file)")?;
        let log = audit::LogOptions {
            path: self.audit_log_path.clone().unwrap_or(log),
            max_size: self.audit_log_maxsize << 20,
            max_backups: self.audit_log_maxbackup,
            max_age: Duration::from_secs(self.audit_log_maxage * 24 * 3600),
        };
        let webhook = self.audit_webhook_config_file.clone().map(|config| audit::WebhookOptions {
            config,
            buffer: self.audit_webhook_batch_buffer_size,
            batch: self.audit_webhook_batch_max_size,
            wait: Duration::from_secs(self.audit_webhook_batch_max_wait),
        });
        Ok(audit::Config { policy, log: Some(log), webhook })
    }
}

/// The addresses and names inside of a cluster.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Ranges {
    /// The addresses of Services.
    #[arg(long, default_value = "10.96.0.0/16")]
    pub(crate) service_cidr: Ipv4Net,
    /// The addresses of pods.
    #[arg(long, default_value = "10.244.0.0/16")]
    pub(crate) pod_cidr: Ipv4Net,
    /// The address of the cluster's DNS; by default the tenth of the Services' range.
    #[arg(long)]
    pub(crate) cluster_dns: Option<Ipv4Addr>,
    /// The domain of the cluster's names.
    #[arg(long, default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
}

impl std::ops::Deref for Settings {
    type Target = Ranges;

    fn deref(&self) -> &Ranges {
        &self.ranges
    }
}

impl Settings {
    /// Settings with defaults for all that is not named; a port of 0 is any that is free.
    pub(crate) fn new(data: data_dir::Flag, ranges: Ranges, secure_port: u16, kubelet_port: u16) -> Self {
        Self {
            data,
            bind_address: Ipv4Addr::UNSPECIFIED.into(),
            secure_port,
            kubelet_port,
            ranges,
            node_name: None,
            pod_manifest_path: None,
            allowed_unsafe_sysctls: Vec::new(),
            container_runtime_endpoint: None,
            removed_apis: true,
            storage: StorageFlags::default(),
            tokens: TokenFlags::default(),
            permissions: PermissionFlags::default(),
            audit: AuditFlags::default(),
            admission_control_config_file: None,
            tracing_config_file: None,
            scheduler_config: None,
            nodes: NodeFlags::default(),
            disable_controller_manager: false,
            disable_scheduler: false,
        }
    }

    /// Refuses what cannot work together, naming the flag.
    pub(crate) fn check(&self) -> Result<()> {
        let overlap =
            self.service_cidr.contains(&self.pod_cidr) || self.pod_cidr.contains(&self.service_cidr);
        ensure!(
            !overlap,
            "--service-cidr {} and --pod-cidr {} overlap; choose ranges apart from each other",
            self.service_cidr,
            self.pod_cidr
        );
        ensure!(
            (12..=28).contains(&self.service_cidr.prefix_len()),
            "--service-cidr {} must be between a /12 and a /28",
            self.service_cidr
        );
        ensure!(
            (8..=24).contains(&self.pod_cidr.prefix_len()),
            "--pod-cidr {} must be between a /8 and a /24, as each node gets a /24 of it",
            self.pod_cidr
        );
        let dns = self.dns_address();
        ensure!(
            self.service_cidr.contains(&dns),
            "--cluster-dns {dns} lies outside of --service-cidr {}",
            self.service_cidr
        );
        Ok(())
    }

    /// What plug-ins of admission are told. Files that the configuration names are looked for beside it.
    pub(crate) fn admission(&self) -> Result<admission::config::Config> {
        let Some(file) = &self.admission_control_config_file else { return Ok(Default::default()) };
        let named = || format!("the configuration of admission {}", file.display());
        let text = fs::read(file).with_context(named)?;
        let beside = |name: &Path| fs::read(file.parent().unwrap_or(Path::new("")).join(name));
        admission::config::parse(&text, beside).with_context(named)
    }

    /// Which requests are traced.
    pub(crate) fn trace(&self) -> Result<Option<trace::Config>> {
        let Some(file) = &self.tracing_config_file else { return Ok(None) };
        let named = || format!("the tracing configuration {}", file.display());
        let text = fs::read(file).with_context(named)?;
        trace::Config::parse(&text).with_context(named).map(Some)
    }

    pub(crate) fn dns_address(&self) -> Ipv4Addr {
        let tenth = u32::from(self.service_cidr.network()) + 10;
        self.cluster_dns.unwrap_or_else(|| Ipv4Addr::from(tenth))
    }

    /// This node's name, in lower case as names of objects are.
    pub(crate) fn node(&self) -> Result<String> {
        match &self.node_name {
            Some(name) => Ok(name.clone()),
            None => {
                let host =
                    nix::unistd::gethostname().context("asking for the host's name; set --node-name")?;
                Ok(host.to_string_lossy().to_lowercase())
            }
        }
    }

    /// What nodes get of the pods' range that have not chosen a part of it; nothing where nodes are to bring theirs.
    pub(crate) fn node_ipam(&self) -> Option<NodeIpamSettings> {
        if !self.nodes.allocate_node_cidrs {
            return None;
        }
        let range = Parted::new(self.pod_cidr.into(), self.first_pod_cidr().prefix_len()).ok()?;
        let taken = self.own_pod_cidr().into_iter().chain([self.service_cidr]).map(Into::into).collect();
        Some(NodeIpamSettings { ranges: vec![range], taken })
    }

    /// The part of the pods' range that this node takes: the first. `None` where several nodes would take that one, so
    /// that each is given its own.
    pub(crate) fn own_pod_cidr(&self) -> Option<Ipv4Net> {
        let is_given = !self.storage.etcd_servers.is_empty() && self.nodes.allocate_node_cidrs;
        (!is_given).then(|| self.first_pod_cidr())
    }

    /// The first /24 of the pods' range.
    pub(crate) fn first_pod_cidr(&self) -> Ipv4Net {
        let length = self.pod_cidr.prefix_len().max(24);
        Ipv4Net::new(self.pod_cidr.network(), length).unwrap_or(self.pod_cidr)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn who_shares_a_store_takes_no_range() {
        let etcd = "--etcd-servers=http://127.0.0.1:2379";
        for (flags, own) in [
            (&["up"][..], Some("10.244.0.0/24")),
            (&["up", etcd], None),
            (&["up", etcd, "--allocate-node-cidrs=false"], Some("10.244.0.0/24")),
        ] {
            let settings = Line::parse_from(flags).settings;
            assert_eq!(settings.own_pod_cidr().map(|range| range.to_string()).as_deref(), own);
            // Nobody else gets what it takes.
            let taken = settings.node_ipam().map(|ipam| ipam.taken.len());
            assert_eq!(taken, settings.nodes.allocate_node_cidrs.then_some(1 + usize::from(own.is_some())));
        }
    }
}
