//! What other servers say of their parts of the API in OpenAPI v2, and how it joins what this one says.
//!
//! Of a server's document its group and version are taken: the paths below them, and the definitions that follow
//! from those. The rules of joining are kube-aggregator's: a path that is known stays as it is; a definition of a
//! name that is known is the same one if nothing but its kinds differs, and else gets another name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::pieces::Parts;
use super::protobuf::{Message, PATH, SCHEMA, Wrong};
use super::{Texts, paths};

/// The most that is kept of a document, in bytes; shared parameters count wherever they stand.
const MAX_KEPT: usize = 8 << 20;
/// The most paths, definitions or parameters that a document may have.
const MAX_MEMBERS: usize = 20_000;
const KINDS: &str = "x-kubernetes-group-version-kind";
const PARAMETERS: &str = "#/parameters/";

/// What a server says of one group and version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Foreign {
    paths: Texts,
    definitions: Texts,
}

/// Why a document is not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is no document of OpenAPI: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is of version {0:?}, not 2.0")]
    Version(String),
    #[error("{of}: {wrong}")]
    Form { of: String, wrong: Wrong },
    #[error("it refers to {0:?}, which it does not have")]
    Dangling(String),
    #[error("what it says of the group and version is longer than {MAX_KEPT} bytes")]
    TooLong,
}

#[derive(serde::Deserialize)]
struct Document<'a> {
    #[serde(default)]
    swagger: String,
    #[serde(borrow, default)]
    paths: Option<Raw<'a>>,
    #[serde(borrow, default)]
    definitions: Option<Raw<'a>>,
    #[serde(borrow, default)]
    parameters: Option<Raw<'a>>,
}

/// Members that nobody has looked into.
#[derive(Default)]
struct Raw<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    if members.len() == MAX_MEMBERS {
                        return Err(A::Error::custom(format_args!("more than {MAX_MEMBERS} members")));
                    }
                    members.insert(name, value);
                }
                Ok(Raw(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl Foreign {
    /// Reads what a document says of a group and version.
    ///
    /// # Errors
    /// Clients could not read it in one document with others: values of wrong types, references to nothing; or it is
    /// too long.
    pub(crate) fn read(document: &[u8], group: &str, version: &str) -> Result<Self, Unreadable> {
        let document: Document<'_> = serde_json::from_slice(document)?;
        if document.swagger != "2.0" {
            return Err(Unreadable::Version(document.swagger));
        }
        let shared = document.parameters.unwrap_or_default();
        let definitions = document.definitions.unwrap_or_default();
        let mut room = MAX_KEPT;
        let mut read = Self::default();
        let mut wanted = BTreeSet::new();
        let below = format!("{}/", paths::root(group, version));
        for (path, raw) in document.paths.unwrap_or_default().0 {
            if !path.starts_with(&below) {
                continue;
            }
            let mut item: Value = serde_json::from_str(raw.get())?;
            inline(&mut item, &shared, &mut room)?;
            read.paths.insert(path.clone(), &tidied(&PATH, item, &path, &mut wanted)?);
            take(&mut room, raw.get().len())?;
        }
        while let Some(name) = wanted.pop_first() {
            if read.definitions.contains(&name) {
                continue;
            }
            let Some(raw) = definitions.0.get(&name) else { return Err(Unreadable::Dangling(name)) };
            take(&mut room, raw.get().len())?;
            let schema = tidied(&SCHEMA, serde_json::from_str(raw.get())?, &name, &mut wanted)?;
            read.definitions.insert(name, &schema);
        }
        Ok(read)
    }
}

fn take(room: &mut usize, length: usize) -> Result<(), Unreadable> {
    *room = room.checked_sub(length).ok_or(Unreadable::TooLong)?;
    Ok(())
}

fn tidied(
    message: &Message,
    mut value: Value,
    of: &str,
    wanted: &mut BTreeSet<String>,
) -> Result<Value, Unreadable> {
    let tidy = message.tidy(&mut value, &mut |name| {
        wanted.insert(name.clone());
    });
    tidy.map_err(|wrong| Unreadable::Form { of: of.to_owned(), wrong })?;
    Ok(value)
}

/// Puts parameters that several operations share where they are referred to.
fn inline(item: &mut Value, shared: &Raw<'_>, room: &mut usize) -> Result<(), Unreadable> {
    let Some(item) = item.as_object_mut() else { return Ok(()) };
    for (name, value) in item {
        let list = if name == "parameters" { Some(value) } else { value.get_mut("parameters") };
        for parameter in list.and_then(Value::as_array_mut).into_iter().flatten() {
            let reference = parameter.get("$ref").and_then(Value::as_str);
            let Some(name) = reference.and_then(|to| to.strip_prefix(PARAMETERS)) else { continue };
            let raw = shared.0.get(name).ok_or_else(|| Unreadable::Dangling(name.to_owned()))?;
            take(room, raw.get().len())?;
            *parameter = serde_json::from_str(raw.get())?;
        }
    }
    Ok(())
}

/// What others add to this server's own paths and definitions: new ones, and known ones that are of more kinds.
/// Those that come first are known to those that follow.
///
/// # Errors
/// A text is no JSON, which is a bug.
pub(super) fn added(own: &Parts, others: &[Arc<Foreign>]) -> Result<Parts, serde_json::Error> {
    let (mut paths, mut definitions) = Parts::default();
    for other in others {
        let fresh = |path: &&Arc<str>| !own.0.contains(path) && !paths.contains(path);
        let fresh: Vec<_> = other.paths.0.keys().filter(fresh).cloned().collect();
        if fresh.is_empty() {
            continue;
        }
        let known = Known { own: &own.1, added: &definitions };
        let renamed = renamed(&known, &other.definitions)?;
        let mut changed = Vec::new();
        for (name, text) in &other.definitions.0 {
            let text = with_names(&SCHEMA, text, &renamed)?;
            let name = renamed.get(&**name).map_or_else(|| Arc::clone(name), |name| Arc::from(&**name));
            match known.get(&name) {
                None => changed.push((name, text)),
                Some(known) => changed.extend(with_kinds(known, &text)?.map(|both| (name, both))),
            }
        }
        definitions.0.extend(changed);
        for path in fresh {
            let text = with_names(&PATH, &other.paths.0[&path], &renamed)?;
            paths.0.insert(path, text);
        }
    }
    Ok((paths, definitions))
}

/// Definitions that are there already.
struct Known<'a> {
    own: &'a Texts,
    added: &'a Texts,
}

impl Known<'_> {
    fn get(&self, name: &str) -> Option<&Arc<str>> {
        self.added.get(name).or_else(|| self.own.get(name))
    }
}

/// Other names for definitions whose names are others' already.
fn renamed(known: &Known<'_>, definitions: &Texts) -> Result<BTreeMap<String, String>, serde_json::Error> {
    let mut renamed = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for (name, text) in &definitions.0 {
        let Some(before) = known.get(name) else { continue };
        if same(before, text)? {
            continue;
        }
        let mut number = 2;
        let new = loop {
            let new = format!("{name}_v{number}");
            let free = match known.get(&new) {
                Some(before) => same(before, text)?,
                None => !definitions.contains(&new) && !taken.contains(&new),
            };
            if free {
                break new;
            }
            number += 1;
        };
        taken.insert(new.clone());
        renamed.insert(name.to_string(), new);
    }
    Ok(renamed)
}

/// Whether two definitions differ in nothing but the kinds that they are of.
fn same(a: &str, b: &str) -> Result<bool, serde_json::Error> {
    if a == b {
        return Ok(true);
    }
    let without_kinds = |text| {
        let mut schema: Value = serde_json::from_str(text)?;
        if let Some(schema) = schema.as_object_mut() {
            schema.remove(KINDS);
        }
        Ok::<_, serde_json::Error>(schema)
    };
    Ok(without_kinds(a)? == without_kinds(b)?)
}

/// A definition that is known, with the kinds of another that is the same; `None` if it has them all.
fn with_kinds(known: &str, other: &str) -> Result<Option<Arc<str>>, serde_json::Error> {
    let (mut schema, mut other): (Value, Value) =
        (serde_json::from_str(known)?, serde_json::from_str(other)?);
    let kinds = |schema: &mut Value| match schema.get_mut(KINDS).map(Value::take) {
        Some(Value::Array(kinds)) => kinds,
        _ => Vec::new(),
    };
    let mut all = kinds(&mut schema);
    let before = all.len();
    for kind in kinds(&mut other) {
        if kind.is_object() && !all.contains(&kind) {
            all.push(kind);
        }
    }
    if all.len() == before {
        return Ok(None);
    }
    all.sort_by_cached_key(|kind| ["group", "version", "kind"].map(|part| kind[part].to_string()));
    schema[KINDS] = all.into();
    Ok(Some(schema.to_string().into()))
}

/// A text in which references go by the new names.
fn with_names(
    message: &Message,
    text: &Arc<str>,
    renamed: &BTreeMap<String, String>,
) -> Result<Arc<str>, serde_json::Error> {
    if renamed.is_empty() {
        return Ok(Arc::clone(text));
    }
    let mut value = serde_json::from_str(text)?;
    let mut found = false;
    let tidy = message.tidy(&mut value, &mut |name| {
        if let Some(new) = renamed.get(name) {
            found = true;
            name.clone_from(new);
        }
    });
    // What was tidied once is of the right form for ever.
    debug_assert_eq!(tidy, Ok(()));
    Ok(if found { value.to_string().into() } else { Arc::clone(text) })
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
