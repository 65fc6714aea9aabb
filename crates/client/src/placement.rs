//! Which node may take a pod, and how much of it the pod needs: the rules that the scheduler, the node itself and
//! the controllers must read alike. Pure functions of typed objects.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec,
    ResourceRequirements, Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Thousandths, rounded away from zero; `None` for text that is no quantity.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    tiphys_api::quantity::Quantity::parse(&quantity.0).ok().map(tiphys_api::quantity::Quantity::milli)
}

/// Whole units (bytes, say), rounded away from zero; `None` for text that is no quantity.
pub fn units(quantity: &Quantity) -> Option<i64> {
    tiphys_api::quantity::Quantity::parse(&quantity.0).ok().map(tiphys_api::quantity::Quantity::value)
}

/// Whether the toleration covers the taint, as the API reference defines it for `Toleration`.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    fn text(field: &Option<String>) -> &str {
        field.as_deref().unwrap_or_default()
    }
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    let (ours, theirs) = (text(&toleration.value), text(&taint.value));
    match text(&toleration.operator) {
        "" | "Equal" => ours == theirs,
        "Exists" => true,
        // Both must be integers (KEP-5471).
        "Lt" => theirs.parse::<i64>().is_ok_and(|t| ours.parse::<i64>().is_ok_and(|o| t < o)),
        "Gt" => theirs.parse::<i64>().is_ok_and(|t| ours.parse::<i64>().is_ok_and(|o| t > o)),
        _ => false,
    }
}

/// Whether one of the tolerations covers the taint.
pub fn any_tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| tolerates(t, taint))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |wanted: fn(&i64, &i64) -> bool| {
        let bound = values.first().and_then(|v| number(v));
        value.and_then(number).zip(bound).is_some_and(|(have, bound)| wanted(&have, &bound))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.iter().any(|w| w == v)),
        "NotIn" => value.is_none_or(|v| values.iter().all(|w| w != v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

/// Whether the node of this name and these labels is one that the term describes. A term with neither expressions
/// nor fields describes none.
pub fn term_matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|r| holds(r, labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| holds(r, (r.key == "metadata.name").then_some(name)))
}

/// Whether one of the selector's terms describes the node.
pub fn selector_matches(selector: &NodeSelector, name: &str, labels: &BTreeMap<String, String>) -> bool {
    selector.node_selector_terms.iter().any(|t| term_matches(t, name, labels))
}

/// The init containers that run on beside the main ones (KEP-753).
pub fn sidecars(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().filter(|c| is_sidecar(c))
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The ports of all containers that serve while the pod runs.
pub fn ports(spec: &PodSpec) -> impl Iterator<Item = &ContainerPort> {
    spec.containers.iter().chain(sidecars(spec)).flat_map(|c| c.ports.iter().flatten())
}

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// On which of the node's addresses; empty for all.
    pub ip: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// The number.
    pub port: i32,
}

impl HostPort {
    /// All that the pod takes.
    pub fn of(spec: &PodSpec) -> impl Iterator<Item = Self> {
        ports(spec).filter_map(|p| {
            Some(Self {
                ip: p.host_ip.as_deref().unwrap_or_default().into(),
                protocol: p.protocol.as_deref().unwrap_or("TCP").into(),
                port: p.host_port.filter(|p| *p > 0)?,
            })
        })
    }

    /// Whether both cannot be had: the wildcard address takes the port on every address.
    pub fn clashes(&self, other: &Self) -> bool {
        const ANY: [&str; 3] = ["", "0.0.0.0", "::"];
        let any = |p: &Self| ANY.contains(&&*p.ip);
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(self) || any(other))
    }
}

/// How much of one resource a pod needs at its worst moment: its containers and sidecars together, or one init
/// container beside the sidecars started before it (KEP-753), and its overhead. What is stated for the pod as a
/// whole takes the place of its containers' (KEP-2837).
///
/// `stated` reads the amount from what the pod or a container states, `None` where nothing is; `overhead` is the
/// amount that the pod itself costs. With `missing` as `None` the answer is `None` as soon as one container states
/// nothing, as it must be for limits; otherwise such a container counts as that.
pub fn need(
    spec: &PodSpec,
    stated: impl Fn(&ResourceRequirements) -> Option<i64>,
    overhead: i64,
    missing: Option<i64>,
) -> Option<i64> {
    if let Some(whole) = spec.resources.as_ref().and_then(&stated) {
        return Some(whole.saturating_add(overhead));
    }
    let of = |c: &Container| c.resources.as_ref().and_then(&stated).or(missing);
    let (mut beside, mut starting) = (0_i64, 0_i64);
    for container in spec.init_containers.iter().flatten() {
        let now = of(container)?.saturating_add(beside);
        if is_sidecar(container) {
            beside = now;
        }
        starting = starting.max(now);
    }
    let mut running = beside;
    for container in &spec.containers {
        running = running.saturating_add(of(container)?);
    }
    Some(running.max(starting).saturating_add(overhead))
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
