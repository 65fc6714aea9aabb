//! Watches: one stream from etcd each, taken up again where it was.
//!
//! All keys of etcd are watched, and what a watcher did not ask for is dropped here: then every revision is heard of
//! and tells how far the log has come. Etcd's own answer to that question may overtake the events (before 3.4.25
//! and 3.5.8), and is given only now and then.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use futures::{
    StreamExt,
    future::{Either, select},
    stream,
};
use tokio::time::timeout;
use tonic::{Request, Streaming, metadata::MetadataValue};

use super::{
    Inner,
    client::{ANSWER, Delays, Failure},
    keys,
    wire::{
        self, WatchCreateRequest, WatchRequest, WatchResponse, event::EventType, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
};
use crate::{Batch, Error, Event, Events, Key, Revision};

/// Every change of etcd later than some revision.
pub(super) struct Changes {
    inner: Arc<Inner>,
    stream: Option<Streaming<WatchResponse>>,
    /// Whether what was there before is told.
    before: bool,
    at: Revision,
    delays: Delays,
}

impl Changes {
    pub(super) fn new(inner: Arc<Inner>, after: Revision, before: bool) -> Self {
        Self { inner, stream: None, before, at: after, delays: Delays::new() }
    }

    /// The next changes, of whole revisions. Waits while etcd is away.
    ///
    /// # Errors
    /// They are compacted, or the store is no more what it was.
    pub(super) async fn next(&mut self) -> Result<Vec<wire::Event>, Error> {
        let mut gathered = Vec::new();
        loop {
            let Some(stream) = &mut self.stream else {
                gathered.clear();
                self.open().await?;
                continue;
            };
            let answer = match stream.message().await {
                Ok(Some(answer)) => answer,
                Ok(None) => {
                    self.lose("the watch has ended").await;
                    continue;
                }
                Err(status) => {
                    self.lose(status.message()).await;
                    continue;
                }
            };
            if answer.compact_revision > 0 {
                return Err(Error::Compacted { floor: keys::revision(answer.compact_revision) });
            }
            if answer.canceled {
                self.lose(&answer.cancel_reason).await;
                continue;
            }
            gathered.extend(answer.events);
            if answer.fragment {
                continue;
            }
            let seen = self.at;
            gathered.retain(|event| revision(event) > seen);
            if let Some(last) = gathered.last() {
                self.at = revision(last);
                self.delays = Delays::new();
                return Ok(gathered);
            }
        }
    }

    /// Everything up to here was told.
    pub(super) fn reached(&self) -> Revision {
        self.at
    }

    async fn lose(&mut self, why: &str) {
        tracing::warn!(why, at = %self.at, "the watch of etcd is taken up again");
        self.stream = None;
        self.delays.wait().await;
    }

    async fn open(&mut self) -> Result<(), Error> {
        match self.inner.check(self.at).await {
            Ok(()) => {}
            Err(Error::Unavailable { source }) => {
                self.lose(&source.to_string()).await;
                return Ok(());
            }
            // What was told is there no more: this is another etcd, or an old state of it.
            Err(error @ Error::Future { .. }) => return Err(Error::Lost { source: Arc::new(error) }),
            Err(error) => return Err(error),
        }
        match self.inner.stream(self.at, self.before).await {
            Ok(stream) => self.stream = Some(stream),
            Err(Failure::Away(why) | Failure::Refused(why) | Failure::Doubt(why)) => {
                self.lose(&why.to_string()).await;
            }
        }
        Ok(())
    }
}

impl Inner {
    /// All changes of etcd from a revision on, if it has that revision.
    async fn stream(&self, from: Revision, before: bool) -> Result<Streaming<WatchResponse>, Failure> {
        // All names.
        let (key, range_end) = (Bytes::from_static(&[0]), Bytes::from_static(&[0]));
        let start_revision = keys::number(from);
        let create = WatchCreateRequest { key, range_end, start_revision, prev_kv: before, fragment: true };
        let open = |channel| {
            let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create.clone())) };
            // The stream of requests goes on for as long as somebody reads the answers.
            let mut request = Request::new(stream::iter([request]).chain(stream::pending()));
            // A server that has lost the others ends the watch.
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
            async move { WatchClient::new(channel).max_decoding_message_size(usize::MAX).watch(request).await }
        };
        self.client.once(open).await
    }

    /// The oldest revision that etcd has; only a watch that asks for an older one is told.
    pub(super) async fn compacted(&self) -> Result<Revision, Failure> {
        let mut changes = self.stream(Revision::ZERO, false).await?;
        while let Ok(Ok(Some(answer))) = timeout(ANSWER, changes.message()).await {
            if answer.compact_revision > 0 {
                return Ok(keys::revision(answer.compact_revision));
            }
        }
        Err(Failure::silence())
    }
}

pub(super) fn revision(event: &wire::Event) -> Revision {
    event.kv.as_ref().map_or(Revision::ZERO, |kv| keys::revision(kv.mod_revision))
}

/// Every event under `prefix` later than `after`.
pub(super) fn events(inner: &Arc<Inner>, prefix: &str, after: Revision) -> Events {
    let (start, _) = inner.keys.under(prefix);
    let watching = (Changes::new(Arc::clone(inner), after, false), inner.closed.subscribe());
    let steps = stream::unfold(Some(watching), move |watching| {
        let start = start.clone();
        async move {
            let (mut changes, mut closed) = watching?;
            let next = {
                let (next, end) = (pin!(changes.next()), pin!(closed.wait_for(|closed| *closed)));
                match select(next, end).await {
                    Either::Left((next, _)) => next,
                    Either::Right(_) => Err(Error::Closed),
                }
            };
            let batch = next.and_then(|found| batch(&changes, &start, found));
            let rest = batch.is_ok().then_some((changes, closed));
            Some((batch, rest))
        }
    });
    steps.boxed()
}

fn batch(changes: &Changes, start: &[u8], found: Vec<wire::Event>) -> Result<Batch, Error> {
    let wanted = found.into_iter().filter_map(|event| {
        let is_put = event.r#type() == EventType::Put;
        let kv = event.kv.filter(|kv| kv.key.starts_with(start))?;
        let key = Key::new(changes.inner.keys.key(&kv.key)?);
        let value = is_put.then(|| keys::open(kv.value).map(|(value, _)| value)).transpose();
        Some(value.map(|value| Event { key, revision: keys::revision(kv.mod_revision), value }))
    });
    Ok(Batch { events: wanted.collect::<Result<_, _>>()?, revision: changes.at })
}
