//! Texts: the standard functions, the strings extension in its version 2, and regular expressions.

use super::{Out, Price, Regexes, Row, formatting};
use crate::error::EvalError;
use crate::value::{Str, Value};

pub(super) const ROWS: &[Row] = &[
    (
        "contains",
        |_, a| two(a, |s, t| Value::Bool(s.contains(t))),
        Price::Contains,
        &["string.(string) bool"],
    ),
    (
        "startsWith",
        |_, a| two(a, |s, t| Value::Bool(s.starts_with(t))),
        Price::Affix,
        &["string.(string) bool"],
    ),
    ("endsWith", |_, a| two(a, |s, t| Value::Bool(s.ends_with(t))), Price::Affix, &["string.(string) bool"]),
    ("matches", matches, Price::Matches, &["string.(string) bool", "(string, string) bool"]),
    ("find", find, Price::Find, &["string.(string) string"]),
    (
        "findAll",
        find_all,
        Price::Find,
        &["string.(string) list(string)", "string.(string, int) list(string)"],
    ),
    ("charAt", char_at, Price::One, &["string.(int) string"]),
    ("lowerAscii", |_, a| one(a, |s| s.to_ascii_lowercase()), Price::Map, &["string.() string"]),
    ("upperAscii", |_, a| one(a, |s| s.to_ascii_uppercase()), Price::Map, &["string.() string"]),
    ("trim", |_, a| one(a, |s| s.trim().to_owned()), Price::Map, &["string.() string"]),
    (
        "replace",
        replace,
        Price::Replace,
        &["string.(string, string) string", "string.(string, string, int) string"],
    ),
    ("split", split, Price::Split, &["string.(string) list(string)", "string.(string, int) list(string)"]),
    ("substring", substring, Price::Map, &["string.(int) string", "string.(int, int) string"]),
    ("join", join, Price::Join, &["list(string).() string", "list(string).(string) string"]),
    ("format", format, Price::Format, &["string.(list(dyn)) string"]),
    ("strings.quote", |_, a| one(a, quote), Price::Quote, &["(string) string"]),
    (
        "jsonpatch.escapeKey",
        |_, a| one(a, |s| s.replace('~', "~0").replace('/', "~1")),
        Price::Map,
        &["(string) string"],
    ),
];

fn text<'v>(value: &'v Value<'_>) -> Result<&'v str, EvalError> {
    value.as_str().ok_or_else(EvalError::no_overload)
}

fn int(value: &Value<'_>) -> Result<i64, EvalError> {
    match value {
        Value::Int(i) => Ok(*i),
        _ => Err(EvalError::no_overload()),
    }
}

fn one<'a>(args: &[Value<'a>], body: impl Fn(&str) -> String) -> Out<'a> {
    Ok(Value::from(body(text(&args[0])?)))
}

fn two<'a>(args: &[Value<'a>], body: impl Fn(&str, &str) -> Value<'a>) -> Out<'a> {
    Ok(body(text(&args[0])?, text(&args[1])?))
}

fn matches<'a>(regexes: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let subject = text(&args[0])?;
    regexes.with(text(&args[1])?, |regex| Value::Bool(regex.is_match(subject)))
}

fn find<'a>(regexes: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let subject = text(&args[0])?;
    regexes.with(text(&args[1])?, |regex| {
        Value::from(regex.find(subject).map(|m| m.as_str().to_owned()).unwrap_or_default())
    })
}

fn find_all<'a>(regexes: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let subject = text(&args[0])?;
    let most = match args.get(2) {
        Some(most) => usize::try_from(int(most)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    regexes.with(text(&args[1])?, |regex| {
        Value::list(regex.find_iter(subject).take(most).map(|m| Value::from(m.as_str().to_owned())).collect())
    })
}

/// The byte at which a code point starts; the end for the number of code points.
fn byte_at(s: &str, index: i64) -> Result<usize, EvalError> {
    let out_of_range = || EvalError::new(format!("index out of range: {index}"));
    let index = usize::try_from(index).map_err(|_| out_of_range())?;
    s.char_indices().map(|(at, _)| at).chain([s.len()]).nth(index).ok_or_else(out_of_range)
}

fn char_at<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let (s, index) = (text(&args[0])?, int(&args[1])?);
    let at = byte_at(s, index)?;
    Ok(Value::from(s[at..].chars().next().map(String::from).unwrap_or_default()))
}

/// `indexOf` of a text; `from` is a code point.
pub(super) fn index_of(s: &str, part: &str, from: i64) -> Result<i64, EvalError> {
    if part.is_empty() {
        return Ok(from);
    }
    let start = byte_at(s, from)?;
    Ok(s[start..].find(part).map_or(-1, |at| s[..start + at].chars().count() as i64))
}

/// `lastIndexOf` of a text; the match starts at the code point `from` at the latest.
pub(super) fn last_index_of(s: &str, part: &str, from: Option<i64>) -> Result<i64, EvalError> {
    let latest = match from {
        Some(from) => byte_at(s, from)?,
        None => s.len(),
    };
    if part.is_empty() {
        return Ok(s[..latest].chars().count() as i64);
    }
    let end = latest.saturating_add(part.len()).min(s.len());
    // A match may reach beyond a code point's start; cutting there would not be text.
    let end = (end..=s.len()).find(|end| s.is_char_boundary(*end)).unwrap_or(s.len());
    let found = s[..end].rmatch_indices(part).find(|(at, _)| *at <= latest);
    Ok(found.map_or(-1, |(at, _)| s[..at].chars().count() as i64))
}

fn replace<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let (s, old, new) = (text(&args[0])?, text(&args[1])?, text(&args[2])?);
    let most = match args.get(3) {
        Some(most) => int(most)?,
        None => -1,
    };
    Ok(Value::from(match usize::try_from(most) {
        Ok(most) => s.replacen(old, new, most),
        Err(_) => s.replace(old, new),
    }))
}

fn split<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let (s, by) = (text(&args[0])?, text(&args[1])?);
    let most = match args.get(2) {
        Some(most) => usize::try_from(int(most)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let mut parts: Vec<Value<'a>> = Vec::new();
    if most == 0 {
        return Ok(Value::list(parts));
    }
    let mut rest = s;
    while parts.len() + 1 < most {
        let cut = if by.is_empty() {
            rest.char_indices().nth(1).map(|(at, _)| (at, at))
        } else {
            rest.find(by).map(|at| (at, at + by.len()))
        };
        let Some((end, next)) = cut else { break };
        parts.push(Value::from(rest[..end].to_owned()));
        rest = &rest[next..];
    }
    if !by.is_empty() || !rest.is_empty() {
        parts.push(Value::from(rest.to_owned()));
    }
    Ok(Value::list(parts))
}

fn substring<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let (s, start) = (text(&args[0])?, int(&args[1])?);
    let end = match args.get(2) {
        Some(end) => int(end)?,
        None => s.chars().count() as i64,
    };
    if args.len() == 3 && start > end {
        return Err(EvalError::new(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let (from, to) = (byte_at(s, start)?, byte_at(s, end)?);
    Ok(Value::from(s[from..to].to_owned()))
}

fn join<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let Value::List(list) = &args[0] else { return Err(EvalError::no_overload()) };
    let by = match args.get(1) {
        Some(by) => text(by)?,
        None => "",
    };
    let mut out = String::new();
    for (i, item) in list.iter().enumerate() {
        if i > 0 {
            out.push_str(by);
        }
        out.push_str(item.as_str().ok_or_else(|| EvalError::new(format!("join: invalid input: {item:?}")))?);
    }
    Ok(Value::from(out))
}

fn format<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let Value::List(list) = &args[1] else { return Err(EvalError::no_overload()) };
    formatting::format(text(&args[0])?, list).map(|s| Value::String(Str::from(s)))
}

fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
