//! The two servers.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use http::Request;
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use tempfile::TempDir;
use tiphys_apiserver::ApiServer;
use tiphys_pki::Pki;
use tiphys_store::Memory;
use tiphys_testkit::reference::{ControlPlane, Programs};
use tokio::net::TcpListener;

/// A server that can be asked, as its administrator.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) client: Client,
}

/// Ends upstream's programs when it is dropped.
pub(crate) struct Running(Vec<Child>, TempDir);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Upstream's server over etcd, with all versions that it knows.
pub(crate) async fn reference() -> Result<(Running, Server)> {
    let programs = Programs::find().context(
        "etcd and kube-apiserver are in no directory of REFERENCE_PATH or PATH; CONTRIBUTING.md says how to make them",
    )?;
    let dir = tempfile::Builder::new().prefix("tiphys-differential-").tempdir_in("/var/tmp")?;
    let control_plane = ControlPlane::new(dir.path(), "reference")?;
    let mut running = Running(Vec::new(), dir);
    let mut arguments = control_plane.apiserver();
    arguments.push("--runtime-config=api/all=true".to_owned());
    for (name, arguments) in [("etcd", control_plane.etcd()), ("kube-apiserver", arguments)] {
        let log = File::create(running.1.path().join(format!("{name}.log")))?;
        let mut command = Command::new(programs.get(name));
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        running.0.push(command.spawn().with_context(|| format!("starting {name}"))?);
    }
    let client = client(Kubeconfig::read_from(control_plane.kubeconfig())?).await?;
    let begun = Instant::now();
    loop {
        let ready = Request::get("/readyz").body(Body::empty())?;
        match client.send(ready).await {
            Ok(answer) if answer.status().is_success() => {
                return Ok((running, Server { name: "the reference", client }));
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        ensure!(begun.elapsed() < Duration::from_secs(120), "kube-apiserver is not ready within two minutes");
    }
}

/// Our server over a store in memory, in this process.
pub(crate) async fn ours() -> Result<Server> {
    let dir = tempfile::tempdir()?;
    let pki = Arc::new(Pki::open(dir.path())?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let config = tiphys_apiserver::Config {
        pki: Arc::clone(&pki),
        names: Vec::new(),
        node_name: "reference".to_owned(),
        domain: "cluster.local".to_owned(),
        clock: Arc::new(SystemTime::now),
        advertise: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        service_range: "10.91.128.0/17".parse()?,
        node_ports: 30000..=32767,
        removed_apis: true,
        others: Default::default(),
        authorizers: Default::default(),
        audit: Default::default(),
        admission: Default::default(),
        trace: None,
        shared: false,
        dial: None,
    };
    let server = ApiServer::start(config, Arc::new(Memory::new())).await?;
    tokio::spawn(async move { server.serve(listener).await });
    let kubeconfig = dir.path().join("admin.kubeconfig");
    pki.admin_kubeconfig(&kubeconfig, "ours", &format!("https://{address}"))?;
    Ok(Server { name: "ours", client: client(Kubeconfig::read_from(kubeconfig)?).await? })
}

async fn client(file: Kubeconfig) -> Result<Client> {
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    // Watches may be silent.
    config.read_timeout = Some(Duration::from_secs(60));
    Ok(Client::try_from(config)?)
}
