//! Arithmetic, comparison, containment and indexing.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::{Out, Price, Regexes, Row};
use crate::error::EvalError;
use crate::time;
use crate::value::{Key, List, Map, Value};

const ORDERED: &[&str] = &[
    "(bool, bool) bool",
    "(int, int) bool",
    "(int, uint) bool",
    "(int, double) bool",
    "(uint, uint) bool",
    "(uint, int) bool",
    "(uint, double) bool",
    "(double, double) bool",
    "(double, int) bool",
    "(double, uint) bool",
    "(string, string) bool",
    "(bytes, bytes) bool",
    "(timestamp, timestamp) bool",
    "(duration, duration) bool",
];

pub(super) const ROWS: &[Row] = &[
    ("_==_", |_, a| Ok(Value::Bool(a[0].equals(&a[1]))), Price::Compare, &["(A, A) bool"]),
    ("_!=_", |_, a| Ok(Value::Bool(!a[0].equals(&a[1]))), Price::Compare, &["(A, A) bool"]),
    ("_<_", |_, a| ordered(a, Ordering::is_lt), Price::Compare, ORDERED),
    ("_<=_", |_, a| ordered(a, Ordering::is_le), Price::Compare, ORDERED),
    ("_>_", |_, a| ordered(a, Ordering::is_gt), Price::Compare, ORDERED),
    ("_>=_", |_, a| ordered(a, Ordering::is_ge), Price::Compare, ORDERED),
    (
        "_+_",
        plus,
        Price::Add,
        &[
            "(bytes, bytes) bytes",
            "(double, double) double",
            "(duration, duration) duration",
            "(duration, timestamp) timestamp",
            "(timestamp, duration) timestamp",
            "(int, int) int",
            "(list(A), list(A)) list(A)",
            "(string, string) string",
            "(uint, uint) uint",
        ],
    ),
    (
        "_-_",
        minus,
        Price::One,
        &[
            "(double, double) double",
            "(duration, duration) duration",
            "(int, int) int",
            "(timestamp, duration) timestamp",
            "(timestamp, timestamp) duration",
            "(uint, uint) uint",
        ],
    ),
    ("_*_", times, Price::One, &["(double, double) double", "(int, int) int", "(uint, uint) uint"]),
    ("_/_", divide, Price::One, &["(double, double) double", "(int, int) int", "(uint, uint) uint"]),
    ("_%_", modulo, Price::One, &["(int, int) int", "(uint, uint) uint"]),
    ("!_", not, Price::One, &["(bool) bool"]),
    ("-_", negate, Price::One, &["(int) int", "(double) double"]),
    ("@in", contains, Price::In, &["(A, list(A)) bool", "(A, map(A, B)) bool"]),
    (
        "_[_]",
        index,
        Price::One,
        &[
            "(list(A), int) A",
            "(map(A, B), A) B",
            "(optional(list(A)), int) optional(A)",
            "(optional(map(A, B)), A) optional(B)",
        ],
    ),
    (
        "_[?_]",
        optional_index,
        Price::One,
        &[
            "(list(A), int) optional(A)",
            "(map(A, B), A) optional(B)",
            "(optional(list(A)), int) optional(A)",
            "(optional(map(A, B)), A) optional(B)",
        ],
    ),
];

fn ordered<'a>(args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Out<'a> {
    let number = |v: &Value<'_>| matches!(v, Value::Int(_) | Value::Uint(_) | Value::Double(_));
    match args[0].order(&args[1]) {
        Some(order) => Ok(Value::Bool(holds(order))),
        None if number(&args[0]) && number(&args[1]) => Err(EvalError::new("NaN values cannot be ordered")),
        None => Err(EvalError::no_overload()),
    }
}

const INT: &str = "integer overflow";
const UINT: &str = "unsigned integer overflow";
const DURATION: &str = "duration overflow";
const TIMESTAMP: &str = "timestamp overflow";

fn int<'a>(result: Option<i64>) -> Out<'a> {
    result.map(Value::Int).ok_or_else(|| EvalError::new(INT))
}

fn uint<'a>(result: Option<u64>) -> Out<'a> {
    result.map(Value::Uint).ok_or_else(|| EvalError::new(UINT))
}

fn duration<'a>(result: Option<i64>) -> Out<'a> {
    result.map(Value::Duration).ok_or_else(|| EvalError::new(DURATION))
}

fn timestamp<'a>(result: Option<Timestamp>) -> Out<'a> {
    result.and_then(time::in_range).map(Value::Timestamp).ok_or_else(|| EvalError::new(TIMESTAMP))
}

fn plus<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => Ok(Value::from([&**a, &**b].concat())),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([&**a, &**b].concat().into())),
        (Value::List(a), Value::List(b)) => Ok(a.plus(b)),
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_add(*b)),
        (Value::Timestamp(t), Value::Duration(d)) | (Value::Duration(d), Value::Timestamp(t)) => {
            timestamp(t.checked_add(SignedDuration::from_nanos(*d)).ok())
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn minus<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_sub(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_sub(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_sub(*b)),
        (Value::Timestamp(t), Value::Duration(d)) => {
            timestamp(t.checked_sub(SignedDuration::from_nanos(*d)).ok())
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            duration(i64::try_from(a.as_nanosecond() - b.as_nanosecond()).ok())
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn times<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_mul(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_mul(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        _ => Err(EvalError::no_overload()),
    }
}

fn divide<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            Err(EvalError::new("division by zero"))
        }
        (Value::Int(a), Value::Int(b)) => int(a.checked_div(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_div(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        _ => Err(EvalError::no_overload()),
    }
}

fn modulo<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            Err(EvalError::new("modulus by zero"))
        }
        (Value::Int(a), Value::Int(b)) => int(a.checked_rem(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_rem(*b)),
        _ => Err(EvalError::no_overload()),
    }
}

fn not<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match &args[0] {
        Value::Bool(b) => Ok(Value::Bool(!b)),
        _ => Err(EvalError::no_overload()),
    }
}

fn negate<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match &args[0] {
        Value::Int(i) => int(i.checked_neg()),
        Value::Double(d) => Ok(Value::Double(-d)),
        _ => Err(EvalError::no_overload()),
    }
}

fn contains<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match &args[1] {
        Value::List(list) => Ok(Value::Bool(list.iter().any(|item| item.equals(&args[0])))),
        Value::Map(map) => Ok(Value::Bool(Key::of(&args[0]).is_some_and(|key| map.has(&key)))),
        _ => Err(EvalError::no_overload()),
    }
}

/// The place that a number is; a double counts if it is whole.
fn place(index: &Value<'_>) -> Result<i64, EvalError> {
    match Key::of(index) {
        Some(Key::Int(i)) => Ok(i),
        Some(Key::Uint(u)) => Ok(i64::try_from(u).unwrap_or(i64::MAX)),
        _ => Err(EvalError::new(format!("unsupported index type '{}' in list", index.type_name()))),
    }
}

fn item<'a>(list: &List<'a>, at: i64) -> Option<Value<'a>> {
    usize::try_from(at).ok().and_then(|at| list.get(at))
}

fn entry<'a>(map: &Map<'a>, key: &Value<'a>) -> Result<Option<Value<'a>>, EvalError> {
    match Key::of(key) {
        Some(key) => Ok(map.get(&key)),
        None => Err(EvalError::new(format!("unsupported key type: {}", key.type_name()))),
    }
}

fn index<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match &args[0] {
        Value::List(list) => {
            let at = place(&args[1])?;
            item(list, at).ok_or_else(|| EvalError::new(format!("index out of bounds: {at}")))
        }
        Value::Map(map) => entry(map, &args[1])?.ok_or_else(|| no_such_key(&args[1])),
        Value::Optional(_) => maybe(&args[0], &args[1]),
        _ => Err(EvalError::no_overload()),
    }
}

/// What a map answers to a key that it does not have.
pub(crate) fn no_such_key(key: &Value<'_>) -> EvalError {
    EvalError::new(match key {
        Value::String(s) => format!("no such key: {}", &**s),
        other => format!("no such key: {other:?}"),
    })
}

fn optional_index<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    maybe(&args[0], &args[1])
}

fn maybe<'a>(of: &Value<'a>, at: &Value<'a>) -> Out<'a> {
    let found = match of {
        Value::List(list) => item(list, place(at)?),
        Value::Map(map) => entry(map, at)?,
        Value::Optional(None) => None,
        Value::Optional(Some(of)) => return maybe(of, at),
        _ => return Err(EvalError::no_overload()),
    };
    Ok(Value::Optional(found.map(std::rc::Rc::new)))
}
