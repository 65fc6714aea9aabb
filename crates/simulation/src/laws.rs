//! What must hold at every moment, judged by every transaction that the store commits and every container that starts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;
use tiphys_client::election::NAMESPACE;
use tiphys_store::{Change as Put, Expect, Key, Memory, Revision, Store, Write};

use crate::{cluster::LEASE, network::Network, seams, trace::Trace};

mod autoscalers;
mod common;
mod gangs;
mod jobs;
mod settled;
mod workloads;

pub(crate) use autoscalers::ELASTIC;
pub(crate) use gangs::TROUPE;
pub(crate) use settled::{CROWD, TIGHT};

/// What a controller does may still follow from what was wanted this long ago.
const MEMORY: Duration = Duration::from_secs(120);

/// What a key of the store holds, whatever it is.
struct Kept {
    revision: Revision,
    /// It may go by itself.
    expires: bool,
}

/// A change of one object, by whom.
struct Change<'a> {
    kind: &'a str,
    namespace: &'a str,
    old: Option<&'a Value>,
    new: Option<&'a Value>,
    user: &'a str,
    subresource: &'a str,
}

/// Everything that is stored, by key, and what has to be remembered of the past.
#[derive(Default)]
struct World {
    objects: BTreeMap<String, Value>,
    kept: BTreeMap<String, Kept>,
    /// Keys by UID.
    uids: BTreeMap<String, String>,
    /// What a workload was told to be, since when: its least and most pods.
    wanted: BTreeMap<String, Vec<(Duration, i64, i64)>>,
    /// When pods of this owner went, or became unready, by nobody's plan.
    upset: BTreeMap<String, Vec<Duration>>,
    /// When a pod of this namespace and app last went without an eviction, or became unready.
    shaken: BTreeMap<(String, String), Duration>,
    /// When a node went.
    removed: BTreeMap<String, Duration>,
    /// The pods of a Job that have ended, by how, and those that it has listed.
    ended: BTreeMap<String, jobs::Ended>,
    /// When a pod of this PodGroup last went, or ended.
    left: BTreeMap<(String, String), Duration>,
    /// Who runs under a pod's name: UID, machine, and whether no two may.
    running: BTreeMap<String, BTreeMap<String, (String, bool)>>,
}

pub(crate) struct Laws {
    trace: Arc<Trace>,
    network: OnceLock<Weak<Network>>,
    world: Mutex<World>,
    /// What the pods of [`ELASTIC`] have to do together, in thousandths of a processor.
    demand: AtomicU64,
}

/// Whether something happened of late.
fn is_late(when: Option<&Duration>) -> bool {
    when.is_some_and(|when| seams::elapsed().saturating_sub(*when) < MEMORY)
}

/// Broken: why.
type Verdict = Result<(), String>;

fn at<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, path: &str) -> i64 {
    value.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

fn is_going(object: &Value) -> bool {
    !at(object, "/metadata/deletionTimestamp").is_empty()
}

fn uid(object: &Value) -> &str {
    at(object, "/metadata/uid")
}

/// Its controller: kind and UID.
fn owner(object: &Value) -> Option<(&str, &str)> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    Some((at(owner, "/kind"), at(owner, "/uid")))
}

/// Whether a pod has ended.
fn is_finished(pod: &Value) -> bool {
    matches!(at(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether a pod counts as one of its owner's.
fn is_active(pod: &Value) -> bool {
    !is_going(pod) && !is_finished(pod)
}

fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == kind && c["status"] == "True")
}

fn is_ready(pod: &Value) -> bool {
    !is_finished(pod) && condition(pod, "Ready")
}

impl World {
    /// All objects of a kind, such as `core/pods`, in a namespace, or in all.
    fn all<'a>(&'a self, kind: &str, namespace: &str) -> impl Iterator<Item = &'a Value> {
        let prefix = match namespace {
            "" => format!("/registry/{kind}/"),
            namespace => format!("/registry/{kind}/{namespace}/"),
        };
        let from = self.objects.range(prefix.clone()..);
        from.take_while(move |(key, _)| key.starts_with(&prefix)).map(|(_, object)| object)
    }

    fn by_uid(&self, uid: &str) -> Option<&Value> {
        self.uids.get(uid).and_then(|key| self.objects.get(key))
    }

    /// The pods that `uid` controls.
    fn pods_of<'a>(&'a self, namespace: &str, uid: &'a str) -> impl Iterator<Item = &'a Value> {
        self.all("core/pods", namespace).filter(move |pod| owner(pod).is_some_and(|(_, of)| of == uid))
    }

    /// The least and the most of what was wanted of this lately, and whether that has changed.
    fn bounds(&self, uid: &str) -> Option<(i64, i64, bool)> {
        let all = self.wanted.get(uid)?;
        let begin = seams::elapsed().saturating_sub(MEMORY);
        let first = all.iter().rposition(|(since, ..)| *since <= begin).unwrap_or(0);
        let lately = &all[first..];
        let least = lately.iter().map(|(_, least, _)| *least).min()?;
        let most = lately.iter().map(|(.., most)| *most).max()?;
        Some((least, most, lately.len() > 1))
    }

    /// How many of an owner's pods its controller may still take for ready that are not, by nobody's plan.
    fn upset(&self, uid: &str) -> i64 {
        let lately = self.upset.get(uid).into_iter().flatten().filter(|when| is_late(Some(when))).count();
        i64::try_from(lately).unwrap_or(i64::MAX)
    }

    /// Notes what a key now holds; an error if the write did not expect what was there.
    fn keep(&mut self, revision: Revision, write: &Write) -> Verdict {
        let before = self.kept.remove(write.key.as_str());
        let expires = match &write.change {
            Put::Put { ttl, .. } => Some(ttl.is_some()),
            Put::Delete => None,
        };
        if let Some(expires) = expires {
            self.kept.insert(write.key.as_str().to_owned(), Kept { revision, expires });
        }
        let as_expected = match (&write.expect, &before) {
            (Expect::Absent, before) => before.as_ref().is_none_or(|kept| kept.expires),
            (Expect::At(expected), Some(kept)) => *expected == kept.revision,
            (Expect::At(_), None) => false,
        };
        match as_expected {
            true => Ok(()),
            false => {
                let before = before.map(|kept| kept.revision);
                Err(format!("written where {:?} was expected, and {before:?} was there", write.expect))
            }
        }
    }
}

impl Laws {
    pub(crate) fn new(trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self {
            trace,
            network: OnceLock::new(),
            world: Mutex::default(),
            demand: AtomicU64::new(100),
        })
    }

    /// Whose losses are to be allowed for.
    pub(crate) fn know(&self, network: &Arc<Network>) {
        self.network.get_or_init(|| Arc::downgrade(network));
    }

    /// How many pods of a namespace there may be that nobody could know of.
    fn untold(&self, namespace: &str) -> i64 {
        let untold =
            self.network.get().and_then(Weak::upgrade).map_or(0, |network| network.untold(namespace));
        i64::try_from(untold).unwrap_or(i64::MAX)
    }

    /// The store has made this durable, and is about to say so.
    pub(crate) fn committed(&self, revision: Revision, writes: Vec<Write>) {
        let mut world = self.world.lock();
        for write in writes {
            if let Err(why) = world.keep(revision, &write) {
                self.trace.fail(format!("comparison: {}: {why}", write.key));
            }
            let Write { key, change, note, .. } = write;
            let Some((kind, namespace)) = parts(key.as_str()) else { continue };
            let value = match &change {
                Put::Put { value, .. } => match serde_json::from_slice::<Value>(value) {
                    Ok(value) => Some(value),
                    // Sealed.
                    Err(_) => continue,
                },
                Put::Delete => None,
            };
            let author = note.and_then(|note| serde_json::from_slice::<Value>(note.text()).ok());
            let author = author.unwrap_or_default();
            let user = at(&author, "/u").rsplit(':').next().unwrap_or_default();
            let old = world.objects.remove(key.as_str());
            let (old, new) = (old.as_ref(), value.as_ref());
            let change = Change { kind, namespace, old, new, user, subresource: at(&author, "/s") };
            self.judge(&mut world, key.as_str(), &change);
        }
    }

    /// Another API server has stored something under what would be this key here, or deleted it.
    pub(crate) fn elsewhere(&self, key: &str, value: Option<Value>, user: &str) {
        let Some((kind, namespace)) = parts(key) else { return };
        let mut world = self.world.lock();
        let old = world.objects.remove(key);
        let (old, new) = (old.as_ref(), value.as_ref());
        self.judge(&mut world, key, &Change { kind, namespace, old, new, user, subresource: "" });
    }

    /// Takes a change in; what was there is not in the world any more.
    fn judge(&self, world: &mut World, key: &str, change: &Change<'_>) {
        if let Some(old) = change.old {
            world.uids.remove(uid(old));
        }
        if let Some(new) = change.new {
            world.uids.insert(uid(new).to_owned(), key.to_owned());
            world.objects.insert(key.to_owned(), new.clone());
        }
        world.remember(change);
        for (law, judge) in LAWS {
            if let Err(why) = judge(self, world, change) {
                self.trace.fail(format!("{law}: {key} (by {}): {why}", change.user));
            }
        }
    }

    /// What was once acknowledged is still there.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn reopened(&self, memory: &Memory) -> Result<(), tiphys_store::Error> {
        let known: Vec<_> = {
            let world = self.world.lock();
            let lasting = world.kept.iter().filter(|(_, kept)| !kept.expires);
            lasting.map(|(key, kept)| (key.clone(), kept.revision)).collect()
        };
        for (key, revision) in known {
            let found = memory.get(&Key::new(key.as_str())).await?.map(|record| record.revision);
            if found != Some(revision) {
                self.trace
                    .fail(format!("durability: {key} was written at {revision}, and is there at {found:?}"));
            }
        }
        Ok(())
    }

    /// A write of a controller on this host arrives at the API server.
    pub(crate) fn controller_writes(&self, host: &str) {
        let lease = format!("/registry/coordination.k8s.io/leases/{NAMESPACE}/{LEASE}");
        let world = self.world.lock();
        let leader = world.objects.get(&lease).map(|lease| at(lease, "/spec/holderIdentity"));
        if leader != Some(host) {
            self.trace.fail(format!("leadership: {host} writes, and {leader:?} leads"));
        }
    }

    /// A pod's containers start on a machine.
    pub(crate) fn starts(&self, name: &str, uid: &str, machine: &str, alone: bool) {
        let mut world = self.world.lock();
        let running = world.running.entry(name.to_owned()).or_default();
        if alone && let Some((other, (place, _))) = running.iter().find(|(other, _)| *other != uid) {
            let why =
                format!("identity: {name} starts as {uid} on {machine} while it runs as {other} on {place}");
            self.trace.fail(why);
        }
        running.insert(uid.to_owned(), (machine.to_owned(), alone));
    }

    pub(crate) fn stops(&self, name: &str, uid: &str) {
        if let Some(running) = self.world.lock().running.get_mut(name) {
            running.remove(uid);
        }
    }

    /// What is not yet as it is to be in the end, faults having stopped; `alone`: while the neighbour is away.
    pub(crate) fn unsettled(&self, alone: bool) -> Vec<String> {
        settled::complaints(&self.world.lock(), self.demand.load(Relaxed), alone)
    }

    /// From now on the pods of [`ELASTIC`] have so much to do.
    pub(crate) fn demand(&self, demand: u64) {
        self.trace.step(format_args!("! {demand}m are asked of {ELASTIC}"));
        self.demand.store(demand, Relaxed);
    }

    /// What a pod of a namespace uses of a processor, in thousandths.
    pub(crate) fn usage(&self, namespace: &str) -> u64 {
        match namespace {
            ELASTIC => autoscalers::share(&self.world.lock(), self.demand.load(Relaxed)),
            _ => 50,
        }
    }

    /// How many objects there are.
    pub(crate) fn count(&self) -> usize {
        self.world.lock().objects.len()
    }
}

type Law = fn(&Laws, &World, &Change<'_>) -> Verdict;

const LAWS: &[(&str, Law)] = &[
    ("replicas", workloads::replicas),
    ("surge", workloads::surge),
    ("rollout", workloads::rollout),
    ("availability", workloads::availability),
    ("order", workloads::order),
    ("daemons", workloads::daemons),
    ("jobs", jobs::counts),
    ("parallelism", jobs::parallelism),
    ("end", jobs::end),
    ("finalizers", jobs::finalizers),
    ("quota", common::quota),
    ("room", common::room),
    ("placement", common::placement),
    ("garbage", common::garbage),
    ("budget", common::budget),
    ("volumes", common::volumes),
    ("namespaces", common::namespaces),
    ("autoscaling", autoscalers::range),
    ("gangs", gangs::whole),
];

/// Kind and namespace of a key; `None` for what no law looks at.
fn parts(key: &str) -> Option<(&str, &str)> {
    let rest = key.strip_prefix("/registry/")?;
    let kind = rest.match_indices('/').nth(1).map(|(at, _)| &rest[..at])?;
    if matches!(kind, "core/events" | "events.k8s.io/events" | "core/secrets") {
        return None;
    }
    let place = &rest[kind.len() + 1..];
    Some((kind, place.split_once('/').map_or("", |(namespace, _)| namespace)))
}
