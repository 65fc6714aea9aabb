//! Simulated nodes: a machine on which containers run, and the kubelet that tells of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, runtime::watcher};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tiphys_apiserver::identity::Component;
use tiphys_client::{Informer, Reader};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, code},
    chance::Chance,
    cluster::{Cluster, Process},
    laws::Laws,
    trace::Trace,
};

/// How long a pod's work takes, in seconds; one without it runs until it is stopped.
pub(crate) const WORK: &str = "simulation/work";
/// One in so many pods fails.
pub(crate) const FAILS: &str = "simulation/fails";
/// What a node has room for.
pub(crate) const CPU: u64 = 6000;
pub(crate) const PODS: u64 = 28;

const RENEWAL: Duration = Duration::from_secs(10);

/// One pod's containers, as they are.
#[derive(Clone, Debug)]
struct Run {
    name: String,
    ready_at: Instant,
    /// When its work is done, and whether well.
    ends: Option<(Instant, bool)>,
    stops_at: Option<Instant>,
    ended: Option<bool>,
    address: String,
    /// What it has used of processors, in nanoseconds, up to a moment.
    used: u64,
    metered: Instant,
}

/// A machine. What runs on it outlives its kubelet.
pub(crate) struct Machine {
    pub(crate) name: Arc<str>,
    zone: usize,
    number: usize,
    chance: Chance,
    laws: Arc<Laws>,
    trace: Arc<Trace>,
    runs: Mutex<BTreeMap<String, Run>>,
    addresses: Mutex<u64>,
    /// Of the kubelet that ran last.
    life: Mutex<CancellationToken>,
}

impl Machine {
    pub(crate) fn new(seed: u64, number: usize, cluster: &Cluster) -> Arc<Self> {
        let name: Arc<str> = format!("node-{number}").into();
        Arc::new(Self {
            chance: Chance::new(seed, &name),
            zone: number % 2,
            number,
            name,
            laws: Arc::clone(&cluster.laws),
            trace: Arc::clone(&cluster.trace),
            runs: Mutex::default(),
            addresses: Mutex::default(),
            life: Mutex::default(),
        })
    }

    /// Starts its kubelet.
    pub(crate) fn start(self: &Arc<Self>, cluster: &Cluster) -> Process {
        self.trace.step(format_args!("! the kubelet of {} starts", self.name));
        let life = CancellationToken::new();
        *self.life.lock() = life.clone();
        let client = cluster.client(&self.name, Component::Node(self.name.to_string()), &life);
        Process::start(Kubelet { machine: Arc::clone(self), client }.run(), life)
    }

    /// Power fails: nothing runs any more.
    pub(crate) fn lose_power(&self) {
        self.trace.step(format_args!("! {} loses power", self.name));
        for (uid, run) in std::mem::take(&mut *self.runs.lock()) {
            if run.ended.is_none() {
                self.laws.stops(&run.name, &uid);
            }
        }
    }

    /// Whether a kubelet runs.
    pub(crate) fn is_up(&self) -> bool {
        !self.life.lock().is_cancelled()
    }

    /// What a kubelet says at `/metrics/resource`.
    pub(crate) fn usage(&self) -> String {
        let now = Instant::now();
        let mut text = String::new();
        let mut all = 0.0;
        for run in self.runs.lock().values_mut().filter(|run| run.ended.is_none()) {
            let since = u64::try_from(now.duration_since(run.metered).as_nanos()).unwrap_or(0);
            let (namespace, pod) = run.name.split_once('/').unwrap_or_default();
            run.used += since / 1000 * self.laws.usage(namespace);
            run.metered = now;
            let seconds = run.used as f64 / 1e9;
            all += seconds;
            let of = format!("{{container=\"app\",namespace=\"{namespace}\",pod=\"{pod}\"}}");
            text += &format!("container_cpu_usage_seconds_total{of} {seconds}\n");
            text += &format!("container_memory_working_set_bytes{of} 1048576\n");
        }
        text + &format!("node_cpu_usage_seconds_total {all}\nnode_memory_working_set_bytes 1048576\n")
    }

    /// Some container crashes and takes a while to come back.
    pub(crate) fn upset(&self) {
        let mut runs = self.runs.lock();
        let running: Vec<_> = runs.values_mut().filter(|run| run.ended.is_none()).collect();
        if running.is_empty() {
            return;
        }
        let chosen = self.chance.index(running.len());
        if let Some(run) = running.into_iter().nth(chosen) {
            self.trace.step(format_args!("! {} crashes on {}", run.name, self.name));
            run.ready_at = Instant::now() + self.chance.millis(1000, 20_000);
        }
    }
}

struct Kubelet {
    machine: Arc<Machine>,
    client: Client,
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Kubelet {
    async fn run(self) {
        let changed = Arc::new(Notify::new());
        let fields = format!("spec.nodeName={}", self.machine.name);
        let config = watcher::Config::default().fields(&fields);
        let mut informer = Informer::<Pod, Value>::new(Api::all(self.client.clone()), config, |pod| {
            serde_json::to_value(pod).unwrap_or_default()
        });
        let (pods, ring) = (informer.reader(), Arc::clone(&changed));
        informer.on_change(move |_| ring.notify_one());
        let mut tasks = JoinSet::new();
        tasks.spawn(informer.run());
        tasks.spawn(heartbeat(Arc::clone(&self.machine), self.client.clone()));
        pods.synced().await;
        loop {
            let next = self.sync(&pods).await;
            // Either may come first.
            drop(timeout_at(next, changed.notified()).await);
        }
    }

    /// Looks at every pod once; says when to look again.
    async fn sync(&self, pods: &Reader<Value>) -> Instant {
        let mut next = Instant::now() + Duration::from_secs(30);
        let known = pods.list();
        for pod in &known {
            self.sync_pod(pod).await;
        }
        // What was deleted without asking stops as well.
        let gone: Vec<_> = {
            let runs = self.machine.runs.lock();
            let is_known = |uid: &&String| known.iter().any(|pod| text(pod, "/metadata/uid") == uid.as_str());
            runs.keys().filter(|uid| !is_known(uid)).cloned().collect()
        };
        for uid in gone {
            if self.stop(&uid) {
                self.machine.runs.lock().remove(&uid);
            }
        }
        let soon = Instant::now() + Duration::from_millis(1);
        for run in self.machine.runs.lock().values() {
            let times = [Some(run.ready_at), run.ends.map(|(at, _)| at), run.stops_at];
            for at in times.into_iter().flatten().filter(|at| *at > soon) {
                next = next.min(at);
            }
        }
        next
    }

    /// Stops what runs as this; `true` once nothing does.
    fn stop(&self, uid: &str) -> bool {
        let mut runs = self.machine.runs.lock();
        let Some(run) = runs.get_mut(uid) else { return true };
        if run.ended.is_some() {
            return true;
        }
        let now = Instant::now();
        let at = *run.stops_at.get_or_insert_with(|| now + self.machine.chance.millis(0, 3000));
        if at <= now {
            run.ended = Some(false);
            let name = run.name.clone();
            drop(runs);
            self.machine.trace.step(format_args!("! {name} has stopped on {}", self.machine.name));
            self.machine.laws.stops(&name, uid);
            return true;
        }
        false
    }

    async fn sync_pod(&self, pod: &Value) {
        let uid = text(pod, "/metadata/uid").to_owned();
        let name = format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        let going = !text(pod, "/metadata/deletionTimestamp").is_empty();
        let finished = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        let runs = self.machine.runs.lock().contains_key(&uid);
        if going {
            if self.stop(&uid) {
                self.finish(pod, &uid).await;
            }
            return;
        }
        if !runs {
            if finished {
                return;
            }
            self.begin(pod, &uid, &name);
        }
        let wanted = {
            let mut runs = self.machine.runs.lock();
            let Some(run) = runs.get_mut(&uid) else { return };
            let now = Instant::now();
            if let Some((at, well)) = run.ends
                && run.ended.is_none()
                && at <= now
            {
                run.ended = Some(well);
                self.machine.trace.step(format_args!("! {name} has ended: {well}"));
                self.machine.laws.stops(&name, &uid);
            }
            status(run, now)
        };
        let same = |path: &str| pod.pointer(path) == wanted.pointer(path);
        let ready = |of: &Value| {
            let conditions = of.pointer("/status/conditions").and_then(Value::as_array).cloned();
            let found = conditions.into_iter().flatten().find(|c| c["type"] == "Ready");
            found.map(|c| c["status"].clone())
        };
        if !same("/status/phase") || ready(pod) != ready(&wanted) || !same("/status/podIP") {
            self.tell(pod, &wanted).await;
        }
    }

    fn begin(&self, pod: &Value, uid: &str, name: &str) {
        let machine = &self.machine;
        let note = |key: &str| {
            let notes = pod.pointer("/metadata/annotations").and_then(|notes| notes.get(key));
            notes.and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok())
        };
        let now = Instant::now();
        let work = note(WORK).map(|seconds| now + machine.chance.millis(seconds * 500, seconds * 1500));
        let well = !note(FAILS).is_some_and(|times| machine.chance.one_in(times));
        // A pod that starts again keeps its address.
        let address = match text(pod, "/status/podIP") {
            "" => {
                let mut last = machine.addresses.lock();
                *last += 1;
                format!("10.244.{}.{}", machine.number, *last % 250 + 2)
            }
            known => known.to_owned(),
        };
        let run = Run {
            name: name.to_owned(),
            ready_at: now + machine.chance.millis(100, 4000),
            ends: work.map(|at| (at, well)),
            stops_at: None,
            ended: None,
            address,
            used: 0,
            metered: now,
        };
        machine.trace.step(format_args!("! {name} starts on {}", machine.name));
        machine.runs.lock().insert(uid.to_owned(), run);
        let owner = text(pod, "/metadata/ownerReferences/0/kind");
        machine.laws.starts(name, uid, &machine.name, owner == "StatefulSet");
    }

    async fn tell(&self, pod: &Value, status: &Value) {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/status",
            text(pod, "/metadata/namespace"),
            text(pod, "/metadata/name")
        );
        let mut body = status.clone();
        body["metadata"] = json!({"uid": pod["metadata"]["uid"]});
        let Err(error) = api::merge(&self.client, &path, &body).await else { return };
        // It is gone, or another has its name by now; all else is tried again.
        if !matches!(code(&error), Some(404 | 409)) {
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// The containers of a pod that is going have stopped: says how, and lets it go.
    async fn finish(&self, pod: &Value, uid: &str) {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}",
            text(pod, "/metadata/namespace"),
            text(pod, "/metadata/name")
        );
        if !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            let well = self.machine.runs.lock().get(uid).and_then(|run| run.ended).unwrap_or(false);
            let phase = if well { "Succeeded" } else { "Failed" };
            let ready = json!([{"type": "Ready", "status": "False", "lastTransitionTime": now()}]);
            let body = json!({"metadata": {"uid": uid}, "status": {"phase": phase, "conditions": ready}});
            match api::merge(&self.client, &format!("{path}/status"), &body).await {
                Err(error) if !matches!(code(&error), Some(404 | 409)) => return,
                _ => {}
            }
        }
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
            "preconditions": {"uid": uid}});
        // Should it fail, the pod is still there at the next look.
        drop(api::delete(&self.client, &path, &body).await);
    }
}

/// What the kubelet says of a pod that runs as this.
fn status(run: &Run, now: Instant) -> Value {
    let ready = run.ended.is_none() && run.ready_at <= now;
    let (phase, state) = match run.ended {
        None => ("Running", json!({"running": {}})),
        Some(true) => ("Succeeded", json!({"terminated": {"exitCode": 0, "finishedAt": self::now()}})),
        Some(false) => ("Failed", json!({"terminated": {"exitCode": 1, "finishedAt": self::now()}})),
    };
    let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" },
        "lastTransitionTime": self::now()});
    let container = json!({"name": "app", "ready": ready, "restartCount": 0, "image": "app", "imageID": "app",
        "state": state});
    json!({"status": {"phase": phase, "podIP": run.address, "podIPs": [{"ip": run.address}],
        "startTime": self::now(), "conditions": [condition], "containerStatuses": [container]}})
}

/// Registers the node, and tells that it is alive.
async fn heartbeat(machine: Arc<Machine>, client: Client) {
    let name = &*machine.name;
    let room = json!({"cpu": format!("{CPU}m"), "memory": "32Gi", "pods": PODS.to_string()});
    let ready = || {
        json!([{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
        "lastHeartbeatTime": now(), "lastTransitionTime": now()}])
    };
    let node = || {
        json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": format!("zone-{}", machine.zone)}},
        "status": {"capacity": room, "allocatable": room, "conditions": ready()}})
    };
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let mut at = Instant::now();
    loop {
        let path = format!("/api/v1/nodes/{name}");
        let known = match api::get(&client, &path).await {
            Err(error) if code(&error) == Some(404) => api::post(&client, "/api/v1/nodes", &node()).await,
            known => known,
        };
        if let Ok(known) = known {
            let conditions = known.pointer("/status/conditions").and_then(Value::as_array);
            let told =
                conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
            if !told {
                let body = json!({"status": {"conditions": ready()}});
                // The next heartbeat tries again.
                drop(api::merge(&client, &format!("{path}/status"), &body).await);
            }
        }
        let renewed = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
        let spec = json!({"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": renewed});
        let patched = api::patch(&client, &format!("{leases}/{name}"), &json!({"spec": spec})).await;
        if patched.is_err_and(|error| code(&error) == Some(404)) {
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": name}, "spec": spec});
            // The next heartbeat tries again.
            drop(api::post(&client, leases, &lease).await);
        }
        at = (at + RENEWAL).max(Instant::now());
        sleep_until(at).await;
    }
}
