//! URLs: absolute ones and absolute paths, as Go's `url.ParseRequestURI` takes them.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Opaque, Out, Price, Regexes, Row, opaque};
use crate::error::EvalError;
use crate::value::{Key, Map, Str, Value};

/// The parts of a URL, as they were written.
#[derive(Clone, Debug)]
pub struct Url {
    pub(super) text: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

pub(super) const ROWS: &[Row] = &[
    ("url", to_url, Price::Map, &["(string) kubernetes.URL"]),
    ("isURL", is_url, Price::One, &["(string) bool"]),
    ("getScheme", |_, a| part(a, |u| u.scheme.clone()), Price::One, &["kubernetes.URL.() string"]),
    ("getHost", |_, a| part(a, |u| u.host.clone()), Price::One, &["kubernetes.URL.() string"]),
    (
        "getHostname",
        |_, a| part(a, |u| u.host_and_port().0.to_owned()),
        Price::One,
        &["kubernetes.URL.() string"],
    ),
    (
        "getPort",
        |_, a| part(a, |u| u.host_and_port().1.to_owned()),
        Price::One,
        &["kubernetes.URL.() string"],
    ),
    ("getEscapedPath", |_, a| part(a, |u| u.path.clone()), Price::One, &["kubernetes.URL.() string"]),
    ("getQuery", query, Price::One, &["kubernetes.URL.() map(string, list(string))"]),
];

impl Url {
    /// The error says why a text is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let failed = |why: &str| format!("parse {text:?}: {why}");
        if text.is_empty() {
            return Err(failed("empty url"));
        }
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err(failed("net/url: invalid control character in URL"));
        }
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            Some(("", _)) => return Err(failed("missing protocol scheme")),
            _ => (String::new(), text),
        };
        if !rest.starts_with('/') {
            let why = if scheme.is_empty() { "invalid URI for request" } else { "" };
            // An opaque URL like `mailto:a@b` is taken.
            if scheme.is_empty() || rest.is_empty() {
                return Err(failed(if why.is_empty() { "invalid URI for request" } else { why }));
            }
        }
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) if !scheme.is_empty() || !rest.starts_with('/') => {
                rest.find('/').map_or((rest, ""), |at| rest.split_at(at))
            }
            _ => ("", if rest.starts_with('/') { rest } else { "" }),
        };
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let url = Self {
            text: text.to_owned(),
            scheme,
            host: host.to_owned(),
            path: encode_path(path).ok_or_else(|| failed("invalid URL escape"))?,
            query: query.to_owned(),
        };
        let bad =
            |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '|' | '}');
        if url.host.contains(bad) {
            return Err(failed("invalid character in host name"));
        }
        let after = url.host.rsplit_once(']').map_or(url.host.as_str(), |(_, after)| after);
        if let Some((_, port)) = after.split_once(':')
            && !port.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(failed(&format!("invalid port \":{port}\" after host")));
        }
        if url.host.starts_with('[') != url.host.contains(']') {
            return Err(failed("missing ']' in host"));
        }
        Ok(url)
    }

    fn host_and_port(&self) -> (&str, &str) {
        if let Some(rest) = self.host.strip_prefix('[') {
            let (host, after) = rest.split_once(']').unwrap_or((rest, ""));
            return (host, after.strip_prefix(':').unwrap_or(""));
        }
        self.host.split_once(':').unwrap_or((&self.host, ""))
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// The path with what may not stand in one spelt out; `None` for a broken escape.
fn encode_path(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let bytes = path.as_bytes();
    for (at, &b) in bytes.iter().enumerate() {
        match b {
            b'%' => {
                let hex = |i: usize| bytes.get(at + i).is_some_and(u8::is_ascii_hexdigit);
                if !hex(1) || !hex(2) {
                    return None;
                }
                out.push('%');
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(b as char),
            b'-' | b'_' | b'.' | b'~' | b'/' | b'$' | b'&' | b'+' | b',' | b':' | b';' | b'=' | b'@'
            | b'!' | b'\'' | b'(' | b')' | b'*' | b'[' | b']' => out.push(b as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    Some(out)
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(at + i).and_then(|b| (*b as char).to_digit(16));
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (b, ..) => out.push(b),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn to_url<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let text = args[0].as_str().ok_or_else(EvalError::no_overload)?;
    let url = Url::parse(text)
        .map_err(|why| EvalError::new(format!("URL parse error during conversion from string: {why}")))?;
    Ok(opaque(Opaque::Url(url)))
}

fn is_url<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    Ok(Value::Bool(Url::parse(args[0].as_str().ok_or_else(EvalError::no_overload)?).is_ok()))
}

fn url<'v>(value: &'v Value<'_>) -> Result<&'v Url, EvalError> {
    match value {
        Value::Opaque(o) => match &**o {
            Opaque::Url(url) => Ok(url),
            _ => Err(EvalError::no_overload()),
        },
        _ => Err(EvalError::no_overload()),
    }
}

fn part<'a>(args: &[Value<'a>], of: impl Fn(&Url) -> String) -> Out<'a> {
    Ok(Value::from(of(url(&args[0])?)))
}

fn query<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let mut found: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
    for pair in url(&args[0])?.query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        found.entry(decode(key)).or_default().push(Value::from(decode(value)));
    }
    let map = found.into_iter().map(|(k, v)| (Key::String(Str::from(k)), Value::list(v))).collect();
    Ok(Value::Map(Map::Made(Rc::new(map))))
}
