//! What this server answers only while no APIService leads elsewhere: `metrics.k8s.io`. It has no rows, so that a
//! server that is installed for it finds its place taken by nobody.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::local::AUTOMANAGED;
use super::merge::Server;
use super::{Backend, Found};

pub(crate) const METRICS: &str = "metrics.k8s.io";
pub(crate) const VERSION: &str = "v1beta1";
/// That of the APIService.
pub(super) const NAME: &str = "v1beta1.metrics.k8s.io";
/// Of the group and of the version; those of the metrics server.
const PRIORITY: i64 = 100;

/// Its APIService, which is made if there is none.
pub(super) fn service() -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": NAME, "labels": {AUTOMANAGED: "true"}},
        "spec": {"group": METRICS, "version": VERSION, "groupPriorityMinimum": PRIORITY, "versionPriority": PRIORITY},
    })
}

/// Its `APIResourceList`.
pub(crate) fn resources() -> &'static Value {
    static RESOURCES: OnceLock<Value> = OnceLock::new();
    RESOURCES.get_or_init(|| {
        let resource = |name: &str, kind: &str, namespaced: bool| {
            json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]})
        };
        json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{METRICS}/{VERSION}"),
            "resources": [resource("nodes", "NodeMetrics", false), resource("pods", "PodMetrics", true)],
        })
    })
}

/// As it stands among other servers.
pub(super) fn server() -> Server {
    static OWN: OnceLock<(Arc<Backend>, Arc<Found>)> = OnceLock::new();
    let (backend, found) = OWN.get_or_init(|| {
        let backend = Backend {
            name: NAME.to_owned(),
            group: METRICS.to_owned(),
            version: VERSION.to_owned(),
            group_priority: PRIORITY,
            version_priority: PRIORITY,
            available: true,
            endpoint: Err("this server answers it".to_owned()),
        };
        (Arc::new(backend), Arc::new(Found { resources: resources().clone(), openapi: None }))
    });
    (Arc::clone(backend), Some(Arc::clone(found)))
}
