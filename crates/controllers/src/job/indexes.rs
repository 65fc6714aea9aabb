//! Sets of completion indexes as the status writes them: `1,3-5,7`.

use std::{collections::BTreeSet, fmt};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(BTreeSet<u32>);

impl Indexes {
    /// Reads a set; indexes at or above `limit`, and what makes no sense, are left out.
    pub(super) fn parse(text: &str, limit: u32) -> Self {
        let mut all = BTreeSet::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>()) {
                all.extend(from..=to.min(limit.saturating_sub(1)));
            }
        }
        all.retain(|i| *i < limit);
        Self(all)
    }

    /// Whether the index is new.
    pub(super) fn insert(&mut self, index: u32) -> bool {
        self.0.insert(index)
    }

    pub(super) fn contains(&self, index: u32) -> bool {
        self.0.contains(&index)
    }

    /// How many are in both sets.
    pub(super) fn common(&self, other: &Self) -> usize {
        self.0.intersection(&other.0).count()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut first = true;
        while let Some(from) = rest.next() {
            let mut to = from;
            while rest.next_if_eq(&(to + 1)).is_some() {
                to += 1;
            }
            if !std::mem::take(&mut first) {
                f.write_str(",")?;
            }
            match to - from {
                0 => write!(f, "{from}")?,
                1 => write!(f, "{from},{to}")?,
                _ => write!(f, "{from}-{to}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_ranges_and_read_back() {
        for text in ["", "0", "1,3-5,7", "0,1", "0-2,9"] {
            assert_eq!(Indexes::parse(text, 10).to_string(), text);
        }
        assert_eq!(
            Indexes::parse("1-4294967295,x,5-", 4).to_string(),
            "1-3",
            "bounded, and nonsense left out"
        );
    }
}
