//! YAML, which clients may send and ask for wherever JSON is spoken.
//!
//! A document becomes JSON text, so that one decoder judges both: keys that stand twice in YAML stand twice
//! in the JSON.

use std::{cell::RefCell, marker::PhantomData};

use serde::{
    de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
    ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer},
};
use serde_json::Value;
use serde_saphyr::{Options, Spanned, options::DuplicateKeyPolicy};

use super::repeated::Repeated;

/// How deep a document may be nested: what a thread's stack of 2 MB holds in an unoptimised build.
pub const MAX_DEPTH: usize = 50;
/// How many maps, lists and scalars a document may hold, and how many its aliases may unfold to.
pub const MAX_NODES: usize = 250_000;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("error converting YAML to JSON: {0}")]
    Syntax(String),
    #[error("error converting JSON to YAML: {0}")]
    Encode(String),
}

/// The first document of `yaml` as JSON text. An empty document is `null`.
///
/// Most of what is sent as YAML is JSON, which is YAML too; it is left as it is, in whatever depth the JSON
/// parser takes.
///
/// # Errors
/// The text is no YAML, holds what JSON cannot say, or unfolds beyond the bounds.
pub fn to_json(yaml: &[u8]) -> Result<Vec<u8>, Error> {
    if yaml.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<de::IgnoredAny>(yaml).is_ok() {
        return Ok(yaml.to_vec());
    }
    let text = std::str::from_utf8(yaml).map_err(|e| Error::Syntax(e.to_string()))?;
    let mut json = Vec::with_capacity(yaml.len());
    serde_saphyr::with_deserializer_from_str_with_options(text, options(), |source| {
        Transcode(RefCell::new(Some(source)))
            .serialize(&mut serde_json::Serializer::new(&mut json))
            .map_err(de::Error::custom)
    })
    .map_err(|e| Error::Syntax(e.to_string()))?;
    Ok(json)
}

/// The keys of `yaml` that their maps have already, in upstream's words: `line 9: key "foo" already set in map`. `json` is what
/// [`to_json`] made of it.
pub fn repeated(yaml: &[u8], json: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut source = serde_json::Deserializer::from_slice(json);
    let seed = Repeated { found: &mut found, key: PhantomData::<String> };
    // What cannot be read has no keys; whoever made the JSON was told why.
    if seed.deserialize(&mut source).is_err() || found.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let seed = Repeated { found: &mut lines, key: PhantomData::<Spanned<String>> };
    let read = std::str::from_utf8(yaml).map(|text| {
        serde_saphyr::with_deserializer_from_str_with_options(text, options(), |source| {
            seed.deserialize(source)
        })
    });
    // JSON may be deeper than YAML.
    if matches!(read, Ok(Ok(()))) { lines } else { found }
}

fn options() -> Options {
    let budget = serde_saphyr::budget! {
        max_depth: MAX_DEPTH,
        max_nodes: MAX_NODES,
        max_events: 2 * MAX_NODES,
        max_recorded_anchor_events: MAX_NODES,
        max_documents: 1,
    };
    serde_saphyr::options! {
        budget: budget,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    }
}

/// The tree as a YAML document.
///
/// # Errors
/// None that a tree can cause; the encoder's own.
pub fn from_value(tree: &Value) -> Result<String, Error> {
    serde_saphyr::to_string(tree).map_err(|e| Error::Encode(e.to_string()))
}

/// Serializes what a deserializer yields, without a tree in between. Good for one use.
struct Transcode<D>(RefCell<Option<D>>);

impl<'de, D: Deserializer<'de>> Serialize for Transcode<D> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0.take() {
            Some(source) => source.deserialize_any(Into(out)).map_err(S::Error::custom),
            None => Err(S::Error::custom("a value can be read only once")),
        }
    }
}

/// Hands one value on to a serializer.
struct Into<S>(S);

impl<'de, S: Serializer> Visitor<'de> for Into<S> {
    type Value = S::Ok;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<S::Ok, E> {
        self.0.serialize_bool(value).map_err(E::custom)
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<S::Ok, E> {
        self.0.serialize_i64(value).map_err(E::custom)
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<S::Ok, E> {
        self.0.serialize_u64(value).map_err(E::custom)
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<S::Ok, E> {
        self.0.serialize_f64(value).map_err(E::custom)
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<S::Ok, E> {
        self.0.serialize_str(value).map_err(E::custom)
    }
    fn visit_unit<E: de::Error>(self) -> Result<S::Ok, E> {
        self.0.serialize_unit().map_err(E::custom)
    }
    fn visit_none<E: de::Error>(self) -> Result<S::Ok, E> {
        self.visit_unit()
    }
    fn visit_some<D: Deserializer<'de>>(self, source: D) -> Result<S::Ok, D::Error> {
        source.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<S::Ok, A::Error> {
        let mut out = self.0.serialize_seq(items.size_hint()).map_err(de::Error::custom)?;
        while items.next_element_seed(Item(&mut out))?.is_some() {}
        out.end().map_err(de::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<S::Ok, A::Error> {
        let mut out = self.0.serialize_map(entries.size_hint()).map_err(de::Error::custom)?;
        while entries.next_key_seed(Key(&mut out))?.is_some() {
            entries.next_value_seed(Entry(&mut out))?;
        }
        out.end().map_err(de::Error::custom)
    }
}

struct Item<'a, S>(&'a mut S);
struct Key<'a, S>(&'a mut S);
struct Entry<'a, S>(&'a mut S);

impl<'de, S: SerializeSeq> DeserializeSeed<'de> for Item<'_, S> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        self.0.serialize_element(&Transcode(RefCell::new(Some(source)))).map_err(de::Error::custom)
    }
}

impl<'de, S: SerializeMap> DeserializeSeed<'de> for Key<'_, S> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        self.0.serialize_key(&Transcode(RefCell::new(Some(source)))).map_err(de::Error::custom)
    }
}

impl<'de, S: SerializeMap> DeserializeSeed<'de> for Entry<'_, S> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        self.0.serialize_value(&Transcode(RefCell::new(Some(source)))).map_err(de::Error::custom)
    }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
