//! The bodies of requests and responses.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use futures::stream::BoxStream;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tiphys_api::status::{Reason, Status};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body, wherever it comes from: a connection or a component in this process.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// The largest body of a request, in bytes.
pub const MAX_REQUEST: usize = 3 << 20;

/// Reads a whole body.
///
/// # Errors
/// 413 for more than [`MAX_REQUEST`] bytes, 400 for one that breaks off.
pub async fn read(mut body: RequestBody) -> Result<Bytes, Status> {
    let too_large = || {
        Status::new(
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {MAX_REQUEST}"),
        )
    };
    if body.size_hint().lower() > MAX_REQUEST as u64 {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|e| Status::bad_request(format!("unable to read the request's body: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.as_ref().map_or(0, Bytes::len) + whole.len() + data.len() > MAX_REQUEST {
            return Err(too_large());
        }
        // Most bodies come in one piece, which is passed on as it is.
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            None => whole.extend_from_slice(&data),
            Some(start) => {
                whole.extend_from_slice(&start);
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

/// A response's body.
pub enum Body {
    Full(Bytes),
    /// Pieces that are already there, and their length in all.
    Pieces(std::vec::IntoIter<Bytes>, u64),
    /// A watch, a log, or what another server sends.
    Stream(BoxStream<'static, Result<Bytes, BoxError>>),
}

impl Body {
    pub fn empty() -> Self {
        Self::Full(Bytes::new())
    }

    pub fn pieces(pieces: Vec<Bytes>) -> Self {
        let length = pieces.iter().map(|p| p.len() as u64).sum();
        Self::Pieces(pieces.into_iter(), length)
    }

    pub fn stream(stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Self {
        Self::Stream(Box::pin(stream))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Pieces(pieces, left) => Poll::Ready(pieces.next().map(|piece| {
                *left -= piece.len() as u64;
                Ok(Frame::data(piece))
            })),
            Self::Stream(stream) => {
                stream.as_mut().poll_next(cx).map(|next| next.map(|r| r.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Pieces(pieces, _) => pieces.len() == 0,
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(_, left) => SizeHint::with_exact(*left),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
