//! A sample initializer: it gives every new pod the containers and volumes that a ConfigMap lists.
//!
//! It runs in a pod of the cluster, as any client of the API. `examples/manifests/initializer-envoy.yaml` uses it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use kube::{Client, core::WatchEvent};
use serde_json::{Value, json};
use tiphys_api::{codec::yaml, meta, patch::two_way, schema::Schema};

/// After trouble with the API, it is asked again this much later.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What the `InitializerConfiguration` calls this initializer.
    #[arg(long, default_value = "envoy.initializer.kubernetes.io")]
    name: String,
    /// The ConfigMap in this pod's namespace whose key `config` has the `containers` and `volumes`.
    #[arg(long, default_value = "envoy-initializer")]
    config_map: String,
    /// Change only pods with the annotation `initializer.kubernetes.io/<first part of the name>: "true"`.
    #[arg(long)]
    require_annotation: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
    tokio.context("starting the async runtime")?.block_on(async {
        let client = Client::try_default().await.context("finding the API of the cluster")?;
        println!("{} initializes pods", arguments.name);
        loop {
            if let Err(error) = follow(&client, arguments).await {
                println!("watching pods: {error:#}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// Initializes pods until the watch ends, as every watch does some time.
async fn follow(client: &Client, arguments: &Arguments) -> Result<()> {
    let all = http::Request::get("/api/v1/pods?watch=true&includeUninitialized=true").body(Vec::new())?;
    let mut events = std::pin::pin!(client.request_events::<Value>(all).await?);
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) if is_next(&pod, &arguments.name) => {
                let name = format!("{}/{}", meta::namespace(&pod), meta::name(&pod));
                match initialize(client, arguments, &pod).await {
                    Ok(()) => println!("initialized {name}"),
                    Err(error) => println!("initializing {name}: {error:#}"),
                }
            }
            WatchEvent::Error(error) => bail!("{}", error.message),
            _ => {}
        }
    }
    Ok(())
}

/// Whether it is this initializer's turn.
fn is_next(pod: &Value, name: &str) -> bool {
    let initializers = &pod["metadata"]["initializers"];
    initializers["pending"][0]["name"] == *name && !initializers["result"].is_object()
}

async fn initialize(client: &Client, arguments: &Arguments, pod: &Value) -> Result<()> {
    let place =
        format!("/api/v1/namespaces/{}/configmaps/{}", client.default_namespace(), arguments.config_map);
    let config: Value = client.request(http::Request::get(place).body(Vec::new())?).await?;
    let wanted = config["data"]["config"].as_str().unwrap_or_default();
    let modified =
        match yaml::to_json(wanted.as_bytes()).ok().and_then(|json| serde_json::from_slice(&json).ok()) {
            Some(additions) => completed(pod, &additions, arguments),
            None => rejected(pod, &format!("the ConfigMap {} is no YAML", arguments.config_map)),
        };
    let ty = Schema::of("", "v1", "Pod").context("the structure of pods is not known")?;
    let change = two_way::patch(pod, &modified, ty).to_string().into_bytes();
    let path = format!("/api/v1/namespaces/{}/pods/{}", meta::namespace(pod), meta::name(pod));
    let change = http::Request::patch(path)
        .header("content-type", "application/strategic-merge-patch+json")
        .body(change)?;
    client.request::<Value>(change).await?;
    Ok(())
}

/// The pod with what the ConfigMap adds to it, and without this initializer's entry.
fn completed(pod: &Value, additions: &Value, arguments: &Arguments) -> Value {
    let mut pod = pod.clone();
    let first = arguments.name.split('.').next().unwrap_or_default();
    let asks = meta::annotation(&pod, &format!("initializer.kubernetes.io/{first}")) == Some("true");
    if asks || !arguments.require_annotation {
        for list in ["containers", "volumes"] {
            let there = pod["spec"][list].as_array().cloned().unwrap_or_default();
            let known = |item: &&Value| !there.iter().any(|other| other["name"] == item["name"]);
            let more = additions[list].as_array().into_iter().flatten().filter(known).cloned();
            let all: Vec<Value> = there.iter().cloned().chain(more).collect();
            if !all.is_empty() {
                pod["spec"][list] = all.into();
            }
        }
    }
    if let Some(pending) = pod["metadata"]["initializers"]["pending"].as_array_mut()
        && !pending.is_empty()
    {
        pending.remove(0);
    }
    pod
}

/// The pod with a failure that its creator is told.
fn rejected(pod: &Value, why: &str) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["initializers"]["result"] =
        json!({"status": "Failure", "reason": "InternalError", "code": 500, "message": why});
    pod
}

#[cfg(test)]
#[path = "initialize_tests.rs"]
mod tests;
