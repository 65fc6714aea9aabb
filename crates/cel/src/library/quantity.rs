//! Quantities, and the comparisons that quantities and versions share.

use std::cmp::Ordering;

use tiphys_api::quantity::{Format, Quantity};

use super::{Opaque, Out, Price, Regexes, Row, opaque};
use crate::error::EvalError;
use crate::value::Value;

const COMPARED: &[&str] =
    &["kubernetes.Quantity.(kubernetes.Quantity) bool", "kubernetes.Semver.(kubernetes.Semver) bool"];

pub(super) const ROWS: &[Row] = &[
    ("quantity", to_quantity, Price::Read, &["(string) kubernetes.Quantity"]),
    ("isQuantity", is_quantity, Price::Read, &["(string) bool"]),
    ("sign", |_, a| Ok(Value::Int(sign(quantity(&a[0])?))), Price::One, &["kubernetes.Quantity.() int"]),
    (
        "isInteger",
        |_, a| Ok(Value::Bool(whole(quantity(&a[0])?).is_some())),
        Price::One,
        &["kubernetes.Quantity.() bool"],
    ),
    ("asInteger", as_integer, Price::One, &["kubernetes.Quantity.() int"]),
    ("asApproximateFloat", as_float, Price::One, &["kubernetes.Quantity.() double"]),
    (
        "add",
        |_, a| Ok(of(quantity(&a[0])? + operand(&a[1])?)),
        Price::One,
        &[
            "kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity",
            "kubernetes.Quantity.(int) kubernetes.Quantity",
        ],
    ),
    (
        "sub",
        |_, a| Ok(of(quantity(&a[0])? - operand(&a[1])?)),
        Price::One,
        &[
            "kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity",
            "kubernetes.Quantity.(int) kubernetes.Quantity",
        ],
    ),
    ("isGreaterThan", |_, a| Ok(Value::Bool(order(a)?.is_gt())), Price::One, COMPARED),
    ("isLessThan", |_, a| Ok(Value::Bool(order(a)?.is_lt())), Price::One, COMPARED),
    (
        "compareTo",
        |_, a| Ok(Value::Int(order(a)? as i64)),
        Price::One,
        &["kubernetes.Quantity.(kubernetes.Quantity) int", "kubernetes.Semver.(kubernetes.Semver) int"],
    ),
];

fn of<'a>(quantity: Quantity) -> Value<'a> {
    opaque(Opaque::Quantity(quantity))
}

fn quantity(value: &Value<'_>) -> Result<Quantity, EvalError> {
    match value {
        Value::Opaque(o) => match &**o {
            Opaque::Quantity(q) => Ok(*q),
            _ => Err(EvalError::no_overload()),
        },
        _ => Err(EvalError::no_overload()),
    }
}

fn operand(value: &Value<'_>) -> Result<Quantity, EvalError> {
    match value {
        Value::Int(i) => Ok(Quantity::from_units(*i, Format::DecimalExponent)),
        other => quantity(other),
    }
}

fn order(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    if let (Value::Opaque(a), Value::Opaque(b)) = (&args[0], &args[1]) {
        match (&**a, &**b) {
            (Opaque::Quantity(a), Opaque::Quantity(b)) => return Ok(a.cmp(b)),
            (Opaque::Semver(a), Opaque::Semver(b)) => return Ok(a.order(b)),
            _ => {}
        }
    }
    Err(EvalError::no_overload())
}

fn sign(quantity: Quantity) -> i64 {
    match (quantity.is_zero(), quantity.is_negative()) {
        (true, _) => 0,
        (_, true) => -1,
        _ => 1,
    }
}

/// The amount, where it is a whole number of 64 bits.
fn whole(quantity: Quantity) -> Option<i64> {
    let rounded = quantity.value();
    (quantity.is_whole() && Quantity::from_units(rounded, Format::DecimalSI) == quantity).then_some(rounded)
}

fn to_quantity<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let text = args[0].as_str().ok_or_else(EvalError::no_overload)?;
    Quantity::parse(text).map(of).map_err(|e| EvalError::new(e.to_string()))
}

fn is_quantity<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    Ok(Value::Bool(Quantity::parse(args[0].as_str().ok_or_else(EvalError::no_overload)?).is_ok()))
}

fn as_integer<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    whole(quantity(&args[0])?)
        .map(Value::Int)
        .ok_or_else(|| EvalError::new("cannot convert value to integer"))
}

fn as_float<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let quantity = quantity(&args[0])?;
    let units = quantity.value();
    // The whole part rounds up; what is above it is less than one.
    let rest = quantity - Quantity::from_units(units, Format::DecimalSI);
    Ok(Value::Double(units as f64 + rest.milli() as f64 / 1000.0))
}
