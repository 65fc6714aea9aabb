//! What large clusters ask of the control loops, beside scheduling pod by pod: a large Deployment, memory with all nodes
//! full, a large namespace that goes, and how soon a loop answers while much changes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, future::try_join_all, pin_mut};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    idle, objects,
    scheduling::{PATIENCE, Tell, each, until_bound},
    table::{Goal, measure},
};

const REPLICAS: usize = 10_000;
const OBJECTS: usize = 10_000;
/// Pods of each node when memory is measured: 150,000 on 5,000 nodes.
const FULL: usize = 30;
const CHANGES: u32 = 1_000;
const DEPLOYMENTS: usize = 500;
const CHANGING: Duration = Duration::from_secs(10);
/// After which memory is what it stays at.
const SETTLED: Duration = Duration::from_secs(10);

const DEPLOYMENT_PATH: &str = "/apis/apps/v1/namespaces";

/// Takes the measures whose names begin so; memory is that of the processes.
pub(crate) async fn measures(
    client: &Client,
    nodes: usize,
    only: &str,
    servers: &[u32],
    tell: &mut Tell<'_>,
) -> Result<()> {
    if "deployment".starts_with(only) {
        deployment(client, nodes, tell).await.context("a large Deployment")?;
    }
    if "namespace".starts_with(only) {
        namespace(client, tell).await.context("a namespace that goes")?;
    }
    if "reconcile".starts_with(only) {
        reconcile(client, tell).await.context("how soon a loop answers")?;
    }
    if "memory".starts_with(only) && !servers.is_empty() {
        memory(client, nodes, servers, tell).await.context("memory")?;
    }
    Ok(())
}

async fn post(client: &Client, path: &str, body: serde_json::Value) -> Result<()> {
    let request = objects::request("POST", path, body.to_string().into_bytes());
    client.request_text(request).await.map(drop).with_context(|| format!("creating at {path}"))
}

/// Deletes a namespace; the time until it is gone.
async fn remove(client: &Client, namespace: &str) -> Result<Duration> {
    let begun = Instant::now();
    let path = format!("/api/v1/namespaces/{namespace}");
    client.request_text(objects::request("DELETE", &path, Vec::new())).await.context("deleting it")?;
    loop {
        let asked = client.request_text(objects::request("GET", &path, Vec::new())).await;
        match asked {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(begun.elapsed()),
            Err(error) => return Err(error).context("looking whether it is there"),
            Ok(_) if begun.elapsed() > PATIENCE => bail!("{namespace} does not go"),
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn deployment(client: &Client, nodes: usize, tell: &mut Tell<'_>) -> Result<()> {
    let namespace = "bench-deployment";
    objects::namespace(client, namespace).await?;
    objects::accepts_pods(client, namespace).await?;
    let replicas = (REPLICAS * nodes / 5_000).max(1);
    let mut large = objects::deployment("large", 0);
    large["spec"]["replicas"] = json!(replicas);
    large["spec"]["paused"] = json!(false);
    large["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(0);
    large["spec"]["template"]["spec"]["automountServiceAccountToken"] = json!(false);
    let bound = Default::default();
    let begun = Instant::now();
    post(client, &format!("{DEPLOYMENT_PATH}/{namespace}/deployments"), large).await?;
    let all = until_bound(client, namespace, "bench", replicas, &bound);
    let Ok(done) = tokio::time::timeout(PATIENCE, all).await else {
        bail!("{} of {replicas} pods were bound in time", bound.into_inner());
    };
    done?;
    let name = format!("a Deployment of {replicas}, created to all scheduled, {nodes} nodes");
    tell(measure(name, "s", Goal::Part(0.2)), begun.elapsed().as_secs_f64());
    remove(client, namespace).await.map(drop)
}

async fn namespace(client: &Client, tell: &mut Tell<'_>) -> Result<()> {
    let namespace = "bench-namespace";
    objects::namespace(client, namespace).await?;
    each(OBJECTS, async |n| {
        let object = objects::config_map(&format!("object-{n}"));
        client
            .request_text(objects::create(namespace, "configmaps", &object))
            .await
            .context("creating an object")?;
        Ok(())
    })
    .await?;
    let took = remove(client, namespace).await?;
    let name = format!("a namespace of {OBJECTS} objects, deleted to gone");
    tell(measure(name, "s", Goal::Part(0.2)), took.as_secs_f64());
    Ok(())
}

/// From the answer to a change of a Deployment's spec until a watch tells that its controller has seen it: the change's
/// event, the loop's turn, and the write of its status.
async fn reconcile(client: &Client, tell: &mut Tell<'_>) -> Result<()> {
    let namespace = "bench-reconcile";
    objects::namespace(client, namespace).await?;
    let path = format!("{DEPLOYMENT_PATH}/{namespace}/deployments");
    each(DEPLOYMENTS, async |n| post(client, &path, objects::deployment(&format!("d-{n}"), 0)).await).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // When each generation of each Deployment was asked for.
    let asked: Mutex<BTreeMap<(String, i64), Instant>> = Mutex::default();
    let seen: Mutex<Vec<f64>> = Mutex::default();
    let lock = || asked.lock();
    let watch = async {
        let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let changes = watcher::watcher(api, watcher::Config::default()).default_backoff().touched_objects();
        pin_mut!(changes);
        while let Some(change) = changes.next().await {
            let change = change.context("watching Deployments")?;
            let observed = change.status.and_then(|s| s.observed_generation).unwrap_or(0);
            let name = change.metadata.name.unwrap_or_default();
            let mut asked = lock();
            let older = asked.range((name.clone(), 0)..=(name, observed));
            let older: Vec<_> = older.map(|(key, at)| (key.clone(), at.elapsed())).collect();
            for (key, took) in older {
                asked.remove(&key);
                seen.lock().push(took.as_secs_f64() * 1e3);
            }
        }
        bail!("the watch of Deployments ended")
    };
    let changes = usize::try_from(CHANGES)? * usize::try_from(CHANGING.as_secs())?;
    let begun = Instant::now();
    let change = async |n: usize| {
        let due = begun + Duration::from_secs(1) * u32::try_from(n)? / CHANGES;
        tokio::time::sleep_until(due.into()).await;
        let name = format!("d-{}", n % DEPLOYMENTS);
        let patch = json!({"spec": {"minReadySeconds": n / DEPLOYMENTS + 1}}).to_string().into_bytes();
        let mut request = objects::request("PATCH", &format!("{path}/{name}"), patch);
        let merge = http::HeaderValue::from_static("application/merge-patch+json");
        request.headers_mut().insert(http::header::CONTENT_TYPE, merge);
        let at = Instant::now();
        let changed: Deployment = client.request(request).await.context("changing a Deployment")?;
        lock().insert((name, changed.metadata.generation.unwrap_or(0)), at);
        Ok(())
    };
    let work = async {
        each(changes, change).await?;
        let rate = changes as f64 / begun.elapsed().as_secs_f64();
        let patience = Instant::now() + Duration::from_secs(30);
        while !lock().is_empty() && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(rate)
    };
    let rate = tokio::select! {
        rate = work => rate?,
        ended = watch => ended?,
    };
    let mut seen = seen.into_inner();
    seen.sort_by(f64::total_cmp);
    let at = |part: f64| seen.get((seen.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    tell(measure("changes of Deployments while loops are timed", "/s", Goal::None), rate);
    tell(measure("change of a Deployment to its loop's status, p50", "ms", Goal::None), at(0.5));
    tell(measure("change of a Deployment to its loop's status, p99", "ms", Goal::Under(50.)), at(0.99));
    remove(client, namespace).await.map(drop)
}

async fn memory(client: &Client, nodes: usize, servers: &[u32], tell: &mut Tell<'_>) -> Result<()> {
    let empty = idle::memory(servers)?;
    tell(measure(format!("memory of the control plane, {nodes} nodes"), "MB", Goal::None), empty);
    let names: Vec<String> = (0..10).map(|n| format!("bench-memory-{n}")).collect();
    for name in &names {
        objects::namespace(client, name).await?;
        objects::accepts_pods(client, name).await?;
    }
    let pods = nodes * FULL;
    each(pods, async |n| {
        let mut pod = objects::pod(&format!("pod-{n}"), true);
        pod["spec"]["nodeName"] = json!(format!("hollow-{}", n % nodes));
        pod["spec"]["automountServiceAccountToken"] = json!(false);
        let namespace = &names[n % names.len()];
        client.request_text(objects::create(namespace, "pods", &pod)).await.context("creating a pod")?;
        Ok(())
    })
    .await?;
    tokio::time::sleep(SETTLED).await;
    let name = format!("memory of the control plane, {nodes} nodes and {pods} pods");
    tell(measure(name, "MB", Goal::Under(3_000.)), idle::memory(servers)?);
    try_join_all(names.iter().map(|name| remove(client, name))).await.map(drop)
}
