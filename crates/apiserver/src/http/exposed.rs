//! `/metrics`.

use http::header::{self, HeaderMap};
use http::{Response, StatusCode};
use tiphys_metrics::{Exposition, Format, Kind};
use tokio::time::timeout;

use super::body::Body;
use super::{Handler, health, respond};

/// How long the store may take to tell its size.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

impl Handler {
    /// What the server has counted, in the text that the client prefers.
    pub(super) async fn exposed(&self, headers: &HeaderMap) -> Response<Body> {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let format = Format::accept(accept);
        let mut text = Exposition::new(format);
        self.metrics.expose(&mut text);
        self.auditor.expose(&mut text);
        self.fairness.expose(&mut text);
        self.tracer.expose(&mut text);
        self.registry.admission_times().expose(&mut text);
        self.stored(&mut text);
        self.storage_size(&mut text).await;
        build_info(&mut text);
        respond::whole(StatusCode::OK, format.content_type(), text.finish().into(), headers)
    }

    /// What health checks have found.
    pub(super) fn exposed_checks(&self, headers: &HeaderMap) -> Response<Body> {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let format = Format::accept(accept);
        let mut text = Exposition::new(format);
        self.metrics.checks.expose(&mut text);
        respond::whole(StatusCode::OK, format.content_type(), text.finish().into(), headers)
    }

    /// How much room the store takes; nothing where it does not say so in time.
    async fn storage_size(&self, text: &mut Exposition) {
        if let Ok(Ok(size)) = timeout(PATIENCE, self.registry.store().size()).await {
            text.family("apiserver_storage_size_bytes", Kind::Gauge, "How many bytes the store takes.");
            text.sample(&[("storage_cluster_id", "etcd-0")], size as f64);
        }
    }

    /// How many objects there are of each resource that is kept, and whose watchers did not follow.
    fn stored(&self, text: &mut Exposition) {
        let kinds = self.registry.kinds();
        let mut found = std::collections::BTreeMap::new();
        for storage in kinds.iter().filter_map(|kind| kind.storage.as_ref()) {
            if let Some(collection) = self.registry.cache().collection(&storage.group, &storage.resource) {
                found.insert(
                    (&*storage.group, &*storage.resource),
                    (collection.count(), collection.slow_watchers(), collection.received()),
                );
            }
        }
        let help = "Objects of a resource, by its name and group.";
        text.family("apiserver_storage_objects", Kind::Gauge, help);
        for ((group, resource), (count, ..)) in &found {
            let name = match *group {
                "" => (*resource).to_owned(),
                group => format!("{resource}.{group}"),
            };
            text.sample(&[("resource", &*name)], *count as f64);
        }
        text.family("apiserver_resource_objects", Kind::Gauge, "Objects of a resource.");
        for ((group, resource), (count, ..)) in &found {
            text.sample(&[("group", group), ("resource", resource)], *count as f64);
        }
        let help = "Watches that were ended because their clients did not follow.";
        text.family("apiserver_terminated_watchers_total", Kind::Counter, help);
        for ((group, resource), (_, slow, _)) in found.iter().filter(|(_, (_, slow, _))| *slow > 0) {
            text.sample(&[("group", group), ("resource", resource)], *slow as f64);
        }
        let help = "Changes of objects that the store has told.";
        text.family("apiserver_storage_events_received_total", Kind::Counter, help);
        for ((group, resource), (_, _, received)) in &found {
            text.sample(&[("group", group), ("resource", resource)], *received as f64);
        }
    }
}

/// The version of this build. Labels are named with underscores where `version.Info` has capitals.
fn build_info(text: &mut Exposition) {
    text.family("kubernetes_build_info", Kind::Gauge, "What is running, always 1.");
    let parts = health::version_parts();
    let names = parts.each_ref().map(|(name, _)| {
        name.chars().fold(String::new(), |mut snake, c| {
            if c.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
            snake
        })
    });
    let labels: Vec<_> = names.iter().zip(&parts).map(|(name, (_, value))| (&**name, &**value)).collect();
    text.sample(&labels, 1.0);
}

#[cfg(test)]
#[path = "exposed_tests.rs"]
mod tests;
