//! What large clusters ask of the control loops, beside scheduling pod by pod: a large Deployment, memory with all nodes
//! full, a large namespace that goes, and how soon a loop answers while much changes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use crate::{
    api::wire::{Wire, create, delete, patch},
    idle, objects,
    scheduling::{Clients, PATIENCE, Tell, until_bound},
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
    clients: &Clients,
    nodes: usize,
    only: &str,
    servers: &[u32],
    tell: &mut Tell<'_>,
) -> Result<()> {
    if "deployment".starts_with(only) {
        deployment(clients, nodes, tell).await.context("a large Deployment")?;
    }
    if "namespace".starts_with(only) {
        namespace(clients, tell).await.context("a namespace that goes")?;
    }
    if "reconcile".starts_with(only) {
        reconcile(clients, tell).await.context("how soon a loop answers")?;
    }
    if "memory".starts_with(only) && !servers.is_empty() {
        memory(clients, nodes, servers, tell).await.context("memory")?;
    }
    Ok(())
}

/// Deletes a namespace; the time until it is gone.
async fn remove(clients: &Clients, namespace: &str) -> Result<Duration> {
    let begun = Instant::now();
    let path = format!("/api/v1/namespaces/{namespace}");
    let mut wire = clients.wire();
    wire.ask(delete(&path)).await.context("deleting it")?;
    while wire.knows(&path).await.context("looking whether it is there")? {
        if begun.elapsed() > PATIENCE {
            bail!("{namespace} does not go");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(begun.elapsed())
}

async fn deployment(clients: &Clients, nodes: usize, tell: &mut Tell<'_>) -> Result<()> {
    let namespace = "bench-deployment";
    objects::namespace(&clients.kube, namespace).await?;
    objects::accepts_pods(&clients.kube, namespace).await?;
    let replicas = (REPLICAS * nodes / 5_000).max(1);
    let mut large = objects::deployment("large", 0);
    large["spec"]["replicas"] = json!(replicas);
    large["spec"]["paused"] = json!(false);
    large["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(0);
    large["spec"]["template"]["spec"]["automountServiceAccountToken"] = json!(false);
    let bound = Default::default();
    let begun = Instant::now();
    let collection = format!("{DEPLOYMENT_PATH}/{namespace}/deployments");
    clients.wire().ask(create(&collection, &large)).await.context("creating it")?;
    let all = until_bound(clients, namespace, "bench", replicas, &bound);
    let Ok(done) = tokio::time::timeout(PATIENCE, all).await else {
        bail!("{} of {replicas} pods were bound in time", bound.into_inner());
    };
    done?;
    let name = format!("a Deployment of {replicas}, created to all scheduled, {nodes} nodes");
    tell(measure(name, "s", Goal::Part(0.2)), begun.elapsed().as_secs_f64());
    remove(clients, namespace).await.map(drop)
}

async fn namespace(clients: &Clients, tell: &mut Tell<'_>) -> Result<()> {
    let namespace = "bench-namespace";
    objects::namespace(&clients.kube, namespace).await?;
    let collection = format!("/api/v1/namespaces/{namespace}/configmaps");
    let make = async |wire: &mut Wire, n: usize| {
        let object = objects::config_map(&format!("object-{n}"));
        wire.ask(create(&collection, &object)).await.context("creating an object").map(drop)
    };
    clients.each(OBJECTS, make).await?;
    let took = remove(clients, namespace).await?;
    let name = format!("a namespace of {OBJECTS} objects, deleted to gone");
    tell(measure(name, "s", Goal::Part(0.2)), took.as_secs_f64());
    Ok(())
}

/// Of a Deployment, what tells whether its loop has seen it.
#[derive(Deserialize)]
struct Deployment {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    generation: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: i64,
}

#[derive(Deserialize)]
struct Event {
    object: Deployment,
}

/// Which generations were asked for, and when a watch has told that their loop has seen them. Either may come first:
/// the loop can be faster than the answer to the client.
#[derive(Default)]
struct Answers {
    open: BTreeMap<(String, i64), Instant>,
    observed: BTreeMap<String, (i64, Instant)>,
    /// Milliseconds.
    took: Vec<f64>,
}

impl Answers {
    fn asked(&mut self, name: String, generation: i64, at: Instant) {
        match self.observed.get(&name) {
            Some((observed, when)) if *observed >= generation => {
                self.took.push(when.saturating_duration_since(at).as_secs_f64() * 1e3);
            }
            _ => drop(self.open.insert((name, generation), at)),
        }
    }

    fn observed(&mut self, name: String, generation: i64) {
        let now = Instant::now();
        let answered = (name.clone(), generation + 1);
        let mut rest = self.open.split_off(&(name.clone(), 0));
        let later = rest.split_off(&answered);
        self.took.extend(rest.into_values().map(|at| now.saturating_duration_since(at).as_secs_f64() * 1e3));
        self.open.extend(later);
        match self.observed.get_mut(&name) {
            Some(known) if known.0 >= generation => {}
            Some(known) => *known = (generation, now),
            None => drop(self.observed.insert(name, (generation, now))),
        }
    }
}

/// From the request to change a Deployment's spec until a watch tells that its controller has seen it: the change's
/// event, the loop's turn, and the write of its status.
async fn reconcile(clients: &Clients, tell: &mut Tell<'_>) -> Result<()> {
    let namespace = "bench-reconcile";
    objects::namespace(&clients.kube, namespace).await?;
    let path = format!("{DEPLOYMENT_PATH}/{namespace}/deployments");
    let make = async |wire: &mut Wire, n: usize| {
        let object = objects::deployment(&format!("d-{n}"), 0);
        wire.ask(create(&path, &object)).await.context("creating a Deployment").map(drop)
    };
    clients.each(DEPLOYMENTS, make).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let answers: Mutex<Answers> = Mutex::default();
    let mut lines = clients.wire().follow(&format!("{path}?watch=1")).await?;
    let watch = async {
        while let Some(line) = lines.next(usize::MAX).await.context("watching Deployments")? {
            let Event { object } = serde_json::from_slice(line).context("reading an event")?;
            answers.lock().observed(object.metadata.name, object.status.observed_generation);
        }
        bail!("the watch of Deployments ended")
    };
    let changes = usize::try_from(CHANGES)? * usize::try_from(CHANGING.as_secs())?;
    let begun = Instant::now();
    let change = async |wire: &mut Wire, n: usize| {
        let due = begun + Duration::from_secs(1) * u32::try_from(n)? / CHANGES;
        tokio::time::sleep_until(due.into()).await;
        let name = format!("d-{}", n % DEPLOYMENTS);
        let change =
            patch(&format!("{path}/{name}"), &json!({"spec": {"minReadySeconds": n / DEPLOYMENTS + 1}}));
        let at = Instant::now();
        let answer = wire.read(change).await.context("changing a Deployment")?;
        let changed: Deployment = serde_json::from_slice(&answer).context("reading an answer")?;
        answers.lock().asked(name, changed.metadata.generation, at);
        Ok(())
    };
    let work = async {
        clients.each(changes, change).await?;
        let rate = changes as f64 / begun.elapsed().as_secs_f64();
        let patience = Instant::now() + Duration::from_secs(30);
        while !answers.lock().open.is_empty() && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(rate)
    };
    let rate = tokio::select! {
        rate = work => rate?,
        ended = watch => ended?,
    };
    let mut seen = answers.into_inner().took;
    seen.sort_by(f64::total_cmp);
    let at = |part: f64| seen.get((seen.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    tell(measure("changes of Deployments while loops are timed", "/s", Goal::None), rate);
    tell(measure("change of a Deployment to its loop's status, p50", "ms", Goal::None), at(0.5));
    tell(measure("change of a Deployment to its loop's status, p99", "ms", Goal::Under(50.)), at(0.99));
    remove(clients, namespace).await.map(drop)
}

async fn memory(clients: &Clients, nodes: usize, servers: &[u32], tell: &mut Tell<'_>) -> Result<()> {
    let empty = idle::memory(servers)?;
    tell(measure(format!("memory of the control plane, {nodes} nodes"), "MB", Goal::None), empty);
    let names: Vec<String> = (0..10).map(|n| format!("bench-memory-{n}")).collect();
    for name in &names {
        objects::namespace(&clients.kube, name).await?;
        objects::accepts_pods(&clients.kube, name).await?;
    }
    let pods = nodes * FULL;
    let make = async |wire: &mut Wire, n: usize| {
        let mut pod = objects::pod(&format!("pod-{n}"), true);
        pod["spec"]["nodeName"] = json!(format!("hollow-{}", n % nodes));
        pod["spec"]["automountServiceAccountToken"] = json!(false);
        let collection = objects::pods(&names[n % names.len()]);
        wire.ask(create(&collection, &pod)).await.context("creating a pod").map(drop)
    };
    clients.each(pods, make).await?;
    tokio::time::sleep(SETTLED).await;
    let name = format!("memory of the control plane, {nodes} nodes and {pods} pods");
    tell(measure(name, "MB", Goal::Under(3_000.)), idle::memory(servers)?);
    try_join_all(names.iter().map(|name| remove(clients, name))).await.map(drop)
}
