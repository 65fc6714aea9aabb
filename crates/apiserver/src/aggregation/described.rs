//! What other servers say of their parts of the API in OpenAPI v2: asked for as kube-aggregator does.
//!
//! A server is asked when its APIService changes and every minute, with the tag of what is known; one that fails,
//! after a minute, then two, and so on up to an hour. What was last understood stays until the APIService goes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::{Aggregation, Backend, GROUP, REMOTE, RESOURCE};
use crate::apart::apart;
use crate::openapi::{Foreign, Unreadable};
use crate::outgoing;

/// How often a server is asked that answers, and how seldom at most one that does not.
const EVERY: Duration = Duration::from_secs(60);
const SELDOM: Duration = Duration::from_secs(60 * 60);
/// An answer is there by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers that are read at the same time.
const AT_ONCE: usize = 4;
const ASKER: HeaderValue = HeaderValue::from_static("system:aggregator");

/// What servers said, those of high priority first.
pub(crate) type Descriptions = Arc<[Arc<Foreign>]>;

/// What a server has said.
#[derive(Clone)]
struct Said {
    /// As the server named it.
    etag: Option<HeaderValue>,
    digest: [u8; 32],
    read: Arc<Foreign>,
}

/// Why a server is asked again later than others.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Asking(#[from] outgoing::Error),
    #[error("the server answered {0}")]
    Code(StatusCode),
    #[error("the APIService leads nowhere: {0}")]
    Nowhere(String),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("reading was given up: {0}")]
    Reading(#[from] tokio::task::JoinError),
}

/// A server as it was when it was last asked.
struct Known {
    backend: Arc<Backend>,
    said: Option<Said>,
    due: Instant,
    wait: Duration,
    asking: bool,
}

impl Known {
    fn new(backend: &Arc<Backend>, now: Instant) -> Self {
        Self { backend: Arc::clone(backend), said: None, due: now, wait: EVERY, asking: false }
    }

    /// Whether the server is to be asked now. One that was changed is asked at once, whatever came before.
    fn turn(&mut self, backend: &Arc<Backend>, now: Instant) -> bool {
        if !Arc::ptr_eq(&self.backend, backend) {
            self.backend = Arc::clone(backend);
            (self.due, self.wait) = (now, EVERY);
        }
        let turn = backend.available && !self.asking && self.due <= now;
        self.asking |= turn;
        turn
    }

    fn heard(&mut self, of: &Arc<Backend>, answer: Result<Option<Said>, Failure>) {
        self.asking = false;
        let failed = match answer {
            Ok(news) => {
                self.said = news.or(self.said.take());
                false
            }
            Err(failure) => {
                let name = &of.name;
                match failure {
                    // It has no description of itself.
                    Failure::Code(StatusCode::NOT_FOUND) => {}
                    failure => tracing::warn!(name, %failure, "a server's OpenAPI v2 is not taken over"),
                }
                true
            }
        };
        // One that changed meanwhile is due already.
        if Arc::ptr_eq(&self.backend, of) {
            let wait = if failed { self.wait } else { EVERY };
            self.wait = if failed { (wait * 2).min(SELDOM) } else { EVERY };
            self.due = Instant::now() + wait;
        }
    }
}

/// Asks servers and keeps what they say, for ever.
pub(super) async fn run(aggregation: Arc<Aggregation>, keep: watch::Sender<Descriptions>) {
    let mut known: HashMap<String, Known> = HashMap::new();
    let places = Semaphore::new(AT_ONCE);
    let mut asked = FuturesUnordered::new();
    loop {
        let source = &aggregation.source;
        let version = source.version(GROUP, RESOURCE);
        let backends = aggregation.backends();
        known.retain(|name, _| backends.iter().any(|b| b.name == *name));
        let now = Instant::now();
        let mut next = None;
        for backend in &backends {
            let known = known.entry(backend.name.clone()).or_insert_with(|| Known::new(backend, now));
            if known.turn(backend, now) {
                asked.push(ask(Arc::clone(backend), known.said.clone(), &places));
            } else if backend.available && !known.asking {
                next = Some(next.map_or(known.due, |next: Instant| next.min(known.due)));
            }
        }
        let said = backends.iter().filter_map(|b| Some(Arc::clone(&known.get(&b.name)?.said.as_ref()?.read)));
        let said: Descriptions = said.collect();
        keep.send_if_modified(|kept| {
            let same = kept.len() == said.len() && kept.iter().zip(&*said).all(|(a, b)| Arc::ptr_eq(a, b));
            if !same {
                *kept = said;
            }
            !same
        });
        tokio::select! {
            () = source.changed(GROUP, RESOURCE, version) => {}
            Some((backend, answer)) = asked.next() => {
                if let Some(known) = known.get_mut(&backend.name) {
                    known.heard(&backend, answer);
                }
            }
            () = tokio::time::sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
}

/// Asks one server; `None` if it says what it said before.
async fn ask(
    backend: Arc<Backend>,
    before: Option<Said>,
    places: &Semaphore,
) -> (Arc<Backend>, Result<Option<Said>, Failure>) {
    // The semaphore is never closed.
    let _place = places.acquire().await;
    let answer = fetch(&backend, before).await;
    (backend, answer)
}

async fn fetch(backend: &Arc<Backend>, before: Option<Said>) -> Result<Option<Said>, Failure> {
    let endpoint = backend.endpoint.as_ref().map_err(|why| Failure::Nowhere(why.clone()))?;
    let mut headers = HeaderMap::new();
    headers.insert(REMOTE[0].clone(), ASKER);
    if let Some(tag) = before.as_ref().and_then(|said| said.etag.clone()) {
        headers.insert(header::IF_NONE_MATCH, tag);
    }
    let answer = endpoint.fetch("/openapi/v2", headers, PATIENCE).await?;
    match (answer.status(), before) {
        (StatusCode::NOT_MODIFIED, Some(Said { etag: Some(_), .. })) => Ok(None),
        (StatusCode::OK, before) => {
            let backend = Arc::clone(backend);
            apart(move || read(&backend, &answer, before.as_ref())).await?
        }
        (code, _) => Err(Failure::Code(code)),
    }
}

fn read(
    backend: &Backend,
    answer: &Response<bytes::Bytes>,
    before: Option<&Said>,
) -> Result<Option<Said>, Failure> {
    let digest: [u8; 32] = Sha256::digest(answer.body()).into();
    let etag = answer.headers().get(header::ETAG).cloned();
    if before.is_some_and(|said| said.digest == digest && said.etag == etag) {
        return Ok(None);
    }
    let read = Foreign::read(answer.body(), &backend.group, &backend.version)?;
    Ok(Some(Said { etag, digest, read: Arc::new(read) }))
}

#[cfg(test)]
#[path = "described_tests.rs"]
mod tests;
