//! Which volumes a node is to have, and what is to be done about those that it has. Pure.
//!
//! A VolumeAttachment says that a volume is to be attached; the driver's attacher does it and says so in the status. What a
//! node mounts it says itself (`volumesInUse`), and from what is taken away it is told first (`volumesAttached`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume},
    storage::v1::VolumeAttachment,
};
use sha2::{Digest, Sha256};

use crate::{object::Object, pod::Pod, pod_gc::OUT_OF_SERVICE, pods::is_finished};

/// A node that does not answer may still write; only so much later its volumes are taken away.
pub(super) const PATIENCE: Duration = Duration::from_secs(360);

/// On a node: it leaves attaching to us.
pub(super) const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// On a node: pods that have ended keep their volumes.
const KEEPS: &str = "volumes.kubernetes.io/keep-terminated-pod-volumes";
/// How long the names of our attachments are: a prefix and a hash.
const NAME_LENGTH: usize = PREFIX.len() + 64;
const PREFIX: &str = "csi-";

/// A volume of a CSI driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    /// Its PersistentVolume's name.
    pub(super) name: String,
    driver: String,
    handle: String,
    /// Not on two nodes at a time.
    exclusive: bool,
}

impl Volume {
    /// `None`: no CSI driver has it.
    pub(super) fn new(volume: &PersistentVolume) -> Option<Self> {
        let spec = volume.spec.as_ref()?;
        let csi = spec.csi.as_ref()?;
        let modes = spec.access_modes.as_deref().unwrap_or_default();
        let shared = |mode: &String| matches!(mode.as_str(), "ReadWriteMany" | "ReadOnlyMany");
        Some(Self {
            name: volume.name().to_owned(),
            driver: csi.driver.clone(),
            handle: csi.volume_handle.clone(),
            exclusive: !modes.is_empty() && !modes.iter().any(shared),
        })
    }

    pub(super) fn driver(&self) -> &str {
        &self.driver
    }

    /// What nodes call it.
    fn on_nodes(&self) -> String {
        format!("kubernetes.io/csi/{}^{}", self.driver, self.handle)
    }

    /// The name of its attachment to a node, which drivers' node plugins compute, too.
    fn attachment(&self, node: &str) -> String {
        let hash =
            Sha256::new().chain_update(&self.handle).chain_update(&self.driver).chain_update(node).finalize();
        hash.iter().fold(PREFIX.to_owned(), |name, byte| format!("{name}{byte:02x}"))
    }
}

/// A volume that pods of the node want.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) volume: Volume,
    pub(super) pods: Vec<Arc<Pod>>,
}

/// An attachment to the node, with its volume if that is there.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) attachment: Arc<VolumeAttachment>,
    pub(super) volume: Option<Volume>,
}

impl Attached {
    fn is_attached(&self) -> bool {
        self.attachment.status.as_ref().is_some_and(|status| status.attached)
    }

    /// Others may attach what they like.
    fn is_ours(&self) -> bool {
        let name = self.attachment.name();
        name.len() == NAME_LENGTH && name.starts_with(PREFIX)
    }
}

/// One step. Those of a plan are done in order, and none after one that fails.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Tells the node what it may mount: all of it.
    Report(Vec<String>),
    Attach {
        name: String,
        volume: Volume,
    },
    Detach(Arc<VolumeAttachment>),
    /// An event about a pod.
    Tell {
        pod: Arc<Pod>,
        says: Says,
        message: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Succeeded,
    /// Told once for as long as it is so.
    Fails,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    /// The attachments that nobody wants any more, but that the node may still use: it is looked at again.
    pub(super) unwanted: Vec<String>,
    pub(super) look_again: Option<Duration>,
}

/// What is seen beside a node and its pods.
pub(super) struct Seen<'a> {
    /// The node's attachments.
    pub(super) here: &'a [Attached],
    /// The names of the other nodes that a volume is attached to.
    pub(super) elsewhere: &'a dyn Fn(&Volume) -> Vec<String>,
    /// The pods that use a volume on other nodes.
    pub(super) rivals: &'a dyn Fn(&Volume) -> Vec<Arc<Pod>>,
    /// For how long it is known that nobody wants an attachment, by its name.
    pub(super) unwanted_for: &'a dyn Fn(&str) -> Duration,
}

/// Whether a pod has its volumes: one that has ended has not, unless its node keeps them.
pub(super) fn has_volumes(pod: &Pod, node: &Node) -> bool {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let stopped = statuses.iter().all(|c| c.state.as_ref().is_some_and(|state| state.terminated.is_some()));
    let over = is_finished(pod) || pod.is_going() && stopped;
    !over || node.annotation(KEEPS) == Some("true")
}

/// What of a node a plan reads: when it changes, the node is looked at.
pub(super) fn read_of(node: &Node) -> (bool, bool, bool, &[String]) {
    let in_use = node.status.as_ref().and_then(|status| status.volumes_in_use.as_deref());
    (
        node.annotation(MANAGED).is_some(),
        is_healthy(node),
        is_out_of_service(node),
        in_use.unwrap_or_default(),
    )
}

fn is_healthy(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// What a node needs. `None`: it is gone, and `wanted` is empty.
pub(super) fn plan(name: &str, node: Option<&Node>, wanted: &[Wanted], seen: &Seen<'_>) -> Plan {
    let mut plan = Plan::default();
    let (managed, _, _, in_use) = node.map_or((true, false, false, &[][..]), read_of);
    if !managed {
        return plan;
    }
    let is_wanted = |attached: &Attached| {
        wanted.iter().any(|want| want.volume.attachment(name) == attached.attachment.name())
    };
    let unwanted = seen.here.iter().filter(|one| one.is_ours() && !is_wanted(one));
    let mut detaches = Vec::new();
    for attached in unwanted.filter(|one| !one.attachment.is_going()) {
        let attachment = &attached.attachment;
        let mounted = match &attached.volume {
            Some(volume) => in_use.contains(&volume.on_nodes()),
            // Which of those in use it is nobody knows.
            None => !in_use.is_empty(),
        };
        let known_for = (seen.unwanted_for)(attachment.name());
        let force =
            node.is_none_or(|node| is_out_of_service(node) || !is_healthy(node) && known_for >= PATIENCE);
        if mounted && !force {
            plan.unwanted.push(attachment.name().to_owned());
            if !node.is_some_and(is_healthy) {
                let left = PATIENCE.saturating_sub(known_for);
                plan.look_again = Some(plan.look_again.map_or(left, |again| again.min(left)));
            }
        } else {
            detaches.push(Arc::clone(attachment));
        }
    }

    let stays = |one: &&Attached| {
        let goes = detaches.iter().any(|gone| gone.name() == one.attachment.name());
        one.is_attached() && !one.attachment.is_going() && !goes
    };
    let mut may_mount: Vec<_> =
        seen.here.iter().filter(stays).filter_map(|one| one.volume.as_ref()).map(Volume::on_nodes).collect();
    may_mount.sort();
    let told = node.and_then(|node| node.status.as_ref()?.volumes_attached.as_deref()).unwrap_or_default();
    let knows = |volume: &str| told.iter().any(|known| known.name == volume);
    if node.is_some() && (told.len() != may_mount.len() || !may_mount.iter().all(|volume| knows(volume))) {
        plan.actions.push(Action::Report(may_mount.clone()));
    }
    plan.actions.extend(detaches.into_iter().map(Action::Detach));

    for Wanted { volume, pods } in wanted {
        let mut tell = |says, pod: &Arc<Pod>, message| {
            plan.actions.push(Action::Tell { pod: Arc::clone(pod), says, message });
        };
        let own = volume.attachment(name);
        if let Some(attached) = seen.here.iter().find(|one| one.attachment.name() == own) {
            let error = attached.attachment.status.as_ref().and_then(|status| status.attach_error.as_ref());
            let on_node = volume.on_nodes();
            if may_mount.contains(&on_node) && !knows(&on_node) {
                let message = format!("AttachVolume.Attach succeeded for volume {:?} ", volume.name);
                pods.iter().for_each(|pod| tell(Says::Succeeded, pod, message.clone()));
            } else if let Some(error) = error.filter(|_| !attached.is_attached()) {
                let why = error.message.as_deref().unwrap_or_default();
                let message = format!("AttachVolume.Attach failed for volume {:?} : {why}", volume.name);
                pods.iter().for_each(|pod| tell(Says::Fails, pod, message.clone()));
            }
            continue;
        }
        if volume.exclusive && !(seen.elsewhere)(volume).is_empty() {
            let rivals = (seen.rivals)(volume);
            for pod in pods {
                let why = clash(pod, &rivals);
                tell(Says::Fails, pod, format!("Multi-Attach error for volume {:?} {why}", volume.name));
            }
            continue;
        }
        plan.actions.push(Action::Attach { name: own, volume: volume.clone() });
    }
    plan
}

/// Why a pod cannot have a volume that others have: whoever sees the pod need not know of other namespaces.
fn clash(pod: &Pod, rivals: &[Arc<Pod>]) -> String {
    let near: Vec<_> =
        rivals.iter().filter(|rival| rival.namespace() == pod.namespace()).map(|p| p.name()).collect();
    let far = rivals.len() - near.len();
    match (near.is_empty(), far) {
        (true, 0) => {
            "Volume is already exclusively attached to one node and can't be attached to another".to_owned()
        }
        (true, far) => format!("Volume is already used by {far} pod(s) in different namespaces"),
        (false, 0) => format!("Volume is already used by pod(s) {}", near.join(", ")),
        (false, far) => {
            format!(
                "Volume is already used by pod(s) {} and {far} pod(s) in different namespaces",
                near.join(", ")
            )
        }
    }
}

/// Adds that a pod wants a volume.
pub(super) fn want(wanted: &mut BTreeMap<String, Wanted>, volume: Volume, pod: &Arc<Pod>) {
    let key = volume.on_nodes();
    let entry = wanted.entry(key).or_insert_with(|| Wanted { volume, pods: Vec::new() });
    entry.pods.push(Arc::clone(pod));
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
