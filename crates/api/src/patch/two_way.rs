//! The strategic merge patch that leads from one object to another.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::place::Place;
use crate::schema::TypeRef;

type Object = Map<String, Value>;

/// What changes `original` into `modified`, objects of type `ty`: [`super::strategic::patch`] with it does.
///
/// It says nothing about what both have in common, so it leaves alone what others change there meanwhile. A list that
/// merges must name each of its items once, as the API demands.
pub fn patch(original: &Value, modified: &Value, ty: TypeRef<'_>) -> Value {
    match (original, modified) {
        (Value::Object(original), Value::Object(modified)) => {
            maps(original, modified, Some(ty.into())).into()
        }
        _ => modified.clone(),
    }
}

fn maps(original: &Object, modified: &Object, place: Option<Place<'_>>) -> Object {
    let mut patch = Object::new();
    let gone = original.keys().filter(|key| !modified.contains_key(*key));
    patch.extend(gone.map(|key| (key.clone(), Value::Null)));
    for (key, new) in modified {
        let place = place.and_then(|place| place.entry(key));
        match (original.get(key), new) {
            (Some(old), new) if old == new => {}
            (Some(Value::Object(old)), Value::Object(new)) if !place.is_some_and(Place::patch_replaces) => {
                patch.insert(key.clone(), maps(old, new, place).into());
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                match place.filter(|place| place.patch_merges()) {
                    Some(place) => lists(key, old, new, place, &mut patch),
                    None => drop(patch.insert(key.clone(), new.clone().into())),
                }
            }
            (_, new) => drop(patch.insert(key.clone(), new.clone())),
        }
    }
    patch
}

/// Adds what changes a list that merges.
fn lists(field: &str, old: &[Value], new: &[Value], place: Place<'_>, patch: &mut Object) {
    let Some(key) = place.patch_merge_key() else { return scalars(field, old, new, patch) };
    let known = |items: &[Value]| items.iter().map(|item| item.get(key).cloned()).collect::<Option<Vec<_>>>();
    let (Some(before), Some(after)) = (known(old), known(new)) else {
        // Items without their key can only be replaced together.
        let all = [json!({"$patch": "replace"})].into_iter().chain(new.iter().cloned());
        return drop(patch.insert(field.to_owned(), all.collect()));
    };
    let named = |id: &Value| Object::from_iter([(key.to_owned(), id.clone())]);
    let mut items: Vec<Value> = Vec::new();
    for (id, item) in after.iter().zip(new) {
        match before.iter().position(|other| other == id).map(|at| &old[at]) {
            Some(same) if same == item => {}
            same => items.push(match (same, item) {
                (Some(Value::Object(same)), Value::Object(item)) => {
                    let mut change = maps(same, item, place.element());
                    change.extend(named(id));
                    change.into()
                }
                _ => item.clone(),
            }),
        }
    }
    for id in before.iter().filter(|id| !after.contains(id)) {
        let mut gone = named(id);
        gone.insert("$patch".to_owned(), "delete".into());
        items.push(gone.into());
    }
    if !items.is_empty() {
        patch.insert(field.to_owned(), items.into());
    }
    order(field, after.iter().map(|id| named(id).into()).collect(), patch);
}

fn scalars(field: &str, old: &[Value], new: &[Value], patch: &mut Object) {
    let (before, after): (HashSet<&Value>, HashSet<&Value>) = (old.iter().collect(), new.iter().collect());
    let added: Vec<Value> = new.iter().filter(|item| !before.contains(item)).cloned().collect();
    let gone: Vec<Value> = old.iter().filter(|item| !after.contains(item)).cloned().collect();
    if !added.is_empty() {
        patch.insert(field.to_owned(), added.into());
    }
    if !gone.is_empty() {
        patch.insert(format!("$deleteFromPrimitiveList/{field}"), gone.into());
    }
    order(field, new.to_vec(), patch);
}

fn order(field: &str, order: Vec<Value>, patch: &mut Object) {
    if !order.is_empty() {
        patch.insert(format!("$setElementOrder/{field}"), order.into());
    }
}

#[cfg(test)]
#[path = "two_way_tests.rs"]
mod tests;
