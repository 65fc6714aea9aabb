//! What is made of single rows, kept for as long as they are served.

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    sync::{Arc, Weak},
};

use tiphys_api::kind::Kind;

/// A value for each row and version that one was asked for.
#[derive(Debug)]
pub(crate) struct PerRow<T>(HashMap<(usize, Box<str>), (Weak<Kind>, T)>);

impl<T> Default for PerRow<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> PerRow<T> {
    /// The value of this very row, made when it is first asked for. A definition that changes is another row.
    pub(crate) fn get(&mut self, row: &Arc<Kind>, version: &str, make: impl FnOnce() -> T) -> &T {
        let Ok(value) = self.try_get(row, version, || Ok::<_, Infallible>(make()));
        value
    }

    /// As [`Self::get`]; what could not be made is not kept.
    pub(crate) fn try_get<E>(
        &mut self,
        row: &Arc<Kind>,
        version: &str,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        // While a weak reference is held, no other row can have this address.
        let (_, value) = match self.0.entry((Arc::as_ptr(row).addr(), version.into())) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => place.insert((Arc::downgrade(row), make()?)),
        };
        Ok(value)
    }

    /// Lets go what was made of rows that are no more.
    pub(crate) fn sweep(&mut self) {
        self.0.retain(|_, (row, _)| row.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::kind::Kinds;

    use super::*;

    #[test]
    fn a_row_is_looked_at_once_and_forgotten_with_it() {
        let kinds = Kinds::builtin();
        let pods = kinds.group_resource("", "pods").unwrap();
        let other = Arc::new((**pods).clone());
        let mut kept = PerRow::default();
        assert_eq!((*kept.get(pods, "v1", || 1), *kept.get(pods, "v1", || 2)), (1, 1));
        assert_eq!((*kept.get(pods, "v2", || 3), *kept.get(&other, "v1", || 4)), (3, 4));
        drop(other);
        kept.sweep();
        assert_eq!((kept.0.len(), *kept.get(pods, "v2", || 5)), (2, 3));
    }
}
