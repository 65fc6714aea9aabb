//! What running costs, in upstream's units.

use crate::library::{Opaque, Price};
use crate::syntax::ast::FoldKind;
use crate::value::Value;

/// Reading a variable or a field.
pub(crate) const STEP: u64 = 1;
pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const STRUCT: u64 = 40;
/// Reading a character of a text.
pub(crate) const TEXT: f64 = 0.1;
/// A character of a regular expression.
pub(crate) const REGEX: f64 = 0.25;
/// A question to the authorizer: an expression may ask two.
pub(crate) const CHECK: u64 = 350_000;
/// Compiling a pattern that is not in the source. Upstream takes nothing for it; but there are patterns that take
/// longer to compile than a thousand steps, and a walk may bring a new one with each item.
pub(crate) const PATTERN: u64 = 1_000;
/// Looking into an optional value: whether it has one, which, and wrapping what comes of it.
pub(crate) const OPT_MAP: u64 = 4;

pub(crate) fn scaled(size: u64, factor: f64) -> u64 {
    // A float beyond the range saturates.
    (size as f64 * factor).ceil() as u64
}

/// A selector's parts: a requirement for each two characters.
pub(crate) fn selector(length: u64) -> u64 {
    let requirements = scaled(length, 0.5);
    LIST.saturating_add(scaled(length, TEXT)).saturating_add(requirements.saturating_mul(LIST + STRUCT))
}

/// What a call costs, if its arguments tell.
pub(crate) fn before(price: Price, args: &[Value<'_>]) -> Option<u64> {
    let size = |at: usize| args.get(at).map_or(1, Value::size);
    let text = |at: usize| scaled(size(at), TEXT);
    Some(match price {
        Price::One => 1,
        Price::Map | Price::Read => match &args.first() {
            // `cidr.ip()` looks nothing up.
            Some(Value::Opaque(_)) => 1,
            _ => text(0),
        },
        Price::ReadTwice | Price::Replace | Price::Split => scaled(size(0), 2.0 * TEXT),
        Price::Walk => args.first().map_or(1, traversal),
        Price::Find | Price::Matches => {
            scaled(size(0).saturating_add(1), TEXT).saturating_mul(scaled(size(1), REGEX))
        }
        Price::Contains => text(0).saturating_mul(text(1)),
        Price::Affix | Price::Format | Price::Quote => text(0),
        Price::StringToBytes => match args.first() {
            Some(Value::String(_)) => text(0),
            _ => 1,
        },
        Price::BytesToString => match args.first() {
            Some(Value::Bytes(_)) => text(0),
            _ => 1,
        },
        Price::In => match args.get(1) {
            Some(Value::List(list)) => list.len() as u64,
            _ => 1,
        },
        Price::Compare => scaled(size(0).min(size(1)), TEXT),
        Price::Add => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => scaled(size(0).saturating_add(size(1)), TEXT),
            _ => 1,
        },
        Price::ContainsIp | Price::ContainsCidr => {
            let mut cost = scaled(size(0) * 2, TEXT);
            if price == Price::ContainsCidr {
                cost += text(0) + 1;
            }
            match args.get(1) {
                Some(Value::String(_)) => cost.saturating_add(text(1)),
                _ => cost,
            }
        }
        Price::Validate => {
            let pattern = match args.first() {
                Some(Value::Opaque(o)) => match &**o {
                    Opaque::Format(format) => format.pattern(),
                    _ => 1,
                },
                _ => 1,
            };
            scaled(size(1).saturating_add(1), TEXT).saturating_mul(scaled(pattern, REGEX))
        }
        Price::Check => CHECK,
        Price::Selector => selector(size(1)),
        Price::Pairs => size(0).saturating_mul(size(0)).saturating_mul(2).saturating_add(LIST + 1),
        Price::Sets => size(0).saturating_mul(size(1)).saturating_add(1),
        Price::Flatten => match args.first() {
            Some(Value::List(list)) => list.iter().map(|i| i.size()).sum::<u64>().saturating_add(LIST + 1),
            _ => 1,
        },
        Price::Join | Price::Output => return None,
    })
}

/// What a call costs, if only its result tells.
pub(crate) fn after(price: Price, result: &Value<'_>) -> u64 {
    match price {
        Price::Join => scaled(result.size(), 2.0 * TEXT),
        _ => result.size().saturating_add(LIST + 1),
    }
}

/// All of a tree, once.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(_) | Value::Bytes(_) => (value.size() as f64 * TEXT) as u64,
        Value::List(list) => list.iter().map(|item| traversal(&item)).fold(0, u64::saturating_add),
        Value::Map(map) => map
            .keys()
            .iter()
            .map(|key| traversal(&key.value()).saturating_add(map.get(key).map_or(0, |v| traversal(&v))))
            .fold(0, u64::saturating_add),
        _ => 1,
    }
}

/// Asking whether a walk goes on: the quantifiers look at what they know.
pub(crate) fn fold_condition(kind: FoldKind) -> u64 {
    match kind {
        FoldKind::All => 2,
        FoldKind::Exists => 3,
        _ => 0,
    }
}

/// Noting what an item's body has given.
pub(crate) fn fold_step(kind: FoldKind) -> u64 {
    match kind {
        FoldKind::All | FoldKind::Exists => 1,
        FoldKind::ExistsOne => 2,
        FoldKind::List | FoldKind::SortBy => 2 + LIST,
        FoldKind::TransformMap | FoldKind::TransformMapEntry => 3,
    }
}

/// Giving the result of a walk.
pub(crate) fn fold_result(kind: FoldKind) -> u64 {
    match kind {
        FoldKind::ExistsOne => 2,
        _ => 1,
    }
}
