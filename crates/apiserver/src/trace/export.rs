//! Sends spans to a collector: OTLP over HTTP, in JSON.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Config;
use crate::outgoing::{Endpoint, Outgoing, Place, Proof, Spec, SpecError, Trust};

/// Requests whose spans wait to be sent.
const WAITING: usize = 2048;
/// Requests whose spans are sent together.
const BATCH: usize = 256;
/// The first of them waits no longer than this.
const WAIT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);

/// A queue of spans, and a task that empties it, which ends when this is dropped.
pub(super) struct Exporter {
    queue: mpsc::Sender<Vec<Value>>,
}

impl Exporter {
    pub(super) fn start(config: &Config, outgoing: &Outgoing) -> Result<Self, SpecError> {
        let place = Place::Url(config.endpoint.clone());
        let endpoint = outgoing.endpoint(&Spec { place, trust: Trust::System, proof: Proof::None })?;
        let (queue, spans) = mpsc::channel(WAITING);
        // It ends by itself when `queue` is dropped.
        tokio::spawn(run(endpoint, spans));
        Ok(Self { queue })
    }

    /// Takes the spans of a request; `false` if there is no room for them.
    pub(super) fn take(&self, spans: Vec<Value>) -> bool {
        self.queue.try_send(spans).is_ok()
    }
}

async fn run(endpoint: Arc<Endpoint>, mut requests: mpsc::Receiver<Vec<Value>>) {
    while let Some(mut spans) = requests.recv().await {
        let due = Instant::now() + WAIT;
        for _ in 1..BATCH {
            match tokio::time::timeout_at(due, requests.recv()).await {
                Ok(Some(more)) => spans.extend(more),
                Ok(None) | Err(_) => break,
            }
        }
        let count = spans.len();
        if let Err(error) = endpoint.tell(Bytes::from(message(spans).to_string()), PATIENCE).await {
            tracing::warn!(%error, spans = count, "spans were not taken and are lost");
        }
    }
}

/// `ExportTraceServiceRequest`.
fn message(spans: Vec<Value>) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    json!({"resourceSpans": [{
        "resource": {"attributes": [
            text("service.name", "apiserver"),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ]},
        "scopeSpans": [{"scope": {"name": "tiphys"}, "spans": spans}],
    }]})
}
