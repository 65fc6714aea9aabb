//! What a list asks for and gets.

use std::{fmt, sync::Arc};

use tiphys_store::Revision;

use super::{Error, Object};

/// Decides which objects are meant; made of a label and a field selector.
pub trait Matcher: Send + Sync + fmt::Debug {
    fn matches(&self, object: &Object) -> bool;
    /// The one value that the field must have to match, where there is one. The cache finds such objects
    /// by index.
    fn equals(&self, field: &str) -> Option<&str>;
}

/// Which objects of a collection.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `None`: all namespaces.
    pub namespace: Option<Arc<str>>,
    /// `None`: all that the namespace has.
    pub matcher: Option<Arc<dyn Matcher>>,
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
    /// Reads the parameters of a list as upstream documents them; absent ones are empty, `limit` is 0.
    pub fn list(resource_version: &str, rv_match: &str, limit: u64, token: &str) -> Result<Self, Error> {
        let _ = (resource_version, rv_match, limit, token);
        Ok(Self::Newest)
    }

    /// Reads the `resourceVersion` of a get.
    pub fn get(resource_version: &str) -> Result<Self, Error> {
        let _ = resource_version;
        Ok(Self::Newest)
    }
}

#[derive(Clone, Debug)]
pub struct ListOptions {
    pub at: At,
    pub filter: Filter,
    /// 0: no limit.
    pub limit: u64,
}

/// Objects as of `revision`. Iterating is lazy: the page holds a root, no copy.
#[derive(Debug)]
pub struct Page {
    /// The list's `metadata.resourceVersion`.
    pub revision: Revision,
    /// The list's `metadata.continue`, where there is more.
    pub next: Option<String>,
    /// The list's `metadata.remainingItemCount`, where it is known.
    pub remaining: Option<u64>,
    pub(super) objects: std::vec::IntoIter<Arc<Object>>,
}

impl Iterator for Page {
    type Item = Arc<Object>;
    fn next(&mut self) -> Option<Arc<Object>> {
        self.objects.next()
    }
}
