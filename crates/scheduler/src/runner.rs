//! The scheduler at work: informers feed the queue and the snapshot, cycles empty the queue.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, runtime::watcher};
use parking_lot::{Mutex, MutexGuard};
use tiphys_client::{Change, Informer, events::Recorder};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{
    config::Config,
    event::Event,
    extender::Extender,
    framework::Profile,
    metrics::{self, Reading, Tried, Watched},
    pod::{Pod, PodInfo, SharedPod},
    snapshot::{NodeFacts, Snapshot},
    sources,
    state::{self, Outcome, State},
};

/// Bindings and status updates that are under way at once.
const MOST_WRITES: usize = 256;

pub(crate) struct Shared {
    pub(crate) client: Client,
    /// By the name of the scheduler.
    events: BTreeMap<Box<str>, Recorder>,
    profiles: Arc<[Profile]>,
    pub(crate) extenders: Vec<Extender>,
    state: Mutex<State>,
    wake: Notify,
    writes: Arc<Semaphore>,
    /// Counts changes of claims and volumes, for those who wait until theirs are bound or ready.
    pub(crate) storage: watch::Sender<u64>,
}

/// Gives every pod without a node one, for as long as it runs.
pub struct Scheduler {
    pub(crate) shared: Arc<Shared>,
    pods: Informer<Pod, PodInfo>,
    nodes: Informer<Node, NodeFacts>,
    tasks: JoinSet<()>,
}

impl Scheduler {
    pub fn new(client: Client, config: Config) -> Self {
        let mut tasks = JoinSet::new();
        let events = config.profiles.iter().map(|profile| {
            let (events, sink) = Recorder::new(client.clone(), &profile.scheduler, "");
            tasks.spawn(sink.run());
            (profile.scheduler.clone(), events)
        });
        let events = events.collect();
        let state = State::new(&config);
        let shared = Arc::new(Shared {
            client: client.clone(),
            events,
            profiles: config.profiles,
            extenders: config.extenders,
            state: Mutex::new(state),
            wake: Notify::new(),
            writes: Arc::new(Semaphore::new(MOST_WRITES)),
            storage: watch::channel(0).0,
        });
        let watched: Arc<dyn Watched> = shared.clone();
        metrics::watch(&watched);
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
        let (known_pods, known_nodes) = (pods.reader(), nodes.reader());
        // Before all is known that plugins ask for, every answer would be wrong.
        for (source, synced) in sources::all(shared.client.clone(), shared.clone()) {
            tasks.spawn(source);
            synced.await;
        }
        tasks.spawn(nodes.run());
        known_nodes.synced().await;
        tasks.spawn(pods.run());
        known_pods.synced().await;
        loop {
            let woken = shared.wake.notified();
            loop {
                let (explained, next) = {
                    let (mut state, now) = (shared.lock(), Instant::now());
                    (state.explained(now), state.next(now))
                };
                if explained.is_none() && next.is_none() {
                    break;
                }
                if let Some((pod, report)) = explained {
                    shared
                        .clone()
                        .beside(&mut tasks, async move |this| this.report(&pod, report).await)
                        .await;
                }
                if let Some(pod) = next {
                    shared.clone().place(pod, &mut tasks).await;
                }
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

impl Watched for Shared {
    fn read(&self) -> Reading {
        self.lock().queue.read()
    }
}

impl sources::Sink for Shared {
    fn take(&self, event: Option<Event<'_>>, change: &mut dyn FnMut(&mut Snapshot)) {
        self.lock().take(event.as_ref(), change, Instant::now());
        self.wake.notify_one();
        if matches!(event, Some(Event::StorageChanged | Event::DeviceClaimChanged { .. })) {
            self.storage.send_modify(|changes| *changes += 1);
        }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn profile(&self, scheduler: &str) -> Option<&Profile> {
        state::find(&self.profiles, scheduler)
    }

    pub(crate) fn events(&self, scheduler: &str) -> Option<&Recorder> {
        self.events.get(scheduler)
    }

    fn pod_changed(&self, change: &Change<PodInfo>) {
        self.lock().pod_changed(change.old.as_deref(), change.new.as_ref(), Instant::now());
        self.wake.notify_one();
    }

    fn node_changed(&self, change: &Change<NodeFacts>) {
        self.lock().node_changed(change.old.as_deref(), change.new.as_ref(), Instant::now());
        self.wake.notify_one();
    }

    /// One cycle for one pod. The write that follows runs beside the next cycles.
    async fn place(self: Arc<Self>, pod: SharedPod, tasks: &mut JoinSet<()>) {
        let extenders: Vec<&Extender> = self.extenders.iter().filter(|e| e.minds(&pod)).collect();
        let first = pod.group.is_some().then(|| pod.clone());
        let (begun, now) = (std::time::Instant::now(), Instant::now());
        // What a gang is placed with are the plugins alone.
        let alone = extenders.is_empty() || pod.group.is_some();
        let asked = if alone { None } else { Some(self.decide_with(&pod, &extenders).await) };
        let (decided, tried) = {
            let mut state = self.lock();
            let decided = match asked {
                None => state.decide(&pod, now),
                Some(outcome) => outcome.map(|outcome| (pod, outcome)).into_iter().collect(),
            };
            let tried: Vec<Tried> = decided.iter().map(|(pod, _)| state.tried(pod, begun, now)).collect();
            (decided, tried)
        };
        let news = first.as_ref().and_then(|pod| self.lock().group_news(pod, &decided));
        if let Some((group, news)) = news {
            let this = self.clone();
            tasks.spawn(async move { this.tell_group(&group, news).await });
        }
        // A pod that was placed may be what others wait for.
        self.wake.notify_one();
        for ((pod, outcome), tried) in decided.into_iter().zip(tried) {
            let write = async move |this: Arc<Self>| match outcome {
                Outcome::Bind(node, errands) => this.bind(&pod, &node, errands, tried).await,
                Outcome::Refuse(refusal) => {
                    tried.ended(if refusal.retries { "error" } else { "unschedulable" }, &pod.scheduler);
                    this.refuse(&pod, *refusal).await;
                }
            };
            self.clone().beside(tasks, write).await;
        }
    }

    /// Writes beside what comes next, but not beside too many other writes.
    async fn beside<W: Future<Output = ()> + Send + 'static>(
        self: Arc<Self>,
        tasks: &mut JoinSet<()>,
        write: impl FnOnce(Arc<Self>) -> W,
    ) {
        let Ok(permit) = self.writes.clone().acquire_owned().await else { return };
        let writing = write(self);
        tasks.spawn(async move {
            writing.await;
            drop(permit);
        });
    }

    /// The victims have been told to go, but for those that are `spared`.
    pub(crate) fn made_room(&self, pod: &SharedPod, plugins: Vec<&'static str>, spared: &[SharedPod]) {
        self.lock().made_room(pod, plugins, spared, Instant::now());
        self.wake.notify_one();
    }

    /// The pod does not go where it was assumed to go. `is_gone`: nor anywhere else.
    pub(crate) fn forget(&self, pod: &SharedPod, is_gone: bool) {
        self.lock().forget(pod, is_gone, Instant::now());
        self.wake.notify_one();
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
