//! `tiphys up`: a cluster in the foreground. `tiphys apiserver`: its API alone.

use std::{
    io::IsTerminal,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::{
    Api,
    runtime::wait::{Condition, await_condition},
};
use tiphys_apiserver::identity::Component;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cluster::{Cluster, Rooms},
    control,
    data_dir::DataDir,
    kernel, memory,
    settings::Settings,
};

pub(crate) fn run(settings: Settings, rooms: Rooms) -> Result<()> {
    settings.check()?;
    if rooms == Rooms::All {
        kernel::preflight()?;
    }
    runtime()?.block_on(serve(settings, rooms))
}

/// The async runtime of a cluster: few threads, as most of its work is waiting.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4)))
        .enable_all()
        .build()
        .context("starting the async runtime")?;
    // It ends with the runtime.
    let _task = runtime.spawn(memory::attend());
    Ok(runtime)
}

async fn serve(settings: Settings, rooms: Rooms) -> Result<()> {
    let begun = Instant::now();
    let data = DataDir::make(&settings.data)?;
    let _lock = data.lock()?;
    let mut interrupted = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    let mut terminated = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let progress = spinner("starting the cluster");
    let mut cluster = tokio::select! {
        started = Cluster::start(&settings, &data, rooms) => started?,
        _ = interrupted.recv() => return Ok(()),
        _ = terminated.recv() => return Ok(()),
    };
    let control = control::Listener::bind(&data, cluster.runtime().cloned())?;
    progress.set_message("waiting for the node to be ready");
    println!("kubeconfig: {}", data.admin_kubeconfig().display());
    let nodes: Api<Node> = Api::all(cluster.client(&Component::ApiServer));
    let node = cluster.node().to_owned();
    let ready = await_condition(nodes, &node, is_ready(begun));
    tokio::pin!(ready);
    let mut waiting = rooms == Rooms::All;
    if !waiting {
        progress.finish_and_clear();
        println!("the API is served after {} ms", begun.elapsed().as_millis());
    }
    let signalled = loop {
        tokio::select! {
            error = cluster.failed() => {
                cluster.stop().await;
                return Err(error);
            }
            result = &mut ready, if waiting => {
                waiting = false;
                progress.finish_and_clear();
                match result {
                    Ok(_) => println!("node {node} is ready after {} ms", begun.elapsed().as_millis()),
                    Err(error) => eprintln!("tiphys: watching the node: {error}"),
                }
            }
            _ = interrupted.recv() => break "interrupted",
            _ = terminated.recv() => break "terminated",
        }
    };
    progress.finish_and_clear();
    drop(control);
    cluster.stop().await;
    println!(
        "{signalled}: the server has stopped, its pods go on; `tiphys up --data-dir {0}` takes them over, \
         `tiphys down --data-dir {0}` removes them",
        data.path().display()
    );
    Ok(())
}

/// Whether a node has said since then, to the second, that it is ready. What it said before was of an earlier run.
pub(crate) fn is_ready(since: Instant) -> impl Condition<Node> {
    let since = (SystemTime::now() - since.elapsed()).duration_since(UNIX_EPOCH);
    let since = since.map_or(0, |since| since.as_secs().cast_signed());
    move |node: Option<&Node>| {
        let conditions = node.and_then(|n| n.status.as_ref()).and_then(|s| s.conditions.as_ref());
        let ready = |condition: &NodeCondition| {
            let said = condition.last_heartbeat_time.as_ref().is_some_and(|at| at.0.as_second() >= since);
            condition.type_ == "Ready" && condition.status == "True" && said
        };
        conditions.is_some_and(|conditions| conditions.iter().any(ready))
    }
}

/// Shows what is being waited for, where somebody watches.
pub(crate) fn spinner(message: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.set_style(ProgressStyle::default_spinner());
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}
