//! Throughput of scheduling with hollow nodes: pods created and bound through the API of any server.
//!
//! A hollow node is an object with room for pods, and a Lease that is renewed; nothing runs on it. Real nodes are
//! cordoned meanwhile. Pods are created by many clients while the scheduler binds; two rates are told: of all pods from
//! the first create to the last binding, and of those that were left when the last one had been created, which nothing
//! but the scheduler worked on. A pod is counted when a watch says that it has a node.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    api::wire::{Dialer, Wire, create, delete, patch},
    objects, scale, start,
    table::{Goal, Measure, measure},
};

pub(crate) type Tell<'a> = dyn FnMut(Measure, f64) + Send + 'a;

/// How many requests are under way at once, and on how many connections: a client of many objects has few.
const CLIENTS: usize = 64;
const CONNECTIONS: usize = 4;
const ZONES: usize = 3;
/// Kubelets renew four times as often; a node counts as lost after 40 s.
const RENEWAL: Duration = Duration::from_secs(30);
/// Upstream binds some tens of pods a second among so many nodes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1_200);
const HOLLOW: &str = "bench.tiphys.io/hollow";

/// Pods that ask the same of the scheduler.
struct Case {
    name: &'static str,
    /// How many for each 5,000 nodes.
    pods: usize,
    /// Pods a second that are wanted.
    goal: f64,
    pod: fn(usize) -> Value,
    /// Less important pods that fill each node before.
    fillers: usize,
}

const CASES: [Case; 5] = [
    Case { name: "basic", pods: 10_000, goal: 5_000., pod: basic, fillers: 0 },
    Case { name: "anti-affinity", pods: 4_000, goal: 2_000., pod: apart, fillers: 0 },
    Case { name: "affinity", pods: 5_000, goal: 1_000., pod: together, fillers: 0 },
    Case { name: "topology spread", pods: 5_000, goal: 2_000., pod: spread, fillers: 0 },
    Case { name: "preemption", pods: 5_000, goal: 2_000., pod: preempting, fillers: 4 },
];

fn pod(prefix: &str, n: usize, cpu: &str) -> Value {
    let mut pod = objects::pod(&format!("{prefix}-{n}"), true);
    pod["metadata"]["labels"] = json!({"app": prefix});
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu, "memory": "100Mi"}});
    pod
}

fn basic(n: usize) -> Value {
    pod("basic", n, "100m")
}

fn term(app: &str, key: &str) -> Value {
    json!({"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}]})
}

fn apart(n: usize) -> Value {
    let mut pod = pod("apart", n, "100m");
    pod["spec"]["affinity"] = json!({"podAntiAffinity": term("apart", "kubernetes.io/hostname")});
    pod
}

fn together(n: usize) -> Value {
    let mut pod = pod("together", n, "100m");
    pod["spec"]["affinity"] = json!({"podAffinity": term("together", "topology.kubernetes.io/zone")});
    pod
}

fn spread(n: usize) -> Value {
    let mut pod = pod("spread", n, "100m");
    pod["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "spread"}}}]);
    pod
}

fn preempting(n: usize) -> Value {
    let mut pod = pod("preempting", n, "3");
    pod["spec"]["priorityClassName"] = json!("bench-important");
    pod
}

fn node(n: usize) -> Value {
    let name = format!("hollow-{n}");
    let room = json!({"cpu": "4", "memory": "32Gi", "pods": "110"});
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
        "lastHeartbeatTime": now(), "lastTransitionTime": now()});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {HOLLOW: "true", "kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": format!("zone-{}", n % ZONES)}},
        "status": {"capacity": room, "allocatable": room, "conditions": [ready]},
    })
}

fn now() -> String {
    k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string()
}

fn lease(n: usize) -> Value {
    let name = format!("hollow-{n}");
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now()}})
}

/// The clients of a server.
pub(crate) struct Clients {
    /// For what happens once.
    pub(crate) kube: Client,
    wires: Vec<Wire>,
}

impl Clients {
    pub(crate) async fn new(kubeconfig: &Path) -> Result<Self> {
        let dialer = Dialer::new(kubeconfig).await?;
        let wires = try_join_all((0..CONNECTIONS).map(|_| dialer.connect())).await?;
        Ok(Self { kube: start::client(kubeconfig).await?, wires })
    }

    /// One that shares its connection with others.
    pub(crate) fn wire(&self) -> Wire {
        self.wires[0].clone()
    }

    /// Does something for each number, many at a time.
    pub(crate) async fn each(
        &self,
        count: usize,
        work: impl AsyncFn(&mut Wire, usize) -> Result<()>,
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let worker = async |mut wire: Wire| {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return anyhow::Ok(());
                }
                work(&mut wire, n).await?;
            }
        };
        try_join_all((0..CLIENTS).map(|n| worker(self.wires[n % CONNECTIONS].clone()))).await.map(drop)
    }
}

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

async fn make_nodes(clients: &Clients, nodes: usize) -> Result<()> {
    let make = async |wire: &mut Wire, n: usize| {
        wire.ask(create(LEASES, &lease(n))).await.context("creating a Lease")?;
        wire.ask(create("/api/v1/nodes", &node(n))).await.context("creating a node").map(drop)
    };
    clients.each(nodes, make).await?;
    // A node is new, and tainted for that, until a control loop has seen that it is ready.
    until(format!("{nodes} hollow nodes without taints"), async || {
        let known: Api<Node> = Api::all(clients.kube.clone());
        let listed = known.list(&ListParams::default().labels(HOLLOW)).await.context("listing nodes")?;
        let is_new = |node: &Node| node.spec.as_ref().is_none_or(|spec| spec.taints.is_some());
        Ok(!listed.items.iter().any(is_new))
    })
    .await
}

/// Asks again and again, until it is so.
async fn until(what: String, is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so().await? {
        ensure!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Renews every node's Lease for as long as it is polled.
async fn heartbeats(clients: &Clients, nodes: usize) -> Result<()> {
    let mut wire = clients.wire();
    let mut pace = tokio::time::interval(RENEWAL / u32::try_from(nodes.max(1))?);
    for n in (0..nodes).cycle() {
        pace.tick().await;
        let renewed = patch(&format!("{LEASES}/hollow-{n}"), &json!({"spec": {"renewTime": now()}}));
        wire.ask(renewed).await.context("renewing a Lease")?;
    }
    Ok(())
}

/// Cordons nodes that are not ours, or makes them available again.
async fn cordon(client: &Client, unschedulable: bool) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let real = ListParams::default().labels(&format!("!{HOLLOW}"));
    for node in nodes.list_metadata(&real).await.context("listing nodes")? {
        let patch = Patch::Merge(json!({"spec": {"unschedulable": unschedulable}}));
        let name = node.metadata.name.unwrap_or_default();
        nodes.patch(&name, &PatchParams::default(), &patch).await.context("cordoning a node")?;
    }
    Ok(())
}

/// Waits until so many pods of the namespace, made by the scheduler's leave, have nodes.
pub(crate) async fn until_bound(
    clients: &Clients,
    namespace: &str,
    app: &str,
    count: usize,
    bound: &AtomicUsize,
) -> Result<()> {
    let selected = format!("fieldSelector=spec.nodeName!%3D&labelSelector=app%3D{app}");
    let path = format!("/api/v1/namespaces/{namespace}/pods?watch=1&{selected}");
    let mut lines = clients.wire().follow(&path).await?;
    // A pod comes into what is selected once: when it is bound.
    const ADDED: &[u8] = b"{\"type\":\"ADDED\"";
    while let Some(line) = lines.next(ADDED.len()).await.context("watching pods")? {
        if line == ADDED && bound.fetch_add(1, Ordering::Relaxed) + 1 >= count {
            return Ok(());
        }
    }
    bail!("the watch of pods ended")
}

async fn fill(clients: &Clients, namespace: &str, nodes: usize, each_node: usize) -> Result<()> {
    let collection = objects::pods(namespace);
    let make = async |wire: &mut Wire, n: usize| {
        let mut filler = pod("filler", n, "900m");
        filler["spec"]["nodeName"] = json!(format!("hollow-{}", n % nodes));
        wire.ask(create(&collection, &filler)).await.context("filling a node").map(drop)
    };
    clients.each(nodes * each_node, make).await
}

async fn run(clients: &Clients, case: &Case, nodes: usize, tell: &mut Tell<'_>) -> Result<()> {
    let namespace = format!("bench-{}", case.name.replace(' ', "-"));
    objects::namespace(&clients.kube, &namespace).await?;
    objects::accepts_pods(&clients.kube, &namespace).await?;
    fill(clients, &namespace, nodes, case.fillers).await?;
    let pods = (case.pods * nodes / 5_000).max(1);
    let app = (case.pod)(0)["metadata"]["labels"]["app"].as_str().unwrap_or_default().to_owned();
    let collection = objects::pods(&namespace);
    let bound = AtomicUsize::new(0);
    let begun = Instant::now();
    let make = async |wire: &mut Wire, n: usize| {
        wire.ask(create(&collection, &(case.pod)(n))).await.context("creating a pod").map(drop)
    };
    let made = async {
        clients.each(pods, make).await?;
        anyhow::Ok((Instant::now(), bound.load(Ordering::Relaxed)))
    };
    let all = async { futures::try_join!(made, until_bound(clients, &namespace, &app, pods, &bound)) };
    let Ok(done) = tokio::time::timeout(PATIENCE, all).await else {
        bail!("{}: {} of {pods} pods were bound in time", case.name, bound.load(Ordering::Relaxed));
    };
    let ((created, before), ()) = done?;
    let goal = Goal::AtLeast(case.goal);
    let rate = |pods: usize, since: Instant| pods as f64 / since.elapsed().as_secs_f64().max(1e-3);
    let of = format!("{} pods, {nodes} nodes", case.name);
    let left = pods.saturating_sub(before);
    tell(measure(format!("scheduling {of}, with creating them"), "/s", goal), rate(pods, begun));
    // A handful tells nothing.
    if left * 10 > pods {
        tell(
            measure(format!("scheduling {of}, those left of {pods} when all are created"), "/s", goal),
            rate(left, created),
        );
    }
    empty(&clients.kube, &namespace).await
}

/// Deletes the pods of a namespace, so that the next case finds the nodes empty.
async fn empty(client: &Client, namespace: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.delete_collection(&kube::api::DeleteParams::default(), &ListParams::default())
        .await
        .context("deleting pods")?;
    until(format!("the end of the pods of {namespace}"), async || {
        Ok(pods.list_metadata(&ListParams::default().limit(1)).await?.items.is_empty())
    })
    .await
}

/// Takes the measures whose names begin so.
pub(crate) async fn measures(
    kubeconfig: &Path,
    nodes: usize,
    only: &str,
    servers: &[u32],
    tell: &mut Tell<'_>,
) -> Result<()> {
    let clients = &Clients::new(kubeconfig).await?;
    let mut wire = clients.wire();
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "bench-important"}, "value": 1000});
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    wire.ask(create(classes, &class)).await.context("creating a class")?;
    cordon(&clients.kube, true).await?;
    make_nodes(clients, nodes).await?;
    let work = async {
        for case in CASES.iter().filter(|case| case.name.starts_with(only)) {
            run(clients, case, nodes, tell).await.context(case.name)?;
        }
        scale::measures(clients, nodes, only, servers, tell).await?;
        anyhow::Ok(())
    };
    tokio::select! {
        done = work => done?,
        ended = heartbeats(clients, nodes) => ended?,
    }
    cordon(&clients.kube, false).await?;
    let gone = async |wire: &mut Wire, n: usize| {
        for path in [format!("/api/v1/nodes/hollow-{n}"), format!("{LEASES}/hollow-{n}")] {
            wire.ask(delete(&path)).await.context("deleting a node")?;
        }
        Ok(())
    };
    clients.each(nodes, gone).await?;
    wire.ask(delete(&format!("{classes}/bench-important"))).await.map(drop)
}
