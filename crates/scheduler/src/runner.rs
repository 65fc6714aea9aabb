//! The scheduler at work: informers feed the queue and the snapshot, cycles empty the queue.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, runtime::watcher};
use tiphys_client::{Change, Informer, events::Recorder};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{
    config::Config,
    cycle::{Found, Refusal, Search},
    event::Event,
    extender::Extender,
    framework::{Errand, Point, Profile},
    pod::{Pod, PodInfo, SharedPod},
    queue::Queue,
    snapshot::{NodeFacts, NodeId, Snapshot},
    sources,
};

/// Bindings and status updates that are under way at once.
const MOST_WRITES: usize = 256;

pub(crate) struct State {
    pub(crate) queue: Queue,
    pub(crate) snapshot: Snapshot,
    pub(crate) search: Search,
}

pub(crate) struct Shared {
    pub(crate) client: Client,
    /// By the name of the scheduler.
    events: BTreeMap<Box<str>, Recorder>,
    profiles: Vec<Profile>,
    pub(crate) extenders: Vec<Extender>,
    state: Mutex<State>,
    wake: Notify,
    writes: Arc<Semaphore>,
    /// Counts changes of claims and volumes, for those who wait until theirs are bound.
    pub(crate) storage: watch::Sender<u64>,
}

/// Gives every pod without a node one, for as long as it runs.
pub struct Scheduler {
    shared: Arc<Shared>,
    pods: Informer<Pod, PodInfo>,
    nodes: Informer<Node, NodeFacts>,
    tasks: JoinSet<()>,
}

/// What is to be written after a cycle.
pub(crate) enum Outcome {
    Bind(Box<str>, Vec<Errand>),
    Refuse(Box<Refusal>),
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
        let shared = Arc::new(Shared {
            client: client.clone(),
            events,
            profiles: config.profiles,
            extenders: config.extenders,
            state: Mutex::new(State {
                queue: Queue::new(config.backoff),
                snapshot: Snapshot::default(),
                search: Search::new(config.seed),
            }),
            wake: Notify::new(),
            writes: Arc::new(Semaphore::new(MOST_WRITES)),
            storage: watch::channel(0).0,
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

impl sources::Sink for Shared {
    fn take(&self, event: Option<Event<'_>>, change: &mut dyn FnMut(&mut Snapshot)) {
        let mut state = self.lock();
        change(&mut state.snapshot);
        if let Some(event) = event {
            self.happened(&mut state, &event);
            if matches!(event, Event::StorageChanged) {
                self.storage.send_modify(|changes| *changes += 1);
            }
        }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn profile(&self, scheduler: &str) -> Option<&Profile> {
        self.profiles.iter().find(|profile| *profile.scheduler == *scheduler)
    }

    pub(crate) fn events(&self, scheduler: &str) -> Option<&Recorder> {
        self.events.get(scheduler)
    }

    fn happened(&self, state: &mut State, event: &Event<'_>) {
        state.queue.on_event(|scheduler| self.profile(scheduler), event, Instant::now());
        self.wake.notify_one();
    }

    fn pod_changed(&self, change: &Change<PodInfo>) {
        let mut state = self.lock();
        let state = &mut *state;
        let (old, new) = (change.old.as_deref(), change.new.as_ref());
        // A name that came back under another UID is another pod.
        if let Some(old) = old
            && new.is_none_or(|new| new.reference != old.reference)
        {
            let made_room = state.snapshot.nomination(&old.reference).is_some();
            state.queue.remove(&old.reference);
            state.snapshot.remove_pod(&old.reference);
            if made_room && !old.is_placed() {
                self.happened(state, &Event::PodLeft(old));
            }
        }
        if let Some(new) = new {
            if old.is_some_and(|old| !old.nominated.is_empty()) && new.nominated.is_empty() {
                state.snapshot.withdraw(&new.reference);
            }
            state.snapshot.set_pod(new);
            match self.profile(&new.scheduler).filter(|_| new.waits()) {
                Some(_) if state.snapshot.is_assumed(&new.reference) => {}
                Some(profile) => {
                    state.queue.set(profile, new.clone(), Instant::now());
                    self.wake.notify_one();
                }
                None => state.queue.remove(&new.reference),
            }
        }
        let new = new.map(|new| &**new);
        match (old.filter(|p| p.is_placed()), new.filter(|p| p.is_placed())) {
            (Some(old), None) => self.happened(state, &Event::PodLeft(old)),
            (None, Some(new)) => self.happened(state, &Event::PodPlaced(new)),
            (Some(old), Some(new)) if !old.counts_like(new) => {
                self.happened(state, &Event::PlacedPodChanged { old, new });
            }
            _ => {}
        }
    }

    fn node_changed(&self, change: &Change<NodeFacts>) {
        let mut state = self.lock();
        match (&change.old, &change.new) {
            (_, None) => state.snapshot.remove_node(&change.key.name),
            (None, Some(new)) => {
                state.snapshot.set_node(new.clone());
                self.happened(&mut state, &Event::NodeAdded(new));
            }
            // A heartbeat.
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(new)) => {
                state.snapshot.set_node(new.clone());
                self.happened(&mut state, &Event::NodeChanged { old, new });
            }
        }
    }

    /// One cycle for one pod. The write that follows runs beside the next cycles.
    async fn place(self: Arc<Self>, pod: SharedPod, tasks: &mut JoinSet<()>) {
        let extenders: Vec<&Extender> = self.extenders.iter().filter(|e| e.minds(&pod)).collect();
        let decided = match &extenders[..] {
            [] => self.decide(&pod),
            extenders => self.decide_with(&pod, extenders).await,
        };
        let Some(outcome) = decided else { return };
        let Ok(permit) = self.writes.clone().acquire_owned().await else { return };
        let this = self.clone();
        tasks.spawn(async move {
            match outcome {
                Outcome::Bind(node, errands) => this.bind(&pod, &node, errands).await,
                Outcome::Refuse(refusal) => this.refuse(&pod, *refusal).await,
            }
            drop(permit);
        });
    }

    /// Chooses a node, and assumes the pod there; `None` if no profile is for the pod.
    fn decide(&self, pod: &SharedPod) -> Option<Outcome> {
        let profile = self.profile(&pod.scheduler)?;
        let mut state = self.lock();
        let state = &mut *state;
        self.prepare(profile, state, pod);
        let found = state.search.schedule(profile, pod, &state.snapshot);
        Some(self.settle(profile, state, pod, found))
    }

    /// Has counted what the plugins will ask about the pod.
    pub(crate) fn prepare(&self, profile: &Profile, state: &mut State, pod: &SharedPod) {
        let mut more = Vec::new();
        for enabled in &profile.plugins {
            more.extend(enabled.plugin.counts(pod, state.snapshot.surroundings()));
        }
        state.snapshot.prepare(pod, &more);
    }

    /// Takes what was found into the snapshot and the queue.
    pub(crate) fn settle(
        &self,
        profile: &Profile,
        state: &mut State,
        pod: &SharedPod,
        found: Found,
    ) -> Outcome {
        let refusal = match found {
            Found::Node(id) => return self.assume(profile, state, pod, id),
            Found::Nothing(refusal) => refusal,
        };
        if let Some(plan) = &refusal.plan {
            // The pod stays in flight until its victims have been told to go.
            state.snapshot.follow(pod, plan);
        } else {
            state.queue.unschedulable(&pod.reference, refusal.plugins.clone(), Instant::now());
            if refusal.gives_up {
                state.snapshot.withdraw(&pod.reference);
            }
        }
        Outcome::Refuse(refusal)
    }

    fn assume(&self, profile: &Profile, state: &mut State, pod: &SharedPod, id: NodeId) -> Outcome {
        let mut errands = Vec::new();
        for (plugin, _) in profile.at(Point::Reserve) {
            errands.extend(plugin.reserve(pod, &mut state.snapshot, id));
        }
        let node: Box<str> = state.snapshot.node(id).name().into();
        state.snapshot.assume(pod, &node);
        // What waits to be beside this pod need not wait for the API to say that it is there.
        self.happened(state, &Event::PodPlaced(pod));
        Outcome::Bind(node, errands)
    }

    /// Room has been made for the pod, or could not be; `spared` are victims that are still there.
    pub(crate) fn retry(&self, pod: &SharedPod, spared: &[SharedPod]) {
        let mut state = self.lock();
        for victim in spared {
            state.snapshot.set_pod(victim);
        }
        state.queue.failed(&pod.reference, Instant::now());
        self.wake.notify_one();
    }

    /// The pod does not go where it was assumed to go. `is_gone`: nor anywhere else.
    pub(crate) fn forget(&self, pod: &SharedPod, is_gone: bool) {
        let mut state = self.lock();
        let state = &mut *state;
        for (plugin, _) in self.profile(&pod.scheduler).iter().flat_map(|p| p.at(Point::Reserve)) {
            plugin.unreserve(pod, &mut state.snapshot);
        }
        state.snapshot.forget(&pod.reference);
        if is_gone {
            state.queue.remove(&pod.reference);
        } else {
            state.queue.failed(&pod.reference, Instant::now());
        }
        self.happened(state, &Event::PodLeft(pod));
    }
}
