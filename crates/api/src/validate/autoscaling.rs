//! Autoscalers.

use serde_json::Value;

use super::{At, NEGATIVE, NOT_POSITIVE, dns_label, resources};
use crate::field::{Error, Errors};
use crate::names;
use crate::quantity::Quantity;

const MAX_PERIOD: i64 = 1800;
const MAX_WINDOW: i64 = 3600;
/// The sources of metrics by their types, in the order in which upstream looks at them.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

pub(crate) fn autoscaler_update(new: &Value, _old: &Value) -> Errors {
    autoscaler(new)
}

pub(crate) fn autoscaler_status(new: &Value, _old: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(new);
    let status = root.get("status");
    for field in ["currentReplicas", "desiredReplicas"] {
        status.get(field).not_negative(&mut errors);
    }
    errors
}

pub(crate) fn autoscaler(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    let (min, max) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    if min.number().is_some_and(|n| n < 0) {
        min.invalid(&mut errors, "must be greater than or equal to 0");
    }
    let most = max.number().unwrap_or(0);
    match most {
        0 => max.required(&mut errors, "must be set and greater than 0"),
        ..0 => max.invalid(&mut errors, "must be greater than or equal to 1"),
        _ => {}
    }
    if min.number().is_some_and(|n| n > most) {
        errors.push(Error::invalid(&max.path(), most, "must be greater than or equal to `minReplicas`"));
    }
    // Newer servers want a group there; manifests of any age shall apply.
    reference(&spec.get("scaleTargetRef"), &mut errors);
    let metrics = spec.get("metrics");
    metrics.items().for_each(|m| metric(&m, &mut errors));
    let from_outside = |m: &At<'_>| matches!(m.get("type").text(), "Object" | "External");
    if min.number() == Some(0) && !metrics.items().any(|m| from_outside(&m)) {
        metrics.forbidden(
            &mut errors,
            "must specify at least one Object or External metric to support scaling to zero replicas",
        );
    }
    let behavior = spec.get("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        behavior.opt(direction).inspect(|rules| scaling(rules, &mut errors));
    }
    errors
}

fn reference(target: &At<'_>, errors: &mut Errors) {
    for field in ["kind", "name"] {
        target.get(field).needed_as(errors, |n| names::path_segment(n, false));
    }
}

fn metric(metric: &At<'_>, errors: &mut Errors) {
    const NEEDED: &str = "must populate information for the given metric source";
    let kind = metric.get("type");
    if kind.text().is_empty() {
        kind.required(errors, "must specify a metric source type");
    }
    let told: Vec<&str> = SOURCES.iter().map(|(_, field)| *field).filter(|f| metric.has(f)).collect();
    if let Some(first) = told.first() {
        source(first, &metric.get(first), errors);
    }
    let Some((_, wanted)) = SOURCES.iter().find(|(name, _)| *name == kind.text()) else {
        return kind.one_of(errors, TYPES);
    };
    if !told.contains(wanted) {
        metric.get(wanted).required(errors, NEEDED);
    }
    if told.len() > 1 {
        for other in told.iter().filter(|f| *f != wanted) {
            metric.get(other).forbidden(errors, "must populate the given metric source only");
        }
    }
}

fn source(field: &str, source: &At<'_>, errors: &mut Errors) {
    let target = source.get("target");
    match field {
        "resource" | "containerResource" => {
            let name = source.get("name");
            if name.text().is_empty() {
                name.required(errors, "must specify a resource name");
            } else if field == "containerResource" {
                resources::container_resource(name.text(), &name, errors);
            }
            if field == "containerResource" {
                let container = source.get("container");
                if container.text().is_empty() {
                    container.required(errors, "must specify a container");
                }
                container.rule(errors, dns_label);
            }
        }
        _ => {
            if field == "object" {
                reference(&source.get("describedObject"), errors);
            }
            let metric = source.get("metric");
            let name = metric.get("name");
            if name.text().is_empty() {
                name.required(errors, "must specify a metric name");
            }
            name.rule(errors, |n| names::path_segment(n, false));
        }
    }
    amount(&target, errors);
    let [value, mean, use_] = ["value", "averageValue", "averageUtilization"].map(|f| target.has(f));
    let require = |at: At<'_>, errors: &mut Errors, detail| at.required(errors, detail);
    match field {
        "object" if !value && !mean => {
            let detail = "must set either a target value or averageValue";
            require(target.get("averageValue"), errors, detail);
        }
        "external" if !value && !mean => {
            let detail = "must set either a target value for metric or a per-pod target";
            require(target.get("averageValue"), errors, detail);
        }
        "external" if value && mean => {
            let detail = "may not set both a target value for metric and a per-pod target";
            target.get("value").forbidden(errors, detail);
        }
        "pods" if !mean => {
            require(target.get("averageValue"), errors, "must specify a positive target averageValue");
        }
        "resource" | "containerResource" if !use_ && !mean => {
            let detail = "must set either a target raw value or a target utilization";
            require(target.get("averageUtilization"), errors, detail);
        }
        "resource" | "containerResource" if use_ && mean => {
            let detail = "may not set both a target raw value and a target utilization";
            target.get("averageValue").forbidden(errors, detail);
        }
        _ => {}
    }
}

fn amount(target: &At<'_>, errors: &mut Errors) {
    let kind = target.get("type");
    if kind.text().is_empty() {
        kind.required(errors, "must specify a metric target type");
    }
    if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        errors.push(Error::invalid(
            &kind.path(),
            kind.text(),
            "must be either Utilization, Value, or AverageValue",
        ));
    }
    for field in ["value", "averageValue"] {
        let Some(at) = target.opt(field) else { continue };
        if Quantity::parse(at.text()).ok() <= Quantity::parse("0").ok() {
            at.invalid(errors, "must be positive");
        }
    }
    let percent = target.get("averageUtilization");
    if percent.number().is_some_and(|p| p < 1) {
        percent.invalid(errors, "must be greater than 0");
    }
}

fn scaling(rules: &At<'_>, errors: &mut Errors) {
    let window = rules.get("stabilizationWindowSeconds");
    match window.number() {
        Some(..0) => window.invalid(errors, "must be greater than or equal to zero"),
        Some(seconds) if seconds > MAX_WINDOW => {
            window.invalid(errors, format!("must be less than or equal to {MAX_WINDOW}"));
        }
        _ => {}
    }
    rules.opt("selectPolicy").inspect(|p| p.one_of(errors, &["Disabled", "Max", "Min"]));
    let policies = rules.get("policies");
    if policies.len() == 0 {
        policies.required(errors, "must specify at least one Policy");
    }
    for policy in policies.items() {
        policy.get("type").one_of(errors, &["Percent", "Pods"]);
        let (value, period) = (policy.get("value"), policy.get("periodSeconds"));
        for at in [&value, &period] {
            if at.number().unwrap_or(0) <= 0 {
                errors.push(Error::invalid(&at.path(), at.number().unwrap_or(0), NOT_POSITIVE));
            }
        }
        if period.number().is_some_and(|s| s > MAX_PERIOD) {
            period.invalid(errors, format!("must be less than or equal to {MAX_PERIOD}"));
        }
    }
    let tolerance = rules.get("tolerance");
    if Quantity::parse(tolerance.text()).is_ok_and(Quantity::is_negative) {
        tolerance.invalid(errors, NEGATIVE);
    }
}

#[cfg(test)]
#[path = "autoscaling_tests.rs"]
mod tests;
