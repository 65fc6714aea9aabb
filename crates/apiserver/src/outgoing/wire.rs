//! New connections to an endpoint.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use http::Uri;
use http::uri::Authority;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rand::seq::SliceRandom;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::resolve::{self, Target};
use super::{Place, SpecError, Step};
use crate::node_proxy::Stream;
use crate::source::Source;

/// So many of an endpoint's addresses are tried before a dial has failed.
const TRIES: usize = 3;

/// The protocols that a connection may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Any,
    Http1,
}

/// Makes connections to addresses.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// # Errors
    /// Nobody is reached there.
    async fn dial(&self, to: SocketAddr) -> io::Result<Box<dyn Stream>>;
}

/// By TCP.
pub(super) struct Tcp;

#[async_trait]
impl Dial for Tcp {
    async fn dial(&self, to: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(to).await?;
        // A call is one small message each way.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// Makes connections to one endpoint.
pub(super) struct Dialer {
    dial: Arc<dyn Dial>,
    place: Place,
    source: Arc<dyn Source>,
    host: String,
    port: u16,
    tls: Option<Tls>,
}

struct Tls {
    any: TlsConnector,
    http1: TlsConnector,
    name: ServerName<'static>,
}

impl Dialer {
    /// `tls` is `None` for plain HTTP.
    pub(super) fn new(
        place: Place,
        authority: &Authority,
        tls: Option<ClientConfig>,
        source: Arc<dyn Source>,
        dial: Arc<dyn Dial>,
    ) -> Result<Self, SpecError> {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let tls = tls.map(|config| Tls::new(config, &host)).transpose()?;
        Ok(Self { dial, place, source, host, port, tls })
    }

    /// Where the addresses of services are known, and how connections are made.
    pub(super) fn ways(&self) -> (Arc<dyn Source>, Arc<dyn Dial>) {
        (Arc::clone(&self.source), Arc::clone(&self.dial))
    }

    pub(super) fn service(&self) -> Option<(&str, &str, u16)> {
        match &self.place {
            Place::Service { namespace, name, port, .. } => Some((name, namespace, *port)),
            Place::Url(_) => None,
        }
    }

    /// Where it would dial now, as text.
    pub(super) fn resolved(&self) -> Result<String, Step> {
        let Some((name, namespace, port)) = self.service() else { return Ok(self.host.clone()) };
        Ok(format!("{:?}", resolve::service(&*self.source, namespace, name, port)?))
    }

    /// Connects; tells whether the connection speaks HTTP/2.
    pub(super) async fn dial(&self, speaks: Speaks) -> Result<(Box<dyn Stream>, bool), Step> {
        let stream = self.connect().await?;
        let Some(tls) = &self.tls else { return Ok((stream, false)) };
        let connector = match speaks {
            Speaks::Any => &tls.any,
            Speaks::Http1 => &tls.http1,
        };
        let stream =
            connector.connect(tls.name.clone(), stream).await.map_err(|e| Step::Handshake(Arc::new(e)))?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(stream), h2))
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Step> {
        let mut addresses = self.addresses().await?;
        addresses.shuffle(&mut rand::rng());
        let mut last = Step::NoEndpoints(self.host.clone());
        for to in addresses.into_iter().take(TRIES) {
            match self.dial.dial(to).await {
                Ok(stream) => return Ok(stream),
                Err(source) => last = Step::Dial { to, source: Arc::new(source) },
            }
        }
        Err(last)
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, Step> {
        match &self.place {
            Place::Url(_) => lookup(&self.host, self.port).await,
            Place::Service { namespace, name, port, .. } => {
                match resolve::service(&*self.source, namespace, name, *port)? {
                    Target::Addresses(addresses) => Ok(addresses),
                    Target::Name(host, port) => lookup(&host, port).await,
                }
            }
        }
    }
}

async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, Step> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|e| Step::Lookup { host: host.to_owned(), source: Arc::new(e) })?;
    Ok(found.collect())
}

impl Tls {
    fn new(mut config: ClientConfig, host: &str) -> Result<Self, SpecError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| SpecError::Url(host.to_owned()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = TlsConnector::from(Arc::new(config.clone()));
        config.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Self { any: TlsConnector::from(Arc::new(config)), http1, name })
    }
}

/// Gives the pool its connections.
#[derive(Clone)]
pub(super) struct Connector(pub(super) Arc<Dialer>);

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = Step;
    type Future = Pin<Box<dyn Future<Output = Result<Wire, Step>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Step>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = Arc::clone(&self.0);
        Box::pin(async move {
            let (stream, h2) = dialer.dial(Speaks::Any).await?;
            Ok(Wire { io: TokioIo::new(stream), h2 })
        })
    }
}

/// A connection as the pool wants it.
pub(super) struct Wire {
    io: TokioIo<Box<dyn Stream>>,
    h2: bool,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
