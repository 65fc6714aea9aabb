//! One value for each set of labels.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Buckets of the hash table.
const BUCKETS: usize = 256;

/// A map that only grows, from the values of `L` labels to whatever is counted under them. Finding an entry takes no
/// lock; the number of entries is bounded, and what comes after that shares one whose labels are all `other`.
#[derive(Debug)]
pub struct Table<const L: usize, V> {
    buckets: Box<[OnceLock<Box<Node<L, V>>>]>,
    room: AtomicUsize,
    other: OnceLock<V>,
}

#[derive(Debug)]
struct Node<const L: usize, V> {
    labels: [Box<str>; L],
    value: V,
    next: OnceLock<Box<Node<L, V>>>,
}

impl<const L: usize, V> Table<L, V> {
    /// A table with at most `room` entries, give or take what is added at the same instant.
    pub fn new(room: usize) -> Self {
        let buckets = (0..BUCKETS).map(|_| OnceLock::new()).collect();
        Self { buckets, room: AtomicUsize::new(room), other: OnceLock::new() }
    }

    /// The entry of these labels, made on its first use.
    pub fn entry(&self, labels: [&str; L], make: impl Fn() -> V) -> &V {
        let mut slot = &self.buckets[hash(&labels) % BUCKETS];
        loop {
            let node = match slot.get() {
                Some(node) => node,
                None if self.room.load(Ordering::Relaxed) == 0 => return self.other.get_or_init(make),
                None => slot.get_or_init(|| {
                    // Two that add at once may both take the last place; nothing is wrong with that.
                    self.room.store(self.room.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
                    let labels = labels.map(Box::from);
                    Box::new(Node { labels, value: make(), next: OnceLock::new() })
                }),
            };
            if node.labels.iter().zip(&labels).all(|(there, wanted)| **there == **wanted) {
                return &node.value;
            }
            slot = &node.next;
        }
    }

    /// All entries, ordered by their labels.
    pub fn entries(&self) -> Vec<([&str; L], &V)> {
        let mut all = Vec::new();
        for bucket in &self.buckets {
            let mut slot = bucket;
            while let Some(node) = slot.get() {
                all.push((node.labels.each_ref().map(|label| &**label), &node.value));
                slot = &node.next;
            }
        }
        all.extend(self.other.get().map(|value| (["other"; L], value)));
        all.sort_by_key(|(labels, _)| *labels);
        all
    }
}

/// Spreads labels over the buckets. The labels are the server's own words, so nobody can aim at one.
fn hash(labels: &[&str]) -> usize {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let mut hash = 0u64;
    for label in labels {
        for chunk in label.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
        }
        hash = (hash.rotate_left(5) ^ label.len() as u64).wrapping_mul(FACTOR);
    }
    (hash >> 32) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn each_set_of_labels_has_its_own_entry() {
        let table: Table<2, AtomicU64> = Table::new(1000);
        for n in 0..700 {
            for _ in 0..2 {
                table.entry(["a", &n.to_string()], AtomicU64::default).fetch_add(n, Ordering::Relaxed);
            }
        }
        let entries = table.entries();
        assert_eq!(entries.len(), 700);
        for ([_, n], value) in entries {
            assert_eq!(value.load(Ordering::Relaxed), 2 * n.parse::<u64>().unwrap());
        }
        assert_eq!(table.entry(["", "a0"], AtomicU64::default).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_full_table_counts_the_rest_together() {
        let table: Table<1, AtomicU64> = Table::new(2);
        for n in 0..10 {
            table.entry([&n.to_string()], AtomicU64::default).fetch_add(1, Ordering::Relaxed);
        }
        let entries = table.entries();
        let read: Vec<_> = entries.iter().map(|([l], v)| (*l, v.load(Ordering::Relaxed))).collect();
        assert_eq!(read, [("0", 1), ("1", 1), ("other", 8)]);
    }

    #[test]
    fn threads_share_entries() {
        let table: Table<1, AtomicU64> = Table::new(100);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..2000 {
                        let n = (n % 50).to_string();
                        table.entry([&n], AtomicU64::default).fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let entries = table.entries();
        assert_eq!(entries.len(), 50);
        assert!(entries.iter().all(|(_, value)| value.load(Ordering::Relaxed) == 160));
    }
}
