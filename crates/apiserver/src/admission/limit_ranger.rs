//! LimitRanger: gives containers the requests and limits that their namespace prescribes, and keeps pods and claims
//! within its bounds.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use tiphys_api::{
    meta,
    quantity::Quantity,
    quota::{Amounts, Needs, amounts},
    status::Status,
};

use super::{Attributes, Operation, Plugin};
use crate::source::{Entry, Source};

pub struct LimitRanger {
    source: Arc<dyn Source>,
}

/// One entry of `spec.limits`.
struct Limit {
    kind: String,
    min: Amounts,
    max: Amounts,
    ratio: Amounts,
}

impl Limit {
    fn of(limit: &Value) -> Self {
        Self {
            kind: meta::text(limit, &["type"]).to_owned(),
            min: amounts(&limit["min"]),
            max: amounts(&limit["max"]),
            ratio: amounts(&limit["maxLimitRequestRatio"]),
        }
    }

    /// Notes where `usage` is out of bounds.
    fn check(&self, usage: &Needs, wrong: &mut Vec<String>) {
        let kind = &self.kind;
        let given = |amounts: &Amounts, name: &str| amounts.get(name).copied();
        for (name, min) in &self.min {
            let bound = format!("minimum {name} usage per {kind} is {min}");
            match (given(&usage.requests, name), given(&usage.limits, name)) {
                (None, _) => wrong.push(format!("{bound}.  No request is specified")),
                (Some(request), _) if request < *min => {
                    wrong.push(format!("{bound}, but request is {request}"))
                }
                (_, Some(limit)) if limit < *min => wrong.push(format!("{bound}, but limit is {limit}")),
                _ => {}
            }
        }
        for (name, max) in &self.max {
            let bound = format!("maximum {name} usage per {kind} is {max}");
            let request = given(&usage.requests, name);
            // A claim asks; it is not held to anything.
            if kind == "PersistentVolumeClaim" {
                match request {
                    None => wrong.push(format!("{bound}.  No request is specified")),
                    Some(request) if request > *max => {
                        wrong.push(format!("{bound}, but request is {request}"))
                    }
                    Some(_) => {}
                }
                continue;
            }
            match (given(&usage.limits, name), request) {
                (None, _) => wrong.push(format!("{bound}.  No limit is specified")),
                (Some(limit), _) if limit > *max => wrong.push(format!("{bound}, but limit is {limit}")),
                (_, Some(request)) if request > *max => {
                    wrong.push(format!("{bound}, but request is {request}"))
                }
                _ => {}
            }
        }
        for (name, ratio) in &self.ratio {
            let bound = format!("{name} max limit to request ratio per {kind} is {ratio}");
            let some = |amounts: &Amounts| given(amounts, name).filter(|amount| !amount.is_zero());
            match (some(&usage.requests), some(&usage.limits)) {
                (None, _) => wrong.push(format!("{bound}, but no request is specified or request is 0")),
                (_, None) => wrong.push(format!("{bound}, but no limit is specified or limit is 0")),
                (Some(request), Some(limit)) => {
                    let provided = as_number(limit) / as_number(request);
                    if provided > as_number(*ratio) {
                        wrong.push(format!("{bound}, but provided ratio is {provided:.6}"));
                    }
                }
            }
        }
    }
}

/// For ratios: in thousandths where those can be counted.
#[allow(clippy::cast_precision_loss)] // a ratio is compared, not kept
fn as_number(amount: Quantity) -> f64 {
    match amount.milli() {
        i64::MAX => amount.value() as f64,
        milli => milli as f64 / 1000.0,
    }
}

impl LimitRanger {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source }
    }

    /// The entries of all LimitRanges of the namespace.
    fn limits(&self, namespace: &str) -> Vec<Value> {
        let ranges = self.source.list("", "limitranges", Some(namespace));
        ranges
            .iter()
            .map(Entry::tree)
            .flat_map(|range| meta::items(&range, &["spec", "limits"]).to_vec())
            .collect()
    }
}

/// Fills in what the container leaves out; tells what was filled in.
fn fill(container: &mut Value, defaults: &[&Value], what: &str) -> Vec<String> {
    let mut told = Vec::new();
    for (field, source, word) in [("requests", "defaultRequest", "request"), ("limits", "default", "limit")] {
        let mut set = Vec::new();
        for (name, amount) in defaults.iter().filter_map(|d| d[source].as_object()).flatten() {
            let resources = meta::child_mut(meta::as_map(container), "resources");
            let list = meta::child_mut(resources, field);
            if !list.contains_key(name) {
                list.insert(name.clone(), amount.clone());
                set.push(name.as_str());
            }
        }
        if !set.is_empty() {
            set.sort_unstable();
            told.push(format!("{} {word} for {what} {}", set.join(", "), meta::text(container, &["name"])));
        }
    }
    told
}

fn is_pod(request: &Attributes<'_>) -> bool {
    let resized = request.operation == Operation::Update && request.subresource == "resize";
    request.is(Operation::Create, "", "pods")
        || (resized && request.group.is_empty() && request.resource == "pods")
}

fn is_claim(request: &Attributes<'_>) -> bool {
    request.is(Operation::Create, "", "persistentvolumeclaims")
        || request.is(Operation::Update, "", "persistentvolumeclaims")
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        is_pod(request) || is_claim(request)
    }

    async fn admit(&self, request: &Attributes<'_>, pod: &mut Value, _: &Value) -> Result<(), Status> {
        if !is_pod(request) {
            return Ok(());
        }
        let limits = self.limits(request.namespace);
        let defaults: Vec<&Value> = limits.iter().filter(|limit| limit["type"] == "Container").collect();
        if defaults.is_empty() {
            return Ok(());
        }
        let mut told = Vec::new();
        for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
            let containers = super::spec_mut(pod).get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                told.extend(fill(container, &defaults, what));
            }
        }
        if !told.is_empty() {
            let annotations = meta::child_mut(meta::metadata_mut(pod), "annotations");
            let text = format!("LimitRanger plugin set: {}", told.join("; "));
            annotations.insert("kubernetes.io/limit-ranger".to_owned(), json!(text));
        }
        Ok(())
    }

    async fn validate(&self, request: &Attributes<'_>, object: &Value, _: &Value) -> Result<(), Status> {
        let claim = is_claim(request);
        if !claim && !is_pod(request) {
            return Ok(());
        }
        let mut wrong = Vec::new();
        for limit in self.limits(request.namespace).iter().map(Limit::of) {
            match (limit.kind.as_str(), claim) {
                ("PersistentVolumeClaim", true) => {
                    limit.check(&Needs { limits: Amounts::new(), ..Needs::of(&object["spec"]) }, &mut wrong);
                }
                ("Pod", false) => limit.check(&Needs::declared(object), &mut wrong),
                ("Container", false) => {
                    for list in ["containers", "initContainers"] {
                        for container in meta::items(object, &["spec", list]) {
                            limit.check(&Needs::of(container), &mut wrong);
                        }
                    }
                }
                _ => {}
            }
        }
        match wrong.as_slice() {
            [] => Ok(()),
            [one] => Err(request.forbidden(object, one)),
            many => Err(request.forbidden(object, &format!("[{}]", many.join(", ")))),
        }
    }
}

#[cfg(test)]
#[path = "limit_ranger_tests.rs"]
mod tests;
