//! Keeping the kernel in step with the API.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use ipnet::Ipv4Net;
use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use kube::{Api, Client, runtime::watcher};
use parking_lot::Mutex;
use tiphys_client::{Informer, ObjectKey, Reader};
use tokio::{sync::Notify, time::Instant};

use super::{
    health,
    model::{Node, SERVICE_LABEL, Service, Slice},
    plan::{self, Frontend},
    state::State,
    table,
    topology::Place,
};
use crate::{
    announce,
    bridge::Protocol,
    instance::Instance,
    netfilter::{self, Batch, Monitor, Socket, conntrack},
};

/// What one node's proxy is made from.
#[derive(Clone, Debug)]
pub struct Config {
    pub instance: Instance,
    /// Addresses in it that no service has are refused.
    pub service_cidr: Ipv4Net,
    /// All nodes' pods: clients in the cluster.
    pub pod_cidr: Ipv4Net,
    /// The node's name as endpoints carry it, for traffic policies and hints.
    pub node: String,
    /// Of the load balancers' addresses, those that are announced in the links that they belong to. What no service has of
    /// them is refused.
    pub announced: Vec<RangeInclusive<Ipv4Addr>>,
}

/// Why the proxy could not start. Failures later on are logged and made up for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("service proxy: {0}")]
    Netfilter(#[from] netfilter::Error),
}

/// How long a table that the kernel refused, or that somebody flushed, waits for the next try.
const RETRY: Duration = Duration::from_secs(1);

/// The proxy of one node over its table. [`Proxy::run`] is the whole of it; the steps are there to be driven by
/// hand, without an API.
#[derive(Debug)]
pub struct Proxy {
    config: Config,
    socket: Arc<Mutex<Socket>>,
    state: State,
}

impl Proxy {
    /// A proxy of the network namespace that this thread is in. Leaves the kernel alone as yet.
    pub fn new(config: Config) -> Result<Proxy, Error> {
        let state = State::new(config.announced.clone());
        Ok(Proxy { config, socket: Arc::new(Mutex::new(Socket::open()?)), state })
    }

    /// Follows the API until `shutdown` completes. The table stays in force after that, as pods run on; it is
    /// [`crate::cleanup`]'s to remove.
    pub async fn run(
        client: Client,
        config: Config,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let proxy = Proxy::new(config)?;
        let table = proxy.config.instance.service_table();
        let monitor = {
            let socket = proxy.socket.lock();
            Monitor::open(&socket, table)?
        };
        let dirty = Arc::new(Dirty::default());
        let mut services = Informer::new(
            Api::<v1::Service>::all(client.clone()),
            watcher::Config::default(),
            Service::project,
        );
        let mut slices = Informer::new(
            Api::<discovery::EndpointSlice>::all(client.clone()),
            watcher::Config::default().labels(SERVICE_LABEL),
            Slice::project,
        )
        .index(BY_SERVICE, |slice: &Slice| slice.service.iter().map(ToString::to_string).collect());
        // Who announces has to know who else could.
        let own = format!("metadata.name={}", proxy.config.node);
        let nodes = match proxy.config.announced.is_empty() {
            true => watcher::Config::default().fields(&own),
            false => watcher::Config::default(),
        };
        let mut nodes = Informer::new(Api::<v1::Node>::all(client), nodes, Node::project);
        let cluster = Cluster { services: services.reader(), slices: slices.reader(), nodes: nodes.reader() };
        let balanced = Arc::new(announce::Balanced::default());
        services.on_change({
            let (dirty, balanced) = (dirty.clone(), balanced.clone());
            move |change| {
                dirty.mark([change.key.clone()]);
                balanced.service(change);
            }
        });
        slices.on_change({
            let (dirty, balanced) = (dirty.clone(), balanced.clone());
            move |change| {
                let touched = change.old.iter().chain(&change.new).filter_map(|slice| slice.service.clone());
                dirty.mark(touched);
                balanced.slice(change);
            }
        });
        nodes.on_change({
            let (dirty, balanced) = (dirty.clone(), balanced.clone());
            move |change| {
                let zone = |node: &Option<Arc<Node>>| node.as_ref().and_then(|node| node.zone.clone());
                if zone(&change.old) != zone(&change.new) {
                    dirty.mark([]);
                }
                balanced.node(change);
            }
        });
        let (node, ranges) = (proxy.config.node.clone(), proxy.config.announced.clone());
        tokio::select! {
            () = services.run() => {}
            () = slices.run() => {}
            () = nodes.run() => {}
            () = shutdown => {}
            () = announce::run(&cluster, &node, &ranges, &balanced) => {}
            () = proxy.follow(&cluster, &dirty, &monitor) => {}
        }
        Ok(())
    }

    async fn follow(mut self, cluster: &Cluster, dirty: &Dirty, monitor: &Monitor) {
        cluster.synced().await;
        let (mut zone, mut checks) = (None, health::Checks::default());
        // Whether the kernel's table must be made afresh from the state, and the earliest time for it.
        let (mut afresh, mut next) = (true, Instant::now());
        loop {
            if afresh {
                tokio::time::sleep_until(next).await;
                next = Instant::now() + RETRY;
            }
            let mut changed = dirty.take();
            let now = cluster.zone(&self.config.node);
            if now != zone {
                zone = now;
                changed.extend(self.state.services().map(|(key, _)| key.clone()));
            }
            for key in &changed {
                checks.set(key, cluster.asked(key, &self.config.node));
            }
            let place = Place { node: &self.config.node, zone: zone.as_deref() };
            let updates: Vec<Update> =
                changed.into_iter().map(|key| (key.clone(), cluster.routes(&key, place))).collect();
            let applied = match afresh {
                true => self.replace(updates).await,
                false => self.update(updates).await,
            };
            afresh = applied.is_err();
            checks.set_healthy(!afresh);
            if let Err(error) = applied {
                tracing::warn!(%error, "service rules were not applied; making the table afresh");
                continue;
            }
            tokio::select! {
                () = dirty.marked() => {}
                tampered = monitor.tampered() => {
                    match tampered {
                        Ok(()) => tracing::warn!("another program removed service rules; making them afresh"),
                        Err(error) => tracing::warn!(%error, "lost sight of the service rules; making them afresh"),
                    }
                    afresh = true;
                }
            }
        }
    }

    /// Takes up the services' new routes (none for a service that is gone) and replaces the whole table, atomically.
    pub async fn replace(&mut self, updates: Vec<Update>) -> Result<(), Error> {
        for (service, routes) in updates {
            self.state.replace(&service, routes);
        }
        let table = self.config.instance.service_table();
        let mut batch = Batch::new();
        table::skeleton(&mut batch, &table, self.config.service_cidr, self.config.pod_cidr);
        table::apply(&mut batch, &table, self.state.everything());
        let udp =
            self.state.services().flat_map(|(_, frontends)| frontends).copied().filter(is_udp).collect();
        self.commit(batch, udp).await
    }

    /// Takes up the services' new routes and changes the table by what differs, in one transaction.
    pub async fn update(&mut self, updates: Vec<Update>) -> Result<(), Error> {
        let table = self.config.instance.service_table();
        let mut batch = Batch::new();
        let mut udp = BTreeSet::new();
        for (service, routes) in updates {
            let frontends = self.state.frontends(&service).to_vec();
            let touched: Vec<Frontend> = frontends.into_iter().chain(routes.keys().copied()).collect();
            let changes = self.state.replace(&service, routes);
            if !changes.is_empty() {
                udp.extend(touched.into_iter().filter(is_udp));
            }
            table::apply(&mut batch, &table, changes);
        }
        self.commit(batch, udp).await
    }

    /// Commits, and forgets UDP connections to these frontends whose endpoints are not theirs any more.
    async fn commit(&self, batch: Batch, udp: BTreeSet<Frontend>) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let routes: BTreeMap<Frontend, Vec<SocketAddrV4>> = udp
            .into_iter()
            .map(|frontend| {
                let route = self.state.route(&frontend);
                (frontend, route.into_iter().flat_map(plan::Route::endpoints).copied().collect())
            })
            .collect();
        let socket = self.socket.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut socket = socket.lock();
            socket.commit(batch)?;
            if !routes.is_empty() {
                conntrack::forget(&socket, |flow| stale(flow, &routes))?;
            }
            Ok::<(), netfilter::Error>(())
        });
        match work.await {
            Ok(outcome) => Ok(outcome?),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// A service and where its addresses lead from now on.
pub type Update = (ObjectKey, BTreeMap<Frontend, plan::Route>);

const BY_SERVICE: &str = "service";

/// What is known of the cluster.
pub(crate) struct Cluster {
    pub(crate) services: Reader<Service>,
    pub(crate) slices: Reader<Slice>,
    pub(crate) nodes: Reader<Node>,
}

impl Cluster {
    pub(crate) async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
        self.nodes.synced().await;
    }

    fn zone(&self, node: &str) -> Option<Box<str>> {
        self.nodes.get(&ObjectKey::new("", node)).and_then(|node| node.zone.clone())
    }

    pub(crate) fn slices_of(&self, key: &ObjectKey) -> Vec<Arc<Slice>> {
        self.slices.indexed(BY_SERVICE, &key.to_string())
    }

    fn routes(&self, key: &ObjectKey, place: Place<'_>) -> BTreeMap<Frontend, plan::Route> {
        let Some(service) = self.services.get(key) else { return BTreeMap::new() };
        plan::routes(&service, &self.slices_of(key), place)
    }

    /// What load balancers may ask here about the service.
    fn asked(&self, key: &ObjectKey, node: &str) -> Option<health::Wanted> {
        let port = self.services.get(key)?.health_port?;
        Some(health::Wanted { port, endpoints: plan::ready_here(&self.slices_of(key), node) })
    }
}

/// The services that changed since the last look.
#[derive(Default)]
struct Dirty {
    services: Mutex<BTreeSet<ObjectKey>>,
    notify: Notify,
}

impl Dirty {
    fn mark(&self, services: impl IntoIterator<Item = ObjectKey>) {
        self.services.lock().extend(services);
        self.notify.notify_one();
    }

    fn take(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.services.lock())
    }

    async fn marked(&self) {
        self.notify.notified().await;
    }
}

fn is_udp(frontend: &Frontend) -> bool {
    frontend.protocol == Protocol::Udp
}

/// Whether the connection goes to one of the frontends, but is not answered by one of its endpoints. On a node port
/// only a connection that was redirected counts: any other may be of a different address than the node's.
fn stale(flow: &conntrack::Flow, routes: &BTreeMap<Frontend, Vec<SocketAddrV4>>) -> bool {
    if flow.protocol != Protocol::Udp.number() {
        return false;
    }
    let at = |address| Frontend { address, protocol: Protocol::Udp, port: flow.destination.port() };
    let redirected = flow.endpoint != flow.destination;
    let endpoints = routes
        .get(&at(*flow.destination.ip()))
        .or_else(|| routes.get(&at(std::net::Ipv4Addr::UNSPECIFIED)).filter(|_| redirected));
    endpoints.is_some_and(|endpoints| !endpoints.contains(&flow.endpoint))
}

/// Removes the instance's table, whichever process made it.
pub(crate) fn cleanup(instance: Instance) -> Result<(), netfilter::Error> {
    let mut batch = Batch::new();
    batch.remove_table(&instance.service_table());
    Socket::open()?.commit(batch)
}
