//! Pages that come through the proxies of pods and Services: their links are made to lead back through the proxy.

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, Response};
use http_body_util::BodyExt;

use super::body::Body;

/// The longest tag that is looked at; what is longer passes as it is.
const MAX_TAG: usize = 16 << 10;
/// The attributes of HTML that hold the address of something.
const ADDRESSES: [&str; 15] = [
    "action",
    "background",
    "cite",
    "classid",
    "codebase",
    "data",
    "formaction",
    "href",
    "icon",
    "longdesc",
    "manifest",
    "poster",
    "profile",
    "src",
    "usemap",
];

/// The ends of elements that hold no tags.
const RAW: [&[u8]; 4] = [b"</script", b"</style", b"</textarea", b"</title"];

/// The way back to what is behind a proxy.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// The proxy's path, under which everything behind it lies.
    pub(super) prefix: String,
    /// What the other side is told to be its name: the host and port of a URL.
    pub(super) host: String,
}

impl Links {
    /// Where a link to the other side leads by way of the proxy. Other hosts, relative paths, and what leads
    /// through the proxy already stay as they are.
    fn mended(&self, link: &str) -> Option<String> {
        let whole = link.strip_prefix("http://").or_else(|| link.strip_prefix("https://"));
        let path = whole.map_or(Some(link), |rest| rest.strip_prefix(&self.host))?;
        let absolute = path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/\\");
        (absolute && !path.starts_with(&self.prefix)).then(|| format!("{}{path}", self.prefix))
    }

    /// Mends where the answer sends the client to, and the links of a page.
    pub(super) fn mend(self, answer: Response<Body>) -> Response<Body> {
        let (mut head, body) = answer.into_parts();
        let location = head.headers.get(LOCATION).and_then(|v| v.to_str().ok());
        if let Some(location) = location.and_then(|l| self.mended(l))
            && let Ok(location) = HeaderValue::try_from(location)
        {
            head.headers.insert(LOCATION, location);
        }
        if !is_plain_page(&head.headers) {
            return Response::from_parts(head, body);
        }
        head.headers.remove(CONTENT_LENGTH);
        let page = Page { links: self, held: Vec::new(), inside: Inside::Text };
        let pieces =
            futures::stream::unfold((body.into_data_stream(), Some(page)), async |(mut pieces, page)| {
                let mut page = page?;
                match pieces.next().await {
                    Some(Ok(piece)) => Some((Ok(page.take(&piece)), (pieces, Some(page)))),
                    Some(Err(error)) => Some((Err(error), (pieces, None))),
                    None => Some((Ok(Bytes::from(page.held)), (pieces, None))),
                }
            });
        Response::from_parts(head, Body::stream(pieces))
    }
}

fn is_plain_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or_default();
    let kind = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("text/html") && matches!(text(CONTENT_ENCODING), "" | "identity")
}

/// What surrounds the place in a page that has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Text,
    Comment,
    /// What looks like a tag is none before this one.
    Raw(&'static [u8]),
}

/// A page as it comes, piece by piece.
struct Page {
    links: Links,
    /// The start of a tag whose end has not come.
    held: Vec<u8>,
    inside: Inside,
}

impl Page {
    fn take(&mut self, piece: &[u8]) -> Bytes {
        self.held.extend_from_slice(piece);
        let input = std::mem::take(&mut self.held);
        let mut out = Vec::with_capacity(input.len() + 64);
        let mut rest = input.as_slice();
        while let Some(at) = rest.iter().position(|b| *b == b'<' || *b == b'-') {
            let (text, tag) = rest.split_at(at);
            out.extend_from_slice(text);
            let Some(length) = self.step(tag, &mut out) else {
                // Incomplete: it waits for the next piece, unless it has grown beyond belief.
                rest = tag;
                if tag.len() <= MAX_TAG {
                    self.held = tag.to_vec();
                    rest = &[];
                }
                break;
            };
            rest = &tag[length..];
        }
        out.extend_from_slice(rest);
        Bytes::from(out)
    }

    /// Passes one `<` or `-` on, with the tag that it starts; answers with how long that was, and nothing if
    /// more of it has to come first.
    fn step(&mut self, tag: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let mut pass = |length: usize| {
            out.extend_from_slice(&tag[..length]);
            Some(length)
        };
        match self.inside {
            Inside::Comment if starts(tag, b"-->")? => {
                self.inside = Inside::Text;
                pass(3)
            }
            Inside::Raw(end) if starts(tag, end)? => {
                self.inside = Inside::Text;
                pass(end.len())
            }
            Inside::Text if starts(tag, b"<!--")? => {
                self.inside = Inside::Comment;
                pass(4)
            }
            Inside::Text if tag[0] == b'<' && tag.get(1)?.is_ascii_alphabetic() => {
                let length = tag_length(tag)?;
                let whole = &tag[..length];
                self.inside = RAW
                    .into_iter()
                    .find(|end| name_of(whole).eq_ignore_ascii_case(&end[2..]))
                    .map_or(Inside::Text, Inside::Raw);
                self.tag(whole, out);
                Some(length)
            }
            _ => pass(1),
        }
    }

    /// Writes a tag with its links mended.
    fn tag(&self, tag: &[u8], out: &mut Vec<u8>) {
        let is_space = |b: &u8| b.is_ascii_whitespace() || *b == b'/';
        let mut at = 1 + name_of(tag).len();
        out.extend_from_slice(&tag[..at]);
        while at < tag.len() {
            let rest = &tag[at..];
            let spaces = rest.iter().take_while(|b| is_space(b)).count();
            let name = rest[spaces..].iter().take_while(|b| !is_space(b) && !b"=>".contains(b)).count();
            let equals =
                rest[spaces + name..].iter().take_while(|b| b.is_ascii_whitespace() || **b == b'=').count();
            let start = spaces + name + equals;
            let quote = rest.get(start).filter(|b| b"'\"".contains(b));
            let start = start + usize::from(quote.is_some());
            let ends = |b: &u8| quote.map_or(b.is_ascii_whitespace() || *b == b'>', |q| b == q);
            let has_value = rest[spaces + name..start].contains(&b'=');
            let value = if has_value { rest[start..].iter().take_while(|b| !ends(b)).count() } else { 0 };
            // What is no attribute is passed on one byte at a time.
            let length = (start + value).max(1);
            let attribute = std::str::from_utf8(&rest[spaces..spaces + name]).unwrap_or_default();
            let link = std::str::from_utf8(&rest[start..start + value]).unwrap_or_default();
            match self.links.mended(link) {
                Some(link) if ADDRESSES.iter().any(|a| attribute.eq_ignore_ascii_case(a)) => {
                    out.extend_from_slice(&rest[..start]);
                    out.extend_from_slice(link.as_bytes());
                }
                _ => out.extend_from_slice(&rest[..length]),
            }
            at += length;
        }
    }
}

/// Whether the text begins so, letters in either case; nothing if it is too short to tell.
fn starts(text: &[u8], with: &[u8]) -> Option<bool> {
    let length = text.len().min(with.len());
    let alike = text[..length].eq_ignore_ascii_case(&with[..length]);
    (!alike || text.len() >= with.len()).then_some(alike)
}

fn name_of(tag: &[u8]) -> &[u8] {
    let length = tag[1..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'-').count();
    &tag[1..1 + length]
}

/// How long a tag is, with its closing bracket, which is none between quotes.
fn tag_length(tag: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in tag.iter().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'>') => return Some(at + 1),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
