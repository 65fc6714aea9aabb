//! From a JSON tree to wire bytes.
//!
//! What the tree holds is written, zeros too: that is how a pointer to zero differs from none. What it does
//! not hold is left out, which every reader takes for zero. Fields without a number are left out as well.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    Error, MAGIC, MessageRef, Table,
    table::{Field, Shape, Type},
};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;

pub(super) fn envelope(object: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let Some(message) = Table::builtin().find(api_version, kind) else {
        return Err(Error::NoTable { api_version: api_version.to_owned(), kind: kind.to_owned() });
    };
    out.extend_from_slice(MAGIC);
    nested(out, 1, |out| {
        put_bytes(out, 1, api_version.as_bytes());
        put_bytes(out, 2, kind.as_bytes());
        Ok(())
    })?;
    nested(out, 2, |out| match object {
        Value::Object(tree) => write_message(tree, message, out),
        _ => Ok(()),
    })?;
    // Go writes the empty encoding and content type too.
    put_bytes(out, 3, b"");
    put_bytes(out, 4, b"");
    Ok(())
}

pub(super) fn watch_event(event: &str, object: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    put_bytes(out, 1, event.as_bytes());
    nested(out, 2, |out| nested(out, 1, |out| envelope(object, out)))
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_key(out: &mut Vec<u8>, number: u32, wire: u64) {
    put_varint(out, u64::from(number) << 3 | wire);
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_key(out, number, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_key(out, number, VARINT);
    put_varint(out, value);
}

/// Writes a field whose length is known only afterwards.
fn nested(
    out: &mut Vec<u8>,
    number: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    put_key(out, number, BYTES);
    // Most messages are shorter than 128 bytes; longer ones are moved to make room for their length.
    let at = out.len();
    out.push(0);
    write(out)?;
    let length = (out.len() - at - 1) as u64;
    if length < 0x80 {
        out[at] = length as u8;
    } else {
        let mut prefix = Vec::with_capacity(5);
        put_varint(&mut prefix, length);
        out.splice(at..=at, prefix);
    }
    Ok(())
}

fn write_message(tree: &Map<String, Value>, message: MessageRef, out: &mut Vec<u8>) -> Result<(), Error> {
    for field in message.fields() {
        if field.shape == Shape::Embedded {
            let Type::Message(index) = field.ty else { continue };
            nested(out, field.number, |out| write_message(tree, message.other(index), out))?;
            continue;
        }
        let Some(value) = tree.get(field.name).filter(|value| !value.is_null()) else { continue };
        match (field.shape, value) {
            (Shape::Many, Value::Array(items)) => {
                for item in items {
                    write_value(item, field, message, field.number, out)?;
                }
            }
            (Shape::Map, Value::Object(entries)) => {
                for (key, value) in entries {
                    nested(out, field.number, |out| {
                        put_bytes(out, 1, key.as_bytes());
                        write_value(value, field, message, 2, out)
                    })?;
                }
            }
            (Shape::One, value) => write_value(value, field, message, field.number, out)?,
            _ => return Err(misfit(message, field, value)),
        }
    }
    Ok(())
}

fn misfit(message: MessageRef, field: &'static Field, value: &Value) -> Error {
    let mut value = value.to_string();
    value.truncate(value.floor_char_boundary(100));
    Error::Tree { message: message.name(), field: field.name, value }
}

fn write_value(
    value: &Value,
    field: &'static Field,
    message: MessageRef,
    number: u32,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let misfit = || misfit(message, field, value);
    let text = || value.as_str().ok_or_else(misfit);
    match field.ty {
        Type::String => put_bytes(out, number, text()?.as_bytes()),
        Type::Bytes => put_bytes(out, number, &STANDARD.decode(text()?).map_err(|_| misfit())?),
        Type::Int32 | Type::Int64 => {
            put_number(out, number, value.as_i64().ok_or_else(misfit)? as u64);
        }
        Type::Bool => put_number(out, number, value.as_bool().ok_or_else(misfit)?.into()),
        Type::Double => {
            put_key(out, number, FIXED64);
            out.extend_from_slice(&value.as_f64().ok_or_else(misfit)?.to_le_bytes());
        }
        Type::Time | Type::MicroTime => {
            // A null in a list or map is the zero time.
            if value.is_null() {
                put_bytes(out, number, b"");
                return Ok(());
            }
            let time: Timestamp = text()?.parse().map_err(|_| misfit())?;
            // Before 1970 jiff counts the fraction downwards, protobuf always upwards.
            let nanos = time.as_nanosecond().rem_euclid(1_000_000_000) as u64;
            let seconds = time.as_nanosecond().div_euclid(1_000_000_000) as i64;
            nested(out, number, |out| {
                put_number(out, 1, seconds as u64);
                put_number(out, 2, nanos);
                Ok(())
            })?;
        }
        Type::Quantity => {
            let shown = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return Err(misfit()),
            };
            nested(out, number, |out| {
                put_bytes(out, 1, shown.as_bytes());
                Ok(())
            })?;
        }
        Type::IntOrString => {
            let (kind, int, text) = match value {
                Value::String(text) => (1, 0, text.as_str()),
                other => (0, other.as_i64().ok_or_else(misfit)? as u64, ""),
            };
            nested(out, number, |out| {
                put_number(out, 1, kind);
                put_number(out, 2, int);
                put_bytes(out, 3, text.as_bytes());
                Ok(())
            })?;
        }
        Type::Raw => nested(out, number, |out| {
            put_bytes(out, 1, value.to_string().as_bytes());
            Ok(())
        })?,
        Type::Strings => {
            let items = value.as_array().ok_or_else(misfit)?;
            nested(out, number, |out| {
                for item in items {
                    put_bytes(out, 1, item.as_str().ok_or_else(misfit)?.as_bytes());
                }
                Ok(())
            })?;
        }
        Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => {
            nested(out, number, |out| write_schema_or(value, field, message, out))?;
        }
        Type::Message(index) => {
            let tree = value.as_object().ok_or_else(misfit)?;
            nested(out, number, |out| write_message(tree, message.other(index), out))?;
        }
    }
    Ok(())
}

fn write_schema_or(
    value: &Value,
    field: &'static Field,
    message: MessageRef,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let schema = |out: &mut Vec<u8>, number: u32, tree: &Map<String, Value>| {
        let schema = message.json_schema().ok_or_else(|| misfit(message, field, value))?;
        nested(out, number, |out| write_message(tree, schema, out))
    };
    match (field.ty, value) {
        (Type::SchemaOrBool, Value::Bool(allows)) => put_number(out, 1, (*allows).into()),
        (Type::SchemaOrBool, Value::Object(tree)) => {
            put_number(out, 1, 1);
            schema(out, 2, tree)?;
        }
        (_, Value::Object(tree)) => schema(out, 1, tree)?,
        (Type::SchemaOrArray, Value::Array(items)) => {
            for item in items {
                schema(out, 2, item.as_object().ok_or_else(|| misfit(message, field, value))?)?;
            }
        }
        (Type::SchemaOrStrings, Value::Array(items)) => {
            for item in items {
                let text = item.as_str().ok_or_else(|| misfit(message, field, value))?;
                put_bytes(out, 2, text.as_bytes());
            }
        }
        // In a map, where neither a schema nor texts were given.
        (Type::SchemaOrStrings, Value::Null) => {}
        _ => return Err(misfit(message, field, value)),
    }
    Ok(())
}
