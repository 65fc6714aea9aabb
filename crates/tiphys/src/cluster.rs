//! Every room of a cluster in one process, wired together.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use futures::FutureExt;
use ipnet::Ipv4Net;
use kube::Client;
use tiphys_apiserver::metrics::Configuration;
use tiphys_apiserver::{
    ApiServer,
    identity::Component,
    node_proxy::{NodeDialer, Stream},
};
use tiphys_client::{
    election::{self, Election, Tenure, Timing},
    metrics::Counted,
};
use tiphys_cri::v1::{
    image_service_server::ImageServiceServer, runtime_service_server::RuntimeServiceServer,
};
use tiphys_network::{Instance, PodNetwork, Proxy, bridge, dns, proxy, routes};
use tiphys_node::{Kubelet, local_path, names::ClusterDns};
use tiphys_pki::{Authority, Leaf, Pki};
use tiphys_runtime::Runtime;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::{advertised, local},
    data_dir::DataDir,
    files,
    follow::follow,
    image,
    loops::{self, Connect, Scheduling},
    pod_network::BuiltIn,
    pod_range,
    settings::Settings,
    storage::Storage,
};

/// The release whose API is served.
pub(crate) const KUBERNETES: &str = "v1.37.0";

/// How long the control loops wait at most for the node to be registered.
const NODE_FIRST: Duration = Duration::from_secs(1);

/// The kubelet of this process, as the API server reaches it.
struct InProcess(Kubelet);

#[async_trait::async_trait]
impl NodeDialer for InProcess {
    async fn dial(&self) -> std::io::Result<Box<dyn Stream>> {
        const BUFFER: usize = 64 << 10;
        let (client, server) = tokio::io::duplex(BUFFER);
        let kubelet = self.0.clone();
        tokio::spawn(async move { kubelet.serve_trusted(server).await });
        Ok(Box::new(client))
    }
}

/// Which rooms a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rooms {
    All,
    /// The API, without controllers, scheduler and node.
    Api,
}

/// A running cluster.
pub(crate) struct Cluster {
    storage: Storage,
    server: ApiServer,
    /// The address that clients know the API by.
    host: Arc<str>,
    runtime: Option<Runtime>,
    node: String,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

impl Cluster {
    /// Starts the rooms. The API answers when this returns; the node is ready soon after.
    pub(crate) async fn start(settings: &Settings, data: &DataDir, rooms: Rooms) -> Result<Self> {
        let node = settings.node()?;
        let listener =
            TcpListener::bind((settings.bind_address, settings.secure_port)).await.with_context(|| {
                format!(
                    "listening on {}:{}; if another program has the port, choose one with --secure-port",
                    settings.bind_address, settings.secure_port
                )
            })?;
        let port = listener.local_addr().context("asking for the listener's address")?.port();
        let pki = Arc::new(Pki::open(&data.join("pki")).context("opening the cluster's keys")?);
        let storage = Storage::open(&settings.storage, data.join("store")).await?;
        let (host, local) = (advertised(settings), local(settings));
        let url = format!("https://{}", SocketAddr::new(local, port));
        let read = |file: &Option<PathBuf>| file.as_deref().map(files::read).transpose();
        let authentication = read(&settings.tokens.authentication_config)?;
        let authorization = read(&settings.permissions.authorization_config)?;
        let config = tiphys_apiserver::Config {
            pki: pki.clone(),
            names: vec![local.to_string()],
            node_name: node.clone(),
            domain: settings.cluster_domain.clone(),
            clock: Arc::new(SystemTime::now),
            advertise: SocketAddr::new(host, port),
            service_range: settings.service_cidr.into(),
            node_ports: 30000..=32767,
            removed_apis: settings.removed_apis,
            others: settings.tokens.others(authentication.as_deref())?,
            authorizers: settings.permissions.authorizers(authorization.as_deref())?,
            admission: settings.admission()?,
            audit: settings.audit.config(data.join("audit").join("audit.log"))?,
            trace: settings.trace()?,
            shared: !settings.storage.etcd_servers.is_empty(),
            dial: None,
        };
        let scheduling = Scheduling::read(settings.scheduler_config.as_ref())?;
        let server = ApiServer::start(config, storage.store()).await.context("starting the API")?;
        pki.admin_kubeconfig(&data.admin_kubeconfig(), "tiphys", &url)
            .context("writing the administrator's kubeconfig")?;
        let elsewhere = [
            (
                rooms == Rooms::Api || settings.disable_controller_manager,
                "controller-manager",
                Leaf::controller_manager(),
            ),
            (rooms == Rooms::Api || settings.disable_scheduler, "scheduler", Leaf::scheduler()),
        ];
        for (_, component, leaf) in elsewhere.into_iter().filter(|(elsewhere, ..)| *elsewhere) {
            let file = data.join(&format!("{component}.kubeconfig"));
            pki.kubeconfig(&file, "tiphys", &url, leaf)
                .with_context(|| format!("writing the kubeconfig of the {component}"))?;
        }
        server.metrics().add(Arc::new(tiphys_client::metrics::expose));
        server.metrics().add(Arc::new(tiphys_scheduler::metrics::expose));
        server.metrics().add(Arc::new(tiphys_controllers::metrics::expose));
        let stop = CancellationToken::new();
        let tasks = JoinSet::new();
        let api = SocketAddr::new(host, port).to_string().into();
        let mut cluster = Self { storage, server, host: api, runtime: None, node, stop, tasks };
        let server = cluster.server.clone();
        cluster.tasks.spawn(async move { server.serve(listener).await.context("serving the API") });
        let server = cluster.server.clone();
        cluster.spawn(async move { Err(server.failed().await).context("the API has lost its store") });
        cluster.follow_configurations(settings, authentication, authorization);
        if rooms == Rooms::Api {
            return Ok(cluster);
        }
        if let Err(error) = cluster.start_rest(settings, data, host, &pki, scheduling).await {
            // In order, so that no room tells how it lost another one.
            cluster.stop().await;
            return Err(error);
        }
        Ok(cluster)
    }

    /// Starts what is a client of the API. Who gives the node its range goes first.
    async fn start_rest(
        &mut self,
        settings: &Settings,
        data: &DataDir,
        host: IpAddr,
        pki: &Pki,
        scheduling: Scheduling,
    ) -> Result<()> {
        if let Some(range) = settings.own_pod_cidr() {
            let registered = self.start_node(settings, data, host, range, pki).await?;
            self.start_control_plane(settings, data, &pki.cluster, scheduling, registered).await;
            return Ok(());
        }
        self.start_control_plane(settings, data, &pki.cluster, scheduling, std::future::ready(())).await;
        let client = self.client(&Component::Node(self.node.clone()));
        let range = pod_range::of_node(client, &self.node).await?;
        self.start_node(settings, data, host, range, pki).await.map(drop)
    }

    /// Takes in changes of the files that say who is let in, and who is asked for permissions; what they say by now is
    /// known.
    fn follow_configurations(
        &mut self,
        settings: &Settings,
        authentication: Option<Vec<u8>>,
        authorization: Option<Vec<u8>>,
    ) {
        if let (Some(file), Some(known)) = (&settings.tokens.authentication_config, authentication) {
            let (security, tokens) = (Arc::clone(self.server.security()), settings.tokens.clone());
            self.spawn(follow(file.clone(), known, move |text| {
                let taken = tokens
                    .configured(text)
                    .and_then(|(issuers, anonymous)| Ok(security.authenticate_by(issuers, anonymous)?));
                security.reloaded(Configuration::Authentication, taken.is_ok());
                taken
            }));
        }
        if let (Some(file), Some(known)) = (&settings.permissions.authorization_config, authorization) {
            let (security, permissions) = (Arc::clone(self.server.security()), settings.permissions.clone());
            self.spawn(follow(file.clone(), known, move |text| {
                let taken = permissions.authorizers(Some(text)).and_then(|by| Ok(security.authorize_by(by)?));
                security.reloaded(Configuration::Authorization, taken.is_ok());
                taken
            }));
        }
    }

    /// A client with the identity of one component, which reaches the API without a socket.
    pub(crate) fn client(&self, component: &Component) -> Client {
        connect(&self.server, &self.host, component)
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    pub(crate) fn runtime(&self) -> Option<&Runtime> {
        self.runtime.as_ref()
    }

    /// Starts the control loops and the scheduler, or leaves them to other processes. Reading a large cluster takes
    /// all processors for a while, so they let the node go first, unless that has trouble.
    async fn start_control_plane(
        &mut self,
        settings: &Settings,
        data: &DataDir,
        authority: &Arc<Authority>,
        scheduling: Scheduling,
        registered: impl Future<Output = ()> + Send + 'static,
    ) {
        let turn = timeout(NODE_FIRST, registered).map(drop).shared();
        let (server, host) = (self.server.clone(), Arc::clone(&self.host));
        let connect: Connect = Arc::new(move |component, fence| {
            let service = Counted::new(server.connector(component), Arc::clone(&host));
            Client::new(fence.guard(service), "default")
        });
        // Who keeps the store has the loops for good, and writes that down once: nothing is renewed while the cluster
        // idles, and others know that they need not wait. Of those who share a store one has them, until it is missed.
        // Nodes that are one cluster's have each their own name, and a data directory has one process.
        let shared = !settings.storage.etcd_servers.is_empty();
        let (identity, tenure) = match shared {
            true => (format!("{}_{}", self.node, data.instance()), Tenure::Renewed(Timing::default())),
            false => ("tiphys".to_owned(), Tenure::Standing),
        };
        let election = |name: &str, component| Election {
            client: self.client(component),
            namespace: election::NAMESPACE.to_owned(),
            name: name.to_owned(),
            identity: identity.clone(),
            tenure,
        };
        let controllers = election(loops::CONTROLLERS, &Component::ControllerManager);
        let scheduler = election(loops::SCHEDULER, &Component::Scheduler);
        if settings.disable_controller_manager {
            leave(controllers).await;
        } else {
            let config = tiphys_controllers::Config {
                root_ca: Some(authority.pem().to_owned()),
                authority: Some(Arc::clone(authority)),
                node_lifecycle: settings.nodes.lifecycle(),
                node_ipam: settings.node_ipam(),
                load_balancer: settings.nodes.load_balancer(&[settings.secure_port, settings.kubelet_port]),
                selection: Default::default(),
            };
            let stop = self.stop.clone().cancelled_owned();
            let (turn, connect) = (turn.clone(), Arc::clone(&connect));
            self.tasks.spawn(async move {
                turn.await;
                loops::controllers(Some(controllers), connect, config, stop).await
            });
        }
        if settings.disable_scheduler {
            leave(scheduler).await;
        } else {
            let stop = self.stop.clone().cancelled_owned();
            self.tasks.spawn(async move {
                turn.await;
                loops::scheduler(Some(scheduler), connect, scheduling, stop).await
            });
        }
    }

    /// Runs a room that knows no end of its own until the cluster stops.
    fn spawn(&mut self, room: impl Future<Output = Result<()>> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! { result = room => result, () = stop.cancelled() => Ok(()) }
        });
    }

    /// Starts what makes this host a node; answers when that is registered.
    async fn start_node(
        &mut self,
        settings: &Settings,
        data: &DataDir,
        host: IpAddr,
        range: Ipv4Net,
        pki: &Pki,
    ) -> Result<impl Future<Output = ()> + Send + use<>> {
        let instance: Instance = data.instance().parse().context("the cluster's instance")?;
        let network = PodNetwork::new(bridge::Config {
            instance,
            pod_cidr: range,
            cluster_cidr: settings.pod_cidr,
            service_cidr: settings.service_cidr,
            state_dir: data.join("network"),
            mtu: None,
        });
        let network = Arc::new(network.await.context("making the pod network")?);
        let cri = match &settings.container_runtime_endpoint {
            Some(endpoint) => tiphys_cri::Client::connect(endpoint)
                .with_context(|| format!("connecting to the container runtime at {endpoint}"))?,
            None => self.start_runtime(data, network.clone()).await?,
        };
        self.start_network(settings, instance, range, network);
        let mut config = tiphys_node::config::Config::new(&self.node, data.node(), &data.pods_cgroup());
        config.addresses = vec![host];
        config.dns = ClusterDns {
            servers: vec![settings.dns_address().to_string()],
            domain: settings.cluster_domain.clone(),
        };
        config.pod_cidr = Some(range.to_string());
        config.static_pods.clone_from(&settings.pod_manifest_path);
        config.port = settings.kubelet_port;
        config.sysctls.clone_from(&settings.allowed_unsafe_sysctls);
        config.version = KUBERNETES.to_owned();
        let kubelet = Kubelet::new(config, self.client(&Component::Node(self.node.clone())), cri);
        self.server.nodes().add(self.node.clone(), Arc::new(InProcess(kubelet.clone())));
        let address = (settings.bind_address, settings.kubelet_port);
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!(
                "listening on {}:{}; if another program has the port, choose one with --kubelet-port",
                address.0, address.1
            )
        })?;
        let trust = pki.client_trust().context("trusting the node's clients")?;
        let certificate = pki.rotating(Leaf::kubelet_serving(&self.node, &[host, local(settings)]));
        let certificate = certificate.context("issuing the node's certificate")?;
        let tls = tiphys_pki::server_config(certificate, &trust).context("serving the node's own API")?;
        let provisioner = self.client(&Component::Controller(local_path::NAME));
        let provisioning = local_path::run(provisioner, self.node.clone(), data.join("volumes"));
        self.spawn(async move {
            provisioning.await;
            Ok(())
        });
        let door = kubelet.clone();
        self.spawn(async move {
            door.serve_tls(listener, tls, trust).await.context("serving the node's own API")
        });
        let (stop, registered) = (self.stop.clone(), kubelet.registered());
        self.tasks
            .spawn(async move { kubelet.run(stop.cancelled_owned()).await.context("running the node") });
        Ok(registered)
    }

    async fn start_runtime(
        &mut self,
        data: &DataDir,
        network: Arc<PodNetwork>,
    ) -> Result<tiphys_cri::Client> {
        let exe = std::env::current_exe().context("finding this program's file")?;
        let runtime = Runtime::open(tiphys_runtime::Config {
            root: data.runtime(),
            instance: data.instance(),
            shim_exe: exe.clone(),
            shim_arguments: vec!["shim".to_owned()],
            network: Arc::new(BuiltIn(network.clone())),
        })
        .await
        .context("opening the container runtime")?;
        let live = runtime.networked_sandboxes().into_iter().collect();
        network.reconcile(&live).await.context("taking stock of the pod network")?;
        image::pack_self(&runtime.images(), &exe)?;
        self.runtime = Some(runtime.clone());
        let runtime_service = RuntimeServiceServer::new(runtime.clone());
        Ok(tiphys_cri::Client::in_process(runtime_service, ImageServiceServer::new(runtime)))
    }

    fn start_network(
        &mut self,
        settings: &Settings,
        instance: Instance,
        range: Ipv4Net,
        network: Arc<PodNetwork>,
    ) {
        let config = routes::Config {
            instance,
            node: self.node.clone(),
            pod_cidr: range,
            cluster_cidr: settings.pod_cidr,
        };
        let routing = routes::run(self.client(&Component::Proxy), config);
        self.spawn(async move {
            routing.await;
            Ok(())
        });
        let config = proxy::Config {
            instance,
            service_cidr: settings.service_cidr,
            pod_cidr: settings.pod_cidr,
            node: self.node.clone(),
            announced: settings.nodes.announced(),
        };
        let (client, stop) = (self.client(&Component::Proxy), self.stop.clone());
        self.tasks.spawn(async move {
            Proxy::run(client, config, stop.cancelled_owned()).await.context("running the service proxy")
        });
        let mut config = dns::Config::new(network.gateway());
        config.domain.clone_from(&settings.cluster_domain);
        config.service_ip = settings.dns_address();
        config.node.clone_from(&self.node);
        config.reverse = vec![settings.service_cidr.into(), settings.pod_cidr.into()];
        let (client, stop) = (self.client(&Component::Dns), self.stop.clone());
        // DNS may only read; its Service is one of the objects that the cluster starts with.
        let publisher = self.client(&Component::ApiServer);
        self.tasks.spawn(async move {
            dns::run(client, publisher, config, stop.cancelled_owned()).await.context("running DNS")
        });
        self.spawn(async move {
            network.keep().await;
            Ok(())
        });
    }

    /// Waits until a room fails, which none does by itself while the host is sound.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return error,
                Some(Err(error)) => {
                    return anyhow::Error::new(error).context("a room of the cluster stopped");
                }
                None => return anyhow::anyhow!("every room of the cluster has stopped"),
            }
        }
    }

    /// Ends every room in order, and the store last. Pods stay.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let rest = tokio::time::timeout(std::time::Duration::from_secs(10), async {
            // Until only the API is left: the others would tell how they lost it.
            while self.tasks.len() > 1 && self.tasks.join_next().await.is_some() {}
            self.server.stop();
            while self.tasks.join_next().await.is_some() {}
        });
        if rest.await.is_err() {
            tracing::warn!("some rooms did not stop in time");
            self.server.stop();
        }
        self.tasks.shutdown().await;
        self.storage.close().await;
    }
}

/// Lets go of what an earlier run of this cluster had for good.
async fn leave(election: Election) {
    let lease = election.name.clone();
    if let Err(error) = election.leave().await {
        tracing::warn!(lease, %error, "the lease could not be left to others");
    }
}

/// A client whose requests are counted as those to `host`.
fn connect(server: &ApiServer, host: &Arc<str>, component: &Component) -> Client {
    Client::new(Counted::new(server.connector(component), Arc::clone(host)), "default")
}
