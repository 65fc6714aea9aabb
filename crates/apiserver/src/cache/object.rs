//! An object as the cache holds it.

use std::{cmp::Ordering, sync::Arc};

use bytes::Bytes;
use tiphys_store::Revision;

use super::projection::{Projected, Projection};
use crate::stored;

/// Texts one behind the other: an object has many short ones, which would cost more than they hold if each lay
/// alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Texts {
    all: Box<str>,
    ends: Box<[u32]>,
}

impl Texts {
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = String::new();
        let ends = texts.into_iter().map(|text| {
            all.push_str(text);
            // No object has as many bytes; one that had would be told apart by less.
            u32::try_from(all.len()).unwrap_or(u32::MAX)
        });
        let ends = ends.collect();
        Self { all: all.into(), ends }
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text at a place; the empty one where there is none.
    pub(super) fn get(&self, at: usize) -> &str {
        let end = |at: usize| self.ends.get(at).map_or(0, |end| *end as usize);
        let from = at.checked_sub(1).map_or(0, end);
        self.all.get(from..end(at)).unwrap_or_default()
    }
}

/// Labels in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Texts);

impl Labels {
    /// Of labels that are there twice, the last counts.
    pub(super) fn new(mut labels: Vec<(Box<str>, Box<str>)>) -> Self {
        labels.reverse();
        labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        labels.dedup_by(|(later, _), (first, _)| later == first);
        Self(Texts::new(labels.iter().flat_map(|(key, value)| [&**key, &**value])))
    }

    fn pair(&self, at: usize) -> (&str, &str) {
        (self.0.get(2 * at), self.0.get(2 * at + 1))
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        let (mut from, mut to) = (0, self.0.len() / 2);
        while from < to {
            let middle = usize::midpoint(from, to);
            let (found, value) = self.pair(middle);
            match found.cmp(key) {
                Ordering::Equal => return Some(value),
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        None
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.0.len() / 2).map(|at| self.pair(at))
    }
}

/// One object at one revision.
#[derive(Clone, Debug)]
pub struct Object {
    /// `namespace/name`, or the name alone.
    key: Arc<str>,
    revision: Revision,
    json: Bytes,
    /// Labels and fields are shared by all revisions of a deleted object, which are two.
    projected: Arc<Projected>,
    projection: Arc<Projection>,
}

impl Object {
    /// Reads the record that `key`, its key in the collection, has in the store.
    ///
    /// # Errors
    /// The record is no stored object; the text says why.
    pub(super) fn read(
        projection: &Arc<Projection>,
        key: Arc<str>,
        revision: Revision,
        stored: &[u8],
    ) -> Result<Self, String> {
        let json = stored::render(stored, revision).map_err(|e| e.to_string())?;
        let projected = Arc::new(projection.read(&json).map_err(|e| e.to_string())?);
        Ok(Self { key, revision, json, projected, projection: Arc::clone(projection) })
    }

    /// The object as it is told when it goes at `revision`.
    pub(super) fn deleted_at(&self, revision: Revision) -> Self {
        let json = rerender(&self.json, revision);
        Self { revision, json, ..self.clone() }
    }

    /// The same object as another version shows it.
    ///
    /// # Errors
    /// `json` is no JSON object; the text says why.
    pub(crate) fn shown(&self, json: Bytes) -> Result<Self, String> {
        let projected = Arc::new(self.projection.read(&json).map_err(|e| e.to_string())?);
        Ok(Self { json, projected, ..self.clone() })
    }

    /// `namespace/name`, or the name alone.
    pub(super) fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Empty for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }
    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&self.key, |(_, name)| name)
    }
    pub fn revision(&self) -> Revision {
        self.revision
    }
    /// The object in the storage version, with `metadata.resourceVersion`.
    pub fn json(&self) -> &Bytes {
        &self.json
    }
    pub fn labels(&self) -> &Labels {
        &self.projected.labels
    }
    /// Initializers have yet to see it, so that only those who ask for such objects do.
    pub fn is_uninitialized(&self) -> bool {
        self.projected.uninitialized
    }
    /// The value of a selectable field, `metadata.name` and `metadata.namespace` among them; `None` for a
    /// field that the kind can't be selected by.
    pub fn field(&self, label: &str) -> Option<&str> {
        match label {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace()),
            _ => self.projection.slot(label).map(|slot| self.projected.fields.get(slot)),
        }
    }

    /// Roughly what the object takes in memory.
    pub(super) fn size(&self) -> usize {
        self.json.len() + 256
    }
}

/// A rendered object with another revision. The mark is where [`stored::render`] has put it: nothing that
/// stands before it can contain it.
fn rerender(rendered: &Bytes, revision: Revision) -> Bytes {
    const MARK: &[u8] = b"\"metadata\":{\"resourceVersion\":\"";
    let Some(at) = rendered.windows(MARK.len()).position(|w| w == MARK) else { return rendered.clone() };
    let (head, tail) = rendered.split_at(at + MARK.len());
    let digits = tail.iter().take_while(|b| b.is_ascii_digit()).count();
    [head, revision.to_string().as_bytes(), &tail[digits..]].concat().into()
}
