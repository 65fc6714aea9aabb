//! New objects that initializers have to see before everybody else does.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tiphys_api::meta;
use tiphys_api::selector::{FieldRequirement, FieldSelector};
use tiphys_api::status::{Details, Reason, Status};
use tiphys_store::{Key, Revision};

use super::{Call, Current, Object, Registry, cache_status};
use crate::cache::{Change, Filter, Notice, Start, WatchOptions};

/// Who makes an object waits this long for its initializers.
const PATIENCE: Duration = Duration::from_secs(30);
/// A writer that is overtaken this often gives in.
const ATTEMPTS: usize = 64;

/// Whether initializers have yet to see an object.
pub(super) fn is_pending(object: &Value) -> bool {
    object["metadata"].get("initializers").is_some_and(Value::is_object)
}

/// Why an initializer has rejected an object, if one has.
fn rejection(object: &Value) -> Option<Status> {
    let result = object["metadata"].get("initializers")?.get("result").filter(|result| result.is_object())?;
    let text = |key: &str| result.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let code = result.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    // What is no error is none that an HTTP answer could carry.
    let code = code.filter(|code| (400..600).contains(code)).unwrap_or(Reason::InternalError.code());
    Some(Status::foreign(code, text("reason"), text("message"), None))
}

impl Registry {
    /// Waits until all initializers have seen an object that was just made, and returns what it is then.
    ///
    /// # Errors
    /// What the initializer answered that rejected it; 504 if they take too long.
    pub(super) async fn initialized(
        &self,
        call: &Call,
        name: &str,
        made: Revision,
    ) -> Result<Object, Status> {
        tokio::time::timeout(PATIENCE, self.follow(call, name, made)).await.unwrap_or_else(|_| {
            let what = call.kind.qualified_resource();
            let message =
                format!("Timeout: server has timed out waiting for the initialization of {what} {name}");
            Err(Status::new(Reason::Timeout, message).with_details(Details::default()))
        })
    }

    async fn follow(&self, call: &Call, name: &str, made: Revision) -> Result<Object, Status> {
        let named = |field: &str, value: &str| FieldRequirement {
            field: field.to_owned(),
            value: value.to_owned(),
            equal: true,
        };
        let fields = FieldSelector { requirements: vec![named("metadata.name", name)] };
        let namespace = (!call.namespace.is_empty()).then(|| Arc::from(&*call.namespace));
        let filter = Filter { namespace, fields: Arc::new(fields), uninitialized: true, ..Filter::default() };
        let options = WatchOptions { start: Start::After(made), filter, bookmarks: false };
        let mut watch = self.collection(&call.kind)?.watch(options).await.map_err(cache_status)?;
        loop {
            for notice in watch.next().await.map_err(cache_status)? {
                let Notice::Object { change, object, .. } = notice else { continue };
                if object.is_uninitialized() {
                    let tree: Value = serde_json::from_slice(object.json()).map_err(Status::internal)?;
                    if let Some(rejected) = rejection(&tree) {
                        return Err(rejected);
                    }
                } else if change != Change::Deleted {
                    return Ok(Object::from(&*object));
                }
                if change == Change::Deleted {
                    return Err(Status::internal("object deleted while waiting for creation"));
                }
            }
        }
    }

    /// Takes away an object that an initializer has rejected, whatever its finalizers say: nobody has seen it.
    /// Its rejection was stored before, so that its creator learns why.
    pub(super) async fn discard_rejected(
        &self,
        call: &Call,
        key: &Key,
        object: Value,
        stored: &Object,
        revision: Revision,
    ) -> Result<(), Status> {
        if !is_pending(&object) || rejection(&object).is_none() {
            return Ok(());
        }
        let uid = meta::uid(&object).to_owned();
        let mut newest =
            Some(Current { tree: object, json: stored.json.clone(), revision, fresh: true, outdated: false });
        for _ in 0..ATTEMPTS {
            let Some(there) = newest.filter(|there| meta::uid(&there.tree) == uid) else { return Ok(()) };
            match self.remove(call, key, &there).await? {
                Ok(()) => return Ok(()),
                Err(overtook) => newest = overtook,
            }
        }
        Err(call.conflict("too many others changed the object at the same time; try again"))
    }
}
