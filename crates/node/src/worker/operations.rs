//! The steps of a pod's life that take time. Each runs as a task beside the worker and ends in a [`Done`].

mod containers;
mod preparation;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use tiphys_cri::v1;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::certificates::Certificates;
use crate::context::{Context, about_pod};
use crate::key::PodKey;
use crate::make;
use crate::observed::{ContainerId, SandboxId};
use crate::pod;
use crate::qos;
use crate::runtime::{self, RuntimeError};
use crate::userns;
use crate::volumes;

pub(super) use self::containers::{StartError, kill, start};
pub(super) use self::preparation::{Prepared, Tokens, prepare, refresh};

/// An operation that is through.
#[derive(Debug)]
pub(crate) enum Done {
    Prepared(Result<Prepared, String>),
    Resized(qos::PodResources, Result<(), String>),
    Refreshed(Result<Option<Timestamp>, String>),
    Sandbox(Result<(), String>),
    SandboxStopped(SandboxId, Result<(), String>),
    Started(String, Result<(), StartError>),
    Killed(ContainerId, Result<(), String>),
    Cleaned(Result<(), String>),
    Removed(Result<(), String>),
    Deleted(Result<(), String>),
    Published(Result<(), super::publish::PublishError>),
    Mirrored(Result<(), String>),
}

/// What an operation works on.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) ctx: Arc<Context>,
    pub(crate) key: PodKey,
    pub(crate) pod: Arc<Pod>,
    pub(crate) tokens: Arc<Mutex<Tokens>>,
    pub(crate) certificates: Arc<Mutex<Certificates>>,
    /// Set when the pod is to stop: operations end at the next safe point.
    pub(crate) stop: CancellationToken,
}

/// Changes the limits of a pod's group and of running containers in it: wider ones first around, narrower ones first
/// within.
pub(crate) async fn resize(job: Job, containers: Vec<(ContainerId, String)>) -> Result<(), String> {
    let group = |narrow: bool| {
        let (ctx, uid, pod) = (job.ctx.clone(), job.key.uid.clone(), job.pod.clone());
        let work = move || {
            if narrow { ctx.cgroups.set_pod(&pod, &uid) } else { ctx.cgroups.make_pod(&pod, &uid).map(drop) }
        };
        async {
            tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
        }
    };
    group(false).await?;
    for (id, name) in containers {
        let Some(spec) = pod::find_container(&job.pod, &name) else { continue };
        let resources = make::resources(&job.pod, &spec, job.ctx.machine.memory);
        check_memory(&job, &id, &name, resources.memory_limit_in_bytes).await?;
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.0,
            linux: Some(resources),
            ..v1::UpdateContainerResourcesRequest::default()
        };
        let answer = job.ctx.cri.runtime().update_container_resources(request).await;
        answer.map_err(|status| RuntimeError { call: "UpdateContainerResources", status }.to_string())?;
    }
    group(true).await
}

/// A limit below what a container uses would have it killed.
async fn check_memory(job: &Job, id: &ContainerId, name: &str, limit: i64) -> Result<(), String> {
    let request = v1::ContainerStatsRequest { container_id: id.0.clone() };
    // A runtime that does not tell leaves the decision to the kernel.
    let Ok(answer) = job.ctx.cri.runtime().container_stats(request).await else { return Ok(()) };
    let memory = answer.into_inner().stats.and_then(|stats| stats.memory);
    let used = memory.and_then(|memory| memory.usage_bytes).map_or(0, |usage| usage.value);
    match u64::try_from(limit) {
        Ok(limit) if limit > 0 && used >= limit => Err(format!(
            "attempting to set container {name:?} memory limit ({limit}) below current usage ({used})"
        )),
        _ => Ok(()),
    }
}

/// The configuration of the pod's sandbox, the same each time it is asked for.
fn sandbox_config(job: &Job, attempt: u32) -> Result<v1::PodSandboxConfig, make::LongName> {
    let parent = job.ctx.cgroups.pod_path(&job.key.uid, qos::class(&job.pod));
    make::sandbox(&job.ctx.config, &job.key, &job.pod, attempt, parent, &job.ctx.resolver)
}

/// Makes a sandbox.
pub(crate) async fn create_sandbox(job: Job, attempt: u32) -> Result<(), String> {
    let made = async {
        let mut config = sandbox_config(&job, attempt).map_err(|e| e.to_string())?;
        let handler = runtime_handler(&job).await?;
        if pod::spec(&job.pod).host_users == Some(false) && !job.ctx.features.user_namespaces(&handler) {
            return Err(without_user_namespaces(&handler));
        }
        userns::enter_sandbox(&mut config, &user_namespace(&job).await?);
        tokio::fs::create_dir_all(&config.log_directory)
            .await
            .map_err(|e| format!("{}: {e}", config.log_directory))?;
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: handler };
        let call = job.ctx.cri.runtime().run_pod_sandbox(request).await;
        call.map(drop).map_err(|status| status.message().to_owned())
    };
    let result = made.await;
    if let Err(message) = &result {
        let message = format!("Failed to create pod sandbox: {message}");
        job.ctx.events.warning(&about_pod(&job.pod), "FailedCreatePodSandBox", message);
    }
    result
}

/// The runtime's handler that the pod's RuntimeClass names; the default's name is empty.
async fn runtime_handler(job: &Job) -> Result<String, String> {
    let Some(class) = pod::spec(&job.pod).runtime_class_name.as_deref().filter(|name| !name.is_empty())
    else {
        return Ok(String::new());
    };
    match Api::<RuntimeClass>::all(job.ctx.kube.clone()).get_opt(class).await {
        Ok(Some(found)) => Ok(found.handler),
        Ok(None) => Err(format!("RuntimeClass {class:?} not found")),
        Err(error) => Err(format!("failed to look up RuntimeClass {class:?}: {error}")),
    }
}

/// The pod's range of user ids, or the host's.
async fn user_namespace(job: &Job) -> Result<v1::UserNamespace, String> {
    if pod::spec(&job.pod).host_users != Some(false) {
        return Ok(userns::of_host());
    }
    let (ctx, dir) = (job.ctx.clone(), job.ctx.pod_dir(&job.key));
    let found = tokio::task::spawn_blocking(move || ctx.ranges.of(&dir)).await;
    found.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

fn without_user_namespaces(handler: &str) -> String {
    let who =
        if handler.is_empty() { "runtime".to_owned() } else { format!("RuntimeClass handler {handler:?}") };
    format!("can't set `spec.hostUsers: false`, {who} does not support user namespaces")
}

/// Stops a sandbox and what is left in it.
pub(crate) async fn stop_sandbox(job: Job, id: SandboxId) -> Result<(), String> {
    runtime::stop_sandbox(&job.ctx.cri, &id).await.map_err(|e| {
        job.ctx.events.warning(&about_pod(&job.pod), "FailedKillPod", format!("error killing pod: {e}"));
        e.to_string()
    })
}

/// Removes volumes and cgroup of a pod that has ended.
pub(crate) async fn clean(job: Job) -> Result<(), String> {
    let work = tokio::task::spawn_blocking(move || -> Result<(), String> {
        volumes::remove(&job.ctx.pod_dir(&job.key)).map_err(|e| e.to_string())?;
        job.ctx.cgroups.remove_pod(&job.key.uid).map_err(|e| e.to_string())
    });
    work.await.map_err(|e| e.to_string())?
}

/// Removes what the runtime remembers of a pod, and its logs.
pub(crate) async fn remove(job: Job, sandboxes: Vec<SandboxId>) -> Result<(), String> {
    for id in sandboxes {
        runtime::remove_sandbox(&job.ctx.cri, &id).await.map_err(|e| e.to_string())?;
    }
    match tokio::fs::remove_dir_all(make::log_dir(&job.ctx.config.log_dir, &job.key)).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}
