//! Name/value blocks: zlib with SPDY's dictionary, one context a direction for a whole connection.

use std::sync::LazyLock;

use bytes::{Buf, BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::Error;

/// A decompressed block may not be longer.
const LONGEST_BLOCK: usize = 64 * 1024;

/// The dictionary's words, each preceded by its length as a big-endian `u32`.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding \
    accept-language accept-ranges age allow authorization cache-control connection content-base \
    content-encoding content-language content-length content-location content-md5 content-range \
    content-type date etag expect expires from host if-match if-modified-since if-none-match if-range \
    if-unmodified-since last-modified location max-forwards pragma proxy-authenticate \
    proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200\u{a0}OK version HTTP/1.1 url \
    public set-cookie keep-alive origin";

/// What follows the words: status codes and phrases, dates, media types, in the draft's order.
const TAIL: &str = "1001012012022052063003023033043053063074024054064074084094104114124134144154164175025\
    04505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 \
    Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service \
    UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, \
    Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,\
    text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
    utf-,*,enq=0.";

pub(super) static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS.split(' ') {
        // One word holds a space, which is written as a no-break space above.
        let word = word.replace('\u{a0}', " ");
        bytes.put_u32(u32::try_from(word.len()).expect("words are short"));
        bytes.put_slice(word.as_bytes());
    }
    bytes.put_slice(TAIL.as_bytes());
    bytes
});

/// Header names in lower case, in the order sent.
pub(crate) type Headers = Vec<(String, String)>;

pub(super) struct Deflate(Compress);

impl Deflate {
    pub(super) fn new() -> Result<Self, Error> {
        let mut compress = Compress::new(Compression::fast(), true);
        compress.set_dictionary(&DICTIONARY).map_err(|e| Error::Headers(e.to_string()))?;
        Ok(Self(compress))
    }

    pub(super) fn block(&mut self, headers: &Headers) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::new();
        put_length(&mut plain, headers.len())?;
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            put_length(&mut plain, text.len())?;
            plain.put_slice(text.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let start = self.0.total_in();
        loop {
            let done =
                usize::try_from(self.0.total_in() - start).map_err(|e| Error::Headers(e.to_string()))?;
            let room = out.capacity() - out.len();
            self.0
                .compress_vec(&plain[done..], &mut out, FlushCompress::Sync)
                .map_err(|e| Error::Headers(e.to_string()))?;
            // A flush is complete when it left room in the output.
            if out.capacity() > out.len() && room > 0 {
                return Ok(out);
            }
            out.reserve(256);
        }
    }
}

fn put_length(buffer: &mut Vec<u8>, length: usize) -> Result<(), Error> {
    buffer.put_u32(u32::try_from(length).map_err(|e| Error::Headers(e.to_string()))?);
    Ok(())
}

pub(super) struct Inflate(Decompress);

impl Inflate {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn block(&mut self, mut compressed: &[u8]) -> Result<Headers, Error> {
        let mut plain = Vec::with_capacity(1024);
        loop {
            if plain.len() > LONGEST_BLOCK {
                return Err(Error::Headers("the header block is too long".to_owned()));
            }
            if plain.len() == plain.capacity() {
                plain.reserve(1024);
            }
            let (consumed, produced) = (self.0.total_in(), plain.len());
            let result = self.0.decompress_vec(compressed, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.0.total_in() - consumed).unwrap_or(compressed.len());
            compressed = &compressed[taken.min(compressed.len())..];
            match result {
                Ok(Status::StreamEnd) => break,
                Ok(_) if compressed.is_empty() && plain.len() < plain.capacity() => break,
                Ok(_) if taken == 0 && plain.len() == produced && plain.len() < plain.capacity() => {
                    return Err(Error::Headers("the header block does not inflate".to_owned()));
                }
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|e| Error::Headers(e.to_string()))?;
                }
                Err(error) => return Err(Error::Headers(error.to_string())),
            }
        }
        parse(BytesMut::from(&plain[..]))
    }
}

fn parse(mut block: BytesMut) -> Result<Headers, Error> {
    let short = || Error::Headers("the header block ends early".to_owned());
    let count = block.try_get_u32().map_err(|_| short())?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let mut text = || -> Result<String, Error> {
            let length = block.try_get_u32().map_err(|_| short())? as usize;
            if length > block.len() {
                return Err(short());
            }
            let bytes = block.split_to(length);
            String::from_utf8(bytes.to_vec()).map_err(|e| Error::Headers(e.to_string()))
        };
        headers.push((text()?.to_ascii_lowercase(), text()?));
    }
    Ok(headers)
}
