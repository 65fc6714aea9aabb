//! `metrics.k8s.io`, unless another server answers it: what nodes and pods use, found out when somebody asks.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tiphys_api::selector::{FieldSelector, LabelSelector};
use tiphys_api::status::Status;

use super::body::Body;
use super::negotiate::{self, Accepted, Encoding, Offer, Shape};
use super::request_info::{ResourceRequest, Verb};
use super::{Asked, Handler, encode, method_not_allowed, not_here, respond};
use crate::aggregation::own::METRICS;
use crate::cache::{Filter, Object};
use crate::usage::{Metrics, row, table};

impl Handler {
    /// Answers a request to the API group that the server serves while no APIService leads elsewhere.
    pub(super) async fn usage(&self, r: &ResourceRequest, asked: &Asked) -> Result<Response<Body>, Status> {
        let metrics = match (&*r.resource, &*r.namespace) {
            ("nodes", "") => Metrics::Nodes,
            ("pods", namespace) if r.name.is_empty() || !namespace.is_empty() => Metrics::Pods,
            _ => return Err(not_here()),
        };
        if !r.subresource.is_empty() {
            return Err(not_here());
        }
        if !matches!(r.verb, Verb::Get | Verb::List) {
            return Err(method_not_allowed());
        }
        let offer = Offer { stream: false, shapes: true, protobuf: false };
        let headers = &asked.head.headers;
        let accepted = negotiate::accept(headers, asked.query.optional_flag("pretty"), offer)?;
        let filter = filter(r, asked)?;
        self.usage.fresh().await;
        let collection = self.registry.cache().collection("", &r.resource).ok_or_else(not_here)?;
        let body = if r.verb == Verb::Get {
            let found = collection
                .get(&r.namespace, &r.name)
                .and_then(|object| self.told(metrics, &r.version, &object));
            let found = found.ok_or_else(|| not_found(metrics, r))?;
            one(&found, accepted)?
        } else {
            let namespace = (!r.namespace.is_empty()).then_some(&*r.namespace);
            let objects = collection.iter(namespace).filter(|object| filter.matches(object));
            let told = objects.filter_map(|object| self.told(metrics, &r.version, &object));
            list(metrics, &r.version, told, accepted)?
        };
        Ok(respond::whole(StatusCode::OK, accepted.encoding.media_type(), body, headers))
    }

    fn told(&self, metrics: Metrics, version: &str, object: &Arc<Object>) -> Option<Value> {
        let node = match metrics {
            Metrics::Nodes => object.name(),
            // A node tells only of its own pods.
            Metrics::Pods => object.field("spec.nodeName")?,
        };
        self.usage.of(node, |pair| metrics.of(object, version, pair))
    }
}

fn filter(r: &ResourceRequest, asked: &Asked) -> Result<Filter, Status> {
    let bad = |e: &dyn std::fmt::Display| Status::bad_request(e.to_string());
    let labels = LabelSelector::parse(asked.query.text("labelSelector")).map_err(|e| bad(&e))?;
    let fields = FieldSelector::parse(asked.query.text("fieldSelector")).map_err(|e| bad(&e))?;
    let namespace = (!r.namespace.is_empty()).then(|| Arc::from(&*r.namespace));
    Ok(Filter { namespace, labels: Arc::new(labels), fields: Arc::new(fields), ..Filter::default() })
}

fn not_found(metrics: Metrics, r: &ResourceRequest) -> Status {
    match metrics {
        Metrics::Nodes => Status::not_found(METRICS, "nodemetrics", &r.name),
        Metrics::Pods => {
            let name = format!("{}/{}", r.namespace, r.name);
            Status::not_found(METRICS, "podmetrics", &name)
        }
    }
}

fn one(told: &Value, accepted: Accepted) -> Result<Bytes, Status> {
    let Accepted { encoding, shape, pretty } = accepted;
    match shape {
        Shape::Whole => encode::value(told, encoding, pretty),
        Shape::Table { beta } => encode::value(&table(vec![row(told)], beta), encoding, pretty),
        Shape::Metadata { beta } => encode::value(&metadata(told, beta), encoding, pretty),
    }
}

fn list(
    metrics: Metrics,
    version: &str,
    told: impl Iterator<Item = Value>,
    accepted: Accepted,
) -> Result<Bytes, Status> {
    let Accepted { encoding, shape, pretty } = accepted;
    let list = |kind: String, version: &str, items: Vec<Value>| json!({"kind": kind, "apiVersion": version, "metadata": {}, "items": items});
    let kind = format!("{}List", metrics.kind());
    let whole = match shape {
        // There may be very many: only their text is held.
        Shape::Whole if encoding == Encoding::Json && !pretty => {
            let mut text =
                format!(r#"{{"kind":"{kind}","apiVersion":"{METRICS}/{version}","metadata":{{}},"items":["#);
            for (n, item) in told.enumerate() {
                text.push_str(if n == 0 { "" } else { "," });
                text.push_str(&item.to_string());
            }
            text.push_str("]}");
            return Ok(text.into());
        }
        Shape::Whole => list(kind, &format!("{METRICS}/{version}"), told.collect()),
        Shape::Table { beta } => table(told.map(|told| row(&told)).collect(), beta),
        Shape::Metadata { beta } => {
            let items = told.map(|told| metadata(&told, beta)).collect();
            list("PartialObjectMetadataList".to_owned(), meta_version(beta), items)
        }
    };
    encode::value(&whole, encoding, pretty)
}

fn meta_version(beta: bool) -> &'static str {
    if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
}

fn metadata(told: &Value, beta: bool) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": meta_version(beta), "metadata": told["metadata"]})
}
