//! What a node is told when it starts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Taint;
use tiphys_api::KUBELET_PORT;

use crate::names::ClusterDns;
use crate::sysctls::Pattern;

/// Settings of one node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of its Node object.
    pub node_name: String,
    /// The host's name, which pods in the host's network see.
    pub hostname: String,
    /// Addresses by which the node is reached, the primary first.
    pub addresses: Vec<IpAddr>,
    /// Where pods' volumes lie (`pods/`); 0700 and the node's alone.
    pub data_dir: PathBuf,
    /// Where pods' logs lie.
    pub log_dir: PathBuf,
    /// Where manifests of static pods are read from.
    pub static_pods: Option<PathBuf>,
    /// The cluster's own cgroup, `/kubepods-1a2b3c4d` for instance.
    pub cgroup_root: String,
    /// The cluster's DNS.
    pub dns: ClusterDns,
    /// The range of this node's pods, if it is not given by a controller.
    pub pod_cidr: Option<String>,
    /// Most pods that run at once.
    pub max_pods: u32,
    /// Most processes a pod may have.
    pub pod_pids_limit: Option<i64>,
    /// The port that the Node object names for logs, exec and the like.
    pub port: u16,
    /// Settings of the kernel that pods may ask for beside the safe ones.
    pub sysctls: Vec<Pattern>,
    /// Labels beside the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// Taints that the node registers with.
    pub taints: Vec<Taint>,
    /// The version that the Node object shows, `v1.37.0` for instance.
    pub version: String,
    /// CPU in thousandths that is kept from pods.
    pub reserved_cpu_milli: i64,
    /// Bytes of memory that are kept from pods.
    pub reserved_memory: i64,
}

impl Config {
    /// Settings with upstream's defaults for everything that has one.
    pub fn new(node_name: &str, data_dir: PathBuf, cgroup_root: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            hostname: node_name.to_owned(),
            addresses: vec![],
            log_dir: data_dir.join("pod-logs"),
            data_dir,
            static_pods: None,
            cgroup_root: cgroup_root.to_owned(),
            dns: ClusterDns { servers: vec![], domain: "cluster.local".to_owned() },
            pod_cidr: None,
            max_pods: 110,
            pod_pids_limit: None,
            port: KUBELET_PORT,
            sysctls: vec![],
            labels: BTreeMap::new(),
            taints: vec![],
            version: "v1.37.0".to_owned(),
            reserved_cpu_milli: 0,
            reserved_memory: 0,
        }
    }

    /// Where `localhostProfile`s are looked for, as upstream does below the kubelet's directory.
    pub fn seccomp_dir(&self) -> PathBuf {
        self.data_dir.join("seccomp")
    }

    /// The node's addresses as text.
    pub fn host_ips(&self) -> Vec<String> {
        self.addresses.iter().map(IpAddr::to_string).collect()
    }
}
