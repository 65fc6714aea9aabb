//! What load balancers ask a node: whether it has endpoints of a service that shows them clients' addresses
//! (`healthCheckNodePort`). The answers are kube-proxy's (`pkg/proxy/healthcheck`): 200 where there are endpoints and the
//! rules for them are in force, else 503.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Response, StatusCode, header};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tiphys_client::ObjectKey;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// How long a port that somebody else has is waited for, before the next try.
const RETRY: Duration = Duration::from_secs(1);
/// How many may ask for one service at a time.
const CONNECTIONS: usize = 64;
/// How long one may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for by a service: at which port, and how many of its endpoints are here and ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) port: u16,
    pub(super) endpoints: usize,
}

/// The ports of all services that have one, answered for as long as this lives.
#[derive(Debug, Default)]
pub(super) struct Checks {
    by_service: BTreeMap<ObjectKey, Check>,
    /// Whether the rules are in force.
    healthy: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Check {
    port: u16,
    endpoints: Arc<AtomicUsize>,
    task: JoinHandle<Infallible>,
}

impl Drop for Check {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checks {
    pub(super) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    /// Answers for the service from now on, or no more.
    pub(super) fn set(&mut self, service: &ObjectKey, wanted: Option<Wanted>) {
        let Some(Wanted { port, endpoints }) = wanted else {
            self.by_service.remove(service);
            return;
        };
        if let Some(check) = self.by_service.get(service).filter(|check| check.port == port) {
            check.endpoints.store(endpoints, Ordering::Relaxed);
            return;
        }
        // The old port is let go first: the services may have exchanged theirs.
        self.by_service.remove(service);
        let endpoints = Arc::new(AtomicUsize::new(endpoints));
        let asked = Arc::new(Asked {
            service: service.clone(),
            endpoints: endpoints.clone(),
            healthy: self.healthy.clone(),
        });
        let task = tokio::spawn(serve(port, asked));
        self.by_service.insert(service.clone(), Check { port, endpoints, task });
    }
}

/// What answers are made of.
struct Asked {
    service: ObjectKey,
    endpoints: Arc<AtomicUsize>,
    healthy: Arc<AtomicBool>,
}

impl Asked {
    fn answer(&self) -> Response<String> {
        let (endpoints, healthy) =
            (self.endpoints.load(Ordering::Relaxed), self.healthy.load(Ordering::Relaxed));
        let status = match endpoints > 0 && healthy {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = serde_json::json!({
            "service": {"namespace": *self.service.namespace, "name": *self.service.name},
            "localEndpoints": endpoints,
            "serviceProxyHealthy": healthy,
        });
        let mut response = Response::new(body.to_string());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
        headers.insert("x-load-balancing-endpoint-weight", endpoints.into());
        response
    }
}

async fn serve(port: u16, asked: Arc<Asked>) -> Infallible {
    let mut told = false;
    let listener = loop {
        match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await {
            Ok(listener) => break listener,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    let service = &asked.service;
                    tracing::warn!(%service, port, %error, "listening for health checks of the service; trying on");
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    // Those that are being answered end with the task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(timeout(PATIENCE, attend(stream, asked.clone())))),
                Err(error) => {
                    tracing::debug!(port, %error, "accepting a health check");
                    tokio::time::sleep(RETRY).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers one request.
async fn attend(stream: TcpStream, asked: Arc<Asked>) {
    let service = service_fn(|_| std::future::ready(Ok::<_, Infallible>(asked.answer())));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "answering a health check");
    }
}
