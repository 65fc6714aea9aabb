//! The parts of the control plane: how each is started, and how it dies.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use anyhow::{Context, Result};
use kube::Client;
use tiphys_apiserver::{ApiServer, identity::Component};
use tiphys_client::election::{Election, Fence, NAMESPACE, Tenure, Timing};
use tiphys_controllers::ControllerManager;
use tiphys_pki::Pki;
use tiphys_scheduler::Scheduler;
use tokio::{task::AbortHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    disk::{Disk, OPENING},
    laws::Laws,
    machine::Machine,
    meter::Meter,
    neighbour::{Neighbour, Way},
    network::Network,
    trace::Trace,
};

/// How many processes could run the controllers.
pub(crate) const CANDIDATES: usize = 2;
/// The lease that they want.
pub(crate) const LEASE: &str = "kube-controller-manager";

/// The host of one of them, and its name as a candidate.
pub(crate) fn controllers(number: usize) -> Arc<str> {
    format!("controllers-{number}").into()
}

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
    pub(crate) neighbour: Arc<Neighbour>,
    machines: Vec<Arc<Machine>>,
    pki: Arc<Pki>,
    disk: Arc<Disk>,
    server: Option<ApiServer>,
    controllers: [Option<Process>; CANDIDATES],
    scheduler: Option<Process>,
}

impl Cluster {
    /// An empty store, and nothing that runs.
    pub(crate) fn new(seed: u64, trace: Arc<Trace>, network: Arc<Network>, laws: Arc<Laws>) -> Result<Self> {
        let keys = tempfile::tempdir().context("making a directory for keys")?;
        let pki = Arc::new(Pki::open(keys.path()).context("making keys")?);
        let neighbour = Neighbour::new(seed, &pki, &laws, &trace)?;
        let disk = Disk::new(seed, Arc::clone(&trace), Arc::clone(&laws));
        Ok(Self {
            trace,
            network,
            laws,
            neighbour,
            machines: Vec::new(),
            pki,
            disk,
            server: None,
            controllers: Default::default(),
            scheduler: None,
        })
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
            dial: Some(Arc::new(Way(Arc::clone(&self.neighbour)))),
        };
        let server =
            ApiServer::start(config, Arc::clone(&self.disk) as _).await.context("starting the API")?;
        self.machines.iter().for_each(|machine| self.meter(&server, machine));
        self.network.connect(server.clone(), CancellationToken::new());
        self.server = Some(server);
        self.trace.step(format_args!("! the API server is up"));
        Ok(())
    }

    /// Has the server know the way to a machine.
    fn meter(&self, server: &ApiServer, machine: &Arc<Machine>) {
        let (machine, network) = (Arc::clone(machine), Arc::clone(&self.network));
        server.nodes().add(machine.name.to_string(), Arc::new(Meter { machine, network }));
    }

    pub(crate) fn add(&mut self, machine: &Arc<Machine>) {
        if let Some(server) = &self.server {
            self.meter(server, machine);
        }
        self.machines.push(Arc::clone(machine));
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

    /// Starts one of the processes that could run all controllers. Only that which leads does.
    pub(crate) fn start_controllers(&mut self, number: usize) {
        let host = controllers(number);
        self.trace.step(format_args!("! {host} start"));
        let life = CancellationToken::new();
        let election = Election {
            client: self.network.client(&host, Component::ControllerManager, &life),
            namespace: NAMESPACE.to_owned(),
            name: LEASE.to_owned(),
            identity: host.to_string(),
            tenure: Tenure::Renewed(Timing::default()),
        };
        let authority = &self.pki.cluster;
        let config = tiphys_controllers::Config {
            root_ca: Some(authority.pem().to_owned()),
            authority: Some(Arc::clone(authority)),
            ..Default::default()
        };
        let (network, of) = (Arc::clone(&self.network), life.clone());
        let work = move |fence: Fence| {
            let (network, host, of) = (Arc::clone(&network), Arc::clone(&host), of.clone());
            let config = config.clone();
            let client = move |component| network.fenced_client(&host, component, &of, &fence);
            async move {
                let reads = client(Component::ControllerManager);
                let all =
                    ControllerManager::start(config, &reads, |name| client(Component::Controller(name)));
                all.wait().await
            }
        };
        let trace = Arc::clone(&self.trace);
        let run = async move {
            // Nobody tells it to stop: it dies.
            if let Some(Err(error)) = election.run(std::future::pending(), work).await {
                trace.fail(error.to_string());
            }
        };
        self.controllers[number] = Some(Process::start(run, life));
    }

    pub(crate) fn stop_controllers(&mut self, number: usize) {
        self.trace.step(format_args!("! {} die", controllers(number)));
        self.controllers[number] = None;
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
