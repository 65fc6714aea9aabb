//! Conversions between types, and sizes.

use super::{Opaque, Out, Price, Regexes, Row};
use crate::error::EvalError;
use crate::value::{Str, Value};
use crate::{duration, time};

pub(super) const ROWS: &[Row] = &[
    (
        "int",
        int,
        Price::One,
        &["(int) int", "(double) int", "(string) int", "(timestamp) int", "(uint) int", "(duration) int"],
    ),
    ("uint", uint, Price::One, &["(uint) uint", "(double) uint", "(int) uint", "(string) uint"]),
    ("double", double, Price::One, &["(double) double", "(int) double", "(string) double", "(uint) double"]),
    (
        "string",
        string,
        Price::BytesToString,
        &[
            "(string) string",
            "(bool) string",
            "(bytes) string",
            "(double) string",
            "(duration) string",
            "(int) string",
            "(timestamp) string",
            "(uint) string",
            "(net.IP) string",
            "(net.CIDR) string",
        ],
    ),
    ("bytes", bytes, Price::StringToBytes, &["(bytes) bytes", "(string) bytes"]),
    ("bool", boolean, Price::One, &["(bool) bool", "(string) bool"]),
    ("timestamp", timestamp, Price::One, &["(timestamp) timestamp", "(int) timestamp", "(string) timestamp"]),
    ("duration", as_duration, Price::One, &["(duration) duration", "(int) duration", "(string) duration"]),
    ("dyn", |_, a| Ok(a[0].clone()), Price::One, &["(A) dyn"]),
    ("type", |_, a| Ok(Value::Type(Str::from(a[0].type_name().to_owned()))), Price::One, &["(A) type"]),
    (
        "size",
        size,
        Price::One,
        &[
            "(bytes) int",
            "bytes.() int",
            "(list(A)) int",
            "list(A).() int",
            "(map(A, B)) int",
            "map(A, B).() int",
            "(string) int",
            "string.() int",
        ],
    ),
];

fn failed(from: &Value<'_>, to: &str) -> EvalError {
    EvalError::new(format!("type conversion error from '{}' to '{to}'", from.type_name()))
}

fn int<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let overflow = || EvalError::new("integer overflow");
    Ok(Value::Int(match &args[0] {
        Value::Int(i) => *i,
        Value::Uint(u) => i64::try_from(*u).map_err(|_| overflow())?,
        // The ends of the range are no doubles.
        Value::Double(d) if d.abs() < 9_223_372_036_854_775_807.0 => d.trunc() as i64,
        Value::Double(_) => return Err(overflow()),
        Value::String(s) => s
            .parse()
            .map_err(|_| EvalError::new(format!("strconv.ParseInt: parsing {:?}: invalid syntax", &**s)))?,
        Value::Timestamp(t) => t.as_second(),
        Value::Duration(d) => *d,
        other => return Err(failed(other, "int")),
    }))
}

fn uint<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let overflow = || EvalError::new("unsigned integer overflow");
    Ok(Value::Uint(match &args[0] {
        Value::Uint(u) => *u,
        Value::Int(i) => u64::try_from(*i).map_err(|_| overflow())?,
        Value::Double(d) if *d >= 0.0 && *d < 18_446_744_073_709_551_615.0 => d.trunc() as u64,
        Value::Double(_) => return Err(overflow()),
        Value::String(s) => s
            .parse()
            .map_err(|_| EvalError::new(format!("strconv.ParseUint: parsing {:?}: invalid syntax", &**s)))?,
        other => return Err(failed(other, "uint")),
    }))
}

fn double<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    Ok(Value::Double(match &args[0] {
        Value::Double(d) => *d,
        Value::Int(i) => *i as f64,
        Value::Uint(u) => *u as f64,
        Value::String(s) => s
            .parse()
            .map_err(|_| EvalError::new(format!("strconv.ParseFloat: parsing {:?}: invalid syntax", &**s)))?,
        other => return Err(failed(other, "double")),
    }))
}

fn string<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    Ok(Value::from(match &args[0] {
        Value::String(s) => return Ok(Value::String(s.clone())),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => super::formatting::shortest(*d),
        Value::Bytes(b) => String::from_utf8(b.to_vec())
            .map_err(|_| EvalError::new("invalid UTF-8 in bytes, cannot convert to string"))?,
        Value::Timestamp(t) => t.to_string(),
        Value::Duration(d) => duration::format(*d),
        Value::Opaque(o) => match &**o {
            Opaque::Ip(ip) => ip.to_string(),
            Opaque::Cidr(cidr) => cidr.to_string(),
            _ => return Err(failed(&args[0], "string")),
        },
        other => return Err(failed(other, "string")),
    }))
}

fn bytes<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match &args[0] {
        Value::Bytes(b) => Ok(Value::Bytes(b.clone())),
        Value::String(s) => Ok(Value::Bytes(s.as_bytes().into())),
        other => Err(failed(other, "bytes")),
    }
}

fn boolean<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match &args[0] {
        Value::Bool(b) => Ok(Value::Bool(*b)),
        Value::String(s) => match &**s {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(failed(&args[0], "bool")),
        },
        other => Err(failed(other, "bool")),
    }
}

fn timestamp<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let found = match &args[0] {
        Value::Timestamp(t) => Some(*t),
        Value::Int(seconds) => jiff::Timestamp::from_second(*seconds).ok().and_then(time::in_range),
        // A date alone is a point in time only in a schema.
        Value::String(s) if s.len() > 10 => time::parse(s),
        _ => None,
    };
    found.map(Value::Timestamp).ok_or_else(|| failed(&args[0], "google.protobuf.Timestamp"))
}

fn as_duration<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let found = match &args[0] {
        Value::Duration(d) => Some(*d),
        Value::Int(nanos) => Some(*nanos),
        Value::String(s) => duration::parse(s),
        _ => None,
    };
    found.map(Value::Duration).ok_or_else(|| failed(&args[0], "google.protobuf.Duration"))
}

fn size<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match &args[0] {
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => {
            Ok(Value::Int(args[0].size() as i64))
        }
        _ => Err(EvalError::no_overload()),
    }
}
