//! Autoscalers of `autoscaling/v1`, which knows one metric: the use of CPU.
//!
//! What only newer versions have travels in annotations of the older, as upstream writes them: metrics and
//! their statuses in a flat form (that of `v2beta1`), the behavior by the names of upstream's Go fields.

use serde_json::{Map, Value, json};

use crate::decode;
use crate::meta::{self, as_map, child_mut};
use crate::schema::Schema;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
pub(crate) const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// A source of metrics: its field, and the names that its flat form has for a value and a mean of values.
struct Source {
    field: &'static str,
    value: &'static str,
    average: &'static str,
    selector: &'static str,
}

/// What one value is called in the flat form; the wanted ones begin with `target`, the present with `current`.
const SOURCES: [Source; 5] = [
    Source { field: "containerResource", value: "", average: "AverageValue", selector: "" },
    Source { field: "external", value: "Value", average: "AverageValue", selector: "metricSelector" },
    Source { field: "object", value: "Value", average: "averageValue", selector: "selector" },
    Source { field: "pods", value: "", average: "AverageValue", selector: "selector" },
    Source { field: "resource", value: "", average: "AverageValue", selector: "" },
];

/// Whether a metric tells what is wanted or what is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tells {
    Target,
    Current,
}

impl Tells {
    /// The field of the nested form, which is the prefix in the flat form.
    fn field(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Current => "current",
        }
    }

    /// `averageValue` is a name of its own; the others continue the prefix.
    fn flat(self, name: &str) -> String {
        if name.starts_with(char::is_lowercase) { name.to_owned() } else { format!("{}{name}", self.field()) }
    }
}

/// A metric of `v2` in the flat form of `v1`'s annotations and of `v2beta1`.
pub(crate) fn flat_metric(tells: Tells, metric: &Value) -> Value {
    let mut flat = Map::new();
    copy(metric, &["type"], &mut flat);
    for source in &SOURCES {
        let Some(nested) = metric.get(source.field).filter(|s| s.is_object()) else { continue };
        let mut out = Map::new();
        let amount = &nested[tells.field()];
        let named = [
            (source.value, amount.get("value")),
            (source.average, amount.get("averageValue")),
            ("AverageUtilization", amount.get("averageUtilization")),
        ];
        for (name, value) in named {
            if let (false, Some(value)) = (name.is_empty(), value) {
                out.insert(tells.flat(name), value.clone());
            }
        }
        if source.selector.is_empty() {
            copy(nested, &["name", "container"], &mut out);
        } else {
            move_to(&nested["metric"], "name", "metricName", &mut out);
            move_to(&nested["metric"], "selector", source.selector, &mut out);
            move_to(nested, "describedObject", "target", &mut out);
        }
        flat.insert(source.field.to_owned(), out.into());
    }
    flat.into()
}

/// A metric in the flat form, as `v2` has it.
pub(crate) fn nested_metric(tells: Tells, metric: &Value) -> Value {
    let mut nested = Map::new();
    copy(metric, &["type"], &mut nested);
    for source in &SOURCES {
        let Some(flat) = metric.get(source.field).filter(|s| s.is_object()) else { continue };
        let mut amount = Map::new();
        move_to(flat, &tells.flat(source.average), "averageValue", &mut amount);
        move_to(flat, &tells.flat("AverageUtilization"), "averageUtilization", &mut amount);
        if !source.value.is_empty() {
            move_to(flat, &tells.flat(source.value), "value", &mut amount);
        }
        if tells == Tells::Target {
            let kind = if amount.contains_key("averageUtilization") {
                "Utilization"
            } else if amount.contains_key("value") {
                "Value"
            } else {
                "AverageValue"
            };
            amount.insert("type".to_owned(), kind.into());
        }
        let mut out = Map::new();
        out.insert(tells.field().to_owned(), amount.into());
        if source.selector.is_empty() {
            copy(flat, &["name", "container"], &mut out);
        } else {
            let mut named = Map::new();
            move_to(flat, "metricName", "name", &mut named);
            move_to(flat, source.selector, "selector", &mut named);
            out.insert("metric".to_owned(), named.into());
            if source.field == "object" {
                move_to(flat, "target", "describedObject", &mut out);
            }
        }
        nested.insert(source.field.to_owned(), out.into());
    }
    nested.into()
}

fn copy(from: &Value, fields: &[&str], to: &mut Map<String, Value>) {
    for field in fields {
        move_to(from, field, field, to);
    }
}

fn move_to(from: &Value, field: &str, name: &str, to: &mut Map<String, Value>) {
    if let Some(value) = from.get(field).filter(|v| !v.is_null()) {
        to.insert(name.to_owned(), value.clone());
    }
}

fn is_cpu_use(metric: &Value, amount: &str) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric["resource"][amount]["averageUtilization"].is_i64()
}

/// An autoscaler of `v1` as `v2` has it.
pub(crate) fn to_v2(autoscaler: &mut Value) {
    let map = as_map(autoscaler);
    let mut notes = Map::new();
    if let Some(annotations) = map.get_mut("metadata").and_then(|m| m.get_mut("annotations")) {
        let annotations = as_map(annotations);
        for key in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
            if let Some(Value::String(text)) = annotations.remove(key)
                && let Ok(value) = serde_json::from_str(&text)
            {
                notes.insert(key.to_owned(), value);
            }
        }
        if annotations.is_empty() {
            meta::set(autoscaler, "annotations", None);
        }
    }
    let nested = |tells, list: Option<&Value>| -> Vec<Value> {
        let all = list.and_then(Value::as_array).into_iter().flatten();
        all.map(|metric| nested_metric(tells, metric)).collect()
    };
    let map = as_map(autoscaler);
    let spec = child_mut(map, "spec");
    let mut metrics = understood("Spec", "metrics", nested(Tells::Target, notes.get(METRICS)).into());
    if let Some(percent) = spec.remove("targetCPUUtilizationPercentage") {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": percent}}});
        match &mut metrics {
            Some(Value::Array(others)) => others.push(cpu),
            none => *none = Some(json!([cpu])),
        }
    }
    if let Some(metrics) = metrics {
        spec.insert("metrics".to_owned(), metrics);
    }
    let behavior = notes.remove(BEHAVIOR).map(|b| first_letters(b, char::to_ascii_lowercase));
    if let Some(behavior) = behavior.and_then(|b| understood("Spec", "behavior", b)) {
        spec.insert("behavior".to_owned(), behavior);
    }
    crate::defaults::autoscaler("v2", autoscaler);

    let Some(status) = autoscaler.get_mut("status").and_then(Value::as_object_mut) else { return };
    let percent = status.remove("currentCPUUtilizationPercentage");
    let noted = nested(Tells::Current, notes.get(CURRENT_METRICS));
    let current = understood("Status", "currentMetrics", noted.into()).or_else(|| {
        Some(json!([{"type": "Resource",
            "resource": {"name": "cpu", "current": {"averageUtilization": percent?}}}]))
    });
    let conditions = notes.remove(CONDITIONS).and_then(|c| understood("Status", "conditions", c));
    for (field, value) in [("currentMetrics", current), ("conditions", conditions)] {
        if let Some(value) = value {
            status.insert(field.to_owned(), value);
        }
    }
}

/// An autoscaler of `v2` as `v1` has it.
pub(crate) fn to_v1(autoscaler: &mut Value) {
    let map = as_map(autoscaler);
    let mut notes = Vec::new();
    let spec = child_mut(map, "spec");
    if let Some(Value::Array(metrics)) = spec.remove("metrics") {
        let (cpu, others): (Vec<_>, Vec<_>) = metrics.iter().partition(|m| is_cpu_use(m, "target"));
        if let Some(cpu) = cpu.first() {
            let percent = cpu["resource"]["target"]["averageUtilization"].clone();
            spec.insert("targetCPUUtilizationPercentage".to_owned(), percent);
        }
        if !others.is_empty() {
            notes.push((METRICS, others.iter().map(|m| flat_metric(Tells::Target, m)).collect()));
        }
    }
    if let Some(behavior) = spec.remove("behavior") {
        notes.push((BEHAVIOR, first_letters(behavior, char::to_ascii_uppercase)));
    }
    if let Some(status) = map.get_mut("status").and_then(Value::as_object_mut) {
        status.entry("currentReplicas").or_insert_with(|| 0.into());
        if let Some(Value::Array(metrics)) = status.remove("currentMetrics").filter(|m| *m != json!([])) {
            if let Some(cpu) = metrics.iter().rfind(|m| is_cpu_use(m, "current")) {
                let percent = cpu["resource"]["current"]["averageUtilization"].clone();
                status.insert("currentCPUUtilizationPercentage".to_owned(), percent);
            }
            notes.push((CURRENT_METRICS, metrics.iter().map(|m| flat_metric(Tells::Current, m)).collect()));
        }
        if let Some(conditions) = status.remove("conditions").filter(|c| *c != json!([])) {
            notes.push((CONDITIONS, conditions));
        }
    }
    if let Some(annotations) = map.get_mut("metadata").and_then(|m| m.get_mut("annotations")) {
        as_map(annotations)
            .retain(|key, _| ![METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR].contains(&&**key));
    }
    if !notes.is_empty() {
        let annotations = child_mut(child_mut(map, "metadata"), "annotations");
        annotations.extend(notes.into_iter().map(|(key, value)| (key.to_owned(), value.to_string().into())));
    }
}

/// A field of the `v2` spec or status with the structure that the schema gives it; `None` if it has another,
/// for anyone can write annotations, or if it is empty.
pub(crate) fn understood(part: &str, field: &str, value: Value) -> Option<Value> {
    let ty = Schema::builtin().named(&format!("autoscaling.v2.HorizontalPodAutoscaler{part}"))?;
    let whole = Value::Object(Map::from_iter([(field.to_owned(), value)]));
    let (mut read, _unknown_fields) = decode::from_value(ty, whole).ok()?;
    read.remove(field).filter(|value| *value != json!([]) && *value != json!({}))
}

/// `scaleUp` is `ScaleUp` to Go, and the other way round.
pub(crate) fn first_letters(value: Value, case: fn(&char) -> char) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| {
                let mut letters = key.chars();
                let first = letters.next().iter().map(case).collect::<String>();
                (first + letters.as_str(), first_letters(value, case))
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(|item| first_letters(item, case)).collect(),
        other => other,
    }
}

#[cfg(test)]
#[path = "autoscaling_tests.rs"]
mod tests;
