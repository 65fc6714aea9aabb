//! What a client may not write: the status when it writes the object, the object when it writes the status.
//!
//! `create` functions run on a new object that has its name, UID and creation time already; `update`
//! functions take the new object and the stored one. Both are in the storage version.

pub(crate) mod devices;

use serde_json::{Map, Value, json};

use crate::decode;
use crate::defaults;
use crate::kind::split_api_version;
use crate::meta::{self, as_map, child_mut};
use crate::schema::Schema;

/// The object starts without a status but for the fields that one always has.
pub fn create(object: &mut Value) {
    if object.get("status").is_none() {
        return;
    }
    let (group, version) = split_api_version(meta::text(object, &["apiVersion"]));
    let ty = Schema::of(group, version, meta::text(object, &["kind"]));
    let status = ty.and_then(|ty| ty.field("status")).map(decode::zero).filter(Value::is_object);
    as_map(object).insert("status".to_owned(), status.unwrap_or_else(|| json!({})));
}

/// How often a DaemonSet's template has changed, told by what had a field for it once.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// As [`create_counted`], and the generations of the template are counted.
pub fn create_daemon_set(set: &mut Value) {
    create_counted(set);
    count_templates(set, 1);
}

/// As [`update_counted`], and the generations of the template are counted.
pub fn update_daemon_set(new: &mut Value, old: &Value) {
    update_counted(new, old);
    let changed = new["spec"]["template"] != old["spec"]["template"];
    count_templates(new, templates(old) + i64::from(changed));
}

/// As [`update_status`]; how often the template has changed is not the status's to say.
pub fn update_daemon_set_status(new: &mut Value, old: &Value) {
    update_status(new, old);
    count_templates(new, templates(old));
}

fn templates(set: &Value) -> i64 {
    meta::annotation(set, TEMPLATE_GENERATION).and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn count_templates(set: &mut Value, count: i64) {
    let annotations = child_mut(meta::metadata_mut(set), "annotations");
    annotations.insert(TEMPLATE_GENERATION.to_owned(), count.to_string().into());
}

/// As [`create`], and the object counts the generations of its spec.
pub fn create_counted(object: &mut Value) {
    create(object);
    meta::start_generation(object);
}

/// As [`create_counted`], for a kind whose status always tells how many replicas there are.
pub fn create_replicated(object: &mut Value) {
    create_counted(object);
    as_map(object).insert("status".to_owned(), json!({"replicas": 0}));
}

/// As [`create_replicated`], and how many of them are available.
pub fn create_stateful_set(set: &mut Value) {
    create_replicated(set);
    set["status"]["availableReplicas"] = 0.into();
}

/// The status stays as it is stored.
pub fn update(new: &mut Value, old: &Value) {
    keep(new, old, "status");
}

/// As [`update`], and the generation follows the spec.
pub fn update_counted(new: &mut Value, old: &Value) {
    update(new, old);
    let changed = new.get("spec") != old.get("spec");
    meta::follow_generation(new, old, changed);
}

/// As [`update_counted`]; annotations count too, because the ReplicaSets get them.
pub fn update_deployment(new: &mut Value, old: &Value) {
    update(new, old);
    let annotations = |o: &Value| meta::at(o, &["metadata", "annotations"]).cloned();
    let changed = new.get("spec") != old.get("spec") || annotations(new) != annotations(old);
    meta::follow_generation(new, old, changed);
}

/// Everything but the status and the metadata stays as it is stored.
pub fn update_status(new: &mut Value, old: &Value) {
    let map = as_map(new);
    map.retain(|key, _| matches!(key.as_str(), "status" | "metadata" | "apiVersion" | "kind"));
    for (key, value) in old.as_object().into_iter().flatten() {
        if key != "status" && key != "metadata" {
            map.insert(key.clone(), value.clone());
        }
    }
    meta::set(new, "generation", old["metadata"].get("generation").cloned());
}

/// As [`update_status`]; its labels, which follow its pods', are not the status's to change.
pub fn update_deployment_status(new: &mut Value, old: &Value) {
    update_status(new, old);
    meta::set(new, "labels", old["metadata"].get("labels").cloned());
}

/// As [`update_status`], for a kind whose status is written without its metadata.
pub fn update_status_alone(new: &mut Value, old: &Value) {
    update_status(new, old);
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        meta::set(new, field, old["metadata"].get(field).cloned());
    }
}

/// A kind whose objects count as a whole, without spec and status.
pub fn update_whole_counted(new: &mut Value, old: &Value) {
    let body = |o: &Value| -> Map<String, Value> {
        let fields = o.as_object().into_iter().flatten();
        fields.filter(|(k, _)| *k != "metadata").map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let changed = body(new) != body(old);
    meta::follow_generation(new, old, changed);
}

fn keep(new: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => drop(as_map(new).insert(field.to_owned(), value.clone())),
        None => drop(as_map(new).remove(field)),
    }
}

/// What is asked for stays, and so does the answer.
pub fn update_signing_request(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    keep(new, old, "status");
}

/// Only the conditions change.
pub fn update_approval(new: &mut Value, old: &Value) {
    let conditions = new["status"].get("conditions").cloned();
    update_signing_request(new, old);
    let status = child_mut(as_map(new), "status");
    match conditions {
        Some(conditions) => drop(status.insert("conditions".to_owned(), conditions)),
        None => drop(status.remove("conditions")),
    }
}

/// Everything changes but what was approved or denied.
pub fn update_signing_status(new: &mut Value, old: &Value) {
    update_status(new, old);
    let Some(conditions) = new["status"].get_mut("conditions").and_then(Value::as_array_mut) else { return };
    for kind in ["Approved", "Denied"] {
        let before = meta::items(old, &["status", "conditions"]).iter().filter(|c| c["type"] == kind);
        let places: Vec<usize> =
            conditions.iter().enumerate().filter(|(_, c)| c["type"] == kind).map(|(at, _)| at).collect();
        // Where some were added or taken away, that is for validation to refuse.
        if before.clone().count() == places.len() {
            before.zip(places).for_each(|(old, at)| conditions[at] = old.clone());
        }
    }
}

/// A pod starts pending, in the class that its resources give it; one with scheduling gates says why (KEP-3521).
pub fn create_pod(pod: &mut Value) {
    let qos = defaults::qos(&pod["spec"]);
    let mut status = json!({"phase": "Pending", "qosClass": qos.as_str()});
    if !meta::items(pod, &["spec", "schedulingGates"]).is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "lastProbeTime": null,
            "lastTransitionTime": pod["metadata"]["creationTimestamp"], "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    as_map(pod).insert("status".to_owned(), status);
    label_keys(pod);
    meta::start_generation(pod);
}

/// Turns `matchLabelKeys` and `mismatchLabelKeys` of affinity and spreading into what they mean for this pod
/// (KEP-3633, KEP-3243).
fn label_keys(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let expand = |holder: &mut Value| {
        let mut wanted = Vec::new();
        for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            let keys = meta::items(holder, &[field]).iter().filter_map(Value::as_str);
            let known = keys.filter_map(|key| Some((key, labels.get(key)?)));
            wanted.extend(
                known.map(|(key, value)| json!({"key": key, "operator": operator, "values": [value]})),
            );
        }
        let selector = holder.get_mut("labelSelector").and_then(Value::as_object_mut);
        if let Some(selector) = selector.filter(|_| !wanted.is_empty()) {
            let all = selector.entry("matchExpressions").or_insert_with(|| json!([]));
            if let Some(all) = all.as_array_mut() {
                all.extend(wanted);
            }
        }
    };
    let Some(spec) = pod.get_mut("spec") else { return };
    if let Some(Value::Array(constraints)) = spec.get_mut("topologySpreadConstraints") {
        constraints.iter_mut().for_each(expand);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.get_mut("affinity").and_then(|affinity| affinity.get_mut(kind)) else {
            continue;
        };
        if let Some(Value::Array(terms)) = affinity.get_mut("requiredDuringSchedulingIgnoredDuringExecution")
        {
            terms.iter_mut().for_each(expand);
        }
        if let Some(Value::Array(terms)) = affinity.get_mut("preferredDuringSchedulingIgnoredDuringExecution")
        {
            terms.iter_mut().filter_map(|term| term.get_mut("podAffinityTerm")).for_each(expand);
        }
    }
}

/// The kubelet tells the status, and may not touch who owns the pod.
pub fn update_pod_status(new: &mut Value, old: &Value) {
    update_status(new, old);
    meta::set(new, "ownerReferences", old["metadata"].get("ownerReferences").cloned());
    meta::set(new, "deletionTimestamp", old["metadata"].get("deletionTimestamp").cloned());
    let status = child_mut(as_map(new), "status");
    if let (None, Some(qos)) = (status.get("qosClass"), old["status"].get("qosClass")) {
        status.insert("qosClass".to_owned(), qos.clone());
    }
}

/// `pods/ephemeralcontainers` changes only the ephemeral containers.
pub fn update_ephemeral_containers(new: &mut Value, old: &Value) {
    let containers = new["spec"].get("ephemeralContainers").cloned();
    *new = only_version_of(new, old);
    if let Some(containers) = containers {
        child_mut(as_map(new), "spec").insert("ephemeralContainers".to_owned(), containers);
    }
    let changed = new["spec"] != old["spec"];
    meta::follow_generation(new, old, changed);
}

/// `pods/resize` changes only the resources and resize policies of containers.
pub fn update_resize(new: &mut Value, old: &Value) {
    let wanted = new["spec"].clone();
    *new = only_version_of(new, old);
    let spec = child_mut(as_map(new), "spec");
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let same = |c: &&Value| c["name"] == container["name"];
            let Some(resized) = meta::items(&wanted, &[list]).iter().find(same) else { continue };
            for field in ["resources", "resizePolicy"] {
                if let Some(value) = resized.get(field) {
                    as_map(container).insert(field.to_owned(), value.clone());
                }
            }
        }
    }
    let changed = new["spec"] != old["spec"];
    meta::follow_generation(new, old, changed);
}

/// The stored object under the resource version that the caller named, so that its precondition holds.
fn only_version_of(new: &Value, old: &Value) -> Value {
    let mut kept = old.clone();
    meta::set(&mut kept, "resourceVersion", new["metadata"].get("resourceVersion").cloned());
    kept
}

/// Limits that nobody has named have a name that nobody else has.
pub fn create_limit_range(limits: &mut Value) {
    if meta::name(limits).is_empty() {
        let uid = meta::uid(limits).to_owned();
        meta::set(limits, "name", Some(uid.into()));
    }
}

/// A namespace is finished by the namespace controller, which the finalizer waits for.
pub fn create_namespace(namespace: &mut Value) {
    defaults::namespace("v1", namespace);
    let map = as_map(namespace);
    map.insert("status".to_owned(), json!({"phase": "Active"}));
    let spec = child_mut(map, "spec");
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = finalizers.as_array_mut().filter(|l| !l.iter().any(|f| f == "kubernetes")) {
        list.push("kubernetes".into());
    }
}

/// The spec holds only finalizers, which have a subresource of their own.
pub fn update_namespace(new: &mut Value, old: &Value) {
    update(new, old);
    keep(new, old, "spec");
}

/// `namespaces/finalize` changes only the finalizers.
pub fn finalize_namespace(new: &mut Value, old: &Value) {
    let finalizers = new["spec"].get("finalizers").cloned().unwrap_or_else(|| json!([]));
    *new = only_version_of(new, old);
    child_mut(as_map(new), "spec").insert("finalizers".to_owned(), finalizers);
}

pub fn create_service(service: &mut Value) {
    as_map(service).insert("status".to_owned(), json!({"loadBalancer": {}}));
}

/// Whoever changes the address by its older field means the newer too, and what belongs to a type goes with it
/// unless the caller set it anew.
pub fn update_service(new: &mut Value, old: &Value) {
    update(new, old);
    let was = &old["spec"];
    let (outer, balanced) = (reached_from_outside(was), was["type"] == "LoadBalancer");
    let spec = child_mut(as_map(new), "spec");
    let same = |spec: &Map<String, Value>, field: &str| spec.get(field) == was.get(field);
    if !same(spec, "clusterIP") && same(spec, "clusterIPs") && spec.contains_key("clusterIP") {
        let address = spec["clusterIP"].clone();
        match spec.get_mut("clusterIPs").and_then(Value::as_array_mut).and_then(|all| all.first_mut()) {
            Some(primary) => *primary = address,
            None => drop(spec.insert("clusterIPs".to_owned(), json!([address]))),
        }
    }
    let whole = Value::Object(spec.clone());
    let mut leaving = Vec::new();
    if outer && !reached_from_outside(&whole) {
        leaving.push("externalTrafficPolicy");
    }
    if balanced && whole["type"] != "LoadBalancer" {
        leaving.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    for field in leaving {
        if same(spec, field) {
            spec.remove(field);
        }
    }
}

fn reached_from_outside(spec: &Value) -> bool {
    matches!(meta::text(spec, &["type"]), "LoadBalancer" | "NodePort")
        || !meta::items(spec, &["externalIPs"]).is_empty()
}

/// A Job without a selector of its own finds its pods by its UID.
pub fn create_job(job: &mut Value) {
    create_counted(job);
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (meta::uid(job).to_owned(), meta::name(job).to_owned());
    let spec = child_mut(as_map(job), "spec");
    let labels = child_mut(child_mut(child_mut(spec, "template"), "metadata"), "labels");
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        labels.entry(key).or_insert_with(|| value.as_str().into());
    }
    let matched = child_mut(child_mut(spec, "selector"), "matchLabels");
    matched.entry("batch.kubernetes.io/controller-uid").or_insert_with(|| uid.into());
    // A Job without labels gets those of its template, also the ones that were just made.
    defaults::job("v1", job);
}

/// An API that this server answers itself is there from the start; others are when they have been reached.
pub fn create_api_service(service: &mut Value) {
    let local = service["spec"].get("service").is_none_or(Value::is_null);
    let since = service["metadata"]["creationTimestamp"].clone();
    let status = if local {
        json!({"conditions": [{
            "type": "Available", "status": "True", "lastTransitionTime": since,
            "reason": "Local", "message": "Local APIServices are always available",
        }]})
    } else {
        json!({})
    };
    as_map(service).insert("status".to_owned(), status);
}

/// A volume or a claim starts pending.
pub fn create_pending(object: &mut Value) {
    as_map(object).insert("status".to_owned(), json!({"phase": "Pending"}));
}

/// As [`create_pending`], which it tells since when (KEP-3762).
pub fn create_volume(volume: &mut Value) {
    create_pending(volume);
    volume["status"]["lastPhaseTransitionTime"] = volume["metadata"]["creationTimestamp"].clone();
}

/// Notes when a volume comes into another phase, unless who says so has noted it.
pub fn stamp_volume(new: &mut Value, old: &Value, now: &str) {
    const SINCE: &str = "lastPhaseTransitionTime";
    let (before, since) = (old["status"].get(SINCE), new["status"].get(SINCE));
    if new["status"]["phase"] != old["status"]["phase"] {
        if since.is_none_or(|since| since.is_null() || Some(since) == before) {
            new["status"][SINCE] = now.into();
        }
    } else if let (Some(before), None) = (before, since) {
        new["status"][SINCE] = before.clone();
    }
}

/// As [`create_pending`]; where the data comes from has two names, of which the older knows only two kinds.
pub fn create_claim(claim: &mut Value) {
    create_pending(claim);
    let spec = child_mut(as_map(claim), "spec");
    let old_enough = |source: &Value| {
        let (group, kind) = (meta::text(source, &["apiGroup"]), meta::text(source, &["kind"]));
        matches!((group, kind), ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot"))
    };
    if spec.get("dataSource").is_some_and(|source| !old_enough(source)) {
        spec.remove("dataSource");
    }
    match (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned()) {
        (Some(source), None) => drop(spec.insert("dataSourceRef".to_owned(), source)),
        (None, Some(source)) if old_enough(&source) && source.get("namespace").is_none() => {
            spec.insert("dataSource".to_owned(), source);
        }
        _ => {}
    }
}

/// How long a pod may still live when it is deleted: as long as the caller says, else as long as the pod
/// says; not at all when nothing of it runs. The kubelet gets one second where a negative time was asked for.
pub fn pod_grace(pod: &Value, asked: Option<i64>) -> i64 {
    let own =
        || meta::at(pod, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(30);
    let never_ran = meta::text(pod, &["spec", "nodeName"]).is_empty();
    let ended = matches!(meta::text(pod, &["status", "phase"]), "Succeeded" | "Failed");
    match asked.unwrap_or_else(own) {
        _ if never_ran || ended => 0,
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
