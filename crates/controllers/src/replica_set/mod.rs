//! ReplicaSets keep a number of pods running, and so do the older ReplicationControllers.

mod plan;

mod replication_controller;

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetStatus},
    core::v1::ReplicationController,
};
use kube::Api;
use tiphys_client::{ObjectKey, Queue, Verdict, informer::LOST_AFTER, key::controller_of};

use self::plan::{Plan, Step, plan, tell_failure};
use crate::{
    claim::{said, write_status},
    controller::{Controller, Tools},
    informers::{BY_CONTROLLER, Informers, Kept},
    object::Object,
    pod::Pod,
    pod_control::{PodControl, RunsPods},
    pods::{from_template, is_active, name_prefix},
};

/// What keeps a number of pods running.
pub(crate) trait Replicates: RunsPods {
    const NAME: &'static str;
    const SWITCH: &'static str = Self::NAME;
    /// Its informer, and that of all pods.
    fn informers(all: &mut Informers) -> (&mut Kept<Self>, &mut Kept<Pod>);
    /// What a ReplicaSet would be that asks for the same.
    fn as_set(&self) -> Cow<'_, ReplicaSet>;
    /// What such a set's status comes to here.
    fn told(status: ReplicaSetStatus) -> ReplicaSetStatus;
}

impl Replicates for ReplicaSet {
    const NAME: &'static str = "replicaset-controller";

    fn informers(all: &mut Informers) -> (&mut Kept<Self>, &mut Kept<Pod>) {
        (&mut all.replica_sets, &mut all.pods)
    }

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }

    fn told(status: ReplicaSetStatus) -> ReplicaSetStatus {
        status
    }
}

pub(crate) type ReplicaSets = Replicas<ReplicaSet>;
pub(crate) type ReplicationControllers = Replicas<ReplicationController>;

pub(crate) struct Replicas<O>(PodControl<O>);

impl<O: Replicates> Replicas<O> {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let (owners, pods) = O::informers(informers);
        Self(PodControl::new(tools, owners, pods))
    }

    /// The active pods of every set under the same owner: a rollout spreads over nodes as a whole.
    fn siblings(&self, set: &O, own: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let Some(owner) = controller_of(set.meta()) else {
            return own.iter().filter(|p| is_active(p)).cloned().collect();
        };
        let family = self.0.owners.indexed(BY_CONTROLLER, &owner.uid);
        let pods = family.iter().flat_map(|s| self.0.pods.indexed(BY_CONTROLLER, s.uid()));
        pods.filter(|p| is_active(p)).collect()
    }

    async fn create(&self, owner: &O, set: &ReplicaSet, count: usize) -> Result<(), kube::Error> {
        let Some(template) = set.spec.template.as_ref() else { return Ok(()) };
        let pod = from_template(template, &name_prefix(set.name()), set.namespace(), owner.as_controller());
        self.0.create(owner, &vec![(); count], |()| pod.clone()).await
    }
}

impl<O: Replicates> Controller for Replicas<O> {
    const NAME: &'static str = O::NAME;
    const SWITCH: &'static str = O::SWITCH;
    const WORKERS: usize = 8;

    fn queue(&self) -> Queue<ObjectKey> {
        self.0.queue.clone()
    }

    async fn synced(&self) {
        self.0.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(owner) = self.0.owners.get(key) else { return Ok(Verdict::Done) };
        if self.0.owners.is_behind(key) {
            return Ok(Verdict::After(LOST_AFTER));
        }
        let set = owner.as_set();
        let owners: Api<O> = Api::namespaced(self.0.client.clone(), &key.namespace);
        let (owned, caught_up) = self.0.owned(&owners, &owner).await?;
        let now = Timestamp::now();
        let Plan { step, status, look_again } =
            plan(&set, &owned, &self.siblings(&owner, &owned), caught_up, now);
        let mut status = O::told(status);
        let result = match step {
            Step::Nothing => Ok(()),
            Step::Create(count) => self.create(&owner, &set, count).await.map_err(|e| ("FailedCreate", e)),
            Step::Delete(doomed) => self.0.delete(&owner, &doomed).await.map_err(|e| ("FailedDelete", e)),
        };
        let failure = result.as_ref().err().map(|(reason, error)| (*reason, said(error)));
        tell_failure(&mut status, failure, now);
        write_status(&owners, &self.0.owners, &*owner, set.status.as_ref(), &status).await?;
        result.map_err(|(_, error)| error)?;
        Ok(look_again.map_or(Verdict::Done, Verdict::After))
    }
}
