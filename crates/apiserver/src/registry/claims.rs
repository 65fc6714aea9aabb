//! Values that only one object may have: a Service's cluster IPs and node ports.
//!
//! A claim is a record of its own in the store, written in the same transaction as the object that claims it
//! and deleted in the same transaction that gives it up. So two API servers cannot give out one address, and
//! no crash leaves a claim without its object.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tiphys_api::field;
use tiphys_api::kind::Kind;
use tiphys_api::status::{Reason, Status};
use tiphys_store::{Change, Expect, Key, Store, Write};

use super::store_status;

/// What a kind claims. All pure but for randomness.
pub trait Claimant: Send + Sync + 'static {
    fn group(&self) -> &str;
    fn resource(&self) -> &str;
    /// Fills in what the object leaves to the server, avoiding what is known to be taken. `old` is `Null` for
    /// a new object.
    ///
    /// # Errors
    /// What the object asks for cannot be had.
    fn assign(
        &self,
        object: &mut Value,
        old: &Value,
        taken: &dyn Fn(&Key) -> bool,
    ) -> Result<(), field::Errors>;
    /// The keys that the object needs for itself.
    fn claims(&self, object: &Value) -> BTreeSet<Key>;
}

/// The claimants, and what is known to be claimed.
#[derive(Default)]
pub struct Claims {
    claimants: Vec<Arc<dyn Claimant>>,
}

/// Keys that turned out to be taken while an object was being written.
pub(super) struct Claimed {
    keys: BTreeSet<Key>,
    attempts: usize,
    /// What was asked for, where something is assigned to it.
    asked: Option<Value>,
}

impl Claimed {
    /// More than this many unlucky choices are no bad luck.
    const MAX: usize = 64;

    /// The next attempt starts from what was asked for: what was assigned in vain is nobody's wish.
    pub(super) fn add(&mut self, key: Key, object: &mut Value) -> Result<(), Status> {
        self.attempts += 1;
        if self.attempts > Self::MAX {
            let message = "no free value could be found for the object in time; try again";
            return Err(Status::new(Reason::ServerTimeout, message));
        }
        self.keys.insert(key);
        self.take_back(object);
        Ok(())
    }

    /// Takes from the object what was assigned to it: nothing has come of it.
    pub(super) fn take_back(&self, object: &mut Value) {
        if let Some(asked) = &self.asked {
            object.clone_from(asked);
        }
    }
}

impl Claims {
    pub fn new(claimants: Vec<Arc<dyn Claimant>>) -> Self {
        Self { claimants }
    }

    fn of(&self, kind: &Kind) -> Option<&Arc<dyn Claimant>> {
        self.claimants.iter().find(|c| c.group() == kind.group && c.resource() == kind.resource)
    }

    /// Before anything is assigned to `object`.
    pub(super) fn begin(&self, kind: &Kind, object: &Value) -> Claimed {
        let asked = self.of(kind).map(|_| object.clone());
        Claimed { keys: BTreeSet::new(), attempts: 0, asked }
    }

    pub(super) fn assign(
        &self,
        kind: &Kind,
        object: &mut Value,
        old: &Value,
        claimed: &Claimed,
    ) -> Result<(), Status> {
        let Some(claimant) = self.of(kind) else { return Ok(()) };
        claimant.assign(object, old, &|key| claimed.keys.contains(key)).map_err(|errors| {
            Status::invalid(&kind.group, &kind.kind, tiphys_api::meta::name(object), &errors)
        })
    }

    /// The writes that go with the change of an object from `old` to `new`; `Null` is an object that is not.
    pub(super) async fn changes(
        &self,
        kind: &Kind,
        old: &Value,
        new: &Value,
        store: &Arc<dyn Store>,
    ) -> Result<Vec<Write>, Status> {
        let Some(claimant) = self.of(kind) else { return Ok(Vec::new()) };
        let (before, after) = (claimant.claims(old), claimant.claims(new));
        let mut writes: Vec<Write> = after
            .difference(&before)
            .map(|key| Write {
                key: key.clone(),
                expect: Expect::Absent,
                change: Change::Put { value: Bytes::new(), ttl: None },
                note: None,
            })
            .collect();
        for key in before.difference(&after) {
            if let Some(record) = store.get(key).await.map_err(store_status)? {
                writes.push(Write {
                    key: key.clone(),
                    expect: Expect::At(record.revision),
                    change: Change::Delete,
                    note: None,
                });
            }
        }
        Ok(writes)
    }
}
