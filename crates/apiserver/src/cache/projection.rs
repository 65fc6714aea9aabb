//! Labels and selectable fields, read from an object's JSON in one pass that builds no tree.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tiphys_api::kind::SelectableField;

use super::{Labels, object::Texts};

/// What to read from the objects of a collection.
#[derive(Debug)]
pub(super) struct Projection {
    fields: Vec<SelectableField>,
    paths: Step,
}

/// Where a path goes on, and what it has reached.
#[derive(Debug, Default)]
struct Step {
    next: Vec<(Box<str>, Step)>,
    /// Fields that may stand here: which one, and the rank of this path among the field's paths.
    fields: Vec<(usize, usize)>,
    labels: bool,
    /// What stands here holds the object back.
    initializers: bool,
}

impl Step {
    fn at(&mut self, path: impl IntoIterator<Item = impl AsRef<str>>) -> &mut Self {
        path.into_iter().fold(self, |step, key| {
            let key = key.as_ref();
            let at = step.next.iter().position(|(k, _)| **k == *key).unwrap_or_else(|| {
                step.next.push((key.into(), Self::default()));
                step.next.len() - 1
            });
            &mut step.next[at].1
        })
    }

    fn key(&self, key: &str) -> Option<&Self> {
        self.next.iter().find(|(k, _)| **k == *key).map(|(_, step)| step)
    }
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Projected {
    pub(super) labels: Labels,
    /// In the order of [`Projection::labels`].
    pub(super) fields: Texts,
    /// Initializers have yet to see the object: it is hidden from those who do not ask for such.
    pub(super) uninitialized: bool,
}

impl Projection {
    pub(super) fn new(fields: &[SelectableField]) -> Self {
        let mut paths = Step::default();
        paths.at(["metadata", "labels"]).labels = true;
        paths.at(["metadata", "initializers"]).initializers = true;
        for (field, selectable) in fields.iter().enumerate() {
            for (rank, path) in selectable.paths.iter().enumerate() {
                paths.at(path).fields.push((field, rank));
            }
        }
        Self { fields: fields.to_vec(), paths }
    }

    /// Which field has this label.
    pub(super) fn slot(&self, label: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.label == label)
    }

    /// # Errors
    /// The bytes are no JSON object.
    pub(super) fn read(&self, json: &[u8]) -> Result<Projected, serde_json::Error> {
        let mut found =
            Found { labels: Vec::new(), fields: vec![None; self.fields.len()], uninitialized: false };
        let mut json = serde_json::Deserializer::from_slice(json);
        Reader { step: &self.paths, found: &mut found }.deserialize(&mut json)?;
        json.end()?;
        let fields = found.fields.iter().zip(&self.fields);
        Ok(Projected {
            labels: Labels::new(found.labels),
            uninitialized: found.uninitialized,
            fields: Texts::new(
                fields.map(|(found, field)| found.as_ref().map_or(&*field.absent, |(_, text)| &**text)),
            ),
        })
    }
}

#[derive(Debug)]
struct Found {
    labels: Vec<(Box<str>, Box<str>)>,
    /// The value and the rank of the path that led to it.
    fields: Vec<Option<(usize, Box<str>)>>,
    uninitialized: bool,
}

/// Reads the value at one step.
struct Reader<'a> {
    step: &'a Step,
    found: &'a mut Found,
}

impl Reader<'_> {
    /// Of several paths that lead to something the first one counts.
    fn text(&mut self, text: &str) {
        for (field, rank) in &self.step.fields {
            let found = &mut self.found.fields[*field];
            if found.as_ref().is_none_or(|(r, _)| rank < r) {
                *found = Some((*rank, text.into()));
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.found.uninitialized |= self.step.initializers;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if self.step.labels {
                let mut label = Label(None);
                map.next_value_seed(&mut label)?;
                self.found.labels.extend(label.0.map(|value| (Box::from(&*key), value)));
            } else if let Some(step) = self.step.key(&key) {
                map.next_value_seed(Reader { step, found: &mut *self.found })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    // An empty string is as good as none, as the row's own reader has it.
    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        if !text.is_empty() {
            self.text(text);
        }
        Ok(())
    }
    fn visit_bool<E>(mut self, value: bool) -> Result<(), E> {
        self.text(if value { "true" } else { "false" });
        Ok(())
    }
    fn visit_i64<E>(mut self, number: i64) -> Result<(), E> {
        self.text(&number.to_string());
        Ok(())
    }
    fn visit_u64<E>(mut self, number: u64) -> Result<(), E> {
        self.text(&number.to_string());
        Ok(())
    }
    fn visit_f64<E>(mut self, number: f64) -> Result<(), E> {
        self.text(&number.to_string());
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads one label's value; what is no text is none.
struct Label(Option<Box<str>>);

impl<'de> DeserializeSeed<'de> for &mut Label {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let value = <serde_json::Value as serde::Deserialize>::deserialize(deserializer)?;
        self.0 = value.as_str().map(Box::from);
        Ok(())
    }
}

#[cfg(test)]
#[path = "projection_tests.rs"]
mod tests;
