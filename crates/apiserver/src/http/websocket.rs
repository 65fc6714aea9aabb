//! An answer that goes on, over a WebSocket: browsers cannot read one otherwise.

use std::pin::pin;
use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Response, StatusCode, request::Parts};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tiphys_api::status::Status;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode};

use super::body::{Body, BoxError};
use crate::node_proxy::is_upgrade;

/// What a client may send, which nobody reads, in bytes.
const MAX_MESSAGE: usize = 4 << 10;

/// How long a client may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(10);

/// How the bytes lie in messages, as the client chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// The client names none: as they are.
    Unnamed,
    Binary,
    Base64,
}

impl Protocol {
    /// The first that is known of those that the client speaks.
    fn negotiate(headers: &HeaderMap) -> Result<Self, Status> {
        let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
        let mut names = lines.flat_map(|line| line.split(',')).map(str::trim).peekable();
        if names.peek().is_none() {
            return Ok(Self::Unnamed);
        }
        let known = [Self::Binary, Self::Base64];
        names.find_map(|name| known.into_iter().find(|p| p.name() == Some(name))).ok_or_else(|| {
            Status::bad_request("the client's WebSocket speaks no protocol that is known here")
        })
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Unnamed => None,
            Self::Binary => Some("binary.k8s.io"),
            Self::Base64 => Some("base64.binary.k8s.io"),
        }
    }
}

/// Takes the client's connection out of a request that asks to go on as a WebSocket.
///
/// # Errors
/// 400 for a handshake that is none, or that offers only protocols that are not known here.
pub(super) fn asked_for(head: &mut Parts) -> Result<Option<WebSocket>, Status> {
    let headers = &head.headers;
    let named = |name: HeaderName, value: &str| {
        headers.get(name).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    if !is_upgrade(headers) || !named(UPGRADE, "websocket") {
        return Ok(None);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| named(SEC_WEBSOCKET_VERSION, "13"));
    let key = key.ok_or_else(|| Status::bad_request("the request starts no WebSocket of version 13"))?;
    let (accept, protocol) = (derive_accept_key(key.as_bytes()), Protocol::negotiate(headers)?);
    let client = head.extensions.remove::<OnUpgrade>();
    let client = client.ok_or_else(|| Status::bad_request("this connection cannot become a WebSocket"))?;
    Ok(Some(WebSocket { client, accept, protocol }))
}

/// A connection that is to become a WebSocket.
pub(super) struct WebSocket {
    client: OnUpgrade,
    accept: String,
    protocol: Protocol,
}

impl WebSocket {
    /// Sends an answer's body, a message for each piece of it, and then closes.
    pub(super) fn carry(self, answer: Response<Body>) -> Result<Response<Body>, Status> {
        let Self { client, accept, protocol } = self;
        tokio::spawn(async move {
            if let Err(error) = send(client, answer.into_body(), protocol).await {
                tracing::debug!(error, "a WebSocket ended early");
            }
        });
        let mut switching = Response::new(Body::empty());
        *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = switching.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept).map_err(Status::internal)?);
        if let Some(name) = protocol.name() {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        Ok(switching)
    }
}

async fn send(client: OnUpgrade, body: Body, protocol: Protocol) -> Result<(), BoxError> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let io = TokioIo::new(client.await?);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    let sending = async {
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            sink.send(match (piece?, protocol) {
                (piece, Protocol::Base64) => Message::Text(BASE64_STANDARD.encode(piece).into()),
                (piece, _) => Message::Binary(piece),
            })
            .await?;
        }
        // A close without a code looks like a broken connection to clients.
        sink.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))).await?;
        sink.close().await?;
        Ok::<_, BoxError>(())
    };
    // Nothing is expected of the client but that it goes.
    let mut watching = pin!(async {
        while let Some(message) = source.next().await {
            message?;
        }
        Ok::<_, BoxError>(())
    });
    tokio::select! {
        ended = sending => ended?,
        ended = &mut watching => return ended,
    }
    // A connection that is dropped before the client's goodbye may take with it what the client has not read.
    tokio::time::timeout(GOODBYE, watching).await.unwrap_or(Ok(()))
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
