use super::*;

fn settings(name: &str, shares: u32, lendable: u32, borrowing: Option<u32>) -> Settings {
    Settings {
        name: name.to_owned(),
        uid: HeaderValue::from_static("u"),
        exempt: false,
        shares,
        lendable,
        borrowing,
        queuing: Some(Queuing { queues: 4, hand_size: 2, queue_length_limit: 5 }),
    }
}

struct Levels {
    pool: Pool,
    waiting: Arc<AtomicUsize>,
    hash: u64,
}

impl Levels {
    /// Levels that share 100 seats.
    fn new(levels: Vec<Settings>) -> Self {
        let waiting = Arc::<AtomicUsize>::default();
        let mut pool = Pool::new(100, Arc::clone(&waiting));
        pool.configure(levels, 0);
        Self { pool, waiting, hash: 0 }
    }

    fn level(&self, name: &str) -> Arc<Level> {
        self.pool.level(name).unwrap()
    }

    /// Lets a request in, or stand in line.
    fn ask(&mut self, name: &str, seats: u32) -> Result<oneshot::Receiver<Turn>, Refusal> {
        let level = self.level(name);
        let (answer, mut answered) = oneshot::channel();
        if level.enter_freely(seats) {
            answered.close();
            return Ok(answered);
        }
        self.hash += 7;
        self.pool.join(&level, 0, self.hash, seats, answer)?;
        self.pool.dispatch(0);
        Ok(answered)
    }

    /// Asks for one seat until somebody has to wait; how many came in at once.
    fn fill(&mut self, name: &str) -> u32 {
        let before = self.level(name).used.load(SeqCst);
        while self.waiting.load(SeqCst) == 0 {
            // Who came in stays.
            drop(self.ask(name, 1).unwrap());
        }
        self.level(name).used.load(SeqCst) - before
    }
}

#[test]
fn seats_are_divided_by_shares_and_lent_as_far_as_levels_say() {
    let mut levels = Levels::new(vec![settings("a", 60, 50, None), settings("b", 40, 25, None)]);
    // All of its own, and the quarter of b's 40 that b lends.
    assert_eq!(levels.fill("a"), 70);
    // What was not lent is there at once.
    for _ in 0..30 {
        assert!(levels.level("b").enter_freely(1));
    }
    assert!(!levels.level("b").enter_freely(1));
}

#[test]
fn who_lends_gets_back_what_falls_free() {
    let mut levels = Levels::new(vec![settings("a", 50, 0, None), settings("b", 50, 100, None)]);
    assert_eq!(levels.fill("a"), 100);
    let mut asked = levels.ask("b", 1).unwrap();
    assert!(asked.try_recv().is_err(), "all seats are in use");
    levels.level("a").leave(1);
    levels.pool.dispatch(0);
    let turn = asked.try_recv().unwrap();
    assert_eq!(turn.level.name(), "b");
    assert_eq!(levels.level("a").used.load(SeqCst), 99, "its own request that waits borrows no more");
}

#[test]
fn borrowing_has_a_limit() {
    let mut levels = Levels::new(vec![settings("a", 20, 0, Some(50)), settings("b", 80, 100, None)]);
    assert_eq!(levels.fill("a"), 30);
}

#[test]
fn a_level_without_shares_lives_on_what_others_lend() {
    let mut levels = Levels::new(vec![settings("jail", 0, 0, Some(0)), settings("b", 100, 100, None)]);
    assert_eq!(levels.fill("jail"), 0);
    let mut levels = Levels::new(vec![settings("poor", 0, 0, None), settings("b", 100, 10, None)]);
    assert_eq!(levels.fill("poor"), 10);
}

#[test]
fn every_level_comes_to_its_part_when_all_want_more() {
    let shares = [1, 3, 30, 30, 36];
    let names = ["a", "b", "c", "d", "e"];
    let all = names.iter().zip(shares).map(|(name, shares)| settings(name, shares, 100, None)).collect();
    let mut levels = Levels::new(all);
    levels.fill("e");
    let mut turns = Vec::new();
    for name in names {
        for _ in 0..5 {
            turns.extend(levels.ask(name, 1));
        }
    }
    for _ in 0..40 {
        levels.level("e").leave(1);
        levels.pool.dispatch(0);
    }
    for (name, shares) in names.into_iter().zip(shares).take(4) {
        let used = levels.level(name).used.load(SeqCst);
        assert!(used >= shares.min(5), "{name} has {used} of {shares}");
    }
}

#[test]
fn a_level_that_does_not_queue_turns_away() {
    let mut a = settings("a", 10, 0, Some(0));
    a.queuing = None;
    let mut levels = Levels::new(vec![a, settings("b", 90, 0, None)]);
    let level = levels.level("a");
    assert!(!levels.pool.queues(&level) && levels.pool.queues(&levels.level("b")));
    for _ in 0..10 {
        assert_eq!(levels.pool.take_now(&level, 1), Ok(()));
    }
    assert_eq!(levels.pool.take_now(&level, 1), Err(Refusal::ConcurrencyLimit));
}

#[test]
fn full_queues_turn_away_and_who_leaves_makes_room() {
    let mut levels = Levels::new(vec![settings("a", 1, 0, Some(0))]);
    let level = levels.level("a");
    assert!(level.enter_freely(100));
    let mut refused = None;
    let mut spots = Vec::new();
    let (mut kept, hash) = (Vec::new(), 5);
    while refused.is_none() {
        let (answer, answered) = oneshot::channel();
        kept.push(answered);
        match levels.pool.join(&level, 0, hash, 1, answer) {
            Ok(spot) => spots.push(spot),
            Err(why) => refused = Some(why),
        }
    }
    // One flow fills the two queues of its hand.
    assert_eq!((refused, spots.len()), (Some(Refusal::QueueFull), 10));
    assert!(levels.pool.leave(&level, spots[3]) && !levels.pool.leave(&level, spots[3]));
    assert_eq!(levels.waiting.load(SeqCst), 9);
    assert!(levels.pool.join(&level, 0, hash, 1, oneshot::channel().0).is_ok());
}

#[test]
fn who_waits_stays_in_line_when_the_configuration_changes() {
    let all = |a: Settings| vec![a, settings("b", 50, 0, Some(0))];
    let mut levels = Levels::new(all(settings("a", 50, 0, Some(0))));
    assert_eq!(levels.fill("a"), 50);
    let mut asked = levels.ask("a", 1).unwrap();
    // Other queues, then another object of the same name with more seats.
    let mut changed = settings("a", 50, 0, Some(0));
    changed.queuing = Some(Queuing { queues: 9, hand_size: 3, queue_length_limit: 5 });
    levels.pool.configure(all(changed.clone()), 0);
    assert_eq!(levels.waiting.load(SeqCst), 2);
    changed.uid = HeaderValue::from_static("v");
    levels.pool.configure(all(changed), 0);
    levels.pool.dispatch(0);
    let turn = asked.try_recv().unwrap();
    assert_eq!((turn.level.uid(), levels.waiting.load(SeqCst)), (&HeaderValue::from_static("v"), 0));
    turn.level.leave(1);

    // A level that goes turns away those who wait there.
    let mut levels = Levels::new(all(settings("a", 50, 0, Some(0))));
    levels.fill("a");
    let mut asked = levels.ask("a", 1).unwrap();
    levels.pool.configure(vec![settings("b", 50, 0, None)], 0);
    assert_eq!(asked.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
    assert!(levels.pool.level("a").is_none() && levels.waiting.load(SeqCst) == 0);
}
