//! `"%s of %d".format([...])`.

use crate::duration;
use crate::error::EvalError;
use crate::value::{List, Value};

/// The most digits after a point.
const MAX_PRECISION: usize = 1_000;

pub(super) fn format(pattern: &str, args: &List<'_>) -> Result<String, EvalError> {
    let failed = |why: String| EvalError::new(format!("could not parse formatting clause: {why}"));
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let arg = args.get(next).ok_or_else(|| EvalError::new(format!("index {next} out of range")))?;
        next += 1;
        let mut precision = None;
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                digits.push(d);
            }
            let given: usize =
                digits.parse().map_err(|_| failed(format!("precision {digits:?} is no number")))?;
            if given > MAX_PRECISION {
                return Err(failed(format!("precision {given} is beyond {MAX_PRECISION}")));
            }
            precision = Some(given);
        }
        let clause = chars.next().ok_or_else(|| failed("unexpected end of string".to_owned()))?;
        match clause {
            's' => plain(&arg, &mut out)?,
            'd' => match arg {
                Value::Int(_) | Value::Uint(_) | Value::Double(_) => plain(&arg, &mut out)?,
                other => return Err(unfit("decimal clause can only be used on numbers", &other)),
            },
            'f' => out
                .push_str(&fixed(number(&arg, "fixed-point clause can only be used on numbers")?, precision)),
            'e' => {
                out.push_str(&scientific(
                    number(&arg, "scientific clause can only be used on numbers")?,
                    precision,
                ));
            }
            'b' => out.push_str(&match arg {
                Value::Bool(b) => u8::from(b).to_string(),
                Value::Int(i) if i < 0 => format!("-{:b}", i.unsigned_abs()),
                Value::Int(i) => format!("{i:b}"),
                Value::Uint(u) => format!("{u:b}"),
                other => return Err(unfit("only integers and bools can be formatted as binary", &other)),
            }),
            'x' | 'X' => {
                let text = hex(&arg)?;
                out.push_str(&if clause == 'X' { text.to_uppercase() } else { text });
            }
            'o' => out.push_str(&match arg {
                Value::Int(i) if i < 0 => format!("-{:o}", i.unsigned_abs()),
                Value::Int(i) => format!("{i:o}"),
                Value::Uint(u) => format!("{u:o}"),
                other => return Err(unfit("octal clause can only be used on integers", &other)),
            }),
            other => return Err(failed(format!("unrecognized formatting clause \"{other}\""))),
        }
    }
    Ok(out)
}

fn unfit(why: &str, value: &Value<'_>) -> EvalError {
    EvalError::new(format!("error during formatting: {why}, was given {}", value.type_name()))
}

fn number(value: &Value<'_>, why: &str) -> Result<f64, EvalError> {
    match value {
        Value::Int(i) => Ok(*i as f64),
        Value::Uint(u) => Ok(*u as f64),
        Value::Double(d) => Ok(*d),
        other => Err(unfit(why, other)),
    }
}

fn odd(d: f64) -> Option<&'static str> {
    if d.is_nan() {
        Some("NaN")
    } else if d.is_infinite() {
        Some(if d > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        None
    }
}

fn fixed(d: f64, precision: Option<usize>) -> String {
    odd(d).map_or_else(|| format!("{d:.*}", precision.unwrap_or(6)), str::to_owned)
}

fn scientific(d: f64, precision: Option<usize>) -> String {
    if let Some(text) = odd(d) {
        return text.to_owned();
    }
    let text = format!("{d:.*e}", precision.unwrap_or(6));
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}

fn hex(value: &Value<'_>) -> Result<String, EvalError> {
    let bytes = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect();
    Ok(match value {
        Value::Int(i) if *i < 0 => format!("-{:x}", i.unsigned_abs()),
        Value::Int(i) => format!("{i:x}"),
        Value::Uint(u) => format!("{u:x}"),
        Value::String(s) => bytes(s.as_bytes()),
        Value::Bytes(b) => bytes(b),
        other => {
            return Err(unfit("only integers, byte buffers, and strings can be formatted as hex", other));
        }
    })
}

/// What `string()` makes of a double: the shortest digits that mean it, with an exponent where Go's `%g` has one.
pub(super) fn shortest(d: f64) -> String {
    if d.is_nan() {
        return "NaN".to_owned();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{d:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&power) {
        return format!("{d}");
    }
    format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

fn plain(value: &Value<'_>, out: &mut String) -> Result<(), EvalError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(&b.to_string()),
        Value::Int(i) => out.push_str(&i.to_string()),
        Value::Uint(u) => out.push_str(&u.to_string()),
        Value::Double(d) => out.push_str(&odd(*d).map_or_else(|| d.to_string(), str::to_owned)),
        Value::String(s) | Value::Type(s) => out.push_str(s),
        Value::Bytes(b) => out.push_str(&String::from_utf8_lossy(b)),
        Value::Timestamp(t) => out.push_str(&t.to_string()),
        Value::Duration(d) => out.push_str(&duration::format(*d)),
        Value::List(list) => {
            out.push('[');
            for (i, item) in list.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                plain(&item, out)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut entries = Vec::with_capacity(map.len());
            for key in map.keys() {
                let (mut k, mut v) = (String::new(), String::new());
                plain(&key.value(), &mut k)?;
                if let Some(value) = map.get(&key) {
                    plain(&value, &mut v)?;
                }
                entries.push((k, v));
            }
            entries.sort();
            out.push('{');
            for (i, (k, v)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                out.push_str(&format!("{k}: {v}"));
            }
            out.push('}');
        }
        other => {
            let why = "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, \
                       durations, and timestamps";
            return Err(unfit(why, other));
        }
    }
    Ok(())
}
