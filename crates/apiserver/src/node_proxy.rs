//! The way to nodes, pods and Services: requests and upgraded connections that the API server hands on.
//!
//! What is inside an upgraded connection is between the client and the other end; here it is bytes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tiphys_api::{KUBELET_PORT, meta};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::http::body::{Body, RequestBody};

/// A connection of bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A way to a kubelet's API.
#[async_trait]
pub trait NodeDialer: Send + Sync + 'static {
    /// A new connection that speaks HTTP/1.1, with whatever proves who calls.
    ///
    /// # Errors
    /// The kubelet cannot be reached.
    async fn dial(&self) -> io::Result<Box<dyn Stream>>;
}

/// Why a request could not be handed on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("node {0:?} not found")]
    NoNode(String),
    #[error("node {0:?} has no address")]
    NoAddress(String),
    #[error("dialing {to}: {source}")]
    Dial { to: String, source: io::Error },
    #[error("dialing {0}: no answer in time")]
    Slow(String),
    #[error("asking {to}: {source}")]
    Ask { to: String, source: hyper::Error },
    /// The other end switches protocols, but the client's connection cannot.
    #[error("Upgrade request required")]
    NoUpgrade,
}

/// How long a connection may take to come up.
const DIAL: Duration = Duration::from_secs(10);

/// The ways to all nodes: those in this process, and the others by TLS.
pub struct Nodes {
    local: RwLock<HashMap<String, Arc<dyn NodeDialer>>>,
    cache: Arc<Cache>,
    tls: TlsConnector,
}

impl Nodes {
    /// `tls` shows the certificate that kubelets know the API server by, and verifies theirs.
    pub fn new(cache: Arc<Cache>, tls: rustls::ClientConfig) -> Self {
        Self { local: RwLock::default(), cache, tls: TlsConnector::from(Arc::new(tls)) }
    }

    /// From now on the node is reached by this dialer.
    pub fn add(&self, node: impl Into<String>, dialer: Arc<dyn NodeDialer>) {
        self.local.write().insert(node.into(), dialer);
    }

    /// Connects to a node's kubelet.
    ///
    /// # Errors
    /// There is no such node, or it does not answer.
    pub async fn dial(&self, node: &str) -> Result<Box<dyn Stream>, Error> {
        let local = self.local.read().get(node).cloned();
        let dialing = async {
            match local {
                Some(dialer) => dialer.dial().await,
                None => {
                    let address = self.address(node)?;
                    let tcp = TcpStream::connect(address).await.map_err(|source| dial_error(node, source))?;
                    let name = ServerName::IpAddress(address.ip().into());
                    let tls = self.tls.connect(name, tcp).await.map_err(|source| dial_error(node, source))?;
                    return Ok(Box::new(tls) as Box<dyn Stream>);
                }
            }
            .map_err(|source| dial_error(node, source))
        };
        tokio::time::timeout(DIAL, dialing).await.map_err(|_| Error::Slow(format!("node {node}")))?
    }

    /// Where a node's kubelet listens, as the node says.
    fn address(&self, name: &str) -> Result<SocketAddr, Error> {
        let nodes = self.cache.collection("", "nodes");
        let object = nodes.and_then(|nodes| nodes.get("", name)).ok_or(Error::NoNode(name.to_owned()))?;
        let node: Value = serde_json::from_slice(object.json()).unwrap_or_default();
        let addresses = meta::items(&node, &["status", "addresses"]);
        let of_type = |kind: &str| {
            let mut of_kind = addresses.iter().filter(|a| a["type"] == kind);
            of_kind.find_map(|a| a["address"].as_str()?.parse::<IpAddr>().ok())
        };
        let ip = of_type("InternalIP").or_else(|| of_type("ExternalIP"));
        let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
        let port = port.and_then(|p| u16::try_from(p).ok()).unwrap_or(KUBELET_PORT);
        Ok(SocketAddr::new(ip.ok_or_else(|| Error::NoAddress(name.to_owned()))?, port))
    }
}

fn dial_error(node: &str, source: io::Error) -> Error {
    Error::Dial { to: format!("node {node}"), source }
}

/// Connects to an address in the cluster.
///
/// # Errors
/// It does not answer.
pub(crate) async fn dial_address(address: SocketAddr) -> Result<Box<dyn Stream>, Error> {
    let connected = tokio::time::timeout(DIAL, TcpStream::connect(address)).await;
    match connected {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(source)) => Err(Error::Dial { to: address.to_string(), source }),
        Err(_) => Err(Error::Slow(address.to_string())),
    }
}

/// Connects to an address in the cluster by TLS; pods' certificates are nobody's to judge.
///
/// # Errors
/// It does not answer, or not in TLS.
pub(crate) async fn dial_tls(address: SocketAddr) -> Result<Box<dyn Stream>, Error> {
    let failed = |source| Error::Dial { to: address.to_string(), source };
    let config = tiphys_pki::unverified_client_config().map_err(|e| failed(io::Error::other(e)))?;
    let stream = dial_address(address).await?;
    let connecting =
        TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress(address.ip().into()), stream);
    match tokio::time::timeout(DIAL, connecting).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(source)) => Err(failed(source)),
        Err(_) => Err(Error::Slow(address.to_string())),
    }
}

/// Whether the client asks for another protocol on its connection.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get(header::CONNECTION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    headers.contains_key(header::UPGRADE)
        && connection.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// Headers that belong to one connection and are not handed on.
const HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What of a client's headers goes to the other end.
pub(crate) fn handed_on(headers: &HeaderMap) -> HeaderMap {
    let upgrade = headers.get(header::UPGRADE).filter(|_| is_upgrade(headers)).cloned();
    let mut kept = headers.clone();
    for name in HOP.iter().chain([&header::HOST, &header::AUTHORIZATION]) {
        kept.remove(name);
    }
    if let Some(protocol) = upgrade {
        kept.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        kept.insert(header::UPGRADE, protocol);
    }
    kept
}

/// Takes out of the other end's headers what is not for the client.
pub(crate) fn handed_back(headers: &mut HeaderMap) {
    for name in &HOP {
        headers.remove(name);
    }
}

/// Sends a request over a connection of its own and answers with what comes back. If both ends switch
/// protocols, their bytes are copied until one of them or `stop` ends it.
///
/// # Errors
/// The other end does not answer, or switches protocols where the client cannot.
pub(crate) async fn forward(
    to: &str,
    stream: Box<dyn Stream>,
    request: Request<RequestBody>,
    client: Option<OnUpgrade>,
    stop: CancellationToken,
) -> Result<Response<Body>, Error> {
    let ask = |source| Error::Ask { to: to.to_owned(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(ask)?;
    let running = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            ended = connection.with_upgrades() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a handed-on connection ended early");
                }
            }
            () = running.cancelled() => {}
        }
    });
    let mut response = sender.send_request(request).await.map_err(ask)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let client = client.ok_or(Error::NoUpgrade)?;
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(splice(client, server, stop));
        let (head, _) = response.into_parts();
        return Ok(Response::from_parts(head, Body::empty()));
    }
    let (mut head, body) = response.into_parts();
    handed_back(&mut head.headers);
    let pieces = body.into_data_stream().map(|piece| piece.map_err(Into::into));
    // The sender keeps the connection open for as long as its answer is read.
    let pieces = pieces.map(move |piece| {
        let _open = &sender;
        piece
    });
    Ok(Response::from_parts(head, Body::stream(pieces.take_until(stop.cancelled_owned()))))
}

async fn splice(client: OnUpgrade, server: OnUpgrade, stop: CancellationToken) {
    let copied = async {
        let (client, server) = tokio::try_join!(client, server)?;
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        copy_bidirectional(&mut client, &mut server).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    tokio::select! {
        ended = copied => {
            if let Err(error) = ended {
                tracing::debug!(error, "an upgraded connection ended early");
            }
        }
        () = stop.cancelled() => {}
    }
}

#[cfg(test)]
#[path = "node_proxy_tests.rs"]
mod tests;
