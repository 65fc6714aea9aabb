//! Devices: what drivers offer and what claims ask for. What the expressions of selectors mean is judged where
//! they are compiled.

mod slices;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use super::{At, NOT_POSITIVE, conditions, dns_label, dns_subdomain, scheduling, storage::driver_name};
use crate::field::{Error, Errors};
use crate::meta;
use crate::names;

const MAX_REQUESTS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_SELECTORS: usize = 32;
const MAX_TOLERATIONS: usize = 16;
const MAX_EXPRESSION: usize = 10 * 1024;
const MAX_PARAMETERS: usize = 10 * 1024;
const MAX_RESERVED: usize = 256;
const MAX_CONDITIONS: usize = 4;
const MAX_TOLD_CONDITIONS: usize = 8;
const MAX_INTERFACE: usize = 256;
const MAX_HARDWARE_ADDRESS: usize = 128;
const MAX_ADDRESSES: usize = 16;
const MAX_DOMAIN: usize = 63;
const MAX_ID: usize = 32;
const MAX_POOL_NAME: usize = 253;

pub(crate) use self::slices::{slice, slice_update};

/// The names of a claim's requests, and of the alternatives of each.
type Requests = BTreeMap<String, BTreeSet<String>>;

pub(crate) fn claim(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    claim_spec(&root.get("spec"), &mut errors);
    errors
}

pub(crate) fn claim_update(new: &Value, old: &Value) -> Errors {
    spec_unchanged(new, old)
}

pub(crate) fn template(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    claim_spec(&spec.get("spec"), &mut errors);
    errors
}

pub(crate) fn template_update(new: &Value, old: &Value) -> Errors {
    spec_unchanged(new, old)
}

fn spec_unchanged(new: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    At::root(new).get("spec").unchanged(&mut errors, &old["spec"]);
    errors
}

fn bounded(list: &At<'_>, max: usize, errors: &mut Errors) {
    if list.len() > max {
        errors.push(Error::too_many(&list.path(), list.len(), max));
    }
}

/// No more than `max` items, of which no two have one key; texts are their own.
fn set(list: &At<'_>, max: usize, key: Option<&str>, errors: &mut Errors) {
    bounded(list, max, errors);
    let mut seen = BTreeSet::new();
    for item in list.items() {
        let name = key.map_or(item.text().to_owned(), |key| item.get(key).text().to_owned());
        if !name.is_empty() && !seen.insert(name.clone()) {
            errors.push(Error::duplicate(&item.path(), name));
        }
    }
}

fn claim_spec(spec: &At<'_>, errors: &mut Errors) {
    let devices = spec.get("devices");
    let requests = devices.get("requests");
    let names = names_of(&requests);
    requests.items().for_each(|r| request(&r, errors));
    set(&requests, MAX_REQUESTS, Some("name"), errors);
    let constraints = devices.get("constraints");
    for constraint in constraints.items() {
        references(&constraint.get("requests"), &names, errors);
        match (constraint.opt("matchAttribute"), constraint.opt("distinctAttribute")) {
            (Some(attribute), _) | (None, Some(attribute)) => full_name(&attribute, errors),
            (None, None) => constraint.required(
                errors,
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields \
                 are set",
            ),
        }
    }
    bounded(&constraints, MAX_REQUESTS, errors);
    let config = devices.get("config");
    for one in config.items() {
        references(&one.get("requests"), &names, errors);
        configuration(&one, errors);
    }
    bounded(&config, MAX_REQUESTS, errors);
}

fn names_of(requests: &At<'_>) -> Requests {
    let named = |at: &At<'_>| at.get("name").text().to_owned();
    requests
        .items()
        .map(|r| {
            (named(&r), r.get("firstAvailable").items().map(|alternative| named(&alternative)).collect())
        })
        .collect()
}

fn label(at: &At<'_>, errors: &mut Errors) {
    at.all_invalid(errors, dns_label(at.text()));
}

fn request(request: &At<'_>, errors: &mut Errors) {
    label(&request.get("name"), errors);
    let alternatives = request.get("firstAvailable");
    match (request.opt("exactly"), alternatives.len()) {
        (None, 0) => request.required(errors, "exactly one of `exactly` or `firstAvailable` is required"),
        (Some(exactly), 0) => asked(&exactly, errors),
        (Some(_), _) => errors.push(Error::invalid(
            &request.path(),
            Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        )),
        (None, _) => {
            for alternative in alternatives.items() {
                label(&alternative.get("name"), errors);
                asked(&alternative, errors);
            }
            set(&alternatives, MAX_ALTERNATIVES, Some("name"), errors);
        }
    }
}

/// How many devices of which class.
fn asked(asked: &At<'_>, errors: &mut Errors) {
    asked.get("deviceClassName").needed_as(errors, dns_subdomain);
    selectors(&asked.get("selectors"), errors);
    let (mode, count) = (asked.get("allocationMode"), asked.get("count"));
    let number = count.number().unwrap_or(0);
    match mode.text() {
        "All" if number != 0 => {
            count.invalid(errors, "must not be specified when allocationMode is 'All'");
        }
        "All" => {}
        "ExactCount" if number <= 0 => errors.push(Error::invalid(&count.path(), number, NOT_POSITIVE)),
        "ExactCount" => {}
        _ => mode.one_of(errors, &["All", "ExactCount"]),
    }
    for (name, amount) in asked.get("capacity").get("requests").entries() {
        qualified_name(&amount.path(), name, errors);
    }
    let tolerations = asked.get("tolerations");
    tolerations.items().for_each(|t| toleration(&t, errors));
    bounded(&tolerations, MAX_TOLERATIONS, errors);
}

fn selectors(list: &At<'_>, errors: &mut Errors) {
    for selector in list.items() {
        let Some(cel) = selector.opt("cel") else {
            selector.get("cel").required(errors, "");
            continue;
        };
        let expression = cel.get("expression");
        if expression.text().len() > MAX_EXPRESSION {
            errors.push(Error::too_long(&expression.path(), MAX_EXPRESSION));
        }
    }
    bounded(list, MAX_SELECTORS, errors);
}

fn toleration(at: &At<'_>, errors: &mut Errors) {
    let (key, operator, value) = (at.get("key"), at.get("operator"), at.get("value"));
    key.rule(errors, names::label_key);
    match operator.text() {
        "Exists" => {
            if !value.text().is_empty() {
                value.invalid(errors, "must be empty for operator `Exists`");
            }
        }
        "Equal" | "" => value.rule(errors, names::label_value),
        _ => operator.one_of(errors, &["Equal", "Exists"]),
    }
    let effect = at.get("effect");
    if !effect.text().is_empty() {
        effect.one_of(errors, &["NoExecute", "NoSchedule", "None"]);
    }
}

/// Names of requests, or `request/alternative`.
fn references(list: &At<'_>, names: &Requests, errors: &mut Errors) {
    list.items().for_each(|name| reference(&name, names, errors));
    set(list, MAX_REQUESTS, None, errors);
}

fn reference(name: &At<'_>, names: &Requests, errors: &mut Errors) {
    let (request, alternative) = match name.text().split_once('/') {
        Some((request, alternative)) => (request, Some(alternative)),
        None => (name.text(), None),
    };
    let known = names.get(request).is_some_and(|all| alternative.is_none_or(|a| all.contains(a)));
    if !known {
        name.invalid(
            errors,
            "must be the name of a request in the claim or the name of a request and a subrequest separated \
             by '/'",
        );
    }
}

/// `domain/id`
fn full_name(at: &At<'_>, errors: &mut Errors) {
    match at.text().split_once('/') {
        None => at.invalid(errors, "must include a domain"),
        Some(_) => qualified_name(&at.path(), at.text(), errors),
    }
}

/// The name of an attribute, in the driver's own domain or in one that it names.
fn qualified_name(path: &crate::field::Path, name: &str, errors: &mut Errors) {
    if name.is_empty() {
        return errors.push(Error::required(path, "name required"));
    }
    let (domain, id) = name.split_once('/').map_or((None, name), |(domain, id)| (Some(domain), id));
    if let Some(domain) = domain {
        if domain.is_empty() {
            errors.push(Error::invalid(path, domain, "the domain must not be empty"));
        } else if domain.len() > MAX_DOMAIN {
            errors.push(Error::too_long(path, MAX_DOMAIN));
        } else {
            errors.extend(dns_subdomain(domain).into_iter().map(|m| Error::invalid(path, domain, m)));
        }
    }
    let shape = |text: &str| {
        !text.starts_with(|c: char| c.is_ascii_digit())
            && text.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
    };
    if id.is_empty() {
        errors.push(Error::invalid(path, id, "the name must not be empty"));
    } else if id.len() > MAX_ID {
        errors.push(Error::too_long(path, MAX_ID));
    } else if !shape(id) {
        let detail = "a valid C identifier must start with alphabetic character or '_', followed by a string \
                      of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex \
                      used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
        errors.push(Error::invalid(path, id, detail));
    }
}

fn configuration(config: &At<'_>, errors: &mut Errors) {
    let Some(opaque) = config.opt("opaque") else {
        return config.get("opaque").required(errors, "");
    };
    driver_name(&opaque.get("driver"), errors);
    let given = opaque.get("parameters");
    if given.value().is_null() {
        given.required(errors, "");
    } else {
        parameters(&given, errors);
    }
}

/// What only a driver understands.
fn parameters(given: &At<'_>, errors: &mut Errors) {
    if given.value().to_string().len() > MAX_PARAMETERS {
        errors.push(Error::too_long(&given.path(), MAX_PARAMETERS));
    } else if !given.value().is_object() {
        errors.push(Error::invalid(&given.path(), "<value omitted>", "must be a valid JSON object"));
    }
}

/// What the scheduler and the drivers found for a claim.
pub(crate) fn claim_status(new: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(new);
    let (spec, status) = (root.get("spec"), root.get("status"));
    let devices = spec.get("devices");
    let names = names_of(&devices.get("requests"));
    let reserved = status.get("reservedFor");
    for user in reserved.items() {
        for field in ["resource", "name", "uid"] {
            user.get(field).needed(&mut errors);
        }
    }
    set(&reserved, MAX_RESERVED, Some("uid"), &mut errors);
    let (allocation, had) = (status.opt("allocation"), &old["status"]["allocation"]);
    if reserved.len() > 0 {
        let was = meta::items(old, &["status", "reservedFor"]);
        if allocation.is_none() {
            reserved.forbidden(&mut errors, "may not be specified when `allocated` is not set");
        } else if !new["metadata"]["deletionTimestamp"].is_null()
            && reserved.items().any(|user| !was.contains(user.value()))
        {
            reserved.forbidden(
                &mut errors,
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
            );
        }
    }
    told(&status, &mut errors);
    let Some(allocation) = allocation else { return errors };
    if !had.is_null() {
        allocation.unchanged(&mut errors, had);
        return errors;
    }
    let found = allocation.get("devices");
    let results = found.get("results");
    for result in results.items() {
        reference(&result.get("request"), &names, &mut errors);
        driver_name(&result.get("driver"), &mut errors);
        pool_name(&result.get("pool"), &mut errors);
        label(&result.get("device"), &mut errors);
        binding(&result, &mut errors);
        result.opt("shareID").inspect(|id| share(id, &mut errors));
    }
    bounded(&results, MAX_REQUESTS, &mut errors);
    for config in found.get("config").items() {
        config.get("source").needed_of(&mut errors, &["FromClaim", "FromClass"]);
        references(&config.get("requests"), &names, &mut errors);
        configuration(&config, &mut errors);
    }
    allocation.opt("nodeSelector").inspect(|s| scheduling::node_selector(s, &mut errors));
    errors
}

/// What drivers tell of the devices that the claim has.
fn told(status: &At<'_>, errors: &mut Errors) {
    const KEY: [&str; 4] = ["driver", "pool", "device", "shareID"];
    let results = meta::items(status.value(), &["allocation", "devices", "results"]);
    let is =
        |a: &Value, b: &Value| KEY.iter().all(|field| meta::text(a, &[field]) == meta::text(b, &[field]));
    let devices = status.get("devices");
    let mut seen: Vec<&Value> = Vec::new();
    for told in devices.items() {
        driver_name(&told.get("driver"), errors);
        pool_name(&told.get("pool"), errors);
        label(&told.get("device"), errors);
        told.opt("shareID").inspect(|id| share(id, errors));
        let name = KEY.map(|field| told.get(field).text()).join("/");
        let name = name.trim_end_matches('/');
        if !results.iter().any(|result| is(result, told.value())) {
            errors.push(Error::invalid(&told.path(), name, "must be an allocated device in the claim"));
        }
        if seen.iter().any(|other| is(other, told.value())) {
            errors.push(Error::duplicate(&told.path(), name));
        }
        seen.push(told.value());
        let found = told.get("conditions");
        bounded(&found, MAX_TOLD_CONDITIONS, errors);
        conditions(&found, errors);
        told.opt("data").inspect(|data| parameters(data, errors));
        told.opt("networkData").inspect(|network| network_data(network, errors));
    }
}

fn network_data(network: &At<'_>, errors: &mut Errors) {
    for (field, most) in [("interfaceName", MAX_INTERFACE), ("hardwareAddress", MAX_HARDWARE_ADDRESS)] {
        let text = network.get(field);
        if text.text().len() > most {
            errors.push(Error::too_long(&text.path(), most));
        }
    }
    let addresses = network.get("ips");
    for address in addresses.items() {
        let (ip, length) = address.text().split_once('/').unwrap_or((address.text(), ""));
        let most = ip.parse::<IpAddr>().map(|ip| if ip.is_ipv4() { 32 } else { 128 });
        if !most.is_ok_and(|most| length.parse::<u8>().is_ok_and(|length| length <= most)) {
            let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
            address.invalid(errors, detail);
        }
    }
    set(&addresses, MAX_ADDRESSES, None, errors);
}

/// The name of a share: a UUID in lower case.
fn share(id: &At<'_>, errors: &mut Errors) {
    let parts: Vec<&str> = id.text().split('-').collect();
    let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let has_shape = parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]);
    if !has_shape || !parts.iter().all(|part| part.bytes().all(is_hex)) {
        let detail = "must be a lowercase UUID in 8-4-4-4-12 format";
        id.invalid(errors, detail);
    }
}

/// The conditions that have to be there before a device is used, and those that say that it never will be.
fn binding(of: &At<'_>, errors: &mut Errors) {
    let (wanted, failures) = (of.get("bindingConditions"), of.get("bindingFailureConditions"));
    for list in [&wanted, &failures] {
        list.items().for_each(|name| name.all_invalid(errors, names::label_key(name.text())));
        set(list, MAX_CONDITIONS, None, errors);
    }
    for failure in failures.items().filter(|f| wanted.items().any(|w| w.text() == f.text())) {
        failure.invalid(errors, "bindingFailureConditions must not overlap with bindingConditions");
    }
    match (wanted.len(), failures.len()) {
        (0, 1..) => wanted.invalid(errors, "bindingConditions are required to use bindingFailureConditions"),
        (1.., 0) => {
            failures.invalid(errors, "bindingFailureConditions are required to use bindingConditions")
        }
        _ => {}
    }
}

fn pool_name(name: &At<'_>, errors: &mut Errors) {
    let Some(text) = name.needed(errors) else { return };
    if text.len() > MAX_POOL_NAME {
        errors.push(Error::too_long(&name.path(), MAX_POOL_NAME));
    }
    for part in text.split('/') {
        errors.extend(dns_subdomain(part).into_iter().map(|m| Error::invalid(&name.path(), part, m)));
    }
}

pub(crate) fn class(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    selectors(&spec.get("selectors"), &mut errors);
    let config = spec.get("config");
    config.items().for_each(|c| configuration(&c, &mut errors));
    bounded(&config, MAX_REQUESTS, &mut errors);
    if let Some(resource) = spec.opt("extendedResourceName") {
        let name = resource.text();
        let native = !name.contains('/') || name.contains("kubernetes.io/");
        let wrong = !names::label_key(&format!("requests.{name}")).is_empty();
        if native || name.starts_with("requests.") || wrong {
            resource.invalid(&mut errors, "must be a valid extended resource name");
        }
    }
    errors
}

pub(crate) fn class_update(new: &Value, _old: &Value) -> Errors {
    class(new)
}

fn taint(at: &At<'_>, errors: &mut Errors) {
    at.get("key").needed_as(errors, names::label_key);
    at.get("value").rule(errors, names::label_value);
    at.get("effect").needed_of(errors, &["NoExecute", "NoSchedule", "None"]);
}

pub(crate) fn taint_rule(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    if let Some(selector) = spec.opt("deviceSelector") {
        selector.opt("driver").inspect(|d| driver_name(d, &mut errors));
        selector.opt("pool").inspect(|p| pool_name(p, &mut errors));
        selector.opt("device").inspect(|d| label(d, &mut errors));
    }
    taint(&spec.get("taint"), &mut errors);
    errors
}

pub(crate) fn taint_rule_update(new: &Value, _old: &Value) -> Errors {
    taint_rule(new)
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
