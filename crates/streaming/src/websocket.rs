//! `channel.k8s.io`: several streams in one WebSocket, the first byte of a message naming its channel.

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tracing::debug;

use crate::pipe::{DEPTH, Reader, Writer, both_ways};

/// Clients send 32 KiB at a time.
const LONGEST_MESSAGE: usize = 1024 * 1024;
/// In `v5`, a message on this channel says that the client has closed the channel that it names.
const CLOSE: u8 = 255;

/// How a message names its channel and carries its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// One byte, then the data.
    Binary,
    /// One ASCII digit, then the data in base64, in text messages.
    Base64,
}

impl Encoding {
    fn message(self, channel: u8, data: &[u8]) -> Message {
        match self {
            Self::Binary => Message::Binary([&[channel], data].concat().into()),
            Self::Base64 => Message::Text(
                format!("{}{}", char::from(b'0' + channel), BASE64_STANDARD.encode(data)).into(),
            ),
        }
    }

    fn parse(self, message: &[u8]) -> Option<(u8, Bytes)> {
        let (&channel, data) = message.split_first()?;
        match self {
            Self::Binary => Some((channel, Bytes::copy_from_slice(data))),
            Self::Base64 => {
                let channel = channel.checked_sub(b'0').filter(|c| *c < 10)?;
                Some((channel, BASE64_STANDARD.decode(data).ok()?.into()))
            }
        }
    }
}

pub(crate) struct Outgoing {
    channel: u8,
    data: Bytes,
}

/// Clients take a close without a code for a broken connection.
fn goodbye() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: "".into() }
}

async fn handshaken<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST_MESSAGE))
        .max_frame_size(Some(LONGEST_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// The channels of one connection, before it is served.
pub(crate) struct Channels {
    inputs: HashMap<u8, mpsc::Sender<Bytes>>,
    outgoing: mpsc::Sender<Outgoing>,
    queue: mpsc::Receiver<Outgoing>,
}

impl Channels {
    pub(crate) fn new() -> Self {
        let (outgoing, queue) = mpsc::channel(DEPTH);
        Self { inputs: HashMap::new(), outgoing, queue }
    }

    pub(crate) fn input(&mut self, channel: u8) -> Reader {
        let (sender, reader) = Reader::new();
        self.inputs.insert(channel, sender);
        reader
    }

    pub(crate) fn output(&self, channel: u8) -> Writer<Outgoing> {
        Writer::new(self.outgoing.clone(), move |data| Outgoing { channel, data }, None)
    }

    /// Serves the connection until the client goes or every writer has been dropped and all is sent.
    pub(crate) fn serve<T>(self, io: T, encoding: Encoding) -> JoinSet<()>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { inputs, outgoing, queue } = self;
        drop(outgoing);
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = drive(handshaken(io).await, encoding, inputs, queue).await {
                debug!(%error, "WebSocket connection ended");
            }
        });
        driver
    }
}

async fn drive<T: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<T>,
    encoding: Encoding,
    mut inputs: HashMap<u8, mpsc::Sender<Bytes>>,
    mut queue: mpsc::Receiver<Outgoing>,
) -> Result<(), Error> {
    let (mut sink, mut source) = socket.split();
    let (pongs, mut pending) = mpsc::channel(1);
    let reading = async move {
        while let Some(message) = source.next().await {
            let payload = match message? {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => text.into(),
                Message::Ping(_) => {
                    // The library has queued the pong; a full channel means that a flush is due anyway.
                    let _ = pongs.try_send(());
                    continue;
                }
                Message::Close(_) => break,
                _ => continue,
            };
            match encoding.parse(&payload) {
                Some((CLOSE, closed)) => {
                    closed.first().map(|channel| inputs.remove(channel));
                }
                Some((channel, data)) => {
                    if let Some(input) = inputs.get(&channel)
                        && !data.is_empty()
                        && input.send(data).await.is_err()
                    {
                        inputs.remove(&channel);
                    }
                }
                None => {}
            }
        }
        Ok(())
    };
    let writing = async move {
        loop {
            tokio::select! {
                Some(()) = pending.recv() => sink.flush().await?,
                item = queue.recv() => match item {
                    Some(Outgoing { channel, data }) => sink.send(encoding.message(channel, &data)).await?,
                    None => break,
                },
            }
        }
        sink.send(Message::Close(Some(goodbye()))).await?;
        sink.close().await
    };
    both_ways(reading, writing).await
}

/// The bytes of binary messages as one byte stream, for a protocol that runs inside a WebSocket.
pub(crate) fn tunnel<T>(io: T) -> (DuplexStream, JoinSet<()>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        if let Err(error) = carry(handshaken(io).await, far).await {
            debug!(%error, "WebSocket tunnel ended");
        }
    });
    (near, driver)
}

async fn carry<T: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<T>,
    inner: DuplexStream,
) -> Result<(), Error> {
    let (mut sink, mut source) = socket.split();
    let (mut from_inner, mut to_inner) = tokio::io::split(inner);
    let inward = async {
        while let Some(message) = source.next().await {
            match message? {
                Message::Binary(bytes) => to_inner.write_all(&bytes).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        Ok(())
    };
    let outward = async {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match from_inner.read(&mut buffer).await? {
                0 => break,
                n => sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..n]))).await?,
            }
        }
        sink.send(Message::Close(Some(goodbye()))).await?;
        sink.close().await
    };
    tokio::select! {
        result = inward => result,
        result = outward => result,
    }
}
