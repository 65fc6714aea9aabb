//! The kinds that configure the API server, and devices.

use serde_json::{Map, Value};

use super::Fill::{Empty, Int, Text};
use super::{each, fill, is_text, object, spec};
use crate::meta::as_map;

pub fn webhooks(_version: &str, configuration: &mut Value) {
    let mutating = configuration["kind"] == "MutatingWebhookConfiguration";
    for webhook in each(as_map(configuration), "webhooks") {
        fill(webhook, &[("failurePolicy", Text("Fail")), ("timeoutSeconds", Int(10))]);
        matching(webhook);
        if mutating {
            fill(webhook, &[("reinvocationPolicy", Text("Never"))]);
        }
        each(webhook, "rules").for_each(all_scopes);
        if let Some(service) = object(webhook, "clientConfig").and_then(|config| object(config, "service")) {
            fill(service, &[("port", Int(443))]);
        }
    }
}

/// What a webhook and a policy's constraints have in common.
fn matching(map: &mut Map<String, Value>) {
    fill(
        map,
        &[("matchPolicy", Text("Equivalent")), ("namespaceSelector", Empty), ("objectSelector", Empty)],
    );
}

fn all_scopes(rule: &mut Map<String, Value>) {
    fill(rule, &[("scope", Text("*"))]);
}

fn constraints(map: &mut Map<String, Value>, field: &str) {
    if let Some(constraints) = object(map, field) {
        matching(constraints);
        each(constraints, "resourceRules").for_each(all_scopes);
        each(constraints, "excludeResourceRules").for_each(all_scopes);
    }
}

pub fn admission_policy(_version: &str, policy: &mut Value) {
    let spec = spec(policy);
    fill(spec, &[("failurePolicy", Text("Fail"))]);
    constraints(spec, "matchConstraints");
}

pub fn policy_binding(_version: &str, binding: &mut Value) {
    constraints(spec(binding), "matchResources");
}

pub fn api_service(_version: &str, service: &mut Value) {
    if let Some(reference) = object(spec(service), "service") {
        fill(reference, &[("port", Int(443))]);
    }
}

pub fn flow_schema(_version: &str, schema: &mut Value) {
    let spec = spec(schema);
    if spec.get("matchingPrecedence").is_none_or(|p| *p == 0) {
        spec.insert("matchingPrecedence".to_owned(), 1000.into());
    }
}

pub fn priority_level(_version: &str, level: &mut Value) {
    let spec = spec(level);
    if let Some(exempt) = object(spec, "exempt") {
        fill(exempt, &[("nominalConcurrencyShares", Int(0)), ("lendablePercent", Int(0))]);
    }
    let Some(limited) = object(spec, "limited") else { return };
    fill(limited, &[("nominalConcurrencyShares", Int(30)), ("lendablePercent", Int(0))]);
    let queuing = object(limited, "limitResponse").and_then(|response| object(response, "queuing"));
    if let Some(queuing) = queuing {
        for (field, number) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
            if queuing.get(field).is_none_or(|n| *n == 0) {
                queuing.insert(field.to_owned(), number.into());
            }
        }
    }
}

pub fn resource_claim(version: &str, claim: &mut Value) {
    claimed(version, spec(claim));
}

pub fn resource_claim_template(version: &str, template: &mut Value) {
    if let Some(spec) = object(spec(template), "spec") {
        claimed(version, spec);
    }
}

/// A request is for one device unless it says otherwise.
fn claimed(version: &str, spec: &mut Map<String, Value>) {
    let Some(devices) = object(spec, "devices") else { return };
    for request in each(devices, "requests") {
        let alternatives = request.get("firstAvailable").and_then(Value::as_array);
        let chooses = alternatives.is_some_and(|a| !a.is_empty());
        match version {
            "v1beta1" if !chooses => counted(request),
            "v1beta1" => {}
            _ => object(request, "exactly").into_iter().for_each(counted),
        }
        each(request, "firstAvailable").for_each(counted);
    }
}

fn counted(request: &mut Map<String, Value>) {
    fill(request, &[("allocationMode", Text("ExactCount"))]);
    if is_text(request, "allocationMode", "ExactCount") && request.get("count").is_none_or(|c| *c == 0) {
        request.insert("count".to_owned(), 1.into());
    }
}
