//! `pods/resize`: a running pod's requests and limits change, and nothing else (KEP-1287).

use serde_json::{Map, Value};

use super::At;
use crate::field::{Error, Errors};
use crate::meta::{self, items};
use crate::{defaults, validate::pod};

/// What containers can be given more or less of while they run.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];
const ONLY_THESE: &str = "only cpu and memory resources are mutable";

pub(crate) fn update(new: &Value, old: &Value) -> Errors {
    let never = |why: &str| vec![Error::forbidden(&crate::field::Path::root(), why)];
    let own = |pod: &Value| {
        ["requests", "limits"]
            .iter()
            .any(|list| pod["spec"]["resources"][list].as_object().is_some_and(|amounts| !amounts.is_empty()))
    };
    if own(old) || own(new) {
        return never("pods with pod-level resources cannot be resized");
    }
    if meta::annotation(old, pod::MIRROR).is_some() {
        return never("static pods cannot be resized");
    }
    if old["spec"]["os"]["name"] == "windows" {
        return never("windows pods cannot be resized");
    }
    let root = At::root(new);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    pod::whole(&root, &mut errors);
    if defaults::qos(&new["spec"]) != defaults::qos(&old["spec"]) {
        let class = new["status"]["qosClass"].clone();
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(Error::invalid(&spec.path(), class, detail));
    }
    if !node_resizes(old) {
        spec.forbidden(&mut errors, "Pod running on node without support for resize");
    }
    for (list, of_all) in [("initContainers", false), ("containers", true)] {
        let all = spec.get(list);
        for (container, old) in all.items().zip(items(&old["spec"], &[list])) {
            if of_all || old["restartPolicy"] == "Always" {
                let what = if of_all {
                    ONLY_THESE
                } else {
                    "only cpu and memory resources for sidecar containers are mutable"
                };
                nothing_removed(&container, old, &mut errors);
                if put_back(container.value(), old) != *old {
                    spec.forbidden(&mut errors, what);
                }
            } else if container.value() != old {
                spec.forbidden(&mut errors, "resources for non-sidecar init containers are immutable");
            }
        }
    }
    errors
}

/// Whether the kubelet tells what running containers have, as one does that can resize.
fn node_resizes(pod: &Value) -> bool {
    let running = items(pod, &["status", "containerStatuses"])
        .iter()
        .find(|status| !status["state"]["running"].is_null());
    running.is_none_or(|status| !status["resources"].is_null())
}

fn nothing_removed(new: &At<'_>, old: &Value, errors: &mut Errors) {
    let resources = new.get("resources");
    for list in ["requests", "limits"] {
        let now = resources.get(list);
        let mut before = old["resources"][list].as_object().into_iter().flatten();
        if before.any(|(name, _)| !now.has(name)) {
            now.forbidden(errors, format!("resource {list} cannot be removed"));
        }
    }
}

/// The container with what may change as it was, and with the resize policies that it had.
fn put_back(new: &Value, old: &Value) -> Value {
    let mut munged = new.clone();
    let Some(map) = munged.as_object_mut() else { return munged };
    match old.get("resizePolicy") {
        Some(policy) => drop(map.insert("resizePolicy".to_owned(), policy.clone())),
        None => drop(map.remove("resizePolicy")),
    }
    let resources = meta::child_mut(map, "resources");
    for list in ["requests", "limits"] {
        let before = old["resources"][list].as_object();
        let after = resources.entry(list).or_insert_with(|| Value::Object(Map::new()));
        let Some(after) = after.as_object_mut() else { continue };
        for name in RESIZABLE {
            match before.and_then(|amounts| amounts.get(name)) {
                Some(amount) => drop(after.insert(name.to_owned(), amount.clone())),
                None => drop(after.remove(name)),
            }
        }
        if before.is_none() && after.is_empty() {
            resources.remove(list);
        }
    }
    munged
}
