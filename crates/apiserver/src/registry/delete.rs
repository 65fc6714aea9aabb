//! Deleting objects: at once, gracefully, or once their finalizers are gone.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tiphys_api::kind::Kind;
use tiphys_api::meta;
use tiphys_api::status::Status;
use tiphys_store::{Change, Expect, Key, Outcome, Write};

use super::{Call, Current, Object, Registry, objectmeta, rendered};
use crate::admission::{Attributes, Operation};
use crate::cache::ListOptions;
use crate::stored;

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
}

/// `meta/v1.DeleteOptions`, but for `dryRun`, which is the call's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    pub grace: Option<i64>,
    pub propagation: Option<Propagation>,
    /// The object must have this UID.
    pub uid: Option<String>,
    /// The object must have this version.
    pub resource_version: Option<String>,
    /// The version that the request speaks leaves the dependents, unless it is told otherwise.
    pub orphans: bool,
}

/// What a delete did.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The object's last state, or, while it waits for its end, what it is now.
    pub object: Object,
    /// It is no more.
    pub gone: bool,
    pub uid: String,
}

/// What is to be done with an object that somebody wants deleted.
#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    /// It goes at once; whoever asked is shown this, where it is not the object as it was.
    Remove(Option<Value>),
    /// It becomes this, and waits for its grace period or its finalizers.
    Mark(Value),
    /// It waits already.
    Wait,
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Deletes in flight of one `deletecollection`.
const PARALLEL: usize = 64;
/// A writer that is overtaken this often gives in.
const ATTEMPTS: usize = 64;

fn is_namespace(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.resource == "namespaces"
}

/// Whether objects of the kind say themselves that they are being deleted, to a controller that takes away what is in
/// them first. They have no time to end in, and a second delete changes nothing.
fn empties_first(kind: &Kind) -> bool {
    is_namespace(kind) || is_definition(kind)
}

fn is_definition(kind: &Kind) -> bool {
    kind.group == "apiextensions.k8s.io" && kind.resource == "customresourcedefinitions"
}

/// Events have no dependents, so nothing is waited for.
fn has_dependents(kind: &Kind) -> bool {
    kind.storage.as_ref().is_none_or(|storage| (&*storage.group, &*storage.resource) != ("", "events"))
}

/// Whether somebody still has to do something before the object may go.
fn is_held(kind: &Kind, object: &Value) -> bool {
    let held_by_spec = || object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    meta::finalizers(object).next().is_some() || (is_namespace(kind) && held_by_spec())
}

/// Whether an update has taken away the last that an object being deleted was waiting for.
pub(super) fn is_due(kind: &Kind, object: &Value, old: &Value) -> bool {
    objectmeta::deletion_time(old).is_some()
        && objectmeta::grace(old).unwrap_or(0) == 0
        && !is_held(kind, object)
}

/// The finalizers that an object has once `options` have their way.
fn finalizers(kind: &Kind, object: &Value, options: &DeleteOptions) -> Vec<String> {
    let now: Vec<&str> = meta::finalizers(object).collect();
    let begins = objectmeta::deletion_time(object).is_none();
    if !has_dependents(kind) || (is_definition(kind) && begins) {
        return now.into_iter().map(str::to_owned).collect();
    }
    let policy = options.propagation.unwrap_or_else(|| {
        if now.contains(&ORPHAN) {
            Propagation::Orphan
        } else if now.contains(&FOREGROUND) {
            Propagation::Foreground
        } else if kind.orphan_by_default || options.orphans {
            Propagation::Orphan
        } else {
            Propagation::Background
        }
    });
    let wanted = match policy {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    let others = now.iter().copied().filter(|f| *f != ORPHAN && *f != FOREGROUND);
    others.chain(wanted).map(str::to_owned).collect()
}

fn count_generation(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64().filter(|g| *g > 0) {
        object["metadata"]["generation"] = (generation + 1).into();
    }
}

/// Starts a graceful deletion, or shortens one. `None`: there is nothing graceful about it.
///
/// `Some(Err(()))`: it has been started and is not shortened.
fn graceful(kind: &Kind, object: &mut Value, wish: Option<i64>, now: Timestamp) -> Option<Result<i64, ()>> {
    let wish = wish.map(|s| if s < 0 { 1 } else { s });
    let after =
        |from: Timestamp, seconds| from.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(from);
    let rule = kind.hooks.grace?;
    let Some(ends) = objectmeta::deletion_time(object) else {
        let seconds = rule(object, wish);
        object["metadata"]["deletionTimestamp"] = objectmeta::time(after(now, seconds)).into();
        object["metadata"]["deletionGracePeriodSeconds"] = seconds.into();
        count_generation(object);
        return Some(Ok(seconds));
    };
    let left = objectmeta::grace(object).unwrap_or(0);
    if left == 0 {
        return None;
    }
    let Some(mut seconds) = wish.filter(|s| *s < left) else { return Some(Err(())) };
    let mut sooner = after(ends, seconds - left);
    if sooner < now {
        sooner = now;
        // A deletion that was asked to be graceful is ended by whoever runs the object, not by the server.
        seconds = seconds.min(1);
    }
    object["metadata"]["deletionTimestamp"] = objectmeta::time(sooner).into();
    object["metadata"]["deletionGracePeriodSeconds"] = seconds.into();
    Some(Ok(seconds))
}

/// Decides what a delete does to an object.
pub(super) fn plan(kind: &Kind, object: &Value, options: &DeleteOptions, now: Timestamp) -> Plan {
    let mut marked = object.clone();
    let began = objectmeta::deletion_time(object).is_some();
    if began && is_namespace(kind) && !meta::items(object, &["spec", "finalizers"]).is_empty() {
        return Plan::Wait;
    }
    if !began {
        (kind.hooks.prepare_delete)(&mut marked, &objectmeta::time(now));
    }
    let graceful = match graceful(kind, &mut marked, options.grace, now) {
        Some(Err(())) => return Plan::Wait,
        Some(Ok(seconds)) => Some(seconds),
        None => None,
    };
    let finalizers = finalizers(kind, &marked, options);
    if finalizers.is_empty() {
        meta::metadata_mut(&mut marked).remove("finalizers");
    } else {
        marked["metadata"]["finalizers"] = finalizers.into();
    }
    let held = is_held(kind, &marked);
    if graceful.is_none() && held {
        if !began && !empties_first(kind) {
            count_generation(&mut marked);
        }
        if objectmeta::deletion_time(&marked).is_none_or(|at| at > now) {
            marked["metadata"]["deletionTimestamp"] = objectmeta::time(now).into();
        }
        if is_namespace(kind) {
            marked["status"]["phase"] = "Terminating".into();
        }
        if !empties_first(kind) {
            marked["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        }
    }
    match graceful {
        _ if held => {}
        Some(seconds) if seconds > 0 => {}
        Some(_) => return Plan::Remove(Some(marked)),
        None => return Plan::Remove(None),
    }
    if marked == *object { Plan::Wait } else { Plan::Mark(marked) }
}

impl Registry {
    /// Deletes the object that `call` names.
    ///
    /// # Errors
    /// 404, 409 where a precondition does not hold, and what admission answers.
    pub async fn delete(&self, call: &Call, options: &DeleteOptions) -> Result<Deleted, Status> {
        let collection = self.collection(&call.kind)?;
        let key = collection.spec().key(&call.namespace, &call.name);
        let mut from = self.known(&collection, call, &key).await?;
        for _ in 0..ATTEMPTS {
            let Some(start) = from else { return Err(call.not_found()) };
            from = match self.try_delete(call, &key, options, &start).await {
                Ok(Ok(deleted)) => return Ok(deleted),
                Ok(Err(newest)) => newest,
                Err(status) if start.fresh => return Err(status),
                Err(status) => match self.fresh(&call.kind, &key).await? {
                    Some(newest) if newest.revision == start.revision => return Err(status),
                    newest => newest,
                },
            };
        }
        Err(call.conflict("too many others changed the object at the same time; try again"))
    }

    /// One attempt; `Ok(Err(newest))`: somebody else was faster.
    async fn try_delete(
        &self,
        call: &Call,
        key: &Key,
        options: &DeleteOptions,
        from: &Current,
    ) -> Result<Result<Deleted, Option<Current>>, Status> {
        preconditions(call, options, &from.tree)?;
        let attributes =
            Attributes { delete: Some(options), ..call.attributes(Operation::Delete, &call.name) };
        self.admit(&attributes, &mut Value::Null, &from.tree).await?;
        self.validate_admission(&attributes, &Value::Null, &from.tree).await?;
        let uid = meta::uid(&from.tree).to_owned();
        let waiting = |object| Ok(Ok(Deleted { object, gone: false, uid: uid.clone() }));
        match plan(&call.kind, &from.tree, options, self.now()) {
            // A cache that is behind may show an object that is gone, and another in its place.
            Plan::Wait if !from.fresh => match self.fresh(&call.kind, key).await? {
                Some(newest) if newest.revision == from.revision => waiting(newest.object()),
                newest => Ok(Err(newest)),
            },
            Plan::Wait => waiting(from.object()),
            Plan::Remove(shown) => {
                let object = match shown {
                    Some(marked) => rendered(key, &stored::encode(&marked), from.revision)?,
                    None => from.object(),
                };
                let removed = self.remove(call, key, from).await?;
                Ok(removed.map(|()| Deleted { object, gone: true, uid }))
            }
            Plan::Mark(marked) => {
                let bytes = stored::encode(&marked);
                if call.dry_run {
                    return waiting(rendered(key, &bytes, from.revision)?);
                }
                let write = self.put(call, "delete", key, Expect::At(from.revision), bytes.clone());
                match self.commit(vec![write]).await? {
                    Outcome::Committed(revision) => waiting(rendered(key, &bytes, revision)?),
                    Outcome::Conflict { current: newest, .. } => Ok(Err(Current::overtook(call, newest)?)),
                }
            }
        }
    }

    /// Takes the object out of the store; `Ok(Err(newest))`: somebody else was faster.
    pub(super) async fn remove(
        &self,
        call: &Call,
        key: &Key,
        from: &Current,
    ) -> Result<Result<(), Option<Current>>, Status> {
        if call.dry_run {
            return Ok(Ok(()));
        }
        let expect = Expect::At(from.revision);
        let mut writes =
            vec![Write { key: key.clone(), expect, change: Change::Delete, note: self.note(call, "delete") }];
        writes.extend(self.claims.changes(&call.kind, &from.tree, &Value::Null, &self.store).await?);
        match self.commit(writes).await? {
            Outcome::Committed(_) => Ok(Ok(())),
            // Somebody may have been faster with a claim, too; then the object itself is still as it was, and
            // the next attempt finds the claim as it is now.
            Outcome::Conflict { .. } => Ok(Err(self.fresh(&call.kind, key).await?)),
        }
    }

    /// Deletes every object that `list` finds, and returns them as they were listed.
    ///
    /// # Errors
    /// What the list answers, and the first that is not 404.
    pub async fn delete_collection(
        &self,
        call: &Call,
        options: &DeleteOptions,
        list: ListOptions,
    ) -> Result<Vec<Object>, Status> {
        use futures::{StreamExt, TryStreamExt};

        let page = self.list(call, list).await?;
        let deletes = page.map(|object| async move {
            let one = call.of(object.namespace(), object.name());
            match self.delete(&one, options).await {
                Err(status) if status.code() != 404 => Err(status),
                _ => Ok(Object::from(&*object)),
            }
        });
        futures::stream::iter(deletes).buffered(PARALLEL).try_collect().await
    }
}

fn preconditions(call: &Call, options: &DeleteOptions, object: &Value) -> Result<(), Status> {
    let kind = &call.kind;
    let held = |what: &str, wanted: &Option<String>, is: &str, why: &str| match wanted {
        Some(wanted) if wanted != is && empties_first(kind) => {
            let failed = if is_namespace(kind) { "Precondition failed" } else { "precondition failed" };
            Err(call.conflict(&format!(
                "{failed}: {what} in precondition: {wanted}, {what} in object meta: {is}"
            )))
        }
        Some(wanted) if wanted != is => {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). {why}"
            );
            // Upstream names the kind here, in the group that it is of, where others name the resource.
            let group = kind.storage.as_ref().map_or(&kind.group, |storage| &storage.group);
            Err(Status::conflict(group, &kind.kind, &call.name, &why))
        }
        _ => Ok(()),
    };
    let version = meta::text(object, &["metadata", "resourceVersion"]);
    held("UID", &options.uid, meta::uid(object), "The object might have been deleted and then recreated")?;
    held("ResourceVersion", &options.resource_version, version, "The object might have been modified")
}

impl Deleted {
    /// The answer for kinds that don't return what they deleted.
    pub fn status(&self, call: &Call) -> Value {
        let mut details = json!({"name": call.name, "kind": call.kind.resource, "uid": self.uid});
        if !call.kind.group.is_empty() {
            details["group"] = call.kind.group.as_ref().into();
        }
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
    }
}

#[cfg(test)]
#[path = "delete_tests.rs"]
mod tests;
