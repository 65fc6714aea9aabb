//! What a pod uses, and which scopes it is in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::devices::BY_CLASS;
use super::{Amounts, Scope, add, amounts, one};
use crate::quantity::Quantity;
use crate::{defaults, meta};

pub(super) const REQUESTS: &str = "requests.";
const HUGE_PAGES: &str = "hugepages-";

/// What a container must ask for where a quota bounds it.
const MUST_ASK: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// Resources that Kubernetes itself counts; devices by their class are none of them.
pub(super) fn is_native(name: &str) -> bool {
    let name = name.strip_prefix(REQUESTS).unwrap_or(name);
    !name.starts_with(BY_CLASS) && (!name.contains('/') || name.contains("kubernetes.io/"))
}

/// Whether a pod asks for such a resource in whole numbers, of which only drivers and plug-ins of devices know.
pub fn is_extended(name: &str) -> bool {
    !name.starts_with(REQUESTS) && !is_native(name)
}

pub(super) fn tracks(name: &str) -> bool {
    MUST_ASK.contains(&name)
        || matches!(
            name,
            "pods" | "ephemeral-storage" | "requests.ephemeral-storage" | "limits.ephemeral-storage"
        )
        || name.starts_with(HUGE_PAGES)
        || name.strip_prefix(REQUESTS).is_some_and(|rest| rest.starts_with(HUGE_PAGES))
        || (!is_native(name) && name.starts_with(REQUESTS))
}

/// What a container, a pod or a claim asks for and is held to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub requests: Amounts,
    pub limits: Amounts,
}

fn raise(a: &mut Amounts, b: &Amounts) {
    for (name, amount) in b {
        let at = a.entry(name.clone()).or_insert(*amount);
        *at = (*at).max(*amount);
    }
}

impl Needs {
    /// What stands in `resources`: a container's, a pod's own, a claim's.
    pub fn of(holder: &Value) -> Self {
        let resources = &holder["resources"];
        Self { requests: amounts(&resources["requests"]), limits: amounts(&resources["limits"]) }
    }

    /// What the containers of a pod's spec need, whatever the spec itself says.
    pub fn of_containers(spec: &Value) -> Self {
        Self::side_by_side(spec, Self::of)
    }

    /// A pod's, as its spec declares them: what runs together, or what an init container needs beside the sidecars
    /// before it, if that is more; what the pod itself says goes over both.
    pub fn declared(pod: &Value) -> Self {
        Self::together(pod, Self::of)
    }

    fn both(&mut self, other: &Self, with: fn(&mut Amounts, &Amounts)) {
        with(&mut self.requests, &other.requests);
        with(&mut self.limits, &other.limits);
    }

    fn together(pod: &Value, of: impl Fn(&Value) -> Self) -> Self {
        let mut together = Self::side_by_side(&pod["spec"], of);
        let own = Self::of(&pod["spec"]);
        together.requests.extend(own.requests);
        together.limits.extend(own.limits);
        together
    }

    fn side_by_side(spec: &Value, of: impl Fn(&Value) -> Self) -> Self {
        let (mut together, mut sidecars, mut first) = (Self::default(), Self::default(), Self::default());
        for container in meta::items(spec, &["containers"]) {
            together.both(&of(container), add);
        }
        for container in meta::items(spec, &["initContainers"]) {
            let mut needs = Self::of(container);
            if container["restartPolicy"] == "Always" {
                together.both(&needs, add);
                sidecars.both(&needs, add);
                first.both(&sidecars, raise);
            } else {
                needs.both(&sidecars, add);
                first.both(&needs, raise);
            }
        }
        together.both(&first, raise);
        together
    }

    /// What a pod takes of its namespace: while a resize is under way the larger of what is and what shall be, and
    /// the overhead of its runtime.
    fn taken(pod: &Value) -> Self {
        let given = given_of(pod);
        let mut taken = Self::together(pod, |container| {
            let mut needs = Self::of(container);
            if let Some(status) = given.get(meta::text(container, &["name"])) {
                raise(&mut needs.requests, &amounts(&status["allocatedResources"]));
                needs.both(&Self::of(status), raise);
            }
            needs
        });
        let overhead = amounts(&pod["spec"]["overhead"]);
        add(&mut taken.requests, &overhead);
        for (name, amount) in overhead {
            if let Some(limit) = taken.limits.get_mut(&name).filter(|limit| !limit.is_zero()) {
                *limit = *limit + amount;
            }
        }
        taken
    }

    /// Under the names that quotas have for them.
    fn named(&self) -> Amounts {
        let mut named = Amounts::from([("pods".to_owned(), one())]);
        let mut put = |name: String, amount: Quantity| {
            named.insert(name, amount);
        };
        for (name, amount) in &self.requests {
            let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
                || name.starts_with(HUGE_PAGES);
            if plain {
                put(name.clone(), *amount);
            }
            if plain || !is_native(name) {
                put(format!("{REQUESTS}{name}"), *amount);
            }
        }
        for name in ["cpu", "memory", "ephemeral-storage"] {
            if let Some(amount) = self.limits.get(name) {
                put(format!("limits.{name}"), *amount);
            }
        }
        named
    }
}

/// The statuses of the pod's containers, by name.
fn given_of(pod: &Value) -> BTreeMap<&str, &Value> {
    let all = meta::items(pod, &["status", "containerStatuses"]);
    all.iter().map(|status| (meta::text(status, &["name"]), status)).collect()
}

pub(super) fn usage(pod: &Value) -> Amounts {
    Needs::taken(pod).named()
}

/// What containers leave unsaid that a quota with these bounds wants said: `limits.cpu for: a,b; memory for: b`. Where
/// the pod speaks for all of them, nothing.
pub(super) fn lacking(pod: &Value, tracked: &[&str]) -> Option<String> {
    let wanted: Vec<&str> = tracked.iter().copied().filter(|name| MUST_ASK.contains(name)).collect();
    if wanted.is_empty() || Needs::of(&pod["spec"]) != Needs::default() {
        return None;
    }
    let mut lacking: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for list in ["containers", "initContainers"] {
        for container in meta::items(pod, &["spec", list]) {
            let says = Needs::of(container).named();
            for name in wanted.iter().filter(|name| !says.contains_key(**name)) {
                lacking.entry(name).or_default().insert(meta::text(container, &["name"]));
            }
        }
    }
    let told = lacking.iter().map(|(name, containers)| {
        let containers: Vec<&str> = containers.iter().copied().collect();
        format!("{name} for: {}", containers.join(","))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Whether the pod looks at pods of other namespaces to find its place.
fn looks_across_namespaces(pod: &Value) -> bool {
    let across = |term: &Value| {
        !meta::items(term, &["namespaces"]).is_empty() || term["namespaceSelector"].is_object()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let terms = |list| meta::items(&pod["spec"]["affinity"][*kind], &[list]).iter();
        terms("requiredDuringSchedulingIgnoredDuringExecution").any(across)
            || terms("preferredDuringSchedulingIgnoredDuringExecution").any(|t| across(&t["podAffinityTerm"]))
    })
}

/// Whether the pod runs for a bounded time.
pub(super) fn ends(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0)
}

pub(super) fn is_in(scope: &Scope, pod: &Value) -> bool {
    let best_effort = || match meta::text(pod, &["status", "qosClass"]) {
        "" => defaults::qos(&pod["spec"]) == defaults::Qos::BestEffort,
        class => class == "BestEffort",
    };
    match scope.name.as_str() {
        "Terminating" => ends(pod),
        "NotTerminating" => !ends(pod),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let class = meta::text(pod, &["spec", "priorityClassName"]);
            scope.selects(if class.is_empty() { &[] } else { std::slice::from_ref(&class) })
        }
        "CrossNamespacePodAffinity" => looks_across_namespaces(pod),
        _ => false,
    }
}
