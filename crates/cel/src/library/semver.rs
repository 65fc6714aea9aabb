//! Semantic versions.

use tiphys_api::semver::Semver;

use super::{Opaque, Out, Price, Regexes, Row, opaque};
use crate::error::EvalError;
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    ("semver", to_semver, Price::Read, &["(string) kubernetes.Semver", "(string, bool) kubernetes.Semver"]),
    ("isSemver", is_semver, Price::Read, &["(string) bool", "(string, bool) bool"]),
    ("major", |_, a| number(a, 0), Price::One, &["kubernetes.Semver.() int"]),
    ("minor", |_, a| number(a, 1), Price::One, &["kubernetes.Semver.() int"]),
    ("patch", |_, a| number(a, 2), Price::One, &["kubernetes.Semver.() int"]),
];

fn read(args: &[Value<'_>]) -> Result<Result<Semver, String>, EvalError> {
    let text = args[0].as_str().ok_or_else(EvalError::no_overload)?;
    Ok(match args.get(1) {
        Some(Value::Bool(true)) => Semver::tolerant(text),
        None | Some(Value::Bool(false)) => Semver::parse(text),
        Some(_) => return Err(EvalError::no_overload()),
    })
}

fn to_semver<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    read(args)?.map(|v| opaque(Opaque::Semver(v))).map_err(EvalError::Failed)
}

fn is_semver<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    Ok(Value::Bool(read(args)?.is_ok()))
}

fn number<'a>(args: &[Value<'a>], which: usize) -> Out<'a> {
    match &args[0] {
        Value::Opaque(o) => match &**o {
            Opaque::Semver(v) => Ok(Value::Int(i64::try_from(v.numbers()[which]).unwrap_or(i64::MAX))),
            _ => Err(EvalError::no_overload()),
        },
        _ => Err(EvalError::no_overload()),
    }
}
