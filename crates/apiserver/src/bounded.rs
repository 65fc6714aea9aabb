//! A map that cannot grow without bound.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, mem};

/// Keeps what was used lately: between `capacity` and twice as many entries.
///
/// Entries are in two halves. One that is found in the old half moves to the young one; when the young half is
/// full it becomes the old one, and what was in the old half is forgotten.
pub(crate) struct Bounded<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    capacity: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Bounded<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), capacity }
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_is_not_used_and_keeps_what_is() {
        let mut map = Bounded::new(4);
        map.insert("used".to_owned(), 0);
        for n in 1..100 {
            map.insert(n.to_string(), n);
            assert_eq!(map.get("used"), Some(0), "after {n}");
            assert!(map.young.len() + map.old.len() <= 8);
        }
        assert_eq!(map.get("1"), None);
        assert_eq!(map.get("99"), Some(99));
    }
}
