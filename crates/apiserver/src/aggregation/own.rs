//! What this server answers only while no APIService leads elsewhere: `metrics.k8s.io`. It has no rows, so that a
//! server that is installed for it finds its place taken by nobody.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use tiphys_api::custom;
use tiphys_api::kind::{Kinds, Verbs};

use super::merge::Server;
use super::{Backend, Found};
use crate::definitions::Workshop;
use crate::openapi::{self, Foreign, Pieces, Unreadable};

pub(crate) const METRICS: &str = "metrics.k8s.io";
/// The newest first.
pub(crate) const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
/// Of the group and of its versions; those of the metrics server.
const PRIORITY: i64 = 100;

/// The name of a version's APIService.
pub(super) fn name(version: &str) -> String {
    format!("{version}.{METRICS}")
}

/// The APIServices, which are made if there are none.
pub(super) fn services() -> impl Iterator<Item = (String, Value)> {
    VERSIONS.into_iter().map(|version| {
        let service = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": name(version), "labels": {super::local::AUTOMANAGED: "true"}},
            "spec": {"group": METRICS, "version": version, "groupPriorityMinimum": PRIORITY, "versionPriority": PRIORITY},
        });
        (name(version), service)
    })
}

/// The `APIResourceList` of a version.
pub(crate) fn resources(version: &str) -> Value {
    let resource = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]});
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{METRICS}/{version}"),
        "resources": [resource("nodes", "NodeMetrics", false), resource("pods", "PodMetrics", true)],
    })
}

/// As it stands among other servers, by its versions.
pub(super) fn servers() -> Vec<Server> {
    static OWN: OnceLock<Vec<(Arc<Backend>, Arc<Found>)>> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let servers = VERSIONS.into_iter().map(|version| {
            let backend = Backend {
                name: name(version),
                group: METRICS.to_owned(),
                version: version.to_owned(),
                group_priority: PRIORITY,
                version_priority: PRIORITY,
                available: true,
                endpoint: Err("this server answers it".to_owned()),
            };
            let hash = openapi::v3_hash(kinds(), METRICS, version);
            let openapi = hash.map(|hash| openapi::v3_url(METRICS, version, &hash));
            (Arc::new(backend), Arc::new(Found { resources: resources(version), openapi }))
        });
        servers.collect()
    });
    own.iter().map(|(backend, found)| (Arc::clone(backend), Some(Arc::clone(found)))).collect()
}

/// What OpenAPI is to say of it, in the form of rows that nothing else sees.
pub(crate) fn kinds() -> &'static Kinds {
    static KINDS: OnceLock<Kinds> = OnceLock::new();
    KINDS.get_or_init(|| {
        let described = |schema: Value, text: &str| {
            let mut schema = schema;
            schema["description"] = text.into();
            schema
        };
        let usage = described(
            json!({"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true,
                "anyOf": [{"type": "integer"}, {"type": "string"}]}}),
            "What is used, by resource: cpu and memory.",
        );
        let container = json!({"type": "object", "description": "What one container uses.", "required": ["name", "usage"],
            "properties": {"name": described(json!({"type": "string"}), "The container's name."), "usage": usage}});
        let of_containers =
            described(json!({"type": "array", "items": container}), "What each container uses.");
        let mut kinds = Kinds::default();
        for (plural, kind, scope, what, used) in [
            ("nodes", "NodeMetrics", "Cluster", "usage", usage.clone()),
            ("pods", "PodMetrics", "Namespaced", "containers", of_containers),
        ] {
            let schema = described(
                json!({"type": "object", "required": ["timestamp", "window", what], "properties": {
                    "timestamp": described(json!({"type": "string", "format": "date-time"}), "The end of the window."),
                    "window": described(json!({"type": "string"}), "The time within which was used what is told."),
                    what: used,
                }}),
                "What was used of late.",
            );
            let versions = VERSIONS.map(|version| {
                let storage = version == VERSIONS[0];
                json!({"name": version, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}})
            });
            let names = json!({"plural": plural, "kind": kind, "listKind": format!("{kind}List")});
            let definition = json!({"spec": {"group": METRICS, "scope": scope, "versions": versions},
                "status": {"acceptedNames": names}});
            let mut row = custom::row(&definition, &Workshop::default());
            row.verbs = Verbs::GET.and(Verbs::LIST);
            // Both are there once, in a table of their own.
            if let Err(taken) = kinds.insert(row) {
                tracing::error!(%taken, "a kind is there twice");
            }
        }
        kinds
    })
}

/// The same in OpenAPI v2, as another server would say it.
///
/// # Errors
/// It cannot be read, which is a bug.
pub(crate) fn described() -> Result<Vec<Arc<Foreign>>, Unreadable> {
    let document = openapi::v2(kinds(), &mut Pieces::default(), &[])?;
    let read = |version| Foreign::read(&document.body, METRICS, version).map(Arc::new);
    VERSIONS.into_iter().map(read).collect()
}
