//! One connection to a server, without anything between this program and HTTP/2.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::{
    Config,
    client::ConfigExt,
    config::{KubeConfigOptions, Kubeconfig},
};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::objects;

/// Where a server is, and who asks.
pub(crate) struct Dialer {
    host: String,
    port: u16,
    tls: TlsConnector,
}

impl Dialer {
    pub(crate) async fn new(kubeconfig: &Path) -> Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let mut tls = config.rustls_client_config()?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let url = &config.cluster_url;
        Ok(Self {
            host: url.host().context("a server without a host")?.to_owned(),
            port: url.port_u16().unwrap_or(443),
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    pub(crate) async fn connect(&self) -> Result<Wire> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.context("connecting")?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone())?;
        let tls = self.tls.connect(name, tcp).await.context("the TLS handshake")?;
        let (send, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(TokioIo::new(tls))
            .await
            .context("the HTTP/2 handshake")?;
        // It ends with the last request's sender; an error is each request's, too.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Wire { send })
    }
}

#[derive(Clone)]
pub(crate) struct Wire {
    send: http2::SendRequest<Full<Bytes>>,
}

fn request(method: Method, path: &str, media: &str, body: String) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("https://bench{path}"))
        .header(header::CONTENT_TYPE, media)
        .header(header::USER_AGENT, "tiphys-bench")
        .body(Full::new(body.into()))
        .expect("paths of this program are valid")
}

const JSON: &str = "application/json";

/// A request to read what stands at a path.
pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    request(Method::GET, path, JSON, String::new())
}

/// A request to create an object.
pub(crate) fn create(collection: &str, object: &Value) -> Request<Full<Bytes>> {
    request(Method::POST, collection, JSON, object.to_string())
}

/// A request to merge something into an object.
pub(crate) fn patch(path: &str, patch: &Value) -> Request<Full<Bytes>> {
    request(Method::PATCH, path, "application/merge-patch+json", patch.to_string())
}

/// A request to apply a configuration.
pub(crate) fn apply(path: &str, config: &Value) -> Request<Full<Bytes>> {
    request(Method::PATCH, path, "application/apply-patch+yaml", config.to_string())
}

pub(crate) fn delete(path: &str) -> Request<Full<Bytes>> {
    request(Method::DELETE, path, JSON, String::new())
}

impl Wire {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        self.send.ready().await.context("waiting for the connection")?;
        let path = request.uri().path().to_owned();
        self.send.send_request(request).await.with_context(|| format!("asking {path}"))
    }

    /// Whether the server knows a path.
    pub(crate) async fn knows(&mut self, path: &str) -> Result<bool> {
        Ok(self.send(get(path)).await?.status() != StatusCode::NOT_FOUND)
    }

    /// Sends a request; the body of the answer comes as it will.
    pub(crate) async fn open(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let path = request.uri().path().to_owned();
        let answer = self.send(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        bail!("{path}: {status}: {}", String::from_utf8_lossy(&body))
    }

    /// Sends a request and reads its answer; tells how long that is.
    pub(crate) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<usize> {
        let mut body = self.open(request).await?.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame.context("reading an answer")?.data_ref().map_or(0, Bytes::len);
        }
        Ok(length)
    }

    /// Sends a request; its answer, whole.
    pub(crate) async fn read(&mut self, request: Request<Full<Bytes>>) -> Result<Bytes> {
        let answer = self.open(request).await?.into_body().collect().await;
        Ok(answer.context("reading an answer")?.to_bytes())
    }

    /// Sends a request whose answer comes line by line.
    pub(crate) async fn follow(&mut self, path: &str) -> Result<Lines> {
        Ok(Lines { body: self.open(get(path)).await?.into_body(), rest: Bytes::new(), line: Vec::new() })
    }

    /// Makes a namespace whose Pods need no controller.
    pub(crate) async fn prepare(&mut self, namespace: &str) -> Result<()> {
        self.make(objects::namespace_and_account(namespace)).await
    }

    /// Creates what is not there yet, each object in its collection.
    pub(crate) async fn make(&mut self, objects: impl IntoIterator<Item = (String, Value)>) -> Result<()> {
        for (path, object) in objects {
            match self.open(create(&path, &object)).await {
                Ok(answer) => drop(answer.into_body().collect().await?),
                // A controller may have been faster.
                Err(error) => {
                    ensure!(error.to_string().contains(StatusCode::CONFLICT.as_str()), "{error:#}");
                }
            }
        }
        Ok(())
    }
}

/// The lines of an answer, as they come.
pub(crate) struct Lines {
    body: Incoming,
    rest: Bytes,
    line: Vec<u8>,
}

impl Lines {
    /// The next line, or as much of its beginning as is asked for.
    pub(crate) async fn next(&mut self, most: usize) -> Result<Option<&[u8]>> {
        self.line.clear();
        loop {
            let end = memchr::memchr(b'\n', &self.rest);
            let part = &self.rest[..end.unwrap_or(self.rest.len())];
            let room = most - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if let Some(end) = end {
                self.rest.advance(end + 1);
                return Ok(Some(&self.line));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            self.rest = frame.context("reading lines")?.into_data().unwrap_or_default();
        }
    }
}
