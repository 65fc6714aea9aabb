//! Laws of what keeps pods at a number.

use serde_json::Value;

use super::{Change, Laws, Verdict, World, at, is_active, is_going, is_ready, number, owner, uid};
use crate::seams;

/// A number, or a percentage of another.
fn amount(value: Option<&Value>, of: i64, up: bool) -> i64 {
    match value {
        Some(Value::String(text)) => {
            let percent = text.trim_end_matches('%').parse::<i64>().unwrap_or(0);
            if up { (of * percent + 99) / 100 } else { of * percent / 100 }
        }
        Some(value) => value.as_i64().unwrap_or(0),
        None => 0,
    }
}

/// The least and most pods that a workload wants, or that an autoscaler may want; `None` for what is neither.
fn wanted(kind: &str, object: &Value) -> Option<(i64, i64)> {
    let replicas = number(object, "/spec/replicas");
    match kind {
        "apps/deployments" => {
            let rolling = |field: &str| object.pointer(&format!("/spec/strategy/rollingUpdate/{field}"));
            if at(object, "/spec/strategy/type") == "Recreate" {
                return Some((0, replicas));
            }
            let surge = amount(rolling("maxSurge"), replicas, true);
            let missing = amount(rolling("maxUnavailable"), replicas, false);
            let missing = if surge == 0 && missing == 0 { 1 } else { missing };
            Some(((replicas - missing).max(0), replicas + surge))
        }
        "apps/replicasets" | "core/replicationcontrollers" | "apps/statefulsets" => {
            Some((replicas, replicas))
        }
        "batch/jobs" => {
            let most =
                if object["spec"]["suspend"] == true { 0 } else { number(object, "/spec/parallelism") };
            Some((0, most))
        }
        "autoscaling/horizontalpodautoscalers" => {
            Some((number(object, "/spec/minReplicas"), number(object, "/spec/maxReplicas")))
        }
        _ => None,
    }
}

impl World {
    /// Takes in what later laws look back at.
    pub(super) fn remember(&mut self, change: &Change<'_>) {
        let now = seams::elapsed();
        if let Some(new) = change.new
            && let Some((least, most)) = wanted(change.kind, new)
        {
            let all = self.wanted.entry(uid(new).to_owned()).or_default();
            if all.last().is_none_or(|(_, l, m)| (*l, *m) != (least, most)) {
                all.push((now, least, most));
            }
        }
        self.remember_ended(change);
        self.remember_left(change);
        if let (Some(node), "core/nodes", None) = (change.old, change.kind, change.new) {
            self.removed.insert(at(node, "/metadata/name").to_owned(), now);
        }
        let Some(old) = change.old.filter(|_| change.kind == "core/pods") else { return };
        let goes = !is_going(old) && change.new.is_none_or(is_going);
        let unready = !is_going(old) && is_ready(old) && change.new.is_some_and(|new| !is_ready(new));
        if (goes && change.subresource != "eviction") || unready {
            let app = at(old, "/metadata/labels/app").to_owned();
            self.shaken.insert((change.namespace.to_owned(), app), now);
        }
        let Some((kind, of)) = owner(old) else { return };
        let planned = match kind {
            "ReplicaSet" => "replicaset-controller",
            "StatefulSet" => "statefulset-controller",
            "DaemonSet" => "daemon-set-controller",
            _ => "",
        };
        if (goes && change.user != planned) || unready {
            let above = self.by_uid(of).and_then(owner).map(|(_, above)| above.to_owned());
            self.upset.entry(of.to_owned()).or_default().push(now);
            if let Some(above) = above {
                self.upset.entry(above).or_default().push(now);
            }
        }
    }
}

/// A pod that this change creates, and its controller.
fn created<'a>(change: &Change<'a>, kind: &str) -> Option<(&'a Value, &'a str)> {
    let pod = change.new.filter(|_| change.kind == "core/pods" && change.old.is_none())?;
    owner(pod).filter(|(owner, _)| *owner == kind).map(|(_, uid)| (pod, uid))
}

/// A ready pod that this change of its controller's lets go, and that controller.
fn let_go<'a>(change: &Change<'a>, kind: &str, user: &str) -> Option<(&'a Value, &'a str)> {
    let pod = change.old.filter(|_| change.kind == "core/pods" && change.user == user)?;
    let goes = !is_going(pod) && change.new.is_none_or(is_going);
    let (_, uid) = owner(pod).filter(|(owner, _)| *owner == kind && goes && is_ready(pod))?;
    Some((pod, uid))
}

fn count<'a>(pods: impl Iterator<Item = &'a Value>) -> i64 {
    i64::try_from(pods.count()).unwrap_or(i64::MAX)
}

/// A ReplicaSet never makes more pods than it wants.
pub(super) fn replicas(laws: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let Some((_, set)) = created(change, "ReplicaSet") else { return Ok(()) };
    let Some((_, most, _)) = world.bounds(set) else { return Ok(()) };
    let there = count(world.pods_of(change.namespace, set).filter(|pod| is_active(pod)));
    let allowed = most + laws.untold(change.namespace);
    if there > allowed {
        return Err(format!("{there} pods where {allowed} are wanted at most"));
    }
    Ok(())
}

/// The sets of a Deployment.
fn sets<'a>(world: &'a World, namespace: &str, deployment: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = world.all("apps/replicasets", namespace);
    all.filter(move |set| owner(set).is_some_and(|(_, uid)| uid == deployment))
}

/// The pods of all sets of a Deployment.
fn family<'a>(world: &'a World, namespace: &str, deployment: &'a str) -> impl Iterator<Item = &'a Value> {
    world.all("core/pods", namespace).filter(move |pod| {
        let set = owner(pod).and_then(|(_, uid)| world.by_uid(uid));
        set.and_then(owner).is_some_and(|(_, uid)| uid == deployment)
    })
}

/// A Deployment's sets together never want more pods than surge allows. (What they want is what counts: a set that
/// shrinks lets its pods go a moment after another may grow.)
pub(super) fn surge(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let Some(set) = change.new.filter(|_| change.kind == "apps/replicasets") else { return Ok(()) };
    let grows = number(set, "/spec/replicas") > change.old.map_or(0, |old| number(old, "/spec/replicas"));
    let Some((_, deployment)) = owner(set).filter(|_| grows) else { return Ok(()) };
    let Some((_, most, _)) = world.bounds(deployment) else { return Ok(()) };
    let sets = sets(world, change.namespace, deployment);
    let wanted: i64 = sets.map(|set| number(set, "/spec/replicas")).sum();
    if wanted > most {
        return Err(format!("the Deployment's sets want {wanted} pods where surge allows {most}"));
    }
    Ok(())
}

/// A rollout never decides to do without pods that availability needs. What counts of a set's ready pods is no more than
/// it still wants: the others are about to go.
pub(super) fn rollout(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let (Some(before), Some(set), "apps/replicasets") = (change.old, change.new, change.kind) else {
        return Ok(());
    };
    let Some((_, deployment)) = owner(set).filter(|_| change.user == "deployment-controller") else {
        return Ok(());
    };
    let ready =
        |set| count(world.pods_of(change.namespace, uid(set)).filter(|pod| is_active(pod) && is_ready(pod)));
    let serving = |set| number(set, "/spec/replicas").min(ready(set));
    let Some((least, _, changed)) = world.bounds(deployment) else { return Ok(()) };
    if serving(set) >= serving(before) || changed || world.by_uid(deployment).is_none_or(is_going) {
        return Ok(());
    }
    let left: i64 = sets(world, change.namespace, deployment).map(serving).sum();
    let upset = world.upset(deployment);
    if left < least - upset {
        return Err(format!(
            "{left} pods are to be left where {least} must be available; upset were {upset}"
        ));
    }
    Ok(())
}

/// A rollout never takes a pod that availability needs.
pub(super) fn availability(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let Some((_, set)) = let_go(change, "ReplicaSet", "replicaset-controller") else { return Ok(()) };
    let Some((_, deployment)) = world.by_uid(set).and_then(owner) else { return Ok(()) };
    let Some((least, _, changed)) = world.bounds(deployment) else { return Ok(()) };
    if changed || world.by_uid(deployment).is_none_or(is_going) {
        return Ok(());
    }
    let left =
        count(family(world, change.namespace, deployment).filter(|pod| is_active(pod) && is_ready(pod)));
    let upset = world.upset(deployment);
    if left < least - upset {
        return Err(format!("{left} pods are left where {least} must be available; upset were {upset}"));
    }
    Ok(())
}

/// An ordered StatefulSet replaces one pod at a time.
pub(super) fn order(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let Some((pod, of)) = let_go(change, "StatefulSet", "statefulset-controller") else { return Ok(()) };
    let (Some(set), Some((least, _, changed))) = (world.by_uid(of), world.bounds(of)) else { return Ok(()) };
    if changed || at(set, "/spec/podManagementPolicy") == "Parallel" || is_going(set) {
        return Ok(());
    }
    let left = world.pods_of(change.namespace, of).filter(|other| is_active(other) && is_ready(other));
    let left = count(left.filter(|other| uid(other) != uid(pod)));
    let upset = world.upset(of);
    if left < least - 1 - upset {
        return Err(format!("{left} other pods are ready of {least}; upset were {upset}"));
    }
    Ok(())
}

/// No node has two pods of a DaemonSet.
pub(super) fn daemons(laws: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    const NODE: &str = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution\
        /nodeSelectorTerms/0/matchFields/0/values/0";
    let Some((pod, set)) = created(change, "DaemonSet") else { return Ok(()) };
    let node = at(pod, NODE);
    let there = world.pods_of(change.namespace, set).filter(|pod| is_active(pod) && at(pod, NODE) == node);
    let (there, allowed) = (count(there), 1 + laws.untold(change.namespace));
    if there > allowed {
        return Err(format!("{there} pods for {node:?}"));
    }
    Ok(())
}
