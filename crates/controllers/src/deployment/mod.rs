//! Deployments roll their ReplicaSets from one template to the next.

mod numbers;
mod plan;
mod sets;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PostParams},
};
use serde_json::json;
use tiphys_client::{
    ObjectKey, Queue, Reader, Verdict, events::Recorder, informer::LOST_AFTER, key::controller_of,
};

use self::{
    plan::{Action, Plan, plan},
    status::CREATE_FAILED,
};
use crate::{
    claim::{self, Owns, claim, exists, gone_is_fine, namespace_goes, said, write_status},
    controller::{Controller, Tools},
    informers::{BY_CONTROLLER, Informers},
    object::Object,
    pod::Pod,
    pods::is_finished,
};

pub(crate) struct Deployments {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    deployments: Reader<Deployment>,
    sets: Reader<ReplicaSet>,
    pods: Reader<Pod>,
}

impl Deployments {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let Tools { client, events } = tools;
        let queue = Queue::new();
        let deployments = informers.deployments.reader();
        informers.deployments.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        informers.replica_sets.on_change({
            let (queue, deployments) = (queue.clone(), deployments.clone());
            move |change| {
                for set in [&change.old, &change.new].into_iter().flatten() {
                    match owner(set) {
                        Some(owner) => queue.add(owner),
                        None => {
                            for deployment in deployments.list_in(set.namespace()) {
                                if Owns::new(&deployment.spec.selector).matches(set.metadata.labels.as_ref())
                                {
                                    queue.add(deployment.key());
                                }
                            }
                        }
                    }
                }
            }
        });
        // Recreate waits for the last old pod to stop, of which no ReplicaSet tells.
        informers.pods.on_change({
            let (queue, sets) = (queue.clone(), informers.replica_sets.reader());
            move |change| {
                let stopped = change.new.as_ref().is_none_or(|p| is_finished(p));
                let Some(pod) = change.old.as_ref().filter(|_| stopped) else { return };
                let set = controller_of(&pod.metadata).map(|o| ObjectKey::new(pod.namespace(), &o.name));
                if let Some(owner) = set.and_then(|s| sets.get(&s)).and_then(|s| owner(&s)) {
                    queue.add(owner);
                }
            }
        });
        let (sets, pods) = (informers.replica_sets.reader(), informers.pods.reader());
        Self { client, events, queue, deployments, sets, pods }
    }
}

impl Controller for Deployments {
    const NAME: &'static str = "deployment-controller";
    const WORKERS: usize = 4;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.deployments.synced().await;
        self.sets.synced().await;
        self.pods.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(Verdict::Done) };
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let owns = Owns::new(&deployment.spec.selector);
        let claims = claim(
            deployment.uid(),
            deployment.is_going(),
            |set| owns.finds(set),
            claim::near(&self.sets, &*deployment),
        );
        let owned = claim::settle(&api, &sets, &*deployment, claims).await?;
        if self.deployments.is_behind(key) || owned.iter().any(|set| self.sets.is_behind(&set.key())) {
            return Ok(Verdict::After(LOST_AFTER));
        }
        let Plan { actions, mut status, look_again } =
            plan(&deployment, &owned, self.old_pods_run(&deployment, &owned), Timestamp::now());
        let mut verdict = look_again.map_or(Verdict::Done, Verdict::After);
        let mut refused = None;
        for action in actions {
            match self.perform(&deployment, &api, &sets, action).await? {
                Performed::Done => {}
                Performed::Refused(message, error) => {
                    status = status::refused(&deployment, message, Timestamp::now());
                    refused = Some(error);
                    break;
                }
                Performed::NameTaken => {
                    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                    verdict = Verdict::Again;
                    break;
                }
            }
        }
        write_status(&api, &self.deployments, &*deployment, deployment.status.as_ref(), &status).await?;
        refused.map_or(Ok(verdict), Err)
    }
}

impl Deployments {
    fn old_pods_run(&self, deployment: &Deployment, owned: &[Arc<ReplicaSet>]) -> bool {
        let (_, old) = sets::new_and_old(deployment, owned);
        let mut pods = old.iter().flat_map(|s| self.pods.indexed(BY_CONTROLLER, s.uid()));
        pods.any(|p| !is_finished(&p))
    }

    async fn perform(
        &self,
        deployment: &Deployment,
        api: &Api<Deployment>,
        sets: &Api<ReplicaSet>,
        action: Action,
    ) -> Result<Performed, kube::Error> {
        let tell = |message| self.events.normal(&deployment.as_reference(), "ScalingReplicaSet", message);
        match action {
            Action::Create(set) => match sets.create(&PostParams::default(), &set).await {
                Ok(made) => {
                    let to = sets::replicas(&made);
                    if to > 0 {
                        tell(format!("Scaled up replica set {} from 0 to {to}", made.name()));
                    }
                }
                Err(error) if exists(&error) => {
                    // The informer may only be late to show what we made a moment ago.
                    let there = sets.get_opt(set.name()).await?;
                    let ours = there.is_some_and(|s| {
                        controller_of(&s.metadata).is_some_and(|o| o.uid == deployment.uid())
                            && sets::new_and_old(deployment, &[Arc::new(s)]).0.is_some()
                    });
                    if !ours {
                        return Ok(Performed::NameTaken);
                    }
                }
                Err(error) if namespace_goes(&error) => return Err(error),
                Err(error) => {
                    let message =
                        format!("Failed to create new replica set {:?}: {}", set.name(), said(&error));
                    self.events.warning(&deployment.as_reference(), CREATE_FAILED, message.as_str());
                    return Ok(Performed::Refused(message, error));
                }
            },
            Action::Resize { set, to, annotations } => {
                let from = sets::replicas(&set);
                let patch = json!({
                    "metadata": {"uid": set.uid(), "resourceVersion": set.metadata.resource_version,
                        "annotations": annotations},
                    "spec": {"replicas": to},
                });
                let written = sets.patch(set.name(), &Default::default(), &Patch::Merge(patch)).await?;
                self.sets.wrote(&written.metadata);
                if from != to {
                    let way = if to > from { "up" } else { "down" };
                    tell(format!("Scaled {way} replica set {} from {from} to {to}", set.name()));
                }
            }
            Action::Describe { set, annotations, min_ready_seconds } => {
                let patch = json!({
                    "metadata": {"uid": set.uid(), "resourceVersion": set.metadata.resource_version,
                        "annotations": annotations},
                    "spec": {"minReadySeconds": min_ready_seconds},
                });
                let written = sets.patch(set.name(), &Default::default(), &Patch::Merge(patch)).await?;
                self.sets.wrote(&written.metadata);
            }
            Action::Delete(set) => {
                gone_is_fine(sets.delete(set.name(), &DeleteParams::background()).await)?;
            }
            Action::Mark { revision } => {
                let patch = json!({"metadata": {"uid": deployment.uid(),
                    "annotations": {sets::REVISION: revision.to_string()}}});
                let written = api.patch(deployment.name(), &Default::default(), &Patch::Merge(patch)).await;
                if let Some(written) = gone_is_fine(written)? {
                    self.deployments.wrote(&written.metadata);
                }
            }
        }
        Ok(Performed::Done)
    }
}

enum Performed {
    Done,
    NameTaken,
    /// The new set may not be; the message says why.
    Refused(String, kube::Error),
}

fn owner(set: &ReplicaSet) -> Option<ObjectKey> {
    let controller = controller_of(&set.metadata).filter(|o| o.kind == "Deployment")?;
    Some(ObjectKey::new(set.namespace(), &controller.name))
}
