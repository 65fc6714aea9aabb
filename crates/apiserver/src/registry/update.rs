//! Changing objects: what PUT, PATCH and the subresources do.

use std::time::Duration;

use serde_json::Value;
use tiphys_api::kind::Update;
use tiphys_api::status::Status;
use tiphys_api::{field, meta};
use tiphys_store::{Expect, Key, Outcome, Revision};
use tokio::{sync::OwnedMutexGuard, time::timeout};

use super::{Call, Current, Object, Registry, create, delete, objectmeta, storage, validate};
use crate::admission::Operation;
use crate::cache::Collection;
use crate::stored;

/// An object after an update.
#[derive(Clone, Debug)]
pub struct Updated {
    pub object: Object,
    /// There was none before.
    pub created: bool,
}

/// What an update is to do.
pub struct Change<'a> {
    /// What this way of updating lets through.
    pub rules: Update,
    /// Makes an object that does not exist.
    pub create: bool,
    /// The object as it shall be, made of what it is, both in the storage version (where a webhook
    /// converts, in the call's); `None`: it does not exist. Is
    /// asked again when somebody else was faster.
    pub make: &'a mut (dyn FnMut(Option<&Value>) -> Result<Value, Status> + Send),
}

/// A writer that is overtaken this often gives in, so that a request always ends.
const ATTEMPTS: usize = 64;
/// A writer that is overtaken this often takes turns with all others that change the object.
const PATIENT: usize = 2;
/// Nobody waits longer for a turn: turns only save attempts.
const TURN: Duration = Duration::from_secs(1);

enum Attempt {
    Done(Updated),
    /// Somebody else changed the object; this is what it is now.
    Overtaken(Option<Current>),
}

impl Registry {
    /// Changes the object that `call` names.
    ///
    /// The first attempt starts from the cache, which is nearly always right; when an attempt fails and the
    /// cache was behind, the next starts from the store.
    ///
    /// # Errors
    /// 404, 409 where the caller insists on a version that is not the newest, 422, and what admission answers.
    pub async fn update(&self, call: &Call, mut change: Change<'_>) -> Result<Updated, Status> {
        let collection = self.collection(&call.kind)?;
        let key = collection.spec().key(&call.namespace, &call.name);
        let mut turn = if self.contended.is_taken(key.as_str()) { self.turn(&key).await } else { None };
        let mut from = self.known(&collection, call, &key).await?;
        for attempt in 0..ATTEMPTS {
            if attempt == PATIENT && turn.is_none() {
                turn = self.turn(&key).await;
                from = self.known(&collection, call, &key).await?;
            }
            if from.is_none() {
                // Who makes the object may have to wait for others to change it.
                turn = None;
            }
            match self.attempt(call, &collection, &mut change, from.as_ref()).await {
                Ok(Attempt::Done(updated)) => return Ok(updated),
                Ok(Attempt::Overtaken(newest)) => from = newest,
                Err(status) => match from {
                    Some(cached) if !cached.fresh => {
                        let newest = self.fresh(&call.kind, &key).await?;
                        if newest.as_ref().map(|n| n.revision) == Some(cached.revision) {
                            return Err(status);
                        }
                        from = newest;
                    }
                    _ => return Err(status),
                },
            }
        }
        Err(call.conflict("too many others changed the object at the same time; try again"))
    }

    /// Waits for one's turn to change an object, and until the cache has what the one before has left.
    async fn turn(&self, key: &Key) -> Option<OwnedMutexGuard<Revision>> {
        let turn = timeout(TURN, self.contended.take(key.as_str())).await.ok()?;
        self.cache.wait_newest().await.ok().map(|()| turn)
    }

    async fn attempt(
        &self,
        call: &Call,
        collection: &Collection,
        change: &mut Change<'_>,
        from: Option<&Current>,
    ) -> Result<Attempt, Status> {
        match from {
            None if change.create => self.make(call, change).await,
            None => Err(call.not_found()),
            Some(from) => self.replace(call, collection, change, from).await,
        }
    }

    /// Creates the object under the name in the request.
    async fn make(&self, call: &Call, change: &mut Change<'_>) -> Result<Attempt, Status> {
        let mut object = (change.make)(None)?;
        self.to_stored(call, &mut object, None).await?;
        let metadata = meta::metadata_mut(&mut object);
        if let Some(uid) = metadata.get("uid").and_then(Value::as_str).filter(|uid| !uid.is_empty()) {
            return Err(call.conflict(&format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            )));
        }
        in_place(call, &mut object)?;
        meta::metadata_mut(&mut object).remove("resourceVersion");
        self.admit(&call.attributes(Operation::Create, &call.name), &mut object, &Value::Null).await?;
        in_place(call, &mut object)?;
        call.kind.fill_defaults(&storage(&call.kind)?.version, &mut object);
        Ok(match self.insert(call, &mut object).await? {
            Some(object) => Attempt::Done(Updated { object, created: true }),
            None => {
                let key = self.collection(&call.kind)?.spec().key(&call.namespace, &call.name);
                Attempt::Overtaken(self.fresh(&call.kind, &key).await?)
            }
        })
    }

    async fn replace(
        &self,
        call: &Call,
        collection: &Collection,
        change: &mut Change<'_>,
        from: &Current,
    ) -> Result<Attempt, Status> {
        let kind = &call.kind;
        let old = &*self.settled(kind, from).await?;
        let spoken = self.spoken(call, old).await?;
        let mut object = (change.make)(Some(spoken.as_ref().unwrap_or(old)))?;
        self.to_stored(call, &mut object, spoken.as_ref()).await?;
        in_place(call, &mut object)?;
        self.check_identity(call, &mut object, old)?;

        let attributes = call.attributes(Operation::Update, &call.name);
        self.admit(&attributes, &mut object, old).await?;
        in_place(call, &mut object)?;
        kind.fill_defaults(&storage(kind)?.version, &mut object);
        objectmeta::keep(&mut object, old);
        (change.rules.prepare)(&mut object, old);
        (kind.hooks.stamp)(&mut object, old, &objectmeta::time(self.now()));
        let mut claimed = self.claims.begin(kind, &object);
        loop {
            self.claims.assign(kind, &mut object, old, &claimed)?;
            let errors = validate::updated(call, &change.rules, &object, old);
            create::invalid(call, &object, errors)?;
            self.validate_admission(&attributes, &object, old).await?;
            self.warn(call, &attributes, &object, old);

            let key = collection.spec().key(&call.namespace, &call.name);
            if delete::is_due(kind, &object, old) {
                return Ok(match self.remove(call, &key, from).await? {
                    // It goes as the update left it, which nobody will read again.
                    Ok(()) => {
                        let object = super::rendered(&key, &stored::encode(&object), from.revision)?;
                        Attempt::Done(Updated { object, created: false })
                    }
                    Err(newest) => Attempt::Overtaken(newest),
                });
            }
            // What lies there in an older version is written anew, as those who migrate storage expect.
            if object == *old && !from.outdated {
                return Ok(if from.fresh || call.dry_run || self.is_newest(call, collection, from).await {
                    Attempt::Done(Updated { object: from.object(), created: false })
                } else {
                    Attempt::Overtaken(self.fresh(&call.kind, &key).await?)
                });
            }
            let charge = self.charge(call, &object, old).await?;
            let bytes = stored::encode(&object);
            if call.dry_run {
                let object = super::rendered(&key, &bytes, from.revision)?;
                return Ok(Attempt::Done(Updated { object, created: false }));
            }
            let mut writes = vec![self.put(call, "update", &key, Expect::At(from.revision), bytes.clone())];
            writes.extend(self.claims.changes(kind, old, &object, &self.store).await?);
            writes.extend(charge.writes());
            match self.commit(writes).await? {
                Outcome::Committed(revision) => {
                    charge.done(revision);
                    let tree = object;
                    let object = super::rendered(&key, &bytes, revision)?;
                    self.discard_rejected(call, &key, tree, &object, revision).await?;
                    return Ok(Attempt::Done(Updated { object, created: false }));
                }
                Outcome::Conflict { key: at, current: newest } if at == key => {
                    return Ok(Attempt::Overtaken(Current::overtook(call, newest)?));
                }
                Outcome::Conflict { key: taken, .. } => {
                    charge.overtaken(&taken, &self.cache).await?;
                    claimed.add(taken, &mut object)?;
                }
            }
        }
    }

    /// Whether the object is still what the cache had. The cache may have been behind: what would change nothing there
    /// may change something now.
    async fn is_newest(&self, call: &Call, collection: &Collection, from: &Current) -> bool {
        let caught_up = self.cache.wait_newest().await.is_ok();
        let newest = || collection.get(&call.namespace, &call.name).map(|object| object.revision());
        caught_up && newest() == Some(from.revision)
    }

    /// Whether the caller means the object that is there, in the version that is there. Both are filled in
    /// where the caller left them out.
    fn check_identity(&self, call: &Call, object: &mut Value, old: &Value) -> Result<(), Status> {
        let uid = meta::uid(object);
        if !uid.is_empty() && uid != meta::uid(old) {
            return Err(call.conflict(&format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::uid(old)
            )));
        }
        let newest = meta::text(old, &["metadata", "resourceVersion"]);
        match objectmeta::version(object) {
            "" if call.kind.unconditional_update => {
                meta::metadata_mut(object).insert("resourceVersion".into(), newest.into());
                Ok(())
            }
            "" => {
                let path = field::Path::new("metadata").child("resourceVersion");
                let error = field::Error::invalid(&path, 0, "must be specified for an update");
                Err(Status::invalid(&call.kind.group, &call.kind.resource, &call.name, &[error]))
            }
            same if same == newest => Ok(()),
            _ => Err(call.conflict(
                "the object has been modified; please apply your changes to the latest version and try again",
            )),
        }
    }
}

/// Makes sure that the object has the name and the namespace of the request: admission may have changed them.
fn in_place(call: &Call, object: &mut Value) -> Result<(), Status> {
    objectmeta::has_name(object, &call.name)?;
    objectmeta::place(object, &call.namespace)
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
