//! The pods of this node and their workers.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::admission;
use crate::bundles;
use crate::content;
use crate::context::Context;
use crate::key::{PodKey, PodUid};
use crate::pod;
use crate::qos::{self, QosClass};
use crate::resize;
use crate::worker::Worker;
use crate::worker::mailbox::Mailbox;

struct Entry {
    mailbox: Arc<Mailbox>,
    /// With the resources that it was given.
    pod: Arc<Pod>,
    /// How its source has it, while it wants other resources.
    wanted: Option<Arc<Pod>>,
    /// Whether it takes room on the node: not when it was refused, nor when it has ended.
    counts: bool,
}

/// All pods that this node has to do with. Sources put pods in; each gets its worker.
pub(crate) struct Registry {
    ctx: OnceLock<Arc<Context>>,
    entries: Mutex<BTreeMap<PodKey, Entry>>,
    /// The API's images of static pods, by namespace and name.
    mirrors: Mutex<BTreeMap<(String, String), Arc<Pod>>>,
    stop: CancellationToken,
    /// Set once all sources have named their pods: what comes after that is new, not found again.
    settled: std::sync::atomic::AtomicBool,
}

impl Registry {
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            ctx: OnceLock::new(),
            entries: Mutex::default(),
            mirrors: Mutex::default(),
            stop,
            settled: false.into(),
        }
    }

    /// Gives the registry what its workers share. Before that no pod may be put in.
    pub(crate) fn begin(&self, ctx: Arc<Context>) {
        if self.ctx.set(ctx).is_err() {
            tracing::error!("a node was started twice; the second start has no effect on its pods");
        }
    }

    /// Says that every source has named its pods.
    pub(crate) fn settle(&self) {
        self.settled.store(true, std::sync::atomic::Ordering::Release);
        if let Some(ctx) = self.ctx.get() {
            reconsider(ctx, &mut self.entries.lock());
        }
    }

    /// Mirrors of static pods that are no more.
    pub(crate) fn orphaned_mirrors(&self) -> Vec<Arc<Pod>> {
        let entries = self.entries.lock();
        let statics: Vec<&PodKey> =
            entries.iter().filter(|(_, e)| pod::is_static(&e.pod)).map(|(k, _)| k).collect();
        let is_orphan =
            |at: &(String, String)| !statics.iter().any(|k| k.namespace == at.0 && k.name == at.1);
        self.mirrors.lock().iter().filter(|(at, _)| is_orphan(at)).map(|(_, pod)| pod.clone()).collect()
    }

    /// A source has a pod, or a newer state of one.
    pub(crate) fn set(self: &Arc<Self>, pod: Arc<Pod>) {
        let Some(ctx) = self.ctx.get() else { return };
        let Some(key) = PodKey::of(&pod) else {
            tracing::warn!(name = pod.metadata.name, "a pod has no usable name or UID");
            return;
        };
        let ended = pod::is_terminal_phase(pod.status.as_ref().and_then(|s| s.phase.as_deref()));
        let mut entries = self.entries.lock();
        if entries.contains_key(&key) {
            ctx.contents.set_references(&key, &content::references(&pod));
            change(ctx, &mut entries, &key, pod, ended);
            reconsider(ctx, &mut entries);
            weigh(ctx, &entries);
            return;
        }
        // What the node has acknowledged before is not judged again.
        let acknowledged = pod.status.as_ref().is_some_and(|s| s.start_time.is_some());
        let verdict = if ended || acknowledged || pod.metadata.deletion_timestamp.is_some() {
            None
        } else {
            let others: Vec<&Pod> = entries.values().filter(|e| e.counts).map(|e| &*e.pod).collect();
            admission::reject(&pod, &others, ctx.node.borrow().as_deref(), &ctx.allocatable, &ctx.features)
        };
        ctx.contents.set_references(&key, &content::references(&pod));
        let mailbox = Arc::new(Mailbox::default());
        let counts = verdict.is_none() && !ended;
        if let Some(verdict) = verdict {
            mailbox.put(|inbox| inbox.verdict = Some(verdict));
        }
        if pod::is_static(&pod) {
            let mirror = self.mirrors.lock().get(&(key.namespace.clone(), key.name.clone())).cloned();
            mailbox.put(|inbox| inbox.mirror = mirror.map(Some));
        }
        let adopted = !self.settled.load(std::sync::atomic::Ordering::Acquire);
        // What it wants beyond what it had is looked at when all pods are known.
        let given = resize::on_record(&pod).filter(|_| acknowledged).map(Arc::new);
        let wanted = given.as_ref().map(|_| pod.clone());
        let pod = given.unwrap_or(pod);
        let entry = Entry { mailbox: mailbox.clone(), pod: pod.clone(), wanted, counts };
        entries.insert(key.clone(), entry);
        if !adopted {
            reconsider(ctx, &mut entries);
        }
        weigh(ctx, &entries);
        drop(entries);
        tokio::spawn(self.clone().work(ctx.clone(), key, pod, mailbox, adopted));
    }

    /// Runs workers of one key, one after the other while its source wants it, and forgets it after the last.
    async fn work(
        self: Arc<Self>,
        ctx: Arc<Context>,
        key: PodKey,
        mut pod: Arc<Pod>,
        mailbox: Arc<Mailbox>,
        mut adopted: bool,
    ) {
        loop {
            let worker = Worker::new(ctx.clone(), key.clone(), pod, mailbox.clone(), adopted);
            tokio::select! {
                () = worker.run() => {}
                () = self.stop.cancelled() => return,
            }
            let mut entries = self.entries.lock();
            let mut left = mailbox.take();
            match left.pod.take().filter(|_| !left.gone) {
                // A static pod whose manifest came back while its last containers were stopping.
                Some(again) if pod::is_static(&again) => {
                    pod = again;
                    adopted = false;
                }
                _ => {
                    entries.remove(&key);
                    reconsider(&ctx, &mut entries);
                    weigh(&ctx, &entries);
                    ctx.contents.set_references(&key, &Default::default());
                    return;
                }
            }
        }
    }

    /// A source has no such pod any more. `last` is how it was when it went.
    pub(crate) fn gone(&self, key: &PodKey, last: Option<Arc<Pod>>) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(key) {
            // Whoever forced its deletion has given its room away already.
            entry.counts = false;
            entry.wanted = None;
            // The API lets a node read only what its pods refer to, and this one refers to nothing any more.
            if let Some(ctx) = self.ctx.get() {
                ctx.contents.set_references(key, &Default::default());
            }
            entry.mailbox.put(|inbox| {
                inbox.pod = last;
                inbox.gone = true;
            });
        }
        if let Some(ctx) = self.ctx.get() {
            reconsider(ctx, &mut entries);
        }
    }

    /// The API's image of a static pod is there, has changed, or is gone.
    pub(crate) fn mirror(&self, namespace: &str, name: &str, mirror: Option<Arc<Pod>>) {
        let at = (namespace.to_owned(), name.to_owned());
        match &mirror {
            Some(pod) => self.mirrors.lock().insert(at, pod.clone()),
            None => self.mirrors.lock().remove(&at),
        };
        for (key, entry) in self.entries.lock().iter() {
            if key.namespace == namespace && key.name == name && pod::is_static(&entry.pod) {
                entry.mailbox.put(|inbox| inbox.mirror = Some(mirror.clone()));
            }
        }
    }

    /// The runtime has news of a pod.
    pub(crate) fn runtime_changed(&self, uid: &str) {
        for (key, entry) in self.entries.lock().iter() {
            if key.uid.as_str() == uid {
                entry.mailbox.put(|inbox| inbox.runtime = true);
            }
        }
    }

    /// Something that a pod refers to has changed.
    pub(crate) fn content_changed(&self, key: &PodKey) {
        if let Some(entry) = self.entries.lock().get(key) {
            entry.mailbox.put(|inbox| inbox.content = true);
        }
    }

    /// A ClusterTrustBundle has changed.
    pub(crate) fn bundles_changed(&self) {
        for entry in self.entries.lock().values().filter(|entry| bundles::volume_of(&entry.pod).is_some()) {
            entry.mailbox.put(|inbox| inbox.content = true);
        }
    }

    /// Whether a pod of that UID is known.
    pub(crate) fn knows(&self, uid: &PodUid) -> bool {
        self.entries.lock().keys().any(|key| key.uid == *uid)
    }

    /// All pods.
    pub(crate) fn pods(&self) -> Vec<(PodKey, Arc<Pod>)> {
        self.entries.lock().iter().map(|(key, entry)| (key.clone(), entry.pod.clone())).collect()
    }

    /// The pod of a name. Of several incarnations the one that is not being deleted.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<(PodKey, Arc<Pod>)> {
        let entries = self.entries.lock();
        let mut found: Vec<_> =
            entries.iter().filter(|(key, _)| key.namespace == namespace && key.name == name).collect();
        found.sort_by_key(|(_, entry)| entry.pod.metadata.deletion_timestamp.is_some());
        found.first().map(|(key, entry)| ((*key).clone(), entry.pod.clone()))
    }
}

/// A known pod is as its source says now; its resources change only as far as there is room.
fn change(ctx: &Context, entries: &mut BTreeMap<PodKey, Entry>, key: &PodKey, pod: Arc<Pod>, ended: bool) {
    let others: Vec<Arc<Pod>> =
        entries.iter().filter(|(k, e)| *k != key && e.counts).map(|(_, e)| e.pod.clone()).collect();
    let others: Vec<&Pod> = others.iter().map(|pod| &**pod).collect();
    let Some(entry) = entries.get_mut(key) else { return };
    let (given, pending) = if pod::is_static(&pod) {
        (pod.clone(), None)
    } else {
        resize::consider(&pod, &entry.pod, &others, &ctx.allocatable)
    };
    entry.counts &= !ended;
    entry.wanted = pending.is_some().then(|| pod.clone());
    entry.pod = given.clone();
    entry.mailbox.put(|inbox| {
        inbox.pod = Some(given);
        inbox.pending = pending.map(|pending| (pending, pod));
        inbox.gone = false;
    });
}

/// Looks again at pods that were refused other resources, the most important first: others may need less by now.
fn reconsider(ctx: &Context, entries: &mut BTreeMap<PodKey, Entry>) {
    let priority = |entry: &Entry| std::cmp::Reverse(pod::spec(&entry.pod).priority.unwrap_or(0));
    let mut waiting: Vec<_> = entries
        .iter()
        .filter_map(|(key, entry)| Some((priority(entry), key.clone(), entry.wanted.clone()?)))
        .collect();
    waiting.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    for (_, key, wanted) in waiting {
        change(ctx, entries, &key, wanted, false);
    }
}

/// Gives the burstable pods together what they ask for one by one: their group would have next to nothing beside a
/// busy Guaranteed pod otherwise.
fn weigh(ctx: &Context, entries: &BTreeMap<PodKey, Entry>) {
    let burstable = entries.values().filter(|e| e.counts && qos::class(&e.pod) == QosClass::Burstable);
    let sum = burstable.map(|e| qos::pod_resources(&e.pod).cpu_request).fold(0, i64::saturating_add);
    if let Err(error) = ctx.cgroups.set_burstable_shares(sum) {
        tracing::warn!(%error, "burstable pods were not given their share of the processor");
    }
}
