//! What a pod needs before its containers: directories, cgroup, and volumes with their content, which follows the API.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;

use super::Job;
use crate::bundles::{self, Bundle};
use crate::certificates::{Place, Shown};
use crate::content::{self, ContentId};
use crate::context::about_pod;
use crate::fields::Addresses;
use crate::key::PodKey;
use crate::pod;
use crate::qos;
use crate::volumes::ownership::Group;
use crate::volumes::projection::{self, ProjectionError, TokenKey};
use crate::volumes::{self, Source, VolumeError, atomic, mounts};

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

/// A pod whose containers can be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prepared {
    /// When its volumes are to be brought up to date.
    pub(crate) due: Option<Timestamp>,
    /// What its group has been limited to; none if that is wider than the pod asks for.
    pub(crate) group: Option<qos::PodResources>,
}

/// Makes directories, cgroup and volumes.
pub(crate) async fn prepare(job: Job, ips: Vec<String>) -> Result<Prepared, String> {
    let made = async {
        // Drivers cannot register yet, and a container without its devices is not what was asked for.
        if pod::claims_devices(&job.pod) {
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
                Source::Claim { read_only } => {
                    // One that was not asked for is there already.
                    let Some(claimed) = claims.get(&volume.name) else { return Ok(()) };
                    let group = Group::of(pod).filter(|_| !read_only);
                    if let Some(stays) = volumes::claims::bind(claimed, &path, &dir, group)? {
                        tell_of_group(job, claimed, stays);
                    }
                    Ok(())
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

/// A pod has the volume already, whose fsGroup is another.
fn tell_of_group(job: &Job, claimed: &volumes::claims::Claimed, stays: u32) {
    let message = format!(
        "The requested fsGroup is {}, but the volume {} has GID {stays}. The volume may not be shareable.",
        volumes::fs_group(&job.pod).unwrap_or_default(),
        claimed.volume
    );
    job.ctx.events.warning(&about_pod(&job.pod), "AlreadyMountedVolume", message);
}
