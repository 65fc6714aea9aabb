//! Writes of one connection that go out together.
//!
//! HTTP/2 flushes each frame of data as soon as it is framed: a hundred watchers behind one connection would cost a
//! record of TLS and a system call for every event. Here what a connection's task writes is gathered, and goes out
//! when the task has nothing more to do, which is at once where there is but one frame.

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered goes out at the latest when it is this much: what TLS takes in at once.
const FULL: usize = 64 << 10;
/// A connection at rest keeps no more room than this.
const KEPT: usize = 4 << 10;

struct Inner<T> {
    io: T,
    waiting: Vec<u8>,
    /// How much of it has gone out.
    gone: usize,
    /// The connection, while it waits for room: only the outlet hears of that.
    blocked: Option<Waker>,
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    /// Hands everything that waits to the stream.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.gone < self.waiting.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.waiting[self.gone..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.gone += n,
            }
        }
        self.gone = 0;
        self.waiting.clear();
        self.waiting.shrink_to(KEPT);
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() {
            ready!(self.poll_drain(cx))?;
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// As the connection waits for it.
    fn blocking<R>(&mut self, cx: &mut Context<'_>, done: Poll<R>) -> Poll<R> {
        if done.is_pending() {
            self.blocked = Some(cx.waker().clone());
        }
        done
    }
}

/// The stream as the connection sees it: its writes are gathered.
pub(super) struct Gathering<T>(Arc<Mutex<Inner<T>>>);

/// The other end, which lets go what was gathered.
pub(super) struct Outlet<T>(Arc<Mutex<Inner<T>>>);

/// A stream whose writes are gathered. Nothing goes out but through [`Outlet::run`].
pub(super) fn gathering<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> (Gathering<T>, Outlet<T>) {
    let inner = Arc::new(Mutex::new(Inner { io, waiting: Vec::new(), gone: 0, blocked: None }));
    (Gathering(Arc::clone(&inner)), Outlet(inner))
}

impl<T: AsyncWrite + Unpin> Outlet<T> {
    /// Runs a connection over the stream, and lets out what it has written each time that it has to wait.
    pub(super) async fn run<C, E>(&self, mut connection: Pin<&mut C>) -> Result<(), E>
    where
        C: Future<Output = Result<(), E>>,
        E: From<io::Error>,
    {
        poll_fn(|cx| {
            let done = connection.as_mut().poll(cx)?;
            let mut inner = self.0.lock();
            match inner.poll_flush(cx) {
                Poll::Ready(Err(error)) if done.is_pending() => Poll::Ready(Err(error.into())),
                // A connection that has ended well has shut the stream down, and that has let everything out.
                flushed => {
                    let blocked = inner.blocked.take_if(|_| flushed.is_ready());
                    drop(inner);
                    blocked.into_iter().for_each(Waker::wake);
                    done.map(Ok)
                }
            }
        })
        .await
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathering<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathering<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.lock();
        if inner.waiting.len() >= FULL {
            let drained = inner.poll_drain(cx);
            ready!(inner.blocking(cx, drained))?;
        }
        let mut written = 0;
        for buf in bufs {
            inner.waiting.extend_from_slice(buf);
            written += buf.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The outlet does it, in the same poll of the task.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        let flushed = inner.poll_flush(cx);
        ready!(inner.blocking(cx, flushed))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
