//! A simulated API server beside the cluster's own, to which an APIService leads. It keeps one kind of objects.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tiphys_apiserver::{node_proxy::Stream, outgoing::Dial};
use tiphys_pki::{Leaf, Pki, Rotating};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{chance::Chance, laws::Laws, meter::PIPE, trace::Trace};

pub(crate) const GROUP: &str = "simulation.example";
pub(crate) const VERSION: &str = "v1";
const FOREGROUND: &str = "foregroundDeletion";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How it is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    /// Nobody listens.
    Refuses,
    /// Nobody answers.
    Silent,
    /// It answers that it cannot.
    Fails,
}

/// All objects, by namespace and name, and every change of them.
#[derive(Default)]
struct Notes {
    there: BTreeMap<(String, String), Value>,
    log: Vec<(&'static str, Value)>,
    made: u64,
}

pub(crate) struct Neighbour {
    tls: TlsAcceptor,
    chance: Chance,
    laws: Arc<Laws>,
    trace: Arc<Trace>,
    notes: Mutex<Notes>,
    /// How long the log is.
    changed: watch::Sender<usize>,
    away: Mutex<Option<Away>>,
    /// Of all connections.
    life: Mutex<CancellationToken>,
}

/// A request that concerns objects.
struct Asked {
    method: Method,
    namespace: Option<String>,
    name: Option<String>,
    query: String,
    user: String,
    body: Value,
}

/// A code, and what is said.
type Said = (StatusCode, Value);

impl Neighbour {
    pub(crate) fn new(seed: u64, pki: &Pki, laws: &Arc<Laws>, trace: &Arc<Trace>) -> Result<Arc<Self>> {
        let leaf = Leaf::kubelet_serving("neighbour", &[]);
        let certificate = Rotating::new(Arc::clone(&pki.cluster), leaf, Arc::new(SystemTime::now))
            .context("making the neighbour's certificate")?;
        let tls = tiphys_pki::server_config(Arc::new(certificate), &pki.client_trust()?)?;
        let mut tls = Arc::unwrap_or_clone(tls);
        tls.alpn_protocols.clear();
        Ok(Arc::new(Self {
            tls: TlsAcceptor::from(Arc::new(tls)),
            chance: Chance::new(seed, "neighbour"),
            laws: Arc::clone(laws),
            trace: Arc::clone(trace),
            notes: Mutex::default(),
            changed: watch::Sender::new(0),
            away: Mutex::default(),
            life: Mutex::default(),
        }))
    }

    /// It goes away, or comes back. Nothing that it keeps is lost.
    pub(crate) fn set_away(&self, away: Option<Away>) {
        self.trace.step(format_args!("! the neighbour is away: {away:?}"));
        *self.away.lock() = away;
        std::mem::take(&mut *self.life.lock()).cancel();
    }

    async fn serve(self: Arc<Self>, stream: tokio::io::DuplexStream) {
        let life = self.life.lock().clone();
        let tls = self.tls.clone();
        let serving = async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let this = Arc::clone(&self);
            let answer = service_fn(move |request| Arc::clone(&this).answer(request));
            // How it ends is the client's affair.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await);
        };
        life.run_until_cancelled_owned(serving).await;
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        sleep(self.chance.millis(0, 5)).await;
        if *self.away.lock() == Some(Away::Fails) {
            return Ok(response(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")));
        }
        let root = format!("/apis/{GROUP}/{VERSION}");
        let Some(path) = head.uri.path().strip_prefix(&root) else {
            return Ok(response(refusal(StatusCode::NOT_FOUND, "NotFound")));
        };
        let segments: Vec<_> = path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        let user = head.headers.get("x-remote-user").and_then(|user| user.to_str().ok()).unwrap_or_default();
        let mut asked = Asked {
            method: head.method,
            namespace: None,
            name: None,
            query: head.uri.query().unwrap_or_default().to_owned(),
            user: user.rsplit(':').next().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        };
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments[..] {
            [] => return Ok(response((StatusCode::OK, resources()))),
            ["notes"] => {}
            ["namespaces", namespace, "notes", ref name @ ..] if name.len() < 2 => {
                asked.namespace = Some(namespace.to_owned());
                asked.name = name.first().map(|name| (*name).to_owned());
            }
            _ => return Ok(response(refusal(StatusCode::NOT_FOUND, "NotFound"))),
        }
        Ok(match asked.query.contains("watch=true") {
            true => self.watch(&asked),
            false => response(self.obey(&asked)),
        })
    }

    fn obey(&self, asked: &Asked) -> Said {
        let mut notes = self.notes.lock();
        let key = asked.namespace.clone().zip(asked.name.clone());
        match (&asked.method, key) {
            (&Method::GET, None) => {
                let items: Vec<_> =
                    notes.there.values().filter(|note| covers(asked, note)).cloned().collect();
                let metadata = json!({"resourceVersion": notes.log.len().to_string()});
                let list = json!({"kind": "NoteList", "apiVersion": format!("{GROUP}/{VERSION}"),
                    "metadata": metadata, "items": items});
                (StatusCode::OK, list)
            }
            (&Method::POST, None) => {
                let mut note = asked.body.clone();
                let name = note["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let key = (asked.namespace.clone().unwrap_or_default(), name);
                if notes.there.contains_key(&key) {
                    return refusal(StatusCode::CONFLICT, "AlreadyExists");
                }
                notes.made += 1;
                note["metadata"]["namespace"] = json!(key.0);
                note["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", notes.made));
                self.put(&mut notes, key, note, &asked.user)
            }
            (&Method::DELETE, None) => {
                let keys: Vec<_> =
                    notes.there.iter().filter(|(_, n)| covers(asked, n)).map(|(k, _)| k.clone()).collect();
                for key in keys {
                    self.delete(&mut notes, key, asked);
                }
                (StatusCode::OK, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
            }
            (method, Some(key)) => {
                let Some(note) = notes.there.get(&key).cloned() else {
                    return refusal(StatusCode::NOT_FOUND, "NotFound");
                };
                match *method {
                    Method::GET => (StatusCode::OK, note),
                    Method::DELETE => self.delete(&mut notes, key, asked),
                    Method::PATCH => self.patch(&mut notes, key, note, asked),
                    _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
                }
            }
            _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    /// Stores a note, unless it is going and nothing holds it.
    fn put(&self, notes: &mut Notes, key: (String, String), mut note: Value, user: &str) -> Said {
        let held = note["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        let stays = held || note["metadata"]["deletionTimestamp"].is_null();
        note["metadata"]["resourceVersion"] = json!((notes.log.len() + 1).to_string());
        let what = match (stays, notes.there.remove(&key)) {
            (false, _) => "DELETED",
            (true, None) => "ADDED",
            (true, Some(_)) => "MODIFIED",
        };
        self.trace.step(format_args!("@ {what} {}/{} by {user}", key.0, key.1));
        let path = format!("/registry/{GROUP}/notes/{}/{}", key.0, key.1);
        if stays {
            notes.there.insert(key, note.clone());
        }
        self.laws.elsewhere(&path, stays.then(|| note.clone()), user);
        notes.log.push((what, note.clone()));
        self.changed.send_replace(notes.log.len());
        (StatusCode::OK, note)
    }

    fn delete(&self, notes: &mut Notes, key: (String, String), asked: &Asked) -> Said {
        let Some(mut note) = notes.there.get(&key).cloned() else {
            return refusal(StatusCode::NOT_FOUND, "NotFound");
        };
        let wanted = &asked.body["preconditions"];
        for field in ["uid", "resourceVersion"] {
            if !wanted[field].is_null() && wanted[field] != note["metadata"][field] {
                return refusal(StatusCode::CONFLICT, "Conflict");
            }
        }
        if asked.body["propagationPolicy"] == "Foreground" {
            note["metadata"]["finalizers"] = json!([FOREGROUND]);
        }
        if note["metadata"]["deletionTimestamp"].is_null() {
            note["metadata"]["deletionTimestamp"] = json!(jiff::Timestamp::now().to_string());
        }
        self.put(notes, key, note, &asked.user)
    }

    /// A merge patch of the metadata, which is all that there is.
    fn patch(&self, notes: &mut Notes, key: (String, String), mut note: Value, asked: &Asked) -> Said {
        for (field, value) in asked.body["metadata"].as_object().into_iter().flatten() {
            let is_condition = matches!(field.as_str(), "uid" | "resourceVersion");
            if is_condition && !value.is_null() && note["metadata"][field] != *value {
                return refusal(StatusCode::CONFLICT, "Conflict");
            }
            note["metadata"][field] = value.clone();
        }
        self.put(notes, key, note, &asked.user)
    }

    fn watch(self: &Arc<Self>, asked: &Asked) -> Response<Body> {
        let number = |field: &str| {
            let mut fields = asked.query.split('&').filter_map(|pair| pair.split_once('='));
            fields.find(|(name, _)| *name == field).and_then(|(_, value)| value.parse::<usize>().ok())
        };
        let lasts = Duration::from_secs(number("timeoutSeconds").unwrap_or(300) as u64);
        let (end, namespace) = (Instant::now() + lasts, asked.namespace.clone());
        let begun = (Arc::clone(self), number("resourceVersion").unwrap_or(0), self.changed.subscribe());
        let events = stream::unfold(begun, move |(this, at, mut changed)| {
            let namespace = namespace.clone();
            async move {
                // The sender is this server's.
                timeout_at(end, changed.wait_for(|length| *length > at)).await.ok()?.ok()?;
                let (what, note) = this.notes.lock().log[at].clone();
                let is_told = namespace.is_none_or(|namespace| note["metadata"]["namespace"] == namespace);
                let event = format!("{}\n", json!({"type": what, "object": note}));
                let bytes = Bytes::from(if is_told { event } else { String::new() });
                Some((Ok(Frame::data(bytes)), (this, at + 1, changed)))
            }
        });
        let answer = Response::builder().header(header::CONTENT_TYPE, "application/json");
        answer.body(StreamBody::new(events).boxed_unsync()).unwrap_or_default()
    }
}

fn covers(asked: &Asked, note: &Value) -> bool {
    asked.namespace.as_ref().is_none_or(|namespace| note["metadata"]["namespace"] == **namespace)
}

fn resources() -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": [{"name": "notes", "singularName": "note", "namespaced": true, "kind": "Note",
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "watch"]}]})
}

fn refusal(code: StatusCode, reason: &str) -> Said {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "says the neighbour", "reason": reason, "code": code.as_u16()});
    (code, status)
}

fn response((code, body): Said) -> Response<Body> {
    let answer = Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
    answer.body(Full::new(Bytes::from(body.to_string())).boxed_unsync()).unwrap_or_default()
}

/// The way to it, and to nobody else.
pub(crate) struct Way(pub(crate) Arc<Neighbour>);

#[async_trait]
impl Dial for Way {
    async fn dial(&self, _: SocketAddr) -> io::Result<Box<dyn Stream>> {
        sleep(self.0.chance.millis(0, 5)).await;
        let away = *self.0.away.lock();
        match away {
            Some(Away::Refuses) => Err(io::ErrorKind::ConnectionRefused.into()),
            Some(Away::Silent) => std::future::pending().await,
            Some(Away::Fails) | None => {
                let (ours, theirs) = tokio::io::duplex(PIPE);
                // It ends with either end of the pipe.
                tokio::spawn(Arc::clone(&self.0).serve(theirs));
                Ok(Box::new(ours))
            }
        }
    }
}
