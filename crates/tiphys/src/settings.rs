//! The flags of a cluster, and what follows from them.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use ipnet::Ipv4Net;

use crate::data_dir;

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
    #[arg(long, default_value_t = 10250)]
    pub(crate) kubelet_port: u16,
    #[command(flatten)]
    pub(crate) ranges: Ranges,
    /// The name of this node; by default the host's.
    #[arg(long)]
    pub(crate) node_name: Option<String>,
    /// A directory of manifests of pods that this node runs whatever the API says.
    #[arg(long)]
    pub(crate) pod_manifest_path: Option<PathBuf>,
    /// The socket of another CRI runtime, such as `unix:///run/containerd/containerd.sock`.
    #[arg(long)]
    pub(crate) container_runtime_endpoint: Option<String>,
    /// Whether the API serves the versions that Kubernetes has removed since 1.16, and initializers.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) removed_apis: bool,
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
            container_runtime_endpoint: None,
            removed_apis: true,
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

    /// The part of the pods' range that this node has: its first /24.
    pub(crate) fn node_pod_cidr(&self) -> Ipv4Net {
        let length = self.pod_cidr.prefix_len().max(24);
        Ipv4Net::new(self.pod_cidr.network(), length).unwrap_or(self.pod_cidr)
    }
}
