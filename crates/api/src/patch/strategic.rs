//! Strategic merge patch: a merge patch that knows which lists are merged, and by which key.
//!
//! Directives: `$patch: replace|delete|merge` in a map or in an item of a keyed list,
//! `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>` and `$retainKeys`.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{Error, place::Place};
use crate::schema::TypeRef;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList";
const ORDER_PREFIX: &str = "$setElementOrder";

type Object = Map<String, Value>;

/// Merges `patch` into a copy of `original`, an object of type `ty`.
pub fn patch(original: &Value, patch: &Value, ty: TypeRef<'_>) -> Result<Value, Error> {
    if patch.is_null() {
        return Ok(original.clone());
    }
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(Error::Malformed("invalid JSON document".to_owned()));
    };
    let mut patched = original.clone();
    merge_map(&mut patched, patch.clone(), Some(ty.into()))?;
    Ok(Value::Object(patched))
}

fn malformed<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Malformed(message.into()))
}

fn bad_order<T>() -> Result<T, Error> {
    malformed("invalid patch format of setElementOrder list")
}

fn no_merge_key<T>(item: &Value, key: &str) -> Result<T, Error> {
    malformed(format!("map: {item} does not contain declared merge key: {key}"))
}

fn child<'s>(place: Option<Place<'s>>, name: &str) -> Option<Place<'s>> {
    place.and_then(|p| p.entry(name))
}

fn merge_map(original: &mut Object, mut patch: Object, place: Option<Place<'_>>) -> Result<(), Error> {
    match patch.remove(PATCH) {
        None => {}
        Some(Value::String(directive)) if directive == "merge" => {}
        Some(Value::String(directive)) if directive == "replace" => {
            *original = cleaned(patch);
            return Ok(());
        }
        Some(Value::String(directive)) if directive == "delete" => {
            original.clear();
            return Ok(());
        }
        Some(other) => {
            return malformed(format!("unknown patch type: {other} in map: {}", Value::Object(patch)));
        }
    }
    retain_keys(original, &mut patch)?;
    let orders: Vec<String> = patch.keys().filter(|k| k.starts_with(ORDER_PREFIX)).cloned().collect();
    for directive in orders {
        set_element_order(original, &mut patch, &directive, place)?;
    }
    for (key, change) in patch {
        if key.starts_with(DELETE_PREFIX) {
            let Some(field) = key.strip_prefix(DELETE_PREFIX).and_then(|rest| rest.strip_prefix('/')) else {
                return malformed("invalid patch format of primitive list");
            };
            let Value::Array(doomed) = change else {
                return malformed("invalid patch format of primitive list");
            };
            if let Some(Value::Array(items)) = original.get_mut(field) {
                let doomed: HashSet<String> = doomed.iter().map(Value::to_string).collect();
                items.retain(|item| !doomed.contains(&item.to_string()));
            }
            continue;
        }
        match (original.get_mut(&key), change) {
            (_, Value::Null) => {
                original.remove(&key);
            }
            (Some(Value::Object(old)), Value::Object(new)) => {
                let place = child(place, &key);
                if place.is_some_and(Place::patch_replaces) && !new.contains_key(PATCH) {
                    *old = cleaned(new);
                } else {
                    merge_map(old, new, place)?;
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let place = child(place, &key);
                let merged = merge_list(std::mem::take(old), new, place)?;
                original.insert(key, Value::Array(merged));
            }
            (_, mut fresh) => {
                if clean(&mut fresh) {
                    original.insert(key, fresh);
                } else {
                    original.remove(&key);
                }
            }
        }
    }
    Ok(())
}

/// `$retainKeys` lists every field that may stay; what the patch itself sets must be among them.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || Error::Malformed("invalid patch format of retainKeys".to_owned());
    let Value::Array(keys) = keys else { return Err(bad()) };
    let keep: Vec<&str> = keys.iter().map(|k| k.as_str().ok_or_else(bad)).collect::<Result<_, _>>()?;
    let stray = patch.iter().any(|(key, value)| {
        !value.is_null()
            && !key.starts_with(DELETE_PREFIX)
            && !key.starts_with(ORDER_PREFIX)
            && !keep.contains(&key.as_str())
    });
    if stray {
        return Err(bad());
    }
    original.retain(|key, _| keep.contains(&key.as_str()));
    Ok(())
}

/// Merges one list and brings it into the order that the patch asks for. Items that only the server has keep
/// their place among the others.
fn set_element_order(
    original: &mut Object,
    patch: &mut Object,
    directive: &str,
    place: Option<Place<'_>>,
) -> Result<(), Error> {
    let order = match patch.remove(directive) {
        Some(Value::Array(order)) => order,
        _ => return bad_order(),
    };
    let Some(field) = directive.strip_prefix(ORDER_PREFIX).and_then(|rest| rest.strip_prefix('/')) else {
        return bad_order();
    };
    let list = |value: Option<Value>| match value {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(_) => bad_order(),
    };
    if patch.get(field).is_some_and(Value::is_null) {
        // The list is deleted outright; there is nothing to order.
        return Ok(());
    }
    let change = list(patch.remove(field))?;
    let place = child(place, field);
    let key = place.and_then(Place::patch_merge_key);
    follows(change.as_deref().unwrap_or_default(), &order, key)?;
    let current = list(original.remove(field))?;
    let before = current.clone().unwrap_or_default();
    let merged = match (current, change) {
        (None, None) => return Ok(()),
        (Some(current), None) => current,
        (None, Some(change)) => cleaned_items(change),
        (Some(current), Some(change)) => merge_list(current, change, place)?,
    };
    original.insert(field.to_owned(), Value::Array(arrange(merged, &order, &before, key)));
    Ok(())
}

/// The patch's items must come in the order that it asks for.
fn follows(items: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Error> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter().map(|slot| identity(slot, key));
    for item in items.iter().filter(|item| item.get(PATCH).is_none()) {
        let wanted = identity(item, key);
        if wanted.is_none() || !rest.any(|slot| slot == wanted) {
            return malformed(format!(
                "The order in patch list:\n{}\n doesn't match {ORDER_PREFIX} list:\n{}\n",
                Value::from(items),
                Value::from(order)
            ));
        }
    }
    Ok(())
}

/// What makes an item that item: the value of its merge key, or for a scalar itself. `None` without the key.
fn identity(item: &Value, key: Option<&str>) -> Option<String> {
    match key {
        None => Some(item.to_string()),
        Some(key) => item.get(key).map(Value::to_string),
    }
}

/// Where each item stands; the first of equals counts.
fn places(items: &[Value], key: Option<&str>) -> HashMap<String, usize> {
    let mut places = HashMap::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        if let Some(identity) = identity(item, key) {
            places.entry(identity).or_insert(place);
        }
    }
    places
}

fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    place: Option<Place<'_>>,
) -> Result<Vec<Value>, Error> {
    let Some(place) = place.filter(|s| s.patch_merges()) else {
        return Ok(cleaned_items(patch));
    };
    let Some(first) = original.first().or(patch.first()) else { return Ok(original) };
    if first.is_array() {
        return Err(Error::Unprocessable("lists of lists are not supported".to_owned()));
    }
    let maps = first.is_object();
    if original.iter().chain(&patch).any(|item| item.is_object() != maps || item.is_array()) {
        return malformed(format!(
            "list element types are not identical: {} {}",
            Value::Array(original),
            Value::Array(patch)
        ));
    }
    let before = original.clone();
    if !maps {
        let order = patch.clone();
        let mut seen = HashSet::new();
        let merged = original.into_iter().chain(patch).filter(|item| seen.insert(item.to_string())).collect();
        return Ok(arrange(merged, &order, &before, None));
    }
    let Some(key) = place.patch_merge_key() else {
        return malformed("cannot merge lists without merge key");
    };
    let mut merged = original;
    let mut additions = Vec::new();
    let mut doomed = HashSet::new();
    let mut replace = false;
    for item in patch {
        let Value::Object(map) = &item else { continue };
        match map.get(PATCH) {
            None => additions.push(item),
            Some(Value::String(directive)) if directive == "delete" => match map.get(key) {
                Some(id) => {
                    doomed.insert(id.to_string());
                }
                None => return no_merge_key(&item, key),
            },
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "merge" => {
                return malformed("merging lists cannot yet be specified in the patch");
            }
            Some(other) => return malformed(format!("unknown patch type: {other} in map: {item}")),
        }
    }
    if replace {
        return Ok(cleaned_items(additions));
    }
    merged.retain(|item| identity(item, Some(key)).is_none_or(|id| !doomed.contains(&id)));
    let order: Vec<Value> = additions
        .iter()
        .map(|item| Value::Object(item.get(key).map(|v| (key.to_owned(), v.clone())).into_iter().collect()))
        .collect();
    let mut places = places(&merged, Some(key));
    for item in additions {
        let Some(id) = identity(&item, Some(key)) else { return no_merge_key(&item, key) };
        match (places.get(&id).and_then(|place| merged.get_mut(*place)), item) {
            (Some(Value::Object(old)), Value::Object(map)) => merge_map(old, map, place.element())?,
            (_, mut fresh) => {
                clean(&mut fresh);
                places.insert(id, merged.len());
                merged.push(fresh);
            }
        }
    }
    Ok(arrange(merged, &order, &before, Some(key)))
}

/// Orders `merged`: items named in `order` come in that order; the others stay where they stood in `before`
/// relative to them.
fn arrange(merged: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let (order, before) = (places(order, key), places(before, key));
    // Beside each item stands its place in `order` and in `before`.
    let mut ordered = Vec::new();
    let mut others = Vec::new();
    for item in merged {
        let id = identity(&item, key).unwrap_or_default();
        let stood = before.get(&id).copied();
        match order.get(&id) {
            Some(place) => ordered.push((*place, stood, item)),
            None => others.push((stood, item)),
        }
    }
    ordered.sort_by_key(|(place, ..)| *place);
    others.sort_by_key(|(stood, _)| stood.unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(ordered.len() + others.len());
    let mut ordered = ordered.into_iter().map(|(_, stood, item)| (stood, item)).peekable();
    let mut others = others.into_iter().peekable();
    while let (Some((next, _)), Some((other, _))) = (ordered.peek(), others.peek()) {
        let other_first = matches!((other, next), (Some(other), Some(next)) if other < next);
        let taken = if other_first { others.next() } else { ordered.next() };
        result.extend(taken.map(|(_, item)| item));
    }
    result.extend(ordered.chain(others).map(|(_, item)| item));
    result
}

/// Makes a part of the patch that meets nothing in the original into a plain value: nulls and directives go.
/// `false`: the whole value was a directive.
fn clean(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => {
            if map.get(PATCH).is_some_and(|directive| directive != "merge") {
                return false;
            }
            *map = cleaned(std::mem::take(map));
        }
        Value::Array(items) => *items = cleaned_items(std::mem::take(items)),
        _ => {}
    }
    true
}

fn cleaned(mut map: Object) -> Object {
    let directive = |key: &str| {
        key == PATCH || key == RETAIN_KEYS || key.starts_with(ORDER_PREFIX) || key.starts_with(DELETE_PREFIX)
    };
    map.retain(|key, value| !directive(key) && !value.is_null() && clean(value));
    map
}

fn cleaned_items(mut items: Vec<Value>) -> Vec<Value> {
    items.retain_mut(clean);
    items
}

#[cfg(test)]
#[path = "strategic_tests.rs"]
mod tests;
