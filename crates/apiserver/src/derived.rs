//! What is made of resources, made anew when one of them has changed.

use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use tiphys_store::Revision;
use tokio::sync::watch;

use crate::source::Source;

/// A value made of `N` resources of one group.
pub(crate) struct Derived<T, const N: usize> {
    group: &'static str,
    resources: [&'static str; N],
    /// Where the source tells the versions, once it does: every request asks for them.
    changes: OnceLock<[watch::Receiver<Revision>; N]>,
    made: RwLock<Arc<Made<T, N>>>,
}

/// The value, as of versions of the resources.
pub(crate) struct Made<T, const N: usize> {
    versions: [Revision; N],
    pub(crate) value: T,
}

impl<T: Default, const N: usize> Derived<T, N> {
    pub(crate) fn of(group: &'static str, resources: [&'static str; N]) -> Self {
        let made = Made { versions: [Revision::ZERO; N], value: T::default() };
        Self { group, resources, changes: OnceLock::new(), made: RwLock::new(Arc::new(made)) }
    }

    /// The value as it is now; `make` makes it of what the source has, and of what it was before.
    pub(crate) fn get(&self, source: &dyn Source, make: impl FnOnce(&T) -> T) -> Arc<Made<T, N>> {
        let versions = || self.versions(source);
        let current = Arc::clone(&self.made.read());
        if !is_newer(&versions(), &current.versions) {
            return current;
        }
        let mut slot = self.made.write();
        // Another request may have made it meanwhile. The versions are read before the objects, so that a change
        // in between makes the next request look again.
        let versions = versions();
        if is_newer(&versions, &slot.versions) {
            let value = make(&slot.value);
            *slot = Arc::new(Made { versions, value });
        }
        Arc::clone(&slot)
    }

    fn versions(&self, source: &dyn Source) -> [Revision; N] {
        if let Some(changes) = self.changes.get() {
            return changes.each_ref().map(|changes| *changes.borrow());
        }
        let changes = self.resources.map(|resource| source.changes(self.group, resource));
        if changes.iter().all(Option::is_some) {
            let changes: Vec<_> = changes.into_iter().flatten().collect();
            if let Ok(changes) = changes.try_into() {
                // Another request may have set the same.
                let _ = self.changes.set(changes);
            }
        }
        self.resources.map(|resource| source.version(self.group, resource))
    }
}

/// Versions go back only where the source has ended and has nothing any more. What it had last serves on: a server
/// on its way out must not tell components that they have lost their permissions.
fn is_newer<const N: usize>(now: &[Revision; N], then: &[Revision; N]) -> bool {
    now != then && now.iter().zip(then).all(|(now, then)| now >= then)
}
