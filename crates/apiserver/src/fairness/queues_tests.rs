use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

/// One seat's worth of a level, in a world where time passes only when a request ends.
struct World {
    queues: Queues<&'static str>,
    seats: u32,
    now: Nanos,
    /// What is being worked on: when it ends, its queue, its seats and who asked.
    working: Vec<(Nanos, usize, u32, &'static str)>,
    /// The seat time that each flow has had.
    had: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(queues: usize, seats: u32) -> Self {
        let queues = Queues::new(queues, 10_000);
        Self { queues, seats, now: 0, working: Vec::new(), had: BTreeMap::new() }
    }

    fn join(&mut self, flow: &'static str, hand: &[usize], seats: u32) {
        self.queues.join(self.now, self.seats, hand, seats, flow).unwrap();
    }

    fn free(&self) -> u32 {
        self.seats - self.working.iter().map(|(_, _, seats, _)| seats).sum::<u32>()
    }

    /// Gives out all turns that there is room for; `takes` says how long a flow's requests take.
    fn dispatch(&mut self, takes: &dyn Fn(&str) -> Nanos) {
        while self.queues.next_seats().is_some_and(|seats| seats <= self.free()) {
            let (queue, seats, flow) = self.queues.take(self.now, self.seats).unwrap();
            self.working.push((self.now + takes(flow), queue, seats, flow));
        }
    }

    /// Lets the request end that ends first; tells whose it was.
    fn end(&mut self, takes: &dyn Fn(&str) -> Nanos) -> Option<&'static str> {
        let first = self.working.iter().enumerate().min_by_key(|(_, work)| work.0).map(|(at, _)| at)?;
        let (ends, queue, seats, flow) = self.working.remove(first);
        self.now = ends;
        self.queues.ended(self.now, self.seats, queue, seats, takes(flow));
        *self.had.entry(flow).or_default() += takes(flow) * u64::from(seats);
        Some(flow)
    }
}

#[test]
fn a_flow_with_many_requests_does_not_starve_one_with_few() {
    let mut world = World::new(8, 2);
    for _ in 0..500 {
        world.join("elephant", &[0, 1, 2], 1);
    }
    world.dispatch(&|_| 10);
    for _ in 0..10 {
        world.join("mouse", &[2, 5, 7], 1);
    }
    let mut ended = Vec::new();
    while ended.iter().filter(|flow| **flow == "mouse").count() < 10 {
        ended.extend(world.end(&|_| 10));
        world.dispatch(&|_| 10);
    }
    // The mouse's requests have queues of their own, which get as many turns as each of the elephant's three.
    assert!(ended.len() <= 2 + 4 * 10, "{}", ended.len());
}

#[test]
fn turns_are_measured_in_time_and_seats() {
    // One flow asks for little, one for long requests, one for wide ones.
    let takes = |flow: &str| if flow == "long" { 40_000_000 } else { 10_000_000 };
    let mut world = World::new(3, 4);
    let flows = [("short", 0, 1), ("long", 1, 1), ("wide", 2, 4)];
    for (flow, queue, seats) in flows {
        for _ in 0..600 {
            world.join(flow, &[queue], seats);
        }
    }
    for _ in 0..900 {
        world.dispatch(&takes);
        world.end(&takes);
    }
    let had: Vec<u64> = flows.iter().map(|(flow, ..)| world.had[flow]).collect();
    let (least, most) = (had.iter().min().unwrap(), had.iter().max().unwrap());
    assert!(most * 10 < least * 13, "{:?}", world.had);
}

#[test]
fn a_wide_request_is_not_overtaken_for_ever() {
    let mut world = World::new(2, 4);
    for _ in 0..100 {
        world.join("narrow", &[0], 1);
    }
    world.dispatch(&|_| 10_000_000);
    world.join("wide", &[1], 4);
    let mut ended = 0;
    while world.end(&|_| 10_000_000) != Some("wide") {
        world.dispatch(&|_| 10_000_000);
        ended += 1;
        assert!(ended < 40, "it waits while others pass");
    }
}

#[test]
fn idle_queues_save_nothing_up() {
    let mut world = World::new(2, 1);
    for _ in 0..100 {
        world.join("first", &[0], 1);
    }
    for _ in 0..50 {
        world.dispatch(&|_| 10_000_000);
        world.end(&|_| 10_000_000);
    }
    for _ in 0..100 {
        world.join("late", &[1], 1);
    }
    let before = world.had["first"];
    for _ in 0..20 {
        world.dispatch(&|_| 10_000_000);
        world.end(&|_| 10_000_000);
    }
    let (first, late) = (world.had["first"] - before, world.had["late"]);
    assert!(first >= 80_000_000 && late >= 80_000_000, "{first} {late}");
}

#[test]
fn a_full_queue_refuses_and_who_leaves_makes_room() {
    let mut queues = Queues::new(2, 1);
    let spot = queues.join(0, 1, &[1], 2, "a").unwrap();
    assert_eq!(queues.join(0, 1, &[1], 1, "b"), Err("b"));
    assert_eq!((queues.waiting(), queues.waiting_seats()), (1, 2));
    assert_eq!(queues.leave(spot), Some("a"));
    assert_eq!(queues.leave(spot), None);
    assert_eq!((queues.waiting(), queues.waiting_seats(), queues.next_seats()), (0, 0, None));
    queues.join(0, 1, &[0, 1], 1, "c").unwrap();
    queues.join(0, 1, &[0, 1], 1, "d").unwrap();
    assert_eq!(queues.drain(), ["c", "d"]);
    assert_eq!(queues.waiting(), 0);
}

proptest! {
    #[test]
    fn a_hand_has_different_queues(hash: u64, count in 1usize..600, size in 1usize..12) {
        let hand = hand(hash, count, size);
        prop_assert_eq!(hand.len(), size.min(count));
        prop_assert!(hand.iter().all(|queue| *queue < count));
        prop_assert_eq!(hand.iter().collect::<HashSet<_>>().len(), hand.len());
    }

    /// However many others ask, and whatever they ask for, a request's turn comes within a bounded number of turns.
    #[test]
    fn nobody_starves(others in prop::collection::vec((0usize..8, 1u32..4), 1..300), seats in 4u32..8) {
        let mut world = World::new(9, seats);
        for (queue, width) in &others[..others.len() / 2] {
            world.join("other", &[*queue], *width);
        }
        world.join("one", &[8], 1);
        let (mut late, mut turns) = (others[others.len() / 2..].iter(), 0);
        loop {
            if let Some((queue, width)) = late.next() {
                world.join("other", &[*queue], *width);
            }
            world.dispatch(&|_| 5_000_000);
            if world.end(&|_| 5_000_000) == Some("one") {
                break;
            }
            turns += 1;
            // Eight other queues, each of which may have been given the seats ahead of it a few times.
            prop_assert!(turns <= 8 * 8, "{} turns", turns);
        }
    }
}

#[test]
fn hands_are_spread_evenly() {
    let mut dealt = [0u32; 16];
    for n in 0..4096u64 {
        let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hand(hash, 16, 4).into_iter().for_each(|queue| dealt[queue] += 1);
    }
    assert!(dealt.iter().all(|count| (800..1250).contains(count)), "{dealt:?}");
}
