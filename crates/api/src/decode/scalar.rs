//! Texts that stand for something else: quantities, times, bytes.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::de;
use serde_json::Value;

use super::{Error, Seed};
use crate::quantity;
use crate::schema::{Scalar, Shape};

const TIME_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_TIME_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";

impl Seed<'_, '_> {
    /// `owned` makes the text into a value where it is one as it stands.
    pub(super) fn text<E: de::Error>(
        self,
        text: &str,
        owned: impl FnOnce() -> String,
    ) -> Result<Option<Value>, E> {
        let Shape::Scalar(scalar) = self.ty.shape() else {
            return Err(self.context.wrong_type("string", self.ty));
        };
        let value = match scalar {
            Scalar::String | Scalar::IntOrString => owned(),
            Scalar::Quantity => return self.quantity(text),
            Scalar::Bytes => match bytes(text) {
                Ok(clean) => clean.unwrap_or_else(owned),
                Err(error) => return Err(self.context.fail(error)),
            },
            Scalar::Time if is_plain_time(text) => owned(),
            Scalar::Time | Scalar::MicroTime => match time(text, scalar) {
                Ok(canonical) => canonical,
                Err(error) => return Err(self.context.fail(error)),
            },
            Scalar::Int32 | Scalar::Int64 | Scalar::Bool | Scalar::Double => {
                return Err(self.context.wrong_type("string", self.ty));
            }
        };
        Ok(Some(Value::String(value)))
    }

    pub(super) fn quantity<E: de::Error>(self, text: &str) -> Result<Option<Value>, E> {
        match quantity::canonical(text.trim()) {
            Ok(canonical) => Ok(Some(Value::String(canonical.into_owned()))),
            Err(error) => Err(self.context.fail(error.into())),
        }
    }
}

/// Whether a time is written as the API writes it already, on a day that every month has.
fn is_plain_time(text: &str) -> bool {
    let b = text.as_bytes();
    let two = |at: usize| (b[at] - b'0') * 10 + b[at + 1] - b'0';
    b.len() == 20
        && b.iter().zip(b"dddd-dd-ddTdd:dd:ddZ").all(|(c, shape)| match shape {
            b'd' => c.is_ascii_digit(),
            other => c == other,
        })
        && (1..=12).contains(&two(5))
        && (1..=28).contains(&two(8))
        && two(11) < 24
        && two(14) < 60
        && two(17) < 60
}

/// The time in UTC, with as many digits as its kind has.
fn time(text: &str, scalar: Scalar) -> Result<String, Error> {
    let (layout, written) = match scalar {
        Scalar::MicroTime => (MICRO_TIME_LAYOUT, "%Y-%m-%dT%H:%M:%S.%6fZ"),
        _ => (TIME_LAYOUT, "%Y-%m-%dT%H:%M:%SZ"),
    };
    let parsed: Result<Timestamp, _> = text.parse();
    match parsed {
        // RFC 3339 has a T and no annotations; the parser is more liberal.
        Ok(time) if text.as_bytes().get(10) == Some(&b'T') && !text.ends_with(']') => {
            Ok(time.strftime(written).to_string())
        }
        _ => Err(Error::Time { text: text.to_owned(), layout }),
    }
}

/// Checks base64. Line breaks are allowed and taken out.
fn bytes(text: &str) -> Result<Option<String>, Error> {
    let broken = text.contains(['\r', '\n']);
    let clean = if broken { text.replace(['\r', '\n'], "") } else { String::new() };
    let checked = if broken { clean.as_str() } else { text };
    match BASE64_STANDARD.decode(checked) {
        Ok(_) => Ok(broken.then_some(clean)),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(Error::Base64(at))
        }
        Err(_) => Err(Error::Base64(checked.len() / 4 * 4)),
    }
}
