//! Whether an informer has caught up with a controller's own writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::key::ObjectKey;

/// A watch that is this far behind is taken to have lost the event; the plan then trusts what it sees.
pub const LOST_AFTER: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Pending {
    creations: usize,
    /// By UID, since a name may be back before its deletion is seen.
    deletions: BTreeSet<String>,
    since: Instant,
}

/// What each owner still expects its informer to show: objects it created or deleted but has not yet
/// seen appear or go. Until then its plan would count wrongly and act twice.
#[derive(Default, Debug)]
pub struct Expectations(Mutex<BTreeMap<ObjectKey, Pending>>);

impl Expectations {
    pub fn new() -> Self {
        Self::default()
    }

    fn change(&self, owner: &ObjectKey, change: impl FnOnce(&mut Pending)) {
        let mut all = self.0.lock();
        let pending = all.entry(owner.clone()).or_insert_with(|| Pending {
            creations: 0,
            deletions: BTreeSet::new(),
            since: Instant::now(),
        });
        change(pending);
        if pending.creations == 0 && pending.deletions.is_empty() {
            all.remove(owner);
        }
    }

    /// Call before creating, so that a fast watch cannot be missed.
    pub fn expect_creations(&self, owner: &ObjectKey, count: usize) {
        if count > 0 {
            self.change(owner, |p| {
                p.creations += count;
                p.since = Instant::now();
            });
        }
    }

    /// Call before deleting.
    pub fn expect_deletions(&self, owner: &ObjectKey, uids: impl IntoIterator<Item = String>) {
        self.change(owner, |p| {
            p.deletions.extend(uids);
            p.since = Instant::now();
        });
    }

    /// The informer showed a new object of the owner, or its creation failed.
    pub fn created(&self, owner: &ObjectKey) {
        if self.0.lock().contains_key(owner) {
            self.change(owner, |p| p.creations = p.creations.saturating_sub(1));
        }
    }

    /// The informer showed that the object is gone or going, or its deletion failed.
    pub fn deleted(&self, owner: &ObjectKey, uid: &str) {
        if self.0.lock().contains_key(owner) {
            self.change(owner, |p| {
                p.deletions.remove(uid);
            });
        }
    }

    /// How long a plan for this owner has to wait for its informer still; `None`: it may trust it. What has not been
    /// shown in time is expected no longer.
    pub fn outstanding(&self, owner: &ObjectKey) -> Option<Duration> {
        let mut all = self.0.lock();
        let left = LOST_AFTER.saturating_sub(all.get(owner)?.since.elapsed());
        if left.is_zero() {
            all.remove(owner);
        }
        Some(left).filter(|left| !left.is_zero())
    }

    /// The owner is gone.
    pub fn forget(&self, owner: &ObjectKey) {
        self.0.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_owner_waits_until_all_was_seen_or_time_ran_out() {
        let (all, owner, other) = (Expectations::new(), ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        all.expect_creations(&owner, 2);
        all.expect_deletions(&owner, ["u1".to_owned()]);
        assert_eq!(all.outstanding(&owner), Some(LOST_AFTER));
        assert_eq!(all.outstanding(&other), None);
        all.created(&owner);
        all.created(&owner);
        assert!(all.outstanding(&owner).is_some(), "a deletion is still out");
        all.deleted(&owner, "u2");
        assert!(all.outstanding(&owner).is_some(), "another object's deletion does not count");
        all.deleted(&owner, "u1");
        assert_eq!(all.outstanding(&owner), None);
        assert!(all.0.lock().is_empty(), "an owner that waits for nothing is forgotten");

        all.expect_creations(&owner, 1);
        let last = Duration::from_secs(1);
        tokio::time::advance(LOST_AFTER - last).await;
        assert_eq!(all.outstanding(&owner), Some(last));
        tokio::time::advance(last).await;
        assert_eq!(all.outstanding(&owner), None);
        all.expect_creations(&owner, 1);
        all.created(&owner);
        assert_eq!(all.outstanding(&owner), None, "what was lost is not waited for again");
    }
}
