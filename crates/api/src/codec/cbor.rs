//! CBOR (RFC 8949), as Kubernetes speaks it (KEP-4222).
//!
//! What is written is one item behind the tag "self-described CBOR", with strings and keys as byte strings, keys in
//! bytewise order of their encoding and numbers in their shortest form. What is read may be anything that says
//! the same: text or byte strings, indefinite lengths, times and later-encoding tags.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};
use serde_json::{Map, Number, Value};

/// How deep an item may be nested, as deep as JSON.
pub const MAX_DEPTH: usize = 127;

/// The head of the tag 55799, which says of what follows that it is CBOR.
const SELF_DESCRIBED: u64 = 55_799;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("error decoding CBOR: {0}")]
    Malformed(String),
    #[error("error decoding CBOR: {0} cannot be said in JSON")]
    Foreign(&'static str),
    #[error("error decoding CBOR: the key {0:?} stands twice in a map")]
    Duplicate(String),
    #[error("error decoding CBOR: the item is nested deeper than {MAX_DEPTH} levels")]
    Depth,
    #[error("error decoding CBOR: there is more than one item")]
    Trailing,
    #[error("error encoding CBOR: {0}")]
    Encode(String),
}

impl From<minicbor::decode::Error> for Error {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Reads the one item that `bytes` hold.
///
/// # Errors
/// The bytes are no single item, or hold what JSON has no value for.
pub fn decode(bytes: &[u8]) -> Result<Value, Error> {
    let mut decoder = Decoder::new(bytes);
    let value = item(&mut decoder, MAX_DEPTH)?;
    if decoder.position() == bytes.len() { Ok(value) } else { Err(Error::Trailing) }
}

fn item(from: &mut Decoder<'_>, depth: usize) -> Result<Value, Error> {
    let inner = || depth.checked_sub(1).ok_or(Error::Depth);
    Ok(match from.datatype()? {
        Type::Null => {
            from.null()?;
            Value::Null
        }
        Type::Bool => from.bool()?.into(),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
            let number = from.u64()?;
            i64::try_from(number).map_err(|_| Error::Foreign("an integer beyond 64 bits with a sign"))?.into()
        }
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => from.i64()?.into(),
        Type::F16 => float(f64::from(from.f16()?))?,
        Type::F32 => float(f64::from(from.f32()?))?,
        Type::F64 => float(from.f64()?)?,
        Type::Bytes | Type::BytesIndef => text(bytes(from)?)?.into(),
        Type::String | Type::StringIndef => from.str_iter()?.collect::<Result<String, _>>()?.into(),
        Type::Array | Type::ArrayIndef => {
            let (length, depth) = (from.array()?, inner()?);
            let mut items = Vec::new();
            while more(from, length, items.len())? {
                items.push(item(from, depth)?);
            }
            items.into()
        }
        Type::Map | Type::MapIndef => {
            let (length, depth) = (from.map()?, inner()?);
            let mut map = Map::new();
            while more(from, length, map.len())? {
                let key = key(from)?;
                let value = item(from, depth)?;
                if map.contains_key(&key) {
                    return Err(Error::Duplicate(key));
                }
                map.insert(key, value);
            }
            map.into()
        }
        Type::Tag => tagged(from, inner()?)?,
        other => return Err(Error::Malformed(format!("{other} stands where a value must"))),
    })
}

/// Whether an array or map goes on, of which `seen` items were read.
fn more(from: &mut Decoder<'_>, length: Option<u64>, seen: usize) -> Result<bool, Error> {
    let Some(length) = length else {
        if from.datatype()? != Type::Break {
            return Ok(true);
        }
        // The break is one byte.
        from.set_position(from.position() + 1);
        return Ok(false);
    };
    Ok((seen as u64) < length)
}

fn bytes(from: &mut Decoder<'_>) -> Result<Vec<u8>, Error> {
    let parts = from.bytes_iter()?.collect::<Result<Vec<_>, _>>()?;
    Ok(parts.concat())
}

fn text(bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| Error::Foreign("a byte string that is no text"))
}

fn key(from: &mut Decoder<'_>) -> Result<String, Error> {
    match from.datatype()? {
        Type::Bytes | Type::BytesIndef => text(bytes(from)?),
        Type::String | Type::StringIndef => Ok(from.str_iter()?.collect::<Result<String, _>>()?),
        _ => Err(Error::Foreign("a key that is no string")),
    }
}

fn float(number: f64) -> Result<Value, Error> {
    Number::from_f64(number).map(Value::Number).ok_or(Error::Foreign("a number that is not finite"))
}

/// What a tag stands before. Unknown tags add nothing to what they enclose.
fn tagged(from: &mut Decoder<'_>, depth: usize) -> Result<Value, Error> {
    const TIME: u64 = 1;
    const BIGNUMS: [u64; 2] = [2, 3];
    const LATER: [u64; 3] = [21, 22, 23];
    let tag = from.tag()?.as_u64();
    let is_bytes = matches!(from.datatype()?, Type::Bytes | Type::BytesIndef);
    Ok(match tag {
        tag if BIGNUMS.contains(&tag) => return Err(Error::Foreign("an integer of any size")),
        21 if is_bytes => URL_SAFE_NO_PAD.encode(bytes(from)?).into(),
        22 if is_bytes => STANDARD.encode(bytes(from)?).into(),
        23 if is_bytes => bytes(from)?.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        tag if LATER.contains(&tag) => item(from, depth)?,
        TIME => match item(from, depth)?.as_f64() {
            Some(seconds) => time(seconds)?.into(),
            None => return Err(Error::Malformed("a time that is no number".to_owned())),
        },
        _ => item(from, depth)?,
    })
}

fn time(seconds: f64) -> Result<String, Error> {
    let nanos = jiff::SignedDuration::try_from_secs_f64(seconds);
    let time = nanos.ok().and_then(|since| jiff::Timestamp::from_duration(since).ok());
    time.map(|time| time.to_string()).ok_or(Error::Foreign("a time outside of years 0 to 9999"))
}

/// Writes a value as one item behind the tag that says what it is.
///
/// # Errors
/// A number that 64 bits don't hold.
pub fn encode(value: &Value) -> Result<Vec<u8>, Error> {
    let mut into = Encoder::new(Vec::with_capacity(1024));
    into.tag(Tag::new(SELF_DESCRIBED)).map_err(broken)?;
    write(value, &mut into)?;
    Ok(into.into_writer())
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Encode(error.to_string())
}

fn write(value: &Value, into: &mut Encoder<Vec<u8>>) -> Result<(), Error> {
    match value {
        Value::Null => into.null().map_err(broken)?,
        Value::Bool(bool) => into.bool(*bool).map_err(broken)?,
        Value::String(text) => into.bytes(text.as_bytes()).map_err(broken)?,
        Value::Number(number) => return write_number(number, into),
        Value::Array(items) => {
            into.array(items.len() as u64).map_err(broken)?;
            return items.iter().try_for_each(|item| write(item, into));
        }
        Value::Object(map) => {
            into.map(map.len() as u64).map_err(broken)?;
            let mut keys: Vec<_> = map.iter().collect();
            // A longer key has a greater head.
            keys.sort_by_key(|(key, _)| (key.len(), key.as_bytes()));
            return keys.into_iter().try_for_each(|(key, value)| {
                into.bytes(key.as_bytes()).map_err(broken)?;
                write(value, into)
            });
        }
    };
    Ok(())
}

/// Integers stay integers; of floats, the shortest that says the same.
fn write_number(number: &Number, into: &mut Encoder<Vec<u8>>) -> Result<(), Error> {
    if let Some(integer) = number.as_i64() {
        into.i64(integer).map_err(broken)?;
    } else if let Some(integer) = number.as_u64() {
        into.u64(integer).map_err(broken)?;
    } else {
        let float = number.as_f64().ok_or_else(|| broken("a number that 64 bits don't hold"))?;
        #[expect(clippy::cast_possible_truncation, reason = "looks whether anything is lost")]
        let single = float as f32;
        if f64::from(single) != float {
            into.f64(float).map_err(broken)?;
        } else if f64::from(half::f16::from_f32(single)) == float {
            into.f16(single).map_err(broken)?;
        } else {
            into.f32(single).map_err(broken)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "cbor_tests.rs"]
mod tests;
