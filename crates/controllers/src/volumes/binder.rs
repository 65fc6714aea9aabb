//! Performs what [`super::binding`] plans.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod as WholePod},
    storage::v1::StorageClass,
};
use kube::{Api, Client, api::Patch};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder, storage::BIND_COMPLETED};
use tokio::time::Instant;

use super::{
    binding::{self, Action, Seen, Severity},
    claim_named,
    recycle::{self, Step},
};
use crate::{
    claim::{gone_is_fine, only, said},
    controller::{Controller, Tools},
    informers::{BY_CLAIM, Informers, UNBOUND},
    object::Object,
    pod::Pod,
    pods::is_finished,
};

/// Binds claims and volumes. A key without a namespace is a volume's, any other a claim's.
pub(crate) struct Binder {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    claims: Reader<PersistentVolumeClaim>,
    volumes: Reader<PersistentVolume>,
    classes: Reader<StorageClass>,
    pods: Reader<Pod>,
    /// What is emptied, by the volume's name.
    recycling: Mutex<BTreeMap<String, Recycling>>,
}

/// What is known of the pod that empties a volume. After a restart another is made.
#[derive(Clone, Debug, Default)]
struct Recycling {
    pod: Option<String>,
    failed: Option<Instant>,
}

/// How long a volume rests that could not be emptied.
const REST: Duration = Duration::from_secs(15);

impl Binder {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        let (claims, volumes) = (informers.volume_claims.reader(), informers.volumes.reader());
        informers.volume_claims.on_change({
            let (queue, volumes) = (queue.clone(), volumes.clone());
            move |change| {
                for claim in [&change.old, &change.new].into_iter().flatten() {
                    let named = volumes.indexed(BY_CLAIM, &claim.key().to_string());
                    named.iter().for_each(|volume| queue.add(volume.key()));
                    queue.add(claim.key());
                }
            }
        });
        informers.volumes.on_change({
            let (queue, claims) = (queue.clone(), claims.clone());
            move |change| {
                for volume in [&change.old, &change.new].into_iter().flatten() {
                    queue.add(volume.key());
                    claim_named(volume).into_iter().for_each(|claim| queue.add(claim));
                }
                // One that is free, or named by a claim that was there before it.
                claims.indexed(UNBOUND, "").iter().for_each(|claim| queue.add(claim.key()));
            }
        });
        informers.storage_classes.on_change({
            let (queue, claims) = (queue.clone(), claims.clone());
            move |_| claims.indexed(UNBOUND, "").iter().for_each(|claim| queue.add(claim.key()))
        });
        informers.pods.on_change({
            let (queue, volumes) = (queue.clone(), volumes.clone());
            move |change| {
                recycle::scrubbed(&change.key).into_iter().for_each(|volume| queue.add(volume));
                // A volume may wait for its last user.
                let ended = change.new.as_deref().is_none_or(is_finished);
                let claims = change.old.iter().filter(|_| ended).flat_map(|pod| pod.claim_keys());
                for claim in claims {
                    volumes.indexed(BY_CLAIM, &claim).iter().for_each(|volume| queue.add(volume.key()));
                }
            }
        });
        Self {
            client: tools.client,
            events: tools.events,
            queue,
            recycling: Mutex::default(),
            claims,
            volumes,
            classes: informers.storage_classes.reader(),
            pods: informers.pods.reader(),
        }
    }

    async fn perform<K: Object>(
        &self,
        about: &K,
        claim: Option<&PersistentVolumeClaim>,
        actions: Vec<Action>,
    ) -> Result<(), kube::Error> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let params = Default::default();
        for action in actions {
            match action {
                Action::Volume { seen, change } => {
                    let change = Patch::Merge(as_seen(&*seen, change));
                    volumes.patch(seen.name(), &params, &change).await?;
                }
                Action::VolumeStatus { of, status } => {
                    let status = Patch::Merge(json!({"metadata": {"uid": of.uid()}, "status": status}));
                    volumes.patch_status(of.name(), &params, &status).await?;
                }
                Action::Claim { change } => {
                    let Some(claim) = claim else { continue };
                    let change = Patch::Merge(as_seen(claim, change));
                    self.claims_of(claim).patch(claim.name(), &params, &change).await?;
                }
                Action::ClaimStatus { status } => {
                    let Some(claim) = claim else { continue };
                    let status = Patch::Merge(json!({"metadata": {"uid": claim.uid()}, "status": status}));
                    self.claims_of(claim).patch_status(claim.name(), &params, &status).await?;
                }
                // It comes last, and takes what this knows nothing of.
                Action::Recycle => {}
                Action::Tell { severity: Severity::Normal, reason, message } => {
                    self.events.normal(&about.as_reference(), reason, message);
                }
                Action::Tell { severity: Severity::Warning, reason, message } => {
                    self.events.warning(&about.as_reference(), reason, message);
                }
            }
        }
        Ok(())
    }

    fn claims_of(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), claim.namespace())
    }

    async fn look_at_claim(&self, claim: &PersistentVolumeClaim) -> Result<(), kube::Error> {
        let (volumes, classes) = (self.volumes.list(), self.classes.list());
        let pods = match claim.annotation(BIND_COMPLETED) {
            None => self.pods.indexed(BY_CLAIM, &claim.key().to_string()),
            Some(_) => Vec::new(),
        };
        let consumer = pods.first().map(|pod| pod.name());
        let actions = binding::claim(claim, &Seen { volumes: &volumes, classes: &classes, consumer });
        self.perform(claim, Some(claim), actions).await
    }

    async fn look_at_volume(&self, volume: &Arc<PersistentVolume>) -> Result<Verdict, kube::Error> {
        let key = claim_named(volume);
        let claim = key.as_ref().and_then(|key| self.claims.get(key));
        let mut actions = binding::volume(volume, claim.as_deref());
        if let Some(key) = key.filter(|_| claim.is_none() && !actions.is_empty()) {
            // What lets go of data must not rest on an informer that is late.
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
            let claim = claims.get_opt(&key.name).await?;
            actions = binding::volume(volume, claim.as_ref());
        }
        let recycles = actions.contains(&Action::Recycle);
        self.perform(&**volume, None, actions).await?;
        if recycles {
            return self.recycle(volume).await;
        }
        self.recycling.lock().remove(volume.name());
        Ok(Verdict::Done)
    }

    async fn recycle(&self, volume: &Arc<PersistentVolume>) -> Result<Verdict, kube::Error> {
        let key = recycle::scrubber(volume.name());
        let known = self.recycling.lock().get(volume.name()).cloned().unwrap_or_default();
        let rested = known.failed.map(|failed| failed.elapsed());
        let claim = claim_named(volume).filter(|claim| self.claims.get(claim).is_none());
        let users = claim.map(|claim| self.pods.indexed(BY_CLAIM, &claim.to_string())).unwrap_or_default();
        let users: Vec<_> =
            users.iter().filter(|pod| !is_finished(pod)).map(|pod| pod.key().to_string()).collect();
        let pod = self.pods.get(&key);
        let seen = recycle::Seen {
            pod: pod.as_deref(),
            made: known.pod.as_deref(),
            rests: rested.is_some_and(|rested| rested < REST),
            users: &users,
        };
        let pods: Api<WholePod> = Api::namespaced(self.client.clone(), &key.namespace);
        let mut verdict = Verdict::Done;
        let mut steps: VecDeque<_> = recycle::steps(volume, &seen).into();
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Do(action) => self.perform(&**volume, None, vec![action]).await?,
                Step::Start(pod) => match pods.create(&Default::default(), &pod).await {
                    Ok(made) => {
                        let recycling = Recycling { pod: made.metadata.uid, failed: None };
                        self.recycling.lock().insert(volume.name().to_owned(), recycling);
                    }
                    // An old one that we have not heard of goes first.
                    Err(kube::Error::Api(status))
                        if (400..500).contains(&status.code) && status.code != 409 =>
                    {
                        let error = kube::Error::Api(status);
                        let why = format!(
                            "Recycle failed: unexpected error creating recycler pod: {}",
                            said(&error)
                        );
                        steps.extend(recycle::failed(volume, &why));
                        steps.push_back(Step::Rest);
                        self.recycling.lock().insert(volume.name().to_owned(), Recycling::default());
                    }
                    Err(error) => return Err(error),
                },
                Step::End(uid) => {
                    gone_is_fine(pods.delete(&key.name, &only(&uid)).await)?;
                }
                Step::Rest => {
                    let mut recycling = self.recycling.lock();
                    let failed = recycling
                        .entry(volume.name().to_owned())
                        .or_default()
                        .failed
                        .get_or_insert_with(Instant::now);
                    verdict = Verdict::After(REST.saturating_sub(failed.elapsed()));
                }
            }
        }
        Ok(verdict)
    }
}

/// A change that fails where the object is no longer as it was seen.
fn as_seen(object: &impl Object, mut change: Value) -> Value {
    change["metadata"]["resourceVersion"] = json!(object.meta().resource_version);
    change
}

impl Controller for Binder {
    const NAME: &'static str = "persistentvolume-controller";
    const SWITCH: &'static str = "persistentvolume-binder-controller";
    const ACCOUNT: &'static str = "persistent-volume-binder";
    /// Two claims looked at together would choose the same volume, and one of them in vain.
    const WORKERS: usize = 1;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.claims.synced().await;
        self.volumes.synced().await;
        self.classes.synced().await;
        self.pods.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        if key.namespace.is_empty() {
            if let Some(volume) = self.volumes.get(key) {
                return self.look_at_volume(&volume).await;
            }
            self.recycling.lock().remove(&*key.name);
        } else if let Some(claim) = self.claims.get(key) {
            self.look_at_claim(&claim).await?;
        }
        Ok(Verdict::Done)
    }
}
