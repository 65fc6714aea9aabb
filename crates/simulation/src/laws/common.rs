//! Laws of every pod, and of every object.

use super::{
    Change, Laws, Verdict, World, at, is_active, is_finished, is_going, is_late, is_ready, number, uid,
};
use crate::machine::{CPU, PODS};

/// No more pods than a quota allows.
pub(super) fn quota(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    if change.kind != "core/pods" || change.old.is_some() {
        return Ok(());
    }
    for quota in world.all("core/resourcequotas", change.namespace) {
        let hard = at(quota, "/spec/hard/pods").parse::<usize>().unwrap_or(usize::MAX);
        let there = world.all("core/pods", change.namespace).filter(|pod| !is_finished(pod)).count();
        if there > hard {
            return Err(format!("{there} pods where {hard} are allowed"));
        }
    }
    Ok(())
}

/// What a pod asks for, in thousandths of a processor.
pub(super) fn cpu(pod: &Value) -> u64 {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let asked = containers.into_iter().flatten().map(|c| at(c, "/resources/requests/cpu"));
    asked
        .map(|text| match text.strip_suffix('m') {
            Some(text) => text.parse().unwrap_or(0),
            None => text.parse::<u64>().unwrap_or(0) * 1000,
        })
        .sum()
}

use serde_json::Value;

/// What the pods on a node ask for, and how many they are.
pub(super) fn load(world: &World, node: &str) -> (u64, u64) {
    let all = world.all("core/pods", "");
    let there = all.filter(|pod| at(pod, "/spec/nodeName") == node && !is_finished(pod));
    there.fold((0, 0), |(asked, pods), pod| (asked + cpu(pod), pods + 1))
}

/// No node holds more than it has room for.
pub(super) fn room(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let Some(pod) = change.new.filter(|_| change.kind == "core/pods") else { return Ok(()) };
    let node = at(pod, "/spec/nodeName");
    if node.is_empty() || change.old.is_some_and(|old| at(old, "/spec/nodeName") == node) {
        return Ok(());
    }
    let (asked, pods) = load(world, node);
    if asked > CPU || pods > PODS {
        return Err(format!("{node} holds {pods} pods that ask for {asked}m"));
    }
    Ok(())
}

/// A pod stays where it was put, what has ended stays so, and it is never put on a node that takes no pods.
pub(super) fn placement(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let (Some(old), Some(new)) = (change.old, change.new) else { return Ok(()) };
    if change.kind != "core/pods" || uid(old) != uid(new) {
        return Ok(());
    }
    let (before, after) = (at(old, "/spec/nodeName"), at(new, "/spec/nodeName"));
    if !before.is_empty() && before != after {
        return Err(format!("moved from {before} to {after}"));
    }
    if before.is_empty()
        && !after.is_empty()
        && !world.objects.contains_key(&format!("/registry/core/nodes/{after}"))
        && !is_late(world.removed.get(after))
    {
        return Err(format!("put on {after}, which is not there"));
    }
    if is_finished(old) && at(old, "/status/phase") != at(new, "/status/phase") {
        return Err("it had ended".to_owned());
    }
    Ok(())
}

/// What has an owner that stays is no garbage.
pub(super) fn garbage(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let Some(old) = change.old.filter(|_| change.user == "generic-garbage-collector") else { return Ok(()) };
    if is_going(old) || change.new.is_some_and(|new| !is_going(new)) {
        return Ok(());
    }
    let owners = old.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let stays = |owner: &&Value| world.by_uid(at(owner, "/uid")).is_some_and(|owner| !is_going(owner));
    match owners.into_iter().flatten().find(stays) {
        Some(owner) => Err(format!("deleted as garbage, and {} {} is there", owner["kind"], owner["name"])),
        None => Ok(()),
    }
}

/// A namespace goes last of all that is in it.
pub(super) fn namespaces(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let (Some(old), None, "core/namespaces") = (change.old, change.new, change.kind) else { return Ok(()) };
    let name = at(old, "/metadata/name");
    match world.objects.values().find(|object| at(object, "/metadata/namespace") == name) {
        Some(left) => Err(format!("{} {} is left", left["kind"], left["metadata"]["name"])),
        None => Ok(()),
    }
}

/// No eviction takes a pod that its disruption budget needs.
pub(super) fn budget(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let Some(old) = change.old.filter(|_| change.kind == "core/pods" && change.subresource == "eviction")
    else {
        return Ok(());
    };
    if is_going(old) || !is_ready(old) || change.new.is_some_and(|new| !is_going(new)) {
        return Ok(());
    }
    for budget in world.all("policy/poddisruptionbudgets", change.namespace) {
        let app = at(budget, "/spec/selector/matchLabels/app");
        if at(old, "/metadata/labels/app") != app {
            continue;
        }
        let of = |pod: &&serde_json::Value| at(pod, "/metadata/labels/app") == app;
        let shaken = is_late(world.shaken.get(&(change.namespace.to_owned(), app.to_owned())));
        let healthy = world.all("core/pods", change.namespace).filter(of);
        let healthy = healthy.filter(|pod| is_active(pod) && is_ready(pod)).count();
        let least = number(budget, "/spec/minAvailable");
        if !shaken && i64::try_from(healthy).unwrap_or(0) < least {
            return Err(format!("{healthy} pods are left of the {least} that {app} needs"));
        }
    }
    Ok(())
}

/// A claim keeps its volume, and a volume its claim, for as long as either lasts: there is data on it.
pub(super) fn volumes(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let (Some(old), Some(new)) = (change.old, change.new) else { return Ok(()) };
    let (path, is_gone) = match change.kind {
        "core/persistentvolumeclaims" => ("/spec/volumeName", false),
        "core/persistentvolumes" => {
            let claim = at(old, "/spec/claimRef/uid");
            ("/spec/claimRef/uid", at(old, "/status/phase") != "Bound" || world.by_uid(claim).is_none())
        }
        _ => return Ok(()),
    };
    let (before, after) = (at(old, path), at(new, path));
    if uid(old) == uid(new) && !before.is_empty() && before != after && !is_gone {
        return Err(format!("was bound to {before}, and now to {after:?}"));
    }
    Ok(())
}
