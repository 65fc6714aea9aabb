//! Which other servers can be reached, and what they serve.
//!
//! A server is asked when its APIService changes, when the addresses behind its Service do, and else every half a
//! minute, or sooner while it fails. What comes of it is written into the APIService's condition, which is what
//! requests go by.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};
use tiphys_api::kind::Update;
use tiphys_api::meta;
use tokio::time::Instant;

use super::{Aggregation, Backend, Found, GROUP, RESOURCE, local, vouch_for_itself};
use crate::outgoing::{Endpoint, Step};
use crate::registry::objectmeta::time;
use crate::registry::{Registry, Updating};

/// How often a server that answers is asked, and one that does not.
const EVERY: Duration = Duration::from_secs(30);
const SOONER: Duration = Duration::from_secs(5);
/// Changes that follow each other this closely are looked at together.
const SETTLE: Duration = Duration::from_millis(100);
/// An answer is there by then.
const PATIENCE: Duration = Duration::from_secs(5);
/// Servers asked at the same time.
const AT_ONCE: usize = 16;

/// What is watched besides the APIServices.
const BEHIND: [(&str, &str); 2] = [("", "services"), ("discovery.k8s.io", "endpointslices")];

/// What an APIService's condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    available: bool,
    reason: &'static str,
    message: String,
}

/// A server as it was when it was last asked.
struct Known {
    endpoint: Result<Arc<Endpoint>, String>,
    /// Where its Service led to.
    addresses: Option<String>,
    condition: Condition,
    found: Arc<Found>,
    due: Instant,
}

/// Asks servers and keeps their conditions, for ever.
pub(super) async fn run(aggregation: Arc<Aggregation>, registry: Arc<Registry>) {
    let mut known: HashMap<String, Known> = HashMap::new();
    loop {
        let source = &aggregation.source;
        let version = source.version(GROUP, RESOURCE);
        let behind = BEHIND.map(|(group, resource)| source.version(group, resource));
        let backends = aggregation.backends();
        known.retain(|name, _| backends.iter().any(|b| b.name == *name));
        let now = Instant::now();
        let mut due = backends.clone();
        due.retain(|b| known.get(&b.name).is_none_or(|k| k.is_due(b, now)));
        let asked: Vec<_> = due
            .into_iter()
            .map(|backend| {
                let before = known.get(&backend.name).map(|k| Arc::clone(&k.found));
                ask(backend, before)
            })
            .collect();
        let asked: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        for (backend, state) in asked {
            known.insert(backend.name.clone(), state);
        }
        aggregation.remember(known.iter().map(|(n, k)| (n.clone(), Arc::clone(&k.found))).collect());
        for backend in &backends {
            let Some(Known { condition, .. }) = known.get(&backend.name) else { continue };
            if let Err(status) = write(&registry, backend, condition).await {
                tracing::warn!(name = backend.name, %status, "cannot write an APIService's condition");
            }
        }
        let next = known.values().map(|k| k.due).min();
        tokio::select! {
            () = source.changed(GROUP, RESOURCE, version) => {}
            // Without anybody to ask, nothing behind is of interest.
            () = source.changed(BEHIND[0].0, BEHIND[0].1, behind[0]), if next.is_some() => {}
            () = source.changed(BEHIND[1].0, BEHIND[1].1, behind[1]), if next.is_some() => {}
            () = tokio::time::sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

impl Known {
    fn is_due(&self, backend: &Backend, now: Instant) -> bool {
        let same = match (&self.endpoint, &backend.endpoint) {
            (Ok(then), Ok(now)) => Arc::ptr_eq(then, now),
            (then, now) => then.as_ref().err() == now.as_ref().err(),
        };
        !same || self.due <= now || self.addresses != addresses(backend)
    }
}

/// Where the backend's Service leads to, as text to compare.
fn addresses(backend: &Backend) -> Option<String> {
    backend.endpoint.as_ref().ok()?.resolved().ok()
}

/// Asks one server what it serves.
async fn ask(backend: Arc<Backend>, before: Option<Arc<Found>>) -> (Arc<Backend>, Known) {
    let addresses = addresses(&backend);
    let (condition, found) = match reach(&backend).await {
        Ok(found) => {
            let message = "all checks passed".to_owned();
            (Condition { available: true, reason: "Passed", message }, Arc::new(found))
        }
        // What it served is shown as stale.
        Err(condition) => (condition, before.unwrap_or_default()),
    };
    let due = Instant::now() + if condition.available { EVERY } else { SOONER };
    let known = Known { endpoint: backend.endpoint.clone(), addresses, condition, found, due };
    (backend, known)
}

async fn reach(backend: &Backend) -> Result<Found, Condition> {
    let failed = |reason, message| Condition { available: false, reason, message };
    let endpoint = backend.endpoint.as_ref().map_err(|why| failed("FailedDiscoveryCheck", why.clone()))?;
    if let Err(step) = endpoint.resolved() {
        let (name, namespace, port) = endpoint.service().unwrap_or_default();
        return Err(match step {
            Step::NoService(_) => {
                failed("ServiceNotFound", format!("service/{name} in {namespace:?} is not present"))
            }
            Step::NoPort { .. } => failed(
                "ServicePortError",
                format!("service/{name} in {namespace:?} is not listening on port {port}"),
            ),
            _ => failed(
                "MissingEndpoints",
                format!("endpointslices for service/{name} in {namespace:?} have no ready addresses"),
            ),
        });
    }
    let mut headers = HeaderMap::new();
    vouch_for_itself(&mut headers);
    let path = format!("/apis/{}/{}", backend.group, backend.version);
    let resources = endpoint.get(&path, headers.clone(), PATIENCE).await.map_err(|e| {
        failed("FailedDiscoveryCheck", format!("failing or missing response from {}: {e}", e.url))
    })?;
    // A server may have no description of itself.
    let index = endpoint.get("/openapi/v3", headers, PATIENCE).await.unwrap_or_default();
    let openapi = index["paths"][path.trim_start_matches('/')]["serverRelativeURL"].as_str();
    Ok(Found { resources, openapi: openapi.map(str::to_owned) })
}

/// The object with the condition; `None` if it has it already.
fn with_condition(object: &Value, condition: &Condition, now: &str) -> Option<Value> {
    let status = if condition.available { "True" } else { "False" };
    let mut conditions = meta::items(object, &["status", "conditions"]).to_vec();
    let old = conditions.iter().position(|c| c["type"] == "Available").map(|at| conditions.remove(at));
    let old = old.unwrap_or_default();
    if old["status"] == status && old["reason"] == condition.reason && old["message"] == condition.message {
        return None;
    }
    let since = if old["status"] == status { old["lastTransitionTime"].clone() } else { now.into() };
    conditions.push(json!({"type": "Available", "status": status, "lastTransitionTime": since,
                           "reason": condition.reason, "message": condition.message}));
    let mut object = object.clone();
    object["status"]["conditions"] = conditions.into();
    Some(object)
}

async fn write(
    registry: &Registry,
    backend: &Backend,
    condition: &Condition,
) -> Result<(), tiphys_api::status::Status> {
    let rows = registry.kinds();
    let Some(kind) = rows.resource(GROUP, "v1", RESOURCE) else { return Ok(()) };
    let now = time(Timestamp::now());
    let current = registry.collection(kind)?.get("", &backend.name);
    let Some(current) = current else { return Ok(()) };
    let current: Value = serde_json::from_slice(current.json()).unwrap_or_default();
    if with_condition(&current, condition, &now).is_none() {
        return Ok(());
    }
    let call = local::call(kind, &backend.name, "status");
    let mut make = |live: Option<&Value>| {
        let live = live.ok_or_else(|| call.not_found())?;
        Ok(with_condition(live, condition, &now).unwrap_or_else(|| live.clone()))
    };
    let updating = Updating { rules: Update::PLAIN, create: false, make: &mut make };
    match registry.update(&call, updating).await {
        Err(status) if status.code() == 404 => Ok(()),
        done => done.map(drop),
    }
}

#[cfg(test)]
#[path = "availability_tests.rs"]
mod tests;
