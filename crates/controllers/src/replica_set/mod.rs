//! ReplicaSets keep a number of pods running.

mod plan;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use kube::{Api, api::Patch};
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Verdict, key::controller_of};

use self::plan::{Plan, Step, differs, plan, tell_failure};
use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    informers::{BY_CONTROLLER, Informers},
    object::Object,
    pod_control::PodControl,
    pods::{from_template, is_active, name_prefix},
};

pub(crate) struct ReplicaSets(PodControl<ReplicaSet>);

impl ReplicaSets {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        Self(PodControl::new(tools, &mut informers.replica_sets, &mut informers.pods))
    }

    /// The active pods of every set under the same owner: a rollout spreads over nodes as a whole.
    fn siblings(&self, set: &ReplicaSet, own: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let Some(owner) = controller_of(&set.metadata) else {
            return own.iter().filter(|p| is_active(p)).cloned().collect();
        };
        let family = self.0.owners.indexed(BY_CONTROLLER, &owner.uid);
        let pods = family.iter().flat_map(|s| self.0.pods.indexed(BY_CONTROLLER, s.uid()));
        pods.filter(|p| is_active(p)).collect()
    }

    async fn create(&self, set: &ReplicaSet, count: usize) -> Result<(), kube::Error> {
        let Some(template) = set.spec.template.as_ref() else { return Ok(()) };
        let pod = from_template(template, &name_prefix(set.name()), set.namespace(), set.as_controller());
        self.0.create(set, &vec![(); count], |()| pod.clone()).await
    }
}

impl Controller for ReplicaSets {
    const NAME: &'static str = "replicaset-controller";
    const WORKERS: usize = 8;

    fn queue(&self) -> Queue<ObjectKey> {
        self.0.queue.clone()
    }

    async fn synced(&self) {
        self.0.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(set) = self.0.owners.get(key) else { return Ok(Verdict::Done) };
        let sets: Api<ReplicaSet> = Api::namespaced(self.0.client.clone(), &key.namespace);
        let (owned, caught_up) = self.0.owned(&sets, &set).await?;
        let now = Timestamp::now();
        let Plan { step, mut status, look_again } =
            plan(&set, &owned, &self.siblings(&set, &owned), caught_up, now);
        let result = match step {
            Step::Nothing => Ok(()),
            Step::Create(count) => self.create(&set, count).await.map_err(|e| ("FailedCreate", e)),
            Step::Delete(doomed) => self.0.delete(&set, &doomed).await.map_err(|e| ("FailedDelete", e)),
        };
        let failure = result.as_ref().err().map(|(reason, error)| (*reason, error.to_string()));
        tell_failure(&mut status, failure, now);
        if differs(set.status.as_ref(), &status) {
            let patch = json!({"metadata": {"uid": set.uid()}, "status": status});
            gone_is_fine(sets.patch_status(set.name(), &Default::default(), &Patch::Merge(patch)).await)?;
        }
        result.map_err(|(_, error)| error)?;
        Ok(look_again.map_or(Verdict::Done, Verdict::After))
    }
}
