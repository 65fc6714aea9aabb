//! Requests and limits.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{At, NEGATIVE, dns_label};
use crate::field::{Error, Errors};
use crate::meta::items;
use crate::names;
use crate::quantity::Quantity;
use crate::quota::{self, Needs};

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

/// What a container asks for; `claims` are its pod's.
pub(super) fn of_container(at: &At<'_>, claims: &At<'_>, errors: &mut Errors) {
    requirements(at, container_resource, errors);
    claim_names(&at.get("claims"), claims, errors);
}

/// What a pod as a whole asks for (KEP-2837): no less than its containers together, and none of them is held to more.
pub(super) fn of_pod(at: &At<'_>, pod: &At<'_>, errors: &mut Errors) {
    if let Some(claims) = at.opt("claims") {
        claims.forbidden(errors, "claims cannot be set for Resources at pod-level");
    }
    requirements(at, pod_resource, errors);
    let requests = at.get("requests");
    for (name, together) in Needs::of_containers(pod.value()).requests {
        let own = requests.value().get(&name).and_then(Value::as_str);
        let amount = own.and_then(|text| Quantity::parse(text).ok());
        if amount.is_none_or(|amount| together > amount) {
            let detail =
                format!("must be greater than or equal to aggregate container requests of {together}");
            errors.push(Error::invalid(&requests.path().key(&name), own.unwrap_or("0"), detail));
        }
    }
    let limits = quota::amounts(&at.value()["limits"]);
    for (i, container) in items(pod.value(), &["containers"]).iter().enumerate() {
        for (name, limit) in quota::amounts(&container["resources"]["limits"]) {
            if let Some(most) = limits.get(&name).filter(|most| limit > **most) {
                let path = at.path().child("containers").index(i).key(&name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {most}");
                errors.push(Error::invalid(&path, limit.to_string(), detail));
            }
        }
    }
}

fn pod_resource(name: &str, at: &At<'_>, errors: &mut Errors) {
    if !matches!(name, "cpu" | "memory") && !name.starts_with(HUGE_PAGES) {
        errors.push(Error::not_supported(&at.path(), name, &["cpu", HUGE_PAGES, "memory"]));
    }
}

/// The claims to devices that a container uses: each once, or single requests of it once.
fn claim_names(at: &At<'_>, claims: &At<'_>, errors: &mut Errors) {
    let known: BTreeSet<&str> = claims.items().filter_map(|claim| claim.value()["name"].as_str()).collect();
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for claim in at.items() {
        let text = |field: &str| claim.value()[field].as_str().unwrap_or_default();
        let (name, request) = (text("name"), text("request"));
        if name.is_empty() {
            claim.required(errors, "");
            continue;
        }
        claim.get("request").rule(errors, dns_label);
        let whole = |pair: &(&str, &str)| pair.0 == name && (request.is_empty() || pair.1.is_empty());
        if seen.iter().any(whole) || seen.contains(&(name, request)) {
            let slash = if request.is_empty() || seen.contains(&(name, "")) { "" } else { "/" };
            let shown = if slash.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            errors.push(Error::duplicate(&claim.path(), shown));
        }
        seen.insert((name, request));
        if !known.contains(name) {
            let mut unknown = Error::not_found(&claim.path(), name);
            let known: Vec<&str> = known.iter().copied().collect();
            let which = if known.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", known.join(", "))
            };
            unknown.detail = format!("must be one of the names in pod.spec.resourceClaims{which}");
            errors.push(unknown);
        }
    }
}

/// Whether an amount is so many whole pages.
fn whole_pages(name: &str, amount: Quantity) -> bool {
    let page = name.strip_prefix(HUGE_PAGES).and_then(|size| Quantity::parse(size).ok());
    let size = page.filter(|size| size.is_whole()).map_or(0, Quantity::value);
    size > 0 && amount.value() % size == 0
}

/// A `ResourceRequirements`, whose resources follow a rule.
fn requirements(at: &At<'_>, named: fn(&str, &At<'_>, &mut Errors), errors: &mut Errors) {
    let (limits, requests) = (at.get("limits"), at.get("requests"));
    for (name, amount) in limits.entries().chain(requests.entries()) {
        let Ok(pages) = Quantity::parse(amount.text()) else { continue };
        if name.starts_with(HUGE_PAGES) && !whole_pages(name, pages) {
            let detail = format!("{pages} is not positive integer multiple of {name}");
            errors.push(Error::invalid(&amount.path(), pages.to_string(), detail));
        }
    }
    let mut huge = false;
    let mut computes = false;
    let mut note = |name: &str| {
        huge |= name.starts_with(HUGE_PAGES);
        computes |= matches!(name, "cpu" | "memory");
    };
    for (name, limit) in limits.entries() {
        note(name);
        named(name, &limit, errors);
        amount(name, &limit, errors);
    }
    for (name, request) in requests.entries() {
        note(name);
        named(name, &request, errors);
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
