//! The parts of the control plane: how each is started, and how it dies.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use anyhow::{Context, Result};
use kube::Client;
use tiphys_apiserver::{ApiServer, identity::Component};
use tiphys_controllers::ControllerManager;
use tiphys_pki::Pki;
use tiphys_scheduler::Scheduler;
use tokio::{task::AbortHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    disk::{Disk, OPENING},
    laws::Laws,
    network::Network,
    trace::Trace,
};

/// A process: its tasks end, and its connections fall silent, when it is dropped.
pub(crate) struct Process {
    life: CancellationToken,
    task: AbortHandle,
}

impl Process {
    pub(crate) fn start(run: impl Future<Output = ()> + Send + 'static, life: CancellationToken) -> Self {
        Self { life, task: tokio::spawn(run).abort_handle() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.life.cancel();
        self.task.abort();
    }
}

pub(crate) struct Cluster {
    pub(crate) trace: Arc<Trace>,
    pub(crate) network: Arc<Network>,
    pub(crate) laws: Arc<Laws>,
    pki: Arc<Pki>,
    disk: Arc<Disk>,
    server: Option<ApiServer>,
    controllers: Option<Process>,
    scheduler: Option<Process>,
}

impl Cluster {
    /// An empty store, and nothing that runs.
    pub(crate) fn new(seed: u64, trace: Arc<Trace>, network: Arc<Network>, laws: Arc<Laws>) -> Result<Self> {
        let keys = tempfile::tempdir().context("making a directory for keys")?;
        let pki = Arc::new(Pki::open(keys.path()).context("making keys")?);
        let disk = Disk::new(seed, Arc::clone(&trace), Arc::clone(&laws));
        Ok(Self { trace, network, laws, pki, disk, server: None, controllers: None, scheduler: None })
    }

    pub(crate) fn set_faulty(&self, faulty: bool) {
        self.network.set_faulty(faulty);
        self.disk.set_faulty(faulty);
    }

    /// Starts the API server over what is durable.
    pub(crate) async fn start_server(&mut self) -> Result<()> {
        let config = tiphys_apiserver::Config {
            pki: Arc::clone(&self.pki),
            names: Vec::new(),
            node_name: "control-plane".to_owned(),
            domain: "cluster.local".to_owned(),
            clock: Arc::new(SystemTime::now),
            advertise: SocketAddr::from(([10, 0, 0, 1], 6443)),
            service_range: "10.96.0.0/16".parse()?,
            node_ports: 30000..=32767,
            removed_apis: false,
            others: Default::default(),
            authorizers: Default::default(),
            admission: Default::default(),
            audit: Default::default(),
            trace: None,
            shared: false,
        };
        let server =
            ApiServer::start(config, Arc::clone(&self.disk) as _).await.context("starting the API")?;
        self.network.connect(server.clone(), CancellationToken::new());
        self.server = Some(server);
        self.trace.step(format_args!("! the API server is up"));
        Ok(())
    }

    /// The API server and its store die, and start again.
    pub(crate) async fn crash_server(&mut self) -> Result<()> {
        self.network.disconnect();
        if let Some(server) = self.server.take() {
            server.stop();
        }
        self.disk = self.disk.crash().await?;
        sleep(OPENING).await;
        self.start_server().await
    }

    pub(crate) fn client(&self, host: &str, component: Component, life: &CancellationToken) -> Client {
        self.network.client(&host.into(), component, life)
    }

    pub(crate) fn start_controllers(&mut self) {
        self.trace.step(format_args!("! the controllers start"));
        let life = CancellationToken::new();
        let authority = &self.pki.cluster;
        let config = tiphys_controllers::Config {
            root_ca: Some(authority.pem().to_owned()),
            authority: Some(Arc::clone(authority)),
            ..Default::default()
        };
        let (network, host) = (Arc::clone(&self.network), Arc::from("controllers"));
        let reads = network.client(&host, Component::ControllerManager, &life);
        let of = life.clone();
        let manager = ControllerManager::start(config, &reads, move |name| {
            network.client(&host, Component::Controller(name), &of)
        });
        let trace = Arc::clone(&self.trace);
        let run = async move {
            if let Err(error) = manager.wait().await {
                trace.fail(error.to_string());
            }
        };
        self.controllers = Some(Process::start(run, life));
    }

    pub(crate) fn stop_controllers(&mut self) {
        self.trace.step(format_args!("! the controllers die"));
        self.controllers = None;
    }

    pub(crate) fn start_scheduler(&mut self) {
        self.trace.step(format_args!("! the scheduler starts"));
        let life = CancellationToken::new();
        let client = self.client("scheduler", Component::Scheduler, &life);
        let scheduler = Scheduler::new(client, tiphys_scheduler::Config::default());
        self.scheduler = Some(Process::start(scheduler.run(), life));
    }

    pub(crate) fn stop_scheduler(&mut self) {
        self.trace.step(format_args!("! the scheduler dies"));
        self.scheduler = None;
    }
}
