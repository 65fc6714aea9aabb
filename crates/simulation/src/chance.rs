//! What the seed decides.

use std::time::Duration;

use parking_lot::Mutex;

use crate::seams::mix;

/// One stream of decisions. Streams of other names are independent of it.
pub(crate) struct Chance(Mutex<u64>);

impl Chance {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let state = name.bytes().fold(seed, |state, byte| mix(state ^ u64::from(byte)).1);
        Self(Mutex::new(state))
    }

    fn next(&self) -> u64 {
        let mut state = self.0.lock();
        let (next, value) = mix(*state);
        *state = next;
        value
    }

    /// Less than `end`, which is not zero.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    pub(crate) fn index(&self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    pub(crate) fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// True once in so many times.
    pub(crate) fn one_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn millis(&self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_follows_from_its_seed_and_name() {
        let draw = |seed, name| {
            let chance = Chance::new(seed, name);
            (0..20).map(|_| chance.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, "network"), draw(1, "network"));
        assert_ne!(draw(1, "network"), draw(2, "network"));
        assert_ne!(draw(1, "network"), draw(1, "disk"));
    }

    #[test]
    fn every_value_comes_up_and_none_outside() {
        let chance = Chance::new(7, "");
        let seen: std::collections::BTreeSet<_> = (0..200).map(|_| chance.between(3, 6)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
    }
}
