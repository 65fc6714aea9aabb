//! Giving running containers more or less than they have (KEP-1287).
//!
//! What a pod's spec asks for is *wanted*. What the node has set aside for it is *given*: the worker, its plan and all
//! sums go by a pod whose spec says that. What the runtime has set is *actual*; the plan leads it to what is given. What
//! is given is found again after a restart in the status that the API has.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};
use tiphys_client::placement;
use tiphys_cri::v1;

use crate::cgroups;
use crate::make;
use crate::pod::{self, ContainerSpec, Role};
use crate::{admission, qos};

/// Why a pod does not get what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// `Deferred`, until others need less, or `Infeasible`.
    pub reason: &'static str,
    /// What is lacking.
    pub message: String,
}

/// Resources of the containers that can be resized, by name.
type Allocation = BTreeMap<String, ResourceRequirements>;

/// The containers whose resources may change: main ones and sidecars.
fn resizable(pod: &Pod) -> impl Iterator<Item = ContainerSpec<'_>> {
    pod::init_containers(pod).filter(|c| c.role == Role::Sidecar).chain(pod::main_containers(pod))
}

fn allocation(pod: &Pod) -> Allocation {
    resizable(pod)
        .map(|c| (c.name().to_owned(), tidy(c.spec.resources.clone().unwrap_or_default())))
        .collect()
}

/// An empty list says no more than a missing one.
fn tidy(mut resources: ResourceRequirements) -> ResourceRequirements {
    resources.requests = resources.requests.filter(|list| !list.is_empty());
    resources.limits = resources.limits.filter(|list| !list.is_empty());
    resources
}

/// A pod whose containers have these resources.
fn with(pod: &Pod, given: &Allocation) -> Pod {
    let mut pod = pod.clone();
    if let Some(spec) = &mut pod.spec {
        for c in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            if let Some(resources) = given.get(&c.name) {
                c.resources = Some(resources.clone());
            }
        }
    }
    pod
}

/// The pod with what it was given by an earlier run of the node, as its status tells; `None` if that is what it wants.
pub fn on_record(pod: &Pod) -> Option<Pod> {
    let wanted = allocation(pod);
    let statuses = pod.status.as_ref().map(|s| [&s.init_container_statuses, &s.container_statuses]);
    let mut given = wanted.clone();
    for status in statuses.into_iter().flatten().flatten().flatten() {
        if let (Some(resources), Some(actual)) = (given.get_mut(&status.name), &status.resources) {
            resources.requests.clone_from(&status.allocated_resources);
            resources.limits.clone_from(&actual.limits);
            *resources = tidy(std::mem::take(resources));
        }
    }
    (given != wanted).then(|| with(pod, &given))
}

/// Decides what a pod gets that was given `given` and now wants what `wanted` says: the pod to go by, and why that is
/// not what is wanted.
pub fn consider(
    wanted: &Arc<Pod>,
    given: &Pod,
    others: &[&Pod],
    allocatable: &BTreeMap<String, Quantity>,
) -> (Arc<Pod>, Option<Pending>) {
    let has = allocation(given);
    if allocation(wanted) == has {
        return (wanted.clone(), None);
    }
    match refusal(wanted, others, allocatable) {
        None => (wanted.clone(), None),
        pending => (Arc::new(with(wanted, &has)), pending),
    }
}

fn refusal(wanted: &Pod, others: &[&Pod], allocatable: &BTreeMap<String, Quantity>) -> Option<Pending> {
    for (name, unit) in [("memory", 1000), ("cpu", 1)] {
        let asked = qos::total(wanted, name, false).unwrap_or(0);
        let Some(have) = allocatable.get(name).and_then(placement::milli).filter(|have| asked > *have) else {
            continue;
        };
        let (asked, have) = (asked / unit, have / unit);
        let message =
            format!("Node didn't have enough capacity: {name}, requested: {asked}, capacity: {have}");
        return Some(Pending { reason: "Infeasible", message });
    }
    admission::lacking(wanted, others, allocatable)
        .map(|(_, message)| Pending { reason: "Deferred", message })
}

/// What the runtime has set for a container; nothing is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// CPU shares.
    pub shares: i64,
    /// Microseconds of CPU a period.
    pub quota: Option<i64>,
    /// Bytes of memory.
    pub memory: Option<i64>,
}

impl Actual {
    /// From the runtime's words.
    pub fn of(resources: &v1::LinuxContainerResources) -> Self {
        let limit = |value: i64| Some(value).filter(|value| *value > 0);
        Self {
            shares: resources.cpu_shares,
            quota: limit(resources.cpu_quota),
            memory: limit(resources.memory_limit_in_bytes),
        }
    }
}

/// What is to be done about a running container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has what it was given.
    Keep,
    /// Its limits are to be changed.
    Change,
    /// It is to be started anew, as its `resizePolicy` asks for what has changed.
    Restart,
}

/// Compares what a container has with what it was given.
pub fn step(pod: &Pod, c: &ContainerSpec<'_>, actual: &Actual) -> Step {
    let given = Actual::of(&make::resources(pod, c, 0));
    let cpu = given.shares != actual.shares || given.quota != actual.quota;
    let memory = given.memory != actual.memory;
    let restarts = |resource: &str| {
        let policies = c.spec.resize_policy.iter().flatten();
        let mut own = policies.filter(|p| p.resource_name == resource);
        own.any(|p| p.restart_policy == "RestartContainer")
    };
    match (cpu, memory) {
        (false, false) => Step::Keep,
        _ if cpu && restarts("cpu") || memory && restarts("memory") => Step::Restart,
        _ => Step::Change,
    }
}

/// The resources that a running container shows: what it was given where it has that, else what it has.
pub fn shown(pod: &Pod, c: &ContainerSpec<'_>, actual: &Actual) -> ResourceRequirements {
    let mut resources = c.spec.resources.clone().unwrap_or_default();
    let given = Actual::of(&make::resources(pod, c, 0));
    let put = |list: &mut Option<BTreeMap<String, Quantity>>, name: &str, value: Option<String>| {
        let Some(list) = list else { return };
        match value {
            Some(value) => drop(list.insert(name.to_owned(), Quantity(value))),
            None => drop(list.remove(name)),
        }
    };
    if given.shares != actual.shares {
        let milli = cgroups::milli_of_shares(actual.shares);
        put(&mut resources.requests, "cpu", Some(format!("{milli}m")));
    }
    if given.quota != actual.quota {
        let milli = actual.quota.map(|quota| quota.saturating_mul(1000) / cgroups::period());
        put(&mut resources.limits, "cpu", milli.map(|milli| format!("{milli}m")));
    }
    if given.memory != actual.memory {
        put(&mut resources.limits, "memory", actual.memory.map(|bytes| bytes.to_string()));
    }
    resources
}

/// What an event about a resize says behind its first words: the resources of all containers, in upstream's form.
pub fn summary(pod: &Pod, error: Option<&str>) -> String {
    let list = |containers: &mut dyn Iterator<Item = &Container>| -> Vec<Value> {
        containers.map(|c| json!({"name": c.name, "resources": c.resources})).collect()
    };
    let spec = pod::spec(pod);
    let mut whole = serde_json::Map::new();
    let init = list(&mut spec.init_containers.iter().flatten());
    if !init.is_empty() {
        whole.insert("initContainers".to_owned(), init.into());
    }
    whole.insert("containers".to_owned(), list(&mut spec.containers.iter()).into());
    whole.insert("generation".to_owned(), pod.metadata.generation.unwrap_or(0).into());
    if let Some(error) = error {
        whole.insert("error".to_owned(), error.into());
    }
    Value::Object(whole).to_string()
}

/// What a container's status says of its resources: what it was given of them, and what it has. Of a container that
/// does not run both are the same; a runtime that does not tell leaves the second open, and then nothing is resized.
pub fn tell(
    pod: &Pod,
    c: &ContainerSpec<'_>,
    running: bool,
    actual: Option<&Actual>,
    status: &mut ContainerStatus,
) {
    status.allocated_resources = c.spec.resources.as_ref().and_then(|r| r.requests.clone());
    status.resources = match (running, actual) {
        (true, actual) => actual.map(|actual| shown(pod, c, actual)),
        (false, _) => Some(c.spec.resources.clone().unwrap_or_default()),
    };
}

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
