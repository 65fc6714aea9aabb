//! `autoscaling/v2beta1`: each kind of metric had its own fields for what it aims at, and there was no behaviour.

use serde_json::Value;

use super::{annotate, object, take_annotation};
use crate::convert::autoscaling::{
    BEHAVIOR, Tells, first_letters, flat_metric, nested_metric, to_v1, to_v2, understood,
};
use crate::meta::{as_map, child_mut};

pub(crate) fn to_storage(version: &str, autoscaler: &mut Value) {
    match version {
        "v1" => to_v2(autoscaler),
        "v2beta1" => {
            metrics(autoscaler, nested_metric);
            let text = take_annotation(autoscaler, BEHAVIOR);
            let behavior = text.and_then(|text| serde_json::from_str(&text).ok());
            let behavior = behavior.map(|b| first_letters(b, char::to_ascii_lowercase));
            if let Some(behavior) = behavior.and_then(|b| understood("Spec", "behavior", b)) {
                child_mut(as_map(autoscaler), "spec").insert("behavior".to_owned(), behavior);
            }
        }
        // Of v2beta2 the names are the current ones.
        _ => {}
    }
}

pub(crate) fn from_storage(version: &str, autoscaler: &mut Value) {
    match version {
        "v1" => to_v1(autoscaler),
        "v2beta1" => {
            metrics(autoscaler, flat_metric);
            if let Some(behavior) =
                object(as_map(autoscaler), "spec").and_then(|spec| spec.remove("behavior"))
            {
                let behavior = first_letters(behavior, char::to_ascii_uppercase);
                annotate(autoscaler, BEHAVIOR, behavior.to_string());
            }
        }
        _ => {}
    }
    if let Some(status) = object(as_map(autoscaler), "status") {
        status.entry("currentReplicas").or_insert_with(|| 0.into());
    }
}

/// Changes every metric that is aimed at and every one that was measured.
fn metrics(autoscaler: &mut Value, change: fn(Tells, &Value) -> Value) {
    let autoscaler = as_map(autoscaler);
    for (part, list, tells) in
        [("spec", "metrics", Tells::Target), ("status", "currentMetrics", Tells::Current)]
    {
        let list = object(autoscaler, part).and_then(|part| part.get_mut(list)).and_then(Value::as_array_mut);
        for metric in list.into_iter().flatten() {
            *metric = change(tells, metric);
        }
    }
}
