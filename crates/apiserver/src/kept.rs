//! What is read of single objects, kept for as long as they stay as they are.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tiphys_store::Revision;

use crate::source::Source;

/// More than this are forgotten together.
const MANY: usize = 1024;

/// Of each object of a resource that was asked for, what `T` reads of it: requests ask for the same ones all the time.
pub(crate) struct Kept<T> {
    group: &'static str,
    resource: &'static str,
    read: RwLock<HashMap<String, (Revision, Arc<T>)>>,
}

impl<T: DeserializeOwned> Kept<T> {
    pub(crate) fn of(group: &'static str, resource: &'static str) -> Self {
        Self { group, resource, read: RwLock::default() }
    }

    /// An object as it is now; `None` if there is none, or none of that shape.
    pub(crate) fn get(&self, source: &dyn Source, namespace: &str, name: &str) -> Option<Arc<T>> {
        let Self { group, resource, read } = self;
        let revision = source.revision(group, resource, namespace, name)?;
        let key = match namespace {
            "" => Cow::Borrowed(name),
            namespace => Cow::Owned(format!("{namespace}/{name}")),
        };
        let known = read.read().get(&*key).cloned();
        if let Some((_, value)) = known.filter(|(known, _)| *known == revision) {
            return Some(value);
        }
        let entry = source.get(group, resource, namespace, name)?;
        let value = Arc::new(entry.read()?);
        let mut read = read.write();
        if read.len() >= MANY {
            read.clear();
        }
        read.insert(key.into_owned(), (entry.revision, Arc::clone(&value)));
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::source::fake::Table;

    #[derive(Deserialize)]
    struct Value {
        value: u32,
    }

    fn object(namespace: &str, name: &str, value: u32) -> serde_json::Value {
        json!({"metadata": {"namespace": namespace, "name": name}, "value": value})
    }

    #[test]
    fn an_object_is_read_once_for_each_of_its_versions() {
        let table =
            Table::with(&[("g", "things", object("a", "x", 1)), ("g", "things", object("b", "x", 2))]);
        let kept = Kept::<Value>::of("g", "things");
        let first = kept.get(&table, "a", "x").unwrap();
        assert!(Arc::ptr_eq(&first, &kept.get(&table, "a", "x").unwrap()));
        assert_eq!((first.value, kept.get(&table, "b", "x").unwrap().value), (1, 2));
        table.put("g", "things", object("a", "x", 3));
        assert_eq!(kept.get(&table, "a", "x").unwrap().value, 3);
        table.remove("g", "things", "a", "x");
        assert!(kept.get(&table, "a", "x").is_none());
    }

    #[test]
    fn what_was_read_is_bounded() {
        let table = Table::default();
        let kept = Kept::<Value>::of("g", "things");
        for n in 0..=MANY {
            table.put("g", "things", object("", &n.to_string(), 0));
            kept.get(&table, "", &n.to_string()).unwrap();
        }
        assert_eq!(kept.read.read().len(), 1);
    }
}
