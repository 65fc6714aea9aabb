//! Connections: accepting, TLS, HTTP/1.1 and HTTP/2, and their end.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Handler;
use super::attend::Attendant;
use super::gather::gathering;
use super::record::Remote;

/// A client has this long to finish its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// An HTTP/1.1 connection is closed if no request's head has come by then.
const IDLE: Duration = Duration::from_secs(90);
/// What is under way when the server stops has this long to end.
const DRAIN: Duration = Duration::from_secs(5);
/// More connections than this wait to be accepted.
const MAX_CONNECTIONS: usize = 10_000;
/// The longest head of a request: URI and headers together.
const MAX_HEAD: usize = 64 << 10;
/// Streams that one HTTP/2 connection may have open: upstream's bound.
const MAX_STREAMS: u32 = 100;
/// A silent HTTP/2 client is asked for a sign of life this often, and given as long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Serves connections until `stop`; then takes no more, and returns once those that are open have finished
/// what they were asked, or have had their time.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    handler: Arc<Handler>,
    stop: CancellationToken,
) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        // The semaphore is never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(e) if is_of_one_connection(&e) => continue,
            Err(e) => {
                // Out of file descriptors, most likely: wait for connections to close.
                tracing::warn!(error = %e, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, handler, stop) = (acceptor.clone(), Arc::clone(&handler), stop.clone());
        connections.spawn(async move {
            if let Err(e) = connection(stream, address.ip(), acceptor, handler, stop).await {
                tracing::debug!(%address, error = %e, "connection ended");
            }
            drop(slot);
        });
    }
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::debug!(open = connections.len(), "connections were cut off at the end");
    }
    Ok(())
}

fn is_of_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(e.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Why a connection ended before its client closed it.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("setting up the socket: {0}")]
    Socket(#[source] io::Error),
    #[error("TLS handshake: {0}")]
    Handshake(#[source] io::Error),
    #[error("the TLS handshake took too long")]
    Slow,
    #[error("HTTP: {0}")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
}

async fn connection(
    stream: TcpStream,
    address: IpAddr,
    acceptor: TlsAcceptor,
    handler: Arc<Handler>,
    stop: CancellationToken,
) -> Result<(), Error> {
    stream.set_nodelay(true).map_err(Error::Socket)?;
    let tls = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .map_err(|_| Error::Slow)
        .and_then(|accepted| accepted.map_err(Error::Handshake))
        .inspect_err(|_| {
            handler.metrics().handshake_errors.fetch_add(1, Relaxed);
        })?;
    let proven = handler.connection(tls.get_ref().1.peer_certificates());

    let service = service_fn(move |request: http::Request<Incoming>| {
        let (handler, proven) = (Arc::clone(&handler), proven.clone());
        // In a box, because the answer in the making is large, and whoever runs it moves it several times.
        Box::pin(async move {
            let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            request.extensions_mut().insert(proven);
            request.extensions_mut().insert(Remote(address));
            Ok::<_, Infallible>(handler.handle(request).await)
        })
    });
    // What HTTP/1.1 writes is one answer at a time, and the stream may become another protocol's.
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let attendant = Attendant::new();
    let mut builder = auto::Builder::new(attendant.desk());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_HEAD)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    if is_http2 {
        let (stream, outlet) = gathering(tls);
        let builder = builder.http2_only();
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        {
            let attended = std::pin::pin!(attendant.run(connection.as_mut()));
            tokio::select! {
                done = outlet.run(attended) => return done.map_err(Error::Http),
                () = stop.cancelled() => {}
            }
        }
        connection.as_mut().graceful_shutdown();
        let attended = std::pin::pin!(attendant.run(connection));
        return outlet.run(attended).await.map_err(Error::Http);
    }
    drop(attendant);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(tls), service);
    tokio::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return done.map_err(Error::Http),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(Error::Http)
}
