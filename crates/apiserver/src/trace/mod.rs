//! Traces of requests, as OpenTelemetry has them.
//!
//! A request is traced if its client traces it (W3C `traceparent`) or its number comes up. The trace goes with the task
//! that answers the request, so that each step finds it without being handed it: a step that is not traced costs a
//! look at the task's own variables. What ends is sent in batches, by OTLP over HTTP in JSON; what finds no room is
//! dropped.

mod config;
mod export;
mod parent;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use http::request::Parts;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use rand::RngCore;
use serde_json::{Value, json};
use tiphys_metrics::{Exposition, Kind};

use crate::authz::Target;
use crate::outgoing::{Outgoing, SpecError};

pub use config::{Config, ConfigError};
use export::Exporter;
use parent::Parent;

/// A trace has at most this many spans; further steps are left out.
const MAX_SPANS: usize = 128;

tokio::task_local! {
    static TRACE: Arc<Trace>;
}

/// Decides what is traced, and sends it.
pub(crate) struct Tracer {
    exporter: Option<Exporter>,
    /// Of a million requests, so many are traced.
    per_million: u32,
    dropped: AtomicU64,
}

/// A request that is traced.
pub(crate) struct Trace {
    id: u128,
    /// The span of the whole request, and the client's span that it is part of.
    root: u64,
    parent: u64,
    begun: SystemTime,
    method: Method,
    path: String,
    /// What the request does, once that is known.
    name: OnceLock<String>,
    spans: Mutex<Vec<Span>>,
}

struct Span {
    id: u64,
    parent: u64,
    name: &'static str,
    begun: SystemTime,
    ended: SystemTime,
    failed: bool,
}

impl Tracer {
    /// Without a configuration, nothing is traced.
    ///
    /// # Errors
    /// The endpoint is none.
    pub(crate) fn new(config: Option<Config>, outgoing: &Outgoing) -> Result<Self, SpecError> {
        let per_million = config.as_ref().map_or(0, |config| config.per_million);
        let exporter = config.map(|config| Exporter::start(&config, outgoing)).transpose()?;
        Ok(Self { exporter, per_million, dropped: AtomicU64::new(0) })
    }

    /// Begins the trace of a request, if it is to be traced.
    pub(crate) fn begin(&self, head: &Parts) -> Option<Arc<Trace>> {
        self.exporter.as_ref()?;
        let said =
            head.headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(Parent::parse);
        let mut rng = rand::rng();
        let traced = match &said {
            Some(parent) => parent.sampled,
            None => u64::from(rng.next_u32()) * 1_000_000 < u64::from(self.per_million) << 32,
        };
        traced.then(|| {
            let fresh = || u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
            let (id, parent) = said.map_or_else(fresh_root(fresh), |said| (said.trace, said.span));
            Arc::new(Trace {
                id,
                root: rand::rng().next_u64().max(1),
                parent,
                begun: SystemTime::now(),
                method: head.method.clone(),
                path: head.uri.path().to_owned(),
                name: OnceLock::new(),
                spans: Mutex::default(),
            })
        })
    }

    /// The request has been answered.
    pub(crate) fn end(&self, trace: &Trace, code: StatusCode) {
        let Some(exporter) = &self.exporter else { return };
        if !exporter.take(trace.export(code)) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Adds how many requests were traced for nothing.
    pub(crate) fn expose(&self, text: &mut Exposition) {
        let help = "Traces of requests that were lost because their collector is too slow.";
        let dropped = self.dropped.load(Relaxed) as f64;
        text.single("tiphys_traces_dropped_total", Kind::Counter, help, dropped);
    }
}

/// A trace that nobody has begun before.
fn fresh_root(mut id: impl FnMut() -> u128) -> impl FnOnce() -> (u128, u64) {
    move || (id().max(1), 0)
}

/// Answers a request within its trace.
pub(crate) async fn within<F: Future>(trace: Option<Arc<Trace>>, answer: Pin<&mut F>) -> F::Output {
    match trace {
        Some(trace) => TRACE.scope(trace, answer).await,
        None => answer.await,
    }
}

/// Says what the request does that this task answers, where it is traced.
pub(crate) fn names(verb: &str, target: &Target<'_>) {
    // Nothing to say where nothing is traced.
    let _ = TRACE.try_with(|trace| {
        trace.name.get_or_init(|| match target {
            Target::Path(path) => format!("{verb} {path}"),
            Target::Resource { resource, subresource: "", .. } => format!("{verb} {resource}"),
            Target::Resource { resource, subresource, .. } => format!("{verb} {resource}/{subresource}"),
        });
    });
}

/// A step that is under way, of a request that is traced.
pub(crate) struct Step {
    trace: Arc<Trace>,
    name: &'static str,
    begun: SystemTime,
}

/// Begins a step of what this task answers; `None` if that is not traced.
pub(crate) fn step(name: &'static str) -> Option<Step> {
    let trace = TRACE.try_with(Arc::clone).ok()?;
    Some(Step { trace, name, begun: SystemTime::now() })
}

impl Step {
    /// The step has been done, or has failed.
    pub(crate) fn end(self, failed: bool) {
        self.trace.add(self.name, self.begun, failed);
    }
}

impl Trace {
    fn add(&self, name: &'static str, begun: SystemTime, failed: bool) {
        let mut spans = self.spans.lock();
        if spans.len() < MAX_SPANS {
            let id = rand::rng().next_u64().max(1);
            spans.push(Span { id, parent: self.root, name, begun, ended: SystemTime::now(), failed });
        }
    }

    /// Its spans as OTLP writes them in JSON, the request's own first.
    fn export(&self, code: StatusCode) -> Vec<Value> {
        const SERVER: u32 = 2;
        const INTERNAL: u32 = 1;
        let name = self.name.get().map_or(self.method.as_str(), String::as_str);
        let mut root = self.span(
            self.root,
            self.parent,
            (name, SERVER),
            (self.begun, SystemTime::now()),
            code.is_server_error(),
        );
        root["attributes"] = json!([
            {"key": "http.request.method", "value": {"stringValue": self.method.as_str()}},
            {"key": "url.path", "value": {"stringValue": self.path}},
            {"key": "http.response.status_code", "value": {"intValue": code.as_u16().to_string()}},
        ]);
        let spans = self.spans.lock();
        let steps = spans.iter().map(|span| {
            self.span(span.id, span.parent, (span.name, INTERNAL), (span.begun, span.ended), span.failed)
        });
        std::iter::once(root).chain(steps).collect()
    }

    fn span(
        &self,
        id: u64,
        parent: u64,
        (name, kind): (&str, u32),
        (begun, ended): (SystemTime, SystemTime),
        failed: bool,
    ) -> Value {
        const ERROR: u32 = 2;
        let nanos = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos()).to_string()
        };
        let mut span = json!({
            "traceId": format!("{:032x}", self.id), "spanId": format!("{id:016x}"), "name": name, "kind": kind,
            "startTimeUnixNano": nanos(begun), "endTimeUnixNano": nanos(ended),
        });
        if parent != 0 {
            span["parentSpanId"] = format!("{parent:016x}").into();
        }
        if failed {
            span["status"] = json!({"code": ERROR});
        }
        span
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
