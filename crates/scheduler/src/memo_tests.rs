use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    cycle::{Found, Search},
    framework::Profile,
    plugins::default_profile,
    pod::PodInfo,
    snapshot::{NodeFacts, Snapshot},
};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// CPUs, a zone, a taint.
    Node {
        name: u8,
        cpus: u8,
        zone: u8,
        taint: u8,
    },
    NoNode(u8),
    /// A pod of a kind comes and is placed, if it can be.
    Pod {
        name: u8,
        kind: u8,
        priority: u8,
    },
    NoPod(u8),
    /// Room is made for a pod.
    Nominate {
        name: u8,
        kind: u8,
        priority: u8,
        node: u8,
    },
    Withdraw(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..9_u8, 1..5_u8, 0..3_u8, 0..4_u8)
            .prop_map(|(name, cpus, zone, taint)| Step::Node { name, cpus, zone, taint }),
        1 => (0..9_u8).prop_map(Step::NoNode),
        9 => (0..30_u8, 0..8_u8, 0..3_u8)
            .prop_map(|(name, kind, priority)| Step::Pod { name, kind, priority }),
        3 => (0..30_u8).prop_map(Step::NoPod),
        1 => (30..34_u8, 0..3_u8, 0..3_u8, 0..9_u8)
            .prop_map(|(name, kind, priority, node)| Step::Nominate { name, kind, priority, node }),
        1 => (30..34_u8).prop_map(Step::Withdraw),
    ];
    proptest::collection::vec(step, 0..80)
}

fn node(name: u8, cpus: u8, zone: u8, taint: u8) -> Arc<NodeFacts> {
    let effect = ["", "NoSchedule", "PreferNoSchedule", ""][usize::from(taint)];
    let taints = if effect.is_empty() { json!([]) } else { json!([{"key": "k", "effect": effect}]) };
    let node = json!({
        "metadata": {"name": format!("n{name}"), "labels": {"zone": format!("z{zone}"), "kubernetes.io/hostname": format!("n{name}")}},
        "spec": {"taints": taints},
        "status": {"allocatable": {"cpu": cpus.to_string(), "memory": "8Gi", "pods": "5"}},
    });
    Arc::new(NodeFacts::new(serde_json::from_value(node).expect("a node")))
}

fn pod(name: u8, kind: u8, priority: u8) -> Arc<PodInfo> {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let selector = json!({"matchLabels": {"app": "x"}});
    let mut spec = json!({"priority": priority, "containers": [{"name": "c"}]});
    let mut requests = json!({"cpu": "1", "memory": "1Gi"});
    match kind {
        1 => requests = json!({"cpu": "2"}),
        2 => spec["tolerations"] = json!([{"operator": "Exists"}]),
        3 => spec["nodeSelector"] = json!({"zone": "z1"}),
        4 => spec["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]),
        5 => {
            spec["affinity"] = json!({"podAntiAffinity": {required: [
            {"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"}]}})
        }
        6 => {
            spec["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}])
        }
        7 => {
            spec["affinity"] = json!({"podAffinity": {required: [
            {"labelSelector": selector, "topologyKey": "zone"}]}})
        }
        _ => {}
    }
    spec["containers"][0]["resources"] = json!({"requests": requests});
    let app = if kind % 2 == 1 { "x" } else { "y" };
    let pod = json!({"metadata": {"namespace": "ns", "name": format!("p{name}"), "uid": format!("p{name}"),
        "labels": {"app": app}}, "spec": spec});
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

/// All that a cycle has found, in words.
fn told(profile: &Profile, search: &mut Search, pod: &PodInfo, all: &Snapshot) -> (Option<String>, Value) {
    match search.schedule(profile, pod, all) {
        Found::Node(id) => (Some(all.node(id).name().to_owned()), Value::Null),
        Found::Nothing(refusal) => {
            let plan = refusal.plan.as_ref().map(|plan| {
                let names = |pods: &[Arc<PodInfo>]| -> Vec<String> {
                    pods.iter().map(|p| p.reference.key.name.to_string()).collect()
                };
                json!([&*plan.node, names(&plan.victims), names(&plan.displaced)])
            });
            let report = search.explain(profile, pod, all);
            let refusal = json!([refusal.message, refusal.plugins, report, plan, refusal.gives_up]);
            (None, refusal)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn what_is_remembered_is_what_asking_again_would_tell(steps in steps(), seed in any::<u64>()) {
        let profile = default_profile("default-scheduler");
        let mut all = Snapshot::default();
        let (mut remembering, mut forgetful) = (Search::new(seed), Search::forgetful(seed));
        for step in steps {
            match step {
                Step::Node { name, cpus, zone, taint } => all.set_node(node(name, cpus, zone, taint)),
                Step::NoNode(name) => all.remove_node(&format!("n{name}")),
                Step::Pod { name, kind, priority } => {
                    let pod = pod(name, kind, priority);
                    if all.is_assumed(&pod.reference) {
                        continue;
                    }
                    all.prepare(&pod, &[]);
                    let known = told(&profile, &mut remembering, &pod, &all);
                    let asked = told(&profile, &mut forgetful, &pod, &all);
                    prop_assert_eq!(&known, &asked);
                    if let Some(node) = known.0 {
                        all.assume(&pod, &node);
                    }
                }
                Step::NoPod(name) => all.remove_pod(&pod(name, 0, 0).reference),
                Step::Nominate { name, kind, priority, node } => {
                    all.nominate(&pod(name, kind, priority), &format!("n{node}"));
                }
                Step::Withdraw(name) => all.withdraw(&pod(name, 0, 0).reference),
            }
        }
    }
}
