//! A container: made and started, and ended, with its hooks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod};
use tiphys_cri::v1;

use super::{Job, sandbox_config, user_namespace};
use crate::content::{self, Content, ContentId, Kind};
use crate::context::about_container;
use crate::counts::IMAGE_VOLUMES;
use crate::env::{self, EnvFiles, Environment, Surroundings};
use crate::fields::Addresses;
use crate::images::{ImageError, Present};
use crate::make;
use crate::observed::{ContainerId, Sandbox};
use crate::pod::{self, ContainerSpec};
use crate::probes::{Handler, Outcome, Target};
use crate::runtime::RuntimeError;
use crate::security;
use crate::userns;
use crate::volumes::{self, Source};

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

/// Makes and starts a container: images, configuration, container, process, postStart hook.
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
    let start = Start { job: &job, about: &about, spec: &spec, attempt, sandbox: &sandbox };
    let namespace = user_namespace(&job).await.map_err(|e| start.misconfigured(&e))?;
    let mut config = sandbox_config(&job, sandbox.attempt).map_err(|e| start.misconfigured(&e))?;
    userns::enter_sandbox(&mut config, &namespace);
    let images = start.pull(&config).await?;
    let mounted = u64::try_from(images.mounted.len()).unwrap_or(0);
    let mut container = start.configure(images, target).await?;
    userns::enter_container(&mut container, &namespace);
    let id = start.create(container, config).await?;
    IMAGE_VOLUMES.mounted.fetch_add(mounted, Relaxed);
    start.run(&id).await?;
    start.post_start(ContainerId(id)).await
}

/// A container that is being started.
struct Start<'a> {
    job: &'a Job,
    about: &'a ObjectReference,
    spec: &'a ContainerSpec<'a>,
    attempt: u32,
    sandbox: &'a Sandbox,
}

/// What a container runs, and the images that it mounts as volumes, by volume.
struct Images {
    own: Present,
    mounted: BTreeMap<String, v1::ImageSpec>,
}

impl Start<'_> {
    fn failed(&self, reason: &'static str, why: impl ToString) -> StartError {
        let error = StartError::new(reason, why);
        self.job.ctx.events.warning(self.about, "Failed", format!("Error: {}", error.message));
        error
    }

    fn misconfigured(&self, why: &dyn Display) -> StartError {
        self.failed("CreateContainerConfigError", why)
    }

    /// The addresses of the container, as it is told them.
    fn ips(&self) -> Vec<String> {
        if pod::host_network(&self.job.pod) {
            return self.job.ctx.config.host_ips();
        }
        self.sandbox.ips.clone()
    }

    /// Makes sure of all images, unless the pod is to stop.
    async fn pull(&self, sandbox: &v1::PodSandboxConfig) -> Result<Images, StartError> {
        let secrets = pull_secrets(self.job).await;
        let own = self.ensure(&self.spec.spec, &secrets, sandbox).await?;
        let mut mounted = BTreeMap::new();
        for (volume, wanted) in image_volumes(&self.job.pod, &self.spec.spec) {
            IMAGE_VOLUMES.requested.fetch_add(1, Relaxed);
            let found = self.ensure(&wanted, &secrets, sandbox).await.inspect_err(|error| {
                if error.reason != STOPPED {
                    IMAGE_VOLUMES.failed.fetch_add(1, Relaxed);
                }
            })?;
            let image = v1::ImageSpec {
                image: found.reference,
                user_specified_image: wanted.image.unwrap_or_default(),
                ..v1::ImageSpec::default()
            };
            mounted.insert(volume, image);
        }
        Ok(Images { own, mounted })
    }

    async fn ensure(
        &self,
        wanted: &Container,
        secrets: &[Arc<Content>],
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<Present, StartError> {
        let found = tokio::select! {
            found = self.job.ctx.images.ensure(&self.job.pod, wanted, secrets, sandbox, self.about) => found,
            () = self.job.stop.cancelled() => return Err(stopped()),
        };
        found.map_err(|error| {
            self.job.ctx.events.warning(self.about, "Failed", format!("Error: {}", error.reason()));
            let pull = matches!(error, ImageError::Pull { .. });
            let image = pull.then(|| wanted.image.clone().unwrap_or_default());
            StartError { reason: error.reason(), message: error.to_string(), image }
        })
    }

    /// What the runtime is to make.
    async fn configure(
        &self,
        images: Images,
        target: Option<String>,
    ) -> Result<v1::ContainerConfig, StartError> {
        let (job, wrong) = (self.job, |why: &dyn Display| self.misconfigured(why));
        security::check_non_root(&job.pod, &self.spec.spec, &images.own.image).map_err(|e| wrong(&e))?;
        let environment = self.environment().await?;
        let mounts = self.mounts(&environment, images.mounted).await?;
        let log_dir = make::log_dir(&job.ctx.config.log_dir, &job.key).join(self.spec.name());
        let unmade = |e| self.failed("CreateContainerError", format!("{}: {e}", log_dir.display()));
        tokio::fs::create_dir_all(&log_dir).await.map_err(unmade)?;
        let parts = make::Parts {
            attempt: self.attempt,
            image: images.own.reference,
            environment,
            mounts,
            target,
            node_memory: job.ctx.machine.memory,
            seccomp_dir: job.ctx.config.seccomp_dir(),
        };
        Ok(make::container(&job.key, &job.pod, self.spec, parts))
    }

    async fn environment(&self) -> Result<Environment, StartError> {
        let (job, wrong) = (self.job, |why: &dyn Display| self.misconfigured(why));
        let contents = job.ctx.contents.get(&content::references(&job.pod)).await.map_err(|e| wrong(&e))?;
        let files = {
            let (job, container) = (job.clone(), self.spec.spec.clone().into_owned());
            tokio::task::spawn_blocking(move || env_files(&job, &container)).await.map_err(|e| wrong(&e))?
        };
        let around = Surroundings {
            contents: &contents,
            files: &files,
            services: &job.ctx.services_for(&job.key.namespace),
            addresses: Addresses { pod: &self.ips(), host: &job.ctx.config.host_ips() },
            allocatable: &job.ctx.allocatable,
        };
        env::environment(&job.pod, &self.spec.spec, &around).map_err(|e| wrong(&e))
    }

    async fn mounts(
        &self,
        environment: &Environment,
        images: BTreeMap<String, v1::ImageSpec>,
    ) -> Result<Vec<v1::Mount>, StartError> {
        let (job, container) = (self.job.clone(), self.spec.spec.clone().into_owned());
        let (attempt, ips, environment) = (self.attempt, self.sandbox.ips.clone(), environment.clone());
        let recursive_read_only = job.ctx.features.recursive_read_only(&self.sandbox.handler);
        let work = tokio::task::spawn_blocking(move || {
            let with = make::MountInputs {
                dir: &job.ctx.pod_dir(&job.key),
                ips: &ips,
                domain: &job.ctx.config.dns.domain,
                attempt,
                recursive_read_only,
                images: &images,
            };
            make::mounts(&job.pod, &container, &environment, &with)
        });
        work.await.map_err(|e| self.misconfigured(&e))?.map_err(|e| self.misconfigured(&e))
    }

    /// Has the runtime make the container; its id.
    async fn create(
        &self,
        config: v1::ContainerConfig,
        sandbox: v1::PodSandboxConfig,
    ) -> Result<String, StartError> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: self.sandbox.id.0.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox),
        };
        if self.job.stop.is_cancelled() {
            return Err(stopped());
        }
        let created = self.job.ctx.cri.runtime().create_container(request).await;
        let created = created.map_err(|status| self.failed("CreateContainerError", status.message()))?;
        let message = format!("Created container: {}", self.spec.name());
        self.job.ctx.events.normal(self.about, "Created", message);
        Ok(created.into_inner().container_id)
    }

    async fn run(&self, id: &str) -> Result<(), StartError> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        let started = self.job.ctx.cri.runtime().start_container(request).await;
        started.map_err(|status| self.failed("RunContainerError", status.message()))?;
        let message = format!("Started container {}", self.spec.name());
        self.job.ctx.events.normal(self.about, "Started", message);
        Ok(())
    }

    /// Runs the postStart hook, if there is one; a container whose hook fails is ended.
    async fn post_start(&self, id: ContainerId) -> Result<(), StartError> {
        let job = self.job;
        let hook = self.spec.spec.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let ip = self.ips().into_iter().next().unwrap_or_default();
        let target = Target { cri: job.ctx.cri.clone(), container: id.clone(), ip: ip.clone() };
        let handler = Handler::of_hook(&self.spec.spec, hook);
        let forever = Duration::from_secs(365 * 24 * 3600);
        let outcome = tokio::select! {
            outcome = handler.attempt(&target, forever) => outcome,
            () = job.stop.cancelled() => return Ok(()),
        };
        let (Outcome::Failure(text) | Outcome::Unknown(text)) = outcome else { return Ok(()) };
        // The text may hold what the hook printed, which is not for everybody who reads events.
        job.ctx.events.warning(self.about, "FailedPostStartHook", "PostStartHook failed");
        let grace = Duration::from_secs(u64::try_from(pod::grace_seconds(&job.pod)).unwrap_or(30));
        let message = "FailedPostStartHook".to_owned();
        if let Err(error) = kill(job.clone(), id, self.spec.name().to_owned(), grace, message, ip).await {
            tracing::warn!(pod = %job.key, %error, "a container whose postStart hook failed was not stopped");
        }
        Err(StartError::new("PostStartHookError", text))
    }
}

/// The reason of what is not started because the pod is to stop.
const STOPPED: &str = "ContainerCreating";

fn stopped() -> StartError {
    StartError::new(STOPPED, "the pod is being stopped")
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
