//! Throughput of scheduling with hollow nodes: pods created and bound through the API of any server.
//!
//! A hollow node is an object with room for pods, and a Lease that is renewed; nothing runs on it. Real nodes are
//! cordoned meanwhile. Pods are created by many clients while the scheduler binds; two rates are told: of all pods from
//! the first create to the last binding, and of those that were left when the last one had been created, which nothing
//! but the scheduler worked on. A pod is counted when a watch says that it has a node.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, future::try_join_all, pin_mut};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

use crate::{
    objects, scale,
    table::{Goal, Measure, measure},
};

pub(crate) type Tell<'a> = dyn FnMut(Measure, f64) + Send + 'a;

/// How many requests are under way at once.
const CLIENTS: usize = 64;
const ZONES: usize = 3;
/// Kubelets renew four times as often; a node counts as lost after 40 s.
const RENEWAL: Duration = Duration::from_secs(30);
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
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

/// Does something for each number, many at a time.
pub(crate) async fn each(count: usize, work: impl AsyncFn(usize) -> Result<()>) -> Result<()> {
    let next = AtomicUsize::new(0);
    let worker = async || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return anyhow::Ok(());
            }
            work(n).await?;
        }
    };
    try_join_all((0..CLIENTS).map(|_| worker())).await.map(drop)
}

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

async fn make_nodes(client: &Client, nodes: usize) -> Result<()> {
    each(nodes, async |n| {
        let created = objects::request("POST", LEASES, lease(n).to_string().into_bytes());
        client.request_text(created).await.context("creating a Lease")?;
        let node = node(n).to_string().into_bytes();
        client
            .request_text(objects::request("POST", "/api/v1/nodes", node))
            .await
            .context("creating a node")?;
        Ok(())
    })
    .await
}

/// Renews every node's Lease for as long as it is polled.
async fn heartbeats(client: &Client, nodes: usize) -> Result<()> {
    let renew = async |n: usize| {
        let patch = json!({"spec": {"renewTime": now()}}).to_string().into_bytes();
        let mut request = objects::request("PATCH", &format!("{LEASES}/hollow-{n}"), patch);
        request.headers_mut().insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/merge-patch+json"),
        );
        client.request_text(request).await.map(drop).context("renewing a Lease")
    };
    let mut pace = tokio::time::interval(RENEWAL / u32::try_from(nodes.max(1))?);
    for n in (0..nodes).cycle() {
        pace.tick().await;
        renew(n).await?;
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
    client: &Client,
    namespace: &str,
    app: &str,
    count: usize,
    bound: &AtomicUsize,
) -> Result<()> {
    let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().fields("spec.nodeName!=").labels(&format!("app={app}"));
    let seen = watcher::watcher(pods, config).default_backoff().touched_objects();
    pin_mut!(seen);
    let mut names = std::collections::BTreeSet::new();
    while let Some(pod) = seen.next().await {
        let pod = match pod {
            Ok(pod) => pod,
            Err(error) => bail!("watching pods: {error}"),
        };
        names.insert(pod.metadata.name);
        bound.store(names.len(), Ordering::Relaxed);
        if names.len() >= count {
            return Ok(());
        }
    }
    bail!("the watch of pods ended")
}

async fn fill(client: &Client, namespace: &str, nodes: usize, each_node: usize) -> Result<()> {
    each(nodes * each_node, async |n| {
        let mut filler = pod("filler", n, "900m");
        filler["spec"]["nodeName"] = json!(format!("hollow-{}", n % nodes));
        client.request_text(objects::create(namespace, "pods", &filler)).await.context("filling a node")?;
        Ok(())
    })
    .await
}

async fn run(client: &Client, case: &Case, nodes: usize, tell: &mut Tell<'_>) -> Result<()> {
    let namespace = format!("bench-{}", case.name.replace(' ', "-"));
    objects::namespace(client, &namespace).await?;
    objects::accepts_pods(client, &namespace).await?;
    fill(client, &namespace, nodes, case.fillers).await?;
    let pods = (case.pods * nodes / 5_000).max(1);
    let app = (case.pod)(0)["metadata"]["labels"]["app"].as_str().unwrap_or_default().to_owned();
    let bound = AtomicUsize::new(0);
    let begun = Instant::now();
    let create = async {
        each(pods, async |n| {
            let pod = (case.pod)(n);
            client.request_text(objects::create(&namespace, "pods", &pod)).await.context("creating a pod")?;
            Ok(())
        })
        .await?;
        anyhow::Ok((Instant::now(), bound.load(Ordering::Relaxed)))
    };
    let all = async { futures::try_join!(create, until_bound(client, &namespace, &app, pods, &bound)) };
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
    delete(client, &namespace).await
}

/// Deletes the pods of a namespace, so that the next case finds the nodes empty.
async fn delete(client: &Client, namespace: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let begun = Instant::now();
    pods.delete_collection(&kube::api::DeleteParams::default(), &ListParams::default())
        .await
        .context("deleting pods")?;
    while !pods.list_metadata(&ListParams::default().limit(1)).await?.items.is_empty() {
        if begun.elapsed() > PATIENCE {
            bail!("the pods of {namespace} do not go");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Takes the measures whose names begin so.
pub(crate) async fn measures(
    client: &Client,
    nodes: usize,
    only: &str,
    servers: &[u32],
    tell: &mut Tell<'_>,
) -> Result<()> {
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "bench-important"}, "value": 1000});
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    client
        .request_text(objects::request("POST", classes, class.to_string().into_bytes()))
        .await
        .context("creating a class")?;
    cordon(client, true).await?;
    make_nodes(client, nodes).await?;
    let work = async {
        for case in CASES.iter().filter(|case| case.name.starts_with(only)) {
            run(client, case, nodes, tell).await.context(case.name)?;
        }
        scale::measures(client, nodes, only, servers, tell).await?;
        anyhow::Ok(())
    };
    tokio::select! {
        done = work => done?,
        ended = heartbeats(client, nodes) => ended?,
    }
    cordon(client, false).await?;
    each(nodes, async |n| {
        for path in [format!("/api/v1/nodes/hollow-{n}"), format!("{LEASES}/hollow-{n}")] {
            client
                .request_text(objects::request("DELETE", &path, Vec::new()))
                .await
                .context("deleting a node")?;
        }
        Ok(())
    })
    .await?;
    client
        .request_text(objects::request("DELETE", &format!("{classes}/bench-important"), Vec::new()))
        .await?;
    Ok(())
}
