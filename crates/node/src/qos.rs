//! Quality-of-service classes and what follows from them: OOM scores and a pod's sums.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tiphys_client::placement;

use crate::pod::{self, Role};

/// How a pod is treated when the node runs short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Every container has limits for cpu and memory equal to its requests.
    Guaranteed,
    /// Something is requested.
    Burstable,
    /// Nothing is requested.
    BestEffort,
}

impl QosClass {
    /// The API's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class of a pod; one that the API server has already written down is kept.
pub fn class(pod: &Pod) -> QosClass {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => QosClass::Guaranteed,
        Some("Burstable") => QosClass::Burstable,
        Some("BestEffort") => QosClass::BestEffort,
        _ => compute_class(pod),
    }
}

fn compute_class(pod: &Pod) -> QosClass {
    let spec = pod::spec(pod);
    let own =
        spec.resources.as_ref().filter(|r| amounts(r.requests.as_ref()) + amounts(r.limits.as_ref()) > 0);
    let per_container = || {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .map(|c| c.resources.clone().unwrap_or_default())
    };
    let all: Vec<ResourceRequirements> = match own {
        Some(pod_level) => vec![pod_level.clone()],
        None => per_container().collect(),
    };
    if all.iter().all(|r| amounts(r.requests.as_ref()) + amounts(r.limits.as_ref()) == 0) {
        return QosClass::BestEffort;
    }
    let guaranteed = all.iter().all(|r| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = amount(r.limits.as_ref(), name);
            let request = amount(r.requests.as_ref(), name).or(limit);
            limit.is_some_and(|l| l > 0) && limit == request
        })
    });
    if guaranteed { QosClass::Guaranteed } else { QosClass::Burstable }
}

fn amount(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    list?.get(name).and_then(placement::milli)
}

fn amounts(list: Option<&BTreeMap<String, Quantity>>) -> usize {
    ["cpu", "memory"].iter().filter(|name| amount(list, name).is_some_and(|v| v > 0)).count()
}

/// What a pod asks for and may use, in millicores and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodResources {
    /// Requested millicores.
    pub cpu_request: i64,
    /// Most millicores, if every container has a limit.
    pub cpu_limit: Option<i64>,
    /// Requested bytes.
    pub memory_request: i64,
    /// Most bytes, if every container has a limit.
    pub memory_limit: Option<i64>,
}

/// A pod's sums.
pub fn pod_resources(pod: &Pod) -> PodResources {
    let total = |name: &str, limits: bool| total(pod, name, limits);
    let cpu = |limits| total("cpu", limits);
    let memory =
        |limits| total("memory", limits).map(|m| m.div_euclid(1000) + i64::from(m.rem_euclid(1000) > 0));
    PodResources {
        cpu_request: cpu(false).unwrap_or(0),
        cpu_limit: cpu(true),
        memory_request: memory(false).unwrap_or(0),
        memory_limit: memory(true),
    }
}

/// One resource of a pod in thousandths, by [`placement::need`]. With `limits` the answer is `None` as soon as one
/// container is unlimited.
pub fn total(pod: &Pod, name: &str, limits: bool) -> Option<i64> {
    let spec = pod::spec(pod);
    let overhead = amount(spec.overhead.as_ref(), name).unwrap_or(0);
    let stated = |r: &ResourceRequirements| {
        let limit = amount(r.limits.as_ref(), name);
        if limits { limit.filter(|l| *l > 0) } else { amount(r.requests.as_ref(), name).or(limit) }
    };
    placement::need(spec, stated, overhead, (!limits).then_some(0))
}

/// The OOM score of a container: -997 for Guaranteed, 1000 for BestEffort, and between them the less, the larger
/// the share of the node's memory that it requested. A sidecar is never killed before the main containers.
pub fn oom_score_adj(pod: &Pod, container: &Container, role: Role, node_memory: i64) -> i64 {
    if pod::spec(pod).priority.unwrap_or(0) >= 2_000_001_000 {
        return -997;
    }
    match class(pod) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let spare = spare_memory(pod);
            let score = burstable_score(container, spare, node_memory);
            if role == Role::Sidecar {
                let all = pod::spec(pod).containers.iter();
                let least = all.map(|c| burstable_score(c, spare, node_memory)).min();
                score.min(least.unwrap_or(score))
            } else {
                score
            }
        }
    }
}

/// What the pod as a whole requests of memory beyond its containers, for each of them (KEP-2837), in thousandths.
fn spare_memory(pod: &Pod) -> i64 {
    let spec = pod::spec(pod);
    let Some(whole) = amount(spec.resources.as_ref().and_then(|r| r.requests.as_ref()), "memory") else {
        return 0;
    };
    let containers = PodSpec { resources: None, ..spec.clone() };
    let requested = |r: &ResourceRequirements| amount(r.requests.as_ref(), "memory");
    let stated = placement::need(&containers, requested, 0, Some(0)).unwrap_or(0);
    let count = spec.containers.len() + spec.init_containers.as_ref().map_or(0, Vec::len);
    whole.saturating_sub(stated).max(0) / i64::try_from(count.max(1)).unwrap_or(1)
}

fn burstable_score(container: &Container, spare: i64, node_memory: i64) -> i64 {
    let resources = container.resources.as_ref();
    let request =
        resources.and_then(|r| amount(r.requests.as_ref(), "memory").or(amount(r.limits.as_ref(), "memory")));
    let request = (i128::from(request.unwrap_or(0)) + i128::from(spare)) / 1000;
    let score = 1000 - (1000 * request / i128::from(node_memory.max(1)));
    i64::try_from(score.clamp(3, 999)).unwrap_or(999)
}

#[cfg(test)]
#[path = "qos_tests.rs"]
mod tests;
