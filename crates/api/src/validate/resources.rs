//! Requests and limits.

use super::{At, NEGATIVE};
use crate::field::{Error, Errors};
use crate::names;
use crate::quantity::Quantity;

const HUGE_PAGES: &str = "hugepages-";

/// Resources that more may be promised of than there is.
pub(super) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// Resources that Kubernetes itself counts.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_for_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with(HUGE_PAGES)
}

pub(super) fn is_standard(name: &str) -> bool {
    is_for_containers(name)
        || matches!(
            name,
            "storage"
                | "pods"
                | "services"
                | "replicationcontrollers"
                | "resourcequotas"
                | "secrets"
                | "configmaps"
                | "persistentvolumeclaims"
                | "requests.cpu"
                | "requests.memory"
                | "requests.storage"
                | "requests.ephemeral-storage"
                | "limits.cpu"
                | "limits.memory"
                | "limits.ephemeral-storage"
                | "services.nodeports"
                | "services.loadbalancers"
        )
        || name.starts_with("requests.hugepages-")
}

/// The name of a resource that a container can ask for.
pub(super) fn container_resource(name: &str, at: &At<'_>, errors: &mut Errors) {
    let mut say = |detail: &str| errors.push(Error::invalid(&at.path(), name, detail));
    let wrong = names::label_key(name);
    if !wrong.is_empty() {
        wrong.iter().for_each(|w| say(w));
    } else if !name.contains('/') {
        if !is_standard(name) {
            say("must be a standard resource type or fully qualified");
        }
        if !is_for_containers(name) {
            say("must be a standard resource for containers");
        }
    } else if !is_native(name) {
        let long = format!("requests.{name}");
        if name.starts_with("requests.") || !names::label_key(&long).is_empty() {
            say("doesn't follow extended resource name standard");
        }
    }
}

/// An amount of a resource: not negative, and whole where only whole ones exist.
pub(super) fn amount(name: &str, at: &At<'_>, errors: &mut Errors) -> Option<Quantity> {
    let quantity = Quantity::parse(at.text()).ok()?;
    if quantity.is_negative() {
        at.invalid(errors, NEGATIVE);
    }
    let counted = name.contains('/') && !is_native(name);
    if counted && !quantity.is_whole() {
        at.invalid(errors, "must be an integer");
    }
    Some(quantity)
}

/// A `ResourceRequirements`.
pub(super) fn requirements(at: &At<'_>, errors: &mut Errors) {
    let (limits, requests) = (at.get("limits"), at.get("requests"));
    let mut huge = false;
    let mut computes = false;
    let mut note = |name: &str| {
        huge |= name.starts_with(HUGE_PAGES);
        computes |= matches!(name, "cpu" | "memory");
    };
    for (name, limit) in limits.entries() {
        note(name);
        container_resource(name, &limit, errors);
        amount(name, &limit, errors);
    }
    for (name, request) in requests.entries() {
        note(name);
        container_resource(name, &request, errors);
        let Some(wanted) = amount(name, &request, errors) else { continue };
        let limit = limits.value().get(name).and_then(|l| Quantity::parse(l.as_str()?).ok());
        let mut say =
            |detail: String| errors.push(Error::invalid(&requests.path(), wanted.to_string(), detail));
        match limit {
            Some(limit) if wanted != limit && !may_overcommit(name) => {
                say(format!("must be equal to {name} limit of {limit}"));
            }
            Some(limit) if wanted > limit => {
                say(format!("must be less than or equal to {name} limit of {limit}"));
            }
            None if !may_overcommit(name) => {
                limits.required(errors, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    if huge && !computes {
        at.forbidden(errors, "HugePages require cpu or memory");
    }
}

/// A list of amounts by resource, as nodes and quotas have them.
pub(super) fn amounts(at: &At<'_>, errors: &mut Errors) {
    for (name, entry) in at.entries() {
        let wrong = names::label_key(name);
        for detail in wrong {
            errors.push(Error::invalid(&entry.path(), name, detail));
        }
        amount(name, &entry, errors);
    }
}
