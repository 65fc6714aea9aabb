//! From wire bytes to a JSON tree.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    Error, MAGIC, MAX_DEPTH, MessageRef, Table,
    table::{Field, Shape, Type},
};

/// What stands behind a field's key.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// No field of Kubernetes is a fixed32.
    Fixed32(u32),
}

impl Wire<'_> {
    fn code(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32(_) => 5,
        }
    }

    /// Whether this is what Go clients write for a field that nobody set.
    fn is_zero(self) -> bool {
        match self {
            Self::Varint(number) | Self::Fixed64(number) => number == 0,
            Self::Fixed32(number) => number == 0,
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }
}

/// The fields of a message, one after the other.
struct Fields<'a> {
    rest: &'a [u8],
    message: &'static str,
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(Error::Truncated(self.message))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Error> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated(self.message))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next field's number and value.
    fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(self.take(8)?);
                Wire::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                let mut bytes = [0; 4];
                bytes.copy_from_slice(self.take(4)?);
                Wire::Fixed32(u32::from_le_bytes(bytes))
            }
            wire => return Err(Error::WireType { message: self.message, field: "?", wire: wire as u8 }),
        };
        Ok(Some((key >> 3, wire)))
    }
}

/// Where a value is being read, for errors and the bound.
#[derive(Clone, Copy)]
struct At {
    message: MessageRef,
    field: &'static Field,
    depth: usize,
}

impl At {
    fn problem(self, problem: impl Into<String>) -> Error {
        Error::Value { message: self.message.name(), field: self.field.name, problem: problem.into() }
    }

    fn bytes(self, wire: Wire<'_>) -> Result<&[u8], Error> {
        match wire {
            Wire::Bytes(bytes) => Ok(bytes),
            other => Err(self.wrong(other)),
        }
    }

    fn wrong(self, wire: Wire<'_>) -> Error {
        Error::WireType { message: self.message.name(), field: self.field.name, wire: wire.code() }
    }

    fn text(self, bytes: &[u8]) -> Result<String, Error> {
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| self.problem("string contains invalid UTF-8"))
    }

    /// Whether this is what Go clients write in a JSON schema for a field that nobody set.
    ///
    /// Of other objects, decoding by their schema drops it. A JSON schema is kept as it is written, where an empty
    /// `$schema` would be one that somebody wished for.
    fn is_unset(self, value: &Value) -> bool {
        const SCHEMAS: [&str; 3] = [".JSONSchemaProps", ".ExternalDocumentation", ".ValidationRule"];
        // Go can tell whether these were set, or requires them.
        const TELLING: [&str; 7] = [
            "$ref",
            "rule",
            "reason",
            "optionalOldSelf",
            "x-kubernetes-list-type",
            "x-kubernetes-map-type",
            "x-kubernetes-preserve-unknown-fields",
        ];
        let zero = match self.field.ty {
            Type::Bool => *value == Value::Bool(false),
            Type::String => value.as_str().is_some_and(str::is_empty),
            _ => false,
        };
        zero && SCHEMAS.iter().any(|name| self.message.name().ends_with(name))
            && !TELLING.contains(&self.field.name)
    }

    fn inner(self, bytes: &[u8]) -> Fields<'_> {
        Fields { rest: bytes, message: self.field.name }
    }
}

pub(super) fn envelope(body: &[u8], default: Option<(&str, &str)>, depth: usize) -> Result<Value, Error> {
    let rest = body.strip_prefix(MAGIC).ok_or(Error::Magic)?;
    let mut fields = Fields { rest, message: "runtime.Unknown" };
    let (mut api_version, mut kind, mut raw, mut content) = (String::new(), String::new(), &[][..], &[][..]);
    while let Some((number, wire)) = fields.next()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => {
                let mut meta = Fields { rest: bytes, message: "runtime.TypeMeta" };
                while let Some((number, wire)) = meta.next()? {
                    match (number, wire) {
                        (1, Wire::Bytes(text)) => api_version = String::from_utf8_lossy(text).into_owned(),
                        (2, Wire::Bytes(text)) => kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            (4, Wire::Bytes(bytes)) => content = bytes,
            _ => {}
        }
    }
    if !matches!(content, b"" | b"application/vnd.kubernetes.protobuf") {
        return Err(Error::Content(String::from_utf8_lossy(content).into_owned()));
    }
    if let Some((default_version, default_kind)) = default {
        if api_version.is_empty() {
            default_version.clone_into(&mut api_version);
        }
        if kind.is_empty() {
            default_kind.clone_into(&mut kind);
        }
    }
    let Some(message) = Table::builtin().find(&api_version, &kind) else {
        return Err(Error::NoTable { api_version, kind });
    };
    let mut tree = Map::new();
    read_message(raw, message, depth, &mut tree)?;
    tree.insert("kind".to_owned(), kind.into());
    tree.insert("apiVersion".to_owned(), api_version.into());
    Ok(Value::Object(tree))
}

fn read_message(
    bytes: &[u8],
    message: MessageRef,
    depth: usize,
    tree: &mut Map<String, Value>,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    let mut fields = Fields { rest: bytes, message: message.name() };
    while let Some((number, wire)) = fields.next()? {
        let Some(field) = message.field(number) else {
            // Clients of other versions send fields that are gone here, such as ObjectMeta's clusterName; only
            // those that say something are missed.
            if wire.is_zero() {
                continue;
            }
            return Err(Error::UnknownField { message: message.name(), number });
        };
        let at = At { message, field, depth };
        match field.shape {
            Shape::Embedded => {
                let Type::Message(index) = field.ty else { return Err(at.wrong(wire)) };
                read_message(at.bytes(wire)?, message.other(index), depth + 1, tree)?;
            }
            Shape::One => {
                let value = read_value(at, wire)?;
                if !value.is_null() && !at.is_unset(&value) {
                    tree.insert(field.name.to_owned(), value);
                }
            }
            Shape::Many => {
                let list = tree.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(items) = list else { return Err(at.problem("is no list")) };
                match (field.ty, wire) {
                    // Numbers may be packed into one.
                    (Type::Int32 | Type::Int64 | Type::Bool, Wire::Bytes(packed)) => {
                        let mut packed = at.inner(packed);
                        while !packed.rest.is_empty() {
                            let number = packed.varint()?;
                            items.push(read_value(at, Wire::Varint(number))?);
                        }
                    }
                    _ => items.push(read_value(at, wire)?),
                }
            }
            Shape::Map => {
                let (key, value) = read_entry(at, wire)?;
                let map = tree.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(map) = map else { return Err(at.problem("is no map")) };
                map.insert(key, value);
            }
        }
    }
    Ok(())
}

/// A map's entry is a message of a key and a value, each left out when zero.
fn read_entry(at: At, wire: Wire<'_>) -> Result<(String, Value), Error> {
    let mut entry = at.inner(at.bytes(wire)?);
    let (mut key, mut value) = (String::new(), None);
    while let Some((number, wire)) = entry.next()? {
        match number {
            1 => key = at.text(at.bytes(wire)?)?,
            2 => value = Some(read_value(at, wire)?),
            _ => {}
        }
    }
    match value {
        Some(value) => Ok((key, value)),
        None => Ok((key, read_value(at, Wire::Bytes(&[])).or_else(|_| read_value(at, Wire::Varint(0)))?)),
    }
}

fn read_value(at: At, wire: Wire<'_>) -> Result<Value, Error> {
    Ok(match at.field.ty {
        Type::String => Value::String(at.text(at.bytes(wire)?)?),
        Type::Bytes => Value::String(STANDARD.encode(at.bytes(wire)?)),
        Type::Int32 | Type::Int64 | Type::Bool => match wire {
            Wire::Varint(number) => integer(at.field.ty, number),
            other => return Err(at.wrong(other)),
        },
        Type::Double => match wire {
            Wire::Fixed64(bits) => crate::decode::double(f64::from_bits(bits))
                .map(Value::Number)
                .ok_or_else(|| at.problem("is no finite number"))?,
            other => return Err(at.wrong(other)),
        },
        Type::Time => time(at, at.bytes(wire)?, 0)?,
        Type::MicroTime => time(at, at.bytes(wire)?, 6)?,
        Type::Quantity => {
            let text = scalars(at, at.bytes(wire)?)?.1[1];
            Value::String(at.text(if text.is_empty() { b"0" } else { text })?)
        }
        Type::IntOrString => {
            let (numbers, texts) = scalars(at, at.bytes(wire)?)?;
            match numbers[1] {
                0 => (numbers[2] as u32 as i32).into(),
                1 => Value::String(at.text(texts[3])?),
                _ => return Err(at.problem("is neither a number nor a string")),
            }
        }
        Type::Raw => raw(at, scalars(at, at.bytes(wire)?)?.1[1])?,
        Type::Strings => {
            let mut items = Vec::new();
            let mut fields = at.inner(at.bytes(wire)?);
            while let Some((number, wire)) = fields.next()? {
                if number == 1 {
                    items.push(Value::String(at.text(at.bytes(wire)?)?));
                }
            }
            Value::Array(items)
        }
        Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => schema_or(at, at.bytes(wire)?)?,
        Type::Message(index) => {
            let mut tree = Map::new();
            read_message(at.bytes(wire)?, at.message.other(index), at.depth + 1, &mut tree)?;
            Value::Object(tree)
        }
    })
}

fn integer(ty: Type, number: u64) -> Value {
    match ty {
        Type::Bool => Value::Bool(number != 0),
        // Negative numbers are sign-extended to 64 bits on the wire.
        Type::Int32 => (number as u32 as i32).into(),
        _ => (number as i64).into(),
    }
}

/// The fields 1 to 3 of a small message, as numbers and as bytes; absent ones are zero.
fn scalars(at: At, bytes: &[u8]) -> Result<([u64; 4], [&[u8]; 4]), Error> {
    let (mut numbers, mut texts) = ([0; 4], [&[][..]; 4]);
    let mut fields = at.inner(bytes);
    while let Some((number, wire)) = fields.next()? {
        let slot = usize::try_from(number).unwrap_or(usize::MAX);
        match wire {
            Wire::Varint(value) if (1..4).contains(&slot) => numbers[slot] = value,
            Wire::Bytes(value) if (1..4).contains(&slot) => texts[slot] = value,
            _ => {}
        }
    }
    Ok((numbers, texts))
}

/// The zero time is empty on the wire and null in JSON.
fn time(at: At, bytes: &[u8], digits: usize) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let [_, seconds, nanos, _] = scalars(at, bytes)?.0;
    let nanos = if digits == 0 { 0 } else { nanos as u32 as i32 };
    let time = Timestamp::new(seconds as i64, nanos).map_err(|e| at.problem(e.to_string()))?;
    Ok(Value::String(format!("{time:.digits$}")))
}

/// JSON, or an object in an envelope.
fn raw(at: At, bytes: &[u8]) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    if bytes.starts_with(MAGIC) {
        return envelope(bytes, None, at.depth + 1);
    }
    serde_json::from_slice(bytes).map_err(|e| at.problem(e.to_string()))
}

/// What in JSON is a schema or something else: field 1 is a bool or the schema, field 2 the schema, schemas or
/// strings.
fn schema_or(at: At, bytes: &[u8]) -> Result<Value, Error> {
    let schema = |bytes: &[u8]| {
        let message = at.message.json_schema().ok_or_else(|| at.problem("has no JSON schema"))?;
        let mut tree = Map::new();
        read_message(bytes, message, at.depth + 1, &mut tree)?;
        Ok(Value::Object(tree))
    };
    let (mut one, mut many) = (None, Vec::new());
    let mut fields = at.inner(bytes);
    while let Some((number, wire)) = fields.next()? {
        match (at.field.ty, number, wire) {
            (Type::SchemaOrBool, 1, Wire::Varint(allows)) => {
                one.get_or_insert(Value::Bool(allows != 0));
            }
            (Type::SchemaOrArray | Type::SchemaOrStrings, 1, Wire::Bytes(bytes))
            | (Type::SchemaOrBool, 2, Wire::Bytes(bytes)) => one = Some(schema(bytes)?),
            (Type::SchemaOrArray, 2, Wire::Bytes(bytes)) => many.push(schema(bytes)?),
            (Type::SchemaOrStrings, 2, Wire::Bytes(bytes)) => many.push(Value::String(at.text(bytes)?)),
            _ => {}
        }
    }
    Ok(match one {
        _ if !many.is_empty() => Value::Array(many),
        Some(value) => value,
        None => Value::Null,
    })
}
