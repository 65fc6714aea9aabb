//! A server that does nothing: the same TLS and HTTP/2, and answers that were ready before.

use std::{convert::Infallible, path::PathBuf, pin::Pin, sync::Arc};

use anyhow::Result;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tiphys_pki::{Leaf, Pki, ServingNames};
use tokio::{net::TcpListener, runtime::Runtime, sync::broadcast};
use tokio_rustls::TlsAcceptor;

use super::watchers;
use crate::objects;

/// How many events a watcher may lag behind.
const BEHIND: usize = 1024;

pub(crate) struct Nothing {
    dir: TempDir,
    /// Its own, on all processors, as the servers that it is compared with have them.
    runtime: Option<Runtime>,
}

impl Nothing {
    pub(crate) fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tiphys-nothing-").tempdir_in("/var/tmp")?;
        let pki = Pki::open(&dir.path().join("pki"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let server = format!("https://{}", listener.local_addr()?);
        pki.admin_kubeconfig(&dir.path().join("kubeconfig"), "nothing", &server)?;
        let leaf = Leaf::apiserver(&ServingNames {
            node: "nothing",
            domain: "cluster.local",
            service_address: [127, 0, 0, 1].into(),
            host_addresses: &[],
            extra: &[],
        });
        let tls = tiphys_pki::server_config(pki.rotating(leaf)?, &pki.client_trust()?)?;
        let tls = TlsAcceptor::from(tls);
        let answers = Arc::new(Answers::new());
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, answers) = (tls.clone(), Arc::clone(&answers));
                tokio::spawn(async move {
                    // A client that goes away ends its connection; nobody else minds.
                    let Ok(()) = tcp.set_nodelay(true) else { return };
                    let Ok(stream) = tls.accept(tcp).await else { return };
                    let service = service_fn(move |request| Arc::clone(&answers).answer(request));
                    let mut http = http2::Builder::new(TokioExecutor::new());
                    http.max_concurrent_streams(1000);
                    drop(http.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Ok(Self { dir, runtime: Some(runtime) })
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }
}

impl Drop for Nothing {
    fn drop(&mut self) {
        // Its connections go with it; nobody waits for them.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Body = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

struct Answers {
    object: Bytes,
    events: broadcast::Sender<Bytes>,
}

impl Answers {
    fn new() -> Self {
        let object = objects::config_map("canned").to_string().into();
        Self { object, events: broadcast::Sender::new(BEHIND) }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let watches = request.uri().query().is_some_and(|query| query.starts_with("watch=1"));
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let stream: Pin<Box<dyn Stream<Item = _> + Send>> = if watches {
            let first = stream::iter(vec![event("ADDED", &self.object); watchers::WRITERS]).map(frame);
            let later = stream::unfold(self.events.subscribe(), |mut events| async move {
                events.recv().await.ok().map(|event| (frame(event), events))
            });
            Box::pin(first.chain(later))
        } else {
            Box::pin(stream::iter([frame(self.object.clone())]))
        };
        if path.contains("/configmaps/watched-") {
            // The mark of the patch stands for the object that it makes.
            let mut object = self.object.to_vec();
            object.truncate(object.len() - 1);
            object.extend_from_slice(b",\"mark\":");
            object.extend_from_slice(if body.is_empty() { b"{}" } else { &body });
            object.push(b'}');
            let kind = if method == Method::DELETE { "DELETED" } else { "MODIFIED" };
            // Nobody may be watching.
            let _ = self.events.send(event(kind, &object));
        }
        let mut response = Response::new(StreamBody::new(stream));
        *response.status_mut() = if method == Method::POST { StatusCode::CREATED } else { StatusCode::OK };
        Ok(response)
    }
}

fn frame(data: Bytes) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(data))
}

fn event(kind: &str, object: &[u8]) -> Bytes {
    let mut event = format!("{{\"type\":\"{kind}\",\"object\":").into_bytes();
    event.extend_from_slice(object);
    event.extend_from_slice(b"}\n");
    event.into()
}
