//! What the scheduler writes of claims to devices: what they get, who uses them, and that this has come to nothing.
//!
//! Each write is made under the version that was read, so that of two who give devices to a claim one learns it.

use k8s_openapi::api::resource::v1::{
    AllocationResult, ResourceClaim, ResourceClaimConsumerReference as Consumer,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tiphys_client::{ObjectKey, devices::FINALIZER};
use tracing::debug;

use crate::{framework::Errand, pod::PodInfo, runner::Shared};

/// How often a write is tried that meets another.
const ATTEMPTS: usize = 5;

/// Why a pod cannot use its claim.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimingError {
    #[error("writing resource claim {0}: {1}")]
    Write(ObjectKey, #[source] kube::Error),
    #[error("resource claim {0} {1}")]
    Changed(ObjectKey, &'static str),
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

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

impl Shared {
    fn claims(&self, key: &ObjectKey) -> Api<ResourceClaim> {
        Api::namespaced(self.client.clone(), &key.namespace)
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
        let mut seen = claims.get(&key.name).await.map_err(failed)?;
        for _ in 0..ATTEMPTS {
            let next =
                next(&seen, pod, uid, allocation).map_err(|why| ClaimingError::Changed(key.clone(), why))?;
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
    pub(crate) async fn return_devices(&self, pod: &PodInfo, errands: &[Errand]) {
        for errand in errands {
            if let Errand::UseDevices { claim, .. } = errand {
                self.release_devices(pod, claim).await;
            }
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
