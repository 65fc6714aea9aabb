//! What the server says about itself: discovery and OpenAPI, over HTTP.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};
use tiphys_api::kind::Kinds;
use tiphys_api::status::{Reason, Status};

use super::{Asked, Body, Handler, respond};
use crate::aggregation::merge::{self, Server};
use crate::aggregation::{Descriptions, own};
use crate::discovery::{self, AGGREGATED_V2, Document};
use crate::library::{Library, Name};
use crate::openapi;

/// What a path of this module leads to.
enum Found {
    /// A plain document.
    Plain(Value),
    /// A document that clients keep by its tag.
    Tagged(&'static str, Document),
    /// A document whose URL names its hash: it never changes.
    Immutable(Document),
    /// The URL names the hash of an older document.
    Moved(String),
}

impl Handler {
    /// Answers what is served; `None` for what this server has no document of.
    pub(super) async fn document(&self, path: &str, asked: &Asked) -> Result<Option<Response<Body>>, Status> {
        let headers = &asked.head.headers;
        let address = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        let shelves = Shelves {
            library: &self.library,
            kinds: self.registry.kinds(),
            others: self.aggregation.descriptions(),
            own: self.aggregation.has_own(),
        };
        let found = find(&shelves, path, address, headers, asked.query.get("hash")).await?;
        let found = self.with_servers(found, path).await?;
        let Some(found) = found else { return Ok(None) };
        Ok(Some(match found {
            Found::Plain(value) => respond::json(StatusCode::OK, &value),
            Found::Tagged(media_type, document) => tagged(media_type, document, "public", headers),
            Found::Immutable(document) => {
                tagged(JSON, document, "public, immutable, max-age=31536000", headers)
            }
            Found::Moved(url) => {
                let mut response = respond::text(StatusCode::MOVED_PERMANENTLY, "");
                let url = HeaderValue::from_str(&url).map_err(|e| Status::internal(e.to_string()))?;
                response.headers_mut().insert(header::LOCATION, url);
                response
            }
        }))
    }

    /// What was found, with what other servers serve, and this one without rows of its own.
    async fn with_servers(&self, found: Option<Found>, path: &str) -> Result<Option<Found>, Status> {
        let servers = self.aggregation.servers();
        if servers.is_empty() {
            return Ok(found);
        }
        let retagged = async |media_type, document: Document, name, add: fn(&mut Value, &[Server])| {
            let merged = self.library.merged(name, document, &servers, add).await;
            Ok(Some(Found::Tagged(media_type, merged.map_err(|e| Status::internal(e.to_string()))?)))
        };
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (parts.as_slice(), found) {
            (["apis"], Some(Found::Plain(mut list))) => {
                merge::groups(&mut list, &servers);
                Ok(Some(Found::Plain(list)))
            }
            (["apis"], Some(Found::Tagged(ty, document))) => {
                retagged(ty, document, Name::Discovery { core: false }, merge::aggregated).await
            }
            (["openapi", "v3"], Some(Found::Tagged(ty, document))) => {
                retagged(ty, document, Name::V3Index, merge::openapi).await
            }
            (["apis", group], found) => {
                let own = match found {
                    Some(Found::Plain(own)) => Some(own),
                    _ => None,
                };
                Ok(merge::group(own, group, &servers).map(Found::Plain))
            }
            (_, found) => Ok(found),
        }
    }
}

const JSON: &str = "application/json";

/// The library, with what its documents are to be of.
struct Shelves<'a> {
    library: &'a Library,
    kinds: Arc<Kinds>,
    others: Descriptions,
    /// What has no rows is this server's.
    own: bool,
}

impl Shelves<'_> {
    async fn kept(&self, name: Name) -> Result<Option<Document>, Status> {
        self.library
            .get(&self.kinds, &self.others, self.own, name)
            .await
            .map_err(|e| Status::internal(e.to_string()))
    }

    async fn tagged(&self, media_type: &'static str, name: Name) -> Result<Option<Found>, Status> {
        Ok(self.kept(name).await?.map(|document| Found::Tagged(media_type, document)))
    }

    async fn v3(&self, group: &str, version: &str, hash: Option<&str>) -> Result<Option<Found>, Status> {
        let document = self.kept(Name::V3 { group: group.to_owned(), version: version.to_owned() }).await?;
        let (Some(document), Some(hash)) = (&document, hash) else {
            return Ok(document.map(|document| Found::Tagged(JSON, document)));
        };
        let kinds = if self.own && group == own::METRICS { own::kinds() } else { &self.kinds };
        let current = openapi::v3_hash(kinds, group, version).unwrap_or_default();
        Ok(Some(if hash == current {
            Found::Immutable(document.clone())
        } else {
            Found::Moved(openapi::v3_url(group, version, &current))
        }))
    }
}

async fn find(
    shelves: &Shelves<'_>,
    path: &str,
    address: &str,
    headers: &HeaderMap,
    hash: Option<&str>,
) -> Result<Option<Found>, Status> {
    let kinds = &shelves.kinds;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let plain = |value: Option<Value>| value.map(Found::Plain);
    Ok(match parts.as_slice() {
        [""] => Some(Found::Plain(paths(kinds))),
        ["api" | "apis"] if accepts_aggregated(headers) => {
            return shelves.tagged(AGGREGATED_V2, Name::Discovery { core: parts == ["api"] }).await;
        }
        ["api"] => Some(Found::Plain(discovery::core_versions(kinds, address))),
        ["apis"] => Some(Found::Plain(discovery::groups(kinds))),
        ["apis", group] => plain(discovery::group(kinds, group)),
        ["api", version] => plain(discovery::resources(kinds, "", version)),
        ["apis", group, version] => plain(discovery::resources(kinds, group, version)),
        ["openapi", "v2"] if accepts_json(headers) => return shelves.tagged(JSON, Name::V2).await,
        ["openapi", "v2"] if accepts_protobuf(headers) => {
            return shelves.tagged(openapi::V2_PROTOBUF, Name::V2Protobuf).await;
        }
        ["openapi", "v2"] => {
            let message = format!("only {JSON} and {} are served here", openapi::V2_PROTOBUF);
            return Err(Status::new(Reason::NotAcceptable, message));
        }
        ["openapi", "v3"] => return shelves.tagged(JSON, Name::V3Index).await,
        ["openapi", "v3", "api", version] => shelves.v3("", version, hash).await?,
        ["openapi", "v3", "apis", group, version] => shelves.v3(group, version, hash).await?,
        _ => None,
    })
}

/// `/`: where clients can go from here.
fn paths(kinds: &Kinds) -> Value {
    let mut paths = vec!["/api".to_owned(), "/apis".to_owned()];
    for group in kinds.groups() {
        let versions = group.versions.iter();
        if group.name.is_empty() {
            paths.extend(versions.map(|version| format!("/api/{version}")));
        } else {
            paths.push(format!("/apis/{}", group.name));
            paths.extend(versions.map(|version| format!("/apis/{}/{version}", group.name)));
        }
    }
    paths.extend(
        ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"].map(str::to_owned),
    );
    paths.sort();
    json!({"paths": paths})
}

/// A document with its tag, or 304 if the client has it already.
fn tagged(
    media_type: &'static str,
    document: Document,
    caching: &'static str,
    headers: &HeaderMap,
) -> Response<Body> {
    let known =
        headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == document.etag.as_bytes());
    let mut response = if known {
        respond::response(StatusCode::NOT_MODIFIED, media_type, Body::Full(bytes::Bytes::new()))
    } else {
        respond::whole(StatusCode::OK, media_type, document.body, headers)
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if let Ok(tag) = HeaderValue::from_str(&document.etag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// The clauses of the `Accept` header, without spaces.
fn accepted(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let header = headers.get(header::ACCEPT).and_then(|h| h.to_str().ok()).unwrap_or_default();
    header.split(',').map(|clause| clause.replace(' ', ""))
}

fn accepts_aggregated(headers: &HeaderMap) -> bool {
    let wanted = ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"];
    accepted(headers).any(|clause| {
        let parts: Vec<&str> = clause.split(';').collect();
        parts.first() == Some(&JSON) && wanted.iter().all(|part| parts.contains(part))
    })
}

fn accepts_json(headers: &HeaderMap) -> bool {
    accepted(headers).any(|clause| matches!(media_type(&clause), "" | "*/*" | "application/*" | JSON))
}

fn accepts_protobuf(headers: &HeaderMap) -> bool {
    let names = [openapi::V2_PROTOBUF, openapi::V2_PROTOBUF_ASKED];
    accepted(headers).any(|clause| names.contains(&media_type(&clause)))
}

/// A clause without its parameters.
fn media_type(clause: &str) -> &str {
    clause.split(';').next().unwrap_or_default()
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
