//! What nodes and pods use, for `metrics.k8s.io`: read from the nodes while somebody asks.
//!
//! Who asks first waits until each node was read twice, a second apart; from then on all are read every quarter of a
//! minute, until nobody has asked for a while, and then all is forgotten. Of a node two readings are kept, between
//! which its processors were used.

mod reading;
mod told;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use http::header;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::node_proxy::{self, Nodes};

use self::reading::Reading;
pub(crate) use self::told::{Metrics, row, table};

/// How often nodes are read.
const EVERY: Duration = Duration::from_secs(15);
/// Between the first two readings of a node.
const FIRST: Duration = Duration::from_secs(1);
/// They go on being read for this long after somebody has asked.
const LINGER: Duration = Duration::from_secs(120);
/// Who asks first waits no longer for nodes that do not answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// A node has answered by then.
const ANSWER: Duration = Duration::from_secs(10);
/// No node says more, in bytes: ten times what one does that is full.
const LONGEST: usize = 4 << 20;
/// Nodes read at the same time.
const AT_ONCE: usize = 128;

/// Why a node was not read.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Way(#[from] node_proxy::Error),
    #[error("it answered {0}")]
    Code(StatusCode),
    #[error("reading its answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer in time")]
    Slow,
}

/// The last two readings of a node.
#[derive(Debug)]
pub(crate) struct Pair {
    before: Option<Arc<Reading>>,
    now: Arc<Reading>,
}

/// By the names of nodes.
type Known = HashMap<String, Pair>;

/// What is known of the nodes.
pub(crate) struct Usage {
    nodes: Arc<Nodes>,
    cache: Arc<Cache>,
    known: RwLock<Known>,
    /// When somebody asked last.
    asked: watch::Sender<Option<Instant>>,
    /// Every node that answers was read.
    ready: watch::Sender<bool>,
}

impl Usage {
    pub(crate) fn new(nodes: Arc<Nodes>, cache: Arc<Cache>) -> Self {
        let (asked, ready) = (watch::Sender::new(None), watch::Sender::new(false));
        Self { nodes, cache, known: RwLock::default(), asked, ready }
    }

    /// Waits until there is something to tell of the nodes that answer, but not for long.
    pub(crate) async fn fresh(&self) {
        let mut ready = self.ready.subscribe();
        self.asked.send_replace(Some(Instant::now()));
        // What is not there by then is not told.
        let _ = tokio::time::timeout(PATIENCE, ready.wait_for(|ready| *ready)).await;
    }

    /// What is known of a node.
    pub(crate) fn of<T>(&self, node: &str, tell: impl FnOnce(&Pair) -> Option<T>) -> Option<T> {
        self.known.read().get(node).and_then(tell)
    }

    /// Reads nodes while somebody asks, until `stop`.
    pub(crate) fn run(self: &Arc<Self>, stop: &CancellationToken) {
        let this = Arc::clone(self);
        let ending = stop.clone();
        // It ends with the token.
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut asked = this.asked.subscribe();
            while asked.changed().await.is_ok() {
                while asked.borrow_and_update().is_some_and(|last| last.elapsed() < LINGER) {
                    let begun = Instant::now();
                    this.round(&ending).await;
                    this.ready.send_replace(true);
                    tokio::time::sleep_until(begun + EVERY).await;
                }
                this.ready.send_replace(false);
                *this.known.write() = Known::default();
            }
        }));
    }

    /// Reads every node once, and once more where nothing was known before.
    async fn round(&self, stop: &CancellationToken) {
        let nodes = self.cache.collection("", "nodes");
        let names: Vec<String> =
            nodes.iter().flat_map(|nodes| nodes.iter(None)).map(|node| node.name().to_owned()).collect();
        {
            let present: HashSet<&String> = names.iter().collect();
            let mut known = self.known.write();
            known.retain(|name, _| present.contains(name));
        }
        let visits = stream::iter(names).map(|node| async move { self.visit(&node, stop).await });
        visits.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    async fn visit(&self, node: &str, stop: &CancellationToken) {
        let known = self.known.read().contains_key(node);
        if self.look(node, stop).await && !known {
            tokio::time::sleep(FIRST).await;
            self.look(node, stop).await;
        }
    }

    /// Whether the node could be read. What was known of one that cannot is no longer true.
    async fn look(&self, node: &str, stop: &CancellationToken) -> bool {
        let asking = tokio::time::timeout(ANSWER, self.ask(node, stop)).await;
        let read = asking.unwrap_or(Err(Error::Slow));
        let mut known = self.known.write();
        match read {
            Ok(now) => {
                let before = known.remove(node).map(|pair| pair.now);
                known.insert(node.to_owned(), Pair { before, now: Arc::new(now) });
                true
            }
            Err(error) => {
                tracing::debug!(node, %error, "what a node uses cannot be read");
                known.remove(node);
                false
            }
        }
    }

    async fn ask(&self, node: &str, stop: &CancellationToken) -> Result<Reading, Error> {
        let stream = self.nodes.dial(node).await?;
        let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::new(nothing);
        *request.uri_mut() = http::Uri::from_static("/metrics/resource");
        let host = HeaderValue::from_str(node).unwrap_or_else(|_| HeaderValue::from_static("node"));
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/plain;version=0.0.4"));
        let answer = node_proxy::forward(node, stream, request, None, stop.clone()).await?;
        if answer.status() != StatusCode::OK {
            return Err(Error::Code(answer.status()));
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await.map_err(Error::Body)?;
        Ok(Reading::parse(&String::from_utf8_lossy(&body.to_bytes()), Timestamp::now()))
    }
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
