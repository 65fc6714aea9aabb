//! `tiphys quickstart`: a cluster, an example application on it, and a look at both.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use indicatif::ProgressBar;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Node, Pod, Service},
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, TypeMeta},
    core::GroupVersionKind,
    runtime::{WatchStreamExt, wait::await_condition, watcher},
};
use tiphys_apiserver::identity::Component;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cluster::{Cluster, Rooms},
    data_dir::{self, DataDir},
    demo, down, kernel,
    settings::Settings,
    up::{is_ready, runtime, spinner},
};

const EXAMPLE: &str = include_str!("../../../examples/quickstart.yaml");
const NAMESPACE: &str = "quickstart";
/// No step takes this long on a sound host.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave the cluster's pods and data behind, to go on with.
    #[arg(long)]
    keep: bool,
    /// Where the cluster's state is kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tiphys-quickstart")]
    data_dir: PathBuf,
    #[command(flatten)]
    ranges: crate::settings::Ranges,
}

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let flag = data_dir::Flag { data_dir: arguments.data_dir };
    // Any free ports will do: nobody but this program uses them.
    let settings = Settings::new(flag.clone(), arguments.ranges, 0, 0);
    settings.check()?;
    kernel::preflight()?;
    let data = DataDir::make(&flag)?;
    let lock = data.lock()?;
    let shown = runtime()?.block_on(show(&settings, &data));
    if arguments.keep && shown.is_ok() {
        println!("kept; go on with: tiphys up --data-dir {}", data.path().display());
        return Ok(());
    }
    let removed = down::remove(&data);
    drop(lock);
    let deleted =
        std::fs::remove_dir_all(data.path()).with_context(|| format!("removing {}", data.path().display()));
    shown?;
    removed.context("cleaning up")?;
    deleted?;
    println!("cleaned up; keep the cluster next time with --keep");
    Ok(())
}

async fn show(settings: &Settings, data: &DataDir) -> Result<()> {
    let mut interrupted = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    let bar = spinner("starting the cluster");
    let begun = Instant::now();
    let mut cluster = Cluster::start(settings, data, Rooms::All).await?;
    let client = cluster.client(&Component::ApiServer);
    let tour = tour(settings, client, cluster.node().to_owned(), begun, &bar);
    let result = tokio::select! {
        result = tour => result,
        error = cluster.failed() => Err(error),
        _ = interrupted.recv() => Err(anyhow::anyhow!("interrupted")),
    };
    bar.finish_and_clear();
    cluster.stop().await;
    result
}

async fn tour(
    settings: &Settings,
    client: Client,
    node: String,
    begun: Instant,
    bar: &ProgressBar,
) -> Result<()> {
    let say = |text: String| bar.suspend(|| println!("{text}"));
    bar.set_message("waiting for the node");
    let nodes = Api::<Node>::all(client.clone());
    within("the node to be ready", await_condition(nodes, &node, is_ready(begun))).await??;
    say(format!("a cluster with node {node} is ready after {} ms", begun.elapsed().as_millis()));

    for object in apply(&client).await? {
        say(format!("applied {object}"));
    }
    bar.set_message("waiting for the web servers");
    within_or_why(&client, "the web servers to be ready", follow_deployment(&client, &say)).await?;

    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let service = services.get("web").await.context("reading the Service")?;
    let ip: IpAddr = service
        .spec
        .and_then(|s| s.cluster_ip)
        .context("the Service has no cluster IP")?
        .parse()
        .context("reading the Service's cluster IP")?;
    say(format!("through the Service's cluster IP {ip}:"));
    tell(visit_until_both(SocketAddr::new(ip, 80)).await?, &say);

    let name = format!("web.{NAMESPACE}.svc.{}", settings.cluster_domain);
    let server = SocketAddr::new(settings.dns_address().into(), 53);
    let resolved = {
        let name = name.clone();
        tokio::task::spawn_blocking(move || demo::lookup(server, &name)).await?
    };
    let resolved = resolved.with_context(|| format!("resolving {name} by the cluster's DNS at {server}"))?;
    ensure!(IpAddr::from(resolved) == ip, "{name} resolves to {resolved} and not to the cluster IP {ip}");
    say(format!("through its DNS name {name}:"));
    tell(visit_until_both(SocketAddr::new(resolved.into(), 80)).await?, &say);

    bar.set_message("waiting for the Job");
    within_or_why(&client, "the Job to complete", follow_job(&client, &say)).await?;
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let visitors = pods
        .list(&ListParams::default().labels("job-name=visitor"))
        .await
        .context("finding the Job's pod")?;
    let done = |p: &&Pod| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Succeeded");
    let visitor =
        visitors.iter().find(done).and_then(|p| p.metadata.name.clone()).context("the Job left no pod")?;
    let log = pods.logs(&visitor, &Default::default()).await.context("reading the Job's log")?;
    say("the Job's log:".to_owned());
    for line in log.lines() {
        say(format!("  {line}"));
    }
    Ok(())
}

async fn within<T>(what: &str, step: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, step)
        .await
        .with_context(|| format!("waited {} s for {what}", PATIENCE.as_secs()))
}

/// As [`within`]; an error tells what the example's pods wait for.
async fn within_or_why(client: &Client, what: &str, step: impl Future<Output = Result<()>>) -> Result<()> {
    let Err(error) = within(what, step).await.flatten() else { return Ok(()) };
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pods = pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
    let why: Vec<_> = pods.iter().filter_map(troubles).collect();
    Err(if why.is_empty() { error } else { error.context(why.join("\n")) })
}

/// Why a pod does not run as it should: what its containers wait for, or its conditions.
fn troubles(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waiting =
        status.container_statuses.iter().flatten().filter_map(|c| c.state.as_ref()?.waiting.as_ref());
    let waiting = waiting.map(|w| (w.reason.as_deref(), w.message.as_deref()));
    let conditions = status.conditions.iter().flatten().filter(|c| c.status != "True");
    let conditions = conditions.map(|c| (c.reason.as_deref(), c.message.as_deref()));
    let (reason, message) = waiting.chain(conditions).find(|(reason, _)| reason.is_some())?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Some(format!("pod {name}: {}: {}", reason?, message.unwrap_or("no more is known")))
}

fn tell(answers: BTreeMap<String, u32>, say: &impl Fn(String)) {
    for (answer, count) in answers {
        say(format!("  {count} x {answer}"));
    }
}

/// Applies the example as its own field manager; returns what was applied.
async fn apply(client: &Client) -> Result<Vec<String>> {
    let mut applied = Vec::new();
    for document in EXAMPLE.split("\n---\n") {
        let object: DynamicObject = serde_saphyr::from_str(document).context("reading the example")?;
        let TypeMeta { api_version, kind } = object.types.clone().context("the example names no kind")?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let name = object.metadata.name.clone().unwrap_or_default();
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let label = format!("{}/{name}", resource.plural);
        api.patch(&name, &PatchParams::apply("quickstart"), &Patch::Apply(&object))
            .await
            .with_context(|| format!("applying {label}"))?;
        applied.push(label);
    }
    Ok(applied)
}

async fn follow_deployment(client: &Client, say: &impl Fn(String)) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let mut changes = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
    let mut told = None;
    while let Some(deployment) = changes.try_next().await.context("watching the Deployment")? {
        let ready = deployment.status.and_then(|s| s.ready_replicas).unwrap_or(0);
        if told.replace(ready) != Some(ready) {
            say(format!("deployment web: {ready} of 2 ready"));
        }
        if ready == 2 {
            break;
        }
    }
    Ok(())
}

async fn follow_job(client: &Client, say: &impl Fn(String)) -> Result<()> {
    let api: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let mut changes = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
    while let Some(job) = changes.try_next().await.context("watching the Job")? {
        let ended = job
            .status
            .and_then(|s| s.conditions)
            .into_iter()
            .flatten()
            .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True");
        if let Some(end) = ended {
            ensure!(end.type_ == "Complete", "the Job has failed: {}", end.message.unwrap_or_default());
            say("job visitor: complete".to_owned());
            break;
        }
    }
    Ok(())
}

/// Visits until both replicas have answered, which the Service's endpoints may take a moment to allow.
async fn visit_until_both(server: SocketAddr) -> Result<BTreeMap<String, u32>> {
    let mut last = None;
    for _ in 0..20 {
        match tokio::task::spawn_blocking(move || demo::visit(server, 4)).await? {
            Ok(answers) if answers.len() == 2 => return Ok(answers),
            Ok(_) => last = Some(anyhow::anyhow!("only one replica answers at {server}")),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("nothing answers at {server}")))
}
