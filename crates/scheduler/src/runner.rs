//! The scheduler at work: informers feed the queue and the snapshot, cycles empty the queue.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference};
use kube::{
    Api, Client,
    api::{Patch, PostParams},
    runtime::watcher,
};
use serde_json::json;
use tiphys_client::{Change, Informer, ObjectRef, Reader, events::Recorder};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::Instant,
};
use tracing::debug;

use crate::{
    cycle::schedule,
    framework::{ClusterEvent, Profile, Unfit},
    plugins::default_profile,
    pod::{Pod, PodInfo, SharedPod},
    queue::Queue,
    snapshot::{NodeFacts, Snapshot},
};

/// Bindings and status updates that are under way at once.
const MOST_WRITES: usize = 64;

/// What can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods whose `schedulerName` is this are ours.
    pub scheduler_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { scheduler_name: "default-scheduler".to_owned() }
    }
}

struct State {
    queue: Queue,
    snapshot: Snapshot,
}

struct Shared {
    client: Client,
    events: Recorder,
    profile: Profile,
    state: Mutex<State>,
    wake: Notify,
    writes: Arc<Semaphore>,
}

/// Gives every pod without a node one, for as long as it runs.
pub struct Scheduler {
    shared: Arc<Shared>,
    pods: Informer<Pod, PodInfo>,
    nodes: Informer<Node, NodeFacts>,
    tasks: JoinSet<()>,
}

impl Scheduler {
    pub fn new(client: Client, config: &Config) -> Self {
        let mut tasks = JoinSet::new();
        let (events, sink) = Recorder::new(client.clone(), &config.scheduler_name, "");
        tasks.spawn(sink.run());
        let mut profile = default_profile();
        profile.scheduler = config.scheduler_name.as_str().into();
        let shared = Arc::new(Shared {
            client: client.clone(),
            events,
            profile,
            state: Mutex::new(State { queue: Queue::default(), snapshot: Snapshot::default() }),
            wake: Notify::new(),
            writes: Arc::new(Semaphore::new(MOST_WRITES)),
        });
        let mut pods = Informer::new(Api::all(client.clone()), watcher::Config::default(), PodInfo::new);
        pods.on_change({
            let shared = shared.clone();
            move |change| shared.pod_changed(change)
        });
        let mut nodes = Informer::new(Api::all(client), watcher::Config::default(), NodeFacts::new);
        nodes.on_change({
            let shared = shared.clone();
            move |change| shared.node_changed(change)
        });
        Self { shared, pods, nodes, tasks }
    }

    /// Runs until the future is dropped.
    pub async fn run(self) {
        let Self { shared, pods, nodes, mut tasks } = self;
        let (known_pods, known_nodes): (Reader<PodInfo>, Reader<NodeFacts>) = (pods.reader(), nodes.reader());
        tasks.spawn(pods.run());
        tasks.spawn(nodes.run());
        // Before all nodes and all placed pods are known, every answer would be wrong.
        known_nodes.synced().await;
        known_pods.synced().await;
        loop {
            let woken = shared.wake.notified();
            while let Some(pod) = { shared.lock().queue.pop(Instant::now()) } {
                shared.clone().place(pod, &mut tasks).await;
                while tasks.try_join_next().is_some() {}
            }
            let due = shared.lock().queue.next_due();
            match due {
                Some(due) => tokio::select! { () = woken => {}, () = tokio::time::sleep_until(due) => {} },
                None => woken.await,
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pod_changed(&self, change: &Change<PodInfo>) {
        let now = Instant::now();
        let mut state = self.lock();
        // A name that came back under another UID is another pod.
        if let Some(old) = &change.old
            && change.new.as_ref().is_none_or(|new| new.reference != old.reference)
        {
            state.queue.remove(&old.reference);
            state.snapshot.remove_pod(&old.reference);
        }
        if let Some(new) = &change.new {
            state.snapshot.set_pod(new);
            if new.wants(&self.profile.scheduler) {
                if !state.snapshot.is_assumed(&new.reference) {
                    state.queue.set(&self.profile, new.clone(), now);
                }
            } else {
                state.queue.remove(&new.reference);
            }
        }
        let left = change.old.as_ref().is_some_and(|p| p.is_placed())
            && change.new.as_ref().is_none_or(|p| !p.is_placed());
        if left {
            state.queue.on_event(&self.profile, ClusterEvent::PodLeft, now);
        }
        drop(state);
        self.wake.notify_one();
    }

    fn node_changed(&self, change: &Change<NodeFacts>) {
        let now = Instant::now();
        let mut state = self.lock();
        let mut events = Vec::new();
        match (&change.old, &change.new) {
            (_, None) => state.snapshot.remove_node(&change.key.name),
            (None, Some(new)) => {
                state.snapshot.set_node(new.clone());
                events.push(ClusterEvent::NodeAdded);
            }
            (Some(old), Some(new)) => {
                state.snapshot.set_node(new.clone());
                if old.labels != new.labels {
                    events.push(ClusterEvent::NodeLabelsChanged);
                }
                if old.taints != new.taints || old.unschedulable != new.unschedulable {
                    events.push(ClusterEvent::NodeTaintsChanged);
                }
                if old.allocatable != new.allocatable || old.most_pods != new.most_pods {
                    events.push(ClusterEvent::NodeAllocatableGrew);
                }
            }
        }
        for event in events {
            state.queue.on_event(&self.profile, event, now);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// One cycle for one pod. The write that follows runs beside the next cycles.
    async fn place(self: Arc<Self>, pod: SharedPod, tasks: &mut JoinSet<()>) {
        let outcome = {
            let mut state = self.lock();
            let outcome = schedule(&self.profile, &pod, &state.snapshot);
            match &outcome {
                Ok(node) => state.snapshot.assume(&pod, node),
                Err(unfit) => state.queue.unschedulable(&pod.reference, unfit.plugins(), Instant::now()),
            }
            outcome
        };
        let Ok(permit) = self.writes.clone().acquire_owned().await else { return };
        let this = self.clone();
        tasks.spawn(async move {
            match outcome {
                Ok(node) => this.bind(&pod, &node).await,
                Err(unfit) => this.tell(&pod, &unfit).await,
            }
            drop(permit);
        });
    }

    async fn bind(&self, pod: &SharedPod, node: &str) {
        let key = pod.key();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let binding = Binding {
            metadata: kube::api::ObjectMeta {
                name: Some(key.name.to_string()),
                namespace: Some(key.namespace.to_string()),
                uid: Some(pod.reference.uid.to_string()),
                ..Default::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..Default::default()
            },
        };
        let result: Result<serde_json::Value, _> =
            pods.create_subresource("binding", &key.name, &PostParams::default(), &binding).await;
        match result {
            Ok(_) => {
                let message = format!("Successfully assigned {key} to {node}");
                self.events.normal(&reference(pod), "Scheduled", message);
            }
            Err(error) => {
                debug!(pod = %key, node, %error, "binding failed");
                let gone = matches!(&error, kube::Error::Api(status) if status.code == 404);
                let mut state = self.lock();
                state.snapshot.forget(&pod.reference);
                if gone {
                    state.queue.remove(&pod.reference);
                } else {
                    drop(state);
                    let message = format!("Binding rejected: {error}");
                    self.events.warning(&reference(pod), "FailedScheduling", message);
                }
                self.wake.notify_one();
            }
        }
    }

    /// Says in the pod's status and in an event why it has no node; once for each new answer.
    async fn tell(&self, pod: &SharedPod, unfit: &Unfit) {
        let message = unfit.message();
        self.events.warning(&reference(pod), "FailedScheduling", message.clone());
        if pod.told.as_deref() == Some(&*message) {
            return;
        }
        let key = pod.key();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = json!({
            "metadata": {"uid": &*pod.reference.uid},
            "status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": message, "lastProbeTime": null, "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}]},
        });
        if let Err(error) = pods.patch_status(&key.name, &Default::default(), &Patch::Strategic(patch)).await
        {
            debug!(pod = %key, %error, "telling why a pod has no node");
        }
        let report = unfit.report(&pod.reference.uid);
        let told: Result<serde_json::Value, _> =
            pods.create_subresource("why", &key.name, &PostParams::default(), &report).await;
        // Only a Tiphys server takes reports; the condition tells the same of all nodes together.
        if let Err(error) = told {
            debug!(pod = %key, %error, "reporting each node's answer");
        }
    }
}

fn reference(pod: &PodInfo) -> ObjectReference {
    let ObjectRef { key, uid } = &pod.reference;
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        uid: Some(uid.to_string()),
        resource_version: Some(pod.resource_version.to_string()),
        ..Default::default()
    }
}
