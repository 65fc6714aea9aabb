//! The walks over objects that ownership needs: which fields there are, which changed, merging and pruning.

use std::collections::HashMap;

use serde_json::Value;

use super::set::{Node, Set, child, field, is_member, node};
use crate::{
    patch::place::{Granular, Place},
    schema::TypeRef,
};

/// The type of a place; nothing is known below an unknown field.
type At<'s> = Option<Place<'s>>;

fn atomic(place: At<'_>) -> bool {
    place.is_some_and(Place::atomic)
}

fn entry<'s>(place: At<'s>, name: &str) -> At<'s> {
    place.and_then(|p| p.entry(name))
}

fn granular(place: At<'_>) -> Option<Granular<'_>> {
    place.and_then(Place::granular_list)
}

/// Why a list's item has no path element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ItemError {
    #[error("associative list with keys may not have non-map elements")]
    NotAMap,
    #[error(
        "associative list with keys has an element that omits key field {0:?} (and doesn't have default value)"
    )]
    MissingKey(String),
    #[error("associative list without keys has an element that's not a scalar")]
    NotAScalar,
}

/// The path element of an item in a granular list.
fn element(item: &Value, list: Granular<'_>) -> Result<String, ItemError> {
    let Some(names) = list.keys else {
        return match item {
            Value::Object(_) | Value::Array(_) | Value::Null => Err(ItemError::NotAScalar),
            scalar => Ok(format!("v:{scalar}")),
        };
    };
    let Value::Object(item) = item else { return Err(ItemError::NotAMap) };
    let mut keys = Node::new();
    for key in names {
        let value = match item.get(key.as_ref()) {
            Some(value) if !value.is_null() => value.clone(),
            _ => list.key_default(key).ok_or_else(|| ItemError::MissingKey(key.to_string()))?,
        };
        keys.insert(key.to_string(), value);
    }
    Ok(format!("k:{}", Value::Object(keys)))
}

/// A problem in an applied configuration, with the place it is at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub(super) struct ConfigError {
    path: String,
    problem: String,
}

/// The fields that an applied configuration speaks of.
pub(super) fn fields(config: &Value, ty: TypeRef<'_>) -> Result<Node, ConfigError> {
    below(config, Some(ty.into()), &mut String::new())
}

fn below(value: &Value, place: At<'_>, path: &mut String) -> Result<Node, ConfigError> {
    let mut set = Node::new();
    match value {
        Value::Object(map) if !atomic(place) => {
            for (key, value) in map {
                let length = path.len();
                path.push('.');
                path.push_str(key);
                let inner = below(value, entry(place, key), path)?;
                path.truncate(length);
                let named = place.is_some_and(|s| s.field(key).is_some());
                let empty = value.is_null() || value.as_object().is_some_and(|m| m.is_empty());
                let member = !named || empty || leaf(value, entry(place, key));
                if let Some(found) = node(member, inner) {
                    set.insert(field(key), Value::Object(found));
                }
            }
        }
        Value::Array(items) => {
            let Some(list) = granular(place) else { return Ok(set) };
            for (index, item) in items.iter().enumerate() {
                let fail = |problem| ConfigError { path: path.clone(), problem };
                let element = element(item, list).map_err(|e| fail(format!("element {index}: {e}")))?;
                if set.contains_key(&element) {
                    let shown = Set([(element, Value::Object(Node::new()))].into_iter().collect());
                    return Err(fail(format!("duplicate entries for key {}", shown.paths().concat())));
                }
                let inner = below(item, Some(list.item), path)?;
                set.insert(element, Value::Object(node(true, inner).unwrap_or_default()));
            }
        }
        _ => {}
    }
    Ok(set)
}

/// The places of fields that objects of the type do not have.
pub(super) fn undeclared(config: &Value, ty: TypeRef<'_>) -> Vec<String> {
    let mut found = Vec::new();
    collect_undeclared(config, Some(ty.into()), &mut String::new(), &mut found);
    found
}

fn collect_undeclared(value: &Value, place: At<'_>, path: &mut String, found: &mut Vec<String>) {
    let Some(place) = place else { return };
    let length = path.len();
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                path.push('.');
                path.push_str(key);
                if place.lacks(key) {
                    found.push(path.clone());
                } else {
                    collect_undeclared(value, place.entry(key), path, found);
                }
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                collect_undeclared(item, place.element(), path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// The places where a configuration sets a map or list that is only replaced as a whole.
pub(super) fn atomics(config: &Value, ty: TypeRef<'_>) -> Vec<String> {
    let mut found = Vec::new();
    collect_atomics(config, Some(ty.into()), &mut String::new(), &mut found);
    found
}

fn collect_atomics(value: &Value, place: At<'_>, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match value {
        Value::Object(_) if atomic(place) => found.push(path.clone()),
        Value::Object(map) => {
            for (key, value) in map {
                path.push('.');
                path.push_str(key);
                collect_atomics(value, entry(place, key), path, found);
                path.truncate(length);
            }
        }
        Value::Array(items) => match granular(place) {
            Some(list) => {
                for (index, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{index}]"));
                    collect_atomics(item, Some(list.item), path, found);
                    path.truncate(length);
                }
            }
            None if place.is_some() => found.push(path.clone()),
            None => {}
        },
        _ => {}
    }
}

/// Whether the value is owned as one.
fn leaf(value: &Value, place: At<'_>) -> bool {
    match value {
        Value::Object(_) => atomic(place),
        Value::Array(_) => granular(place).is_none(),
        _ => true,
    }
}

/// What an operation did to an object, as sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Comparison {
    /// Fields that were added or have another value.
    pub(super) written: Set,
    pub(super) removed: Set,
}

impl Comparison {
    pub(super) fn is_empty(&self) -> bool {
        self.written.is_empty() && self.removed.is_empty()
    }

    /// Leaves out what nobody owns, and what cannot be written through this endpoint.
    pub(super) fn ownable(mut self, ignored: &Set) -> Self {
        for set in [&mut self.written, &mut self.removed] {
            if !set.is_empty() {
                set.subtract_recursive(ignored);
                set.subtract(&super::NOT_OWNED);
            }
        }
        self
    }
}

pub(super) fn compare(old: &Value, new: &Value, ty: TypeRef<'_>) -> Comparison {
    let mut comparison = Comparison::default();
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        compare_maps(old, new, Some(ty.into()), &mut comparison);
    }
    comparison
}

/// Compares one element of both sides and notes the outcome under it.
fn compare_element(
    element: String,
    old: Option<&Value>,
    new: Option<&Value>,
    place: At<'_>,
    out: &mut Comparison,
) {
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            out.written.0.insert(element, Value::Object(whole(new, place)));
        }
        (Some(old), None) => {
            out.removed.0.insert(element, Value::Object(whole(old, place)));
        }
        (Some(old), Some(new)) => {
            let mut inner = Comparison::default();
            match (old, new) {
                (Value::Object(old), Value::Object(new)) if !atomic(place) => {
                    compare_maps(old, new, place, &mut inner);
                }
                (Value::Array(old), Value::Array(new)) if let Some(list) = granular(place) => {
                    compare_lists(old, new, list, &mut inner);
                }
                (old, new) => {
                    if old != new {
                        out.written.0.insert(element, Value::Object(whole(new, place)));
                    }
                    return;
                }
            }
            match (inner.written.is_empty(), inner.removed.is_empty()) {
                (true, true) => {}
                (false, true) => {
                    out.written.0.insert(element, Value::Object(inner.written.0));
                }
                (written_empty, false) => {
                    if !written_empty {
                        out.written.0.insert(element.clone(), Value::Object(inner.written.0));
                    }
                    out.removed.0.insert(element, Value::Object(inner.removed.0));
                }
            }
        }
    }
}

fn compare_maps(old: &Node, new: &Node, place: At<'_>, out: &mut Comparison) {
    let gone =
        old.iter().filter(|(key, _)| !new.contains_key(*key)).map(|(key, value)| (key, Some(value), None));
    let kept = new.iter().map(|(key, value)| (key, old.get(key), Some(value)));
    for (key, before, after) in gone.chain(kept) {
        if before == after {
            continue;
        }
        let place = entry(place, key);
        let empty = match before.xor(after) {
            Some(one) if place.is_some_and(Place::always_present) => emptied(one),
            _ => None,
        };
        compare_element(field(key), before.or(empty.as_ref()), after.or(empty.as_ref()), place, out);
    }
}

/// The empty value of the same kind, if there is one.
fn emptied(value: &Value) -> Option<Value> {
    match value {
        Value::Object(_) => Some(Value::Object(Node::new())),
        Value::Array(_) => Some(Value::Array(Vec::new())),
        _ => None,
    }
}

fn compare_lists(old: &[Value], new: &[Value], list: Granular<'_>, out: &mut Comparison) {
    let (old, new) = (by_element(old, list), by_element(new, list));
    let item = Some(list.item);
    let (mut old, mut new) = (old.as_slice(), new.as_slice());
    // Both sides are sorted by element; equal elements are neighbours.
    while let Some(next) = [old.first(), new.first()].into_iter().flatten().map(|(e, _)| e).min() {
        let (ours, rest) = old.split_at(old.partition_point(|(e, _)| e <= next));
        old = rest;
        let (theirs, rest) = new.split_at(new.partition_point(|(e, _)| e <= next));
        new = rest;
        match (ours, theirs) {
            ([], [(_, after)]) => compare_element(next.clone(), None, Some(*after), item, out),
            ([(_, before)], []) => compare_element(next.clone(), Some(*before), None, item, out),
            ([(_, before)], [(_, after)]) => {
                compare_element(next.clone(), Some(*before), Some(*after), item, out);
            }
            // Items that share their keys can only be owned together.
            (_, []) => {
                out.removed.0.insert(next.clone(), Value::Object(Node::new()));
            }
            (ours, theirs) => {
                if !ours.iter().map(|(_, v)| v).eq(theirs.iter().map(|(_, v)| v)) {
                    out.written.0.insert(next.clone(), Value::Object(Node::new()));
                }
            }
        }
    }
}

/// The items with their elements, sorted by them. Items without one cannot be owned.
fn by_element<'a>(items: &'a [Value], list: Granular<'_>) -> Vec<(String, &'a Value)> {
    let mut sorted: Vec<_> = items.iter().filter_map(|v| element(v, list).ok().map(|e| (e, v))).collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    sorted
}

/// The set of a value that is there as a whole: it and all that is below it.
fn whole(value: &Value, place: At<'_>) -> Node {
    let mut set = Node::new();
    match value {
        Value::Object(map) if !atomic(place) => {
            for (key, value) in map {
                set.insert(field(key), Value::Object(whole(value, entry(place, key))));
            }
        }
        Value::Array(items) if let Some(list) = granular(place) => {
            for item in items {
                if let Ok(element) = element(item, list) {
                    set.insert(element, Value::Object(whole(item, Some(list.item))));
                }
            }
        }
        _ => {}
    }
    node(true, set).unwrap_or_default()
}

/// Merges an applied configuration into the live object.
pub(super) fn merge(live: &mut Value, config: &Value, place: At<'_>) {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) if !atomic(place) => {
            for (key, wanted) in config {
                let place = entry(place, key);
                match live.get_mut(key) {
                    // Says nothing about what is in it; a scalar is cleared.
                    _ if wanted.is_null() => {
                        if live.get(key).is_some_and(|value| leaf(value, place)) {
                            live.remove(key);
                        }
                    }
                    Some(value) => merge(value, wanted, place),
                    None => {
                        live.insert(key.clone(), wanted.clone());
                    }
                }
            }
        }
        (Value::Array(live), Value::Array(config)) if let Some(list) = granular(place) => {
            merge_lists(live, config, list);
        }
        (live, config) => *live = config.clone(),
    }
}

/// The configuration's items come in its order; items that only the live list has keep their place among
/// those that both have.
fn merge_lists(live: &mut Vec<Value>, config: &[Value], list: Granular<'_>) {
    let before: Vec<(Option<String>, Value)> =
        std::mem::take(live).into_iter().map(|item| (element(&item, list).ok(), item)).collect();
    let position: std::collections::HashMap<String, usize> =
        config.iter().enumerate().filter_map(|(i, item)| Some((element(item, list).ok()?, i))).collect();
    let mut wanted: Vec<(Value, bool)> = config.iter().map(|item| (item.clone(), false)).collect();
    for (element, item) in &before {
        if let Some(at) = element.as_ref().and_then(|e| position.get(e))
            && let Some((slot, shared)) = wanted.get_mut(*at)
            && !*shared
        {
            let mut merged = item.clone();
            merge(&mut merged, slot, Some(list.item));
            *slot = merged;
            *shared = true;
        }
    }
    let shared: Vec<usize> =
        wanted.iter().enumerate().filter(|(_, (_, both))| *both).map(|(at, _)| at).collect();
    let mut shared = shared.into_iter().peekable();
    let mut wanted = wanted.into_iter().map(|(item, _)| item);
    let mut given = 0;
    for (element, item) in before {
        match element.as_ref().and_then(|e| position.get(e)) {
            None => live.push(item),
            // An item that the configuration moves to the front is skipped here: it has come, or comes with
            // the others.
            Some(at) => {
                if shared.next_if_eq(at).is_some() {
                    live.extend(wanted.by_ref().take(at + 1 - given));
                    given = at + 1;
                }
            }
        }
    }
    live.extend(wanted);
}

/// What may go from a place.
pub(super) struct Cut<'a> {
    /// What stays there in any case.
    pub(super) left: Option<&'a Value>,
    /// Nothing but this goes; `None`: anything may.
    pub(super) last: Option<&'a Node>,
    /// What others hold.
    pub(super) managed: Vec<&'a Node>,
}

/// Removes from `value` what may go.
///
/// A struct field counts as a member of a set that has members inside it. A map or list that loses its last
/// entry goes too.
pub(super) fn prune(value: &mut Value, place: At<'_>, cut: &Cut<'_>) {
    match value {
        Value::Object(map) if !atomic(place) => map.retain(|key, value| {
            let named = place.is_some_and(|s| s.field(key).is_some());
            let left = cut.left.and_then(|left| left.get(key));
            !cut.takes(value, entry(place, key), (&field(key), named), left)
        }),
        Value::Array(items) => {
            let Some(list) = granular(place) else { return };
            let left = cut.left.and_then(Value::as_array).into_iter().flatten();
            let left: HashMap<_, _> =
                left.filter_map(|item| Some((element(item, list).ok()?, item))).collect();
            items.retain_mut(|item| {
                let Ok(element) = element(item, list) else { return true };
                !cut.takes(item, Some(list.item), (&element, false), left.get(&element).copied())
            });
        }
        _ => {}
    }
}

impl Cut<'_> {
    /// Removes what may go from one element of the place. Whether it goes as a whole.
    fn takes(
        &self,
        value: &mut Value,
        place: At<'_>,
        (element, named): (&str, bool),
        left: Option<&Value>,
    ) -> bool {
        let last = match self.last.map(|last| child(last, element)) {
            Some(None) => return false,
            Some(last) => last,
            None => None,
        };
        let managed: Vec<&Node> = self.managed.iter().filter_map(|set| child(set, element)).collect();
        let is_in = |set: &Node| named || is_member(set);
        if left.is_none() && last.is_none_or(is_in) && !managed.iter().any(|set| is_in(set)) {
            return true;
        }
        let filled = |value: &Value| match value {
            Value::Object(map) => !map.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => false,
        };
        let before = filled(value);
        let kept = left.is_some() || managed.iter().any(|set| is_member(set));
        prune(value, place, &Cut { left, last, managed });
        before && !filled(value) && !kept
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
