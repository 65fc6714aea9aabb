//! Processor time that deciding costs a pod, without an API: `cargo bench -p tiphys-scheduler [-- nodes=5000]`.
//!
//! What is told is the time of the thread, for each pod: learning of it, its cycle, and the API's word that it is where
//! it was put. Pods that have others make room are told of their victims' end in between. Hosts are shared: processor
//! time says more than what a clock does.

use std::{fmt::Write as _, fs, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tiphys_scheduler::{
    Config,
    pod::{Pod, PodInfo},
    snapshot::NodeFacts,
    state::{Outcome, State},
};
use tokio::time::Instant;

const ZONES: usize = 3;

/// Pods of one kind, and how many less important ones fill each node before.
struct Case {
    name: &'static str,
    pods: usize,
    fillers: usize,
    spec: fn() -> (&'static str, Value),
}

const CASES: [Case; 6] = [
    Case { name: "basic", pods: 10_000, fillers: 0, spec: || ("100m", json!({})) },
    Case { name: "anti-affinity", pods: 4_000, fillers: 0, spec: apart },
    Case { name: "affinity", pods: 5_000, fillers: 0, spec: together },
    Case { name: "topology spread", pods: 5_000, fillers: 0, spec: spread },
    Case { name: "preemption", pods: 5_000, fillers: 4, spec: || ("3", json!({"priority": 1000})) },
    Case { name: "nowhere", pods: 1_000, fillers: 0, spec: || ("64", json!({})) },
];

fn term(key: &str) -> Value {
    json!({"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "measured"}}, "topologyKey": key}]})
}

fn apart() -> (&'static str, Value) {
    ("100m", json!({"affinity": {"podAntiAffinity": term("kubernetes.io/hostname")}}))
}

fn together() -> (&'static str, Value) {
    ("100m", json!({"affinity": {"podAffinity": term("topology.kubernetes.io/zone")}}))
}

fn spread() -> (&'static str, Value) {
    let spread = json!({"maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "measured"}}});
    ("100m", json!({"topologySpreadConstraints": [spread]}))
}

fn pod(name: &str, app: &str, node: &str, cpu: &str, more: &Value) -> Arc<PodInfo> {
    let mut spec = more.clone();
    spec["containers"] = json!([{"name": "c", "image": "registry.example/app:1",
        "resources": {"requests": {"cpu": cpu, "memory": "100Mi"}}}]);
    spec["nodeName"] = json!(node);
    let pod = json!({"metadata": {"namespace": "measured", "name": name, "uid": name, "labels": {"app": app}},
        "spec": spec});
    Arc::new(PodInfo::new(serde_json::from_value::<Pod>(pod).expect("a pod")))
}

fn facts(n: usize) -> Arc<NodeFacts> {
    let name = format!("hollow-{n}");
    let node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": format!("zone-{}", n % ZONES)}},
        "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}},
    });
    Arc::new(NodeFacts::new(serde_json::from_value(node).expect("a node")))
}

/// Processor time of this thread so far.
fn spent() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

/// The same pod on its node, as the API tells it then.
fn on(pod: &PodInfo, node: &str) -> Arc<PodInfo> {
    Arc::new(PodInfo { node: node.into(), ..pod.clone() })
}

/// Places pods until no more wait; how many found a node and how many did not.
fn run(state: &mut State, now: &mut Instant) -> (usize, usize) {
    let (mut bound, mut refused) = (0, 0);
    while let Some(pod) = state.next(*now) {
        for (pod, outcome) in state.decide(&pod, *now) {
            match outcome {
                Outcome::Bind(node, _) => {
                    bound += 1;
                    state.pod_changed(Some(&pod), Some(&on(&pod, &node)), *now);
                }
                Outcome::Refuse(refusal) => {
                    refused += 1;
                    let Some(plan) = refusal.plan else { continue };
                    for victim in &plan.victims {
                        let going = PodInfo { is_victim: true, going: true, ..PodInfo::clone(victim) };
                        state.pod_changed(Some(&going), None, *now);
                    }
                    state.made_room(&pod, refusal.plugins, &[], *now);
                }
            }
        }
        // So that whoever waits a while has waited.
        *now += Duration::from_millis(1);
    }
    (bound, refused)
}

fn measure(case: &Case, nodes: usize) -> String {
    let mut now = Instant::now();
    let mut state = State::new(&Config::default());
    for n in 0..nodes {
        state.node_changed(None, Some(&facts(n)), now);
    }
    for n in 0..nodes * case.fillers {
        let filler =
            pod(&format!("filler-{n}"), "filler", &format!("hollow-{}", n % nodes), "900m", &json!({}));
        state.pod_changed(None, Some(&filler), now);
    }
    let (cpu, more) = (case.spec)();
    let pods = (case.pods * nodes / 5_000).max(1);
    let pods: Vec<_> = (0..pods).map(|n| pod(&format!("p-{n}"), "measured", "", cpu, &more)).collect();
    let begun = spent();
    for pod in &pods {
        state.pod_changed(None, Some(pod), now);
    }
    let (mut bound, mut refused) = run(&mut state, &mut now);
    // Who made others go comes back.
    for _ in 0..3 {
        now += Duration::from_secs(20);
        let again = run(&mut state, &mut now);
        (bound, refused) = (bound + again.0, refused + again.1);
    }
    let each = (spent() - begun).as_secs_f64() * 1e6 / pods.len() as f64;
    format!(
        "{:<16} {:>6} pods {bound:>6} bound {refused:>6} refused {each:>9.1} us a pod",
        case.name,
        pods.len()
    )
}

fn main() {
    let mut nodes = 5_000;
    let mut only = String::new();
    for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with('-')) {
        match argument.strip_prefix("nodes=").map(str::parse) {
            Some(number) => nodes = number.expect("a number of nodes"),
            None => only = argument,
        }
    }
    let mut table = String::new();
    for case in CASES.iter().filter(|case| case.name.starts_with(&only)) {
        let _ = writeln!(table, "{}", measure(case, nodes));
    }
    print!("{nodes} nodes, processor time\n{table}");
}
