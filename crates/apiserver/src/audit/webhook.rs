//! The sink that posts events to another server, in batches.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Sink;
use crate::outgoing::kubeconfig;
use crate::outgoing::{Endpoint, Outgoing, SpecError};

/// Where events are posted, and how many at once.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// A file of the shape of a kubeconfig: its current context is the server.
    pub config: PathBuf,
    /// Events that wait; what comes on top is dropped.
    pub buffer: usize,
    /// The most events in one request.
    pub batch: usize,
    /// A batch that is not full is sent when its first event has waited this long.
    pub wait: Duration,
}

/// Why events can't be posted.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("reading its configuration: {0}")]
    Config(#[from] kubeconfig::Error),
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// The bytes of all events that wait.
const WAITING_BYTES: usize = 64 << 20;
/// A batch is sent when it has this many bytes, too.
const BATCH_BYTES: usize = 8 << 20;
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// A batch is sent this often before it is given up, with a pause that doubles.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A webhook, fed by a task of its own, which ends when what was taken is sent and this is dropped.
pub(super) struct Webhook {
    queue: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicUsize>,
}

impl Webhook {
    pub(super) fn new(options: WebhookOptions, outgoing: &Outgoing) -> Result<Self, WebhookError> {
        let endpoint = outgoing.endpoint(&kubeconfig::spec(&options.config)?)?;
        let (queue, events) = mpsc::channel(options.buffer.max(1));
        let waiting = Arc::new(AtomicUsize::new(0));
        let sender = Sender { endpoint, options, waiting: Arc::clone(&waiting) };
        // It ends by itself when `queue` is dropped.
        tokio::spawn(sender.run(events));
        Ok(Self { queue, waiting })
    }
}

impl Sink for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn take(&self, event: &Bytes) -> bool {
        let size = event.len();
        if self.waiting.fetch_add(size, Relaxed) + size > WAITING_BYTES
            || self.queue.try_send(event.clone()).is_err()
        {
            self.waiting.fetch_sub(size, Relaxed);
            return false;
        }
        true
    }
}

struct Sender {
    endpoint: Arc<Endpoint>,
    options: WebhookOptions,
    waiting: Arc<AtomicUsize>,
}

impl Sender {
    async fn run(self, mut events: mpsc::Receiver<Bytes>) {
        while let Some(first) = events.recv().await {
            let due = Instant::now() + self.options.wait;
            let mut size = first.len();
            let mut batch = vec![first];
            while batch.len() < self.options.batch && size < BATCH_BYTES {
                match tokio::time::timeout_at(due, events.recv()).await {
                    Ok(Some(event)) => {
                        size += event.len();
                        batch.push(event);
                    }
                    Ok(None) | Err(_) => break,
                }
            }
            self.send(&batch).await;
            self.waiting.fetch_sub(size, Relaxed);
        }
    }

    async fn send(&self, batch: &[Bytes]) {
        let body = list(batch);
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            match self.endpoint.tell(body.clone(), PATIENCE).await {
                Ok(()) => return,
                Err(error) if attempt == ATTEMPTS => {
                    tracing::error!(%error, events = batch.len(), "audit events were not taken and are lost");
                }
                Err(error) => {
                    tracing::warn!(%error, attempt, "audit events were not taken");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }
}

/// An `EventList` of events that are JSON already.
fn list(batch: &[Bytes]) -> Bytes {
    let mut body = BytesMut::with_capacity(batch.iter().map(|event| event.len() + 1).sum::<usize>() + 96);
    body.put_slice(br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#);
    for (n, event) in batch.iter().enumerate() {
        if n > 0 {
            body.put_u8(b',');
        }
        body.put_slice(event);
    }
    body.put_slice(b"]}");
    body.freeze()
}
