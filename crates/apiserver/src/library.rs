//! The documents that the server has of itself, kept while somebody asks for them.
//!
//! Documents of thousands of rows are put together of what each row contributes, so that a definition that comes or
//! changes costs its own part and the copying of all others. As long as nothing changes, a document is made once. A
//! minute after the last question everything is let go: on a cluster at rest nobody asks.
//!
//! With thousands of rows the first document takes seconds: it is made beside the requests, and who asks for it
//! meanwhile waits without holding anything up.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use serde_json::Value;
use tiphys_api::kind::Kinds;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::{
    aggregation::{Descriptions, merge::Server, own},
    apart::apart,
    discovery::{self, Document},
    openapi,
    per_row::PerRow,
};

/// How long documents are kept after the last question.
const KEPT: Duration = Duration::from_secs(60);

/// A document that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// Aggregated discovery, of the core group or of all others.
    Discovery {
        core: bool,
    },
    V2,
    V2Protobuf,
    V3Index,
    V3 {
        group: String,
        version: String,
    },
}

#[derive(Default)]
struct Shelf {
    /// The rows that the documents are of. While they are held here, others have another address.
    of: Option<Arc<Kinds>>,
    /// What other servers say, in OpenAPI v2.
    others: Descriptions,
    /// What has no rows is this server's.
    own: bool,
    made: HashMap<Name, Document>,
    merged: HashMap<Name, Merged>,
    discovered: PerRow<Arc<str>>,
    described: openapi::Pieces,
    asked: Option<Instant>,
}

/// A document with what other servers serve, and what it was made of.
struct Merged {
    etag: String,
    servers: Vec<Server>,
    document: Document,
}

impl Merged {
    fn is_of(&self, document: &Document, servers: &[Server]) -> bool {
        let same = |(a, found_a): &Server, (b, found_b): &Server| {
            let found = found_a.as_ref().map(Arc::as_ptr) == found_b.as_ref().map(Arc::as_ptr);
            found && Arc::ptr_eq(a, b)
        };
        let servers_are = self.servers.len() == servers.len();
        servers_are && self.servers.iter().zip(servers).all(|(a, b)| same(a, b)) && self.etag == document.etag
    }
}

#[derive(Clone, Default)]
pub(crate) struct Library(Arc<Mutex<Shelf>>);

/// Why a document was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("a part of it is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("what is said of what has no rows: {0}")]
    Own(#[from] openapi::Unreadable),
    #[error("its making was given up: {0}")]
    GivenUp(#[from] tokio::task::JoinError),
}

impl Library {
    /// The document, as of these rows and of what `others` say; `None` where there is none. `own`: this server is the
    /// one that answers what [has no rows](own).
    ///
    /// # Errors
    /// A part of it is no JSON, which is a bug.
    pub(crate) async fn get(
        &self,
        kinds: &Arc<Kinds>,
        others: &Descriptions,
        own: bool,
        name: Name,
    ) -> Result<Option<Document>, Error> {
        let mut shelf = Arc::clone(&self.0).lock_owned().await;
        if shelf.asked.replace(Instant::now()).is_none() {
            // It ends when the shelf has been emptied.
            drop(tokio::spawn(forget(Arc::downgrade(&self.0))));
        }
        shelf.turn_to(kinds, others, own);
        if let Some(document) = shelf.made.get(&name) {
            return Ok(Some(document.clone()));
        }
        let kinds = Arc::clone(kinds);
        let made = apart(move || {
            let made = shelf.make(&kinds, &name)?;
            if let Some(document) = &made {
                shelf.made.insert(name, document.clone());
            }
            Ok::<_, Error>(made)
        });
        made.await?
    }

    /// A document that was [got](Self::get), with what `add` adds to it of other servers.
    ///
    /// # Errors
    /// It is no JSON, which is a bug.
    pub(crate) async fn merged(
        &self,
        name: Name,
        document: Document,
        servers: &[Server],
        add: fn(&mut Value, &[Server]),
    ) -> Result<Document, Error> {
        let mut shelf = self.0.lock().await;
        if let Some(merged) = shelf.merged.get(&name)
            && merged.is_of(&document, servers)
        {
            return Ok(merged.document.clone());
        }
        let mut value = serde_json::from_slice(&document.body)?;
        add(&mut value, servers);
        let merged =
            Merged { etag: document.etag, servers: servers.to_vec(), document: Document::of(&value) };
        let made = merged.document.clone();
        shelf.merged.insert(name, merged);
        Ok(made)
    }
}

/// Empties the shelf once nobody has asked for a while.
async fn forget(shelf: Weak<Mutex<Shelf>>) {
    let mut until = Instant::now() + KEPT;
    loop {
        sleep_until(until).await;
        let Some(shelf) = shelf.upgrade() else { return };
        let mut shelf = shelf.lock().await;
        match shelf.asked.map(|asked| asked + KEPT) {
            Some(later) if later > Instant::now() => until = later,
            _ => {
                *shelf = Shelf::default();
                return;
            }
        }
    }
}

impl Shelf {
    /// Lets go what is not true of these rows and of what others say.
    fn turn_to(&mut self, kinds: &Arc<Kinds>, others: &Descriptions, own: bool) {
        if !Arc::ptr_eq(&self.others, others) || self.own != own {
            (self.others, self.own) = (Arc::clone(others), own);
            self.made.retain(|name, _| match name {
                Name::V2 | Name::V2Protobuf => false,
                Name::V3 { group, .. } => group != own::METRICS,
                _ => true,
            });
        }
        let before = match &self.of {
            Some(before) if Arc::ptr_eq(before, kinds) => return,
            before => before.clone(),
        };
        // A group that has no custom kinds, and had none, is as it was.
        let rows = kinds.iter().chain(before.iter().flat_map(|before| before.iter()));
        let custom: HashSet<&str> =
            rows.filter(|row| row.custom.is_some()).map(|row| row.group.as_ref()).collect();
        self.made.retain(
            |name, _| matches!(name, Name::V3 { group, .. } if before.is_some() && !custom.contains(&**group)),
        );
        self.of = Some(Arc::clone(kinds));
        drop(custom);
        drop(before);
        self.discovered.sweep();
        self.described.sweep();
    }

    fn make(&mut self, kinds: &Kinds, name: &Name) -> Result<Option<Document>, Error> {
        let others = match name {
            Name::V2 | Name::V2Protobuf if self.own => {
                self.others.iter().cloned().chain(own::described()?).collect()
            }
            _ => Arc::clone(&self.others),
        };
        let pieces = &mut self.described;
        Ok(Some(match name {
            Name::Discovery { core } => discovery::aggregated(kinds, *core, &mut self.discovered),
            Name::V2 => openapi::v2(kinds, pieces, &others)?,
            Name::V2Protobuf => openapi::v2_protobuf(kinds, pieces, &others)?,
            Name::V3Index => openapi::v3_index(kinds),
            Name::V3 { group, version } if self.own && group == own::METRICS => {
                return Ok(openapi::v3(own::kinds(), group, version, &mut openapi::Pieces::default()));
            }
            Name::V3 { group, version } => return Ok(openapi::v3(kinds, group, version, pieces)),
        }))
    }
}

#[cfg(test)]
#[path = "library_tests.rs"]
mod tests;
