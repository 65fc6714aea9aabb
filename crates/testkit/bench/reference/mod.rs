//! Upstream's programs as a cluster: etcd and kube-apiserver at least, and a node over containerd if all that
//! it takes is there.
//!
//! Everything listens on loopback, lies in one directory and goes with it. All components are administrators,
//! which spares them the work that RBAC is.

mod node;
mod programs;

use std::{
    fs::File,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tiphys_pki::{Leaf, Pki, ServingNames, write_private};
use tiphys_testkit::{Programs as Ours, free_port, image::Image};

use self::{node::Node, programs::Programs};
use crate::side::{Processes, Side};

/// The reference, if its programs are on this host.
pub(crate) fn find() -> Result<Option<Reference>> {
    Programs::find().map(Reference::new).transpose()
}

pub(crate) struct Reference {
    programs: Programs,
    node: Option<Node>,
    servers: Vec<Child>,
    etcd_ports: [u16; 2],
    port: u16,
    dir: TempDir,
}

impl Reference {
    fn new(programs: Programs) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tiphys-reference-").tempdir_in("/var/tmp")?;
        let node = programs.node().map(|plug_ins| Node::new(dir.path(), plug_ins)).transpose()?;
        let (etcd_ports, port) = ([free_port()?, free_port()?], free_port()?);
        write_credentials(dir.path(), port)?;
        Ok(Self { programs, node, servers: Vec::new(), etcd_ports, port, dir })
    }

    /// Starts a program whose output goes to a file of its name.
    fn spawn(&mut self, name: &str, arguments: &[String]) -> Result<()> {
        let path = self.dir.path().join(format!("{name}.log"));
        let log = File::options().append(true).create(true).open(&path)?;
        let child = Command::new(self.programs.get(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        self.servers.push(child);
        Ok(())
    }

    fn spawn_etcd(&mut self) -> Result<()> {
        let [clients, peers] = self.etcd_ports.map(|port| format!("http://127.0.0.1:{port}"));
        let arguments = [
            format!("--data-dir={}", self.dir.path().join("etcd").display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            "--log-level=error".to_owned(),
        ];
        self.spawn("etcd", &arguments)
    }

    fn spawn_apiserver(&mut self) -> Result<()> {
        let key = |name: &str| self.dir.path().join("pki").join(name).display().to_string();
        let arguments = [
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
        ];
        self.spawn("kube-apiserver", &arguments)
    }

    fn spawn_control_plane(&mut self) -> Result<()> {
        let key = |name: &str| self.dir.path().join("pki").join(name).display().to_string();
        let common = [
            format!("--kubeconfig={}", self.kubeconfig().display()),
            "--leader-elect=false".to_owned(),
            "--port=0".to_owned(),
            "--secure-port=0".to_owned(),
        ];
        let more = [
            format!("--service-account-private-key-file={}", key("apiserver.key")),
            format!("--root-ca-file={}", key("ca.crt")),
        ];
        self.spawn("kube-scheduler", &common)?;
        self.spawn("kube-controller-manager", &[&common[..], &more].concat())
    }

    fn end_servers(&mut self) -> Result<()> {
        for server in &mut self.servers {
            server.kill().context("killing a server of the reference")?;
            server.wait().context("waiting for a server of the reference")?;
        }
        self.servers.clear();
        Ok(())
    }

    /// Ends the servers, the pods, and whatever they made.
    fn end(&mut self) -> Result<()> {
        // First of all the kubelet, which would put back what is removed.
        self.end_servers()?;
        let Some(node) = &self.node else { return Ok(()) };
        let containerd = node.containerd_arguments();
        self.spawn("containerd", &containerd)?;
        let pods = self.node.as_ref().map_or(Ok(()), Node::remove_pods);
        self.end_servers()?;
        pods.and(self.node.as_ref().map_or(Ok(()), Node::remove_leftovers))
    }
}

impl Side for Reference {
    fn name(&self) -> String {
        self.programs.describe()
    }

    fn has_node(&self) -> bool {
        self.node.is_some()
    }

    fn start(&mut self) -> Result<()> {
        self.spawn_etcd()?;
        if let Some(node) = &self.node {
            let arguments = node.containerd_arguments();
            self.spawn("containerd", &arguments)?;
        }
        self.spawn_apiserver()?;
        if let Some(node) = &self.node {
            node.wait_for_containerd()?;
            let arguments = node.kubelet_arguments(&self.kubeconfig())?;
            self.spawn("kubelet", &arguments)?;
            // They give up on a server that is not there soon.
            let port = self.port;
            wait_for("kube-apiserver", || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
            self.spawn_control_plane()?;
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.end_servers()
    }

    fn wipe(&mut self) -> Result<()> {
        self.end()?;
        let programs = Programs::find().context("the reference's programs are gone")?;
        *self = Self::new(programs)?;
        Ok(())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("admin.kubeconfig")
    }

    fn import(&self, image: &Image) -> Result<()> {
        let path = self.dir.path().join("image.tar");
        let node = self.node.as_ref().context("the reference has no node")?;
        // No pod starts without the one of the pause process.
        for image in [&node::pause_image(), image] {
            image.write(File::create(&path)?)?;
            node.import(&self.programs.get("ctr"), &path)?;
        }
        Ok(())
    }

    fn import_example(&self) -> Result<()> {
        self.import(&Image::program(
            &["tiphys.local/demo:latest"],
            &Ours::find()?.tiphys,
            &["/tiphys", "demo"],
        ))
    }

    fn processes(&self) -> Result<Processes> {
        let mut found = self.node.as_ref().map_or_else(|| Ok(Processes::default()), Node::processes)?;
        found.servers = self.servers.iter().map(Child::id).collect();
        Ok(found)
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("ending the reference: {error:#}");
        }
    }
}

/// Makes the keys of a cluster, the server's certificate and the administrator's kubeconfig.
fn write_credentials(dir: &Path, port: u16) -> Result<()> {
    let keys = dir.join("pki");
    let pki = Pki::open(&keys)?;
    let leaf = Leaf::apiserver(&ServingNames {
        node: node::NAME,
        domain: "cluster.local",
        service_address: [10, 91, 128, 1].into(),
        host_addresses: &[],
        extra: &[],
    });
    let serving = pki.cluster.issue(&leaf, SystemTime::now())?;
    write_private(&keys.join("apiserver.crt"), serving.certificate_pem.as_bytes())?;
    write_private(&keys.join("apiserver.key"), serving.key_pem.as_bytes())?;
    let server = format!("https://127.0.0.1:{port}");
    pki.admin_kubeconfig(&dir.join("admin.kubeconfig"), "reference", &server)?;
    Ok(())
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if is_there() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("{what} does not answer within a minute")
}
