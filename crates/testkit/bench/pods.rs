//! Pods, from the request that creates them until a watch tells that they run.

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Context, Result};
use futures::{Stream, StreamExt, TryStreamExt, future::try_join_all};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, WatchEvent, WatchParams},
};
use tiphys_testkit::image::Image;

use crate::{
    objects::{self, COMMAND, IMAGE},
    side::Side,
    table::{Goal, Measure, measure as named, p50},
};

const NAMESPACE: &str = "bench-pods";
const RUNS: usize = 30;
const AT_ONCE: usize = 100;

pub(crate) async fn measure(
    side: &dyn Side,
    client: &Client,
    tell: &mut impl FnMut(Measure, f64),
) -> Result<()> {
    side.import(&Image::busybox(&[IMAGE], &COMMAND))?;
    objects::namespace(client, NAMESPACE).await?;
    objects::accepts_pods(client, NAMESPACE).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    // The first one finds every cache cold.
    one(client, &pods, "warm-up").await?;
    let mut samples = Vec::new();
    for n in 0..RUNS {
        samples.push(one(client, &pods, &format!("one-{n}")).await?);
    }
    tell(
        named("create to Running of one pod, image present, p50", "ms", Goal::Under(150.)),
        p50(&mut samples),
    );
    tell(named("100 pods created at once, all Ready", "s", Goal::Under(10.)), many(client, &pods).await?);
    Ok(())
}

/// The milliseconds from the request until its client's watch says Running.
async fn one(client: &Client, pods: &Api<Pod>, name: &str) -> Result<f64> {
    let mut changes = Box::pin(watch(pods).await?);
    let begun = Instant::now();
    let created = client.request_text(objects::create(NAMESPACE, "pods", &objects::pod(name, true)));
    let running = until(&mut changes, |event| match event {
        WatchEvent::Modified(pod) => phase(pod) == Some("Running"),
        _ => false,
    });
    let (created, running) = tokio::join!(created, running);
    created.context("creating a pod")?;
    running?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    pods.delete(name, &DeleteParams::default().grace_period(0)).await.context("deleting a pod")?;
    until(&mut changes, |event| matches!(event, WatchEvent::Deleted(_))).await?;
    Ok(took)
}

/// The seconds from the first request until the last pod is Ready.
async fn many(client: &Client, pods: &Api<Pod>) -> Result<f64> {
    let mut changes = Box::pin(watch(pods).await?);
    let begun = Instant::now();
    let creates = (0..AT_ONCE).map(|n| {
        let pod = objects::pod(&format!("many-{n}"), true);
        client.request_text(objects::create(NAMESPACE, "pods", &pod))
    });
    let mut ready = BTreeSet::new();
    let all_ready = until(&mut changes, |event| {
        if let WatchEvent::Modified(pod) = event
            && is_ready(pod)
        {
            ready.insert(pod.metadata.name.clone());
        }
        ready.len() == AT_ONCE
    });
    let (created, all_ready) = tokio::join!(try_join_all(creates), all_ready);
    created.context("creating pods")?;
    all_ready?;
    let took = begun.elapsed().as_secs_f64();
    pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default())
        .await
        .context("deleting pods")?;
    let mut gone = 0;
    until(&mut changes, |event| {
        gone += usize::from(matches!(event, WatchEvent::Deleted(_)));
        gone == AT_ONCE
    })
    .await?;
    Ok(took)
}

/// What happens to the namespace's pods from now on.
async fn watch(pods: &Api<Pod>) -> Result<impl Stream<Item = kube::Result<WatchEvent<Pod>>> + use<>> {
    let now = pods.list(&ListParams::default()).await.context("listing pods")?.metadata.resource_version;
    let now = now.context("a list without a revision")?;
    Ok(pods.watch(&WatchParams::default().timeout(290), &now).await.context("watching pods")?.boxed())
}

/// Reads on until an event is the one.
async fn until(
    changes: &mut (impl Stream<Item = kube::Result<WatchEvent<Pod>>> + Unpin),
    mut is_it: impl FnMut(&WatchEvent<Pod>) -> bool,
) -> Result<()> {
    while let Some(event) = changes.try_next().await.context("watching pods")? {
        if is_it(&event) {
            return Ok(());
        }
    }
    anyhow::bail!("the watch ended before its time")
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
