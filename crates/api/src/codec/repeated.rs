//! Keys that stand more than once in their map.

use std::{collections::HashSet, marker::PhantomData};

use serde::{
    Deserialize,
    de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// More are not told.
const MAX: usize = 100;

/// A key as a format tells it.
pub(super) trait Key: for<'de> Deserialize<'de> {
    fn name(&self) -> &str;
    /// From 1; 0 where the format does not tell.
    fn line(&self) -> u64;
}

impl Key for String {
    fn name(&self) -> &str {
        self
    }
    fn line(&self) -> u64 {
        0
    }
}

impl Key for Spanned<String> {
    fn name(&self) -> &str {
        &self.value
    }
    fn line(&self) -> u64 {
        self.referenced.line()
    }
}

/// Adds to `found`, for each key that its map has already, what upstream says of it.
pub(super) struct Repeated<'a, K> {
    pub(super) found: &'a mut Vec<String>,
    pub(super) key: PhantomData<K>,
}

impl<'de, K: Key> DeserializeSeed<'de> for Repeated<'_, K> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de, K: Key> Visitor<'de> for Repeated<'_, K> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(key) = entries.next_key::<K>()? {
            if !names.insert(key.name().to_owned()) && self.found.len() < MAX {
                self.found.push(format!("line {}: key {:?} already set in map", key.line(), key.name()));
            }
            entries.next_value_seed(Repeated { found: &mut *self.found, key: PhantomData::<K> })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Repeated { found: &mut *self.found, key: PhantomData::<K> })?.is_some()
        {
        }
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}
