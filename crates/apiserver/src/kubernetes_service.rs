//! The Service `default/kubernetes`, by which pods reach the API server, and what stands behind it.
//!
//! Servers that share a store keep a record there each, which goes when its server does not renew it; all of them stand
//! behind the Service, and each sees to that.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tiphys_api::meta;
use tiphys_api::status::{Reason, Status};
use tiphys_store::{Change, Expect, Key, Outcome, Range, Store, Write};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::registry::{Call, Registry, Updating};

/// What the records of servers are named, before their addresses.
const SERVERS: &str = "/apiservers/";
/// How long a server counts that says nothing more, and how often it says something; upstream's times.
const LIFE: Duration = Duration::from_secs(15);
const RENEWAL: Duration = Duration::from_secs(10);

/// The Service or its endpoints could not be written.
#[derive(Debug, thiserror::Error)]
#[error("making {resource} default/kubernetes: {status}")]
pub struct Error {
    resource: &'static str,
    status: Status,
}

/// Where the API server is reached from inside the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The cluster IP of the Service.
    pub service: IpAddr,
    /// What stands behind it.
    pub server: SocketAddr,
    /// What the server's keys are known by: the SHA-256 of the cluster's authority.
    pub keys: [u8; 32],
}

/// Makes the Service unless it exists, and puts this server behind it, with `others`.
///
/// # Errors
/// A write failed.
pub async fn publish(registry: &Registry, place: Place, others: &[SocketAddr]) -> Result<(), Error> {
    set(registry, "", "services", service(place), false).await?;
    if place.server.ip().is_loopback() {
        // Nothing in the cluster could reach it there, and no endpoint may say so.
        return Ok(());
    }
    let mut servers = [&[place.server], others].concat();
    servers.sort_unstable();
    servers.dedup();
    set(registry, "", "endpoints", endpoints(&servers), true).await?;
    set(registry, "discovery.k8s.io", "endpointslices", slice(&servers), true).await
}

/// Another server that is there with other keys: neither could read the other's Secrets, nor would it believe whom the
/// other vouches for.
///
/// # Errors
/// The store can't be asked.
pub(crate) async fn stranger(
    store: &dyn Store,
    place: Place,
) -> Result<Option<SocketAddr>, tiphys_store::Error> {
    let servers = servers(store).await?;
    let mut others = servers.into_iter().filter(|(server, _)| *server != place.server);
    // Earlier releases wrote nothing there.
    Ok(others.find(|(_, keys)| !keys.is_empty() && **keys != place.keys).map(|(server, _)| server))
}

/// The servers that are there, and what their keys are known by.
async fn servers(store: &dyn Store) -> Result<Vec<(SocketAddr, Bytes)>, tiphys_store::Error> {
    let page = store.range(Range { prefix: SERVERS.to_owned(), ..Range::default() }, None).await?;
    let address = |key: &Key| key.as_str()[SERVERS.len()..].parse().ok();
    Ok(page.records.into_iter().filter_map(|record| Some((address(&record.key)?, record.value))).collect())
}

/// Says that this server is there, and learns which are.
///
/// # Errors
/// The store can't be asked.
pub(crate) async fn meet(store: &dyn Store, place: Place) -> Result<Vec<SocketAddr>, tiphys_store::Error> {
    let key = Key::new(format!("{SERVERS}{}", place.server));
    let expect = store.get(&key).await?.map_or(Expect::Absent, |record| Expect::At(record.revision));
    let change = Change::Put { value: Bytes::copy_from_slice(&place.keys), ttl: Some(LIFE) };
    match store.commit(vec![Write { key, expect, change, note: None }]).await? {
        // It has gone just now, and is there again with the next renewal.
        Outcome::Committed(_) | Outcome::Conflict { .. } => {}
    }
    Ok(servers(store).await?.into_iter().map(|(server, _)| server).collect())
}

/// Keeps this server and those that share its store behind the Service, until `stop`.
pub(crate) async fn stay(registry: Arc<Registry>, place: Place, stop: CancellationToken) {
    let mut ticks = interval(RENEWAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // A store that is away is away for all of them; the next round finds it.
        match meet(&**registry.store(), place).await {
            Ok(servers) => {
                if let Err(error) = publish(&registry, place, &servers).await {
                    tracing::warn!(%error, "standing behind the Service of the API");
                }
            }
            Err(error) => tracing::warn!(%error, "meeting the other API servers"),
        }
    }
}

/// Writes an object; one that exists keeps its metadata, and is left alone unless `replace`.
async fn set(
    registry: &Registry,
    group: &str,
    resource: &'static str,
    mut object: Value,
    replace: bool,
) -> Result<(), Error> {
    let failed = |status| Error { resource, status };
    let kinds = registry.kinds();
    let kind = kinds
        .group_resource(group, resource)
        .ok_or_else(|| failed(Status::new(Reason::NotFound, "the kind is not served")))?;
    let call = Call::own(kind, "v1", "default", "kubernetes");
    object["kind"] = kind.kind.as_ref().into();
    (kind.hooks.default)("v1", &mut object);
    let mut make = |live: Option<&Value>| {
        let Some(live) = live else { return Ok(object.clone()) };
        if !replace {
            return Ok(live.clone());
        }
        let mut new = object.clone();
        new["metadata"] = live["metadata"].clone();
        for (key, value) in meta::labels(&object).into_iter().flatten() {
            new["metadata"]["labels"][key] = value.clone();
        }
        Ok(new)
    };
    let updating = Updating { rules: kind.hooks.update, create: true, make: &mut make };
    registry.update(&call, updating).await.map(|_| ()).map_err(failed)
}

fn service(place: Place) -> Value {
    json!({
        "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": place.service.to_string(),
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": place.server.port()}],
        },
    })
}

fn port(number: u16) -> Value {
    json!({"name": "https", "protocol": "TCP", "port": number})
}

fn endpoints(servers: &[SocketAddr]) -> Value {
    let mut by_port: BTreeMap<u16, Vec<Value>> = BTreeMap::new();
    for server in servers {
        by_port.entry(server.port()).or_default().push(json!({"ip": server.ip().to_string()}));
    }
    let subset =
        |(number, addresses): (u16, Vec<Value>)| json!({"addresses": addresses, "ports": [port(number)]});
    json!({
        "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": by_port.into_iter().map(subset).collect::<Vec<_>>(),
    })
}

/// Of the servers those that are like the first: a slice has one port and one family.
fn slice(servers: &[SocketAddr]) -> Value {
    let Some(first) = servers.first() else { return Value::Null };
    let alike = servers.iter().filter(|s| s.port() == first.port() && s.is_ipv4() == first.is_ipv4());
    let endpoint = |s: &SocketAddr| json!({"addresses": [s.ip().to_string()], "conditions": {"ready": true}});
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if first.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": alike.map(endpoint).collect::<Vec<_>>(),
        "ports": [port(first.port())],
    })
}

#[cfg(test)]
#[path = "kubernetes_service_tests.rs"]
mod tests;
