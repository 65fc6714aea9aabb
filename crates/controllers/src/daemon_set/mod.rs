//! DaemonSets run one pod on every node that they are for.

mod backoff;
mod eligible;
mod plan;

use std::{borrow::Cow, collections::BTreeSet};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Node, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::Api;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, informer::LOST_AFTER};

use self::{
    backoff::Backoff,
    eligible::{Eligibility, Eligible, pod},
    plan::{Ended, Plan, Seen, plan},
};
use crate::{
    claim::write_status,
    controller::{Controller, Tools},
    history::{History, KeepsHistory, REVISION},
    informers::Informers,
    object::Object,
    pod_control::{PodControl, RunsPods},
};

impl RunsPods for DaemonSet {
    fn selector(&self) -> Option<Cow<'_, LabelSelector>> {
        Some(Cow::Borrowed(&self.spec.selector))
    }
}

impl KeepsHistory for DaemonSet {
    const HASH: &'static str = REVISION;

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

pub(crate) struct DaemonSets {
    pods: PodControl<DaemonSet>,
    history: History,
    nodes: Reader<Node>,
    backoff: Backoff,
}

impl DaemonSets {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let client = tools.client.clone();
        let pods = PodControl::new(tools, &mut informers.daemon_sets, &mut informers.pods);
        let owners = pods.owners.clone();
        let history = History::new(client, &pods.queue, owners.clone(), &mut informers.revisions);
        let queue = pods.queue.clone();
        informers.nodes.on_change(move |change| {
            let (old, new) = (change.old.as_deref(), change.new.as_deref());
            let same = |a: &Node, b: &Node| {
                let taints = |n: &Node| n.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
                a.metadata.labels == b.metadata.labels && taints(a) == taints(b)
            };
            // Nodes tell every few seconds that they are well.
            if old.zip(new).is_some_and(|(old, new)| same(old, new)) {
                return;
            }
            for set in owners.list() {
                let eligibility = Eligibility::of(&set);
                let of = |node: Option<&Node>| node.map_or(Eligible::No, |n| eligibility.of_node(n));
                if of(old) != of(new) {
                    queue.add(set.key());
                }
            }
        });
        Self { pods, history, nodes: informers.nodes.reader(), backoff: Backoff::default() }
    }
}

impl Controller for DaemonSets {
    const NAME: &'static str = "daemon-set-controller";
    const SWITCH: &'static str = "daemonset-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.pods.queue.clone()
    }

    async fn synced(&self) {
        self.pods.synced().await;
        self.history.synced().await;
        self.nodes.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(set) = self.pods.owners.get(key) else { return Ok(Verdict::Done) };
        if self.pods.owners.is_behind(key) {
            return Ok(Verdict::After(LOST_AFTER));
        }
        if set.is_going() {
            // Its past and its pods are being deleted or orphaned, in no order: they tell nothing.
            self.backoff.forget(set.uid());
            return Ok(Verdict::Done);
        }
        let sets: Api<DaemonSet> = Api::namespaced(self.pods.client.clone(), &key.namespace);
        let (owned, caught_up) = self.pods.owned(&sets, &set).await?;
        let past = self.history.settle(&sets, &*set).await?;
        let hash = past.newest.metadata.labels.as_ref().and_then(|l| l.get(REVISION)).cloned();
        let hash = hash.unwrap_or_default();
        let plan = plan(&Seen {
            set: &set,
            hash: &hash,
            collisions: past.collisions,
            nodes: &self.nodes.list(),
            pods: &owned,
            caught_up,
            backoff: &|node| self.backoff.left(set.uid(), node),
            now: Timestamp::now(),
        });
        let Plan { create, delete, ended, status, look_again } = plan;
        write_status(&sets, &self.pods.owners, &*set, set.status.as_ref(), &status).await?;
        for end in &ended {
            self.tell(&set, end);
        }
        self.pods.create(&set, &create, |node| pod(&set, &hash, node)).await?;
        self.pods.delete(&set, &delete).await?;
        let running: BTreeSet<_> =
            owned.iter().filter_map(|pod| pod.metadata.labels.as_ref()?.get(REVISION)).collect();
        let live = past.all.iter().filter(|r| {
            r.metadata.labels.as_ref().and_then(|l| l.get(REVISION)).is_some_and(|h| running.contains(h))
        });
        let live = live.map(|r| r.name().to_owned()).collect();
        self.history.forget(&*set, &past, &live).await?;
        Ok(look_again.map_or(Verdict::Done, Verdict::After))
    }
}

impl DaemonSets {
    fn tell(&self, set: &DaemonSet, Ended { pod, node, failed }: &Ended) {
        let (events, about, space) = (&self.pods.events, set.as_reference(), set.namespace());
        if *failed {
            self.backoff.failed(set.uid(), node);
            let message =
                format!("Found failed daemon pod {space}/{pod} on node {node}, will try to kill it");
            events.warning(&about, "FailedDaemonPod", message);
        } else {
            let message =
                format!("Found succeeded daemon pod {space}/{pod} on node {node}, will try to delete it");
            events.normal(&about, "SucceededDaemonPod", message);
        }
    }
}
