//! Upstream's programs as a cluster: etcd and kube-apiserver at least, and a node over containerd if all that
//! it takes is there.
//!
//! Everything listens on loopback, lies in one directory and goes with it. All components are administrators,
//! which spares them the work that RBAC is.

mod node;

use std::{
    fs::File,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tiphys_testkit::{
    Programs as Ours,
    image::Image,
    reference::{ControlPlane, Programs},
};

use self::node::Node;
use crate::side::{Processes, Side};

/// How many requests a second its control loops may make: as many as upstream's own measures of the scheduler allow.
const REQUESTS: u32 = 5_000;

/// The reference, if its programs are on this host.
pub(crate) fn find() -> Result<Option<Reference>> {
    Programs::find().map(Reference::new).transpose()
}

pub(crate) struct Reference {
    programs: Programs,
    node: Option<Node>,
    servers: Vec<Child>,
    control_plane: ControlPlane,
    dir: TempDir,
}

impl Reference {
    fn new(programs: Programs) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tiphys-reference-").tempdir_in("/var/tmp")?;
        let node = programs.node().map(|plug_ins| Node::new(dir.path(), plug_ins)).transpose()?;
        let control_plane = ControlPlane::new(dir.path(), node::NAME)?;
        Ok(Self { programs, node, servers: Vec::new(), control_plane, dir })
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

    fn spawn_control_plane(&mut self) -> Result<()> {
        let key = |name: &str| self.dir.path().join("pki").join(name).display().to_string();
        let common = [
            format!("--kubeconfig={}", self.kubeconfig().display()),
            "--leader-elect=false".to_owned(),
            "--port=0".to_owned(),
            "--secure-port=0".to_owned(),
            // Its defaults, some tens of requests a second, would be all that is measured.
            format!("--kube-api-qps={REQUESTS}"),
            format!("--kube-api-burst={REQUESTS}"),
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
        let arguments = self.control_plane.etcd();
        self.spawn("etcd", &arguments)?;
        if let Some(node) = &self.node {
            let arguments = node.containerd_arguments();
            self.spawn("containerd", &arguments)?;
        }
        let arguments = self.control_plane.apiserver();
        self.spawn("kube-apiserver", &arguments)?;
        if let Some(node) = &self.node {
            node.wait_for_containerd()?;
            let arguments = node.kubelet_arguments(&self.kubeconfig())?;
            self.spawn("kubelet", &arguments)?;
            // They give up on a server that is not there soon.
            let port = self.control_plane.port();
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
        self.control_plane.kubeconfig()
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
