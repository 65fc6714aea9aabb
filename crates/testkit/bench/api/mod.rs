//! The API server under load: HTTP/2 over TLS, each client with a connection of its own.
//!
//! The same requests go to every side, and to a server that does nothing: what that one reaches is what this
//! client and these processors allow.

mod load;
mod nothing;
mod watchers;
pub(crate) mod wire;

use std::{path::Path, time::Instant};

use anyhow::{Context, Result};
use serde_json::json;

use self::{
    load::{Load, rate},
    wire::Dialer,
};
use crate::{
    idle, objects,
    side::Side,
    start,
    table::{Goal, Measure, measure},
};

pub(crate) use self::nothing::Nothing;

const NAMESPACE: &str = "/api/v1/namespaces/bench-api";
const CLIENTS: [usize; 3] = [1, 16, 64];
const WATCHERS: [usize; 3] = [100, 1_000, 10_000];
const CRDS: usize = 2_000;
/// Created while a client reads what describes them.
const READ_CRDS: usize = 100;

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Size {
    /// How many Pods are stored for the measures of large clusters.
    pub(crate) pods: usize,
    /// Among how many nodes the scheduler chooses.
    pub(crate) nodes: usize,
    /// How the names of measures of requests begin that are taken.
    pub(crate) only: String,
}

type Tell<'a> = dyn FnMut(Measure, f64) + Send + 'a;

/// What can be asked of any server, a foreign one too; of it what begins with `only`.
pub(crate) async fn requests(kubeconfig: &Path, only: &str, tell: &mut Tell<'_>) -> Result<()> {
    let wanted = |name: &str| name.starts_with(only);
    let dialer = Dialer::new(kubeconfig).await?;
    let mut wire = dialer.connect().await?;
    wire.prepare("bench-api").await?;
    for (plural, what) in [("configmaps", "ConfigMaps"), ("pods", "Pods")] {
        for clients in CLIENTS {
            let collection = format!("{NAMESPACE}/{plural}");
            let make = |n: usize| {
                let name = format!("c{clients}-{n}");
                let object =
                    if plural == "pods" { objects::pod(&name, false) } else { objects::config_map(&name) };
                wire::create(&collection, &object)
            };
            let name = format!("creates of {what}, {}", plural_of(clients));
            if !wanted(&name) {
                continue;
            }
            rate(&dialer, clients, make).await.with_context(|| name.clone())?.tell(&name, tell);
        }
    }
    let one = format!("{NAMESPACE}/configmaps/one");
    wire.make([(format!("{NAMESPACE}/configmaps"), objects::config_map("one"))]).await?;
    for clients in CLIENTS {
        let name = format!("gets of one object, {}", plural_of(clients));
        if !wanted(&name) {
            continue;
        }
        let get = |_| wire::get(&one);
        rate(&dialer, clients, get).await.with_context(|| name.clone())?.tell(&name, tell);
    }
    let patch =
        |n: usize| wire::patch(&one, &json!({"metadata": {"annotations": {"bench/n": n.to_string()}}}));
    let name = "patches of one object, 16 clients";
    if wanted(name) {
        rate(&dialer, 16, patch).await.context(name)?.tell(name, tell);
    }
    let path = "/apis/apps/v1/namespaces/bench-api/deployments/applied?fieldManager=bench&force=true";
    let apply = |n: usize| wire::apply(path, &objects::deployment("applied", n));
    let name = "server-side applies of one Deployment, 1 client";
    if wanted(name) {
        rate(&dialer, 1, apply).await.context(name)?.tell(name, tell);
    }
    for count in WATCHERS {
        let name = format!("events to {count} watchers");
        if !wanted(&name) {
            continue;
        }
        watchers::measure(&dialer, count).await.with_context(|| name.clone())?.tell(&name, tell);
    }
    Ok(())
}

fn plural_of(clients: usize) -> String {
    format!("{clients} client{}", if clients == 1 { "" } else { "s" })
}

/// What a server holds, and how it starts with that.
pub(crate) async fn storage(side: &mut dyn Side, size: &Size, tell: &mut Tell<'_>) -> Result<()> {
    let kubeconfig = side.kubeconfig();
    let dialer = Dialer::new(&kubeconfig).await?;
    let mut wire = dialer.connect().await?;
    wire.prepare("bench-size").await?;
    let mut stored = 0;
    for pods in [size.pods / 20, size.pods] {
        Load::fill(&dialer, "/api/v1/namespaces/bench-size/pods", stored..pods, objects::large_pod).await?;
        stored = pods;
        let servers = side.processes()?.servers;
        let before = idle::memory(&servers)?;
        tell(measure(format!("memory with {pods} Pods of 4 KB"), "MB", Goal::Part(0.2)), before);
        let (seconds, bytes, peak) =
            load::list(&dialer, &servers, "/api/v1/namespaces/bench-size/pods").await?;
        anyhow::ensure!(bytes > pods * 3_000, "the list of {pods} Pods has {bytes} bytes");
        tell(measure(format!("list of {pods} Pods, to the last byte"), "ms", Goal::Part(0.1)), seconds * 1e3);
        tell(
            measure(format!("list of {pods} Pods, extra memory"), "MB", Goal::Part(0.1)),
            (peak - before).max(0.),
        );
    }
    drop(wire);
    side.kill()?;
    tell(
        measure(format!("start to ready with {stored} Pods"), "ms", Goal::Part(0.2)),
        start::again(side).await?,
    );
    side.wipe()?;
    start::once(side).await?;
    let dialer = Dialer::new(&side.kubeconfig()).await?;
    let servers = side.processes()?.servers;
    let before = idle::memory(&servers)?;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let begun = Instant::now();
    let seconds = Load::fill(&dialer, definitions, 0..CRDS, objects::definition).await?;
    load::until_served(&dialer, &objects::custom_collection(CRDS - 1)).await?;
    let served = begun.elapsed().as_secs_f64();
    tell(measure(format!("{CRDS} CustomResourceDefinitions created"), "s", Goal::Part(0.1)), seconds);
    tell(
        measure(format!("{CRDS} CustomResourceDefinitions created and served"), "s", Goal::Part(0.1)),
        served,
    );
    tell(
        measure(format!("{CRDS} CustomResourceDefinitions, memory"), "MB", Goal::Part(0.1)),
        idle::memory(&servers)? - before,
    );
    let v3 = "/openapi/v3/apis/bench.example.com/v1";
    // Servers before 1.23 have no OpenAPI v3.
    let has_v3 = dialer.connect().await?.knows("/openapi/v3").await?;
    for path in ["/openapi/v2"].into_iter().chain(has_v3.then_some(v3)) {
        for when in ["first", "again"] {
            let (seconds, ..) = load::list(&dialer, &servers, path).await?;
            tell(measure(format!("{path} with {CRDS} definitions, {when}"), "ms", Goal::None), seconds * 1e3);
        }
    }
    let more = async {
        let more = Load::fill(&dialer, definitions, CRDS..CRDS + READ_CRDS, objects::definition).await;
        more.map(|seconds| seconds / READ_CRDS as f64)
    };
    let reads = async {
        loop {
            load::list(&dialer, &servers, "/openapi/v2").await?;
        }
    };
    let each = tokio::select! {
        more = more => more?,
        failed = reads => return failed,
    };
    let what = "another definition, while a client reads /openapi/v2 over and over";
    tell(measure(what, "ms", Goal::None), each * 1e3);
    Ok(())
}
