//! The API's description of itself: OpenAPI v3 for each group and version, and v2 for all in one.
//!
//! Structure (types, list types, merge keys, which kind an object is) comes from the schema artefact, that of
//! custom kinds from their definitions, paths from the registry's rows, and descriptions from `k8s-openapi`. Documents
//! are built when they are asked for, of [`Pieces`] that are kept for a while; clients keep them by their hash.

mod components;
mod custom;
mod descriptions;
mod foreign;
mod paths;
mod pieces;
mod protobuf;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tiphys_api::kind::{Group, Kind, Kinds};

pub(crate) use self::foreign::{Foreign, Unreadable};
pub(crate) use self::pieces::Pieces;
use self::pieces::Row;
use crate::discovery::{Document, served};

/// OpenAPI v2 in gnostic's protobuf messages.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The name under which client-go asks for [`V2_PROTOBUF`], and for no other form: kubectl does before it says that
/// it knows no such kind. It is not the name of the answer, since `@` may not be in one.
pub const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Which OpenAPI a document is written in: they name schemas, bodies and parameters differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Dialect {
    V2,
    V3,
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.37.0"})
}

/// `/openapi/v3`: where the document of each group and version is. The URL has its hash, so that clients can
/// keep it for ever.
pub fn v3_index(kinds: &Kinds) -> Document {
    let mut paths = Map::new();
    for group in kinds.groups() {
        for version in &group.versions {
            let path = paths::root(group.name, version);
            let hash = fingerprint(&group.kinds, version);
            let url = v3_url(group.name, version, &hash);
            paths.insert(path.trim_start_matches('/').to_owned(), json!({"serverRelativeURL": url}));
        }
    }
    Document::of(&json!({"paths": paths}))
}

/// Where the document with this hash is.
pub fn v3_url(group: &str, version: &str, hash: &str) -> String {
    format!("/openapi/v3{}?hash={hash}", paths::root(group, version))
}

/// The hash under which the index lists the document of a group and version.
pub fn v3_hash(kinds: &Kinds, group: &str, version: &str) -> Option<String> {
    served(kinds, group, version).map(|rows| fingerprint(&rows, version))
}

/// A hash of what makes a document: this build, and the rows.
fn fingerprint(rows: &[&Arc<Kind>], version: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    for kind in rows.iter().filter(|kind| kind.version(version).is_some()) {
        hash.update(format!("{}/{version}/{}/{}", kind.group, kind.resource, kind.kind));
        for verb in kind.verbs.names() {
            hash.update(verb);
        }
        for subresource in &kind.subresources {
            hash.update(subresource.name.as_ref());
        }
        if let Some(custom) = &kind.custom {
            hash.update(custom.fingerprint().to_le_bytes());
        }
    }
    format!("{:X}", hash.finalize())
}

/// `/openapi/v3/apis/<group>/<version>` and `/openapi/v3/api/v1`.
pub(crate) fn v3(kinds: &Kinds, group: &str, version: &str, pieces: &mut Pieces) -> Option<Document> {
    let rows = served(kinds, group, version)?.into_iter().map(|kind| (kind, version)).collect();
    let (paths, schemas) = pieces.texts(Dialect::V3, rows);
    let (info, paths, schemas) = (info(), paths.object(), schemas.object());
    Some(Document::new(format!(
        r#"{{"openapi":"3.0.0","info":{info},"paths":{paths},"components":{{"schemas":{schemas}}}}}"#
    )))
}

/// `/openapi/v2`: everything in one document, with what other servers say of their parts of the API.
///
/// # Errors
/// A part of the document is no JSON, which is a bug.
pub(crate) fn v2(
    kinds: &Kinds,
    pieces: &mut Pieces,
    others: &[Arc<Foreign>],
) -> Result<Document, serde_json::Error> {
    let groups = kinds.groups();
    let mut parts = pieces.texts(Dialect::V2, everything(&groups));
    let added = foreign::added(&parts, others)?;
    parts.0.extend(&added.0);
    parts.1.extend(&added.1);
    let (info, paths, definitions) = (info(), parts.0.object(), parts.1.object());
    Ok(Document::new(format!(
        r#"{{"swagger":"2.0","info":{info},"paths":{paths},"definitions":{definitions}}}"#
    )))
}

/// The same as [`V2_PROTOBUF`].
///
/// # Errors
/// A part of the document is no JSON, which is a bug.
pub(crate) fn v2_protobuf(
    kinds: &Kinds,
    pieces: &mut Pieces,
    others: &[Arc<Foreign>],
) -> Result<Document, serde_json::Error> {
    let groups = kinds.groups();
    let (mut paths, mut definitions) = pieces.encoded(everything(&groups))?;
    if !others.is_empty() {
        let added = foreign::added(&pieces.texts(Dialect::V2, everything(&groups)), others)?;
        paths.extend(&protobuf::paths(&added.0)?);
        definitions.extend(&protobuf::definitions(&added.1)?);
    }
    Ok(Document::new(protobuf::document(&info(), &paths.joined(), &definitions.joined())))
}

/// Every row in every version.
fn everything<'a>(groups: &'a [Group<'_>]) -> Vec<Row<'a>> {
    let versions = groups.iter().flat_map(|group| group.versions.iter().map(move |version| (group, version)));
    let rows = versions.flat_map(|(group, version)| {
        let kinds = group.kinds.iter().filter(|kind| kind.version(version).is_some());
        kinds.map(|kind| (*kind, *version))
    });
    rows.collect()
}

/// Members of an object by name, each written as soon as it is known: as a tree, a document would take many times
/// its length in memory.
#[derive(Debug)]
struct Members<T: ?Sized>(BTreeMap<Arc<str>, Arc<T>>);

/// Members as JSON.
type Texts = Members<str>;
/// Members as fields of a message, with their names.
type Fields = Members<[u8]>;

impl<T: ?Sized> Clone for Members<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ?Sized> Default for Members<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: ?Sized> Members<T> {
    fn extend(&mut self, others: &Self) {
        self.0.extend(others.0.iter().map(|(key, value)| (Arc::clone(key), Arc::clone(value))));
    }

    fn get(&self, key: &str) -> Option<&Arc<T>> {
        self.0.get(key)
    }

    fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

impl Fields {
    fn joined(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.values().map(|field| field.len()).sum());
        self.0.values().for_each(|field| out.extend_from_slice(field));
        out
    }
}

impl Texts {
    fn insert(&mut self, key: String, value: &Value) {
        self.0.insert(key.into(), value.to_string().into());
    }

    fn object(self) -> String {
        let length = self.0.iter().map(|(key, value)| key.len() + value.len() + 4).sum::<usize>() + 2;
        let mut out = String::with_capacity(length);
        for (key, value) in &self.0 {
            out.push(if out.is_empty() { '{' } else { ',' });
            out.push_str(&Value::from(&**key).to_string());
            out.push(':');
            out.push_str(value);
        }
        if out.is_empty() {
            out.push('{');
        }
        out.push('}');
        out
    }
}

#[cfg(test)]
#[path = "../openapi_tests.rs"]
mod tests;
