//! Frames and their wire form.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::headers::{Deflate, Headers, Inflate};

/// Clients send data in pieces of 32 KiB; a frame this long is no client of ours.
const LONGEST: usize = 1024 * 1024;
const VERSION: u16 = 3;
const FIN: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading or writing the connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("a frame of type {kind} is malformed")]
    Malformed { kind: u16 },
    #[error("SPDY version {0} is not spoken here")]
    Version(u16),
    #[error("reading a header block: {0}")]
    Headers(String),
}

/// Why a stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    InvalidStream = 2,
    RefusedStream = 3,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Open {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    Reply {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    Data {
        stream: u32,
        bytes: Bytes,
        fin: bool,
    },
    /// Settings, window updates and later headers: read and without effect here.
    Other,
}

pub(crate) struct Codec {
    inflate: Inflate,
    deflate: Deflate,
}

impl Codec {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self { inflate: Inflate::new(), deflate: Deflate::new()? })
    }
}

impl Decoder for Codec {
    type Item = Frame;
    type Error = Error;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, Error> {
        if source.len() < 8 {
            return Ok(None);
        }
        let word = u32::from_be_bytes([source[0], source[1], source[2], source[3]]);
        let flags = source[4];
        let length = u32::from_be_bytes([0, source[5], source[6], source[7]]) as usize;
        if length > LONGEST {
            return Err(Error::TooLong(length));
        }
        if source.len() < 8 + length {
            source.reserve(8 + length - source.len());
            return Ok(None);
        }
        source.advance(8);
        let mut body = source.split_to(length).freeze();
        let fin = flags & FIN != 0;
        if word >> 31 == 0 {
            return Ok(Some(Frame::Data { stream: word, bytes: body, fin }));
        }
        let version = ((word >> 16) & 0x7fff) as u16;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let kind = (word & 0xffff) as u16;
        let malformed = |_| Error::Malformed { kind };
        let id = |body: &mut Bytes| body.try_get_u32().map(|n| n & 0x7fff_ffff).map_err(malformed);
        Ok(Some(match kind {
            1 => {
                let stream = id(&mut body)?;
                id(&mut body)?;
                body.try_get_u16().map_err(malformed)?;
                Frame::Open { stream, headers: self.inflate.block(&body)?, fin }
            }
            2 => Frame::Reply { stream: id(&mut body)?, headers: self.inflate.block(&body)?, fin },
            3 => Frame::Reset { stream: id(&mut body)?, status: body.try_get_u32().map_err(malformed)? },
            6 => Frame::Ping { id: body.try_get_u32().map_err(malformed)? },
            7 => Frame::GoAway,
            8 => {
                // Without effect, but the compression context must advance.
                id(&mut body)?;
                self.inflate.block(&body)?;
                Frame::Other
            }
            _ => Frame::Other,
        }))
    }
}

impl Encoder<Frame> for Codec {
    type Error = Error;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), Error> {
        let mut control = |kind: u16, flags: u8, body: &[u8]| -> Result<(), Error> {
            out.put_u16(0x8000 | VERSION);
            out.put_u16(kind);
            put_flags_and_length(out, flags, body.len())?;
            out.put_slice(body);
            Ok(())
        };
        match frame {
            Frame::Open { stream, headers, fin } => {
                let mut body = stream.to_be_bytes().to_vec();
                body.extend([0; 6]);
                body.extend(self.deflate.block(&headers)?);
                control(1, u8::from(fin), &body)
            }
            Frame::Reply { stream, headers, fin } => {
                let mut body = stream.to_be_bytes().to_vec();
                body.extend(self.deflate.block(&headers)?);
                control(2, u8::from(fin), &body)
            }
            Frame::Reset { stream, status } => {
                control(3, 0, &[stream.to_be_bytes(), status.to_be_bytes()].concat())
            }
            Frame::Ping { id } => control(6, 0, &id.to_be_bytes()),
            Frame::GoAway => control(7, 0, &[0; 8]),
            Frame::Data { stream, bytes, fin } => {
                out.put_u32(stream);
                put_flags_and_length(out, u8::from(fin), bytes.len())?;
                out.put_slice(&bytes);
                Ok(())
            }
            Frame::Other => Ok(()),
        }
    }
}

fn put_flags_and_length(out: &mut BytesMut, flags: u8, length: usize) -> Result<(), Error> {
    if length > LONGEST {
        return Err(Error::TooLong(length));
    }
    let [_, a, b, c] = (length as u32).to_be_bytes();
    out.put_slice(&[flags, a, b, c]);
    Ok(())
}
