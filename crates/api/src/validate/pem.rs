//! Certificates written as text (RFC 7468).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Something between `-----BEGIN` and `-----END`.
pub(super) struct Block<'a> {
    pub(super) kind: &'a str,
    body: &'a str,
}

impl Block<'_> {
    pub(super) fn has_headers(&self) -> bool {
        self.body.contains(':')
    }

    /// The bytes of a certificate, if it is one.
    pub(super) fn certificate(&self) -> Option<Vec<u8>> {
        let packed: String = self.body.split_whitespace().collect();
        let der = BASE64_STANDARD.decode(packed).ok()?;
        let whole = matches!(X509Certificate::from_der(&der), Ok(([], _)));
        whole.then_some(der)
    }
}

/// The blocks of a text; what stands between them does not count.
pub(super) fn blocks(mut rest: &str) -> impl Iterator<Item = Block<'_>> {
    std::iter::from_fn(move || {
        let (_, from) = rest.split_once("-----BEGIN ")?;
        let (kind, from) = from.split_once("-----")?;
        let (body, after) = from.split_once(&format!("-----END {kind}-----"))?;
        rest = after;
        Some(Block { kind, body })
    })
}

/// What is wrong with the authorities that a webhook's certificate is judged by, which are PEM in base64, in the words
/// of upstream's client. None at all are no mistake.
pub(crate) fn authorities(encoded: &str) -> Result<(), &'static str> {
    let text = BASE64_STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.as_deref().unwrap_or_default();
    let plain = || blocks(text).filter(|block| block.kind == "CERTIFICATE" && !block.has_headers());
    if encoded.is_empty() || plain().any(|block| block.certificate().is_some()) {
        return Ok(());
    }
    Err(if blocks(text).next().is_none() {
        "unable to load root certificates: unable to parse bytes as PEM block"
    } else if plain().next().is_some() {
        "unable to load root certificates: failed to parse certificate: x509: malformed certificate"
    } else {
        "unable to load root certificates: no valid certificate authority data seen"
    })
}
