//! One connection and the streams its client opens on it.

use std::collections::HashMap;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::codec::Framed;
use tracing::debug;

use super::{
    frame::{Codec, Error, Frame, Reset},
    headers::Headers,
};
use crate::pipe::{DEPTH, Reader, Writer, both_ways};

/// A connection may have this many streams open; more are refused.
const MOST_STREAMS: usize = 1024;

/// A stream that the client has opened and that has been replied to.
pub struct Stream {
    headers: Headers,
    pub(crate) read: Reader,
    pub(crate) write: Writer<Outgoing>,
}

impl Stream {
    /// The value of a header; names are lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

pub(crate) enum Outgoing {
    Data(u32, Bytes),
    End(u32),
}

/// The server's side of a connection. Dropping it cuts the connection; [`Connection::finish`] ends it
/// when everything written has been sent.
pub struct Connection {
    streams: mpsc::Receiver<Stream>,
    outgoing: Option<mpsc::Sender<Outgoing>>,
    driver: JoinSet<()>,
}

impl Connection {
    pub fn serve(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Self, Error> {
        let framed = Framed::new(io, Codec::new()?);
        let (outgoing, queue) = mpsc::channel(DEPTH);
        let (opened, streams) = mpsc::channel(DEPTH);
        let mut driver = JoinSet::new();
        let writers = outgoing.downgrade();
        driver.spawn(async move {
            if let Err(error) = drive(framed, opened, writers, queue).await {
                debug!(%error, "SPDY connection ended");
            }
        });
        Ok(Self { streams, outgoing: Some(outgoing), driver })
    }

    /// The next stream that the client opens; `None` when the connection has ended.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }

    /// Sends what has been written and closes. All writers must have been dropped or are cut off.
    pub async fn finish(mut self) {
        self.outgoing = None;
        self.streams.close();
        while self.driver.join_next().await.is_some() {}
    }
}

type Inputs = HashMap<u32, mpsc::Sender<Bytes>>;

async fn drive<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    framed: Framed<T, Codec>,
    opened: mpsc::Sender<Stream>,
    writers: mpsc::WeakSender<Outgoing>,
    mut queue: mpsc::Receiver<Outgoing>,
) -> Result<(), Error> {
    let (mut sink, mut source) = framed.split();
    let (replies, mut pending) = mpsc::channel::<Frame>(DEPTH);
    let reading = async move {
        let mut inputs = Inputs::new();
        while let Some(frame) = source.next().await {
            let reply = match frame? {
                Frame::Open { stream, headers, fin } => {
                    if inputs.len() >= MOST_STREAMS {
                        Some(Frame::Reset { stream, status: Reset::RefusedStream as u32 })
                    } else if let Some(writer) = writers.upgrade() {
                        let (input, read) = Reader::new();
                        if !fin {
                            inputs.insert(stream, input);
                        }
                        let write = Writer::new(
                            writer,
                            move |b| Outgoing::Data(stream, b),
                            Some(Outgoing::End(stream)),
                        );
                        let replied =
                            replies.send(Frame::Reply { stream, headers: Headers::new(), fin: false });
                        if replied.await.is_err()
                            || opened.send(Stream { headers, read, write }).await.is_err()
                        {
                            return Ok(());
                        }
                        None
                    } else {
                        return Ok(());
                    }
                }
                Frame::Data { stream, bytes, fin } => {
                    let input = if fin { inputs.remove(&stream) } else { inputs.get(&stream).cloned() };
                    match input {
                        Some(input) => {
                            if !bytes.is_empty() && input.send(bytes).await.is_err() {
                                // The reader is gone and wants no more; the client need not know.
                                debug!(stream, "input after the reader has gone");
                            }
                            None
                        }
                        None => Some(Frame::Reset { stream, status: Reset::InvalidStream as u32 }),
                    }
                }
                Frame::Reset { stream, .. } => {
                    inputs.remove(&stream);
                    None
                }
                Frame::Ping { id } => Some(Frame::Ping { id }),
                Frame::GoAway | Frame::Reply { .. } | Frame::Other => None,
            };
            if let Some(reply) = reply
                && replies.send(reply).await.is_err()
            {
                debug!("a frame after the last that is answered");
            }
        }
        Ok(())
    };
    let writing = async move {
        loop {
            let frame = tokio::select! {
                biased;
                Some(reply) = pending.recv() => reply,
                item = queue.recv() => match item {
                    Some(Outgoing::Data(stream, bytes)) => Frame::Data { stream, bytes, fin: false },
                    Some(Outgoing::End(stream)) => Frame::Data { stream, bytes: Bytes::new(), fin: true },
                    None => break,
                },
            };
            sink.feed(frame).await?;
            if queue.is_empty() && pending.is_empty() {
                sink.flush().await?;
            }
        }
        sink.send(Frame::GoAway).await?;
        sink.close().await
    };
    both_ways(reading, writing).await
}
