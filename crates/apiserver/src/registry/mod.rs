//! One create, get, list, watch, update, patch and delete for all kinds.
//!
//! The registry works on trees in the storage version. What a kind does differently stands in its row
//! ([`Kind`]); what is said in another version is converted before it comes here and after it leaves.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tiphys_api::kind::{Kind, Kinds, Storage, split_api_version};
use tiphys_api::quota::Limited;
use tiphys_api::status::{Details, Reason, Status, StatusCause};
use tiphys_api::{convert, meta};
use tiphys_store::{self as store, Change, Key, Revision, Store, Write};
use tokio::sync::watch;

use crate::admission::{self, Operation};
use crate::audit::Annotations;
use crate::cache::{self, Cache, Collection};
use crate::identity::Component;
use crate::identity::Identity;
use crate::metrics::{Admission as AdmissionTimes, Phase};
use crate::stored;
use crate::trace;

use claims::Claims;

mod charges;
pub mod claims;
mod conversion;
mod create;
mod delete;
mod initialization;
pub(crate) mod objectmeta;
mod past;
mod update;
mod validate;

pub use delete::{DeleteOptions, Deleted, Propagation};
pub use past::{Author, Past, Pasts};
pub use update::{Change as Updating, Updated};

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// One request to one resource, authenticated and permitted.
#[derive(Clone, Debug)]
pub struct Call {
    pub user: Identity,
    pub kind: Arc<Kind>,
    /// The version that the request speaks.
    pub version: String,
    /// Empty at the scope of the cluster.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// The caller deals with objects that initializers have yet to see, and does not wait for them.
    pub uninitialized: bool,
    /// Everything is done but the write.
    pub dry_run: bool,
    /// What is updated is patched.
    pub is_patch: bool,
    /// Who owns the fields that the request sets.
    pub field_manager: String,
    pub warnings: Arc<Warnings>,
    /// What is noted for the audit event.
    pub annotations: Annotations,
}

impl Call {
    /// One of the server's own, to an object itself. It sees what initializers have yet to see.
    pub(crate) fn own(kind: &Arc<Kind>, version: &str, namespace: &str, name: &str) -> Self {
        Self {
            user: Component::ApiServer.identity(),
            kind: Arc::clone(kind),
            version: version.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
            uninitialized: true,
            dry_run: false,
            is_patch: false,
            field_manager: "kube-apiserver".to_owned(),
            warnings: Arc::default(),
            annotations: Annotations::default(),
        }
    }

    /// The same for one object of the collection.
    fn of(&self, namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned(), ..self.clone() }
    }

    fn attributes<'a>(&'a self, operation: Operation, name: &'a str) -> admission::Attributes<'a> {
        admission::Attributes {
            user: &self.user,
            operation,
            group: &self.kind.group,
            version: &self.version,
            resource: &self.kind.resource,
            subresource: &self.subresource,
            kind: &self.kind.kind,
            namespace: &self.namespace,
            name,
            dry_run: self.dry_run,
            annotations: &self.annotations,
            warnings: &self.warnings,
            field_manager: &self.field_manager,
            is_patch: self.is_patch,
            delete: None,
            round: admission::Round::default(),
        }
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(&self.kind.group, &self.kind.resource, &self.name)
    }

    pub(crate) fn conflict(&self, why: &str) -> Status {
        Status::conflict(&self.kind.group, &self.kind.resource, &self.name, why)
    }
}

/// What the client is told besides the answer, in `Warning` headers.
#[derive(Debug, Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    /// All warnings of a response together; headers are bounded. Upstream's bounds, in characters.
    const MAX: usize = 4096;
    /// Once they are longer than that together, each is cut to this.
    const MAX_EACH: usize = 256;

    /// Adds a warning that is not there yet.
    pub fn add(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let mut all = self.0.lock();
        let cut: usize = all.iter().map(|text| text.chars().take(Self::MAX_EACH).count()).sum();
        if !warning.is_empty() && cut < Self::MAX && !all.contains(&warning) {
            all.push(warning);
        }
    }

    /// The warnings so far.
    pub fn take(&self) -> Vec<String> {
        let mut all = std::mem::take(&mut *self.0.lock());
        if all.iter().map(|text| text.chars().count()).sum::<usize>() > Self::MAX {
            for text in &mut all {
                if let Some((at, _)) = text.char_indices().nth(Self::MAX_EACH) {
                    text.truncate(at);
                }
            }
        }
        all
    }
}

/// An object as clients see it, in the storage version.
#[derive(Clone, Debug)]
pub struct Object {
    pub json: Bytes,
}

impl From<&cache::Object> for Object {
    fn from(object: &cache::Object) -> Self {
        Self { json: object.json().clone() }
    }
}

/// An object that a write starts from.
struct Current {
    tree: Value,
    json: Bytes,
    revision: Revision,
    /// Read from the store, so that nothing newer was known to it.
    fresh: bool,
    /// It lies in the store in another version than it would be written in now. The tree is in the storage version
    /// all the same, unless a webhook has to convert it.
    outdated: bool,
}

impl Current {
    /// Parses what the server stored itself. It may be older than a default of its kind: every object that a
    /// change starts from has all of them, as those have that are sent.
    fn read(
        kind: &Kind,
        key: impl FnOnce() -> Key,
        json: Bytes,
        revision: Revision,
        fresh: bool,
    ) -> Result<Self, Status> {
        let mut tree = serde_json::from_slice(&json).map_err(|e| damaged(&key(), e))?;
        let storage = storage(kind)?;
        let outdated = kind.is_mixed() && meta::text(&tree, &["apiVersion"]) != storage.api_version();
        if outdated && kind.converter(&storage.version).is_some() {
            let version = split_api_version(meta::text(&tree, &["apiVersion"])).1.to_owned();
            kind.fill_defaults(&version, &mut tree);
        } else {
            if outdated {
                convert::from_storage(kind, &storage.version, &mut tree);
            }
            kind.fill_defaults(&storage.version, &mut tree);
        }
        Ok(Self { tree, json, revision, fresh, outdated })
    }

    fn fresh(kind: &Kind, record: store::Record) -> Result<Self, Status> {
        let store::Record { key, value, revision } = record;
        let json = stored::render(&value, revision).map_err(|e| damaged(&key, e))?;
        Self::read(kind, || key, json, revision, true)
    }

    /// What somebody who was faster has left.
    fn overtook(call: &Call, newest: Option<store::Record>) -> Result<Option<Self>, Status> {
        newest.map(|record| Self::fresh(&call.kind, record)).transpose()
    }

    fn object(&self) -> Object {
        Object { json: self.json.clone() }
    }
}

/// All resources.
pub struct Registry {
    kinds: watch::Sender<Arc<Kinds>>,
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    admission: Vec<Arc<dyn admission::Plugin>>,
    /// What nobody may use without a quota.
    limited: Arc<[Limited]>,
    claims: Claims,
    turns: charges::Turns,
    classes: charges::Classes,
    /// Of those who change one object that many change.
    contended: charges::Turns,
    clock: Clock,
    admission_times: AdmissionTimes,
}

impl Registry {
    /// `kinds` is told each change of the rows; `limited` is what nobody may use without a quota.
    pub fn new(
        kinds: watch::Sender<Arc<Kinds>>,
        store: Arc<dyn Store>,
        cache: Arc<Cache>,
        admission: Vec<Arc<dyn admission::Plugin>>,
        limited: Arc<[Limited]>,
        claims: Claims,
        clock: Clock,
    ) -> Self {
        let (turns, contended) = Default::default();
        Self {
            kinds,
            store,
            cache,
            admission,
            limited,
            claims,
            turns,
            classes: charges::classes(),
            contended,
            clock,
            admission_times: AdmissionTimes::new(),
        }
    }

    /// The rows as they are now.
    pub fn kinds(&self) -> Arc<Kinds> {
        Arc::clone(&self.kinds.borrow())
    }

    /// Changes the rows.
    pub(crate) fn change_kinds<T>(&self, change: impl FnOnce(&mut Kinds) -> T) -> T {
        let mut result = None;
        self.kinds.send_modify(|kinds| result = Some(change(Arc::make_mut(kinds))));
        // `send_modify` calls its argument once.
        result.unwrap_or_else(|| unreachable!("the rows were changed"))
    }

    /// The rows, and each change of them.
    pub fn watch_kinds(&self) -> watch::Receiver<Arc<Kinds>> {
        self.kinds.subscribe()
    }

    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// How long admission took.
    pub(crate) fn admission_times(&self) -> &AdmissionTimes {
        &self.admission_times
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::try_from((self.clock)()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The cached collection of a kind.
    ///
    /// # Errors
    /// 405 for a kind that is never kept.
    pub fn collection(&self, kind: &Kind) -> Result<Arc<Collection>, Status> {
        let storage = kind.storage.as_ref().ok_or_else(|| not_kept(kind))?;
        self.cache
            .collection(&storage.group, &storage.resource)
            .ok_or_else(|| cache_status(cache::Error::Unavailable))
    }

    /// The newest state that the cache knows of; `Ok(None)`: it knows of none.
    fn cached(&self, collection: &Collection, call: &Call) -> Result<Option<Current>, Status> {
        let Some(object) = collection.get(&call.namespace, &call.name) else { return Ok(None) };
        let key = || collection.spec().key(&call.namespace, &call.name);
        Current::read(&call.kind, key, object.json().clone(), object.revision(), false).map(Some)
    }

    /// Where a change starts: at what the cache has, which is nearly always right, or else at the store.
    async fn known(
        &self,
        collection: &Collection,
        call: &Call,
        key: &Key,
    ) -> Result<Option<Current>, Status> {
        match self.cached(collection, call)? {
            Some(cached) => Ok(Some(cached)),
            None => self.fresh(&call.kind, key).await,
        }
    }

    /// The newest state there is.
    async fn fresh(&self, kind: &Kind, key: &Key) -> Result<Option<Current>, Status> {
        self.store
            .get(key)
            .await
            .map_err(store_status)?
            .map(|record| Current::fresh(kind, record))
            .transpose()
    }

    /// Writes all or nothing.
    async fn commit(&self, writes: Vec<Write>) -> Result<store::Outcome, Status> {
        let traced = trace::step("commit");
        let outcome = self.store.commit(writes).await;
        if let Some(traced) = traced {
            traced.end(outcome.is_err());
        }
        outcome.map_err(store_status)
    }

    /// The write of an object's bytes.
    fn put(&self, call: &Call, verb: &'static str, key: &Key, expect: store::Expect, value: Bytes) -> Write {
        let change = Change::Put { value, ttl: lifetime(&call.kind) };
        Write { key: key.clone(), expect, change, note: self.note(call, verb) }
    }

    async fn admit(
        &self,
        attributes: &admission::Attributes<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        let mut step = self.admission_times.step(Phase::Admit, attributes.operation);
        let mut outcome = Ok(());
        loop {
            for plugin in self.admission.iter().filter(|plugin| plugin.handles(attributes)) {
                outcome = plugin.admit(attributes, object, old).await;
                step.lap(plugin.name(), outcome.is_err());
                if outcome.is_err() {
                    break;
                }
            }
            if outcome.is_err() || !attributes.round.next() {
                break;
            }
        }
        step.end(outcome.is_err());
        outcome
    }

    /// Admits an object that will be answered and not kept.
    pub(crate) async fn admit_asked(&self, call: &Call, object: &mut Value) -> Result<(), Status> {
        let attributes = call.attributes(Operation::Create, &call.name);
        self.admit(&attributes, object, &Value::Null).await?;
        self.validate_admission(&attributes, object, &Value::Null).await
    }

    /// Admits what is said of an object, as a change of its status that changes nothing.
    pub(crate) async fn admit_report(&self, call: &Call, object: &Value) -> Result<(), Status> {
        let call = Call { subresource: "status".to_owned(), ..call.clone() };
        let attributes = call.attributes(Operation::Update, &call.name);
        self.admit(&attributes, &mut object.clone(), object).await?;
        self.validate_admission(&attributes, object, object).await
    }

    /// Admits a connection to an object; `options` is what the connection is asked for with.
    pub(crate) async fn admit_connect(&self, call: &Call, mut options: Value) -> Result<(), Status> {
        let attributes = call.attributes(Operation::Connect, &call.name);
        self.admit(&attributes, &mut options, &Value::Null).await?;
        self.validate_admission(&attributes, &options, &Value::Null).await
    }

    /// Lets plug-ins tell the client about an object that they have let through.
    fn warn(&self, call: &Call, attributes: &admission::Attributes<'_>, object: &Value, old: &Value) {
        // Who writes a status or another part has not written what there is to warn of.
        if call.subresource.is_empty() {
            (call.kind.hooks.warnings)(object, old).into_iter().for_each(|text| call.warnings.add(text));
        }
        for plugin in &self.admission {
            plugin.warnings(attributes, object, old).into_iter().for_each(|text| call.warnings.add(text));
        }
    }

    async fn validate_admission(
        &self,
        attributes: &admission::Attributes<'_>,
        object: &Value,
        old: &Value,
    ) -> Result<(), Status> {
        let mut step = self.admission_times.step(Phase::Validate, attributes.operation);
        let mut outcome = Ok(());
        for plugin in self.admission.iter().filter(|plugin| plugin.handles(attributes)) {
            outcome = plugin.validate(attributes, object, old).await;
            step.lap(plugin.name(), outcome.is_err());
            if outcome.is_err() {
                break;
            }
        }
        step.end(outcome.is_err());
        outcome
    }
}

/// The storage of a kind that has one.
fn storage(kind: &Kind) -> Result<&Storage, Status> {
    kind.storage.as_ref().ok_or_else(|| not_kept(kind))
}

fn not_kept(kind: &Kind) -> Status {
    Status::new(
        Reason::MethodNotAllowed,
        format!("objects of {} are not kept, they can only be created", kind.qualified_resource()),
    )
}

/// Events are kept for an hour, everything else until it is deleted.
fn lifetime(kind: &Kind) -> Option<Duration> {
    const EVENTS: Duration = Duration::from_secs(3600);
    kind.storage.as_ref().is_some_and(|s| s.resource == "events").then_some(EVENTS)
}

/// The object that was just written.
fn rendered(key: &Key, stored: &[u8], revision: Revision) -> Result<Object, Status> {
    let json = stored::render(stored, revision).map_err(|e| damaged(key, e))?;
    Ok(Object { json })
}

fn damaged(key: &Key, why: impl std::fmt::Display) -> Status {
    Status::internal(format!("the record {} is damaged: {why}", key.as_str()))
}

/// What a client is told of a failed store.
pub fn store_status(error: store::Error) -> Status {
    let reason = match &error {
        store::Error::Compacted { .. } => Reason::Expired,
        store::Error::Future { .. } => Reason::Timeout,
        store::Error::Closed | store::Error::Lost { .. } => Reason::ServiceUnavailable,
        store::Error::Poisoned | store::Error::Unavailable { .. } => {
            return retry(Reason::ServiceUnavailable, error.to_string(), Vec::new());
        }
        // Nobody may try again by himself what may have happened.
        store::Error::InDoubt { .. } => Reason::Timeout,
        store::Error::TooLarge { .. } => Reason::RequestEntityTooLarge,
        _ => Reason::InternalError,
    };
    Status::new(reason, error.to_string())
}

/// A refusal that will soon be none.
fn retry(reason: Reason, message: String, causes: Vec<StatusCause>) -> Status {
    let details = Details { causes, retry_after_seconds: 1, ..Details::default() };
    Status::new(reason, message).with_details(details)
}

/// What a client is told when the cache cannot answer.
pub fn cache_status(error: cache::Error) -> Status {
    let message = error.to_string();
    match error {
        cache::Error::Invalid(_) | cache::Error::InvalidContinue(_) => Status::bad_request(message),
        cache::Error::ContinueExpired { next } => Status::new(Reason::Expired, message).with_continue(next),
        cache::Error::Expired | cache::Error::Gone { .. } | cache::Error::Slow => {
            Status::new(Reason::Expired, message)
        }
        cache::Error::Future { .. } => retry(
            Reason::Timeout,
            message,
            vec![StatusCause {
                reason: "ResourceVersionTooLarge".to_owned(),
                message: "Too large resource version".to_owned(),
                field: String::new(),
            }],
        ),
        cache::Error::Removed => Status::new(Reason::NotFound, message),
        cache::Error::Unavailable => retry(Reason::TooManyRequests, message, Vec::new()),
        cache::Error::Store(source) => store_status(source),
        cache::Error::Damaged { .. } => Status::internal(message),
    }
}

#[cfg(test)]
#[path = "warnings_tests.rs"]
mod warnings_tests;
