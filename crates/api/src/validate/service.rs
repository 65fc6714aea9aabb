//! Services, their endpoints, and the ingresses that lead to them.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::{At, PROTOCOLS, dns_label, dns_subdomain};
use crate::field::{Error, Errors, Path};
use crate::meta::items;
use crate::names;

/// The longest that a client sticks to an endpoint.
const MAX_AFFINITY_SECONDS: i64 = 86_400;

pub(crate) fn service(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    let kind = spec.get("type");
    let headless = items(spec.value(), &["clusterIPs"]) == [json!("None")];
    let ports = spec.get("ports");
    if ports.len() == 0 && !headless && kind.text() != "ExternalName" {
        ports.required(&mut errors, "");
    }
    by_type(&spec, headless, &mut errors);
    service_ports(&spec, &mut errors);
    spec.get("selector").labels(&mut errors);
    affinity(&spec, &mut errors);
    if kind.text() != "ExternalName" {
        addresses(&spec, headless, &mut errors);
    }
    for ip in spec.get("externalIPs").items() {
        endpoint_address(&ip, &mut errors);
    }
    kind.needed_of(&mut errors, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    traffic(&spec, &mut errors);
    ranges(&root, &mut errors);
    errors
}

fn by_type(spec: &At<'_>, headless: bool, errors: &mut Errors) {
    let kind = spec.get("type").text();
    let first = || spec.path().child("clusterIPs").index(0);
    match kind {
        "LoadBalancer" if headless => {
            let detail = "may not be set to 'None' for LoadBalancer services";
            errors.push(Error::invalid(&first(), "None", detail));
        }
        "NodePort" if headless => {
            errors.push(Error::invalid(&first(), "None", "may not be set to 'None' for NodePort services"));
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if let Some(set) = spec.opt(field) {
                    set.forbidden(errors, "may not be set for ExternalName services");
                }
            }
            let name = spec.get("externalName");
            match name.text().strip_suffix('.').unwrap_or(name.text()) {
                "" => name.required(errors, ""),
                bare => name.all_invalid(errors, dns_subdomain(bare)),
            }
        }
        _ => {}
    }
}

fn service_ports(spec: &At<'_>, errors: &mut Errors) {
    let ports = spec.get("ports");
    let cluster_only = spec.get("type").text() == "ClusterIP";
    let (mut seen, mut node_ports, mut numbers) = (HashSet::new(), HashSet::new(), HashSet::new());
    for port in ports.items() {
        let name = port.get("name");
        if ports.len() > 1 && name.text().is_empty() {
            name.required(errors, "");
        }
        name.rule(errors, dns_label);
        if !name.text().is_empty() && !seen.insert(name.text().to_owned()) {
            name.duplicate(errors);
        }
        let number = port.get("port");
        let value = number.number().unwrap_or(0);
        for detail in names::port(value) {
            errors.push(Error::invalid(&number.path(), value, detail));
        }
        let protocol = port.get("protocol");
        protocol.needed_of(errors, PROTOCOLS);
        port.get("targetPort").port(errors);
        if let Some(application) = port.opt("appProtocol") {
            application.all_invalid(errors, names::label_key(application.text()));
        }
        if let Some(node) = port.opt("nodePort") {
            if cluster_only {
                node.forbidden(errors, "may not be used when `type` is 'ClusterIP'");
            }
            if !node_ports.insert((protocol.text().to_owned(), node.number())) {
                node.duplicate(errors);
            }
        }
        if !numbers.insert((protocol.text().to_owned(), value)) {
            let pair = json!({"port": value, "protocol": protocol.text()});
            errors.push(Error::duplicate(&port.path(), pair));
        }
    }
}

fn affinity(spec: &At<'_>, errors: &mut Errors) {
    let kind = spec.get("sessionAffinity");
    kind.needed_of(errors, &["ClientIP", "None"]);
    let config = spec.get("sessionAffinityConfig");
    match (kind.text(), config.value().is_null()) {
        ("None", false) => config.forbidden(errors, "must not be set when session affinity is None"),
        ("ClientIP", true) => config.required(errors, "when session affinity type is ClientIP"),
        ("ClientIP", false) => {
            let client = config.get("clientIP");
            let seconds = client.get("timeoutSeconds");
            match seconds.number() {
                None => seconds.required(errors, "when session affinity type is ClientIP"),
                Some(1..=MAX_AFFINITY_SECONDS) => {}
                Some(_) => {
                    let detail = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                    seconds.invalid(errors, detail);
                }
            }
        }
        _ => {}
    }
}

fn family_of(address: &str) -> Option<&'static str> {
    match address.parse().ok()? {
        IpAddr::V4(_) => Some("IPv4"),
        IpAddr::V6(_) => Some("IPv6"),
    }
}

fn addresses(spec: &At<'_>, headless: bool, errors: &mut Errors) {
    let (one, all) = (spec.get("clusterIP"), spec.get("clusterIPs"));
    let listed = items(spec.value(), &["clusterIPs"]);
    match (one.text(), listed.first().and_then(Value::as_str)) {
        ("", Some(_)) => all.invalid(errors, "must be empty when clusterIP is empty"),
        ("", None) => {}
        (_, None) => all.required(errors, ""),
        (ip, Some(first)) if ip != first => all.invalid(errors, "first value must match `clusterIP`"),
        _ => {}
    }
    let families = spec.get("ipFamilies");
    let mut seen = HashSet::new();
    for family in families.items() {
        family.one_of(errors, &["IPv4", "IPv6"]);
        if !seen.insert(family.text().to_owned()) {
            family.duplicate(errors);
        }
    }
    if let Some(policy) = spec.opt("ipFamilyPolicy") {
        policy.one_of(errors, &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    }
    let before = errors.len();
    for (i, ip) in all.items().enumerate() {
        if i == 0 && ip.text() == "None" {
            if all.len() > 1 {
                all.invalid(errors, "'None' must be the first and only value");
            }
        } else {
            ip.address(errors);
        }
    }
    if all.len() > 2 {
        all.invalid(errors, "may only hold up to 2 values");
    }
    if errors.len() > before || headless {
        return;
    }
    let found: Vec<Option<&str>> = all.items().map(|ip| family_of(ip.text())).collect();
    if found.len() == 2 && found[0] == found[1] {
        all.invalid(errors, "may specify no more than one IP for each IP family");
    }
    for (i, (ip, family)) in all.items().zip(families.items()).enumerate() {
        if family_of(ip.text()) != Some(family.text()) {
            ip.invalid(
                errors,
                format!("expected an {} value as indicated by `ipFamilies[{i}]`", family.text()),
            );
        }
    }
}

fn traffic(spec: &At<'_>, errors: &mut Errors) {
    let kind = spec.get("type").text();
    let external_kind = matches!(kind, "LoadBalancer" | "NodePort") || spec.get("externalIPs").len() > 0;
    let outer = spec.get("externalTrafficPolicy");
    match (external_kind, outer.text()) {
        (true, "") => outer.required(errors, ""),
        (true, _) => outer.one_of(errors, &["Cluster", "Local"]),
        (false, "") => {}
        (false, _) => outer.invalid(errors, "may only be set for externally-accessible services"),
    }
    let inner = spec.get("internalTrafficPolicy");
    if !inner.text().is_empty() {
        inner.one_of(errors, &["Cluster", "Local"]);
    }
    let health = spec.get("healthCheckNodePort");
    health.not_negative(errors);
    let needs_health = kind == "LoadBalancer" && outer.text() == "Local";
    if health.number().is_some_and(|n| n != 0) && !needs_health {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        health.invalid(errors, detail);
    }
    if kind != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if let Some(set) = spec.opt(field) {
                set.forbidden(errors, BALANCED);
            }
        }
    } else if let Some(class) = spec.opt("loadBalancerClass") {
        class.all_invalid(errors, names::label_key(class.text()));
    }
    if let Some(distribution) = spec.opt("trafficDistribution") {
        distribution.one_of(errors, &["PreferClose", "PreferSameNode", "PreferSameZone"]);
    }
}

const BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
/// What said `loadBalancerSourceRanges` before the field did.
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Who may reach a load balancer, from the field or else from the annotation.
fn ranges(root: &At<'_>, errors: &mut Errors) {
    let spec = root.get("spec");
    let listed = spec.get("loadBalancerSourceRanges");
    let listed = listed.called("LoadBalancerSourceRanges");
    let (metadata, balanced) = (root.get("metadata"), spec.get("type").text() == "LoadBalancer");
    let mut judge = |path: &Path, text: &str| {
        if !is_cidr(text) {
            errors.push(Error::invalid(path, text, NO_CIDR));
        }
    };
    if listed.len() > 0 {
        listed.items().for_each(|range| judge(&range.path(), range.text().trim()));
        if !balanced {
            listed.forbidden(errors, BALANCED);
        }
    } else if let Some(said) = metadata.value()["annotations"][RANGES].as_str() {
        let path = metadata.path().child("annotations").key(RANGES);
        if !said.trim().is_empty() {
            said.split(',').for_each(|range| judge(&path, range.trim()));
        }
        if !balanced {
            errors.push(Error::forbidden(&path, BALANCED));
        }
    }
}

/// An address range.
pub(super) fn cidr(at: &At<'_>, errors: &mut Errors) {
    if !is_cidr(at.text()) {
        at.invalid(errors, NO_CIDR);
    }
}

const NO_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

fn is_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(ip, bits)| {
        let max = if ip.contains(':') { 128 } else { 32 };
        ip.parse::<IpAddr>().is_ok() && bits.parse::<u8>().is_ok_and(|b| b <= max)
    })
}

/// A Service keeps its primary address, unless it becomes or was an external name.
pub(crate) fn service_update(new: &Value, old: &Value) -> Errors {
    let mut errors = service(new);
    let root = At::root(new);
    let spec = root.get("spec");
    let kind = |o: &Value, kind: &str| o["spec"]["type"] == kind;
    let class = spec.get("loadBalancerClass");
    let balanced = kind(new, "LoadBalancer") && kind(old, "LoadBalancer");
    if balanced && *class.value() != old["spec"]["loadBalancerClass"] {
        class.invalid(&mut errors, UNCHANGING);
    }
    let checked = |o: &Value| kind(o, "LoadBalancer") && o["spec"]["externalTrafficPolicy"] == "Local";
    let health = spec.get("healthCheckNodePort");
    if checked(new) && checked(old) && *health.value() != old["spec"]["healthCheckNodePort"] {
        health.forbidden(&mut errors, "field is immutable");
    }
    if !kind(new, "ExternalName") && !kind(old, "ExternalName") {
        families_stay(&spec, &old["spec"], &mut errors);
    }
    errors
}

const UNCHANGING: &str = "may not change once set";

/// Of addresses and of families a second may come and go; the first stays, and no second becomes another.
fn families_stay(spec: &At<'_>, old: &Value, errors: &mut Errors) {
    let headless = |spec: &Value| items(spec, &["clusterIPs"]) == [json!("None")];
    let (now_headless, was_headless) = (headless(spec.value()), headless(old));
    for (field, primary) in [("clusterIPs", "primary clusterIP"), ("ipFamilies", "primary ipFamily")] {
        let (all, was) = (spec.get(field), items(old, &[field]));
        let is = items(all.value(), &[]);
        if (now_headless && was_headless) || (field == "ipFamilies" && now_headless != was_headless) {
            continue;
        }
        let mut changed =
            |at: usize| errors.push(Error::invalid(&all.path().index(at), all.value().clone(), UNCHANGING));
        if is.len() == was.len() {
            for at in (0..is.len()).filter(|at| is[*at] != was[*at]) {
                changed(if field == "ipFamilies" { 0 } else { at });
            }
        } else if let (Some(first), Some(before)) = (is.first(), was.first())
            && first != before
        {
            changed(0);
        }
        if is.len() < was.len() {
            if is.is_empty() {
                let detail = format!("{primary} can not be unset");
                errors.push(Error::invalid(&all.path().index(0), all.value().clone(), detail));
            }
            let policy = spec.get("ipFamilyPolicy");
            if is.len() == 1 && policy.text() != "SingleStack" {
                let what = if field == "clusterIPs" { "clusterIP" } else { "ipFamily" };
                let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
                policy.invalid(errors, detail);
            }
        }
    }
}

/// The addresses that a load balancer got.
pub(crate) fn service_status(new: &Value, _old: &Value) -> Errors {
    let root = At::root(new);
    let (status, mut errors) = (root.get("status"), Vec::new());
    let balancer = status.get("loadBalancer");
    let ingress = balancer.get("ingress");
    if new["spec"]["type"] != "LoadBalancer" && ingress.len() > 0 {
        ingress.forbidden(&mut errors, "may only be used when `spec.type` is 'LoadBalancer'");
        return errors;
    }
    for at in ingress.items() {
        ingress_point(&at, &mut errors);
        let mode = at.get("ipMode");
        match (at.get("ip").text(), at.has("ipMode")) {
            ("", true) => mode.forbidden(&mut errors, "may not be specified when `ip` is not set"),
            ("", false) => {}
            (_, false) => mode.required(&mut errors, "must be specified when `ip` is set"),
            (_, true) => mode.one_of(&mut errors, &["Proxy", "VIP"]),
        }
    }
    errors
}

/// The addresses that an ingress got.
pub(crate) fn ingress_status(new: &Value, _old: &Value) -> Errors {
    let root = At::root(new);
    let (status, mut errors) = (root.get("status"), Vec::new());
    let balancer = status.get("loadBalancer");
    balancer.get("ingress").items().for_each(|at| ingress_point(&at, &mut errors));
    errors
}

fn ingress_point(at: &At<'_>, errors: &mut Errors) {
    let (ip, host) = (at.get("ip"), at.get("hostname"));
    if !ip.text().is_empty() {
        ip.address(errors);
    }
    host.rule(errors, dns_subdomain);
    if host.text().parse::<IpAddr>().is_ok() {
        host.invalid(errors, "must be a DNS name, not an IP address");
    }
}

/// An address that traffic can be sent to.
fn endpoint_address(at: &At<'_>, errors: &mut Errors) {
    let Ok(ip) = at.text().parse::<IpAddr>() else { return at.address(errors) };
    let (local, local_multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        at.invalid(errors, "may not be unspecified (0.0.0.0 or ::)");
    }
    if ip.is_loopback() {
        at.invalid(errors, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if local {
        at.invalid(errors, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if local_multicast {
        at.invalid(errors, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

pub(crate) fn endpoints(object: &Value) -> Errors {
    let root = At::root(object);
    let mut errors = Vec::new();
    for subset in root.get("subsets").items() {
        let (ready, waiting) = (subset.get("addresses"), subset.get("notReadyAddresses"));
        if ready.len() == 0 && waiting.len() == 0 {
            subset.required(&mut errors, "must specify `addresses` or `notReadyAddresses`");
        }
        for address in ready.items().chain(waiting.items()) {
            endpoint_address(&address.get("ip"), &mut errors);
            address.get("hostname").rule(&mut errors, dns_label);
            address.get("nodeName").rule(&mut errors, dns_subdomain);
        }
        let ports = subset.get("ports");
        for port in ports.items() {
            let name = port.get("name");
            if ports.len() > 1 && name.text().is_empty() {
                name.required(&mut errors, "");
            }
            name.rule(&mut errors, dns_label);
            port.get("port").port(&mut errors);
            port.get("protocol").needed_of(&mut errors, PROTOCOLS);
        }
    }
    errors
}

pub(crate) fn endpoints_update(new: &Value, _old: &Value) -> Errors {
    endpoints(new)
}

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_TOPOLOGY: usize = 16;
const MAX_HINTS: usize = 8;

pub(crate) fn endpoint_slice(object: &Value) -> Errors {
    let root = At::root(object);
    let mut errors = Vec::new();
    let kind = root.get("addressType");
    kind.needed_of(&mut errors, &["FQDN", "IPv4", "IPv6"]);
    let endpoints = root.get("endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(Error::too_many(&endpoints.path(), endpoints.len(), MAX_ENDPOINTS));
        return errors;
    }
    for endpoint in endpoints.items() {
        let addresses = endpoint.get("addresses");
        if addresses.len() == 0 {
            addresses.required(&mut errors, "must contain at least 1 address");
        } else if addresses.len() > MAX_ADDRESSES {
            errors.push(Error::too_many(&addresses.path(), addresses.len(), MAX_ADDRESSES));
        }
        for address in addresses.items() {
            match kind.text() {
                "FQDN" => address.all_invalid(&mut errors, dns_subdomain(address.text())),
                family if family_of(address.text()) != Some(family) => {
                    address.invalid(&mut errors, format!("must be a valid {family} address"));
                }
                _ => endpoint_address(&address, &mut errors),
            }
        }
        endpoint.get("nodeName").rule(&mut errors, dns_subdomain);
        let topology = endpoint.get("deprecatedTopology");
        let labels = topology.entries().count();
        if labels > MAX_TOPOLOGY {
            errors.push(Error::too_many(&topology.path(), labels, MAX_TOPOLOGY));
        }
        topology.labels(&mut errors);
        endpoint.get("hostname").rule(&mut errors, dns_label);
        let zones = endpoint.get("hints");
        zone_hints(&zones.get("forZones"), &mut errors);
    }
    let ports = root.get("ports");
    if ports.len() > MAX_PORTS {
        errors.push(Error::too_many(&ports.path(), ports.len(), MAX_PORTS));
        return errors;
    }
    let mut seen = HashSet::new();
    for port in ports.items() {
        let name = port.get("name");
        name.rule(&mut errors, dns_label);
        if !seen.insert(name.text().to_owned()) {
            errors.push(Error::duplicate(&name.path(), name.text()));
        }
        port.get("protocol").needed_of(&mut errors, PROTOCOLS);
        if let Some(application) = port.opt("appProtocol") {
            application.all_invalid(&mut errors, names::label_key(application.text()));
        }
    }
    errors
}

fn zone_hints(zones: &At<'_>, errors: &mut Errors) {
    if zones.len() > MAX_HINTS {
        return errors.push(Error::too_many(&zones.path(), zones.len(), MAX_HINTS));
    }
    let mut seen = HashSet::new();
    for zone in zones.items() {
        let name = zone.get("name");
        if !seen.insert(name.text().to_owned()) {
            errors.push(Error::duplicate(&name.path(), name.text()));
        }
        name.rule(errors, names::label_value);
    }
}

pub(crate) fn endpoint_slice_update(new: &Value, old: &Value) -> Errors {
    let mut errors = endpoint_slice(new);
    let root = At::root(new);
    root.get("addressType").unchanged(&mut errors, &old["addressType"]);
    errors
}

/// What no path may have in it, nor end with.
const PATH_PARTS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const PATH_ENDS: [&str; 2] = ["/..", "/."];

pub(crate) fn ingress(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    if spec.get("rules").len() == 0 && !spec.has("defaultBackend") {
        spec.invalid(&mut errors, "either `defaultBackend` or `rules` must be specified");
    }
    if let Some(backend) = spec.opt("defaultBackend") {
        ingress_backend(&backend, &mut errors);
    }
    for rule in spec.get("rules").items() {
        let host = rule.get("host");
        if host.text().parse::<IpAddr>().is_ok() {
            host.invalid(&mut errors, "must be a DNS name, not an IP address");
        }
        host.rule(&mut errors, host_name);
        let Some(http) = rule.opt("http") else { continue };
        let paths = http.get("paths");
        if paths.len() == 0 {
            paths.required(&mut errors, "");
        }
        paths.items().for_each(|path| ingress_path(&path, &mut errors));
    }
    for tls in spec.get("tls").items() {
        for host in tls.get("hosts").items() {
            host.all_invalid(&mut errors, host_name(host.text()));
        }
        tls.get("secretName").rule(&mut errors, dns_subdomain);
    }
    spec.get("ingressClassName").rule(&mut errors, dns_subdomain);
    errors
}

/// As [`ingress`], and the two ways to name a class say the same.
pub(crate) fn new_ingress(object: &Value) -> Errors {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let mut errors = ingress(object);
    let named = object["spec"]["ingressClassName"].as_str();
    if let (Some(annotated), Some(named)) = (crate::meta::annotation(object, CLASS), named)
        && annotated != named
    {
        let path = crate::field::Path::new("annotations").child(CLASS);
        let detail = "must match `ingressClassName` when both are specified";
        errors.push(Error::invalid(&path, annotated, detail));
    }
    errors
}

/// A host, or all of a domain.
fn host_name(host: &str) -> Vec<String> {
    if host.contains('*') { names::wildcard(host) } else { dns_subdomain(host) }
}

fn ingress_path(path: &At<'_>, errors: &mut Errors) {
    let (kind, text) = (path.get("pathType"), path.get("path"));
    let mut wrong = |detail: String| errors.push(Error::invalid(&text.path(), text.text(), detail));
    let below_root = text.text().starts_with('/');
    match kind.text() {
        "" => return kind.required(errors, "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !below_root {
                wrong("must be an absolute path".to_owned());
            }
            for part in PATH_PARTS.into_iter().filter(|part| text.text().contains(part)) {
                wrong(format!("must not contain '{part}'"));
            }
            for end in PATH_ENDS.into_iter().filter(|end| text.text().ends_with(end)) {
                wrong(format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !below_root && !text.text().is_empty() {
                wrong("must be an absolute path".to_owned());
            }
        }
        _ => kind.one_of(errors, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    ingress_backend(&path.get("backend"), errors);
}

fn ingress_backend(at: &At<'_>, errors: &mut Errors) {
    let wrong = |errors: &mut Errors, detail: &str| errors.push(Error::invalid(&at.path(), "", detail));
    match (at.opt("service"), at.opt("resource")) {
        (Some(_), Some(_)) => wrong(errors, "cannot set both resource and service backends"),
        (None, Some(resource)) => {
            resource.get("apiGroup").rule(errors, dns_subdomain);
            for (field, needed) in [("kind", "kind is required"), ("name", "name is required")] {
                let at = resource.get(field);
                if at.text().is_empty() {
                    at.required(errors, needed);
                }
                at.rule(errors, |text| names::path_segment(text, false));
            }
        }
        (None, None) => wrong(errors, "resource or service backend is required"),
        (Some(service), None) => {
            service.get("name").needed_as(errors, |n| names::dns_label(n, false));
            let port = service.get("port");
            let (name, number) = (port.get("name"), port.get("number"));
            match (!name.text().is_empty(), number.number().unwrap_or(0) != 0) {
                (true, true) => wrong(errors, "cannot set both port name & port number"),
                (false, false) => at.required(errors, "port name or number is required"),
                (true, false) => name.all_invalid(errors, names::port_name(name.text())),
                (false, true) => number.within(errors, 1, 65535),
            }
        }
    }
}

pub(crate) fn ingress_update(new: &Value, _old: &Value) -> Errors {
    ingress(new)
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
