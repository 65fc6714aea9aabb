//! Clears away what nobody needs any more: dead containers, what pods left behind, images when the disk fills.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tiphys_cri::v1;

use crate::context::Context;
use crate::key::PodUid;
use crate::labels;
use crate::machine;
use crate::observed::{Container, ContainerId, SandboxId};
use crate::registry::Registry;
use crate::runtime::{self, RuntimeError};
use crate::volumes::{self, PodDir};

/// From sweep to sweep.
const INTERVAL: Duration = Duration::from_secs(60);
/// Dead instances of a container that are kept, for their logs.
const KEEP_DEAD: usize = 1;
/// Images are removed when less of the disk is left than that (percent, or GiB on a large one), until the second is.
const DISK_HIGH: (u64, u64) = (15, 2);
const DISK_LOW: (u64, u64) = (20, 4);

/// Sweeps every minute until it is dropped. All sources must have named their pods before.
pub(crate) async fn run(ctx: Arc<Context>, registry: Arc<Registry>) {
    loop {
        if let Err(error) = sweep(&ctx, &registry).await {
            tracing::warn!(%error, "the node was not swept");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn sweep(ctx: &Arc<Context>, registry: &Registry) -> Result<(), RuntimeError> {
    orphaned_sandboxes(ctx, registry).await?;
    dead_containers(ctx).await?;
    orphaned_directories(ctx, registry).await;
    orphaned_mirrors(ctx, registry).await;
    images(ctx).await
}

/// Stops and removes sandboxes of pods that no source knows.
async fn orphaned_sandboxes(ctx: &Context, registry: &Registry) -> Result<(), RuntimeError> {
    for sandbox in runtime::all_sandboxes(&ctx.cri).await? {
        let Some(uid) = sandbox.labels.get(labels::POD_UID).and_then(|u| PodUid::parse(u)) else { continue };
        if registry.knows(&uid) {
            continue;
        }
        tracing::info!(%uid, sandbox = sandbox.id, "removing what is left of a pod that is gone");
        let id = SandboxId(sandbox.id);
        let stopped = runtime::stop_sandbox(&ctx.cri, &id).await;
        if let Err(error) = stopped.and(runtime::remove_sandbox(&ctx.cri, &id).await) {
            tracing::warn!(%uid, %error, "a sandbox was not removed");
        }
    }
    Ok(())
}

/// Removes all but the newest dead instance of every container, with its log.
async fn dead_containers(ctx: &Context) -> Result<(), RuntimeError> {
    let filter = v1::ContainerFilter {
        state: Some(v1::ContainerStateValue { state: v1::ContainerState::ContainerExited as i32 }),
        ..v1::ContainerFilter::default()
    };
    let list = ctx.cri.runtime().list_containers(v1::ListContainersRequest { filter: Some(filter) }).await;
    let mut dead: BTreeMap<(String, String), Vec<v1::Container>> = BTreeMap::new();
    for container in list.map_err(RuntimeError::of("ListContainers"))?.into_inner().containers {
        let label = |name: &str| container.labels.get(name).cloned();
        let (Some(uid), Some(name)) = (label(labels::POD_UID), label(labels::CONTAINER_NAME)) else {
            continue;
        };
        dead.entry((uid, name)).or_default().push(container);
    }
    for instances in dead.values_mut() {
        instances.sort_by_key(|c| std::cmp::Reverse(c.created_at));
        for old in instances.iter().skip(KEEP_DEAD) {
            let request = v1::ContainerStatusRequest { container_id: old.id.clone(), verbose: false };
            let status = ctx.cri.runtime().container_status(request).await;
            let container = status.ok().and_then(|s| s.into_inner().status);
            let log =
                container.map(|s| Container::from_cri(&old.pod_sandbox_id, &s).log_path).unwrap_or_default();
            match runtime::remove_container(&ctx.cri, &ContainerId(old.id.clone())).await {
                Ok(()) if !log.is_empty() => remove_logs(Path::new(&log)).await,
                Ok(()) => {}
                Err(error) => tracing::debug!(container = old.id, %error, "a dead container was not removed"),
            }
        }
    }
    Ok(())
}

/// Removes a log and what was rotated out of it.
async fn remove_logs(log: &Path) {
    for path in crate::logs::rotated(log).into_iter().chain([log.to_owned()]) {
        if let Err(error) = tokio::fs::remove_file(&path).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(path = %path.display(), %error, "a log was not removed");
        }
    }
}

/// Removes directories and cgroups of pods that neither a source nor the runtime knows.
async fn orphaned_directories(ctx: &Arc<Context>, registry: &Registry) {
    let in_runtime: BTreeSet<String> = match runtime::all_sandboxes(&ctx.cri).await {
        Ok(list) => list.iter().filter_map(|s| s.labels.get(labels::POD_UID).cloned()).collect(),
        Err(_) => return,
    };
    let is_orphan = |uid: &PodUid| !registry.knows(uid) && !in_runtime.contains(uid.as_str());
    let mut uids: BTreeSet<PodUid> = ctx.cgroups.pods();
    uids.extend(names_in(&ctx.config.data_dir.join("pods")).iter().filter_map(|n| PodUid::parse(n)));
    uids.retain(&is_orphan);
    let logs: Vec<PathBuf> = names_in(&ctx.config.log_dir)
        .into_iter()
        .filter(|n| n.rsplit('_').next().and_then(PodUid::parse).is_some_and(|uid| is_orphan(&uid)))
        .map(|n| ctx.config.log_dir.join(n))
        .collect();
    let ctx = ctx.clone();
    let work = tokio::task::spawn_blocking(move || {
        for uid in uids {
            if let Err(error) = volumes::remove(&PodDir::new(&ctx.config.data_dir, &uid)) {
                tracing::warn!(%uid, %error, "what a pod left was not removed");
            }
            if let Err(error) = ctx.cgroups.remove_pod(&uid) {
                tracing::warn!(%uid, %error, "a pod's cgroup was not removed");
            }
        }
        for path in logs {
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "a pod's logs were not removed");
            }
        }
    });
    if let Err(error) = work.await {
        tracing::warn!(%error, "the sweep of directories was interrupted");
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).collect()
}

async fn orphaned_mirrors(ctx: &Context, registry: &Registry) {
    for pod in registry.orphaned_mirrors() {
        let meta = &pod.metadata;
        let (Some(name), Some(namespace)) = (&meta.name, &meta.namespace) else { continue };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(ctx.kube.clone(), namespace);
        if let Err(error) = api.delete(name, &params).await {
            tracing::debug!(namespace, name, %error, "a mirror pod was not removed");
        }
    }
}

/// Removes images that no container uses while the disk is too full, the largest first.
async fn images(ctx: &Context) -> Result<(), RuntimeError> {
    let short_of = |(percent, gibibytes)| machine::disk(&ctx.config.data_dir).is_short_of(percent, gibibytes);
    if !short_of(DISK_HIGH) {
        return Ok(());
    }
    let list = ctx.cri.runtime().list_containers(v1::ListContainersRequest { filter: None }).await;
    let containers = list.map_err(RuntimeError::of("ListContainers"))?.into_inner().containers;
    let in_use: BTreeSet<String> = containers
        .into_iter()
        .flat_map(|c| [c.image_ref, c.image_id, c.image.map(|i| i.image).unwrap_or_default()])
        .collect();
    let list = ctx.cri.images().list_images(v1::ListImagesRequest { filter: None }).await;
    let mut images = list.map_err(RuntimeError::of("ListImages"))?.into_inner().images;
    images.sort_by_key(|i| std::cmp::Reverse(i.size));
    for image in images {
        let names = image.repo_tags.iter().chain(&image.repo_digests).chain([&image.id]);
        if image.pinned || names.into_iter().any(|n| in_use.contains(n)) {
            continue;
        }
        if !short_of(DISK_LOW) {
            break;
        }
        let spec = v1::ImageSpec { image: image.id.clone(), ..v1::ImageSpec::default() };
        match ctx.cri.images().remove_image(v1::RemoveImageRequest { image: Some(spec) }).await {
            Ok(_) => tracing::info!(image = image.id, "removed an unused image: the disk is nearly full"),
            Err(status) => {
                tracing::debug!(image = image.id, error = status.message(), "an image was not removed")
            }
        }
    }
    Ok(())
}
