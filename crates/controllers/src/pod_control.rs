//! What controllers that run pods of their own have in common: which pods they hear of, own, make and delete.

use std::{borrow::Cow, sync::Arc};

use futures::future::join_all;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::ReplicaSet,
        batch::v1::Job,
        core::v1::{self, ReplicationController},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{Api, Client, Resource, api::PostParams};
use serde::de::DeserializeOwned;
use tiphys_client::{
    Change, Expectations, Informer, ObjectKey, Queue, Reader, events::Recorder, expectations::LOST_AFTER,
    key::controller_of,
};

use crate::{
    claim::{self, Owns, claim, exists, namespace_goes, only, said},
    controller::Tools,
    informers::Kept,
    object::Object,
    pod::Pod,
};

/// No more pods are created or deleted at a time.
pub(crate) const BURST: usize = 500;

/// An object that runs pods which its selector finds.
pub(crate) trait RunsPods:
    Object
    + Resource<Scope = NamespaceResourceScope>
    + Clone
    + DeserializeOwned
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    fn selector(&self) -> Option<Cow<'_, LabelSelector>>;

    /// Whether a pod that the selector finds can be one of its.
    fn takes(&self, _: &Pod) -> bool {
        true
    }

    /// What an event tells of a pod that was made or deleted, or could not be.
    fn event(&self, act: Act, pod: &str, failure: Option<&str>) -> String {
        match (act, failure) {
            (Act::Create, None) => format!("Created pod: {pod}"),
            (Act::Delete, None) => format!("Deleted pod: {pod}"),
            (Act::Create, Some(why)) => format!("Error creating: {why}"),
            (Act::Delete, Some(why)) => format!("Error deleting: {why}"),
        }
    }
}

/// What is done to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Create,
    Delete,
}

impl RunsPods for ReplicaSet {
    fn selector(&self) -> Option<Cow<'_, LabelSelector>> {
        Some(Cow::Borrowed(&self.spec.selector))
    }
}

impl RunsPods for ReplicationController {
    fn selector(&self) -> Option<Cow<'_, LabelSelector>> {
        let labels = self.spec.as_ref()?.selector.clone();
        Some(Cow::Owned(LabelSelector { match_labels: labels, match_expressions: None }))
    }
}

impl RunsPods for Job {
    fn selector(&self) -> Option<Cow<'_, LabelSelector>> {
        self.spec.as_ref()?.selector.as_ref().map(Cow::Borrowed)
    }
}

/// The owner's selector.
pub(crate) fn owns(owner: &impl RunsPods) -> Owns {
    owner.selector().map(|selector| Owns::new(&selector)).unwrap_or_default()
}

/// The pods of one kind of owners.
pub(crate) struct PodControl<O> {
    pub(crate) client: Client,
    pub(crate) events: Recorder,
    pub(crate) queue: Queue<ObjectKey>,
    pub(crate) owners: Reader<O>,
    pub(crate) pods: Reader<Pod>,
    expectations: Arc<Expectations>,
}

impl<O: RunsPods> PodControl<O> {
    /// Queues every owner that changes, whose pods change, or who might adopt a pod.
    pub(crate) fn new(tools: Tools, owners: &mut Kept<O>, pods: &mut Kept<Pod>) -> Self {
        let queue = Queue::new();
        let expectations = Arc::new(Expectations::new());
        owners.on_change({
            let (queue, expectations) = (queue.clone(), expectations.clone());
            move |change| {
                if change.new.is_none() {
                    expectations.forget(&change.key);
                }
                queue.add(change.key.clone());
            }
        });
        follow(pods, &queue, &expectations, owners.reader());
        let Tools { client, events } = tools;
        Self { client, events, queue, owners: owners.reader(), pods: pods.reader(), expectations }
    }

    pub(crate) async fn synced(&self) {
        self.owners.synced().await;
        self.pods.synced().await;
    }

    /// The pods that the owner has, after adopting and letting go; and whether they show its own last writes.
    pub(crate) async fn owned(&self, api: &Api<O>, owner: &O) -> Result<(Vec<Arc<Pod>>, bool), kube::Error> {
        // Asked before the pods are read: what is seen in between can only be missing from the answer.
        let outstanding = self.expectations.outstanding(&owner.key());
        if let Some(left) = outstanding {
            self.queue.add_after(owner.key(), left);
        }
        let owns = owns(owner);
        let is_its = |pod: &Pod| owns.finds(pod) && owner.takes(pod);
        let claims = claim(owner.uid(), owner.is_going(), is_its, claim::near(&self.pods, owner));
        Ok((claim::settle(api, &self.api(owner), owner, claims).await?, outstanding.is_none()))
    }

    pub(crate) fn api(&self, owner: &O) -> Api<Pod> {
        Api::namespaced(self.client.clone(), owner.namespace())
    }

    /// What the informer never shows brings nobody back to the owner.
    fn look_again(&self, owner: &ObjectKey) {
        self.queue.add_after(owner.clone(), LOST_AFTER);
    }

    /// Creates a pod of each of `wanted`, in batches that double, so that a refusal costs one request and not
    /// hundreds.
    pub(crate) async fn create<T>(
        &self,
        owner: &O,
        wanted: &[T],
        pod: impl Fn(&T) -> v1::Pod,
    ) -> Result<(), kube::Error> {
        let (key, about) = (owner.key(), owner.as_reference());
        let pods: Api<v1::Pod> = Api::namespaced(self.client.clone(), owner.namespace());
        self.expectations.expect_creations(&key, wanted.len());
        self.look_again(&key);
        let (mut rest, mut batch) = (wanted, 1);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            rest = later;
            let made: Vec<v1::Pod> = now.iter().map(&pod).collect();
            let params = PostParams::default();
            let mut failed = None;
            let results = join_all(made.iter().map(|pod| pods.create(&params, pod))).await;
            for (pod, result) in made.iter().zip(results) {
                match result {
                    Ok(created) => {
                        let message = owner.event(Act::Create, created.name(), None);
                        self.events.normal(&about, "SuccessfulCreate", message);
                    }
                    Err(error) => {
                        self.expectations.created(&key);
                        // A name of its own may be taken by the pod before it, which is still to be seen going.
                        if !namespace_goes(&error) && !exists(&error) {
                            let message = owner.event(Act::Create, pod.name(), Some(&said(&error)));
                            self.events.warning(&about, "FailedCreate", message);
                        }
                        failed = Some(error);
                    }
                }
            }
            if let Some(error) = failed {
                rest.iter().for_each(|_| self.expectations.created(&key));
                return Err(error);
            }
            batch *= 2;
        }
        Ok(())
    }

    /// Deletes pods, all at once. Those that are gone already are no failure.
    pub(crate) async fn delete(&self, owner: &O, doomed: &[Arc<Pod>]) -> Result<(), kube::Error> {
        let (key, pods, about) = (owner.key(), self.api(owner), owner.as_reference());
        self.expectations.expect_deletions(&key, doomed.iter().map(|p| p.uid().to_owned()));
        self.look_again(&key);
        let deletions = doomed.iter().map(|pod| {
            let pods = &pods;
            async move { (pod, pods.delete(pod.name(), &only(pod.uid())).await) }
        });
        let mut failed = None;
        for (pod, result) in join_all(deletions).await {
            match result {
                Ok(_) => {
                    let message = owner.event(Act::Delete, pod.name(), None);
                    self.events.normal(&about, "SuccessfulDelete", message);
                }
                Err(error) => {
                    self.expectations.deleted(&key, pod.uid());
                    if let Err(error) = claim::gone_is_fine(Err::<(), _>(error)) {
                        let message = owner.event(Act::Delete, pod.name(), Some(&said(&error)));
                        self.events.warning(&about, "FailedDelete", message);
                        failed = Some(error);
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// What a change shows of an owner's own writes.
struct Shown<'a> {
    come: Option<&'a Arc<Pod>>,
    /// Or going.
    gone: Vec<&'a Arc<Pod>>,
}

/// Who missed a deletion may be shown the next pod of the same name at once: then one has gone, and another come.
fn shown(change: &Change<Pod>) -> Shown<'_> {
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    let other = |of: Option<&Arc<Pod>>, pod: &Arc<Pod>| of.is_none_or(|of| of.uid() != pod.uid());
    let left = old.filter(|pod| other(new, pod));
    let going = new.filter(|pod| pod.is_going());
    Shown { come: new.filter(|pod| other(old, pod)), gone: left.into_iter().chain(going).collect() }
}

fn follow<O: RunsPods>(
    pods: &mut Informer<Pod, Pod>,
    queue: &Queue<ObjectKey>,
    expectations: &Arc<Expectations>,
    owners: Reader<O>,
) {
    let (queue, expectations) = (queue.clone(), expectations.clone());
    pods.on_change(move |change: &Change<Pod>| {
        let owner = |pod: &Arc<Pod>| {
            let controller = controller_of(&pod.metadata).filter(|o| o.kind == O::kind(&()))?;
            Some(ObjectKey::new(pod.namespace(), &controller.name))
        };
        let (old, new) = (change.old.as_ref(), change.new.as_ref());
        let Shown { come, gone } = shown(change);
        if let Some(owner) = come.and_then(owner) {
            expectations.created(&owner);
        }
        for pod in gone {
            if let Some(owner) = owner(pod) {
                expectations.deleted(&owner, pod.uid());
            }
        }
        for owner in [old.and_then(owner), new.and_then(owner)].into_iter().flatten() {
            queue.add(owner);
        }
        // An orphan may be somebody's to adopt.
        if let Some(orphan) = new.filter(|p| controller_of(&p.metadata).is_none()) {
            for candidate in owners.list_in(orphan.namespace()) {
                if owns(&*candidate).matches(orphan.metadata.labels.as_ref()) {
                    queue.add(candidate.key());
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use http::Method;
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;
    use crate::{controller::Controller, informers::Informers, replica_set::ReplicaSets, testing};

    /// Watches bring nothing here, so that no pod is ever seen.
    #[tokio::test(start_paused = true)]
    async fn who_is_not_shown_its_pods_looks_again_in_the_end() {
        let labels = json!({"app": "web"});
        let set = json!({"metadata": {"name": "web", "namespace": "a", "uid": "s"}, "spec": {"replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": []}}}});
        let created = Arc::new(Mutex::new(Vec::new()));
        let client = testing::client({
            let created = Arc::clone(&created);
            move |asked| match (&asked.method, &*asked.path) {
                (&Method::GET, "/apis/apps/v1/replicasets") => {
                    testing::list("apps/v1", "ReplicaSet", std::slice::from_ref(&set))
                }
                (&Method::GET, path) => testing::list("v1", path, &[]),
                (&Method::POST, "/api/v1/namespaces/a/pods") => {
                    created.lock().push(tokio::time::Instant::now());
                    (201, asked.body.clone())
                }
                _ => (200, set.clone()),
            }
        });
        let mut informers = Informers::new(&client);
        let (events, _sink) = Recorder::new(client.clone(), "test", "");
        let controller = ReplicaSets::new(Tools { client, events }, &mut informers);
        let mut tasks = tokio::task::JoinSet::new();
        informers.start(&mut tasks);
        let begun = tokio::time::Instant::now();
        let _ = tokio::time::timeout(LOST_AFTER * 5 / 2, controller.run()).await;
        let created: Vec<u64> = created.lock().iter().map(|at| (*at - begun).as_secs() / 300).collect();
        assert_eq!(created, [0, 1, 2]);
    }

    fn pod(uid: &str, goes: bool) -> Arc<Pod> {
        let going = if goes { json!("2026-01-01T00:00:00Z") } else { json!(null) };
        let pod = json!({"metadata": {"name": "web-0", "uid": uid, "deletionTimestamp": going}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn a_name_may_come_back_in_one_change() {
        let of = |old: Option<Arc<Pod>>, new: Option<Arc<Pod>>| {
            let change = Change { key: ObjectKey::new("ns", "web-0"), old, new };
            let Shown { come, gone } = shown(&change);
            let uids = |pods: Vec<&Arc<Pod>>| pods.iter().map(|pod| pod.uid().to_owned()).collect::<Vec<_>>();
            (uids(come.into_iter().collect()), uids(gone))
        };
        let (none, a, b) = (Vec::<String>::new(), vec!["a".to_owned()], vec!["b".to_owned()]);
        assert_eq!(of(None, Some(pod("a", false))), (a.clone(), none.clone()));
        assert_eq!(of(Some(pod("a", false)), Some(pod("a", false))), (none.clone(), none.clone()));
        assert_eq!(of(Some(pod("a", false)), Some(pod("a", true))), (none.clone(), a.clone()));
        assert_eq!(of(Some(pod("a", true)), None), (none, a.clone()));
        assert_eq!(of(Some(pod("a", false)), Some(pod("b", false))), (b, a));
    }
}
