//! Objects of `metrics.k8s.io`, made of two readings of a node. Pure.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tiphys_api::meta;
use tiphys_api::quantity::{Format, Quantity};

use super::Pair;
use super::reading::{Reading, Used};
use crate::aggregation::own::METRICS;
use crate::cache::Object;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metrics {
    Nodes,
    Pods,
}

impl Metrics {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Nodes => "NodeMetrics",
            Self::Pods => "PodMetrics",
        }
    }

    /// The object in one of the group's versions, which are alike; `None` while it cannot be told.
    pub(crate) fn of(self, object: &Object, version: &str, pair: &Pair) -> Option<Value> {
        let before = pair.before.as_deref()?;
        let window = pair.now.at.duration_since(before.at);
        if window <= SignedDuration::ZERO {
            return None;
        }
        let labels: Value = object
            .labels()
            .iter()
            .map(|(k, v)| (k.to_owned(), Value::from(v)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let at = pair.now.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut metadata = json!({"name": object.name(), "creationTimestamp": at, "labels": labels});
        if !object.namespace().is_empty() {
            metadata["namespace"] = object.namespace().into();
        }
        let mut told = json!({"kind": self.kind(), "apiVersion": format!("{METRICS}/{version}"), "metadata": metadata,
            "timestamp": at, "window": as_go(window)});
        match self {
            Self::Nodes => {
                let (used, then) = (pair.now.node?, before.node?);
                // A node that was started anew counts anew.
                let spent = used.cpu.checked_sub(then.cpu)?;
                told["usage"] = usage(spent, used, window);
            }
            Self::Pods => told["containers"] = containers(object, before, &pair.now, window)?.into(),
        }
        Some(told)
    }
}

fn containers(
    object: &Object,
    before: &Reading,
    now: &Reading,
    window: SignedDuration,
) -> Option<Vec<Value>> {
    let key = (object.namespace().to_owned(), object.name().to_owned());
    let then = before.pods.get(&key);
    // Read only for what is new, which is seldom.
    let mut pod: Option<Value> = None;
    let told = now.pods.get(&key)?.iter().filter_map(|(name, used)| {
        let known = then.and_then(|then| then.get(name)).and_then(|then| used.cpu.checked_sub(then.cpu));
        let spent = match known {
            Some(spent) => spent,
            None => {
                let pod =
                    pod.get_or_insert_with(|| serde_json::from_slice(object.json()).unwrap_or_default());
                // All that it has used it has used since.
                started_after(pod, name, before.at).then_some(used.cpu)?
            }
        };
        Some(json!({"name": name, "usage": usage(spent, *used, window)}))
    });
    let told: Vec<Value> = told.collect();
    (!told.is_empty()).then_some(told)
}

/// Whether a pod's container was started after a time; its status tells whole seconds.
fn started_after(pod: &Value, container: &str, time: Timestamp) -> bool {
    let statuses = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut all = statuses.iter().flat_map(|list| meta::items(pod, &["status", list]));
    let status = all.find(|status| status["name"] == container);
    let started = status.and_then(|s| s["state"]["running"]["startedAt"].as_str()?.parse::<Timestamp>().ok());
    started.is_some_and(|started| started.as_second() >= time.as_second())
}

/// `spent` is what was used of processors within the window, in nanoseconds.
fn usage(spent: u64, used: Used, window: SignedDuration) -> Value {
    let rate = u128::from(spent) * 1_000_000_000 / window.as_nanos().unsigned_abs().max(1);
    let cpu: Quantity = format!("{rate}n").parse().unwrap_or(Quantity::ZERO);
    let memory = Quantity::from_units(i64::try_from(used.memory).unwrap_or(i64::MAX), Format::BinarySI);
    json!({"cpu": cpu.to_string(), "memory": memory.to_string()})
}

/// A duration as Go writes it, to a thousandth.
fn as_go(duration: SignedDuration) -> String {
    let (minutes, millis) = (duration.as_secs() / 60, duration.as_millis() % 60_000);
    let seconds = format!("{}.{:03}", millis / 1000, millis % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}

/// A `Table` of such rows.
pub(crate) fn table(rows: Vec<Value>, beta: bool) -> Value {
    let columns = [("Name", "name"), ("cpu", ""), ("memory", ""), ("window", "duration")];
    let columns = columns.map(|(name, format)| {
        json!({"name": name, "type": "string", "format": format, "description": "", "priority": 0})
    });
    let version = if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" };
    json!({"kind": "Table", "apiVersion": version, "metadata": {}, "columnDefinitions": columns, "rows": rows})
}

/// The row of an object: its name, and what it uses in all.
pub(crate) fn row(told: &Value) -> Value {
    let amount = |resource: &str| {
        let own = told["usage"][resource].as_str().into_iter();
        let parts = meta::items(told, &["containers"]).iter().filter_map(|c| c["usage"][resource].as_str());
        let sum: Quantity = own.chain(parts).filter_map(|amount| amount.parse().ok()).sum();
        sum.to_string()
    };
    let object = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": told["metadata"]});
    json!({"cells": [told["metadata"]["name"], amount("cpu"), amount("memory"), told["window"]], "object": object})
}

#[cfg(test)]
#[path = "told_tests.rs"]
mod tests;
