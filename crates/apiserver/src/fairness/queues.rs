//! The queues of one priority level: whose turn is next.
//!
//! A flow is dealt a hand of the level's queues and waits in the one with the least to do, so that a flow with many
//! requests can spoil only its own hand for others. Between queues, turns are given by virtual time, which runs at the
//! rate that each busy queue would get if all got the same: a queue's next turn starts when, in virtual time, its last
//! one ended. Everything here is a matter of numbers; nothing waits and nothing looks at a clock.

use std::collections::VecDeque;

/// Nanoseconds since some start.
pub(super) type Nanos = u64;
/// Virtual time: nanoseconds of a seat.
type Virtual = u128;

/// What a request is thought to take before it is known.
const ESTIMATE: Virtual = 3_000_000;

/// The queues, and what waits in them.
#[derive(Debug)]
pub(super) struct Queues<T> {
    queues: Vec<Queue<T>>,
    length_limit: usize,
    now: Virtual,
    looked: Nanos,
    /// The queue that had the last turn; the next one is first among equals.
    last: usize,
    waiting_seats: u32,
    executing_seats: u32,
    next_id: u64,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// When, in virtual time, its next turn starts.
    next: Virtual,
    waiting_seats: u32,
    executing_seats: u32,
    executing: u32,
}

#[derive(Debug)]
struct Waiting<T> {
    id: u64,
    seats: u32,
    arrived: Virtual,
    item: T,
}

/// Where a request waits, to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) queue: usize,
    id: u64,
}

impl<T> Queue<T> {
    fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || self.executing > 0
    }

    /// All that it has to do, in seats.
    fn work(&self) -> u32 {
        self.waiting_seats + self.executing_seats
    }
}

impl<T> Queues<T> {
    /// `count` queues, each of at most `length_limit` requests.
    pub(super) fn new(count: usize, length_limit: usize) -> Self {
        let empty = || Queue {
            waiting: VecDeque::new(),
            next: 0,
            waiting_seats: 0,
            executing_seats: 0,
            executing: 0,
        };
        Self {
            queues: (0..count.max(1)).map(|_| empty()).collect(),
            length_limit,
            now: 0,
            looked: 0,
            last: 0,
            waiting_seats: 0,
            executing_seats: 0,
            next_id: 0,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.queues.len()
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.waiting.len()).sum()
    }

    pub(super) fn waiting_seats(&self) -> u32 {
        self.waiting_seats
    }

    pub(super) fn limit_length(&mut self, limit: usize) {
        self.length_limit = limit;
    }

    /// Lets virtual time pass; the level has `seats`.
    fn pass(&mut self, now: Nanos, seats: u32) {
        let passed = Virtual::from(now.saturating_sub(self.looked));
        self.looked = self.looked.max(now);
        let busy = self.queues.iter().filter(|queue| queue.is_busy()).count();
        if busy > 0 {
            let demand = (self.waiting_seats + self.executing_seats).min(seats);
            self.now += passed * Virtual::from(demand) / busy as Virtual;
        }
    }

    /// Lets a request wait in the least busy queue of its hand; gives it back if that one is full.
    pub(super) fn join(
        &mut self,
        now: Nanos,
        level_seats: u32,
        hand: &[usize],
        seats: u32,
        item: T,
    ) -> Result<Spot, T> {
        self.pass(now, level_seats);
        let known = hand.iter().copied().filter(|queue| *queue < self.queues.len());
        let Some(at) = known.min_by_key(|queue| self.queues[*queue].work()) else { return Err(item) };
        let (id, arrived) = (self.next_id, self.now);
        let queue = &mut self.queues[at];
        if queue.waiting.len() >= self.length_limit {
            return Err(item);
        }
        if !queue.is_busy() {
            queue.next = arrived;
        }
        queue.waiting.push_back(Waiting { id, seats, arrived, item });
        queue.waiting_seats += seats;
        self.next_id += 1;
        self.waiting_seats += seats;
        Ok(Spot { queue: at, id })
    }

    /// The queue whose turn is next: the one whose first request would end first in virtual time.
    fn next(&self) -> Option<usize> {
        let count = self.queues.len();
        let in_turn = (1..=count).map(|step| (self.last + step) % count);
        let ends = |at: usize| {
            let queue = &self.queues[at];
            queue
                .waiting
                .front()
                .map(|head| queue.next.max(head.arrived) + Virtual::from(head.seats) * ESTIMATE)
        };
        // Of equals, the first in turn.
        in_turn.filter_map(|at| Some((ends(at)?, at))).min_by_key(|(ends, _)| *ends).map(|(_, at)| at)
    }

    /// The seats that the next request needs. None overtakes it by needing less.
    pub(super) fn next_seats(&self) -> Option<u32> {
        self.next().and_then(|at| self.queues[at].waiting.front()).map(|head| head.seats)
    }

    /// Takes the request out whose turn it is.
    pub(super) fn take(&mut self, now: Nanos, level_seats: u32) -> Option<(usize, u32, T)> {
        self.pass(now, level_seats);
        let at = self.next()?;
        let queue = &mut self.queues[at];
        let head = queue.waiting.pop_front()?;
        queue.next = queue.next.max(head.arrived) + Virtual::from(head.seats) * ESTIMATE;
        queue.waiting_seats -= head.seats;
        queue.executing_seats += head.seats;
        queue.executing += 1;
        self.last = at;
        self.waiting_seats -= head.seats;
        self.executing_seats += head.seats;
        Some((at, head.seats, head.item))
    }

    /// A request that was taken has ended after this long: its queue is charged what it really took.
    pub(super) fn ended(&mut self, now: Nanos, level_seats: u32, queue: usize, seats: u32, took: Nanos) {
        self.pass(now, level_seats);
        let Some(queue) = self.queues.get_mut(queue) else { return };
        queue.executing = queue.executing.saturating_sub(1);
        queue.executing_seats = queue.executing_seats.saturating_sub(seats);
        self.executing_seats = self.executing_seats.saturating_sub(seats);
        let seats = Virtual::from(seats);
        queue.next = (queue.next + seats * Virtual::from(took)).saturating_sub(seats * ESTIMATE);
    }

    /// Takes out a request that no longer wants to wait; `None` if it has had its turn.
    pub(super) fn leave(&mut self, spot: Spot) -> Option<T> {
        let queue = self.queues.get_mut(spot.queue)?;
        let place = queue.waiting.iter().position(|waiting| waiting.id == spot.id)?;
        let left = queue.waiting.remove(place)?;
        queue.waiting_seats -= left.seats;
        self.waiting_seats -= left.seats;
        Some(left.item)
    }

    /// Takes out all that wait.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.waiting_seats = 0;
        let mut all = Vec::new();
        for queue in &mut self.queues {
            queue.waiting_seats = 0;
            all.extend(queue.waiting.drain(..).map(|waiting| waiting.item));
        }
        all
    }
}

/// The hand of a flow: `size` different queues of `count`, which follow from the flow's hash.
pub(super) fn hand(mut hash: u64, count: usize, size: usize) -> Vec<usize> {
    let mut hand: Vec<usize> = Vec::with_capacity(size);
    for dealt in 0..size.min(count) {
        let left = (count - dealt) as u64;
        // The n-th of those that are not dealt yet.
        let mut card = (hash % left) as usize;
        hash /= left;
        let mut before = hand.clone();
        before.sort_unstable();
        for taken in before {
            card += usize::from(taken <= card);
        }
        hand.push(card);
    }
    hand
}

#[cfg(test)]
#[path = "queues_tests.rs"]
mod tests;
