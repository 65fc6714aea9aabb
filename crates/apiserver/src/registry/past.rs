//! What an object was, and who made it so.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tiphys_api::kind::Kind;
use tiphys_api::status::Status;
use tiphys_store::{Note, Revision};

use super::{Call, Registry, damaged, store_status};
use crate::stored;

/// What is told of each change of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author<T: AsRef<str> = String> {
    #[serde(rename = "t")]
    pub time: Timestamp,
    #[serde(rename = "u")]
    pub user: T,
    #[serde(rename = "v")]
    pub verb: T,
    #[serde(rename = "s", default, skip_serializing_if = "is_empty")]
    pub subresource: T,
    #[serde(rename = "m", default, skip_serializing_if = "is_empty")]
    pub manager: T,
}

fn is_empty(text: &impl AsRef<str>) -> bool {
    text.as_ref().is_empty()
}

/// An object as it was for a while.
#[derive(Clone, Debug)]
pub struct Past {
    pub revision: Revision,
    /// `None` where nobody has noted it.
    pub author: Option<Author>,
    /// In the storage version, as clients see it; `None`: deleted.
    pub object: Option<Value>,
}

/// A part of what an object was, the newest first.
#[derive(Debug)]
pub struct Pasts {
    pub items: Vec<Past>,
    /// Whether there is more before the last of them.
    pub more: bool,
}

/// Whether the history tells of a change. What changes every few seconds by itself, or lives an hour, is left
/// out.
fn is_told(kind: &Kind, subresource: &str) -> bool {
    !matches!(
        (&*kind.group, &*kind.resource, subresource),
        ("" | "events.k8s.io", "events", _) | ("coordination.k8s.io", "leases", _) | ("", "nodes", "status")
    )
}

impl Registry {
    /// What the history tells of a change that `call` makes.
    pub(super) fn note(&self, call: &Call, verb: &'static str) -> Option<Note> {
        /// A name is told in part where it is longer; no real one is.
        const NAME: usize = 512;
        fn part(name: &str) -> &str {
            &name[..name.floor_char_boundary(NAME)]
        }
        if !is_told(&call.kind, &call.subresource) {
            return None;
        }
        let author = Author {
            time: self.now(),
            user: part(call.user.name()),
            verb,
            subresource: &call.subresource,
            manager: part(&call.field_manager),
        };
        serde_json::to_vec(&author).ok().and_then(Note::new)
    }

    /// What the object that `call` names was, none of it later than `until`; at most `limit` of it.
    ///
    /// # Errors
    /// 405 for a kind that is not kept.
    pub async fn past(&self, call: &Call, until: Option<Revision>, limit: usize) -> Result<Pasts, Status> {
        let key = self.collection(&call.kind)?.spec().key(&call.namespace, &call.name);
        let history = self.store.versions(&key, until, limit).await.map_err(store_status)?;
        let read = |value: Bytes, revision| {
            let json = stored::render(&value, revision).map_err(|e| damaged(&key, e))?;
            serde_json::from_slice(&json).map_err(|e| damaged(&key, e))
        };
        let items = history.versions.into_iter().map(|version| {
            let author = version.note.and_then(|note| serde_json::from_slice(note.text()).ok());
            let object = version.value.map(|value| read(value, version.revision)).transpose()?;
            Ok(Past { revision: version.revision, author, object })
        });
        Ok(Pasts { items: items.collect::<Result<_, Status>>()?, more: history.more })
    }
}
