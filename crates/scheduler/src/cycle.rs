//! One scheduling cycle: a pure function of a pod and the snapshot.

use crate::{
    framework::{Profile, Unfit},
    pod::PodInfo,
    snapshot::Snapshot,
};

/// Chooses the best node that fits, or says of each why it does not.
///
/// Of equally good nodes the one with the fewest pods wins, then the first by name, so that the same
/// cluster gives the same answer.
pub(crate) fn schedule(profile: &Profile, pod: &PodInfo, all: &Snapshot) -> Result<Box<str>, Unfit> {
    let mut unfit = Unfit::default();
    let mut fit = Vec::new();
    for (facts, info) in all.nodes() {
        match profile.plugins.iter().find_map(|(plugin, _)| plugin.filter(pod, facts, info).err()) {
            Some(rejection) => {
                unfit.nodes.insert(facts.name.clone(), rejection);
            }
            None => fit.push((facts, info)),
        }
    }
    if fit.len() > 1 {
        let mut totals = vec![0; fit.len()];
        for (plugin, weight) in profile.plugins.iter().filter(|(_, weight)| *weight > 0) {
            let scores: Option<Vec<i64>> =
                fit.iter().map(|(facts, info)| plugin.score(pod, facts, info)).collect();
            let Some(mut scores) = scores else { continue };
            plugin.normalize(&mut scores);
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += score * weight;
            }
        }
        let best = totals.iter().enumerate().max_by_key(|(i, total)| {
            (**total, std::cmp::Reverse(fit[*i].1.pods.len()), std::cmp::Reverse(*i))
        });
        if let Some((i, _)) = best {
            return Ok(fit[i].0.name.clone());
        }
    }
    fit.first().map(|(facts, _)| facts.name.clone()).ok_or(unfit)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{plugins::default_profile, snapshot::NodeFacts};

    fn cluster(nodes: &[(&str, &str, &str)]) -> Snapshot {
        let mut all = Snapshot::default();
        for (name, cpu, zone) in nodes {
            let node = json!({"metadata": {"name": name, "labels": {"zone": zone}},
                "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}});
            all.set_node(Arc::new(NodeFacts::new(serde_json::from_value(node).expect("a node"))));
        }
        all
    }

    fn pod(name: &str, spec: &serde_json::Value) -> Arc<PodInfo> {
        let pod = json!({"metadata": {"namespace": "ns", "name": name, "uid": name}, "spec": spec});
        Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
    }

    #[test]
    fn pods_spread_over_the_least_allocated_nodes() {
        let profile = default_profile();
        let mut all = cluster(&[("a", "4", "x"), ("b", "4", "x"), ("c", "4", "x")]);
        let spec = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]});
        let mut used = std::collections::BTreeMap::<Box<str>, usize>::new();
        for i in 0..12 {
            let pod = pod(&format!("p{i}"), &spec);
            let node = schedule(&profile, &pod, &all).expect("there is room");
            all.assume(&pod, &node);
            *used.entry(node).or_default() += 1;
        }
        assert_eq!(used.values().copied().collect::<Vec<_>>(), [4, 4, 4]);
    }

    #[test]
    fn preference_outweighs_balance_but_not_a_filter() {
        let profile = default_profile();
        let all = cluster(&[("a", "4", "x"), ("b", "4", "y"), ("c", "100m", "z")]);
        let prefers = |zone: &str| {
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
                "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 10, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}}]}}})
        };
        assert_eq!(schedule(&profile, &pod("p", &prefers("y")), &all).as_deref(), Ok("b"));
        assert_eq!(schedule(&profile, &pod("p", &prefers("z")), &all).as_deref(), Ok("a"));
    }

    #[test]
    fn each_node_says_why_it_does_not_fit() {
        let all = cluster(&[("a", "1", "x"), ("b", "2", "x")]);
        let spec = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "4"}}}]});
        let unfit = schedule(&default_profile(), &pod("p", &spec), &all).expect_err("too large");
        assert_eq!(unfit.nodes.keys().map(|n| &**n).collect::<Vec<_>>(), ["a", "b"]);
        assert!(unfit.nodes.values().all(|r| r.plugin == "NodeResourcesFit" && r.unresolvable));
    }
}
