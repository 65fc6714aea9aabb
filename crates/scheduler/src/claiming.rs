//! What the scheduler writes of claims to devices: what they get, who uses them, and that this has come to nothing.
//!
//! Each write is made under the version that was read, so that of two who give devices to a claim one learns it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::resource::v1::{
        AllocationResult, DeviceClaim, DeviceRequest, ResourceClaim,
        ResourceClaimConsumerReference as Consumer, ResourceClaimSpec,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use tiphys_api::quota;
use tiphys_client::{ObjectKey, ObjectRef, devices::FINALIZER};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::{
    devices::{
        Devices,
        binding::{self, Binding},
        extended::Claiming,
    },
    framework::Errand,
    metrics,
    plugins::dynamic_resources::keys,
    pod::PodInfo,
    runner::Shared,
};

/// How long devices can be waited for; see [`readiness`].
type Wait = Option<Duration>;

/// How often a write is tried that meets another.
const ATTEMPTS: usize = 5;

/// Why a pod cannot use its claim.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimingError {
    #[error("writing resource claim {0}: {1}")]
    Write(ObjectKey, #[source] kube::Error),
    #[error("resource claim {0} {1}")]
    Changed(ObjectKey, &'static str),
    #[error("the devices for the extended resources have gone")]
    Gone,
    #[error("making a claim for the extended resources: {0}")]
    Make(#[source] kube::Error),
    #[error("telling the pod of the claim for its extended resources: {0}")]
    Tell(#[source] kube::Error),
}

/// Why the devices of a pod cannot be used yet, and will not be waited for.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum NotReady {
    #[error("claim {claim} binding failed: {why}")]
    Failed { claim: Arc<str>, why: Box<str> },
    #[error("claim {0} binding timeout")]
    Late(Arc<str>),
    #[error("device binding timeout")]
    AllLate,
}

impl NotReady {
    /// How upstream's metrics call it.
    fn status(&self) -> &'static str {
        match self {
            Self::Failed { .. } => "failure",
            Self::Late(_) | Self::AllLate => "timeout",
        }
    }
}

/// What is to be written of a claim next.
#[derive(Clone, Debug, PartialEq)]
enum Next {
    Done,
    /// Of its metadata.
    Protect(Value),
    /// Of its status.
    Use(Value),
}

/// What is to be done so that the pod uses the claim; it gets `allocation`, if it has no devices.
fn next(
    claim: &ResourceClaim,
    pod: &PodInfo,
    uid: &str,
    allocation: Option<&AllocationResult>,
) -> Result<Next, &'static str> {
    if claim.metadata.uid.as_deref() != Some(uid) || claim.metadata.deletion_timestamp.is_some() {
        return Err("got deleted in the meantime");
    }
    let status = claim.status.clone().unwrap_or_default();
    let mut users = status.reserved_for.unwrap_or_default();
    let is_user = users.iter().any(|user| user.uid == *pod.reference.uid);
    let version = &claim.metadata.resource_version;
    if !is_user {
        users.push(Consumer {
            api_group: None,
            resource: "pods".to_owned(),
            name: pod.key().name.to_string(),
            uid: pod.reference.uid.to_string(),
        });
    }
    let mut patch = json!({"metadata": {"resourceVersion": version}, "status": {"reservedFor": users}});
    match (status.allocation, allocation) {
        (None, None) => Err("got deallocated elsewhere in the meantime"),
        (Some(has), Some(wanted)) if has != *wanted => Err("got allocated elsewhere in the meantime"),
        (Some(_), _) if is_user => Ok(Next::Done),
        (Some(_), _) => Ok(Next::Use(patch)),
        (None, Some(wanted)) => {
            let mut finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
            if finalizers.iter().all(|name| name != FINALIZER) {
                finalizers.push(FINALIZER.to_owned());
                return Ok(Next::Protect(
                    json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}}),
                ));
            }
            patch["status"]["allocation"] = json!(wanted);
            Ok(Next::Use(patch))
        }
    }
}

/// What takes the pod off a claim, with the devices if nobody else uses them; `None`: nothing has to be.
fn release(claim: &ResourceClaim, pod: &PodInfo) -> Option<Value> {
    let status = claim.status.as_ref()?;
    let others: Vec<_> =
        status.reserved_for.iter().flatten().filter(|user| user.uid != *pod.reference.uid).collect();
    let had = status.reserved_for.as_ref().map_or(0, Vec::len);
    let is_idle = others.is_empty() && status.allocation.is_some();
    if others.len() == had && !is_idle {
        return None;
    }
    let mut new = json!({"reservedFor": (!others.is_empty()).then_some(others)});
    if is_idle {
        new["allocation"] = Value::Null;
    }
    Some(json!({"metadata": {"resourceVersion": claim.metadata.resource_version}, "status": new}))
}

/// How long one may wait until the devices of these claims are ready; `None`: they are.
///
/// # Errors
/// They never will be, or not in time.
fn readiness(
    devices: &Devices,
    keys: impl Iterator<Item = ObjectKey>,
    now: Timestamp,
    at_most: Duration,
) -> Result<Wait, NotReady> {
    let mut wait: Wait = None;
    for key in keys {
        let claim = devices.claim(&key);
        let allocation = claim.and_then(|claim| claim.allocation.as_ref());
        match claim.map(|claim| &claim.binding) {
            Some(Binding::Failed(why)) => {
                return Err(NotReady::Failed { claim: key.name.clone(), why: why.clone() });
            }
            Some(Binding::Ready) if allocation.is_some() => {}
            // What was written of the claim may not have been heard of yet.
            _ => {
                let left = allocation.map_or(at_most, |allocation| binding::left(allocation, now, at_most));
                if left.is_zero() {
                    return Err(NotReady::Late(key.name.clone()));
                }
                wait = Some(wait.map_or(left, |wait| wait.min(left)));
            }
        }
    }
    Ok(wait)
}

/// The claim for what a pod asks for by extended resources.
fn for_resources(pod: &PodInfo, requests: &[DeviceRequest]) -> ResourceClaim {
    let ObjectRef { key, uid } = &pod.reference;
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: key.name.to_string(),
        uid: uid.to_string(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-extended-resources-", key.name)),
        annotations: Some([(quota::FOR_RESOURCES.to_owned(), "true".to_owned())].into()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let devices = DeviceClaim { requests: Some(requests.to_vec()), ..DeviceClaim::default() };
    ResourceClaim { metadata, spec: Some(ResourceClaimSpec { devices: Some(devices) }), status: None }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

impl Shared {
    fn claims(&self, key: &ObjectKey) -> Api<ResourceClaim> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    /// Makes a claim for the pod's extended resources, and gives it the devices; `made` tells its key as soon as it is
    /// there.
    pub(crate) async fn claim_devices(
        &self,
        pod: &PodInfo,
        claiming: &Claiming,
        allocation: Option<&AllocationResult>,
        made: &mut Option<ObjectKey>,
    ) -> Result<(), ClaimingError> {
        let allocation = allocation.ok_or(ClaimingError::Gone)?;
        let claims: Api<ResourceClaim> = Api::namespaced(self.client.clone(), &pod.key().namespace);
        let claim = for_resources(pod, &claiming.requests);
        let claim = claims.create(&PostParams::default(), &claim).await.map_err(ClaimingError::Make)?;
        let ObjectRef { key, uid } = ObjectRef::of(&claim.metadata);
        *made = Some(key.clone());
        self.use_devices(pod, &key, &uid, Some(allocation)).await?;
        let told = json!({"extendedResourceClaimStatus":
            {"resourceClaimName": &*key.name, "requestMappings": claiming.mappings}});
        self.write_status(pod, told).await.map_err(ClaimingError::Tell)
    }

    /// Waits until the devices of the pod's claims, and of the one that was `made` for it, are ready.
    ///
    /// # Errors
    /// They never will be, or are not in time.
    pub(crate) async fn until_ready(
        &self,
        pod: &PodInfo,
        made: Option<&ObjectKey>,
        at_most: Duration,
    ) -> Result<(), NotReady> {
        let begun = Instant::now();
        let keys = || keys(pod).chain(made.cloned());
        let ready = self.wait_until_ready(keys, at_most).await;
        let status = ready.as_ref().map_or_else(NotReady::status, |()| "success");
        let state = self.lock();
        let devices = &state.snapshot.surroundings().devices;
        let claims: Vec<_> = keys().filter_map(|key| devices.claim(&key)).collect();
        let allocations = claims.iter().filter_map(|claim| claim.allocation.as_deref());
        metrics::devices_awaited(&pod.scheduler, status, allocations, begun.elapsed());
        drop(state);
        ready
    }

    async fn wait_until_ready<K: Iterator<Item = ObjectKey>>(
        &self,
        keys: impl Fn() -> K,
        at_most: Duration,
    ) -> Result<(), NotReady> {
        let mut changes = self.storage.subscribe();
        let last = Instant::now() + at_most;
        loop {
            let wait = {
                let state = self.lock();
                readiness(&state.snapshot.surroundings().devices, keys(), Timestamp::now(), at_most)?
            };
            let Some(wait) = wait else { return Ok(()) };
            let until = last.min(Instant::now() + wait);
            match timeout_at(until, changes.changed()).await {
                // The sender lives as long as `self`.
                Ok(_) => {}
                Err(_) => return Err(NotReady::AllLate),
            }
        }
    }

    /// Makes the pod a user of the claim, which gets the devices of `allocation` first, if there is one.
    pub(crate) async fn use_devices(
        &self,
        pod: &PodInfo,
        key: &ObjectKey,
        uid: &str,
        allocation: Option<&AllocationResult>,
    ) -> Result<(), ClaimingError> {
        let (claims, how) = (self.claims(key), PatchParams::default());
        let failed = |error| ClaimingError::Write(key.clone(), error);
        // As the API tells it again.
        let now = Timestamp::from_second(Timestamp::now().as_second()).ok().map(Time);
        let allocation = allocation
            .map(|a| AllocationResult { allocation_timestamp: now.clone(), ..AllocationResult::clone(a) });
        let mut seen = claims.get(&key.name).await.map_err(failed)?;
        for _ in 0..ATTEMPTS {
            let next = next(&seen, pod, uid, allocation.as_ref())
                .map_err(|why| ClaimingError::Changed(key.clone(), why))?;
            let (written, is_last) = match next {
                Next::Done => return Ok(()),
                Next::Protect(patch) => (claims.patch(&key.name, &how, &Patch::Merge(patch)).await, false),
                Next::Use(patch) => (claims.patch_status(&key.name, &how, &Patch::Merge(patch)).await, true),
            };
            seen = match written {
                Ok(_) if is_last => return Ok(()),
                Ok(written) => written,
                Err(error) if is_conflict(&error) => claims.get(&key.name).await.map_err(failed)?,
                Err(error) => return Err(failed(error)),
            };
        }
        Err(ClaimingError::Changed(key.clone(), "is changed by others all the time"))
    }

    /// The pod does not go where the errands were for.
    /// `made`: the claim that was made for it.
    pub(crate) async fn return_devices(&self, pod: &PodInfo, errands: &[Errand], made: Option<ObjectKey>) {
        if errands.iter().any(|e| matches!(e, Errand::UseDevices { .. } | Errand::AwaitDevices)) {
            for claim in keys(pod) {
                self.release_devices(pod, &claim).await;
            }
        }
        if let Some(claim) = made {
            self.delete_claim(&claim).await;
        }
    }

    /// Deletes a claim that nobody uses, with its devices.
    pub(crate) async fn delete_claim(&self, key: &ObjectKey) {
        let claims = self.claims(key);
        for _ in 0..ATTEMPTS {
            let deleted = match claims.get_opt(&key.name).await {
                Ok(None) => return,
                Ok(Some(claim)) => self.end_claim(&claims, &key.name, &claim).await,
                Err(error) => Err(error),
            };
            match deleted {
                Ok(()) => return,
                Err(error) if is_conflict(&error) => {}
                // Whoever cleans up after the pod finds it, too.
                Err(error) => return debug!(claim = %key, %error, "deleting a claim"),
            }
        }
    }

    async fn end_claim(
        &self,
        claims: &Api<ResourceClaim>,
        name: &str,
        claim: &ResourceClaim,
    ) -> kube::Result<()> {
        let finalizers = claim.metadata.finalizers.as_deref().unwrap_or_default();
        let rest: Vec<&String> = finalizers.iter().filter(|name| *name != FINALIZER).collect();
        if rest.len() < finalizers.len() {
            let meta = json!({"finalizers": rest, "resourceVersion": claim.metadata.resource_version});
            let patch = Patch::Merge(json!({"metadata": meta}));
            claims.patch(name, &PatchParams::default(), &patch).await?;
        }
        let same = Preconditions { uid: claim.metadata.uid.clone(), resource_version: None };
        let how = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match claims.delete(name, &how).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    /// Takes the pod off the claim, and the devices if nobody else uses them.
    pub(crate) async fn release_devices(&self, pod: &PodInfo, key: &ObjectKey) {
        let claims = self.claims(key);
        for _ in 0..ATTEMPTS {
            let written = match claims.get_opt(&key.name).await {
                Ok(claim) => {
                    let Some(patch) = claim.and_then(|claim| release(&claim, pod)) else { return };
                    claims
                        .patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                        .await
                        .map(drop)
                }
                Err(error) => Err(error),
            };
            match written {
                Ok(()) => return,
                Err(error) if is_conflict(&error) => {}
                // The pod's next attempt finds the claim as it is; if there is none, whoever cleans up after the pod.
                Err(error) => return debug!(pod = %pod.key(), claim = %key, %error, "releasing devices"),
            }
        }
    }
}

#[cfg(test)]
#[path = "claiming_tests.rs"]
mod tests;
