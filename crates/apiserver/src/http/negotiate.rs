//! Which encoding and which shape a client wants, and which encoding it sends.

use http::{HeaderMap, header};
use tiphys_api::status::{Reason, Status};

/// The encodings that the server reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
    Cbor,
}

impl Encoding {
    const ALL: [Self; 4] = [Self::Json, Self::Yaml, Self::Protobuf, Self::Cbor];

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
            Self::Cbor => "application/cbor",
        }
    }

    /// What a watch in this encoding is called; YAML has no frames.
    pub(crate) fn stream_media_type(self) -> Option<&'static str> {
        match self {
            Self::Json => Some("application/json;stream=watch"),
            Self::Yaml => None,
            Self::Protobuf => Some("application/vnd.kubernetes.protobuf;stream=watch"),
            Self::Cbor => Some("application/cbor-seq"),
        }
    }
}

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// The object or list as it is.
    Whole,
    /// `meta.k8s.io` `Table`; `beta` asks for v1beta1.
    Table { beta: bool },
    /// `PartialObjectMetadata`, and `PartialObjectMetadataList` for a list.
    Metadata { beta: bool },
}

/// What a client accepts first among what the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) encoding: Encoding,
    pub(crate) shape: Shape,
    pub(crate) pretty: bool,
}

impl Accepted {
    pub(crate) const JSON: Self = Self { encoding: Encoding::Json, shape: Shape::Whole, pretty: false };
}

/// One clause of an `Accept` header.
struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

/// More clauses than any real client sends; the rest of a longer header is not looked at.
const MAX_CLAUSES: usize = 32;

fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = header
        .split(',')
        .take(MAX_CLAUSES)
        .filter_map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let (kind, subtype) = match parts.next()? {
                "*" => ("*", "*"),
                media => media.split_once('/')?,
            };
            let mut quality = 1.0;
            let mut parameters = Vec::new();
            for parameter in parts {
                let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                match key {
                    "q" => quality = value.parse().unwrap_or(1.0),
                    _ => parameters.push((key, value.trim_matches('"'))),
                }
            }
            Some(Clause { kind, subtype, quality, parameters })
        })
        .collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses
}

/// The shape that a clause's parameters ask for; `None`: one that the server does not have.
fn shape(clause: &Clause<'_>, encoding: Encoding) -> Option<Shape> {
    let parameter =
        |name| clause.parameters.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value);
    let beta = match (parameter("g"), parameter("v")) {
        ("", "") => return Some(Shape::Whole).filter(|_| parameter("as").is_empty()),
        ("meta.k8s.io", "v1") => false,
        ("meta.k8s.io", "v1beta1") => true,
        _ => return None,
    };
    match parameter("as") {
        "Table" if encoding != Encoding::Protobuf => Some(Shape::Table { beta }),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Shape::Metadata { beta }),
        _ => None,
    }
}

/// What an answer can be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// A watch, which exists only in encodings that have frames.
    pub(crate) stream: bool,
    /// It can be a table or metadata alone.
    pub(crate) shapes: bool,
    /// It has field numbers.
    pub(crate) protobuf: bool,
}

/// What to answer in; `pretty` is what the query says.
///
/// # Errors
/// 406, naming what the server has.
pub(crate) fn accept(headers: &HeaderMap, pretty: Option<bool>, offer: Offer) -> Result<Accepted, Status> {
    let Offer { stream, shapes, protobuf } = offer;
    let offered = |e: &Encoding| match e {
        Encoding::Protobuf => protobuf,
        other => !stream || other.stream_media_type().is_some(),
    };
    let pretty = pretty.unwrap_or_else(|| is_for_people(headers));
    let header = headers.get(header::ACCEPT).map_or("", |v| v.to_str().unwrap_or_default());
    if header.is_empty() {
        return Ok(Accepted { pretty, ..Accepted::JSON });
    }
    for clause in clauses(header) {
        for encoding in Encoding::ALL.into_iter().filter(offered) {
            // Every media type of the server is of the form application/<subtype>.
            let subtype = encoding.media_type().trim_start_matches("application/");
            let is_sequence = stream && encoding == Encoding::Cbor && clause.subtype == "cbor-seq";
            let matches = (clause.kind == "*" && clause.subtype == "*")
                || (clause.kind == "application"
                    && (clause.subtype == "*" || clause.subtype == subtype || is_sequence));
            if !matches {
                continue;
            }
            if let Some(shape) = shape(&clause, encoding).filter(|s| shapes || *s == Shape::Whole) {
                let pretty = pretty || clause.parameters.contains(&("pretty", "1"));
                return Ok(Accepted { encoding, shape, pretty });
            }
        }
    }
    let names: Vec<_> = Encoding::ALL
        .into_iter()
        .filter_map(|e| if stream { e.stream_media_type() } else { Some(e.media_type()) })
        .collect();
    Err(Status::new(
        Reason::NotAcceptable,
        format!("only the following media types are accepted: {}", names.join(", ")),
    ))
}

/// Whether the client is one that people read directly.
fn is_for_people(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
}

/// The media type of a request's body without its parameters; JSON if it names none.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let header = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match header.split(';').next().unwrap_or_default().trim() {
        "" => Encoding::Json.media_type(),
        media => media,
    }
}

/// The encoding of a request's body.
///
/// # Errors
/// 415, naming what the server reads.
pub(crate) fn content_encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    let media = content_type(headers);
    Encoding::ALL
        .into_iter()
        .find(|e| e.media_type() == media)
        .ok_or_else(|| unsupported(&Encoding::ALL.map(Encoding::media_type)))
}

/// 415 for a body in a format that is not among `accepted`.
pub(crate) fn unsupported(accepted: &[&str]) -> Status {
    Status::new(
        Reason::UnsupportedMediaType,
        format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        ),
    )
}

/// Whether the client takes gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|e| e.trim() == "gzip"))
}

#[cfg(test)]
#[path = "negotiate_tests.rs"]
mod tests;
