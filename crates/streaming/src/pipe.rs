//! The two ends of a multiplexed stream as ordinary readers and writers.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
};
use tokio_util::sync::PollSender;

/// How many chunks may wait in one direction of one stream before its sender must wait.
pub(crate) const DEPTH: usize = 16;

/// The longest chunk sent in one frame or message.
const CHUNK: usize = 32 * 1024;

/// How long a client may take to close the connection once it has been sent everything.
const LINGER: Duration = Duration::from_secs(10);

/// Serves both directions of a connection until the client closes it, or everything is written and the client had
/// its time to close.
///
/// What it still sends is read meanwhile: a socket that is closed with bytes unread resets the connection, and the
/// client would lose the end of what it was sent.
pub(crate) async fn both_ways<E>(
    reading: impl Future<Output = Result<(), E>>,
    writing: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    tokio::pin!(reading);
    tokio::select! {
        result = &mut reading => return result,
        result = writing => result?,
    }
    tokio::time::timeout(LINGER, reading).await.unwrap_or(Ok(()))
}

/// Reads the chunks of one stream; ends when the sender is gone.
pub(crate) struct Reader {
    chunks: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Reader {
    pub(crate) fn new() -> (mpsc::Sender<Bytes>, Self) {
        let (sender, chunks) = mpsc::channel(DEPTH);
        (sender, Self { chunks, rest: Bytes::new() })
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.chunks.poll_recv(cx)) {
                Some(chunk) => self.rest = chunk,
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..n]);
        self.rest.advance(n);
        Poll::Ready(Ok(()))
    }
}

/// Writes one stream into a connection's queue of outgoing items; `shutdown` sends the stream's end.
pub(crate) struct Writer<T: Send + 'static> {
    queue: PollSender<T>,
    data: Box<dyn Fn(Bytes) -> T + Send + Sync>,
    end: Option<T>,
}

impl<T: Send + 'static> Writer<T> {
    pub(crate) fn new(
        queue: mpsc::Sender<T>,
        data: impl Fn(Bytes) -> T + Send + Sync + 'static,
        end: Option<T>,
    ) -> Self {
        Self { queue: PollSender::new(queue), data: Box::new(data), end }
    }
}

fn closed<E>(_: E) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the client has closed the connection")
}

impl<T: Send + Unpin + 'static> AsyncWrite for Writer<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.queue.poll_reserve(cx)).map_err(closed)?;
        let n = buf.len().min(CHUNK);
        let item = (self.data)(Bytes::copy_from_slice(&buf[..n]));
        self.queue.send_item(item).map_err(closed)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.end.is_some() {
            ready!(self.queue.poll_reserve(cx)).map_err(closed)?;
            if let Some(end) = self.end.take() {
                self.queue.send_item(end).map_err(closed)?;
            }
        }
        Poll::Ready(Ok(()))
    }
}
