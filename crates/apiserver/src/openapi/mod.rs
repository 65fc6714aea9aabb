//! The API's description of itself: OpenAPI v3 for each group and version, and v2 for all in one.
//!
//! Structure (types, list types, merge keys, which kind an object is) comes from the schema artefact, that of
//! custom kinds from their definitions, paths from the registry's rows, and descriptions from `k8s-openapi`. Documents are built when they are asked for
//! and not kept; clients keep them by their hash.

mod components;
mod custom;
mod descriptions;
mod paths;
mod protobuf;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tiphys_api::kind::{Kind, Kinds};

use self::components::Components;
use crate::discovery::{Document, served};

/// OpenAPI v2 in gnostic's protobuf messages.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The name under which client-go asks for [`V2_PROTOBUF`], and for no other form: kubectl does before it says that
/// it knows no such kind. It is not the name of the answer, since `@` may not be in one.
pub const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Which OpenAPI a document is written in: they name schemas, bodies and parameters differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            let hash = fingerprint(&group.kinds.iter().map(AsRef::as_ref).collect::<Vec<_>>(), version);
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
fn fingerprint(rows: &[&Kind], version: &str) -> String {
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
pub fn v3(kinds: &Kinds, group: &str, version: &str) -> Option<Document> {
    let mut components = Components::new(Dialect::V3);
    let mut paths = Texts::default();
    for kind in served(kinds, group, version)? {
        paths::of_kind(kind, version, &mut components, &mut paths);
    }
    let schemas = components.finish().object();
    let (info, paths) = (info(), paths.object());
    Some(Document::new(format!(
        r#"{{"openapi":"3.0.0","info":{info},"paths":{paths},"components":{{"schemas":{schemas}}}}}"#
    )))
}

/// `/openapi/v2`: everything in one document.
pub fn v2(kinds: &Kinds) -> Document {
    let (paths, definitions) = v2_parts(kinds);
    let (info, paths, definitions) = (info(), paths.object(), definitions.object());
    Document::new(format!(r#"{{"swagger":"2.0","info":{info},"paths":{paths},"definitions":{definitions}}}"#))
}

/// `/openapi/v2` as [`V2_PROTOBUF`].
///
/// # Errors
/// A part of the document is no JSON, which is a bug.
pub fn v2_protobuf(kinds: &Kinds) -> Result<Document, serde_json::Error> {
    let (paths, definitions) = v2_parts(kinds);
    protobuf::document(&info(), paths, definitions).map(Document::new)
}

/// Everything's paths and definitions.
fn v2_parts(kinds: &Kinds) -> (Texts, Texts) {
    let mut components = Components::new(Dialect::V2);
    let mut paths = Texts::default();
    for group in kinds.groups() {
        for version in &group.versions {
            for kind in group.kinds.iter().filter(|kind| kind.version(version).is_some()) {
                paths::of_kind(kind, version, &mut components, &mut paths);
            }
        }
    }
    (paths, components.finish())
}

/// Members of an object, each written as soon as it is known: as a tree, a document would take many times its
/// length in memory.
#[derive(Debug, Default)]
struct Texts(BTreeMap<String, String>);

impl Texts {
    fn insert(&mut self, key: String, value: &Value) {
        self.0.insert(key, value.to_string());
    }

    fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn object(self) -> String {
        let members: Vec<String> =
            self.0.into_iter().map(|(key, value)| format!("{}:{value}", Value::from(key))).collect();
        format!("{{{}}}", members.join(","))
    }
}

#[cfg(test)]
#[path = "../openapi_tests.rs"]
mod tests;
