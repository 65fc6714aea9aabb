//! The API server: what it is made of, and the ways to reach it.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use tiphys_api::kind::Kinds;
use tiphys_pki::{ClientTrust, Leaf, Pki, ServingNames};
use tiphys_store::Store;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower_service::Service;

use crate::admission;
use crate::aggregation::Aggregation;
use crate::alloc::Services;
use crate::at_rest::Transformer;
use crate::audit::{self, Auditor};
use crate::authn::Others;
use crate::authz;
use crate::bootstrap;
use crate::cache::{self, Cache, Limits, Spec};
use crate::definitions::{self, Definitions};
use crate::fairness::{self, Fairness};
use crate::http::body::Body;
use crate::http::{Handler, listen};
use crate::identity::{Component, Identity};
use crate::kubernetes_service;
use crate::metrics::Metrics;
use crate::node_proxy::Nodes;
use crate::outgoing::Dial;
use crate::registry::claims::Claims;
use crate::registry::{Clock, Registry};
use crate::sealed::Sealed;
use crate::security::Security;
use crate::source::Source;
use crate::trace::{self, Tracer};

/// What an API server is started with.
pub struct Config {
    pub pki: Arc<Pki>,
    /// Names and addresses besides those that every API server has: the host's.
    pub names: Vec<String>,
    pub node_name: String,
    /// Such as `cluster.local`.
    pub domain: String,
    pub clock: Clock,
    /// The address that pods reach this server at, and its port.
    pub advertise: SocketAddr,
    /// The addresses that Services get; the first is the `kubernetes` Service's.
    pub service_range: IpNet,
    /// The ports that Services get on every node.
    pub node_ports: RangeInclusive<u16>,
    /// Serves the versions that upstream has removed, too.
    pub removed_apis: bool,
    /// Who else tells who somebody is.
    pub others: Others,
    /// Who is asked whether a user may do something.
    pub authorizers: authz::config::Config,
    /// What plug-ins of admission are told.
    pub admission: admission::config::Config,
    /// What is recorded of requests, and where.
    pub audit: audit::Config,
    /// Which requests are traced, and who is told; none if absent.
    pub trace: Option<trace::Config>,
    /// Others may serve the same store.
    pub shared: bool,
    /// Makes connections to webhooks and other API servers; if absent, TCP does.
    pub dial: Option<Arc<dyn Dial>>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading the stored definitions: {0}")]
    Definitions(#[source] tiphys_store::Error),
    #[error("loading the store into the cache: {0}")]
    Cache(#[source] cache::Error),
    #[error("preparing the server's certificate: {0}")]
    Pki(#[from] tiphys_pki::Error),
    #[error(transparent)]
    Security(#[from] crate::security::Error),
    #[error(transparent)]
    Bootstrap(#[from] bootstrap::Error),
    #[error("meeting the other API servers: {0}")]
    Servers(#[source] tiphys_store::Error),
    #[error(
        "the API server at {0} shares the store with this one and has other keys; start this one with a copy of its pki"
    )]
    Stranger(SocketAddr),
    #[error(transparent)]
    Service(#[from] kubernetes_service::Error),
    #[error(transparent)]
    Audit(#[from] audit::Error),
    #[error("the collector of traces: {0}")]
    Trace(#[source] crate::outgoing::SpecError),
}

/// A running API server. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    handler: Arc<Handler>,
    registry: Arc<Registry>,
    security: Arc<Security>,
    nodes: Arc<Nodes>,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
    /// Keeps the objects of priority and fairness.
    _keeper: Arc<AbortOnDropHandle<()>>,
}

impl ApiServer {
    /// Loads what is stored and makes what every cluster has. The server answers once [`Self::serve`] is given
    /// a listener, and in this process through [`Self::connector`].
    ///
    /// # Errors
    /// The store cannot be read, or no certificate be made.
    pub async fn start(config: Config, store: Arc<dyn Store>) -> Result<Self, Error> {
        let pki = &config.pki;
        let sealed = Sealed::new(store, Transformer::new(&pki.sealing));
        let stored = Arc::clone(sealed.counts());
        let store: Arc<dyn Store> = Arc::new(sealed);
        let service = first_host(&config.service_range);
        let keys = Sha256::digest(pki.cluster.pem()).into();
        let place = kubernetes_service::Place { service, server: config.advertise, keys };
        if config.shared {
            // Before anything of its own is written over theirs.
            let stranger = kubernetes_service::stranger(&*store, place).await.map_err(Error::Servers)?;
            stranger.map_or(Ok(()), |server| Err(Error::Stranger(server)))?;
        }
        let mut kinds = if config.removed_apis { Kinds::builtin() } else { Kinds::current() };
        let definitions = Definitions::restore(&*store, &mut kinds).await.map_err(Error::Definitions)?;
        let specs = kinds.iter().filter_map(|kind| Spec::of(kind)).collect();
        let cache = Cache::start(Arc::clone(&store), specs, Limits::default()).await.map_err(Error::Cache)?;
        let source: Arc<dyn Source> = Arc::clone(&cache) as _;

        let aggregated = Arc::clone(&source);
        let issuer = format!("https://kubernetes.default.svc.{}", config.domain);
        let clock = Arc::clone(&config.clock);
        let security =
            Security::new(pki, issuer, source, clock, config.others, config.authorizers, config.dial)?;
        let security = Arc::new(security);
        definitions.workshop.open(security.outgoing());
        let names = ServingNames {
            node: &config.node_name,
            domain: &config.domain,
            service_address: service,
            host_addresses: &[config.advertise.ip()],
            extra: &config.names,
        };
        // Clients look for a certificate by an authority that the server names.
        let hints = ClientTrust::new([pki.cluster.certificate(), pki.front_proxy.certificate()])?;
        let tls = tiphys_pki::server_config(pki.rotating(Leaf::apiserver(&names))?, &hints)?;
        let services = Services::new(config.service_range, config.node_ports);
        let claims = Claims::new(vec![Arc::new(services)]);
        let kinds = watch::Sender::new(Arc::new(kinds));
        let plugins = security.plugins(&kinds.subscribe(), &config.admission.pod_security);
        let (limited, clock) = (config.admission.limited, Arc::clone(&config.clock));
        let registry = Arc::new(Registry::new(kinds, store, cache, plugins, limited, claims, clock));
        bootstrap::run(&registry, &security, pki, config.service_range).await?;
        let others = match config.shared {
            true => kubernetes_service::meet(&**registry.store(), place).await.map_err(Error::Servers)?,
            false => Vec::new(),
        };
        kubernetes_service::publish(&registry, place, &others).await?;
        let certificate = pki.rotating(Leaf::kubelet_client())?;
        let to_nodes = tiphys_pki::client_config(pki.cluster.certificate(), Some(certificate))?;
        let nodes = Arc::new(Nodes::new(Arc::clone(registry.cache()), to_nodes));
        let stop = CancellationToken::new();
        if config.shared {
            // It ends with the token.
            let _task = tokio::spawn(kubernetes_service::stay(Arc::clone(&registry), place, stop.clone()));
        }
        // It ends with the token.
        let _task = tokio::spawn(definitions::run(Arc::clone(&registry), definitions, stop.clone()));
        let auditor = Auditor::new(config.audit, security.outgoing(), config.clock)?;
        let tracer = Tracer::new(config.trace, security.outgoing()).map_err(Error::Trace)?;
        let aggregation = Arc::new(Aggregation::new(aggregated, Arc::clone(security.outgoing())));
        aggregation.run(&registry, &stop);
        let fairness = Fairness::new();
        let seen = fairness::look(&fairness, &registry).await;
        let handler = Handler::new(
            Arc::clone(&registry),
            Arc::clone(&security),
            Arc::clone(&nodes),
            aggregation,
            (auditor, tracer),
            Arc::clone(&fairness),
            stop.clone(),
        );
        let keeper = tokio::spawn(fairness::keep(fairness, Arc::clone(&registry), seen, stop.clone()));
        let keeper = Arc::new(AbortOnDropHandle::new(keeper));
        let id = Sha256::digest(config.advertise.to_string());
        let id = format!("sha256:{id:x}");
        let counted = Arc::clone(&security);
        handler.metrics().add(Arc::new(move |text| counted.expose(&id, text)));
        handler.metrics().add(Arc::new(move |text| stored.expose(text)));
        Ok(Self { handler: Arc::new(handler), registry, security, nodes, tls, stop, _keeper: keeper })
    }

    /// Serves connections until [`Self::stop`]; returns once the last request is answered.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve(&self, listener: TcpListener) -> io::Result<()> {
        listen::serve(listener, Arc::clone(&self.tls), Arc::clone(&self.handler), self.stop.clone()).await
    }

    /// Waits until the server can't go on, because its store has ended, and tells why.
    pub async fn failed(&self) -> cache::Error {
        self.registry.cache().ended().await
    }

    /// Ends watches and streams, and takes no more connections.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Who is let in, and what they may do; both can be configured anew while the server runs.
    pub fn security(&self) -> &Arc<Security> {
        &self.security
    }

    /// The ways to nodes; add one for a node in this process.
    pub fn nodes(&self) -> &Arc<Nodes> {
        &self.nodes
    }

    /// What this server counts; other rooms of the process may add to what it shows.
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.handler.metrics()
    }

    #[cfg(test)]
    pub(crate) fn aggregation(&self) -> &Aggregation {
        self.handler.aggregation()
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// A way into this server for a component of this process, without a socket. The component is permitted
    /// what its identity has been granted, no more.
    pub fn connector(&self, component: &Component) -> Connector {
        Connector {
            handler: Arc::clone(&self.handler),
            identity: component.identity(),
            user_agent: HeaderValue::from_str(&component.user_agent()).ok(),
        }
    }
}

/// The first address of a range that a host can have.
fn first_host(range: &IpNet) -> IpAddr {
    range.hosts().next().unwrap_or_else(|| range.addr())
}

/// A `tower` service that `kube::Client::new` takes; see [`ApiServer::connector`].
#[derive(Clone)]
pub struct Connector {
    handler: Arc<Handler>,
    identity: Identity,
    user_agent: Option<HeaderValue>,
}

impl<B> Service<Request<B>> for Connector
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<crate::http::body::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        request.extensions_mut().insert(self.identity.clone());
        if let Some(agent) = &self.user_agent {
            request.headers_mut().entry(header::USER_AGENT).or_insert_with(|| agent.clone());
        }
        let handler = Arc::clone(&self.handler);
        Box::pin(async move { Ok(handler.handle(request).await) })
    }
}
