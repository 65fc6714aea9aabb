//! Parts of the API that other servers answer: `apiregistration.k8s.io`.
//!
//! An APIService with a Service hands its group and version to the server behind it. Which those are is compiled
//! when an APIService changes; a request for what this server has itself never looks. [`availability`] finds out
//! who can be reached and what it serves, [`described`] asks for what they say of it in OpenAPI v2, [`local`] makes
//! the APIServices of this server's own groups, and [`merge`] shows others' groups beside them.

mod availability;
mod described;
pub(crate) mod local;
pub(crate) mod merge;
pub(crate) mod own;

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::RwLock;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tiphys_api::meta;
use tiphys_store::Revision;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::described::Descriptions;
use crate::identity::Identity;
use crate::outgoing::{Endpoint, Outgoing, Place, Proof, Spec, Trust};
use crate::registry::Registry;
use crate::source::{Entry, Source};

const GROUP: &str = "apiregistration.k8s.io";
const RESOURCE: &str = "apiservices";

/// A server that answers a group and version.
#[derive(Debug)]
pub(crate) struct Backend {
    /// The APIService's name.
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) group_priority: i64,
    pub(crate) version_priority: i64,
    /// As the APIService's condition says.
    pub(crate) available: bool,
    pub(crate) endpoint: Result<Arc<Endpoint>, String>,
}

/// What a server was last found to serve.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// `APIResourceList`
    pub(crate) resources: Value,
    /// The URL of its OpenAPI v3 document, if it has one.
    pub(crate) openapi: Option<String>,
}

/// All APIServices that lead to others, as of a version of the resource.
#[derive(Default)]
struct Table {
    version: Revision,
    /// All APIServices by name; `None` for one of this server itself.
    read: HashMap<String, (Revision, Option<Arc<Backend>>)>,
    backends: Vec<Arc<Backend>>,
    /// No other server answers what this one does only while nobody else does.
    own: bool,
}

/// The way to other API servers.
pub struct Aggregation {
    source: Arc<dyn Source>,
    outgoing: Arc<Outgoing>,
    table: RwLock<Arc<Table>>,
    found: RwLock<HashMap<String, Arc<Found>>>,
    described: watch::Sender<Descriptions>,
}

impl Aggregation {
    pub fn new(source: Arc<dyn Source>, outgoing: Arc<Outgoing>) -> Self {
        let (described, _) = watch::channel(Descriptions::default());
        Self { source, outgoing, table: RwLock::default(), found: RwLock::default(), described }
    }

    /// Keeps APIServices until `stop`: makes those of this server's groups, and tells which others can be reached.
    pub(crate) fn run(self: &Arc<Self>, registry: &Arc<Registry>, stop: &CancellationToken) {
        let own = local::run(Arc::clone(registry), Arc::clone(&self.source));
        let others = availability::run(Arc::clone(self), Arc::clone(registry));
        let described = described::run(Arc::clone(self), self.described.clone());
        // All end with the server.
        tokio::spawn(stop.clone().run_until_cancelled_owned(described));
        tokio::spawn(stop.clone().run_until_cancelled_owned(own));
        tokio::spawn(stop.clone().run_until_cancelled_owned(others));
    }

    fn table(&self) -> Arc<Table> {
        let version = self.source.version(GROUP, RESOURCE);
        let current = Arc::clone(&self.table.read());
        // A version goes back only when the source has ended; what was known last serves on.
        if version <= current.version {
            return current;
        }
        let mut slot = self.table.write();
        // Read before the objects, so that a change in between makes the next request look again.
        let version = self.source.version(GROUP, RESOURCE);
        if slot.version < version {
            *slot = Arc::new(self.compile(version, &slot.read));
        }
        Arc::clone(&slot)
    }

    fn compile(
        &self,
        version: Revision,
        before: &HashMap<String, (Revision, Option<Arc<Backend>>)>,
    ) -> Table {
        let mut read = HashMap::new();
        for entry in self.source.list(GROUP, RESOURCE, None) {
            let backend = match before.get(&entry.name) {
                Some((revision, known)) if *revision == entry.revision => known.clone(),
                _ => Backend::read(&entry, &self.outgoing).map(Arc::new),
            };
            read.insert(entry.name, (entry.revision, backend));
        }
        let mut backends: Vec<Arc<Backend>> = read.values().filter_map(|(_, b)| b.clone()).collect();
        backends.sort_by(|a, b| merge::order(a).cmp(&merge::order(b)));
        let is_own = |version| read.get(&own::name(version)).is_some_and(|(_, backend)| backend.is_none());
        let own = own::VERSIONS.into_iter().all(is_own);
        Table { version, read, backends, own }
    }

    /// All servers that answer a part of the API, those of high priority first.
    pub(crate) fn backends(&self) -> Vec<Arc<Backend>> {
        self.table().backends.clone()
    }

    /// All servers with what they serve, and [`own`] among them while it is this server's.
    pub(crate) fn servers(&self) -> Vec<merge::Server> {
        let table = self.table();
        let others = table.backends.iter().map(|b| (Arc::clone(b), self.found(b)));
        let own = if table.own { own::servers() } else { Vec::new() };
        let mut servers: Vec<_> = others.chain(own).collect();
        servers.sort_by(|(a, _), (b, _)| merge::order(a).cmp(&merge::order(b)));
        servers
    }

    /// Whether this server itself answers what has no rows.
    pub(crate) fn has_own(&self) -> bool {
        self.table().own
    }

    /// Whether that is this group and version.
    pub(crate) fn is_own(&self, group: &str, version: &str) -> bool {
        group == own::METRICS && own::VERSIONS.contains(&version) && self.has_own()
    }

    /// The server that answers a group and version.
    pub(crate) fn route(&self, group: &str, version: &str) -> Option<Arc<Backend>> {
        let table = self.table();
        table.backends.iter().find(|b| b.group == group && b.version == version).cloned()
    }

    /// What a server was last found to serve.
    pub(crate) fn found(&self, backend: &Backend) -> Option<Arc<Found>> {
        self.found.read().get(&backend.name).cloned()
    }

    /// What servers say of their parts of the API in OpenAPI v2.
    pub(crate) fn descriptions(&self) -> Descriptions {
        Arc::clone(&self.described.borrow())
    }

    #[cfg(test)]
    pub(crate) fn follow_descriptions(&self) -> watch::Receiver<Descriptions> {
        self.described.subscribe()
    }

    fn remember(&self, found: HashMap<String, Arc<Found>>) {
        *self.found.write() = found;
    }
}

impl Backend {
    /// `None` for an APIService of this server itself.
    fn read(entry: &Entry, outgoing: &Outgoing) -> Option<Self> {
        let object = entry.tree();
        let service = object["spec"].get("service").filter(|service| service.is_object())?;
        let text = |field| meta::text(&object, &["spec", field]).to_owned();
        let conditions = meta::items(&object, &["status", "conditions"]).iter();
        let mut available = conditions.filter(|c| c["type"] == "Available");
        let place = Place::Service {
            namespace: meta::text(service, &["namespace"]).to_owned(),
            name: meta::text(service, &["name"]).to_owned(),
            port: service["port"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or(443),
            path: String::new(),
        };
        let endpoint = trust(&object["spec"]).and_then(|trust| {
            let spec = Spec { place, trust, proof: Proof::FrontProxy };
            outgoing.endpoint(&spec).map_err(|e| e.to_string())
        });
        Some(Self {
            name: entry.name.clone(),
            group: text("group"),
            version: text("version"),
            group_priority: object["spec"]["groupPriorityMinimum"].as_i64().unwrap_or(0),
            version_priority: object["spec"]["versionPriority"].as_i64().unwrap_or(0),
            available: available.any(|c| c["status"] == "True"),
            endpoint,
        })
    }
}

fn trust(spec: &Value) -> Result<Trust, String> {
    if spec["insecureSkipTLSVerify"] == true {
        return Ok(Trust::Anybody);
    }
    match spec["caBundle"].as_str().filter(|bundle| !bundle.is_empty()) {
        Some(bundle) => {
            let pem = BASE64_STANDARD.decode(bundle).map_err(|e| format!("caBundle: {e}"))?;
            Ok(Trust::Bundle(Bytes::from(pem)))
        }
        None => Ok(Trust::System),
    }
}

/// Headers by which a server that trusts the front proxy knows a user.
const REMOTE: [HeaderName; 3] = [
    HeaderName::from_static("x-remote-user"),
    HeaderName::from_static("x-remote-uid"),
    HeaderName::from_static("x-remote-group"),
];
const REMOTE_EXTRA: &str = "x-remote-extra-";
/// What of an extra's key stays as it is in a header's name.
const KEY: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Says in the headers that this server itself asks, who is always permitted to.
fn vouch_for_itself(headers: &mut HeaderMap) {
    let [name, _, group] = REMOTE;
    headers.insert(name, HeaderValue::from_static("system:kube-aggregator"));
    headers.insert(group, HeaderValue::from_static("system:masters"));
}

/// Says in the headers who the user is, and nothing that the client said about that.
pub(crate) fn vouch(headers: &mut HeaderMap, user: &Identity) {
    for name in &REMOTE {
        headers.remove(name);
    }
    let said: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(REMOTE_EXTRA)).cloned().collect();
    for name in said {
        headers.remove(name);
    }
    let mut add = |name: HeaderName, value: &str| {
        // A name that no header can carry is nobody's over there.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    };
    let [name, uid, group] = REMOTE;
    add(name, user.name());
    if !user.uid().is_empty() {
        add(uid, user.uid());
    }
    for member in user.groups() {
        add(group.clone(), member);
    }
    for (key, values) in user.extra() {
        let key = format!("{REMOTE_EXTRA}{}", utf8_percent_encode(key, &KEY));
        let Ok(name) = HeaderName::try_from(key) else { continue };
        for value in values {
            add(name.clone(), value);
        }
    }
}

#[cfg(test)]
#[path = "aggregation_tests.rs"]
mod tests;
