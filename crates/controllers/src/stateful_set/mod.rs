//! StatefulSets run pods that keep their names, and with these their places in DNS and their volumes.

mod identity;
mod plan;
mod retention;

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference},
};
use kube::{
    Api,
    api::{Patch, PostParams},
};
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, informer::LOST_AFTER};

use self::{
    identity::{POD_NAME, claim_names, ordinal, pod},
    plan::{Plan, Revisions, plan},
};
use crate::{
    claim::{exists, gone_is_fine, namespace_goes, said, write_status},
    controller::{Controller, Tools},
    history::{History, KeepsHistory, Past, REVISION, template_of},
    informers::Informers,
    object::Object,
    pod::Pod,
    pod_control::{Act, PodControl, RunsPods},
};

impl RunsPods for StatefulSet {
    fn selector(&self) -> Option<Cow<'_, LabelSelector>> {
        Some(Cow::Borrowed(&self.spec.selector))
    }

    fn takes(&self, pod: &Pod) -> bool {
        ordinal(self, pod.name()).is_some()
    }

    fn event(&self, act: Act, pod: &str, failure: Option<&str>) -> String {
        let verb = match act {
            Act::Create => "create",
            Act::Delete => "delete",
        };
        told(verb, pod, self.name(), failure)
    }
}

fn told(verb: &str, pod: &str, set: &str, failure: Option<&str>) -> String {
    match failure {
        None => format!("{verb} Pod {pod} in StatefulSet {set} successful"),
        Some(why) => format!("{verb} Pod {pod} in StatefulSet {set} failed error: {why}"),
    }
}

impl KeepsHistory for StatefulSet {
    const HASH: &'static str = "controller.kubernetes.io/hash";

    fn template(&self) -> &PodTemplateSpec {
        &self.spec.template
    }

    fn history_limit(&self) -> Option<i32> {
        self.spec.revision_history_limit
    }

    fn collisions(&self) -> i32 {
        self.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0)
    }
}

pub(crate) struct StatefulSets {
    pods: PodControl<StatefulSet>,
    history: History,
    claims: Reader<PersistentVolumeClaim>,
}

impl StatefulSets {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let client = tools.client.clone();
        let pods = PodControl::new(tools, &mut informers.stateful_sets, &mut informers.pods);
        let owners = pods.owners.clone();
        let history = History::new(client, &pods.queue, owners.clone(), &mut informers.revisions);
        // A pod may wait for a claim to go that was somebody else's, or have lost its own.
        let queue = pods.queue.clone();
        informers.volume_claims.on_change(move |change| {
            if change.new.is_some() {
                return;
            }
            let (namespace, claim) = (&*change.key.namespace, &*change.key.name);
            for set in owners.list_in(namespace) {
                let number = claim.rsplit_once('-').and_then(|(_, n)| n.parse().ok());
                if number.is_some_and(|n| claim_names(&set, n).any(|name| name == claim)) {
                    queue.add(set.key());
                }
            }
        });
        Self { pods, history, claims: informers.volume_claims.reader() }
    }
}

impl Controller for StatefulSets {
    const NAME: &'static str = "statefulset-controller";
    const WORKERS: usize = 4;

    fn queue(&self) -> Queue<ObjectKey> {
        self.pods.queue.clone()
    }

    async fn synced(&self) {
        self.pods.synced().await;
        self.history.synced().await;
        self.claims.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(set) = self.pods.owners.get(key) else { return Ok(Verdict::Done) };
        if self.pods.owners.is_behind(key) {
            return Ok(Verdict::After(LOST_AFTER));
        }
        let sets: Api<StatefulSet> = Api::namespaced(self.pods.client.clone(), &key.namespace);
        let (owned, caught_up) = self.pods.owned(&sets, &set).await?;
        // The past of a set that goes may have gone before it.
        let past = if set.is_going() { None } else { Some(self.history.settle(&sets, &set).await?) };
        let revisions = revisions(&set, past.as_ref());
        let find = |name: &str| self.claims.get(&ObjectKey::new(&key.namespace, name));
        let plan = plan(&set, &revisions, &owned, &find, caught_up, Timestamp::now());
        write_status(&sets, &self.pods.owners, &*set, set.status.as_ref(), &plan.status).await?;
        let Some(past) = past else { return Ok(Verdict::Done) };
        let verdict = plan.look_again.map_or(Verdict::Done, Verdict::After);
        self.perform(&set, &past, plan).await?;
        let mut live: BTreeSet<String> =
            owned.iter().filter_map(|pod| pod.metadata.labels.as_ref()?.get(REVISION).cloned()).collect();
        live.insert(revisions.current);
        self.history.forget(&*set, &past, &live).await?;
        Ok(verdict)
    }
}

/// Which revisions pods may be at. Without a past, those that the status names.
fn revisions(set: &StatefulSet, past: Option<&Past>) -> Revisions {
    let status = set.status.clone().unwrap_or_default();
    let current = status.current_revision.unwrap_or_default();
    let Some(past) = past else {
        let update = status.update_revision.unwrap_or_default();
        return Revisions { current, update, collisions: set.collisions() };
    };
    let update = past.newest.name().to_owned();
    let known = past.all.iter().any(|r| r.name() == current);
    let current = if known { current } else { update.clone() };
    Revisions { current, update, collisions: past.collisions }
}

impl StatefulSets {
    async fn perform(&self, set: &Arc<StatefulSet>, past: &Past, plan: Plan) -> Result<(), kube::Error> {
        for (pod, claim) in plan.claims {
            self.create_claim(set, &pod, &claim).await?;
        }
        for (claim, owners) in plan.owners {
            self.give_claim(&claim, owners).await?;
        }
        for pod in plan.name {
            self.name(set, &pod).await?;
        }
        let template = |revision: &str| {
            let kept = past.all.iter().find(|r| r.name() == revision && r.uid() != past.newest.uid());
            kept.and_then(|r| template_of(r))
        };
        self.pods
            .create(set, &plan.create, |new| {
                let kept = template(&new.revision);
                pod(set, kept.as_ref().unwrap_or(&set.spec.template), &new.revision, new.ordinal)
            })
            .await?;
        self.pods.delete(set, &plan.delete).await
    }

    async fn create_claim(
        &self,
        set: &StatefulSet,
        pod: &str,
        claim: &PersistentVolumeClaim,
    ) -> Result<(), kube::Error> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.pods.client.clone(), set.namespace());
        let (about, name, owner) = (set.as_reference(), claim.name(), set.name());
        match claims.create(&PostParams::default(), claim).await {
            Ok(_) => {
                let message = format!("create Claim {name} Pod {pod} in StatefulSet {owner} success");
                self.pods.events.normal(&about, "SuccessfulCreate", message);
                Ok(())
            }
            // One that was there before serves again.
            Err(error) if exists(&error) => Ok(()),
            Err(error) => {
                if !namespace_goes(&error) {
                    let why = said(&error);
                    let message = format!(
                        "create Claim {name} for Pod {pod} in StatefulSet {owner} failed error: {why}"
                    );
                    self.pods.events.warning(&about, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    async fn give_claim(
        &self,
        claim: &PersistentVolumeClaim,
        owners: Vec<OwnerReference>,
    ) -> Result<(), kube::Error> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.pods.client.clone(), claim.namespace());
        let patch = json!({"metadata": {
            "uid": claim.uid(), "resourceVersion": claim.metadata.resource_version, "ownerReferences": owners,
        }});
        match claims.patch(claim.name(), &Default::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            result => result.map(drop),
        }
    }

    /// Gives a pod that was adopted the label by which a Service finds it alone.
    async fn name(&self, set: &StatefulSet, pod: &Pod) -> Result<(), kube::Error> {
        let patch = json!({"metadata": {"uid": pod.uid(), "labels": {POD_NAME: pod.name()}}});
        let patched = self.pods.api(set).patch(pod.name(), &Default::default(), &Patch::Merge(patch)).await;
        let failure = patched.as_ref().err().map(said);
        let message = told("update", pod.name(), set.name(), failure.as_deref());
        match failure {
            None => self.pods.events.normal(&set.as_reference(), "SuccessfulUpdate", message),
            Some(_) => self.pods.events.warning(&set.as_reference(), "FailedUpdate", message),
        }
        gone_is_fine(patched).map(drop)
    }
}
