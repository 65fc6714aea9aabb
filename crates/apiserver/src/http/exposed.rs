//! `/metrics`.

use http::header::{self, HeaderMap};
use http::{Response, StatusCode};
use tiphys_metrics::{Exposition, Format, Kind};

use super::body::Body;
use super::{Handler, health, respond};

impl Handler {
    /// What the server has counted, in the text that the client prefers.
    pub(super) fn exposed(&self, headers: &HeaderMap) -> Response<Body> {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let format = Format::accept(accept);
        let mut text = Exposition::new(format);
        self.metrics.expose(&mut text);
        self.auditor.expose(&mut text);
        self.fairness.expose(&mut text);
        self.tracer.expose(&mut text);
        self.registry.admission_times().expose(&mut text);
        self.stored(&mut text);
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

    /// How many objects there are of each resource that is kept.
    fn stored(&self, text: &mut Exposition) {
        let help = "Objects of a resource, by its name and group.";
        text.family("apiserver_storage_objects", Kind::Gauge, help);
        let kinds = self.registry.kinds();
        let mut counts = std::collections::BTreeMap::new();
        for storage in kinds.iter().filter_map(|kind| kind.storage.as_ref()) {
            if let Some(collection) = self.registry.cache().collection(&storage.group, &storage.resource) {
                let resource = match &*storage.group {
                    "" => storage.resource.to_string(),
                    group => format!("{}.{group}", storage.resource),
                };
                let of = (storage.group.to_string(), storage.resource.to_string());
                counts.insert(resource, (of, collection.count()));
            }
        }
        for (resource, (_, count)) in &counts {
            text.sample(&[("resource", resource)], *count as f64);
        }
        text.family("apiserver_resource_objects", Kind::Gauge, "Objects of a resource.");
        for ((group, resource), count) in counts.values() {
            text.sample(&[("group", group), ("resource", resource)], *count as f64);
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
