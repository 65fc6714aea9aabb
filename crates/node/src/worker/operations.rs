//! The steps of a pod's life that take time. Each runs as a task beside the worker and ends in a [`Done`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Container, Pod, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use kube::api::PostParams;
use tiphys_cri::v1;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::bundles::{self, Bundle};
use crate::certificates::{Certificates, Place, Shown};
use crate::content::{self, Content, ContentId, Kind};
use crate::context::{Context, about_container, about_pod};
use crate::counts::IMAGE_VOLUMES;
use crate::env::{self, EnvFiles, Surroundings};
use crate::fields::Addresses;
use crate::images::ImageError;
use crate::key::PodKey;
use crate::make;
use crate::observed::{ContainerId, Sandbox, SandboxId};
use crate::pod;
use crate::probes::{Handler, Outcome, Target};
use crate::qos;
use crate::runtime::{self, RuntimeError};
use crate::security;
use crate::userns;
use crate::volumes::projection::{self, ProjectionError, TokenKey};
use crate::volumes::{self, Source, VolumeError, atomic, mounts};

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

/// A pod whose containers can be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prepared {
    /// When its volumes are to be brought up to date.
    pub(crate) due: Option<Timestamp>,
    /// What its group has been limited to; none if that is wider than the pod asks for.
    pub(crate) group: Option<qos::PodResources>,
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

/// Why a container was not started. `reason` is the API's.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub(crate) struct StartError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// Where a failed pull is concerned.
    pub(crate) image: Option<String>,
}

impl StartError {
    fn new(reason: &'static str, message: impl ToString) -> Self {
        Self { reason, message: message.to_string(), image: None }
    }
}

/// A token of a pod's service account.
struct Token {
    value: String,
    refresh_at: Timestamp,
}

/// The tokens that a pod has been given. Not to be printed.
#[derive(Default)]
pub(crate) struct Tokens(BTreeMap<TokenKey, Token>);

impl Tokens {
    /// All that `projections` need, asked for where missing or due; and when the next is due.
    async fn fetch(
        &mut self,
        job: &Job,
        wanted: &BTreeSet<TokenKey>,
    ) -> Result<(BTreeMap<TokenKey, String>, Option<Timestamp>), ProjectionError> {
        let now = Timestamp::now();
        for key in wanted {
            if self.0.get(key).is_none_or(|t| now >= t.refresh_at) {
                let token =
                    request_token(job, key).await.map_err(|e| ProjectionError::Token(e.to_string()))?;
                self.0.insert(key.clone(), token);
            }
        }
        self.0.retain(|key, _| wanted.contains(key));
        let due = self.0.values().map(|t| t.refresh_at).min();
        Ok((self.0.iter().map(|(k, t)| (k.clone(), t.value.clone())).collect(), due))
    }
}

/// Asks the API for a token that is bound to the pod. It is due again after four fifths of its life, or a day.
async fn request_token(job: &Job, key: &TokenKey) -> kube::Result<Token> {
    let account = pod::spec(&job.pod).service_account_name.clone().filter(|n| !n.is_empty());
    let account = account.unwrap_or_else(|| "default".to_owned());
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!key.audience.is_empty()).then(|| vec![key.audience.clone()]),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(job.key.name.clone()),
                uid: Some(job.key.uid.to_string()),
            }),
            expiration_seconds: Some(key.seconds),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(job.ctx.kube.clone(), &job.key.namespace);
    let asked = Timestamp::now();
    let answer = api.create_token_request(&account, &PostParams::default(), &request).await?;
    let status = answer.status.unwrap_or_default();
    let seconds = Duration::from_secs(key.seconds.max(0).unsigned_abs());
    let life = status.expiration_timestamp.map_or(seconds, |t| t.0.duration_since(asked).unsigned_abs());
    let due = (life * 4 / 5).min(Duration::from_secs(24 * 3600)).max(Duration::from_secs(10));
    Ok(Token {
        value: status.token.unwrap_or_default(),
        refresh_at: asked.saturating_add(due).unwrap_or(Timestamp::MAX),
    })
}

/// Why a pod could not be prepared.
#[derive(Debug, thiserror::Error)]
enum PrepareError {
    #[error("Failed to prepare dynamic resources: no driver of devices is registered with this node")]
    Devices,
    #[error("failed to ensure that the pod: {0} cgroups exist and are correctly applied: {1}")]
    Cgroup(PodKey, #[source] crate::cgroups::CgroupError),
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Volume { volume: String, source: VolumeError },
    #[error("{0}")]
    NotSynced(#[from] content::NotSynced),
    #[error("the preparation was interrupted: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Makes directories, cgroup and volumes.
pub(crate) async fn prepare(job: Job, ips: Vec<String>) -> Result<Prepared, String> {
    let made = async {
        // Drivers cannot register yet, and a container without its devices is not what was asked for.
        if crate::pod::claims_devices(&job.pod) {
            return Err(PrepareError::Devices);
        }
        let (ctx, key, pod) = (job.ctx.clone(), job.key.clone(), job.pod.clone());
        let work = move || ctx.cgroups.make_pod(&pod, &key.uid).map_err(|e| PrepareError::Cgroup(key, e));
        let exact = tokio::task::spawn_blocking(work).await??;
        let due = try_refresh(&job, ips).await?;
        Ok(Prepared { due, group: exact.then(|| qos::pod_resources(&job.pod)) })
    };
    made.await.map_err(|error| say_unprepared(&job, &error))
}

/// Brings the content of volumes up to date. Answers when to do so again.
pub(crate) async fn refresh(job: Job, ips: Vec<String>) -> Result<Option<Timestamp>, String> {
    try_refresh(&job, ips).await.map_err(|error| say_unprepared(&job, &error))
}

fn say_unprepared(job: &Job, error: &PrepareError) -> String {
    let reason = match error {
        PrepareError::Devices => "FailedPrepareDynamicResources",
        PrepareError::Cgroup(..) => "FailedCreatePodContainer",
        _ => "FailedMount",
    };
    job.ctx.events.warning(&about_pod(&job.pod), reason, error.to_string());
    error.to_string()
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

async fn try_refresh(job: &Job, ips: Vec<String>) -> Result<Option<Timestamp>, PrepareError> {
    let volumes = pod::spec(&job.pod).volumes.as_deref().unwrap_or_default();
    let mut ids: BTreeSet<ContentId> = BTreeSet::new();
    let mut tokens: BTreeSet<TokenKey> = BTreeSet::new();
    let mut token_volume = String::new();
    let mut certificates = BTreeMap::new();
    for volume in volumes {
        let Some(Source::Projection(p)) = volumes::source(&job.pod, volume) else { continue };
        for source in &p.sources {
            match source {
                projection::Source::Object { id, .. } => {
                    ids.insert(id.clone());
                }
                projection::Source::Token(token) => {
                    tokens.insert(TokenKey::of(token));
                    token_volume.clone_from(&volume.name);
                }
                projection::Source::Certificate(place, wanted) => {
                    certificates.insert(place.clone(), wanted.clone());
                }
                _ => {}
            }
        }
    }
    let contents = job.ctx.contents.get(&ids).await?;
    let bundles = match bundles::volume_of(&job.pod) {
        None => vec![],
        Some(volume) => job.ctx.bundles.get().await.map_err(|error| PrepareError::Volume {
            volume: volume.to_owned(),
            source: projection::ProjectionError::from(error).into(),
        })?,
    };
    let claims = volumes::claims::resolve(&job.ctx.kube, &job.pod, &job.ctx.pod_dir(&job.key)).await;
    let claims = claims.map_err(|(volume, error)| PrepareError::Volume { volume, source: error.into() })?;
    let fetched = job.tokens.lock().await.fetch(job, &tokens).await;
    let (tokens, due) =
        fetched.map_err(|e| PrepareError::Volume { volume: token_volume, source: e.into() })?;
    let fetched = job.certificates.lock().await.fetch(job, &certificates).await;
    let (certificates, again) = fetched.map_err(|(volume, error)| PrepareError::Volume {
        volume,
        source: ProjectionError::from(error).into(),
    })?;
    let due = due.into_iter().chain(again).min();
    let job = job.clone();
    let shown = Held { contents, tokens, bundles, certificates };
    tokio::task::spawn_blocking(move || make_volumes(&job, &shown, &claims, &ips)).await??;
    Ok(due)
}

/// What the API has for a pod's volumes.
struct Held {
    contents: content::Contents,
    tokens: BTreeMap<TokenKey, String>,
    bundles: Vec<Arc<Bundle>>,
    certificates: BTreeMap<Place, Shown>,
}

fn make_volumes(
    job: &Job,
    held: &Held,
    claims: &volumes::claims::Resolved,
    ips: &[String],
) -> Result<(), PrepareError> {
    let (ctx, pod) = (&job.ctx, &job.pod);
    let dir = ctx.pod_dir(&job.key);
    let group = volumes::fs_group(pod);
    let host_ips = ctx.config.host_ips();
    let with = projection::Surroundings {
        contents: &held.contents,
        tokens: &held.tokens,
        bundles: &held.bundles,
        certificates: &held.certificates,
        addresses: Addresses { pod: ips, host: &host_ips },
        allocatable: &ctx.allocatable,
    };
    std::fs::create_dir_all(dir.path())
        .map_err(VolumeError::io("create", dir.path()))
        .map_err(|source| PrepareError::Volume { volume: String::new(), source })?;
    for volume in pod::spec(pod).volumes.iter().flatten() {
        let make = || -> Result<(), VolumeError> {
            let source =
                volumes::source(pod, volume).ok_or_else(|| VolumeError::Unsupported(volume.name.clone()))?;
            let path = volumes::host_path(&dir, volume, &source);
            match &source {
                Source::EmptyDir(empty) => {
                    volumes::make_empty_dir(&path, empty, group, qos::pod_resources(pod).memory_limit)
                }
                Source::HostPath(host) => volumes::check_host_path(host),
                // One that was not asked for is there already.
                Source::Claim { .. } => {
                    claims.get(&volume.name).map_or(Ok(()), |source| volumes::claims::bind(source, &path))
                }
                // It is mounted with each container that asks for it.
                Source::Image(_) => Ok(()),
                Source::Projection(p) => {
                    std::fs::create_dir_all(&path).map_err(VolumeError::io("create", &path))?;
                    if p.in_memory && !mounts::is_mount_point(&path) {
                        mounts::mount_tmpfs(&path, None, "0755")
                            .map_err(VolumeError::io("mount a tmpfs on", &path))?;
                    }
                    let files = projection::files(pod, p, &with)?;
                    volumes::give_to_group(&path, group)?;
                    atomic::write(&path, &files, group).map(drop)
                }
            }
        };
        make().map_err(|source| PrepareError::Volume { volume: volume.name.clone(), source })?;
    }
    Ok(())
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

/// Makes and starts a container: image, configuration, container, process, postStart hook.
pub(crate) async fn start(
    job: Job,
    name: String,
    attempt: u32,
    sandbox: Sandbox,
    target: Option<String>,
) -> Result<(), StartError> {
    let about = about_container(&job.pod, &name);
    let spec = pod::find_container(&job.pod, &name).ok_or_else(|| {
        StartError::new("CreateContainerConfigError", format!("container {name} not found"))
    })?;
    let failed = |error: StartError| {
        job.ctx.events.warning(&about, "Failed", format!("Error: {}", error.message));
        error
    };
    let config_error = |e: &dyn std::fmt::Display| failed(StartError::new("CreateContainerConfigError", e));
    let namespace = user_namespace(&job).await.map_err(|e| config_error(&e))?;
    let mut config = sandbox_config(&job, sandbox.attempt).map_err(|e| config_error(&e))?;
    userns::enter_sandbox(&mut config, &namespace);
    let secrets = pull_secrets(&job).await;
    let ensure = job.ctx.images.ensure(&job.pod, &spec.spec, &secrets, &config, &about);
    let image = tokio::select! {
        image = ensure => image,
        () = job.stop.cancelled() => return Err(StartError::new("ContainerCreating", "the pod is being stopped")),
    };
    let unpulled = |error: ImageError, image: &str| {
        job.ctx.events.warning(&about, "Failed", format!("Error: {}", error.reason()));
        let pull = matches!(error, ImageError::Pull { .. }).then(|| image.to_owned());
        StartError { reason: error.reason(), message: error.to_string(), image: pull }
    };
    let image = image.map_err(|error| unpulled(error, spec.image()))?;
    let mut images = BTreeMap::new();
    for (volume, wanted) in image_volumes(&job.pod, &spec.spec) {
        IMAGE_VOLUMES.requested.fetch_add(1, Relaxed);
        let ensure = job.ctx.images.ensure(&job.pod, &wanted, &secrets, &config, &about);
        let found = tokio::select! {
            found = ensure => found,
            () = job.stop.cancelled() => return Err(StartError::new("ContainerCreating", "the pod is being stopped")),
        };
        let written = wanted.image.clone().unwrap_or_default();
        let found = found.map_err(|error| {
            IMAGE_VOLUMES.failed.fetch_add(1, Relaxed);
            unpulled(error, &written)
        })?;
        let image = v1::ImageSpec {
            image: found.reference,
            user_specified_image: written,
            ..v1::ImageSpec::default()
        };
        images.insert(volume, image);
    }
    let mounted = u64::try_from(images.len()).unwrap_or(0);

    security::check_non_root(&job.pod, &spec.spec, &image.image).map_err(|e| config_error(&e))?;
    let contents =
        job.ctx.contents.get(&content::references(&job.pod)).await.map_err(|e| config_error(&e))?;
    let host_ips = job.ctx.config.host_ips();
    let pod_ips = if pod::host_network(&job.pod) { host_ips.clone() } else { sandbox.ips.clone() };
    let services = job.ctx.services_for(&job.key.namespace);
    let files = {
        let (job, container) = (job.clone(), spec.spec.clone().into_owned());
        tokio::task::spawn_blocking(move || env_files(&job, &container))
            .await
            .map_err(|e| config_error(&e))?
    };
    let environment = env::environment(
        &job.pod,
        &spec.spec,
        &Surroundings {
            contents: &contents,
            files: &files,
            services: &services,
            addresses: Addresses { pod: &pod_ips, host: &host_ips },
            allocatable: &job.ctx.allocatable,
        },
    )
    .map_err(|e| config_error(&e))?;
    let mounts = {
        let (job, container, environment) =
            (job.clone(), spec.spec.clone().into_owned(), environment.clone());
        let ips = sandbox.ips.clone();
        let recursive_read_only = job.ctx.features.recursive_read_only(&sandbox.handler);
        tokio::task::spawn_blocking(move || {
            let dir = job.ctx.pod_dir(&job.key);
            let with = make::MountInputs {
                dir: &dir,
                ips: &ips,
                domain: &job.ctx.config.dns.domain,
                attempt,
                recursive_read_only,
                images: &images,
            };
            make::mounts(&job.pod, &container, &environment, &with)
        })
        .await
    };
    let mounts = match mounts {
        Ok(Ok(mounts)) => mounts,
        Ok(Err(error)) => return Err(config_error(&error)),
        Err(error) => return Err(config_error(&error)),
    };
    let parts = make::Parts {
        attempt,
        image: image.reference,
        environment,
        mounts,
        target,
        node_memory: job.ctx.machine.memory,
        seccomp_dir: job.ctx.config.seccomp_dir(),
    };
    let log_dir = make::log_dir(&job.ctx.config.log_dir, &job.key).join(&name);
    tokio::fs::create_dir_all(&log_dir).await.map_err(|e| {
        failed(StartError::new("CreateContainerError", format!("{}: {e}", log_dir.display())))
    })?;
    let mut container = make::container(&job.key, &job.pod, &spec, parts);
    userns::enter_container(&mut container, &namespace);
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: sandbox.id.0.clone(),
        config: Some(container),
        sandbox_config: Some(config),
    };
    if job.stop.is_cancelled() {
        return Err(StartError::new("ContainerCreating", "the pod is being stopped"));
    }
    let created = job.ctx.cri.runtime().create_container(request).await;
    let id = created
        .map_err(|status| failed(StartError::new("CreateContainerError", status.message())))?
        .into_inner()
        .container_id;
    IMAGE_VOLUMES.mounted.fetch_add(mounted, Relaxed);
    job.ctx.events.normal(&about, "Created", format!("Created container: {name}"));
    let request = v1::StartContainerRequest { container_id: id.clone() };
    job.ctx
        .cri
        .runtime()
        .start_container(request)
        .await
        .map_err(|status| failed(StartError::new("RunContainerError", status.message())))?;
    job.ctx.events.normal(&about, "Started", format!("Started container {name}"));
    let hook = spec.spec.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
    let Some(hook) = hook else { return Ok(()) };
    let target = Target {
        cri: job.ctx.cri.clone(),
        container: ContainerId(id.clone()),
        ip: pod_ips.first().cloned().unwrap_or_default(),
    };
    let handler = Handler::of_hook(&spec.spec, hook);
    let forever = Duration::from_secs(365 * 24 * 3600);
    let outcome = tokio::select! {
        outcome = handler.attempt(&target, forever) => outcome,
        () = job.stop.cancelled() => return Ok(()),
    };
    match outcome {
        Outcome::Success | Outcome::Warning(_) => Ok(()),
        Outcome::Failure(text) | Outcome::Unknown(text) => {
            // The text may hold what the hook printed, which is not for everybody who reads events.
            job.ctx.events.warning(&about, "FailedPostStartHook", "PostStartHook failed");
            let grace = Duration::from_secs(u64::try_from(pod::grace_seconds(&job.pod)).unwrap_or(30));
            let message = "FailedPostStartHook".to_owned();
            if let Err(error) = kill(job.clone(), ContainerId(id), name, grace, message, target.ip).await {
                tracing::warn!(pod = %job.key, %error, "a container whose postStart hook failed was not stopped");
            }
            Err(StartError::new("PostStartHookError", text))
        }
    }
}

/// The images that a container mounts as volumes, by volume, each in the form of a container that would run it.
fn image_volumes(pod: &Pod, container: &Container) -> BTreeMap<String, Container> {
    let mounted = |name: &str| container.volume_mounts.iter().flatten().any(|mount| mount.name == name);
    let volumes = pod::spec(pod).volumes.iter().flatten().filter(|volume| mounted(&volume.name));
    let images = volumes.filter_map(|volume| {
        let source = volume.image.as_ref()?;
        let wanted = Container {
            image: source.reference.clone(),
            image_pull_policy: source.pull_policy.clone(),
            ..Container::default()
        };
        Some((volume.name.clone(), wanted))
    });
    images.collect()
}

/// The largest file of variables that is read.
const MAX_ENV_FILE: u64 = 1024 * 1024;

/// Reads the files that a container's variables come from (KEP-3721), out of the pod's own directories alone.
fn env_files(job: &Job, container: &Container) -> EnvFiles {
    let dir = job.ctx.pod_dir(&job.key);
    let sources =
        container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()?.file_key_ref.as_ref());
    let read = |volume: &str, path: &str| {
        let found = pod::spec(&job.pod).volumes.iter().flatten().find(|v| v.name == volume);
        let source = found.and_then(|v| Some((v, volumes::source(&job.pod, v)?)));
        let Some((volume, source @ Source::EmptyDir(_))) = source else {
            return Err("it is not an emptyDir of the pod".to_owned());
        };
        let root = volumes::host_path(&dir, volume, &source);
        volumes::subpath::read(&root, path, MAX_ENV_FILE).map_err(|error| error.to_string())
    };
    let mut files = EnvFiles::new();
    for source in sources {
        let at = (source.volume_name.clone(), source.path.clone());
        files.entry(at).or_insert_with(|| read(&source.volume_name, &source.path));
    }
    files
}

/// The secrets that the pod names for pulling; those that are missing are passed over.
async fn pull_secrets(job: &Job) -> Vec<Arc<Content>> {
    let names = pod::spec(&job.pod).image_pull_secrets.iter().flatten();
    let ids: BTreeSet<ContentId> = names
        .filter(|n| !n.name.is_empty())
        .map(|n| ContentId { kind: Kind::Secret, namespace: job.key.namespace.clone(), name: n.name.clone() })
        .collect();
    match job.ctx.contents.get(&ids).await {
        Ok(contents) => contents.into_values().flatten().collect(),
        Err(error) => {
            tracing::warn!(pod = %job.key, %error, "pulling without the pod's secrets");
            vec![]
        }
    }
}

/// Ends a container: the preStop hook, SIGTERM, and SIGKILL when `grace` is over.
pub(crate) async fn kill(
    job: Job,
    id: ContainerId,
    name: String,
    grace: Duration,
    message: String,
    ip: String,
) -> Result<(), String> {
    let about = about_container(&job.pod, &name);
    job.ctx.events.normal(&about, "Killing", message);
    let began = tokio::time::Instant::now();
    let spec = pod::find_container(&job.pod, &name);
    let hook = spec.as_ref().and_then(|c| c.spec.lifecycle.as_ref()?.pre_stop.as_ref());
    if let (Some(spec), Some(hook)) = (&spec, hook) {
        let target = Target { cri: job.ctx.cri.clone(), container: id.clone(), ip };
        let handler = Handler::of_hook(&spec.spec, hook);
        match tokio::time::timeout(grace, handler.attempt(&target, grace)).await {
            Ok(Outcome::Success | Outcome::Warning(_)) => {}
            Ok(Outcome::Failure(text) | Outcome::Unknown(text)) => {
                tracing::info!(pod = %job.key, container = name, error = text, "the preStop hook failed");
                job.ctx.events.warning(&about, "FailedPreStopHook", "PreStopHook failed");
            }
            Err(_) => {
                tracing::info!(pod = %job.key, container = name, "the preStop hook outlasted the grace period")
            }
        }
    }
    let left = grace.saturating_sub(began.elapsed()).max(crate::plan::MINIMUM_GRACE);
    let request = v1::StopContainerRequest {
        container_id: id.0.clone(),
        timeout: i64::try_from(left.as_secs_f64().ceil() as u64).unwrap_or(i64::MAX),
    };
    match job.ctx.cri.runtime().stop_container(request).await {
        Err(status) if status.code() != tonic::Code::NotFound => {
            Err(RuntimeError { call: "StopContainer", status }.to_string())
        }
        _ => Ok(()),
    }
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
