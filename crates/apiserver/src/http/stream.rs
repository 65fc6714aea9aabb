//! Answers that are sent piece by piece: lists and watches.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, Response, StatusCode};
use rand::Rng;
use tiphys_api::status::Status;
use tiphys_metrics::Histogram;
use tokio::time::Instant;

use super::body::Body;
use super::encode::{ListMeta, View};
use super::request_info::Verb;
use super::{Asked, Handler, respond};
use crate::cache::{Change, Error as Gone, Filter, Notice, Object, Start, Watch, WatchOptions};
use crate::registry::{Call, Registry, cache_status};

/// Small items are sent together in pieces of about this size.
const PIECE: usize = 64 << 10;
/// A watch that names no timeout ends after this long or up to twice as long, so that not all end together.
const WATCH: Duration = Duration::from_secs(1800);

/// A list. One that is made of its items' bytes is sent while it is put together.
pub(super) fn list(
    view: View,
    meta: ListMeta,
    items: impl Iterator<Item = Bytes> + Send + 'static,
    request: &HeaderMap,
) -> Result<Response<Body>, Status> {
    let content_type = view.content_type();
    let Some((head, tail)) = view.list_frame(&meta) else {
        return Ok(respond::whole(StatusCode::OK, content_type, view.list(&meta, items)?, request));
    };
    let mut items = items;
    let mut first = true;
    let mut next_piece = move || -> Result<(Bytes, bool), Status> {
        let mut piece = BytesMut::new();
        if first {
            piece.extend_from_slice(&head);
        }
        for item in items.by_ref() {
            if !first {
                piece.extend_from_slice(b",");
            }
            first = false;
            piece.extend_from_slice(&view.item(&item)?);
            if piece.len() >= PIECE {
                return Ok((piece.freeze(), false));
            }
        }
        piece.extend_from_slice(&tail);
        Ok((piece.freeze(), true))
    };
    let (piece, last) = next_piece()?;
    if last {
        return Ok(respond::whole(StatusCode::OK, content_type, piece, request));
    }
    let rest = stream::unfold(Some(next_piece), |make| async move {
        let mut make = make?;
        match make() {
            Ok((piece, last)) => Some((Ok(piece), (!last).then_some(make))),
            Err(status) => Some((Err(status.into()), None)),
        }
    });
    let body = stream::StreamExt::chain(stream::iter([Ok(piece)]), rest);
    Ok(respond::response(StatusCode::OK, content_type, Body::stream(body)))
}

/// What a watch asks for in its query.
fn options(call: &Call, asked: &Asked) -> Result<WatchOptions, Status> {
    let query = &asked.query;
    super::options::list(Verb::Watch, query)?;
    let initial = query.optional_flag("sendInitialEvents");
    let start = Start::read(query.text("resourceVersion"), initial).map_err(cache_status)?;
    let filter = super::resource::filter(call, asked)?;
    Ok(WatchOptions { start, filter, bookmarks: query.flag("allowWatchBookmarks") })
}

/// The time that a watch may take.
fn timeout(asked: &Asked) -> Result<Duration, Status> {
    let asked = asked.query.integer("timeoutSeconds")?.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    Ok(asked.map_or_else(|| WATCH + rand::rng().random_range(Duration::ZERO..WATCH), Duration::from_secs))
}

/// Answers with everything that happens to what the client selected.
pub(super) async fn watch(handler: &Handler, call: &Call, asked: &Asked) -> Result<Response<Body>, Status> {
    let view = handler.view(call, asked, true)?;
    let mut options = options(call, asked)?;
    let filter = options.filter.clone();
    if view.is_converted() {
        options.filter = filter.unconverted();
    }
    let rough = options.filter.rough;
    let ends = Instant::now() + timeout(asked)?;
    let content_type = view.stream_type();
    let watch = handler.registry.collection(&call.kind)?.watch(options).await.map_err(cache_status)?;
    let events = handler.metrics.watch_events(&call.kind.group, &call.version, &call.kind.resource);
    let begins = asked.query.optional_flag("sendInitialEvents") == Some(true);
    let list = begins.then(|| (std::time::Instant::now(), handler.metrics.watch_list(call)));
    let stop = handler.stop.clone();
    let over = Box::pin(async move {
        tokio::select! {
            () = stop.cancelled_owned() => {}
            () = tokio::time::sleep_until(ends) => {}
        }
    });
    let frame_keys = frame_keys(&view);
    let selected = rough.then_some(filter);
    let state = Running { frame_keys, view, selected, watch, ends, over, events, list };
    let frames = stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        let (frames, goes_on) = state.next().await?;
        Some((Ok(frames), goes_on.then_some(state)))
    });
    Ok(respond::response(StatusCode::OK, content_type, Body::stream(frames)))
}

/// A watch that is being answered.
struct Running {
    view: View,
    /// Names of the frames of each of [`CHANGES`].
    frame_keys: [String; 3],
    /// What is selected of objects that a webhook converts, where that decides.
    selected: Option<Filter>,
    watch: Watch,
    ends: Instant,
    /// Done when the watch is: at its end, and at the server's. It is made once, for there may be many events.
    over: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    /// How many events watchers of the resource were sent.
    events: Arc<AtomicU64>,
    /// Since when the client waits for the end of the initial events, and where that is counted.
    list: Option<(std::time::Instant, Arc<Histogram>)>,
}

const CHANGES: [Change; 3] = [Change::Added, Change::Modified, Change::Deleted];

fn frame_keys(view: &View) -> [String; 3] {
    let key = view.frame_key();
    CHANGES.map(|change| format!("{}/{key}", name(change)))
}

impl Running {
    /// The next frames, and whether more may follow. `None`: the watch is over.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        loop {
            let notices = tokio::select! {
                biased;
                notices = self.watch.next() => notices,
                () = &mut self.over => return None,
            };
            // A watch that always has something to tell ends in time, too.
            if Instant::now() >= self.ends {
                return None;
            }
            let frames = match notices {
                Ok(notices) => self.frames(&notices).await,
                // The kind is no more, and its objects went before it.
                Err(Gone::Removed) => return None,
                Err(error) => Err(cache_status(error)),
            };
            match frames {
                Ok(frames) if frames.is_empty() => {}
                Ok(frames) => return Some((frames, true)),
                Err(status) => return Some((self.view.failure(&status).ok()?, false)),
            }
        }
    }

    async fn frames(&mut self, notices: &[Notice]) -> Result<Bytes, Status> {
        if self.view.is_converted() {
            return self.converted(notices).await;
        }
        self.events.fetch_add(notices.len() as u64, Relaxed);
        if let [only] = notices {
            return self.frame(only);
        }
        let mut frames = Vec::with_capacity(notices.len());
        for notice in notices {
            frames.push(self.frame(notice)?);
        }
        let mut all = BytesMut::with_capacity(frames.iter().map(Bytes::len).sum());
        frames.iter().for_each(|frame| all.extend_from_slice(frame));
        Ok(all.freeze())
    }

    /// The frames of objects that a webhook converts, all at once.
    async fn converted(&mut self, notices: &[Notice]) -> Result<Bytes, Status> {
        let objects = notices.iter().flat_map(|notice| match notice {
            Notice::Object { object, before, .. } => [before.clone(), Some(Arc::clone(object))],
            Notice::Bookmark { .. } => [None, None],
        });
        let objects: Vec<_> = objects.flatten().collect();
        let shown = Registry::objects_shown(&self.view.kind, &self.view.version, &objects).await?;
        // There is one for each.
        let mut shown = shown.into_iter();
        let mut all = BytesMut::new();
        for notice in notices {
            if let Notice::Object { change, before, .. } = notice {
                let before = before.as_ref().and_then(|_| shown.next());
                let told = shown.next().and_then(|object| self.told(*change, before, object));
                let Some((change, object)) = told else { continue };
                all.extend_from_slice(&self.view.event(name(change), object.json())?);
                self.columns_told();
            } else {
                all.extend_from_slice(&self.frame(notice)?);
            }
            self.events.fetch_add(1, Relaxed);
        }
        Ok(all.freeze())
    }

    /// What the client is told of a change of an object that a webhook has converted.
    fn told(&self, change: Change, before: Option<Object>, object: Object) -> Option<(Change, Object)> {
        let Some(filter) = &self.selected else { return Some((change, object)) };
        let selected = |object: Object| Some(object).filter(|object| filter.matches(object));
        match change {
            Change::Deleted => Change::seen(selected(object), None),
            _ => Change::seen(before.and_then(selected), selected(object)),
        }
    }

    fn frame(&mut self, notice: &Notice) -> Result<Bytes, Status> {
        let frame = match notice {
            Notice::Object { change, object, frames, .. } => {
                let key = &self.frame_keys[*change as usize];
                frames.get_or_make(key, || self.view.event(name(*change), object.json()))
            }
            Notice::Bookmark { revision, initial } => {
                if let Some((begun, seconds)) = self.list.take_if(|_| *initial) {
                    seconds.observe_time(begun.elapsed());
                }
                self.view.bookmark(&revision.to_string(), *initial)
            }
        };
        self.columns_told();
        frame
    }

    fn columns_told(&mut self) {
        if self.view.has_columns() {
            self.view.headless = true;
            self.frame_keys = frame_keys(&self.view);
        }
    }
}

fn name(change: Change) -> &'static str {
    match change {
        Change::Added => "ADDED",
        Change::Modified => "MODIFIED",
        Change::Deleted => "DELETED",
    }
}
