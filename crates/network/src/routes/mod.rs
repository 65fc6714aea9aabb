//! Routes to other nodes' pods, where nodes have a link in common (flannel calls that `host-gw`): the range of each node
//! is behind the node's address. Nothing is wrapped, so that pods see each other's addresses and the whole MTU.
//!
//! The routes have the [`Instance`] for a priority, by which [`cleanup`] finds them. They stay in force without this
//! process.

mod plan;

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use ipnet::Ipv4Net;
use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, runtime::watcher};
use serde::Deserialize;
use tiphys_client::{Informer, Reader, lean};
use tokio::{sync::Notify, time::sleep};

use self::plan::{Peer, wanted};
use crate::{
    instance::Instance,
    links::{self, Links},
    router::{self, Router},
};

/// What one node routes by.
#[derive(Clone, Debug)]
pub struct Config {
    pub instance: Instance,
    /// The node's own name.
    pub node: String,
    /// The range that the node's own pods have.
    pub pod_cidr: Ipv4Net,
    /// All nodes' pod ranges. Nothing else is routed.
    pub cluster_cidr: Ipv4Net,
}

/// Why routes are not as they should be. Tried again after a while.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("opening a route socket: {0}")]
    Open(#[source] std::io::Error),
    #[error(transparent)]
    Route(#[from] router::Error),
    #[error(transparent)]
    Links(#[from] links::Error),
}

/// Between two looks at nodes and links, which may change again and again, and before what failed is tried again.
const REST: Duration = Duration::from_secs(1);

/// A Node, as far as it is read here.
#[derive(Clone, Debug, Deserialize)]
struct Node {
    #[serde(default, deserialize_with = "lean::metadata::<lean::NoAnnotations, _>")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

tiphys_client::resource_of!(v1::Node, Node);

#[derive(Clone, Debug, Default, Deserialize)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Vec<Address>,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    address: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Node {
    fn project(self) -> Peer {
        let internal = self.status.addresses.iter().filter(|address| address.kind == "InternalIP");
        Peer {
            name: self.metadata.name.unwrap_or_default().into(),
            range: self.spec.pod_cidr.and_then(|range| range.parse().ok()),
            addresses: internal.filter_map(|address| address.address.parse().ok()).collect(),
        }
    }
}

/// Keeps the routes in step with the API until it is dropped.
pub async fn run(client: Client, config: Config) {
    let changed = Arc::new(Notify::new());
    let mut nodes = Informer::new(Api::<Node>::all(client), watcher::Config::default(), Node::project);
    let peers = nodes.reader();
    nodes.on_change({
        let changed = changed.clone();
        move |change| {
            if change.old != change.new {
                changed.notify_one();
            }
        }
    });
    let follow = async {
        peers.synced().await;
        loop {
            let Err(error) = follow(&config, &peers, &changed).await;
            tracing::warn!(%error, "the ways to other nodes' pods are not as they should be; trying again");
            sleep(REST).await;
        }
    };
    tokio::select! { () = nodes.run() => {}, () = follow => {} }
}

async fn follow(
    config: &Config,
    peers: &Reader<Peer>,
    changed: &Notify,
) -> Result<std::convert::Infallible, Error> {
    let (router, links) = (Router::here().map_err(Error::Open)?, Links::open()?);
    loop {
        let peers = peers.list();
        let ports = links::read()?;
        let networks = ports.values().flat_map(|port| &port.link.addresses);
        let wanted = wanted(&peers, config, &networks.copied().collect::<Vec<_>>());
        apply(&router, config.instance, &wanted).await?;
        // Links come and go with pods; they matter only to who has neighbours.
        let is_alone = peers.iter().all(|peer| *peer.name == *config.node);
        tokio::select! {
            () = changed.notified() => {}
            link = links.changed(), if !is_alone => link?,
        }
        sleep(REST).await;
    }
}

/// Makes the instance's routes those that are wanted.
async fn apply(
    router: &Router,
    instance: Instance,
    wanted: &BTreeMap<Ipv4Net, Ipv4Addr>,
) -> Result<(), router::Error> {
    let there = ours(router, instance).await?;
    for to in there.keys().filter(|to| !wanted.contains_key(to)) {
        router.forget(*to, instance.priority()).await?;
    }
    for (to, gateway) in wanted.iter().filter(|(to, gateway)| there.get(to) != Some(&Some(**gateway))) {
        router.via(*to, *gateway, instance.priority()).await?;
        tracing::info!(%to, via = %gateway, "routing to another node's pods");
    }
    Ok(())
}

async fn ours(
    router: &Router,
    instance: Instance,
) -> Result<BTreeMap<Ipv4Net, Option<Ipv4Addr>>, router::Error> {
    let routes = router.routes().await?;
    let ours = routes.into_iter().filter(|route| route.priority == instance.priority());
    Ok(ours.map(|route| (route.to, route.gateway)).collect())
}

/// Removes the instance's routes, whichever process made them.
pub(crate) async fn cleanup(router: &Router, instance: Instance) -> Result<(), router::Error> {
    apply(router, instance, &BTreeMap::new()).await
}
