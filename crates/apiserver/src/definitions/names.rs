//! Who has which name: within a group, no two definitions may share one.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};
use tiphys_api::meta;

/// The names that definitions were given, by group.
#[derive(Debug, Default)]
pub(super) struct Names {
    groups: HashMap<String, Group>,
}

#[derive(Debug, Default)]
struct Group {
    /// Plurals, singulars and short names, with the definition that has each.
    resources: HashMap<String, String>,
    /// Kinds and list kinds.
    kinds: HashMap<String, String>,
    /// What each definition has of both.
    had: HashMap<String, [BTreeSet<String>; 2]>,
    /// Definitions that did not get all of the names that they want.
    waiting: BTreeSet<String>,
}

/// Which of its names a definition gets.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    /// `status.acceptedNames`.
    pub(super) accepted: Value,
    /// Reason and message of a conflict.
    pub(super) conflict: Option<(&'static str, String)>,
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

impl Names {
    /// Decides which of the names in `spec.names` a definition may have, beside those that it has.
    pub(super) fn decide(&self, definition: &Value, is_builtin: impl Fn(&str) -> bool) -> Outcome {
        let (wanted, name) = (&definition["spec"]["names"], meta::name(definition));
        let group = self.groups.get(meta::text(definition, &["spec", "group"]));
        let mut accepted = match &definition["status"]["acceptedNames"] {
            Value::Object(there) => Value::Object(there.clone()),
            _ => json!({}),
        };
        let mut conflict = None;
        let taken = |of_kinds: bool, text: &str| {
            let owners = group.map(|g| if of_kinds { &g.kinds } else { &g.resources });
            let other = owners.and_then(|o| o.get(text)).is_some_and(|owner| owner != name);
            other || (!of_kinds && is_builtin(text))
        };
        for (field, of_kinds, reason) in
            [("plural", false, "PluralConflict"), ("singular", false, "SingularConflict")]
                .into_iter()
                .chain([("kind", true, "KindConflict"), ("listKind", true, "ListKindConflict")])
        {
            let text = wanted[field].as_str().unwrap_or_default();
            if accepted[field] != text && taken(of_kinds, text) {
                conflict = Some((reason, format!("{text:?} is already in use")));
            } else {
                accepted[field] = text.into();
            }
            if field == "singular" {
                let owned: Vec<&str> = texts(&definition["status"]["acceptedNames"]["shortNames"]).collect();
                let new = texts(&wanted["shortNames"]).filter(|short| !owned.contains(short));
                let lost: Vec<String> = new
                    .filter(|short| taken(false, short))
                    .map(|short| format!("{short:?} is already in use"))
                    .collect();
                match lost.as_slice() {
                    [] => put(&mut accepted, "shortNames", &wanted["shortNames"]),
                    [one] => conflict = Some(("ShortNamesConflict", one.clone())),
                    many => conflict = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
                }
            }
        }
        put(&mut accepted, "categories", &wanted["categories"]);
        Outcome { accepted, conflict }
    }

    /// Notes which names a definition has now. Returns the definitions that may get more than before.
    pub(super) fn note(&mut self, name: &str, group: &str, outcome: &Outcome) -> Vec<String> {
        let place = self.groups.entry(group.to_owned()).or_default();
        let accepted = &outcome.accepted;
        let single = |field: &str| accepted[field].as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        let mut resources: BTreeSet<String> = ["plural", "singular"].into_iter().filter_map(single).collect();
        resources.extend(texts(&accepted["shortNames"]).map(str::to_owned));
        let has = [resources, ["kind", "listKind"].into_iter().filter_map(single).collect()];
        let had = place.had.insert(name.to_owned(), has.clone()).unwrap_or_default();
        let mut freed = false;
        for (owners, (had, has)) in
            [&mut place.resources, &mut place.kinds].into_iter().zip(had.iter().zip(&has))
        {
            for lost in had.difference(has) {
                owners.remove(lost);
                freed = true;
            }
            for new in has.difference(had) {
                owners.entry(new.clone()).or_insert_with(|| name.to_owned());
            }
        }
        if outcome.conflict.is_some() {
            place.waiting.insert(name.to_owned());
        } else {
            place.waiting.remove(name);
        }
        if freed { place.waiting.iter().filter(|w| *w != name).cloned().collect() } else { Vec::new() }
    }

    /// Forgets a definition that is gone. Returns the definitions that may get more than before.
    pub(super) fn forget(&mut self, name: &str, group: &str) -> Vec<String> {
        let Some(place) = self.groups.get_mut(group) else { return Vec::new() };
        let [resources, kinds] = place.had.remove(name).unwrap_or_default();
        for (owners, had) in [(&mut place.resources, resources), (&mut place.kinds, kinds)] {
            for lost in had {
                owners.remove(&lost);
            }
        }
        place.waiting.remove(name);
        let waiting = place.waiting.iter().cloned().collect();
        if place.had.is_empty() {
            self.groups.remove(group);
        }
        waiting
    }
}

fn put(names: &mut Value, field: &str, value: &Value) {
    let Value::Object(map) = names else { return };
    if value.as_array().is_none_or(Vec::is_empty) {
        map.remove(field);
    } else {
        map.insert(field.to_owned(), value.clone());
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
