//! Laws of PodGroups: enough of a gang's pods are placed at once, or none is.

use serde_json::Value;

use super::{
    Change, Laws, Verdict, World, at,
    common::{cpu, load},
    is_finished, is_going, is_late, number,
};
use crate::{
    machine::{CPU, PODS},
    seams,
};

/// A namespace of gangs.
pub(crate) const TROUPE: &str = "troupe";

fn group(pod: &Value) -> &str {
    at(pod, "/spec/schedulingGroup/podGroupName")
}

fn is_placed(pod: &Value) -> bool {
    !at(pod, "/spec/nodeName").is_empty()
}

/// How many of a group have to be placed at once; `None` where there is no such group.
fn least(world: &World, namespace: &str, name: &str) -> Option<u64> {
    let mut groups = world.all("scheduling.k8s.io/podgroups", namespace);
    let group = groups.find(|group| at(group, "/metadata/name") == name)?;
    u64::try_from(number(group, "/spec/schedulingPolicy/gang/minCount")).ok()
}

/// How many there are of a group, and how many of them have nodes.
fn members(world: &World, namespace: &str, name: &str) -> (u64, u64) {
    let all = world.all("core/pods", namespace).filter(|pod| group(pod) == name && !is_finished(pod));
    all.fold((0, 0), |(there, placed), pod| (there + 1, placed + u64::from(is_placed(pod))))
}

/// For how many more pods like this the nodes have room.
fn rooms(world: &World, pod: &Value) -> u64 {
    let names = world.all("core/nodes", "").map(|node| at(node, "/metadata/name"));
    let room = |name: &str| {
        let (asked, pods) = load(world, name);
        (CPU.saturating_sub(asked) / cpu(pod).max(1)).min(PODS.saturating_sub(pods))
    };
    names.map(room).sum()
}

impl World {
    pub(super) fn remember_left(&mut self, change: &Change<'_>) {
        let Some(old) = change.old.filter(|old| change.kind == "core/pods" && !group(old).is_empty()) else {
            return;
        };
        if change.new.is_none_or(|new| is_going(new) || is_finished(new)) {
            let of = (change.namespace.to_owned(), group(old).to_owned());
            self.left.insert(of, seams::elapsed());
        }
    }
}

/// Nobody of a gang is placed unless as many as it needs are there, and have room.
pub(super) fn whole(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let Some(pod) = change.new.filter(|pod| change.kind == "core/pods" && is_placed(pod)) else {
        return Ok(());
    };
    let name = group(pod);
    let Some(least) = least(world, change.namespace, name).filter(|_| !name.is_empty()) else {
        return Ok(());
    };
    if change.old.is_none_or(is_placed) {
        return Ok(());
    }
    let (there, placed) = members(world, change.namespace, name);
    // Who decided may have known others that have gone since, and nodes that have.
    let has_left = is_late(world.left.get(&(change.namespace.to_owned(), name.to_owned())));
    if has_left || world.removed.values().any(|when| is_late(Some(when))) {
        return Ok(());
    }
    if there < least {
        return Err(format!("placed, and there are {there} of the {least} that its gang needs"));
    }
    let (missing, rooms) = (least.saturating_sub(placed), rooms(world, pod));
    if missing > rooms {
        return Err(format!("placed, and of {missing} others that its gang needs {rooms} have room"));
    }
    Ok(())
}

/// Why a pod of a gang that has no node should have one.
pub(super) fn should_go(world: &World, pod: &Value) -> Option<String> {
    let namespace = at(pod, "/metadata/namespace");
    let least = least(world, namespace, group(pod))?;
    let (there, placed) = members(world, namespace, group(pod));
    let missing = least.saturating_sub(placed).max(1);
    let rooms = rooms(world, pod);
    (there >= least && rooms >= missing).then(|| format!("waits, and its gang has room for {rooms}"))
}
