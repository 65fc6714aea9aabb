//! ReplicaSets keep a number of pods running.

mod plan;

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PostParams, Preconditions},
};
use serde_json::json;
use tiphys_client::{Expectations, ObjectKey, Queue, Reader, Verdict, events::Recorder, key::controller_of};

use self::plan::{Plan, Step, differs, plan, tell_failure};
use crate::{
    claim::{self, Owns, claim},
    controller::{Controller, Tools},
    informers::{BY_CONTROLLER, Informers},
    object::Object,
    pods::{from_template, is_active, name_prefix},
};

pub(crate) struct ReplicaSets {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    expectations: Arc<Expectations>,
    sets: Reader<ReplicaSet>,
    pods: Reader<Pod>,
}

impl ReplicaSets {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let Tools { client, events } = tools;
        let queue = Queue::new();
        let expectations = Arc::new(Expectations::new());
        let sets = informers.replica_sets.reader();
        informers.replica_sets.on_change({
            let (queue, expectations) = (queue.clone(), expectations.clone());
            move |change| {
                if change.new.is_none() {
                    expectations.forget(&change.key);
                }
                queue.add(change.key.clone());
            }
        });
        informers.pods.on_change({
            let (queue, expectations, sets) = (queue.clone(), expectations.clone(), sets.clone());
            move |change| {
                let owner = |pod: &Arc<Pod>| {
                    let controller = controller_of(&pod.metadata).filter(|o| o.kind == "ReplicaSet")?;
                    Some(ObjectKey::new(pod.namespace(), &controller.name))
                };
                let (old, new) = (change.old.as_ref(), change.new.as_ref());
                if old.is_none()
                    && let Some(owner) = new.and_then(owner)
                {
                    expectations.created(&owner);
                }
                let going = new.is_none_or(|p| p.is_going());
                if going && let Some((pod, owner)) = old.or(new).and_then(|p| Some((p, owner(p)?))) {
                    expectations.deleted(&owner, pod.uid());
                }
                for owner in [old.and_then(owner), new.and_then(owner)].into_iter().flatten() {
                    queue.add(owner);
                }
                // An orphan may be somebody's to adopt.
                if let Some(orphan) = new.filter(|p| controller_of(&p.metadata).is_none()) {
                    for set in sets.list_in(orphan.namespace()) {
                        if Owns::new(&set.spec.selector).matches(orphan.metadata.labels.as_ref()) {
                            queue.add(set.key());
                        }
                    }
                }
            }
        });
        Self { client, events, queue, expectations, sets, pods: informers.pods.reader() }
    }
}

impl Controller for ReplicaSets {
    const NAME: &'static str = "replicaset-controller";
    const WORKERS: usize = 8;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.sets.synced().await;
        self.pods.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(set) = self.sets.get(key) else { return Ok(Verdict::Done) };
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let caught_up = self.expectations.satisfied(key);
        let claims =
            claim(set.uid(), set.is_going(), &Owns::new(&set.spec.selector), claim::near(&self.pods, &*set));
        let owned = claim::settle(&sets, &pods, &*set, claims).await?;
        let now = Timestamp::now();
        let Plan { step, mut status, look_again } =
            plan(&set, &owned, &self.siblings(&set, &owned), caught_up, now);
        let result = match step {
            Step::Nothing => Ok(()),
            Step::Create(count) => self.create(&set, &pods, count).await.map_err(|e| ("FailedCreate", e)),
            Step::Delete(doomed) => self.delete(&set, &pods, doomed).await.map_err(|e| ("FailedDelete", e)),
        };
        let failure = result.as_ref().err().map(|(reason, error)| (*reason, error.to_string()));
        tell_failure(&mut status, failure, now);
        if differs(set.status.as_ref(), &status) {
            let patch = json!({"metadata": {"uid": set.uid()}, "status": status});
            claim::gone_is_fine(
                sets.patch_status(set.name(), &Default::default(), &Patch::Merge(patch)).await,
            )?;
        }
        result.map_err(|(_, error)| error)?;
        Ok(look_again.map_or(Verdict::Done, Verdict::After))
    }
}

impl ReplicaSets {
    /// The active pods of every set under the same owner: a rollout spreads over nodes as a whole.
    fn siblings(&self, set: &ReplicaSet, own: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let Some(owner) = controller_of(&set.metadata) else {
            return own.iter().filter(|p| is_active(p)).cloned().collect();
        };
        let family = self.sets.indexed(BY_CONTROLLER, &owner.uid);
        let pods = family.iter().flat_map(|s| self.pods.indexed(BY_CONTROLLER, s.uid()));
        pods.filter(|p| is_active(p)).collect()
    }

    /// Creates in batches that double, so that a refusal costs one request and not hundreds.
    async fn create(&self, set: &ReplicaSet, pods: &Api<Pod>, count: usize) -> Result<(), kube::Error> {
        let Some(template) = set.spec.template.as_ref() else { return Ok(()) };
        let key = set.key();
        let pod = from_template(template, &name_prefix(set.name()), set.namespace(), set.as_controller());
        self.expectations.expect_creations(&key, count);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let now = batch.min(left);
            let params = PostParams::default();
            let results = join_all((0..now).map(|_| pods.create(&params, &pod))).await;
            left -= now;
            let mut failed = None;
            for result in results {
                match result {
                    Ok(created) => {
                        let message = format!("Created pod: {}", created.name());
                        self.events.normal(&set.as_reference(), "SuccessfulCreate", message);
                    }
                    Err(error) => {
                        self.expectations.created(&key);
                        // A namespace that is going refuses every new object; there is nothing to tell.
                        let refused = matches!(&error, kube::Error::Api(s) if s.code == 403
                            && s.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating")));
                        if !refused {
                            self.events.warning(
                                &set.as_reference(),
                                "FailedCreate",
                                format!("Error creating: {error}"),
                            );
                        }
                        failed = Some(error);
                    }
                }
            }
            if let Some(error) = failed {
                for _ in 0..left {
                    self.expectations.created(&key);
                }
                return Err(error);
            }
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(
        &self,
        set: &ReplicaSet,
        pods: &Api<Pod>,
        doomed: Vec<Arc<Pod>>,
    ) -> Result<(), kube::Error> {
        let key = set.key();
        self.expectations.expect_deletions(&key, doomed.iter().map(|p| p.uid().to_owned()));
        let deletions = doomed.iter().map(|pod| async move {
            let precondition = Preconditions { uid: Some(pod.uid().to_owned()), resource_version: None };
            let params = DeleteParams { preconditions: Some(precondition), ..Default::default() };
            (pod, pods.delete(pod.name(), &params).await)
        });
        let mut failed = None;
        for (pod, result) in join_all(deletions).await {
            match result {
                Ok(_) => {
                    let message = format!("Deleted pod: {}", pod.name());
                    self.events.normal(&set.as_reference(), "SuccessfulDelete", message);
                }
                Err(error) => {
                    self.expectations.deleted(&key, pod.uid());
                    if let Err(error) = claim::gone_is_fine(Err::<(), _>(error)) {
                        let message = format!("Error deleting: {error}");
                        self.events.warning(&set.as_reference(), "FailedDelete", message);
                        failed = Some(error);
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}
