//! The kubelet's own HTTPS API: logs, exec, attach, port-forward, stats, metrics, pods, health.
//!
//! Connections come from two doors: [`Kubelet::serve_tls`] for the network, where every request is authenticated
//! and authorized by the API server, and [`Kubelet::serve_trusted`] for an
//! API server in the same process, which has done both already.

mod access;
mod exposed;
mod log;
mod stats;
mod streaming;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tiphys_pki::ClientTrust;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::counts;
use crate::kubelet::{Inner, Kubelet};
use access::{Access, Caller};

/// Connections from the network that are served at once.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// The body of an answer.
pub(crate) type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// An answer that says no.
#[derive(Debug)]
pub(crate) struct Refusal(StatusCode, String);

impl Refusal {
    fn not_found(text: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, text.into())
    }

    fn bad_request(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }

    fn internal(text: impl ToString) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, text.to_string())
    }
}

pub(crate) type Answer = Result<Response<Body>, Refusal>;

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

fn plain(body: impl Into<Bytes>) -> Response<Body> {
    text(StatusCode::OK, "text/plain; charset=utf-8", body)
}

fn json(value: &serde_json::Value) -> Response<Body> {
    text(StatusCode::OK, "application/json", value.to_string())
}

/// A body that is sent while it is made; a failure in the middle cuts it off.
fn stream(parts: mpsc::Receiver<Bytes>) -> Response<Body> {
    let frames = ReceiverStream::new(parts).map(|part| Ok::<_, io::Error>(Frame::data(part)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let kind = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

impl Kubelet {
    /// Serves one connection of a peer whose requests need no check: an API server in this process. Plain HTTP/1.1
    /// or HTTP/2, upgrades included. Ends when the connection does.
    pub async fn serve_trusted<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.serve(stream, Arc::new(Access::Trusted), Caller::default()).await;
    }

    /// Serves the network until it is dropped. `tls` asks for client certificates without judging them, `trust`
    /// judges; a client without a valid one needs a bearer token.
    ///
    /// # Errors
    /// None while the listener is open: a connection that can't be accepted is passed over.
    pub async fn serve_tls(
        &self,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        trust: ClientTrust,
    ) -> io::Result<()> {
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        let access =
            Arc::new(Access::delegated(self.inner.kube.clone(), self.inner.config.node_name.clone()));
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return Ok(()) };
            let (tcp, _) = match listener.accept().await {
                Ok(accepted) => accepted,
                // The peer went away before it was accepted, or descriptors are short for a moment.
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (kubelet, acceptor, access, trust) =
                (self.clone(), acceptor.clone(), access.clone(), trust.clone());
            tokio::spawn(async move {
                let shaken = tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(tcp)).await;
                if let Ok(Ok(stream)) = shaken {
                    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
                    let peer = trust.verify(chain, SystemTime::now()).ok();
                    let caller = Caller { peer: peer.map(|p| (p.user, p.groups)) };
                    kubelet.serve(stream, access, caller).await;
                }
                drop(slot);
            });
        }
    }

    async fn serve<S>(&self, stream: S, access: Arc<Access>, caller: Caller)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let inner = self.inner.clone();
        let caller = Arc::new(caller);
        let service = service_fn(move |request| {
            let (inner, access, caller) = (inner.clone(), access.clone(), caller.clone());
            async move { Ok::<_, Infallible>(answer(inner, &access, &caller, request).await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
            tracing::debug!(error, "a connection ended early");
        }
    }
}

async fn answer(
    inner: Arc<Inner>,
    access: &Access,
    caller: &Caller,
    request: Request<Incoming>,
) -> Response<Body> {
    let is_head = request.method() == Method::HEAD;
    let result = match access.check(caller, &request).await {
        Ok(()) => route(inner, request).await,
        Err(refusal) => Err(refusal),
    };
    let answer =
        result.unwrap_or_else(|Refusal(status, message)| text(status, "text/plain; charset=utf-8", message));
    // HTTP/1.1 would drop the body of an answer to a HEAD by itself, HTTP/2 sends it.
    if is_head { answer.map(|_| Empty::new().map_err(|never| match never {}).boxed_unsync()) } else { answer }
}

async fn route(inner: Arc<Inner>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let parts: Vec<String> = path
        .split('/')
        .filter(|p| !p.is_empty())
        .map(percent_decode)
        .collect::<Option<_>>()
        .ok_or_else(|| Refusal::bad_request("the path is not valid UTF-8"))?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let method = request.method().clone();
    let reading = method == Method::GET;
    let upgrading = reading || method == Method::POST;
    match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] if reading => Ok(plain("ok")),
        ["pods"] | ["runningpods"] if reading => Ok(json(&pod_list(&inner))),
        ["containerLogs", namespace, pod, container] if reading => {
            log::serve(&inner, namespace, pod, container, &query).await
        }
        ["exec", namespace, pod, rest @ ..] if upgrading => {
            let container = last_of(rest)?;
            streaming::exec(&inner, namespace, pod, container, &query, request).await
        }
        ["attach", namespace, pod, rest @ ..] if upgrading => {
            let container = last_of(rest)?;
            streaming::attach(&inner, namespace, pod, container, &query, request).await
        }
        ["portForward", namespace, pod, ..] if upgrading => {
            streaming::port_forward(&inner, namespace, pod, &query, request).await
        }
        ["run", namespace, pod, rest @ ..] if method == Method::POST => {
            streaming::run(&inner, namespace, pod, last_of(rest)?, &query).await
        }
        ["stats", "summary"] if reading => Ok(json(&stats::summary(&inner).await)),
        ["metrics", below @ ..] if reading => {
            let (format, mut text) = exposed::begun(request.headers());
            match below {
                [] => exposed::own(&inner, &mut text).await,
                ["resource"] => exposed::resource(&inner, &mut text).await,
                ["cadvisor"] => exposed::cadvisor(&inner, &mut text).await,
                ["probes"] => counts::expose_probes(&mut text),
                _ => return Err(Refusal::not_found("404 page not found")),
            }
            Ok(self::text(StatusCode::OK, format.content_type(), text.finish()))
        }
        [
            "healthz" | "pods" | "containerLogs" | "exec" | "attach" | "portForward" | "run" | "stats"
            | "metrics",
            ..,
        ] => {
            Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, format!("method {method} is not allowed for {path}")))
        }
        ["logs" | "configz" | "checkpoint" | "debug", ..] => {
            Err(Refusal(StatusCode::NOT_IMPLEMENTED, format!("{path} is not built")))
        }
        _ => Err(Refusal::not_found("404 page not found")),
    }
}

/// The container, with or without the pod's UID before it.
fn last_of<'a>(rest: &[&'a str]) -> Result<&'a str, Refusal> {
    match rest {
        [container] | [_, container] => Ok(container),
        _ => Err(Refusal::not_found("404 page not found")),
    }
}

fn pod_list(inner: &Inner) -> serde_json::Value {
    let items: Vec<serde_json::Value> = inner
        .registry
        .pods()
        .into_iter()
        .filter_map(|(_, pod)| serde_json::to_value(&*pod).ok())
        .map(|mut pod| {
            if let Some(pod) = pod.as_object_mut() {
                pod.remove("kind");
                pod.remove("apiVersion");
            }
            pod
        })
        .collect();
    serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// A request's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    fn parse(text: &str) -> Self {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|p| !p.is_empty()).take(1000) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |t: &str| percent_decode(&t.replace('+', " "));
            if let (Some(name), Some(value)) = (decode(name), decode(value)) {
                all.entry(name).or_default().push(value);
            }
        }
        Self(all)
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str)
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    /// Whether a flag is set, by the kubelet's name for it or the API's.
    fn flag(&self, names: &[&str]) -> bool {
        names.iter().filter_map(|n| self.first(n)).any(|v| !matches!(v, "" | "0" | "false"))
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let hex = std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok()?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
