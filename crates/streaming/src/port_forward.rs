//! Port forwarding: pairs of streams, one of data and one that tells of an error.

use std::{collections::HashMap, io};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    task::JoinSet,
};
use tracing::debug;

use crate::{
    pipe::{Reader, Writer},
    server::Backend,
    spdy,
    websocket::{Channels, Encoding},
};

/// Pairs whose other half has not come yet; a client that opens more is not forwarding.
const MOST_HALVES: usize = 64;

/// Connects one data stream to the sandbox's port and tells the error stream if that fails.
async fn forward<D, E>(backend: &dyn Backend, sandbox: &str, port: u16, mut data: D, mut error: E)
where
    D: AsyncRead + AsyncWrite + Send + Unpin,
    E: AsyncWrite + Unpin,
{
    if let Err(failure) = backend.forward(sandbox, port, &mut data).await {
        let text = format!("error forwarding port {port} to pod {sandbox}: {failure}");
        if let Err(gone) = error.write_all(text.as_bytes()).await {
            debug!(%gone, "telling a forwarding error");
        }
    }
    if let Err(gone) = error.shutdown().await {
        debug!(%gone, "ending an error stream");
    }
    // A client reads the error only after the data has ended.
    if let Err(gone) = data.shutdown().await {
        debug!(%gone, "ending a data stream");
    }
}

/// Both directions of one stream as one value.
struct Both<R, W>(R, W);

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Both<R, W> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for Both<R, W> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.1).poll_write(cx, buf)
    }
    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.1).poll_flush(cx)
    }
    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.1).poll_shutdown(cx)
    }
}

#[derive(Default)]
struct Halves {
    data: Option<spdy::Stream>,
    error: Option<spdy::Stream>,
}

pub(crate) async fn over_spdy<T>(io: T, backend: std::sync::Arc<dyn Backend>, sandbox: String)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut connection = match spdy::Connection::serve(io) {
        Ok(connection) => connection,
        Err(error) => return debug!(%error, "starting SPDY"),
    };
    let mut halves: HashMap<String, Halves> = HashMap::new();
    let mut running = JoinSet::new();
    while let Some(stream) = connection.accept().await {
        while running.try_join_next().is_some() {}
        let Some(port) = stream.header("port").and_then(|p| p.parse::<u16>().ok()).filter(|p| *p > 0) else {
            debug!("a stream without a port");
            continue;
        };
        // Clients before 1.3 sent no request id and had one pair a port.
        let request = stream.header("requestid").map_or_else(|| format!("port {port}"), str::to_owned);
        if halves.len() >= MOST_HALVES && !halves.contains_key(&request) {
            debug!("too many half-open pairs");
            break;
        }
        let pair = halves.entry(request.clone()).or_default();
        match stream.header("streamtype") {
            Some("data") => pair.data = Some(stream),
            Some("error") => pair.error = Some(stream),
            _ => continue,
        }
        if pair.data.is_some()
            && pair.error.is_some()
            && let Some(Halves { data: Some(data), error: Some(error) }) = halves.remove(&request)
        {
            let (backend, sandbox) = (backend.clone(), sandbox.clone());
            running.spawn(async move {
                forward(&*backend, &sandbox, port, Both(data.read, data.write), error.write).await;
            });
        }
    }
    running.abort_all();
}

/// The channels of `ports`: twice its index for data and one more for errors, each of which begins with
/// the port as two little-endian bytes.
pub(crate) async fn over_websocket<T>(
    io: T,
    encoding: Encoding,
    backend: std::sync::Arc<dyn Backend>,
    sandbox: String,
    ports: Vec<u16>,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut channels = Channels::new();
    let pairs: Vec<(u16, Reader, Writer<_>, Writer<_>)> = (0u8..)
        .step_by(2)
        .zip(ports.into_iter().take(100))
        .map(|(channel, port)| {
            (port, channels.input(channel), channels.output(channel), channels.output(channel + 1))
        })
        .collect();
    let mut driver = channels.serve(io, encoding);
    let mut running = JoinSet::new();
    for (port, read, mut write, mut error) in pairs {
        let (backend, sandbox) = (backend.clone(), sandbox.clone());
        running.spawn(async move {
            let named = port.to_le_bytes();
            if write.write_all(&named).await.is_ok() && error.write_all(&named).await.is_ok() {
                forward(&*backend, &sandbox, port, Both(read, write), error).await;
            }
        });
    }
    while driver.join_next().await.is_some() {}
    running.abort_all();
}
