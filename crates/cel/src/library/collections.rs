//! Lists, sets and optional values.

use std::cmp::Ordering;

use super::strings::{index_of, last_index_of};
use super::{Out, Price, Regexes, Row};
use crate::error::EvalError;
use crate::value::{List, Value};

/// The most items that `lists.range` makes.
const MAX_RANGE: i64 = 1_000_000;

const SORTED: &[&str] = &[
    "list(int).() bool",
    "list(uint).() bool",
    "list(double).() bool",
    "list(bool).() bool",
    "list(duration).() bool",
    "list(timestamp).() bool",
    "list(string).() bool",
    "list(bytes).() bool",
];
const EXTREME: &[&str] = &[
    "list(int).() int",
    "list(uint).() uint",
    "list(double).() double",
    "list(bool).() bool",
    "list(duration).() duration",
    "list(timestamp).() timestamp",
    "list(string).() string",
    "list(bytes).() bytes",
];
const SORT: &[&str] = &[
    "list(int).() list(int)",
    "list(uint).() list(uint)",
    "list(double).() list(double)",
    "list(bool).() list(bool)",
    "list(duration).() list(duration)",
    "list(timestamp).() list(timestamp)",
    "list(string).() list(string)",
    "list(bytes).() list(bytes)",
];
const PLACE: &[&str] = &["list(A).(A) int", "string.(string) int", "string.(string, int) int"];
const SETS: &[&str] = &["(list(A), list(A)) bool"];

pub(super) const ROWS: &[Row] = &[
    ("isSorted", is_sorted, Price::Walk, SORTED),
    (
        "sum",
        sum,
        Price::Walk,
        &["list(int).() int", "list(uint).() uint", "list(double).() double", "list(duration).() duration"],
    ),
    ("min", |_, a| extreme(a, "min", Ordering::Less), Price::Walk, EXTREME),
    ("max", |_, a| extreme(a, "max", Ordering::Greater), Price::Walk, EXTREME),
    ("indexOf", first_place, Price::Walk, PLACE),
    ("lastIndexOf", last_place, Price::Walk, PLACE),
    ("includes", includes, Price::Walk, &["dyn.(dyn) bool"]),
    ("first", |_, a| end(a, true), Price::One, &["list(A).() optional(A)"]),
    ("last", |_, a| end(a, false), Price::One, &["list(A).() optional(A)"]),
    ("slice", slice, Price::Output, &["list(A).(int, int) list(A)"]),
    ("flatten", flatten, Price::Flatten, &["list(list(A)).() list(A)", "list(dyn).(int) list(dyn)"]),
    ("distinct", distinct, Price::Pairs, &["list(A).() list(A)"]),
    ("reverse", reverse, Price::Output, &["list(A).() list(A)"]),
    ("sort", sort, Price::Pairs, SORT),
    ("lists.range", range, Price::Output, &["(int) list(int)"]),
    ("sets.contains", |_, a| sets(a, |a, b| Ok(subset(b, a))), Price::Sets, SETS),
    ("sets.equivalent", |_, a| sets(a, |a, b| Ok(subset(a, b) && subset(b, a))), Price::Sets, SETS),
    (
        "sets.intersects",
        |_, a| sets(a, |a, b| Ok(a.iter().any(|x| b.iter().any(|y| x.equals(&y))))),
        Price::Sets,
        SETS,
    ),
    ("optional.of", |_, a| Ok(Value::some(a[0].clone())), Price::One, &["(A) optional(A)"]),
    ("optional.none", |_, _| Ok(Value::Optional(None)), Price::One, &["() optional(A)"]),
    ("optional.ofNonZeroValue", non_zero, Price::One, &["(A) optional(A)"]),
    ("hasValue", has_value, Price::One, &["optional(A).() bool"]),
    ("value", value, Price::One, &["optional(A).() A"]),
    ("or", or, Price::One, &["optional(A).(optional(A)) optional(A)"]),
    ("orValue", or_value, Price::One, &["optional(A).(A) A"]),
    ("optional.unwrap", unwrap, Price::One, &["(list(optional(A))) list(A)"]),
    ("unwrapOpt", unwrap, Price::One, &["list(optional(A)).() list(A)"]),
];

fn list<'v, 'a>(value: &'v Value<'a>) -> Result<&'v List<'a>, EvalError> {
    match value {
        Value::List(list) => Ok(list),
        _ => Err(EvalError::no_overload()),
    }
}

/// The order of two items; what has none is an error.
pub(crate) fn compare<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<Ordering, EvalError> {
    a.order(b).ok_or_else(EvalError::no_overload)
}

fn is_sorted<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let list = list(&args[0])?;
    let mut sorted = true;
    for (a, b) in list.iter().zip(list.iter().skip(1)) {
        sorted &= compare(&a, &b)?.is_le();
    }
    Ok(Value::Bool(sorted))
}

fn sum<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let mut total: Option<Value<'a>> = None;
    for item in list(&args[0])?.iter() {
        let overflow = |what: &str| EvalError::new(format!("{what} overflow"));
        total = Some(match (total, item) {
            (None, item @ (Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_))) => item,
            (Some(Value::Int(a)), Value::Int(b)) => {
                Value::Int(a.checked_add(b).ok_or_else(|| overflow("integer"))?)
            }
            (Some(Value::Uint(a)), Value::Uint(b)) => {
                Value::Uint(a.checked_add(b).ok_or_else(|| overflow("unsigned integer"))?)
            }
            (Some(Value::Double(a)), Value::Double(b)) => Value::Double(a + b),
            (Some(Value::Duration(a)), Value::Duration(b)) => {
                Value::Duration(a.checked_add(b).ok_or_else(|| overflow("duration"))?)
            }
            _ => return Err(EvalError::no_overload()),
        });
    }
    // Upstream's sum of nothing has the type of the list's items; whole numbers are what lists mostly hold, and a
    // zero is equal to any other zero.
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Out<'a> {
    let mut best: Option<Value<'a>> = None;
    for item in list(&args[0])?.iter() {
        best = Some(match best {
            Some(best) if compare(&item, &best)? != wanted => best,
            _ => item,
        });
    }
    best.ok_or_else(|| EvalError::new(format!("{name} called on empty list")))
}

fn from(args: &[Value<'_>]) -> Result<Option<i64>, EvalError> {
    match args.get(2) {
        None => Ok(None),
        Some(Value::Int(i)) => Ok(Some(*i)),
        Some(_) => Err(EvalError::no_overload()),
    }
}

fn first_place<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Value::String(s), Value::String(part)) => {
            Ok(Value::Int(index_of(s, part, from(args)?.unwrap_or(0))?))
        }
        (Value::List(list), item) => {
            Ok(Value::Int(list.iter().position(|i| i.equals(item)).map_or(-1, |at| at as i64)))
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn last_place<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Value::String(s), Value::String(part)) => Ok(Value::Int(last_index_of(s, part, from(args)?)?)),
        (Value::List(list), item) => {
            let found = list.iter().enumerate().filter(|(_, i)| i.equals(item)).last();
            Ok(Value::Int(found.map_or(-1, |(at, _)| at as i64)))
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn includes<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    Ok(Value::Bool(match &args[0] {
        Value::List(list) => list.iter().any(|item| item.equals(&args[1])),
        one => one.equals(&args[1]),
    }))
}

fn end<'a>(args: &[Value<'a>], first: bool) -> Out<'a> {
    let list = list(&args[0])?;
    let found = if first { list.get(0) } else { list.len().checked_sub(1).and_then(|i| list.get(i)) };
    Ok(Value::Optional(found.map(std::rc::Rc::new)))
}

fn slice<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let list = list(&args[0])?;
    let (Value::Int(start), Value::Int(end)) = (&args[1], &args[2]) else {
        return Err(EvalError::no_overload());
    };
    let bad = |why: &str| EvalError::new(format!("cannot slice({start}, {end}), {why}"));
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return Err(bad("negative indexes not supported"));
    };
    if from > to {
        return Err(bad("start index must be less than or equal to end index"));
    }
    if to > list.len() {
        return Err(bad(&format!("list is length {}", list.len())));
    }
    Ok(Value::list((from..to).filter_map(|i| list.get(i)).collect()))
}

fn flatten<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    fn into<'a>(list: &List<'a>, depth: i64, out: &mut Vec<Value<'a>>) {
        for item in list.iter() {
            match item {
                Value::List(inner) if depth > 0 => into(&inner, depth - 1, out),
                other => out.push(other),
            }
        }
    }
    let depth = match args.get(1) {
        None => 1,
        Some(Value::Int(depth)) if *depth >= 0 => *depth,
        Some(Value::Int(_)) => return Err(EvalError::new("level must be non-negative")),
        Some(_) => return Err(EvalError::no_overload()),
    };
    let mut out = Vec::new();
    into(list(&args[0])?, depth, &mut out);
    Ok(Value::list(out))
}

fn distinct<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let mut out: Vec<Value<'a>> = Vec::new();
    for item in list(&args[0])?.iter() {
        if !out.iter().any(|known| known.equals(&item)) {
            out.push(item);
        }
    }
    Ok(Value::list(out))
}

fn reverse<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let mut items: Vec<_> = list(&args[0])?.iter().collect();
    items.reverse();
    Ok(Value::list(items))
}

fn sort<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let items: Vec<_> = list(&args[0])?.iter().map(|item| (item.clone(), item)).collect();
    sort_by(items)
}

/// The items in the order of their keys.
pub(crate) fn sort_by<'a>(mut items: Vec<(Value<'a>, Value<'a>)>) -> Out<'a> {
    for pair in items.windows(2) {
        // Items that have an order pair by pair are of one type; after this check no comparison fails.
        compare(&pair[0].0, &pair[1].0)?;
    }
    items.sort_by(|(a, _), (b, _)| a.order(b).unwrap_or(Ordering::Equal));
    Ok(Value::list(items.into_iter().map(|(_, item)| item).collect()))
}

fn range<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match &args[0] {
        Value::Int(n) if *n > MAX_RANGE => Err(EvalError::new(format!("range of {n} is beyond {MAX_RANGE}"))),
        Value::Int(n) => Ok(Value::list((0..*n).map(Value::Int).collect())),
        _ => Err(EvalError::no_overload()),
    }
}

fn sets<'a>(args: &[Value<'a>], of: impl Fn(&List<'a>, &List<'a>) -> Result<bool, EvalError>) -> Out<'a> {
    of(list(&args[0])?, list(&args[1])?).map(Value::Bool)
}

fn subset<'a>(a: &List<'a>, of: &List<'a>) -> bool {
    a.iter().all(|x| of.iter().any(|y| x.equals(&y)))
}

fn non_zero<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let zero = match &args[0] {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => true,
        Value::Double(d) => *d == 0.0,
        Value::Optional(of) => of.is_none(),
        Value::Struct(s) => s.fields.is_empty(),
        value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_)) => value.size() == 0,
        _ => false,
    };
    Ok(if zero { Value::Optional(None) } else { Value::some(args[0].clone()) })
}

fn optional<'v, 'a>(value: &'v Value<'a>) -> Result<Option<&'v Value<'a>>, EvalError> {
    match value {
        Value::Optional(of) => Ok(of.as_deref()),
        _ => Err(EvalError::no_overload()),
    }
}

fn has_value<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    Ok(Value::Bool(optional(&args[0])?.is_some()))
}

fn value<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    optional(&args[0])?.cloned().ok_or_else(|| EvalError::new("optional.none() dereference"))
}

fn or<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    Ok(if optional(&args[0])?.is_some() { args[0].clone() } else { args[1].clone() })
}

fn or_value<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    Ok(optional(&args[0])?.cloned().unwrap_or_else(|| args[1].clone()))
}

fn unwrap<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let mut out = Vec::new();
    for item in list(&args[0])?.iter() {
        out.extend(optional(&item)?.cloned());
    }
    Ok(Value::list(out))
}
