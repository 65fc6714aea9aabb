//! Creating objects.

use rand::Rng;
use serde_json::Value;
use tiphys_api::status::Status;
use tiphys_api::{field, meta};
use tiphys_store::Outcome;

use super::initialization::is_pending;
use super::{Call, Object, Registry, objectmeta, storage};
use crate::admission::Operation;
use crate::stored;

/// How many names the server makes up before it gives in.
const NAMES: usize = 8;

impl Registry {
    /// Creates an object, given in the storage version with its defaults; where a webhook converts, in the
    /// call's.
    ///
    /// # Errors
    /// 409 if it exists, 422 if it is invalid, and what admission answers.
    pub async fn create(&self, call: &Call, mut object: Value) -> Result<Object, Status> {
        let kind = &call.kind;
        objectmeta::place(&mut object, &call.namespace)?;
        self.to_stored(call, &mut object, None).await?;
        let name = meta::name(&object).to_owned();
        if !name.is_empty() {
            call.annotations.named(&name);
        }
        self.admit(&call.attributes(Operation::Create, &name), &mut object, &Value::Null).await?;
        objectmeta::place(&mut object, &call.namespace)?;
        kind.fill_defaults(&storage(kind)?.version, &mut object);

        let exists = |name: &str| Status::already_exists(&kind.group, &kind.resource, name);
        let prefix = meta::text(&object, &["metadata", "generateName"]).to_owned();
        if prefix.is_empty() || !meta::name(&object).is_empty() {
            return self.insert(call, &mut object).await?.ok_or_else(|| exists(&name));
        }
        for _ in 0..NAMES {
            let name = meta::generated_name(&prefix, |below| rand::rng().random_range(0..below));
            meta::metadata_mut(&mut object).insert("name".into(), name.as_str().into());
            if let Some(created) = self.insert(call, &mut object).await? {
                call.annotations.named(&name);
                return Ok(created);
            }
        }
        Err(exists(&prefix))
    }

    /// Creates an object under the name that it has; `None` if there is one of that name. What was filled in for that
    /// stays, but for values that only one object may have: it may be tried again under another.
    pub(super) async fn insert(&self, call: &Call, object: &mut Value) -> Result<Option<Object>, Status> {
        let kind = &call.kind;
        let collection = self.collection(kind)?;
        objectmeta::fill(object, self.now());
        (kind.hooks.prepare_create)(object);
        let mut claimed = self.claims.begin(kind, object);
        loop {
            self.claims.assign(kind, object, &Value::Null, &claimed)?;
            invalid(call, object, super::validate::created(call, object))?;
            let name = meta::name(object);
            let attributes = call.attributes(Operation::Create, name);
            self.validate_admission(&attributes, object, &Value::Null).await?;
            self.warn(call, &attributes, object, &Value::Null);
            // Told last, as upstream's store does: what admission has to say comes first.
            if !objectmeta::version(object).is_empty() {
                return Err(Status::bad_request(
                    "resourceVersion should not be set on objects to be created",
                ));
            }
            let charge = self.charge(call, object, &Value::Null).await?;

            let key = collection.spec().key(&call.namespace, name);
            if call.dry_run {
                let exists = self.fresh(&call.kind, &key).await?.is_some();
                return Ok((!exists).then(|| Object { json: stored::encode(object) }));
            }
            let bytes = stored::encode(object);
            let mut writes =
                vec![self.put(call, "create", &key, tiphys_store::Expect::Absent, bytes.clone())];
            writes.extend(self.claims.changes(kind, &Value::Null, object, &self.store).await?);
            writes.extend(charge.writes());
            match self.commit(writes).await? {
                Outcome::Committed(revision) => {
                    charge.done(revision);
                    if is_pending(object) && !call.uninitialized {
                        return self.initialized(call, name, revision).await.map(Some);
                    }
                    return super::rendered(&key, &bytes, revision).map(Some);
                }
                Outcome::Conflict { key: taken, .. } if taken == key => {
                    claimed.take_back(object);
                    return Ok(None);
                }
                Outcome::Conflict { key: taken, .. } => {
                    charge.overtaken(&taken, &self.cache).await?;
                    claimed.add(taken, object)?;
                }
            }
        }
    }
}

/// 422 if there are errors.
pub(super) fn invalid(call: &Call, object: &Value, errors: field::Errors) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&call.kind.group, &call.kind.kind, meta::name(object), &errors))
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
