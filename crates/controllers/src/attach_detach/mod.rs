//! Attaches the volumes of CSI drivers to the nodes whose pods use them, and takes them away when they are done.

mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSIDriver, VolumeAttachment},
};
use kube::{Api, Client, api::Patch};
use parking_lot::Mutex;
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder};
use tokio::{sync::Notify, time::Instant};

use self::plan::{Action, Attached, Says, Seen, Volume, Wanted};
use crate::{
    claim::{exists, gone_is_fine, only},
    controller::{Controller, Tools},
    informers::{BY_CLAIM, BY_NODE, BY_VOLUME, Informers},
    object::Object,
    pod::Pod,
    pods::node_of,
    volumes::claim_named,
};

/// How long an attachment that was made may take to be seen.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// The group of an attachment in the index by node.
pub(crate) fn by_node(attachment: &VolumeAttachment) -> Vec<String> {
    vec![attachment.spec.node_name.clone()]
}

/// The group of an attachment in the index by PersistentVolume.
pub(crate) fn by_volume(attachment: &VolumeAttachment) -> Vec<String> {
    volume_name(attachment).map(str::to_owned).into_iter().collect()
}

fn volume_name(attachment: &VolumeAttachment) -> Option<&str> {
    attachment.spec.source.persistent_volume_name.as_deref()
}

/// Looks at nodes, one at a time: a volume that goes to one node only must not be given to two.
pub(crate) struct AttachDetach {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    nodes: Reader<Node>,
    pods: Reader<Pod>,
    claims: Reader<PersistentVolumeClaim>,
    volumes: Reader<PersistentVolume>,
    drivers: Reader<CSIDriver>,
    attachments: Reader<VolumeAttachment>,
    /// An attachment came, changed or went.
    changed: Arc<Notify>,
    memory: Mutex<BTreeMap<String, Memory>>,
}

/// What is remembered of a node; none of it is missed after a restart.
#[derive(Debug, Default)]
struct Memory {
    /// Since when nobody wants an attachment, by its name.
    unwanted: BTreeMap<String, Instant>,
    /// What fails, by the pod that it was told of.
    told: BTreeSet<(String, String)>,
}

impl AttachDetach {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        let (pods, volumes) = (informers.pods.reader(), informers.volumes.reader());
        let users = {
            let (queue, pods) = (queue.clone(), pods.clone());
            move |claim: &str| pods.indexed(BY_CLAIM, claim).iter().for_each(|pod| add_node_of(&queue, pod))
        };
        let users_of_volume = {
            let users = users.clone();
            move |volume: &PersistentVolume| {
                claim_named(volume).into_iter().for_each(|claim| users(&claim.to_string()));
            }
        };
        informers.pods.on_change({
            let queue = queue.clone();
            move |change| {
                for pod in [&change.old, &change.new].into_iter().flatten() {
                    if pod.spec.as_ref().is_some_and(|spec| !spec.claims.is_empty()) {
                        add_node_of(&queue, pod);
                    }
                }
            }
        });
        informers.nodes.on_change({
            let queue = queue.clone();
            move |change| {
                let same = match (&change.old, &change.new) {
                    (Some(old), Some(new)) => plan::read_of(old) == plan::read_of(new),
                    _ => false,
                };
                if !same {
                    queue.add(change.key.clone());
                }
            }
        });
        informers.volume_claims.on_change(move |change| {
            // Only what it is bound to counts.
            let bound =
                |claim: &Option<Arc<PersistentVolumeClaim>>| claim.as_deref().and_then(bound_to).is_some();
            if bound(&change.old) != bound(&change.new) {
                users(&change.key.to_string());
            }
        });
        informers.volumes.on_change({
            let users_of_volume = users_of_volume.clone();
            move |change| {
                let csi = |volume: &&Arc<PersistentVolume>| Volume::new(volume).is_some();
                let both = [&change.old, &change.new];
                both.into_iter().flatten().filter(csi).for_each(|volume| users_of_volume(volume));
            }
        });
        informers.csi_drivers.on_change({
            let (queue, nodes) = (queue.clone(), informers.nodes.reader());
            move |_| nodes.list().iter().for_each(|node| queue.add(node.key()))
        });
        let changed = Arc::new(Notify::new());
        informers.attachments.on_change({
            let (queue, volumes, changed) = (queue.clone(), volumes.clone(), changed.clone());
            move |change| {
                changed.notify_waiters();
                for attachment in [&change.old, &change.new].into_iter().flatten() {
                    by_node(attachment).iter().for_each(|node| queue.add(ObjectKey::new("", node)));
                }
                // Another node may wait for it.
                let gone = change.old.as_ref().filter(|_| change.new.is_none());
                let volume = gone.and_then(|gone| volumes.get(&ObjectKey::new("", volume_name(gone)?)));
                volume.iter().for_each(|volume| users_of_volume(volume));
            }
        });
        Self {
            client: tools.client,
            events: tools.events,
            queue,
            nodes: informers.nodes.reader(),
            pods,
            claims: informers.volume_claims.reader(),
            volumes,
            drivers: informers.csi_drivers.reader(),
            attachments: informers.attachments.reader(),
            changed,
            memory: Mutex::default(),
        }
    }

    /// The volume behind a claim that is bound, if a driver has to attach it.
    fn attachable(&self, claim: &ObjectKey) -> Option<Volume> {
        let claim = self.claims.get(claim)?;
        let volume = self.volumes.get(&ObjectKey::new("", bound_to(&claim)?))?;
        let named = volume.spec.as_ref()?.claim_ref.as_ref()?;
        let volume = Volume::new(&volume).filter(|_| named.uid.as_deref() == Some(claim.uid()))?;
        let driver = self.drivers.get(&ObjectKey::new("", volume.driver()));
        // A driver of which nothing is known has to.
        driver.is_none_or(|driver| driver.spec.attach_required != Some(false)).then_some(volume)
    }

    fn wanted(&self, node: &Node) -> Vec<Wanted> {
        let mut wanted = BTreeMap::new();
        for pod in self.pods.indexed(BY_NODE, node.name()) {
            let claims = pod.spec.iter().flat_map(|spec| spec.claims.iter());
            let claims = claims.filter(|_| plan::has_volumes(&pod, node));
            for claim in claims.map(|claim| ObjectKey::new(pod.namespace(), &claim.name(&pod))) {
                if let Some(volume) = self.attachable(&claim) {
                    plan::want(&mut wanted, volume, &pod);
                }
            }
        }
        wanted.into_values().collect()
    }

    fn plan(&self, name: &str) -> plan::Plan {
        let node = self.nodes.get(&ObjectKey::new("", name));
        let wanted = node.as_deref().map(|node| self.wanted(node)).unwrap_or_default();
        let volume = |attachment: &VolumeAttachment| {
            Volume::new(&*self.volumes.get(&ObjectKey::new("", volume_name(attachment)?))?)
        };
        let here: Vec<_> = self
            .attachments
            .indexed(BY_NODE, name)
            .into_iter()
            .map(|attachment| Attached { volume: volume(&attachment), attachment })
            .collect();
        let elsewhere = |volume: &Volume| {
            let all = self.attachments.indexed(BY_VOLUME, &volume.name);
            all.iter().flat_map(|one| by_node(one)).filter(|node| node != name).collect()
        };
        let rivals = |volume: &Volume| {
            let claim =
                self.volumes.get(&ObjectKey::new("", &volume.name)).and_then(|volume| claim_named(&volume));
            let mut pods =
                claim.map(|claim| self.pods.indexed(BY_CLAIM, &claim.to_string())).unwrap_or_default();
            pods.retain(|pod| node_of(pod).is_some_and(|other| other != name));
            pods
        };
        let since: BTreeMap<_, _> =
            self.memory.lock().get(name).map(|memory| memory.unwanted.clone()).unwrap_or_default();
        let unwanted_for = |name: &str| since.get(name).map(Instant::elapsed).unwrap_or_default();
        let seen = Seen { here: &here, elsewhere: &elsewhere, rivals: &rivals, unwanted_for: &unwanted_for };
        plan::plan(name, node.as_deref(), &wanted, &seen)
    }

    /// Remembers what a plan said, and leaves out what was told before.
    fn remember(&self, name: &str, plan: &mut plan::Plan) {
        let mut memory = self.memory.lock();
        let before = memory.remove(name).unwrap_or_default();
        let mut now = Memory::default();
        for attachment in &plan.unwanted {
            let since = before.unwanted.get(attachment).copied().unwrap_or_else(Instant::now);
            now.unwanted.insert(attachment.clone(), since);
        }
        plan.actions.retain(|action| match action {
            Action::Tell { pod, says: Says::Fails, message } => {
                let fails = (pod.uid().to_owned(), message.clone());
                let new = !before.told.contains(&fails);
                now.told.insert(fails);
                new
            }
            _ => true,
        });
        if !now.unwanted.is_empty() || !now.told.is_empty() {
            memory.insert(name.to_owned(), now);
        }
    }

    async fn perform(&self, node: &str, action: Action) -> Result<(), kube::Error> {
        let attachments: Api<VolumeAttachment> = Api::all(self.client.clone());
        match action {
            Action::Report(volumes) => {
                let attached = volumes.iter().map(|name| json!({"name": name, "devicePath": ""}));
                let status = json!({"volumesAttached": attached.collect::<Vec<_>>()});
                let nodes: Api<Node> = Api::all(self.client.clone());
                let patch = Patch::Merge(json!({"status": status}));
                gone_is_fine(nodes.patch_status(node, &Default::default(), &patch).await)?;
            }
            Action::Attach { name, volume } => {
                let attachment = json!({
                    "metadata": {"name": name},
                    "spec": {"attacher": volume.driver(), "nodeName": node,
                        "source": {"persistentVolumeName": volume.name}},
                });
                let attachment = serde_json::from_value(attachment).map_err(kube::Error::SerdeError)?;
                match attachments.create(&Default::default(), &attachment).await {
                    Err(error) if !exists(&error) => return Err(error),
                    _ => self.wait_for(&name).await,
                }
            }
            Action::Detach(attachment) => {
                gone_is_fine(attachments.delete(attachment.name(), &only(attachment.uid())).await)?;
            }
            Action::Tell { pod, says, message } => match says {
                Says::Succeeded => self.events.normal(&pod.as_reference(), "SuccessfulAttachVolume", message),
                Says::Fails => self.events.warning(&pod.as_reference(), "FailedAttachVolume", message),
            },
        }
        Ok(())
    }

    /// Waits until readers have an attachment that was made, so that the next look at another node counts it.
    async fn wait_for(&self, name: &str) {
        let key = ObjectKey::new("", name);
        let seen = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.attachments.get(&key).is_some() {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(SEEN_WITHIN, seen).await.is_err() {
            tracing::debug!(%key, "an attachment that was made is not seen");
        }
    }
}

/// The volume that a claim is bound to.
fn bound_to(claim: &PersistentVolumeClaim) -> Option<&str> {
    let is_bound = claim.status.as_ref()?.phase.as_deref() == Some("Bound");
    claim.spec.as_ref()?.volume_name.as_deref().filter(|_| is_bound)
}

fn add_node_of(queue: &Queue<ObjectKey>, pod: &Pod) {
    node_of(pod).into_iter().for_each(|node| queue.add(ObjectKey::new("", node)));
}

impl Controller for AttachDetach {
    const NAME: &'static str = "attachdetach-controller";
    const SWITCH: &'static str = "persistentvolume-attach-detach-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.nodes.synced().await;
        self.pods.synced().await;
        self.claims.synced().await;
        self.volumes.synced().await;
        self.drivers.synced().await;
        self.attachments.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let mut plan = self.plan(&key.name);
        self.remember(&key.name, &mut plan);
        for action in plan.actions {
            self.perform(&key.name, action).await?;
        }
        Ok(plan.look_again.map_or(Verdict::Done, Verdict::After))
    }
}

#[cfg(test)]
#[path = "attach_detach_tests.rs"]
mod tests;
