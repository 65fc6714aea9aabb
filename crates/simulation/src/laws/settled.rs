//! What holds in the end: everything is as it is wanted, and nothing is left behind.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    TROUPE, World, at, autoscalers,
    common::{cpu, load},
    condition, gangs, is_active, is_finished, is_going, is_ready,
    jobs::uncounted,
    number, owner, uid,
};
use crate::{
    machine::{CPU, PODS},
    neighbour,
};

/// A namespace whose quota leaves less room than is asked for.
pub(crate) const TIGHT: &str = "tight";
/// A namespace whose pods matter less than others, and ask for more than there is.
pub(crate) const CROWD: &str = "crowd";

/// `demand` is what is asked of the pods that share it. `alone`: what the neighbour keeps, what that owns, and namespaces
/// that may still hold some of it wait for its return.
pub(super) fn complaints(world: &World, demand: u64, alone: bool) -> Vec<String> {
    let mut all = Vec::new();
    for (key, object) in &world.objects {
        let mut say = |why: String| all.push(format!("{key}: {why}"));
        let waits = |of: &str| alone && (of.contains(neighbour::GROUP) || of.contains("/core/namespaces/"));
        if waits(key) {
            continue;
        }
        if is_going(object) {
            say("is still going".to_owned());
        }
        let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        for owner in owners.into_iter().flatten() {
            if world.by_uid(at(owner, "/uid")).is_none() && !waits(at(owner, "/apiVersion")) {
                say(format!("its owner {} {} is gone", owner["kind"], owner["name"]));
            }
        }
        if let Some((kind, namespace)) = super::parts(key) {
            match kind {
                "autoscaling/horizontalpodautoscalers" => {
                    autoscalers::complain(world, object, demand, &mut say);
                }
                _ => complain(world, kind, namespace, object, &mut say),
            }
        }
    }
    for (name, runs) in &world.running {
        let lost = runs.iter().filter(|(uid, _)| world.by_uid(uid).is_none());
        all.extend(lost.map(|(uid, (machine, _))| format!("{name} is gone, and runs as {uid} on {machine}")));
    }
    all
}

fn complain(world: &World, kind: &str, namespace: &str, object: &Value, say: &mut dyn FnMut(String)) {
    let status = |field: &str| number(object, &format!("/status/{field}"));
    let wanted = number(object, "/spec/replicas");
    let mut expect = |what: &str, found: i64, wanted: i64| {
        if found != wanted {
            say(format!("{what} is {found}, not {wanted}"));
        }
    };
    let active = || {
        let pods = world.pods_of(namespace, uid(object)).filter(|pod| is_active(pod)).count();
        i64::try_from(pods).unwrap_or(i64::MAX)
    };
    let generation = number(object, "/metadata/generation");
    match kind {
        "apps/deployments" => {
            expect("observedGeneration", status("observedGeneration"), generation);
            if object["spec"]["paused"] == true {
                return;
            }
            let fields: &[&str] = match namespace {
                TIGHT => &[],
                CROWD | TROUPE => &["replicas", "updatedReplicas"],
                _ => &["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"],
            };
            for field in fields {
                expect(field, status(field), wanted);
            }
        }
        "apps/replicasets" => {
            expect("observedGeneration", status("observedGeneration"), generation);
            expect("status.replicas", status("replicas"), active());
            if namespace != TIGHT {
                expect("pods", active(), wanted);
            }
            let above = owner(object).and_then(|(_, of)| world.by_uid(of)).filter(|_| wanted > 0);
            if above.is_some_and(|above| image(above, "/spec/template") != image(object, "/spec/template")) {
                say("is not of its Deployment's template".to_owned());
            }
        }
        "apps/statefulsets" => {
            expect("observedGeneration", status("observedGeneration"), generation);
            for field in
                ["replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "currentReplicas"]
            {
                expect(field, status(field), wanted);
            }
            expect("pods", active(), wanted);
            if at(object, "/status/currentRevision") != at(object, "/status/updateRevision") {
                say("two revisions".to_owned());
            }
        }
        "apps/daemonsets" => {
            let nodes = i64::try_from(world.all("core/nodes", "").count()).unwrap_or(i64::MAX);
            expect("observedGeneration", status("observedGeneration"), generation);
            for field in
                ["desiredNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable"]
            {
                expect(field, status(field), nodes);
            }
            expect("numberMisscheduled", status("numberMisscheduled"), 0);
            expect("pods", active(), nodes);
        }
        "batch/jobs" => {
            let ended = condition(object, "Complete") || condition(object, "Failed");
            expect("active", status("active"), 0);
            expect("pods", active(), 0);
            if !ended && object["spec"]["suspend"] != true {
                say("has not ended".to_owned());
            }
            if ["succeeded", "failed"].iter().any(|how| !uncounted(object, how).is_empty()) {
                say("has pods to count".to_owned());
            }
        }
        "batch/cronjobs" => {
            let listed = object.pointer("/status/active").and_then(Value::as_array).map_or(0, Vec::len);
            expect("active", i64::try_from(listed).unwrap_or(i64::MAX), 0);
        }
        "core/pods" => {
            if is_finished(object) {
                let tracked = object.pointer("/metadata/finalizers").and_then(Value::as_array);
                if tracked.is_some_and(|all| !all.is_empty()) {
                    say("has ended and is held".to_owned());
                }
            } else if namespace == CROWD && at(object, "/spec/nodeName").is_empty() {
                if let Some(node) = place(world, object) {
                    say(format!("waits, and {node} has room for it"));
                }
            } else if namespace == TROUPE && at(object, "/spec/nodeName").is_empty() {
                gangs::should_go(world, object).into_iter().for_each(&mut *say);
            } else if !is_ready(object) {
                say("is not ready".to_owned());
            }
            let Some((_, of)) = owner(object) else { return say("nobody owns it".to_owned()) };
            let template = world.by_uid(of).map(|owner| image(owner, "/spec/template"));
            let has_template = template.filter(|image| !image.is_empty() && !is_finished(object));
            if has_template.is_some_and(|wanted| wanted != image(object, "")) {
                say("is not of its owner's template".to_owned());
            }
        }
        "core/nodes" if !condition(object, "Ready") || object.pointer("/spec/taints").is_some() => {
            say("is not ready, or tainted".to_owned());
        }
        "core/services" => {
            if let Some(app) = object.pointer("/spec/selector/app").and_then(Value::as_str) {
                endpoints(world, namespace, at(object, "/metadata/name"), app, say);
            }
        }
        "core/resourcequotas" => {
            let used = at(object, "/status/used/pods").parse().unwrap_or(-1);
            let there = world.all("core/pods", namespace).filter(|pod| !is_finished(pod)).count();
            let there = i64::try_from(there).unwrap_or(i64::MAX);
            expect("used", used, there);
            let hard = at(object, "/spec/hard/pods").parse().unwrap_or(0);
            let asked: i64 =
                world.all("apps/deployments", namespace).map(|d| number(d, "/spec/replicas")).sum();
            expect("pods", there, asked.min(hard));
        }
        "core/persistentvolumeclaims" => {
            let volumes = world.all("core/persistentvolumes", "");
            let mut bound = volumes.filter(|volume| at(volume, "/spec/claimRef/uid") == uid(object));
            let name = bound.next().map(|volume| at(volume, "/metadata/name")).unwrap_or_default();
            if at(object, "/status/phase") != "Bound" || at(object, "/spec/volumeName") != name {
                say(format!("is not bound to its volume {name:?}"));
            }
            if let Some(other) = bound.next() {
                say(format!("has {} as well", at(other, "/metadata/name")));
            }
        }
        "policy/poddisruptionbudgets" => {
            let app = at(object, "/spec/selector/matchLabels/app");
            let healthy = world.all("core/pods", namespace);
            let healthy =
                healthy.filter(|p| at(p, "/metadata/labels/app") == app && is_active(p) && is_ready(p));
            let healthy = i64::try_from(healthy.count()).unwrap_or(-1);
            let least = number(object, "/spec/minAvailable");
            expect("currentHealthy", status("currentHealthy"), healthy);
            expect("desiredHealthy", status("desiredHealthy"), least);
            expect("disruptionsAllowed", status("disruptionsAllowed"), (healthy - least).max(0));
            expect("observedGeneration", status("observedGeneration"), generation);
        }
        _ => {}
    }
}

/// A node that could take this pod.
fn place<'a>(world: &'a World, pod: &Value) -> Option<&'a str> {
    let open = |node: &&Value| condition(node, "Ready") && node.pointer("/spec/taints").is_none();
    let names = world.all("core/nodes", "").filter(open).map(|node| at(node, "/metadata/name"));
    names.into_iter().find(|name| {
        let (asked, pods) = load(world, name);
        asked + cpu(pod) <= CPU && pods < PODS
    })
}

/// A Service leads to the pods that are ready, and to no others.
fn endpoints(world: &World, namespace: &str, name: &str, app: &str, say: &mut dyn FnMut(String)) {
    let ready = world.all("core/pods", namespace);
    let ready = ready.filter(|p| at(p, "/metadata/labels/app") == app && is_active(p) && is_ready(p));
    let wanted: BTreeSet<_> = ready.map(|pod| at(pod, "/status/podIP")).collect();
    let slices = world.all("discovery.k8s.io/endpointslices", namespace);
    let slices = slices.filter(|slice| at(slice, "/metadata/labels/kubernetes.io~1service-name") == name);
    let all = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let found: BTreeSet<_> =
        all.filter(|e| e["conditions"]["ready"] == true).map(|e| at(e, "/addresses/0")).collect();
    if wanted != found {
        say(format!("its slices lead to {found:?}, not to {wanted:?}"));
    }
}

/// The image of a pod, or of a template at `path`.
fn image<'a>(object: &'a Value, path: &str) -> &'a str {
    at(object, &format!("{path}/spec/containers/0/image"))
}
