//! Quotas: what a write uses is charged in the same transaction that makes it.
//!
//! So a write that does not happen costs nothing, two writers can't both take the last of something, and what is
//! used never passes what a quota's status allows. What is given back, [`tiphys_api::quota::Recount`] finds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tiphys_api::quota::{self, Devices, Limited, Meter, Quota, Refusal, Request};
use tiphys_api::status::Status;
use tiphys_store::{Change, Expect, Key, Revision, Write};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

use super::{Call, Registry};
use crate::cache::{Cache, Collection};
use crate::derived::Derived;
use crate::source::{Entry, Source};
use crate::stored;

/// For so long a request waits until a new quota has been counted, which takes milliseconds if anybody counts.
const COUNTING: Duration = Duration::from_secs(2);

/// The extended resources that classes of devices stand for, by class.
pub(super) type Classes = Derived<Arc<BTreeMap<String, String>>, 1>;

pub(super) fn classes() -> Classes {
    Derived::of("resource.k8s.io", ["deviceclasses"])
}

/// Who charges a namespace's quotas takes turns: each starts from what the one before has left. What holds across
/// processes is the transaction; turns only save attempts.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<String, Turn>>);

/// The revision of the last charge, once the turn is one's own.
type Turn = Arc<tokio::sync::Mutex<Revision>>;

impl Turns {
    /// Beyond so many names, those that are nobody's turn now are forgotten.
    const MANY: usize = 1024;

    /// Whether it is somebody's turn now.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        let turns = self.0.lock();
        turns.get(name).is_some_and(|turn| Arc::strong_count(turn) > 1)
    }

    pub(super) async fn take(&self, name: &str) -> OwnedMutexGuard<Revision> {
        let turn = {
            let mut turns = self.0.lock();
            if turns.len() > Self::MANY {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            Arc::clone(turns.entry(name.to_owned()).or_default())
        };
        turn.lock_owned().await
    }
}

/// What goes into the transaction of the write that is charged, if anything.
pub(super) struct Charge(Option<Held>);

struct Held {
    turn: OwnedMutexGuard<Revision>,
    writes: Vec<Write>,
}

impl Charge {
    pub(super) fn writes(&self) -> impl Iterator<Item = Write> + '_ {
        self.0.iter().flat_map(|held| held.writes.iter().cloned())
    }

    fn has(&self, key: &Key) -> bool {
        self.0.as_ref().is_some_and(|held| held.writes.iter().any(|write| write.key == *key))
    }

    /// The transaction happened.
    pub(super) fn done(self, revision: Revision) {
        if let Some(mut held) = self.0 {
            *held.turn = revision;
        }
    }

    /// There was a conflict at `key`. If that is a quota, waits until the next attempt finds it as it is now.
    ///
    /// # Errors
    /// The cache is too far behind.
    pub(super) async fn overtaken(&self, key: &Key, cache: &Cache) -> Result<(), Status> {
        if self.has(key) {
            cache.wait_newest().await.map_err(super::cache_status)?;
        }
        Ok(())
    }
}

impl Registry {
    /// What it costs to make `object` of `old`, which is `Null` for a new object. To be asked last, when nothing
    /// but the write is left to do.
    ///
    /// # Errors
    /// 403 if a quota of the namespace can't bear it.
    pub(super) async fn charge(&self, call: &Call, object: &Value, old: &Value) -> Result<Charge, Status> {
        let nothing = Ok(Charge(None));
        if call.namespace.is_empty() {
            return nothing;
        }
        let Some(meter) = Meter::of(&call.kind.group, &call.kind.resource) else { return nothing };
        if !meter.handles(&call.subresource, object, old) {
            return nothing;
        }
        let Some(quotas) = self.cache.collection("", "resourcequotas") else { return nothing };
        let limited = self.limited.iter().any(|limited| limited.concerns(meter));
        if !limited && (quotas.is_empty() || quotas.iter(Some(&call.namespace)).next().is_none()) {
            return nothing;
        }
        let devices = if meter == Meter::Devices { self.devices(call, object) } else { Devices::default() };
        let status = call.subresource == "status";
        let deadline = Instant::now() + COUNTING;
        loop {
            let turn = self.turns.take(&call.namespace).await;
            self.cache.wait(*turn).await.map_err(super::cache_status)?;
            let seen = *quotas.changes().borrow();
            let request = Request { meter, object, old, status, now: self.now(), devices: &devices };
            match writes(&quotas, call, &request, &self.limited) {
                Err(Refused::Quota(Refusal::Unknown { soon: true, .. })) if Instant::now() < deadline => {
                    drop(turn);
                    // Once the time is over, it is refused for the same reason.
                    let _ = timeout_at(deadline, self.cache.changed("", "resourcequotas", seen)).await;
                }
                Err(refused) => return Err(refused.status(call, object)),
                Ok(writes) => return Ok(Charge((!writes.is_empty()).then_some(Held { turn, writes }))),
            }
        }
    }

    /// What the cost of a claim to devices depends on.
    fn devices(&self, call: &Call, claim: &Value) -> Devices {
        let cache = &*self.cache;
        let made = self.classes.get(cache, |_| {
            let all = Source::list(cache, "resource.k8s.io", "deviceclasses", None);
            Arc::new(all.iter().filter_map(|class| Devices::resource(&class.tree())).collect())
        });
        let pod =
            quota::payer(claim).and_then(|(name, _)| Source::get(cache, "", "pods", &call.namespace, name));
        let paid = pod.map(|pod| {
            let claims = Source::list(cache, "resource.k8s.io", "resourceclaims", Some(&call.namespace));
            let claims: Vec<Value> = claims.iter().map(Entry::tree).collect();
            quota::paid(claim, &pod.tree(), &claims, self.now())
        });
        Devices { resources: Arc::clone(&made.value), paid: paid.unwrap_or_default() }
    }
}

/// Why nothing was charged.
enum Refused {
    Quota(Refusal),
    /// What lies in the store is no quota.
    Damaged(serde_json::Error),
}

impl Refused {
    fn status(self, call: &Call, object: &Value) -> Status {
        let name = match tiphys_api::meta::name(object) {
            "" => &call.name,
            name => name,
        };
        match self {
            Self::Quota(refusal) => {
                Status::forbidden(&call.kind.group, &call.kind.resource, name, &refusal.to_string())
            }
            Self::Damaged(error) => Status::internal(error),
        }
    }
}

/// The new status of each quota that the request concerns.
fn writes(
    quotas: &Collection,
    call: &Call,
    request: &Request<'_>,
    limited: &[Limited],
) -> Result<Vec<Write>, Refused> {
    let mut found = Vec::new();
    for object in quotas.iter(Some(&call.namespace)) {
        let tree: Value = serde_json::from_slice(object.json()).map_err(Refused::Damaged)?;
        found.push((object.name().to_owned(), object.revision(), tree));
    }
    let compiled: Vec<Quota> = found.iter().map(|(_, _, tree)| Quota::read(tree)).collect();
    let charges = quota::charge(&compiled, request, limited).map_err(Refused::Quota)?;
    let write = |(at, used): (usize, quota::Amounts)| {
        let (name, revision, tree) = &mut found[at];
        tree["status"]["used"] = quota::render(&used);
        Write {
            key: quotas.spec().key(&call.namespace, name),
            expect: Expect::At(*revision),
            change: Change::Put { value: stored::encode(tree), ttl: None },
            // A charge is nobody's change of the quota.
            note: None,
        }
    };
    Ok(charges.into_iter().map(write).collect())
}

#[cfg(test)]
#[path = "charges_tests.rs"]
mod tests;
