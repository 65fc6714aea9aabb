//! Following one collection: what there is, then each change, for as long as somebody listens.
//!
//! This is `kube`'s watcher for those who are told a thousand changes a second: an event is decoded from the bytes that
//! came, without lines that are copied first, and without a timer for each.

use std::{
    fmt::Debug,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
    vec,
};

use bytes::Bytes;
use futures::{Stream, stream};
use http_body::Body as _;
use kube::{
    Api, Client, Error as ClientError, Resource,
    api::{ListParams, WatchEvent, WatchParams},
    client::Body,
    core::{ObjectList, Request, Status},
    runtime::watcher::{Config, Error, Event},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Sleep, sleep};
use tracing::warn;

/// A watch lasts this long, in seconds, unless the configuration says otherwise.
const LASTS: u32 = 290;
/// A server that does not end it by then is given up.
const GRACE: Duration = Duration::from_secs(5);
/// More is not kept of an answer that tells of an error.
const MAX_ERROR: usize = 64 << 10;

/// Lists the collection, watches it, and goes on after every interruption: where it was, or, where the server does not
/// know that any more or what came cannot be read, with a new list, which leaves out what cannot be read. Of `config`, the strategy and the semantics of lists do not count: what is
/// listed is the newest.
///
/// After an error the next item is the next attempt, so that whoever listens should wait a while before it asks.
pub fn follow<K>(api: Api<K>, config: Config) -> impl Stream<Item = Result<Event<K>, Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let client = api.clone().into_client();
    let follower = Follower { api, client, config, state: State::Begin };
    stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await;
        Some((event, follower))
    })
}

struct Follower<K> {
    api: Api<K>,
    client: Client,
    config: Config,
    state: State<K>,
}

enum State<K> {
    Begin,
    /// A page of the list, the token of the next one, and the list's version.
    Page(vec::IntoIter<K>, Option<String>, String),
    /// Everything up to a version is known.
    Known(String),
    Watching(String, Box<Watch>),
}

impl<K> Follower<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    async fn next(&mut self) -> Result<Event<K>, Error> {
        loop {
            match &mut self.state {
                State::Begin => {
                    self.state = State::Page(Vec::new().into_iter(), Some(String::new()), String::new());
                    return Ok(Event::Init);
                }
                State::Page(items, token, version) => {
                    if let Some(item) = items.next() {
                        return Ok(Event::InitApply(item));
                    }
                    match token.take() {
                        Some(token) => self.state = self.page(token).await?,
                        None => {
                            self.state = State::Known(std::mem::take(version));
                            return Ok(Event::InitDone);
                        }
                    }
                }
                State::Known(version) => {
                    let watch = Watch::begin(&self.client, self.api.resource_url(), &self.config, version);
                    let watch = match watch.await {
                        Ok(watch) => watch,
                        Err(error) => {
                            if matches!(&error, ClientError::Api(status) if status.code == 410) {
                                self.state = State::Begin;
                            }
                            return Err(Error::WatchStartFailed(error));
                        }
                    };
                    self.state = State::Watching(std::mem::take(version), Box::new(watch));
                }
                State::Watching(version, watch) => {
                    let told = watch.next::<K>().await;
                    let (deleted, object) = match told {
                        Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => (false, object),
                        Some(Ok(WatchEvent::Deleted(object))) => (true, object),
                        Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                            *version = bookmark.metadata.resource_version;
                            continue;
                        }
                        Some(Ok(WatchEvent::Error(status))) => {
                            if status.code == 410 {
                                self.state = State::Begin;
                            }
                            return Err(Error::WatchError(status));
                        }
                        // The same event would come again from there, and no other after it.
                        Some(Err(error @ ClientError::SerdeError(_))) => {
                            self.state = State::Begin;
                            return Err(Error::WatchFailed(error));
                        }
                        Some(Err(error)) => {
                            self.state = State::Known(std::mem::take(version));
                            return Err(Error::WatchFailed(error));
                        }
                        None => {
                            self.state = State::Known(std::mem::take(version));
                            continue;
                        }
                    };
                    let Some(newer) = object.meta().resource_version.as_ref().filter(|v| !v.is_empty())
                    else {
                        self.state = State::Begin;
                        return Err(Error::NoResourceVersion);
                    };
                    version.clone_from(newer);
                    return Ok(if deleted { Event::Delete(object) } else { Event::Apply(object) });
                }
            }
        }
    }

    /// One page of the list; the first one's token is empty. An error begins anew.
    async fn page(&mut self, token: String) -> Result<State<K>, Error> {
        let params = ListParams {
            label_selector: self.config.label_selector.clone(),
            field_selector: self.config.field_selector.clone(),
            limit: self.config.page_size,
            continue_token: Some(token).filter(|token| !token.is_empty()),
            ..ListParams::default()
        };
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let listed = list(&self.client, self.api.resource_url(), &params).await;
        let page = listed.map_err(Error::InitialListFailed).and_then(|list| {
            let (next, version) = (said(list.metadata.continue_), said(list.metadata.resource_version));
            if next.is_none() && version.is_none() {
                return Err(Error::NoResourceVersion);
            }
            Ok(State::Page(list.items.into_iter(), next, version.unwrap_or_default()))
        });
        page.inspect_err(|_| self.state = State::Begin)
    }
}

/// A watch that is being answered.
struct Watch {
    body: Body,
    /// What has come and was not told yet.
    come: Bytes,
    /// The beginning of an event whose end has not come.
    begun: Vec<u8>,
    /// When the watch is given up. It is made once, for there may be many events.
    end: Pin<Box<Sleep>>,
}

impl Watch {
    async fn begin(client: &Client, path: &str, config: &Config, version: &str) -> Result<Self, ClientError> {
        let lasts = config.timeout.unwrap_or(LASTS);
        let params = WatchParams {
            label_selector: config.label_selector.clone(),
            field_selector: config.field_selector.clone(),
            timeout: Some(lasts),
            bookmarks: config.bookmarks,
            send_initial_events: false,
        };
        let request = Request::new(path).watch(&params, version).map_err(ClientError::BuildRequest)?;
        let answer = client.send(request.map(Body::from)).await?;
        let code = answer.status();
        let end = Box::pin(sleep(Duration::from_secs(lasts.into()) + GRACE));
        let mut watch = Self { body: answer.into_body(), come: Bytes::new(), begun: Vec::new(), end };
        if code.is_success() {
            return Ok(watch);
        }
        while watch.begun.len() < MAX_ERROR && watch.piece().await? {
            let piece = std::mem::take(&mut watch.come);
            watch.begun.extend_from_slice(&piece);
        }
        let status = serde_json::from_slice::<Status>(&watch.begun).unwrap_or_else(|_| {
            Status::failure(&String::from_utf8_lossy(&watch.begun), "").with_code(code.as_u16())
        });
        Err(ClientError::Api(status.boxed()))
    }

    /// Takes the next piece that comes; `false`: none will.
    async fn piece(&mut self) -> Result<bool, ClientError> {
        loop {
            let Self { body, end, .. } = self;
            let frame = poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => end.as_mut().poll(cx).map(|()| None),
                frame => frame,
            });
            match frame.await {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.come = piece;
                        return Ok(true);
                    }
                }
                Some(Err(error)) => return Err(ClientError::ReadEvents(std::io::Error::other(error))),
                None => return Ok(false),
            }
        }
    }

    /// The next event; `None`: the watch is over. One that has broken off is none.
    async fn next<K: DeserializeOwned>(&mut self) -> Option<Result<WatchEvent<K>, ClientError>> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.come) else {
                let rest = std::mem::take(&mut self.come);
                self.begun.extend_from_slice(&rest);
                match self.piece().await {
                    Ok(true) => continue,
                    Ok(false) => return None,
                    Err(error) => return Some(Err(error)),
                }
            };
            let mut line = self.come.split_to(end + 1);
            if !self.begun.is_empty() {
                let mut whole = std::mem::take(&mut self.begun);
                whole.extend_from_slice(&line);
                line = whole.into();
            }
            if !line.trim_ascii().is_empty() {
                return Some(read(&line));
            }
        }
    }
}

/// A page of the collection, without what of it cannot be read: one object shall not keep the others from anybody.
async fn list<K>(client: &Client, path: &str, params: &ListParams) -> Result<ObjectList<K>, ClientError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let request = Request::new(path).list(params).map_err(ClientError::BuildRequest)?;
    let text = client.request_text(request).await?;
    if let Ok(list) = serde_json::from_str(&text) {
        return Ok(list);
    }
    let ObjectList { types, metadata, items } =
        serde_json::from_str::<ObjectList<Value>>(&text).map_err(ClientError::SerdeError)?;
    let readable = |item: Value| {
        let name =
            ["namespace", "name"].map(|part| item["metadata"][part].as_str().unwrap_or_default().to_owned());
        mended(item)
            .inspect_err(|error| warn!(path, ?name, %error, "an object that cannot be read is left out"))
            .ok()
    };
    Ok(ObjectList { types, metadata, items: items.into_iter().filter_map(readable).collect() })
}

/// An event, or the status that a server may send in its place.
fn read<K: DeserializeOwned>(line: &[u8]) -> Result<WatchEvent<K>, ClientError> {
    let error = match serde_json::from_slice(line) {
        Ok(event) => return Ok(event),
        Err(error) => error,
    };
    match serde_json::from_slice::<Status>(line) {
        Ok(status) if status.is_failure() => Err(ClientError::Api(status.boxed())),
        _ => serde_json::from_slice(line).and_then(mended).map_err(|_| ClientError::SerdeError(error)),
    }
}

/// Reads what is right for Go, though not for the types here: conditions that do not tell when they changed. Nobody asks
/// that of those of Services, say, and Go's clients write `null` or read nothing as this time.
fn mended<T: DeserializeOwned>(mut value: Value) -> Result<T, serde_json::Error> {
    date_conditions(&mut value);
    serde_json::from_value(value)
}

fn date_conditions(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(date_conditions),
        Value::Object(fields) => {
            let conditions = fields.get_mut("conditions").and_then(Value::as_array_mut);
            for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
                let time = condition.entry("lastTransitionTime").or_insert(Value::Null);
                if time.is_null() {
                    *time = "0001-01-01T00:00:00Z".into();
                }
            }
            fields.values_mut().for_each(date_conditions);
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
