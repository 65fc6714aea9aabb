//! Volumes of the policy `Recycle`: emptied by a pod, then free for the next claim. Pure.
//!
//! Upstream has deprecated the policy in favour of provisioning, and does it for directories of a host and of NFS alone.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, Pod as WholePod};
use serde_json::{Value, json};
use tiphys_client::ObjectKey;

use super::{
    binding::{self, Action, Severity},
    matching,
};
use crate::{object::Object, pod::Pod, pods::phase};

const NAMESPACE: &str = "default";
const PREFIX: &str = "recycler-for-";
/// Any image with a shell and `find` does.
const IMAGE: &str = "registry.k8s.io/build-image/debian-base:bookworm-v1.0.2";
const EMPTIES: &str = "test -e /scrub && find /scrub -mindepth 1 -maxdepth 1 -exec rm -rf {} + && \
                       test -z \"$(ls -A /scrub)\"";
/// Seconds that each GiB of a volume may take.
const EACH: i64 = 30;
const GIB: i64 = 1 << 30;

/// Where the pod stands that empties a volume.
pub(super) fn scrubber(volume: &str) -> ObjectKey {
    ObjectKey::new(NAMESPACE, &format!("{PREFIX}{volume}"))
}

/// The volume that a pod of this name empties.
pub(super) fn scrubbed(pod: &ObjectKey) -> Option<ObjectKey> {
    let volume = pod.name.strip_prefix(PREFIX).filter(|_| &*pod.namespace == NAMESPACE)?;
    Some(ObjectKey::new("", volume))
}

/// One step towards an empty volume. They are done in order, and none after one that fails.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Do(Action),
    Start(Box<WholePod>),
    /// Deletes the pod of this UID.
    End(String),
    /// It failed: not again at once.
    Rest,
}

pub(super) struct Seen<'a> {
    /// The pod of the name that a volume's has.
    pub(super) pod: Option<&'a Pod>,
    /// The UID of the pod that was made for this. Anybody may make one of its name.
    pub(super) made: Option<&'a str>,
    /// It failed a moment ago.
    pub(super) rests: bool,
    /// The pods that use the volume still.
    pub(super) users: &'a [String],
}

/// What a volume needs that nobody claims any more.
pub(super) fn steps(volume: &Arc<PersistentVolume>, seen: &Seen<'_>) -> Vec<Step> {
    let Some(pod) = pod_for(volume) else {
        return failed(volume, "No recycler plugin found for the volume!");
    };
    if !seen.users.is_empty() {
        let message = format!("Volume is used by pods: {}", seen.users.join(","));
        return vec![tell(Severity::Normal, "VolumeFailedRecycle", message)];
    }
    match seen.pod {
        None if seen.rests => vec![Step::Rest],
        None => vec![Step::Start(Box::new(pod))],
        // When it is gone, we hear of that.
        Some(there) if there.is_going() => Vec::new(),
        Some(there) if seen.made != Some(there.uid()) => vec![Step::End(there.uid().to_owned())],
        Some(there) => match phase(there) {
            "Succeeded" => {
                let mut steps: Vec<_> = binding::unbind(volume).into_iter().map(Step::Do).collect();
                steps.push(tell(Severity::Normal, "VolumeRecycled", "Volume recycled".to_owned()));
                steps.push(Step::End(there.uid().to_owned()));
                steps
            }
            "Failed" => {
                let why = there.status.as_ref().and_then(|status| status.message.as_deref());
                let why = why.unwrap_or("pod failed, pod.Status.Message unknown");
                let mut steps = failed(volume, &format!("Recycle failed: failed to recycle volume: {why}"));
                steps.push(Step::End(there.uid().to_owned()));
                steps.push(Step::Rest);
                steps
            }
            _ => Vec::new(),
        },
    }
}

/// What is told of a volume that cannot be emptied.
pub(super) fn failed(volume: &Arc<PersistentVolume>, message: &str) -> Vec<Step> {
    let is = volume.status.as_ref();
    if is.is_some_and(|is| is.phase.as_deref() == Some("Failed") && is.message.as_deref() == Some(message)) {
        return Vec::new();
    }
    let status = json!({"phase": "Failed", "message": message});
    vec![
        Step::Do(Action::VolumeStatus { of: Arc::clone(volume), status }),
        tell(Severity::Warning, "VolumeFailedRecycle", message.to_owned()),
    ]
}

fn tell(severity: Severity, reason: &'static str, message: String) -> Step {
    Step::Do(Action::Tell { severity, reason, message })
}

/// The pod that empties a volume; `None`: nothing can.
fn pod_for(volume: &PersistentVolume) -> Option<WholePod> {
    let spec = volume.spec.as_ref()?;
    let (source, least): (Value, i64) = match (&spec.host_path, &spec.nfs) {
        (Some(directory), _) => (json!({"name": "vol", "hostPath": {"path": directory.path}}), 60),
        (None, Some(nfs)) => (json!({"name": "vol", "nfs": {"server": nfs.server, "path": nfs.path}}), 300),
        (None, None) => return None,
    };
    let deadline = (matching::capacity(volume) / GIB * EACH).max(least);
    let key = scrubber(volume.name());
    let pod = json!({
        "metadata": {"namespace": *key.namespace, "name": *key.name},
        "spec": {
            "activeDeadlineSeconds": deadline,
            "restartPolicy": "Never",
            "volumes": [source],
            "containers": [{"name": "pv-recycler", "image": IMAGE, "command": ["/bin/sh", "-c", EMPTIES],
                "volumeMounts": [{"name": "vol", "mountPath": "/scrub"}]}],
        },
    });
    serde_json::from_value(pod).ok()
}

#[cfg(test)]
#[path = "recycle_tests.rs"]
mod tests;
