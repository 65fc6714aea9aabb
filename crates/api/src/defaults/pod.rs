//! Pods and the templates that others make pods from.

use serde_json::{Map, Value, json};

use super::Fill::{Bool, Empty, Int, Text};
use super::{each, fill, object, spec};
use crate::meta::{as_map, child_mut};
use crate::quantity::Quantity;

/// The mode of files in volumes: 0644.
const FILE_MODE: i64 = 0o644;

/// A Pod's own defaults: those of its spec, and those that only a Pod gets and a template does not.
pub fn pod(_version: &str, pod: &mut Value) {
    let spec = spec(pod);
    fill(spec, &[("enableServiceLinks", Bool(true))]);
    pod_spec(spec);
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for kind in ["containers", "initContainers"] {
        for container in each(spec, kind) {
            requests_from_limits(container);
            for port in each(container, "ports").filter(|_| host_network) {
                if let (None, Some(number)) = (port.get("hostPort"), port.get("containerPort").cloned()) {
                    port.insert("hostPort".to_owned(), number);
                }
            }
        }
    }
    if let Some(status) = object(as_map(pod), "status") {
        addresses(status);
    }
}

/// A pod's first address has a field of its own, which is believed where both are there.
fn addresses(status: &mut Map<String, Value>) {
    let one = status.get("podIP").and_then(Value::as_str).filter(|ip| !ip.is_empty());
    let first = status.get("podIPs").and_then(|all| all.get(0)?.get("ip")).and_then(Value::as_str);
    match (one.map(str::to_owned), first.map(str::to_owned)) {
        (Some(one), first) if first.as_ref() != Some(&one) => {
            status.insert("podIPs".to_owned(), json!([{"ip": one}]));
        }
        (None, Some(first)) => drop(status.insert("podIP".to_owned(), first.into())),
        _ => {}
    }
}

/// A limit without a request requests the limit.
fn requests_from_limits(container: &mut Map<String, Value>) {
    let Some(resources) = object(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let requests = child_mut(resources, "requests");
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

/// A PodTemplate, which is a template and nothing else.
pub fn pod_template_object(_version: &str, object: &mut Value) {
    pod_template(as_map(object));
}

/// The `template` of a workload.
pub fn pod_template(spec: &mut Map<String, Value>) {
    if let Some(template) = object(spec, "template") {
        pod_spec(child_mut(template, "spec"));
    }
}

fn pod_spec(spec: &mut Map<String, Value>) {
    fill(
        spec,
        &[
            ("dnsPolicy", Text("ClusterFirst")),
            ("restartPolicy", Text("Always")),
            ("schedulerName", Text("default-scheduler")),
            ("securityContext", Empty),
            ("terminationGracePeriodSeconds", Int(30)),
        ],
    );
    // The older name of the field stays for older clients.
    match (spec.get("serviceAccountName").cloned(), spec.get("serviceAccount").cloned()) {
        (Some(name), _) => drop(spec.insert("serviceAccount".to_owned(), name)),
        (None, Some(name)) => drop(spec.insert("serviceAccountName".to_owned(), name)),
        (None, None) => {}
    }
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, kind).for_each(container);
    }
    each(spec, "volumes").for_each(volume);
}

fn container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let pull = if is_latest(image) { "Always" } else { "IfNotPresent" };
    fill(
        container,
        &[
            ("imagePullPolicy", Text(pull)),
            ("terminationMessagePath", Text("/dev/termination-log")),
            ("terminationMessagePolicy", Text("File")),
        ],
    );
    for port in each(container, "ports") {
        fill(port, &[("protocol", Text("TCP"))]);
    }
    for env in each(container, "env") {
        if let Some(reference) = object(env, "valueFrom").and_then(|f| object(f, "fieldRef")) {
            fill(reference, &[("apiVersion", Text("v1"))]);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object(container, name) {
            fill(
                probe,
                &[
                    ("timeoutSeconds", Int(1)),
                    ("periodSeconds", Int(10)),
                    ("successThreshold", Int(1)),
                    ("failureThreshold", Int(3)),
                ],
            );
            handler(probe);
        }
    }
    if let Some(lifecycle) = object(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = object(lifecycle, hook) {
                handler(hook);
            }
        }
    }
}

fn handler(handler: &mut Map<String, Value>) {
    if let Some(get) = object(handler, "httpGet") {
        fill(get, &[("path", Text("/")), ("scheme", Text("HTTP"))]);
    }
    if let Some(grpc) = object(handler, "grpc") {
        fill(grpc, &[("service", Text(""))]);
    }
}

/// Whether an image means whatever is newest: no tag and no digest, or the tag `latest`.
fn is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or_default();
    match (image.contains('@'), name.split('@').next().unwrap_or_default().split_once(':')) {
        (_, Some((_, tag))) => tag == "latest",
        (digest, None) => !digest && !image.is_empty(),
    }
}

fn volume(volume: &mut Map<String, Value>) {
    if volume.keys().all(|k| k == "name") {
        fill(volume, &[("emptyDir", Empty)]);
    }
    for name in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = object(volume, name) {
            fill(source, &[("defaultMode", Int(FILE_MODE))]);
        }
    }
    if let Some(source) = object(volume, "hostPath") {
        fill(source, &[("type", Text(""))]);
    }
    if let Some(source) = object(volume, "downwardAPI") {
        downward_items(source);
    }
    if let Some(projected) = object(volume, "projected") {
        for source in each(projected, "sources") {
            if let Some(token) = object(source, "serviceAccountToken") {
                fill(token, &[("expirationSeconds", Int(60 * 60))]);
            }
            if let Some(downward) = object(source, "downwardAPI") {
                downward_items(downward);
            }
        }
    }
    if let Some(claim) = object(volume, "ephemeral").and_then(|e| object(e, "volumeClaimTemplate")) {
        fill(child_mut(claim, "spec"), &[("volumeMode", Text("Filesystem"))]);
    }
    if let Some(source) = object(volume, "iscsi") {
        fill(source, &[("iscsiInterface", Text("default"))]);
    }
    if let Some(source) = object(volume, "rbd") {
        let keyring = Text("/etc/ceph/keyring");
        fill(source, &[("pool", Text("rbd")), ("user", Text("admin")), ("keyring", keyring)]);
    }
    if let Some(source) = object(volume, "azureDisk") {
        let (cache, kind) = (Text("ReadWrite"), Text("Shared"));
        let rest = [("fsType", Text("ext4")), ("readOnly", Bool(false))];
        fill(source, &[("cachingMode", cache), ("kind", kind)]);
        fill(source, &rest);
    }
    if let Some(source) = object(volume, "scaleIO") {
        fill(source, &[("storageMode", Text("ThinProvisioned")), ("fsType", Text("xfs"))]);
    }
}

fn downward_items(source: &mut Map<String, Value>) {
    for item in each(source, "items") {
        if let Some(reference) = object(item, "fieldRef") {
            fill(reference, &[("apiVersion", Text("v1"))]);
        }
    }
}

/// How well a pod is served when a node runs short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    /// As `status.qosClass` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class of a pod spec: guaranteed when every container limits CPU and memory to what it requests,
/// best effort when none asks for anything.
pub fn qos(spec: &Value) -> Qos {
    let amount = |resources: &Value, list: &str, name: &str| {
        let text = resources[list][name].as_str()?;
        Quantity::parse(text).ok().filter(|q| *q > Quantity::ZERO)
    };
    let of_containers = |field: &str| spec[field].as_array().map(Vec::as_slice).unwrap_or_default();
    let (own, init) = match spec["resources"].is_object() {
        true => (std::slice::from_ref(spec), [].as_slice()),
        false => (of_containers("containers"), of_containers("initContainers")),
    };
    let (mut asks, mut guaranteed) = (false, !own.is_empty() || !init.is_empty());
    for container in own.iter().chain(init) {
        for name in ["cpu", "memory"] {
            let request = amount(&container["resources"], "requests", name);
            let limit = amount(&container["resources"], "limits", name);
            asks |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    }
    match (asks, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}
