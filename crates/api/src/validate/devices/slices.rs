//! What drivers offer.

use serde_json::Value;

use super::{At, NOT_POSITIVE, binding, bounded, label, pool_name, qualified_name, set, taint};
use super::{dns_label, dns_subdomain, driver_name, scheduling};
use crate::field::{Error, Errors};
use crate::quantity::Quantity;

const MAX_DEVICES: usize = 128;
const MAX_ADVANCED_DEVICES: usize = 64;
const MAX_TAINTS: usize = 16;
const MAX_ATTRIBUTES: usize = 32;
const MAX_ATTRIBUTE: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
const MAX_COUNTERS: usize = 32;
const MAX_CONSUMPTIONS: usize = 2;
const MAX_VALUES: usize = 10;

pub(crate) fn slice(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    driver_name(&spec.get("driver"), &mut errors);
    let pool = spec.get("pool");
    pool_name(&pool.get("name"), &mut errors);
    let slices = pool.get("resourceSliceCount");
    if slices.number().unwrap_or(0) <= 0 {
        errors.push(Error::invalid(&slices.path(), slices.number().unwrap_or(0), NOT_POSITIVE));
    }
    pool.get("generation").not_negative(&mut errors);
    whose(&spec, &mut errors);
    let devices = spec.get("devices");
    if spec.has("sharedCounters") && spec.has("devices") {
        let detail = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(Error::invalid(&spec.path(), "", detail));
    }
    devices.items().for_each(|d| device(&d, spec.get("perDeviceNodeSelection").is_true(), &mut errors));
    let advanced = devices.items().any(|d| d.get("taints").len() + d.get("consumesCounters").len() > 0);
    let max = if advanced { MAX_ADVANCED_DEVICES } else { MAX_DEVICES };
    set(&devices, max, Some("name"), &mut errors);
    let sets = spec.get("sharedCounters");
    sets.items().for_each(|s| counters(&s, "name", &mut errors));
    set(&sets, MAX_COUNTER_SETS, Some("name"), &mut errors);
    errors
}

/// Counters of a set, by their names.
fn counters(at: &At<'_>, name: &'static str, errors: &mut Errors) {
    at.get(name).needed_as(errors, dns_label);
    let counters = at.get("counters");
    match counters.entries().count() {
        0 => counters.required(errors, ""),
        many if many > MAX_COUNTERS => errors.push(Error::too_many(&counters.path(), many, MAX_COUNTERS)),
        _ => {
            for (name, counter) in counters.entries() {
                let path = counter.path();
                errors.extend(dns_label(name).into_iter().map(|m| Error::invalid(&path, name, m)));
            }
        }
    }
}

/// The nodes that can reach the devices.
fn whose(spec: &At<'_>, errors: &mut Errors) {
    const ONE_OF: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut told = Vec::new();
    if let Some(node) = spec.opt("nodeName") {
        if node.text().is_empty() {
            node.invalid(errors, "must be either unset or set to a non-empty string");
        } else {
            told.push("`nodeName`");
            node.rule(errors, dns_subdomain);
        }
    }
    if let Some(selector) = spec.opt("nodeSelector") {
        told.push("`nodeSelector`");
        scheduling::node_selector(&selector, errors);
        let terms = selector.get("nodeSelectorTerms");
        if terms.len() != 1 {
            terms.invalid(errors, "must have exactly one node selector term");
        }
    }
    for (field, quoted) in
        [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        let Some(flag) = spec.opt(field) else { continue };
        if flag.is_true() {
            told.push(quoted);
        } else {
            flag.invalid(errors, "must be either unset or set to true");
        }
    }
    match told.len() {
        0 => spec.required(errors, ONE_OF),
        1 => {}
        _ => {
            let detail = format!("{ONE_OF}, but multiple fields are set");
            errors.push(Error::invalid(&spec.path(), format!("{{{}}}", told.join(", ")), detail));
        }
    }
}

/// `says_where`: it has to say itself which nodes can reach it, as nothing says so for all devices.
fn device(device: &At<'_>, says_where: bool, errors: &mut Errors) {
    label(&device.get("name"), errors);
    let (attributes, capacity) = (device.get("attributes"), device.get("capacity"));
    let told = attributes.entries().count() + capacity.entries().count();
    if told > MAX_ATTRIBUTES {
        let detail =
            format!("the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}");
        errors.push(Error::invalid(&device.path(), told, detail));
    }
    for (name, attribute) in attributes.entries() {
        qualified_name(&attribute.path(), name, errors);
        let values: Vec<&str> = attribute.entries().map(|(kind, _)| kind).collect();
        match values[..] {
            [] => attribute.required(errors, "exactly one value must be specified"),
            [_] => {}
            _ => attribute.invalid(errors, "exactly one value must be specified"),
        }
        for field in ["string", "version"] {
            let text = attribute.get(field);
            if text.text().len() > MAX_ATTRIBUTE {
                errors.push(Error::too_long(&text.path(), MAX_ATTRIBUTE));
            }
        }
    }
    let is_shared = device.get("allowMultipleAllocations").is_true();
    for (name, amount) in capacity.entries() {
        qualified_name(&amount.path(), name, errors);
        match amount.opt("requestPolicy") {
            Some(policy) if is_shared => request_policy(&policy, &amount.get("value"), errors),
            Some(policy) => policy.forbidden(errors, "allowMultipleAllocations must be true"),
            None => {}
        }
    }
    let taints = device.get("taints");
    taints.items().for_each(|t| taint(&t, errors));
    bounded(&taints, MAX_TAINTS, errors);
    let consumes = device.get("consumesCounters");
    consumes.items().for_each(|c| counters(&c, "counterSet", errors));
    set(&consumes, MAX_CONSUMPTIONS, Some("counterSet"), errors);
    reached_from(device, says_where, errors);
    binding(device, errors);
}

/// The nodes that can reach a device, where each says so itself.
fn reached_from(device: &At<'_>, says_where: bool, errors: &mut Errors) {
    const ONE_OF: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                          `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let (node, selector, all) = (device.opt("nodeName"), device.opt("nodeSelector"), device.opt("allNodes"));
    if !says_where {
        if node.is_some() || selector.is_some() || all.is_some() {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if \
                          `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.push(Error::invalid(&device.path(), Value::Null, detail));
        }
        return;
    }
    let mut told = Vec::new();
    if let Some(node) = node {
        if node.text().is_empty() {
            node.invalid(errors, "must not be empty");
        } else {
            told.push("`nodeName`");
            node.rule(errors, dns_subdomain);
        }
    }
    if let Some(selector) = selector {
        told.push("`nodeSelector`");
        scheduling::node_selector(&selector, errors);
    }
    if let Some(all) = all {
        if all.is_true() {
            told.push("`allNodes`");
        } else {
            all.invalid(errors, "must be either unset or set to true");
        }
    }
    match told.len() {
        0 => device.required(errors, ONE_OF),
        1 => {}
        _ => errors.push(Error::invalid(&device.path(), format!("{{{}}}", told.join(", ")), ONE_OF)),
    }
}

fn read(at: &At<'_>) -> Option<Quantity> {
    // What is none has been refused by the schema.
    Quantity::parse(at.text()).ok()
}

/// How much may be asked for of a capacity of this value (KEP-5075).
fn request_policy(policy: &At<'_>, value: &At<'_>, errors: &mut Errors) {
    let (values, range) = (policy.get("validValues"), policy.opt("validRange"));
    if values.len() > 0 && range.is_some() {
        let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at \
                      the same time";
        return policy.forbidden(errors, detail);
    }
    let Some(most) = read(value) else { return };
    let (default, what) = (policy.get("default"), if range.is_some() { "validRange" } else { "validValues" });
    let default = match read(&default) {
        Some(amount) => amount,
        None if values.len() > 0 || range.is_some() => {
            return default.required(errors, &format!("required when {what} is defined"));
        }
        None => return,
    };
    if let Some(range) = range {
        return valid_range(&range, default, most, errors);
    }
    if values.len() == 0 {
        return;
    }
    let amounts: Vec<Quantity> = values.items().filter_map(|v| read(&v)).collect();
    for (at, value) in values.items().enumerate() {
        if at > 0 && amounts.get(at - 1) > amounts.get(at) {
            value.invalid(errors, "values must be sorted in ascending order");
        }
        if amounts.get(at).is_some_and(|amount| *amount > most) {
            value.invalid(errors, format!("option is larger than capacity value: {most}"));
        }
        if at > 0 && amounts[..at].iter().any(|earlier| Some(earlier) == amounts.get(at)) {
            errors.push(Error::duplicate(&value.path(), value.text()));
        }
    }
    bounded(&values, MAX_VALUES, errors);
    if !amounts.contains(&default) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.push(Error::invalid(&values.path(), default.to_string(), detail));
    }
}

fn valid_range(range: &At<'_>, default: Quantity, most: Quantity, errors: &mut Errors) {
    let (at_min, at_max, at_step) = (range.get("min"), range.get("max"), range.get("step"));
    let Some(min) = read(&at_min) else {
        return at_min.required(errors, "required when validRange is defined");
    };
    let mut wrong = |at: &At<'_>, value: Quantity, detail: String| {
        errors.push(Error::invalid(&at.path(), value.to_string(), detail));
    };
    if min > most {
        wrong(&at_min, min, format!("min is larger than capacity value: {most}"));
    }
    if default < min {
        wrong(&at_min, default, format!("default is less than min: {min}"));
    }
    let max = read(&at_max);
    if let Some(max) = max {
        if min > max {
            wrong(&at_max, min, format!("min is larger than max: {max}"));
        }
        if max > most {
            wrong(&at_max, max, format!("max is larger than capacity value: {most}"));
        }
        if default > max {
            wrong(&at_max, default, format!("default is more than max: {max}"));
        }
    }
    let Some(step) = read(&at_step) else { return };
    if step <= Quantity::ZERO {
        return wrong(&at_step, step, super::NOT_POSITIVE.to_owned());
    }
    let first = min + step;
    if first > most {
        wrong(&at_step, step, format!("one step {first} is larger than capacity value: {most}"));
    }
    for value in [Some(default), max].into_iter().flatten().filter(|value| *value >= min) {
        if value.stepped(min, step) != Some(value) {
            wrong(&at_step, value, format!("value is not a multiple of a given step ({step}) from ({min})"));
        }
    }
}

pub(crate) fn slice_update(new: &Value, old: &Value) -> Errors {
    let mut errors = slice(new);
    let root = At::root(new);
    let spec = root.get("spec");
    let pool = spec.get("pool");
    pool.get("name").unchanged(&mut errors, &old["spec"]["pool"]["name"]);
    spec.get("driver").unchanged(&mut errors, &old["spec"]["driver"]);
    spec.get("nodeName").unchanged(&mut errors, &old["spec"]["nodeName"]);
    errors
}
