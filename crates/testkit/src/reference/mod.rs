//! Upstream's programs, to be measured or compared with.

mod programs;

pub use programs::Programs;

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Result;
use tiphys_pki::{Leaf, Pki, ServingNames, write_private};

use crate::free_port;

/// How etcd and kube-apiserver are started: on loopback, below one directory, with the ports that were free.
pub struct ControlPlane {
    dir: PathBuf,
    etcd_ports: [u16; 2],
    port: u16,
}

impl ControlPlane {
    /// Makes the keys of a cluster, the server's certificate and the administrator's kubeconfig below `dir`.
    ///
    /// # Errors
    /// No port is free, or nothing can be written there.
    pub fn new(dir: &Path, node: &str) -> Result<Self> {
        let (etcd_ports, port) = ([free_port()?, free_port()?], free_port()?);
        let keys = dir.join("pki");
        let pki = Pki::open(&keys)?;
        let leaf = Leaf::apiserver(&ServingNames {
            node,
            domain: "cluster.local",
            service_address: [10, 91, 128, 1].into(),
            host_addresses: &[],
            extra: &[],
        });
        let serving = pki.cluster.issue(&leaf, SystemTime::now())?;
        write_private(&keys.join("apiserver.crt"), serving.certificate_pem.as_bytes())?;
        write_private(&keys.join("apiserver.key"), serving.key_pem.as_bytes())?;
        let control_plane = Self { dir: dir.to_owned(), etcd_ports, port };
        let server = format!("https://127.0.0.1:{port}");
        pki.admin_kubeconfig(&control_plane.kubeconfig(), "reference", &server)?;
        Ok(control_plane)
    }

    /// The arguments of etcd.
    pub fn etcd(&self) -> Vec<String> {
        let [clients, peers] = self.etcd_ports.map(|port| format!("http://127.0.0.1:{port}"));
        vec![
            format!("--data-dir={}", self.dir.join("etcd").display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            "--log-level=error".to_owned(),
        ]
    }

    /// The arguments of kube-apiserver.
    pub fn apiserver(&self) -> Vec<String> {
        let key = |name: &str| self.dir.join("pki").join(name).display().to_string();
        vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_ports[0]),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--tls-cert-file={}", key("apiserver.crt")),
            format!("--tls-private-key-file={}", key("apiserver.key")),
            format!("--client-ca-file={}", key("ca.crt")),
            format!("--service-account-key-file={}", key("apiserver.crt")),
            format!("--service-account-signing-key-file={}", key("apiserver.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-cluster-ip-range=10.91.128.0/17".to_owned(),
            "--allow-privileged=true".to_owned(),
            // It would not publish a loopback address, and nobody here asks for it.
            "--endpoint-reconciler-type=none".to_owned(),
        ]
    }

    /// The administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// Where kube-apiserver listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}
