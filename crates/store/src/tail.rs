//! The newest end of the log, in memory: what watchers who keep up read.

use std::{collections::VecDeque, sync::Arc};

use crate::{Event, Revision};

/// The events of one revision.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) revision: Revision,
    pub(crate) events: Vec<Event>,
    size: usize,
}

impl Step {
    pub(crate) fn new(revision: Revision, events: Vec<Event>, size: usize) -> Self {
        Self { revision, events, size }
    }
}

/// The last steps without a gap, at most so many bytes of them (but always the last).
#[derive(Debug)]
pub(crate) struct Tail {
    steps: VecDeque<Arc<Step>>,
    /// The revision before the first step.
    start: Revision,
    size: usize,
    capacity: usize,
}

impl Tail {
    pub(crate) fn new(start: Revision, capacity: usize) -> Self {
        Self { steps: VecDeque::new(), start, size: 0, capacity }
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.size += step.size;
        self.steps.push_back(Arc::new(step));
        while self.size > self.capacity && self.steps.len() > 1 {
            if let Some(old) = self.steps.pop_front() {
                self.size -= old.size;
                self.start = old.revision;
            }
        }
    }

    /// The steps later than `revision`, at most `limit`; `None` when some of them are no longer here.
    pub(crate) fn after(&self, revision: Revision, limit: usize) -> Option<Vec<Arc<Step>>> {
        if revision < self.start {
            return None;
        }
        let from = self.steps.partition_point(|step| step.revision <= revision);
        Some(self.steps.iter().skip(from).take(limit).cloned().collect())
    }
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
