//! Policies of the network, classes of ingresses, and who holds which address.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use super::{At, dns_label, dns_subdomain, label_selector, scheduling, service};
use crate::field::{Error, Errors};
use crate::meta;
use crate::names;

const MAX_CONTROLLER: usize = 250;

pub(crate) fn policy(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    label_selector(&spec.get("podSelector"), &mut errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(direction).items() {
            rule.get("ports").items().for_each(|p| policy_port(&p, &mut errors));
            rule.get(peers).items().for_each(|p| peer(&p, &mut errors));
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > 2 {
        types.invalid(&mut errors, "may not specify more than two policyTypes");
        return errors;
    }
    types.items().for_each(|t| t.one_of(&mut errors, &["Ingress", "Egress"]));
    errors
}

pub(crate) fn policy_update(new: &Value, _old: &Value) -> Errors {
    policy(new)
}

fn policy_port(at: &At<'_>, errors: &mut Errors) {
    at.opt("protocol").inspect(|p| p.one_of(errors, &["TCP", "UDP", "SCTP"]));
    let (port, end) = (at.opt("port"), at.opt("endPort"));
    port.inspect(|p| p.port(errors));
    let Some(end) = end else { return };
    match port.map(|p| p.number()) {
        None => end.invalid(errors, "may not be specified when `port` is not specified"),
        Some(None) => end.invalid(errors, "may not be specified when `port` is non-numeric"),
        Some(Some(first)) => {
            let last = end.number().unwrap_or(0);
            if last < first {
                errors.push(Error::invalid(&end.path(), first, "must be greater than or equal to `port`"));
            }
            end.all_invalid(errors, names::port(last));
        }
    }
}

fn peer(at: &At<'_>, errors: &mut Errors) {
    let selectors = ["podSelector", "namespaceSelector"].map(|field| at.opt(field));
    for selector in selectors.iter().flatten() {
        label_selector(selector, errors);
    }
    let selected = selectors.iter().flatten().count();
    match at.opt("ipBlock") {
        Some(block) => {
            ip_block(&block, errors);
            if selected > 0 {
                at.forbidden(errors, "may not specify both ipBlock and another peer");
            }
        }
        None if selected == 0 => at.required(errors, "must specify a peer"),
        None => {}
    }
}

fn ip_block(block: &At<'_>, errors: &mut Errors) {
    let whole = block.get("cidr");
    if whole.needed(errors).is_none() {
        return;
    }
    service::cidr(&whole, errors);
    let Some(range) = Range::parse(whole.text()) else { return };
    for part in block.get("except").items() {
        service::cidr(&part, errors);
        let Some(inner) = Range::parse(part.text()) else { return };
        if !range.strictly_holds(&inner) {
            part.invalid(errors, "must be a strict subset of `cidr`");
        }
    }
}

/// A range of addresses.
struct Range {
    address: IpAddr,
    bits: u32,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        Some(Self { address: address.parse().ok()?, bits: bits.parse().ok()? })
    }

    fn is_v4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// The leading bits that all addresses of the range share.
    fn network(&self, bits: u32) -> u128 {
        let (number, width) = match self.address {
            IpAddr::V4(four) => (u128::from(u32::from(four)), 32),
            IpAddr::V6(six) => (u128::from(six), 128),
        };
        number.checked_shr(width - bits.min(width)).unwrap_or(0)
    }

    fn strictly_holds(&self, inner: &Self) -> bool {
        self.is_v4() == inner.is_v4()
            && self.bits < inner.bits
            && self.network(self.bits) == inner.network(self.bits)
    }
}

pub(crate) fn ingress_class(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    let controller = spec.get("controller");
    if controller.text().len() > MAX_CONTROLLER {
        errors.push(Error::too_long(&controller.path(), MAX_CONTROLLER));
    }
    if let Some(text) = controller.needed(&mut errors) {
        match text.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty()) {
            None => {
                controller.invalid(&mut errors, "must be a domain-prefixed path (such as \"acme.io/foo\")")
            }
            Some((host, _)) => {
                for wrong in dns_subdomain(host) {
                    errors.push(Error::invalid(&controller.path(), host, wrong));
                }
            }
        }
    }
    if let Some(parameters) = spec.opt("parameters") {
        class_parameters(&parameters, &mut errors);
    }
    errors
}

fn class_parameters(parameters: &At<'_>, errors: &mut Errors) {
    parameters.get("apiGroup").rule(errors, dns_subdomain);
    for (field, needed) in [("kind", "kind is required"), ("name", "name is required")] {
        let at = parameters.get(field);
        if at.text().is_empty() {
            at.required(errors, needed);
        }
        at.rule(errors, |text| names::path_segment(text, false));
    }
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    scope.needed_of(errors, &["Cluster", "Namespace"]);
    match (scope.text(), namespace.value().is_null()) {
        ("Cluster", false) => namespace.forbidden(errors, "`parameters.scope` is set to 'Cluster'"),
        ("Namespace", true) => namespace.required(errors, "`parameters.scope` is set to 'Namespace'"),
        ("Namespace", false) => namespace.all_invalid(errors, dns_label(namespace.text())),
        _ => {}
    }
}

pub(crate) fn ingress_class_update(new: &Value, old: &Value) -> Errors {
    let root = At::root(new);
    let mut errors = Vec::new();
    root.get("spec").get("controller").unchanged(&mut errors, &old["spec"]["controller"]);
    errors.extend(ingress_class(new));
    errors
}

pub(crate) fn ip_address(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    let Some(parent) = spec.opt("parentRef") else {
        spec.get("parentRef").required(&mut errors, "");
        return errors;
    };
    parent.get("group").rule(&mut errors, dns_subdomain);
    let segment = |text: &str| names::path_segment(text, false);
    parent.get("resource").needed_as(&mut errors, segment);
    parent.get("name").needed_as(&mut errors, segment);
    parent.get("namespace").rule(&mut errors, segment);
    errors
}

pub(crate) fn ip_address_update(new: &Value, old: &Value) -> Errors {
    let root = At::root(new);
    let mut errors = Vec::new();
    root.get("spec").get("parentRef").unchanged(&mut errors, &old["spec"]["parentRef"]);
    errors
}

/// The object that an address is held by is named after the address, in the one way to write it.
pub(crate) fn address_name(name: &str, _prefix: bool) -> Vec<String> {
    match name.parse::<IpAddr>() {
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
        Ok(address) if address.to_string() != name => {
            vec![format!("must be in canonical form (\"{address}\")")]
        }
        Ok(_) => Vec::new(),
    }
}

pub(crate) fn service_cidr(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    let cidrs = spec.get("cidrs");
    if cidrs.len() == 0 {
        cidrs.required(&mut errors, "at least one CIDR required");
        return errors;
    }
    let mut wrong = |detail: &str| {
        errors.push(Error::invalid(&cidrs.path(), spec.value().clone(), detail));
    };
    if cidrs.len() > 2 {
        wrong("may only hold up to 2 values");
        return errors;
    }
    let ranges: Vec<_> = cidrs.items().filter_map(|c| Range::parse(c.text())).collect();
    if cidrs.len() == 2 && !matches!(&ranges[..], [a, b] if a.is_v4() != b.is_v4()) {
        wrong("may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96");
    }
    cidrs.items().for_each(|c| service::cidr(&c, &mut errors));
    errors
}

/// A range stays; one of the other family may come to it.
pub(crate) fn service_cidr_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(new);
    let spec = root.get("spec");
    let cidrs = spec.get("cidrs");
    let was = meta::items(old, &["spec", "cidrs"]);
    match (was.len(), cidrs.len()) {
        (before, now) if before == now || (before == 1 && now == 2) => {
            for (cidr, was) in cidrs.items().zip(was) {
                cidr.unchanged(&mut errors, was);
            }
            if before != now {
                errors.extend(service_cidr(new));
            }
        }
        _ => errors.push(meta::immutable(&cidrs.path(), cidrs.value().clone())),
    }
    errors
}

pub(crate) fn runtime_class(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let handler = root.get("handler");
    handler.needed_as(&mut errors, dns_label);
    let overhead = root.get("overhead");
    super::resources::amounts(&overhead.get("podFixed"), &mut errors);
    let scheduling = root.get("scheduling");
    scheduling.get("nodeSelector").labels(&mut errors);
    let tolerations = scheduling.get("tolerations");
    scheduling::tolerations(&tolerations, &mut errors);
    let mut seen = HashSet::new();
    for toleration in tolerations.items().filter(|toleration| !seen.insert(toleration.value())) {
        toleration.duplicate(&mut errors);
    }
    errors
}

pub(crate) fn runtime_class_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    At::root(new).get("handler").unchanged(&mut errors, &old["handler"]);
    errors
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
