//! DNS for the cluster, answered by this process.
//!
//! Names of the cluster come from Services and EndpointSlices ([`zone`], pure); everything else is asked of the host's
//! name servers ([`forward`]). The server listens on an address of this node that pods reach, the bridge's with the
//! built-in pod network; [`publish`] makes the `kube-dns` Service with that address as its endpoint, so that the
//! service proxy carries questions here from pods and from the node alike.

pub mod forward;
pub mod model;
mod publish;
pub mod serve;
mod wire;
pub mod zone;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use kube::{Api, Client, runtime::watcher};
use tiphys_client::{Informer, ObjectKey, Reader};

use self::{
    forward::Forwarder,
    model::{Kind, Service, Slice},
    serve::{Listener, Server},
    zone::{Catalog, Zone},
};
use crate::proxy::model::SERVICE_LABEL;

pub use publish::publish;

/// What one node's DNS server is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's domain.
    pub domain: String,
    /// The cluster IP of the DNS service.
    pub service_ip: Ipv4Addr,
    /// Where to listen. Another port is taken if this one is held by somebody.
    pub listen: SocketAddrV4,
    /// This node's name.
    pub node: String,
    /// The ranges of services and pods: addresses in them are not asked of the host's name servers.
    pub reverse: Vec<IpNet>,
    /// Names the host's name servers.
    pub resolv_conf: PathBuf,
}

impl Config {
    /// The defaults of a cluster, listening on this address.
    pub fn new(listen: Ipv4Addr) -> Config {
        Config {
            domain: "cluster.local".to_owned(),
            service_ip: Ipv4Addr::new(10, 96, 0, 10),
            listen: SocketAddrV4::new(listen, 10_053),
            node: String::new(),
            reverse: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

/// Why the DNS server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{domain:?} is no domain name: {source}")]
    Domain { domain: String, source: hickory_proto::ProtoError },
    #[error("listening for DNS on {address}: {source}")]
    Listen { address: SocketAddrV4, source: io::Error },
}

/// How long a publication that failed waits for the next try.
const RETRY: Duration = Duration::from_secs(1);

/// Publishes the DNS service and answers questions until `shutdown` completes. Questions that come before the first
/// complete list of services wait for it.
///
/// `client` lists and watches services and slices, all that the role `system:coredns` allows. `publisher` is for
/// [`publish`] alone, which takes the right to write both kinds in kube-system.
pub async fn run(
    client: Client,
    publisher: Client,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let zone = Zone::new(&config.domain, config.reverse.clone())
        .map_err(|source| Error::Domain { domain: config.domain.clone(), source })?;
    let listener =
        Listener::bind(config.listen).map_err(|source| Error::Listen { address: config.listen, source })?;
    let address = listener.address();
    let ours = vec![IpAddr::V4(config.service_ip), IpAddr::V4(*config.listen.ip())];
    let forwarder = Forwarder::new(config.resolv_conf.clone(), ours);

    let services =
        Informer::new(Api::<v1::Service>::all(client.clone()), watcher::Config::default(), Keyed::service)
            .index(BY_ADDRESS, |service| match &service.object.kind {
                Kind::ClusterIp(addresses) => addresses.iter().map(ToString::to_string).collect(),
                _ => Vec::new(),
            });
    let slices = Informer::new(
        Api::<discovery::EndpointSlice>::all(client),
        watcher::Config::default().labels(SERVICE_LABEL),
        Slice::project,
    )
    .index(BY_SERVICE, |slice| slice.service.iter().map(ToString::to_string).collect())
    .index(BY_ADDRESS, |slice| slice.endpoints.iter().map(|e| e.address.to_string()).collect());
    let cluster = Cluster { services: services.reader(), slices: slices.reader() };

    let serve = async {
        cluster.services.synced().await;
        cluster.slices.synced().await;
        Server::new(zone, cluster, forwarder).serve(listener).await;
    };
    let announce = async {
        while let Err(error) =
            publish(publisher.clone(), &config, address).await.map_err(|error| error.to_string())
        {
            tracing::warn!(error, "publishing the DNS service");
            tokio::time::sleep(RETRY).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = services.run() => {}
        () = slices.run() => {}
        () = serve => {}
        () = announce => {}
        () = shutdown => {}
    }
    Ok(())
}

const BY_SERVICE: &str = "service";
const BY_ADDRESS: &str = "address";

/// A projection that still knows its object's identity.
#[derive(Debug)]
struct Keyed {
    key: ObjectKey,
    object: Arc<Service>,
}

impl Keyed {
    fn service(object: v1::Service) -> Keyed {
        Keyed { key: ObjectKey::of(&object.metadata), object: Arc::new(Service::project(object)) }
    }
}

struct Cluster {
    services: Reader<Keyed>,
    slices: Reader<Slice>,
}

impl Catalog for Cluster {
    fn service(&self, key: &ObjectKey) -> Option<Arc<Service>> {
        Some(self.services.get(key)?.object.clone())
    }

    fn slices(&self, key: &ObjectKey) -> Vec<Arc<Slice>> {
        self.slices.indexed(BY_SERVICE, &key.to_string())
    }

    fn has_namespace(&self, namespace: &str) -> bool {
        !self.services.list_in(namespace).is_empty()
    }

    fn services_at(&self, address: IpAddr) -> Vec<ObjectKey> {
        let found = self.services.indexed(BY_ADDRESS, &address.to_string());
        found.iter().map(|service| service.key.clone()).collect()
    }

    fn endpoints_at(&self, address: IpAddr) -> Vec<ObjectKey> {
        let found = self.slices.indexed(BY_ADDRESS, &address.to_string());
        found.iter().filter_map(|slice| slice.service.clone()).collect()
    }
}
