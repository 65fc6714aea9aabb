//! What a list asks for and gets.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use tiphys_api::selector::{FieldRequirement, FieldSelector, LabelSelector};
use tiphys_store::Revision;

use tiphys_api::tree;

use super::{Error, Object};

/// Which objects of a collection.
#[derive(Clone, Debug)]
pub struct Filter {
    /// `None`: all namespaces.
    pub namespace: Option<Arc<str>>,
    pub labels: Arc<LabelSelector>,
    /// Names only fields that the collection has; any other field is empty everywhere.
    pub fields: Arc<FieldSelector>,
    /// Also those that initializers have yet to see.
    pub uninitialized: bool,
    /// It lets through more than is wanted: whoever is told of a change decides by what the object was before, too.
    pub rough: bool,
}

/// Everything that is initialized.
impl Default for Filter {
    fn default() -> Self {
        let labels = Arc::new(LabelSelector::everything());
        Self { namespace: None, labels, fields: Arc::default(), uninitialized: false, rough: false }
    }
}

impl Filter {
    pub fn matches(&self, object: &Object) -> bool {
        (self.uninitialized || !object.is_uninitialized())
            && self.namespace.as_deref().is_none_or(|namespace| object.namespace() == namespace)
            && self.labels.matches_by(|key| object.labels().get(key))
            && self.fields.matches(|field| object.field(field).unwrap_or_default())
    }

    /// What it asks of an object whatever version that is shown in, which is where it is and how it is called. A webhook that
    /// converts may change all else that is selected by.
    pub(crate) fn unconverted(&self) -> Self {
        let keeps = |r: &&FieldRequirement| matches!(&*r.field, "metadata.name" | "metadata.namespace");
        let requirements: Vec<_> = self.fields.requirements.iter().filter(keeps).cloned().collect();
        let rough = !self.labels.is_everything() || requirements.len() < self.fields.requirements.len();
        let fields = Arc::new(FieldSelector { requirements });
        Self { labels: Arc::new(LabelSelector::everything()), fields, rough, ..self.clone() }
    }

    /// It asks for nothing but, perhaps, a namespace.
    pub(super) fn is_plain(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// What the keys of all objects that match start with.
    pub(super) fn prefix(&self) -> String {
        self.namespace.as_ref().map_or_else(String::new, |namespace| format!("{namespace}/"))
    }

    /// The one key that can match, if the selector names an object.
    pub(super) fn only_key(&self, namespaced: bool) -> Option<String> {
        let name = self.fields.exact("metadata.name")?;
        if !namespaced {
            return Some(name.to_owned());
        }
        let namespace = self.namespace.as_deref().or_else(|| self.fields.exact("metadata.namespace"))?;
        Some(format!("{namespace}/{name}"))
    }
}

/// What a read promises about the revision it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// Nothing that was committed before the read is missing.
    Newest,
    /// Whatever the cache has.
    Any,
    NotOlderThan(Revision),
    Exact(Revision),
    /// The next page of a list.
    Continue(String),
}

impl At {
    /// Reads the parameters of a list as upstream documents them, of which the caller knows that they go
    /// together; absent ones are empty, `limit` is 0.
    ///
    /// # Errors
    /// A revision that is none, or that comes with a continue token.
    pub fn list(resource_version: &str, rv_match: &str, limit: u64, token: &str) -> Result<Self, Error> {
        if !token.is_empty() {
            return match resource_version {
                "" | "0" => Ok(Self::Continue(token.to_owned())),
                _ => Err(Error::Invalid(
                    "specifying resource version is not allowed when using continue".to_owned(),
                )),
            };
        }
        match Self::get(resource_version)? {
            // A page that names a revision without saying how means exactly that revision.
            Self::NotOlderThan(revision) if rv_match == "Exact" || (rv_match.is_empty() && limit > 0) => {
                Ok(Self::Exact(revision))
            }
            at => Ok(at),
        }
    }

    /// Reads the `resourceVersion` of a get.
    ///
    /// # Errors
    /// It is no revision.
    pub fn get(resource_version: &str) -> Result<Self, Error> {
        match resource_version {
            "" => Ok(Self::Newest),
            "0" => Ok(Self::Any),
            text => revision(text).map(Self::NotOlderThan),
        }
    }
}

pub(super) fn revision(text: &str) -> Result<Revision, Error> {
    Revision::parse(text)
        .ok_or_else(|| Error::Invalid(format!("invalid resource version: {text:?} is no revision")))
}

#[derive(Clone, Debug)]
pub struct ListOptions {
    pub at: At,
    pub filter: Filter,
    /// 0: no limit.
    pub limit: u64,
}

/// Objects as of `revision`. Iterating is lazy: the page holds a version of the collection, no copy.
#[derive(Debug)]
pub struct Page {
    /// The list's `metadata.resourceVersion`.
    pub revision: Revision,
    /// The list's `metadata.continue`, where there is more.
    pub next: Option<String>,
    /// The list's `metadata.remainingItemCount`, where it is known.
    pub remaining: Option<u64>,
    pub(super) objects: Objects,
}

/// What a page has.
#[derive(Debug)]
pub(super) enum Objects {
    Cached(Matching),
    /// The same in another version, and of them those that are wanted.
    Shown(std::vec::IntoIter<Arc<Object>>),
}

impl Page {
    /// The page with these in place of its objects, and where it goes on after them.
    pub(crate) fn showing(self, objects: Vec<Arc<Object>>, next: Option<String>) -> Self {
        Self { next, objects: Objects::Shown(objects.into_iter()), ..self }
    }
}

impl Iterator for Page {
    type Item = Arc<Object>;
    fn next(&mut self) -> Option<Arc<Object>> {
        match &mut self.objects {
            Objects::Cached(objects) => objects.next(),
            Objects::Shown(objects) => objects.next(),
        }
    }
}

/// The objects of one version of a collection that a filter lets through, in key order.
#[derive(Debug)]
pub(super) struct Matching {
    pub(super) entries: tree::Iter<Arc<Object>>,
    /// What the keys of the entries start with; the first that does not ends them.
    pub(super) prefix: String,
    pub(super) filter: Filter,
    /// At most this many more.
    pub(super) limit: usize,
}

impl Iterator for Matching {
    type Item = Arc<Object>;

    fn next(&mut self) -> Option<Arc<Object>> {
        self.limit.checked_sub(1)?;
        loop {
            let (key, object) = self.entries.next().filter(|(key, _)| key.starts_with(&self.prefix))?;
            drop(key);
            if self.filter.matches(&object) {
                self.limit -= 1;
                return Some(object);
            }
        }
    }
}

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// `None`: in the newest state, for what it is worth.
    pub(super) revision: Option<Revision>,
    /// The first key that may be on the page.
    pub(super) start: String,
}

/// As it is in base64.
#[derive(Deserialize, Serialize)]
struct Wire {
    v: String,
    rv: i64,
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";
const INCONSISTENT: i64 = -1;

impl Token {
    pub(super) fn encode(&self) -> String {
        let rv = self.revision.map_or(INCONSISTENT, |r| i64::try_from(r.get()).unwrap_or(i64::MAX));
        let wire = Wire { v: VERSION.to_owned(), rv, start: self.start.clone() };
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
    }

    /// Reads a token for a list of keys that start with `prefix`.
    pub(super) fn decode(token: &str, prefix: &str) -> Result<Self, Error> {
        let bytes =
            BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| Error::InvalidContinue("it is no base64"))?;
        let wire: Wire =
            serde_json::from_slice(&bytes).map_err(|_| Error::InvalidContinue("it is no JSON"))?;
        if wire.v != VERSION {
            return Err(Error::InvalidContinue("server does not recognize this encoded version"));
        }
        if wire.start.is_empty() {
            return Err(Error::InvalidContinue("encoded start key empty (version meta.k8s.io/v1)"));
        }
        if !wire.start.starts_with(prefix) {
            return Err(Error::InvalidContinue("the start key is of another list"));
        }
        let revision = match wire.rv {
            INCONSISTENT => None,
            rv => Some(Revision::parse(&rv.to_string()).filter(|r| *r > Revision::ZERO).ok_or(
                Error::InvalidContinue("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"),
            )?),
        };
        Ok(Self { revision, start: wire.start })
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
