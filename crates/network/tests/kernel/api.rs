//! An API of Services, EndpointSlices and Nodes in memory: list, watch, get, create and replace, as a client sees them.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = Response<StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

#[derive(Clone)]
pub(crate) struct Api(Arc<State>);

struct State {
    /// By collection ("services") and name.
    objects: Mutex<BTreeMap<(String, String), Value>>,
    /// Every change: the collection and the watch event.
    log: Mutex<Vec<(String, Value)>>,
    length: watch::Sender<usize>,
}

impl Api {
    pub(crate) fn new() -> Api {
        let (objects, log) = (Mutex::default(), Mutex::default());
        Api(Arc::new(State { objects, log, length: watch::Sender::new(0) }))
    }

    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.handle(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Creates or replaces an object.
    pub(crate) fn put(&self, collection: &str, mut object: Value) -> Value {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let old = {
            let mut log = self.0.log.lock();
            object["metadata"]["resourceVersion"] = json!((log.len() + 1).to_string());
            let mut objects = self.0.objects.lock();
            let old = objects.insert((collection.to_owned(), name), object.clone());
            let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
            log.push((collection.to_owned(), json!({"type": kind, "object": object})));
            old
        };
        self.0.length.send_modify(|length| *length += 1);
        drop(old);
        object
    }

    pub(crate) fn get(&self, collection: &str, name: &str) -> Option<Value> {
        self.0.objects.lock().get(&(collection.to_owned(), name.to_owned())).cloned()
    }

    pub(crate) fn delete(&self, collection: &str, name: &str) {
        let object =
            self.0.objects.lock().remove(&(collection.to_owned(), name.to_owned())).expect("an object");
        self.0.log.lock().push((collection.to_owned(), json!({"type": "DELETED", "object": object})));
        self.0.length.send_modify(|length| *length += 1);
    }

    async fn handle(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let path: Vec<&str> = parts.uri.path().split('/').collect();
        let at = path
            .iter()
            .position(|p| matches!(*p, "services" | "endpointslices" | "nodes"))
            .expect("a known kind");
        let (collection, name) = (path[at], path.get(at + 1).copied());
        let query = parts.uri.query().unwrap_or_default();
        match (parts.method, name) {
            (Method::GET, None) if query.contains("watch=true") => {
                let from = query.split('&').find_map(|p| p.strip_prefix("resourceVersion="));
                self.watch(collection.to_owned(), from.map_or(0, |from| from.parse().expect("a revision")))
            }
            (Method::GET, None) => {
                let revision = self.0.log.lock().len();
                let objects = self.0.objects.lock();
                let items: Vec<&Value> =
                    objects.iter().filter(|((c, _), _)| c == collection).map(|(_, object)| object).collect();
                let list = json!({"metadata": {"resourceVersion": revision.to_string()}, "items": items});
                whole(StatusCode::OK, &list)
            }
            (Method::GET, Some(name)) => match self.get(collection, name) {
                Some(object) => whole(StatusCode::OK, &object),
                None => refused(404, "NotFound"),
            },
            (Method::POST, None) => {
                let object: Value = serde_json::from_slice(&body).expect("JSON");
                match self.get(collection, object["metadata"]["name"].as_str().expect("a name")) {
                    Some(_) => refused(409, "AlreadyExists"),
                    None => whole(StatusCode::CREATED, &self.put(collection, object)),
                }
            }
            (Method::PUT, Some(_)) => {
                let object = serde_json::from_slice(&body).expect("JSON");
                whole(StatusCode::OK, &self.put(collection, object))
            }
            (method, _) => panic!("{method} {}", parts.uri),
        }
    }

    fn watch(&self, collection: String, from: usize) -> Answer {
        let (state, length) = (self.0.clone(), self.0.length.subscribe());
        let events = stream::unfold((from, length), move |(at, mut length)| {
            let state = state.clone();
            async move {
                length.wait_for(|length| *length > at).await.ok()?;
                let event = state.log.lock()[at].clone();
                Some((event, (at + 1, length)))
            }
        });
        let frames = events.filter_map(move |(of, event)| {
            let line = (of == collection).then(|| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
            async move { line }
        });
        Response::new(StreamBody::new(frames.boxed()))
    }
}

fn whole(status: StatusCode, value: &Value) -> Answer {
    let frame = Frame::data(Bytes::from(value.to_string()));
    let mut response = Response::new(StreamBody::new(stream::iter([Ok(frame)]).boxed()));
    *response.status_mut() = status;
    response
}

fn refused(code: u16, reason: &str) -> Answer {
    let status =
        json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason});
    whole(StatusCode::from_u16(code).expect("a status"), &status)
}
