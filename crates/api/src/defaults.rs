//! What the API fills in where a client says nothing. The values are those of upstream's versioned defaults.
//!
//! Every function is idempotent: it runs after decoding, after admission and after a patch. Numbers and flags
//! that the API omits when zero never reach it, so a zero that is there was meant.

use serde_json::{Map, Value, json};

use crate::meta::{as_map, child_mut};

mod machinery;
mod pod;
pub(crate) mod removed;
mod rest;
mod workloads;

pub use machinery::{
    admission_policy, api_service, flow_schema, policy_binding, priority_level, resource_claim,
    resource_claim_template, webhooks,
};
pub use pod::{Qos, pod, pod_template, pod_template_object, qos};
pub use rest::{
    csi_driver, endpoint_slice, endpoints, ingress_class, limit_range, namespace, network_policy, node,
    persistent_volume, persistent_volume_claim, pod_certificate_request, pod_group, priority_class,
    role_binding, secret, service, storage_class, token_request,
};
pub use workloads::{
    autoscaler, cron_job, daemon_set, deployment, job, replica_set, replication_controller, stateful_set,
};

/// A default value.
#[derive(Clone, Copy)]
enum Fill {
    Text(&'static str),
    Int(i64),
    Bool(bool),
    /// `{}`
    Empty,
}

impl From<Fill> for Value {
    fn from(fill: Fill) -> Self {
        match fill {
            Fill::Text(t) => t.into(),
            Fill::Int(i) => i.into(),
            Fill::Bool(b) => b.into(),
            Fill::Empty => Map::new().into(),
        }
    }
}

/// Fills the fields that are absent, or are empty texts.
fn fill(map: &mut Map<String, Value>, defaults: &[(&str, Fill)]) {
    for (key, value) in defaults {
        if map.get(*key).is_none_or(|v| *v == "") {
            map.insert((*key).to_owned(), (*value).into());
        }
    }
}

/// The object under a key, if there is one.
fn object<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(key)?.as_object_mut()
}

/// The objects in the list under a key.
fn each<'a>(map: &'a mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// The `spec` of an object, made where it is missing.
fn spec(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(as_map(object), "spec")
}

fn is_text(map: &Map<String, Value>, key: &str, text: &str) -> bool {
    map.get(key).and_then(Value::as_str) == Some(text)
}

fn list(items: &[&str]) -> Value {
    json!(items)
}

#[cfg(test)]
#[path = "defaults_tests.rs"]
mod tests;
