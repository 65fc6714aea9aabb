//! An object as the cache holds it.

use bytes::Bytes;
use tiphys_store::Revision;

/// Labels in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<(Box<str>, Box<str>)>);

impl Labels {
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_ref(), v.as_ref()))
    }
}

/// One object at one revision.
#[derive(Clone, Debug)]
pub struct Object {
    namespace: Box<str>,
    name: Box<str>,
    revision: Revision,
    json: Bytes,
    labels: Labels,
    fields: Vec<(Box<str>, Box<str>)>,
}

impl Object {
    /// Empty for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn revision(&self) -> Revision {
        self.revision
    }
    /// The object in the storage version, with `metadata.resourceVersion`.
    pub fn json(&self) -> &Bytes {
        &self.json
    }
    pub fn labels(&self) -> &Labels {
        &self.labels
    }
    /// The value of a selectable field, `metadata.name` and `metadata.namespace` among them; `None` for a
    /// field that the kind can't be selected by.
    pub fn field(&self, label: &str) -> Option<&str> {
        match label {
            "metadata.name" => Some(&self.name),
            "metadata.namespace" => Some(&self.namespace),
            _ => self.fields.iter().find(|(l, _)| l.as_ref() == label).map(|(_, v)| v.as_ref()),
        }
    }
}
