//! CustomResourceDefinitions at work: each makes a row, a collection, and has its status kept.
//!
//! One task follows the definitions. What a change of one costs does not depend on how many there are: names
//! are looked up by group, rows are put into a persistent tree, and a schema is compiled when its generation
//! changes. A row is served before the definition says that it is established.

mod cleanup;
mod conversion;
mod names;
pub(crate) mod rules;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use tiphys_api::custom::{self, definition};
use tiphys_api::kind::{Kind, Kinds, Update};
use tiphys_api::meta;
use tiphys_api::status::Status;
use tiphys_store::{Range, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::names::{Names, Outcome};
use crate::cache::{At, Change, Collection, Filter, Notice, Object, Spec, Start, WatchOptions};
use crate::outgoing::Outgoing;
use crate::registry::{Call, Registry, Updating, objectmeta};

/// The group of the definitions.
pub const GROUP: &str = "apiextensions.k8s.io";
const RESOURCE: &str = "customresourcedefinitions";
const VERSION: &str = "v1";

/// How many definitions are read from the store at once.
const PAGE: usize = 500;

/// Makes what a definition asks for besides its schema. The way out is known later than the first definitions.
#[derive(Clone, Default)]
pub(crate) struct Workshop {
    outgoing: Arc<OnceLock<Arc<Outgoing>>>,
}

impl Workshop {
    /// Lets converters call.
    pub(crate) fn open(&self, outgoing: &Arc<Outgoing>) {
        // A second time would bring the same.
        let _ = self.outgoing.set(Arc::clone(outgoing));
    }
}

impl custom::Compiler for Workshop {
    fn rules(&self, schema: &custom::Structural) -> Option<Arc<dyn custom::Rules>> {
        rules::compile(schema)
    }

    fn converter(&self, webhook: &Value) -> Arc<dyn custom::Converter> {
        Arc::new(conversion::Webhook::new(webhook, Arc::clone(&self.outgoing)))
    }
}

/// What is known of the definitions.
#[derive(Default)]
pub(crate) struct Definitions {
    pub(crate) workshop: Workshop,
    names: Names,
    /// By the name of the definition.
    known: HashMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    group: String,
    /// What its row was made of; `None`: it is not served.
    served: Option<Stamp>,
    /// Its objects are being deleted.
    going: bool,
}

/// What a row depends on.
#[derive(Clone, Debug, PartialEq)]
struct Stamp {
    uid: String,
    generation: i64,
    accepted: Value,
    stored: Value,
    terminating: bool,
}

impl Stamp {
    fn of(definition: &Value, accepted: &Value) -> Self {
        Self {
            uid: meta::uid(definition).to_owned(),
            generation: meta::generation(definition),
            accepted: accepted.clone(),
            stored: definition["status"]["storedVersions"].clone(),
            terminating: meta::is_terminating(definition),
        }
    }
}

impl Definitions {
    /// Adds the rows of all definitions that are stored and established, so that their collections are loaded
    /// with those of built-in kinds.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn restore(store: &dyn Store, kinds: &mut Kinds) -> Result<Self, tiphys_store::Error> {
        let mut this = Self::default();
        let prefix = format!("/registry/{GROUP}/{RESOURCE}/");
        let mut after = None;
        loop {
            let range = Range { prefix: prefix.clone(), after, limit: Some(PAGE) };
            let page = store.range(range, None).await?;
            after = page.records.last().map(|record| record.key.clone());
            for record in &page.records {
                // A damaged record is told by the cache, which reads it next.
                let Ok(stored) = serde_json::from_slice::<Value>(&record.value) else { continue };
                this.restore_one(&stored, kinds);
            }
            if !page.more {
                return Ok(this);
            }
        }
    }

    fn restore_one(&mut self, definition: &Value, kinds: &mut Kinds) {
        if !definition::is_true(definition, "Established") {
            return;
        }
        let (name, group) = (meta::name(definition), meta::text(definition, &["spec", "group"]));
        let accepted = definition["status"]["acceptedNames"].clone();
        let served = Stamp::of(definition, &accepted);
        match kinds.insert(custom::row(definition, &self.workshop)) {
            Ok(()) => {
                self.names.note(name, group, &Outcome { accepted, conflict: None });
                let known = Known { group: group.to_owned(), served: Some(served), going: false };
                self.known.insert(name.to_owned(), known);
            }
            Err(taken) => tracing::warn!(name, %taken, "a definition is not served"),
        }
    }
}

/// Follows the definitions until the server stops or its cache ends.
pub(crate) async fn run(registry: Arc<Registry>, definitions: Definitions, stop: CancellationToken) {
    let (Definitions { workshop, names, known }, tasks) = (definitions, JoinSet::new());
    let mut keeper = Keeper { registry, workshop, names, known, tasks };
    // Dropping the keeper ends its tasks.
    tokio::select! {
        () = stop.cancelled() => {}
        () = keeper.follow() => {}
    }
}

struct Keeper {
    registry: Arc<Registry>,
    workshop: Workshop,
    names: Names,
    known: HashMap<String, Known>,
    /// Writes of status, and deletions of objects.
    tasks: JoinSet<Done>,
}

/// What a task has done.
enum Done {
    Wrote,
    /// The objects of a definition are gone, or cannot be deleted.
    Cleaned(String),
}

impl Keeper {
    async fn follow(&mut self) {
        loop {
            let Some(collection) = self.registry.cache().collection(GROUP, RESOURCE) else { return };
            let options =
                WatchOptions { start: Start::State(At::Any), filter: Filter::default(), bookmarks: false };
            let Ok(mut watch) = collection.watch(options).await else { return };
            let gone: Vec<String> =
                self.known.keys().filter(|name| collection.get("", name).is_none()).cloned().collect();
            for name in gone {
                self.gone(&collection, &name).await;
            }
            loop {
                tokio::select! {
                    notices = watch.next() => match notices {
                        Ok(notices) => {
                            for notice in notices {
                                self.take(&collection, notice).await;
                            }
                        }
                        // What was missed is found by starting again.
                        Err(_) => break,
                    },
                    Some(done) = self.tasks.join_next() => {
                        if let Ok(Done::Cleaned(name)) = done {
                            self.cleaned(&collection, &name).await;
                        }
                    }
                }
            }
        }
    }

    async fn take(&mut self, collection: &Arc<Collection>, notice: Notice) {
        let Notice::Object { change, object, .. } = notice else { return };
        match change {
            Change::Added | Change::Modified => self.changed(collection, &object).await,
            Change::Deleted => self.gone(collection, object.name()).await,
        }
    }

    /// A cleanup has ended; if the definition is there still, it is tried again.
    async fn cleaned(&mut self, collection: &Arc<Collection>, name: &str) {
        if let Some(known) = self.known.get_mut(name) {
            known.going = false;
        }
        if let Some(object) = collection.get("", name) {
            self.changed(collection, &object).await;
        }
    }

    async fn changed(&mut self, collection: &Arc<Collection>, object: &Object) {
        let mut again = self.look(object).await;
        // Who gives a name up may let another have it, which may give up another in turn.
        for _ in 0..MAX_TURNS {
            let Some(name) = again.pop() else { return };
            if let Some(object) = collection.get("", &name) {
                again.extend(self.look(&object).await);
            }
        }
    }

    /// Brings row, collection and status of a definition up to date. Returns others that may get names now.
    async fn look(&mut self, object: &Object) -> Vec<String> {
        let Ok(definition) = serde_json::from_slice::<Value>(object.json()) else { return Vec::new() };
        let name = meta::name(&definition).to_owned();
        let group = meta::text(&definition, &["spec", "group"]).to_owned();
        let known = self.known.entry(name.clone()).or_insert_with(|| Known {
            group: group.clone(),
            served: None,
            going: false,
        });
        if meta::is_terminating(&definition) {
            let start = !known.going && meta::finalizers(&definition).any(|f| f == definition::FINALIZER);
            let established = known.served.is_some();
            known.going |= start;
            if established {
                let accepted = definition["status"]["acceptedNames"].clone();
                self.serve(&name, &definition, accepted).await;
            }
            if start {
                let registry = Arc::clone(&self.registry);
                let row = established.then(|| self.row(&definition)).flatten();
                self.tasks.spawn(async move {
                    cleanup::run(&registry, &name, row).await;
                    Done::Cleaned(name)
                });
            }
            return Vec::new();
        }
        let kinds = self.registry.kinds();
        let is_builtin =
            |plural: &str| kinds.group_resource(&group, plural).is_some_and(|k| k.custom.is_none());
        let outcome = self.names.decide(&definition, is_builtin);
        let again = self.names.note(&name, &group, &outcome);
        let established = definition::is_true(&definition, "Established")
            || outcome.conflict.is_none() && definition::unservable(&definition).is_none();
        if established && !self.serve(&name, &definition, outcome.accepted.clone()).await {
            return again;
        }
        let now = objectmeta::time(self.registry.now());
        let mut shown = definition.clone();
        tell(&mut shown, &outcome, established, &now);
        if shown != definition {
            let (registry, uid) = (Arc::clone(&self.registry), meta::uid(&definition).to_owned());
            self.tasks.spawn(async move {
                let written = write(&registry, &name, |live| {
                    if meta::uid(live) == uid {
                        tell(live, &outcome, established, &now);
                    }
                });
                if let Err(status) = written.await {
                    tracing::debug!(
                        name,
                        status = status.message,
                        "the status of a definition was not written"
                    );
                }
                Done::Wrote
            });
        }
        again
    }

    /// The row that a definition has now.
    fn row(&self, definition: &Value) -> Option<Arc<Kind>> {
        let kinds = self.registry.kinds();
        let group = meta::text(definition, &["spec", "group"]);
        let plural = meta::text(definition, &["status", "acceptedNames", "plural"]);
        kinds.group_resource(group, plural).filter(|row| row.custom.is_some()).cloned()
    }

    /// Makes the row of a definition, or makes it anew, and its collection. Tells whether it is served.
    async fn serve(&mut self, name: &str, definition: &Value, accepted: Value) -> bool {
        let stamp = Stamp::of(definition, &accepted);
        let Some(known) = self.known.get_mut(name) else { return false };
        if known.served.as_ref() == Some(&stamp) {
            return true;
        }
        let mut named = definition.clone();
        named["status"]["acceptedNames"] = accepted;
        let row = Arc::new(custom::row(&named, &self.workshop));
        let Some(spec) = Spec::of(&row) else { return false };
        let cache = self.registry.cache();
        if cache.collection(&spec.group, &spec.resource).is_some_and(|there| *there.spec() != spec) {
            cache.remove(&spec.group, &spec.resource).await;
        }
        if let Err(error) = cache.add(spec).await {
            tracing::warn!(name, %error, "the objects of a definition cannot be loaded");
            return false;
        }
        let inserted = self.registry.change_kinds(|kinds| {
            kinds.remove(&row.group, &row.resource);
            kinds.insert(Arc::clone(&row))
        });
        if let Err(taken) = inserted {
            tracing::warn!(name, %taken, "a definition is not served");
            return false;
        }
        known.served = Some(stamp);
        true
    }

    async fn gone(&mut self, collection: &Arc<Collection>, name: &str) {
        let Some(known) = self.known.remove(name) else { return };
        if let Some(served) = known.served {
            let plural = served.accepted["plural"].as_str().unwrap_or_default();
            self.registry.change_kinds(|kinds| kinds.remove(&known.group, plural));
            self.registry.cache().remove(&known.group, plural).await;
            cleanup::sweep(&self.registry, &known.group, plural).await;
        }
        for waiting in self.names.forget(name, &known.group) {
            if let Some(object) = collection.get("", &waiting) {
                self.changed(collection, &object).await;
            }
        }
    }
}

/// Names pass on at most this often for one change.
const MAX_TURNS: usize = 1_000;

/// Writes into a definition's status what was decided of its names, and what else it has to be told.
fn tell(definition: &mut Value, outcome: &Outcome, established: bool, now: &str) {
    definition["status"]["acceptedNames"] = outcome.accepted.clone();
    let (status, reason, message) = match &outcome.conflict {
        None => ("True", "NoConflicts", "no conflicts found"),
        Some((reason, message)) => ("False", *reason, message.as_str()),
    };
    definition::set_condition(definition, ["NamesAccepted", status, reason, message], now);
    if !definition::is_true(definition, "Established") {
        let condition = match (established, definition::unservable(definition)) {
            (true, _) => {
                ["Established", "True", "InitialNamesAccepted", "the initial names have been accepted"]
            }
            (false, Some([reason, why])) if outcome.conflict.is_none() => {
                ["Established", "False", reason, why]
            }
            (false, _) => ["Established", "False", "NotAccepted", "not all names are accepted"],
        };
        definition::set_condition(definition, condition, now);
    }
    definition::tell(definition, now);
}

/// Changes a definition's status, or its finalizers.
async fn write(
    registry: &Registry,
    name: &str,
    change: impl Fn(&mut Value) + Send + Sync,
) -> Result<(), Status> {
    let kinds = registry.kinds();
    let Some(kind) = kinds.resource(GROUP, VERSION, RESOURCE) else { return Ok(()) };
    let call = Call { subresource: "status".to_owned(), ..Call::own(kind, VERSION, "", name) };
    let rules = Update { prepare: tiphys_api::prepare::update_status, ..Update::PLAIN };
    let mut make = |live: Option<&Value>| {
        let mut live = live.ok_or_else(|| call.not_found())?.clone();
        change(&mut live);
        Ok(live)
    };
    registry.update(&call, Updating { rules, create: false, make: &mut make }).await.map(|_| ())
}

#[cfg(test)]
#[path = "definitions_tests.rs"]
mod tests;
