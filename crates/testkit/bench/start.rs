//! From the start of the first process until a client sees the node Ready.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    side::Side,
    table::{Goal, Measure, measure, p50},
};

const RUNS: usize = 5;
/// How often the client looks: finer than what is told.
const GLANCE: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(180);

/// Starts with an empty data directory, several times; the last cluster goes on.
pub(crate) async fn empty(side: &mut dyn Side, tell: &mut impl FnMut(Measure, f64)) -> Result<Client> {
    let (mut client, first) = timed(side).await?;
    let mut samples = vec![first];
    for _ in 1..RUNS {
        side.wipe()?;
        let sample;
        (client, sample) = timed(side).await?;
        samples.push(sample);
    }
    tell(
        measure("process start to node Ready, data directory empty, p50", "ms", Goal::Under(1000.)),
        p50(&mut samples),
    );
    Ok(client)
}

/// Starts again after a crash, several times, with whatever runs on the cluster.
pub(crate) async fn existing(side: &mut dyn Side, tell: &mut impl FnMut(Measure, f64)) -> Result<()> {
    let mut samples = Vec::new();
    for _ in 0..RUNS {
        side.kill()?;
        samples.push(timed(side).await?.1);
    }
    tell(
        measure("process start to node Ready, data directory existing, p50", "ms", Goal::Under(500.)),
        p50(&mut samples),
    );
    Ok(())
}

/// Starts once.
pub(crate) async fn once(side: &mut dyn Side) -> Result<Client> {
    Ok(timed(side).await?.0)
}

/// Starts again with what is stored; the milliseconds until it answers.
pub(crate) async fn again(side: &mut dyn Side) -> Result<f64> {
    Ok(timed(side).await?.1)
}

/// A client of the cluster that is ready, and the milliseconds that it took.
async fn timed(side: &mut dyn Side) -> Result<(Client, f64)> {
    let (since, begun) = (SystemTime::now(), Instant::now());
    side.start()?;
    let mut client = None;
    let mut last = None;
    while begun.elapsed() < PATIENCE {
        if client.is_none() {
            client = connect(side).await.ok();
        }
        if let Some(client) = &client {
            let ready = if side.has_node() { node_ready(client, since).await } else { serves(client).await };
            match ready {
                Ok(true) => return Ok((client.clone(), begun.elapsed().as_secs_f64() * 1e3)),
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
        }
        tokio::time::sleep(GLANCE).await;
    }
    bail!("{} was not ready within {} s: {last:?}", side.name(), PATIENCE.as_secs())
}

async fn connect(side: &dyn Side) -> Result<Client> {
    client(&side.kubeconfig()).await
}

/// A client of any server.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn serves(client: &Client) -> Result<bool> {
    let request = http::Request::get("/readyz").body(Vec::new())?;
    Ok(client.request_text(request).await? == "ok")
}

/// Whether the one node is Ready by the word of a kubelet that has renewed its lease since: what an earlier one
/// has said stays in the store.
async fn node_ready(client: &Client, since: SystemTime) -> Result<bool> {
    let nodes = Api::<Node>::all(client.clone()).list(&Default::default()).await?;
    let Some(node) = nodes.items.first() else { return Ok(false) };
    let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
    if !ready {
        return Ok(false);
    }
    let name = node.metadata.name.as_deref().context("a node without a name")?;
    let lease = Api::<Lease>::namespaced(client.clone(), "kube-node-lease").get(name).await?;
    let renewed = lease.spec.and_then(|spec| spec.renew_time);
    Ok(renewed.is_some_and(|time| SystemTime::from(time.0) >= since))
}
