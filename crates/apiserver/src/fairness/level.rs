//! The seats of priority levels, and how levels lend them to each other.
//!
//! Each level has its nominal part of all seats. What it does not use, others may borrow, up to the part that it lends;
//! the rest stays free for it, so a request that needs no more than that takes it without asking anybody. As soon as a
//! level has work waiting, nobody borrows from its nominal part any more, and it gets back each seat that falls free.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

use http::HeaderValue;
use tiphys_metrics::{Exposition, Kind};
use tokio::sync::oneshot;

use super::queues::{self, Nanos, Queues};
use super::settings::{Queuing, Settings};

/// The seats of one level, as requests see them.
#[derive(Debug)]
pub(super) struct Level {
    name: String,
    uid: HeaderValue,
    exempt: bool,
    /// Seats in use.
    used: AtomicU32,
    /// Requests that wait.
    waiting: AtomicU32,
    /// Seats that nobody can borrow.
    reserved: AtomicU32,
    nominal: AtomicU32,
}

/// A request's turn, and the queue that gave it.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    /// Whose seats the request has.
    pub(super) level: Arc<Level>,
    queue: usize,
    /// Of the level's queues, which may have been made anew since.
    generation: u64,
}

/// Where a request waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    ticket: u64,
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
    Cancelled,
}

impl Refusal {
    pub(super) const ALL: [Self; 4] =
        [Self::QueueFull, Self::ConcurrencyLimit, Self::TimeOut, Self::Cancelled];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::TimeOut => "time-out",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A request that waits.
#[derive(Debug)]
struct Waiter {
    ticket: u64,
    hash: u64,
    seats: u32,
    answer: oneshot::Sender<Turn>,
}

/// A level as the pool knows it.
#[derive(Debug)]
struct Member {
    level: Arc<Level>,
    /// At most this many seats, what it borrows included.
    most: u32,
    hand: usize,
    queues: Option<Queues<Waiter>>,
    generation: u64,
    /// Where each waiting request is.
    spots: BTreeMap<u64, queues::Spot>,
    /// Its object is gone: it only empties.
    leaving: bool,
}

/// All levels.
#[derive(Debug)]
pub(super) struct Pool {
    seats: u32,
    /// As many, or a few more where parts were rounded up.
    entitled: u64,
    members: BTreeMap<String, Member>,
    waiting: Arc<AtomicUsize>,
    next_ticket: u64,
}

impl Level {
    fn new(settings: &Settings) -> Self {
        Self {
            name: settings.name.clone(),
            uid: settings.uid.clone(),
            exempt: settings.exempt,
            used: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
            nominal: AtomicU32::new(0),
        }
    }

    pub(super) fn uid(&self) -> &HeaderValue {
        &self.uid
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The widest that a request of this level may be: a few of them must fit.
    pub(super) fn widest(&self) -> u32 {
        if self.exempt { 1 } else { (self.nominal.load(Relaxed) / 7).max(1) }
    }

    /// Takes seats that nobody has to be asked for.
    pub(super) fn enter_freely(&self, seats: u32) -> bool {
        if self.exempt {
            self.used.fetch_add(seats, SeqCst);
            return true;
        }
        let reserved = self.reserved.load(Relaxed);
        self.waiting.load(SeqCst) == 0
            && self
                .used
                .fetch_update(SeqCst, SeqCst, |used| Some(used + seats).filter(|u| *u <= reserved))
                .is_ok()
    }

    /// Gives seats back.
    pub(super) fn leave(&self, seats: u32) {
        self.used.fetch_sub(seats, SeqCst);
    }
}

/// `percent` of a number of seats, rounded.
fn part(seats: u32, percent: u32) -> u32 {
    u32::try_from((u64::from(seats) * u64::from(percent) + 50) / 100).unwrap_or(u32::MAX)
}

impl Member {
    fn new(level: Arc<Level>) -> Self {
        Self { level, most: 0, hand: 1, queues: None, generation: 0, spots: BTreeMap::new(), leaving: false }
    }

    fn used(&self) -> u32 {
        self.level.used.load(SeqCst)
    }

    /// The seats that others must leave to it: those in use, those that it never lends, and those that it is waiting
    /// for, as far as they are its own.
    fn claim(&self) -> u32 {
        let used = self.used();
        let wanted = used + self.queues.as_ref().map_or(0, Queues::waiting_seats);
        used.max(self.level.reserved.load(Relaxed)).max(wanted.min(self.level.nominal.load(Relaxed)))
    }

    /// Follows its queuing, and gives back the requests that waited in queues that are no more.
    fn arrange(&mut self, queuing: Option<Queuing>) -> Vec<Waiter> {
        self.hand = queuing.map_or(1, |q| q.hand_size as usize);
        let limit = queuing.map_or(0, |q| q.queue_length_limit as usize);
        if let (Some(queues), Some(wanted)) = (&mut self.queues, queuing)
            && queues.count() == wanted.queues as usize
        {
            queues.limit_length(limit);
            return Vec::new();
        }
        self.generation += 1;
        self.spots.clear();
        let made = queuing.map(|q| Queues::new(q.queues as usize, limit));
        std::mem::replace(&mut self.queues, made).map(|mut queues| queues.drain()).unwrap_or_default()
    }
}

impl Pool {
    /// `waiting` counts all requests that wait.
    pub(super) fn new(seats: u32, waiting: Arc<AtomicUsize>) -> Self {
        Self { seats, entitled: seats.into(), members: BTreeMap::new(), waiting, next_ticket: 0 }
    }

    /// The level of a name, if there is one.
    pub(super) fn level(&self, name: &str) -> Option<Arc<Level>> {
        self.members.get(name).filter(|member| !member.leaving).map(|member| Arc::clone(&member.level))
    }

    /// Divides the seats anew.
    pub(super) fn configure(&mut self, levels: Vec<Settings>, now: Nanos) {
        let total: u64 = levels.iter().map(|level| u64::from(level.shares)).sum::<u64>().max(1);
        for member in self.members.values_mut() {
            member.leaving = true;
        }
        for settings in levels {
            let nominal = (u64::from(self.seats) * u64::from(settings.shares)).div_ceil(total);
            let nominal = u32::try_from(nominal).unwrap_or(u32::MAX);
            let same = self.members.get(&settings.name).is_some_and(|member| {
                member.level.uid == settings.uid && member.level.exempt == settings.exempt
            });
            if !same && let Some(old) = self.members.remove(&settings.name) {
                // Made anew under the same name: what waits at the old one, waits at the new one.
                let mut member = Member::new(Arc::new(Level::new(&settings)));
                member.queues = old.queues;
                member.spots = old.spots;
                member.generation = old.generation;
                member.level.waiting.store(old.level.waiting.load(SeqCst), SeqCst);
                self.members.insert(settings.name.clone(), member);
            }
            let member = self
                .members
                .entry(settings.name.clone())
                .or_insert_with(|| Member::new(Arc::new(Level::new(&settings))));
            member.leaving = false;
            member.level.nominal.store(nominal, Relaxed);
            member.level.reserved.store(nominal - part(nominal, settings.lendable).min(nominal), Relaxed);
            member.most = match settings.borrowing {
                Some(percent) => nominal.saturating_add(part(nominal, percent)),
                None => self.seats,
            };
            let displaced = member.arrange(settings.queuing);
            let level = Arc::clone(&member.level);
            level.waiting.fetch_sub(u32::try_from(displaced.len()).unwrap_or(0), SeqCst);
            self.waiting.fetch_sub(displaced.len(), SeqCst);
            for waiter in displaced {
                // One that finds no room is told by losing its sender.
                let _ = self.line_up(&level, now, waiter);
            }
        }
        let present = self.members.values().filter(|member| !member.leaving);
        let nominal: u64 = present.map(|member| u64::from(member.level.nominal.load(Relaxed))).sum();
        self.entitled = nominal.max(self.seats.into());
        self.members.retain(|_, member| {
            if !member.leaving {
                return true;
            }
            let waiting = member.queues.as_mut().map(Queues::drain).unwrap_or_default().len();
            self.waiting.fetch_sub(waiting, SeqCst);
            member.level.waiting.store(0, SeqCst);
            member.spots.clear();
            // What is being worked on still has its seats.
            member.used() > 0
        });
    }

    /// Whether requests of the level can wait.
    pub(super) fn queues(&self, level: &Level) -> bool {
        self.members.get(&level.name).is_some_and(|member| member.queues.is_some())
    }

    /// Whether a level can have more seats; `borrowing` beyond its nominal ones.
    fn fits(&self, member: &Member, seats: u32, borrowing: bool) -> bool {
        let wanted = member.used() + seats;
        let bound = if borrowing { member.most } else { member.level.nominal.load(Relaxed).min(member.most) };
        if wanted > bound {
            return false;
        }
        if wanted <= member.level.reserved.load(Relaxed) {
            return true;
        }
        // To what is its own it has a right, unless others have borrowed it and still use it. Who borrows leaves
        // what others have a right to.
        let (held, seats): (fn(&Member) -> u32, u64) =
            if borrowing { (Member::claim, self.seats.into()) } else { (Member::used, self.entitled) };
        let others = self.members.values().filter(|other| !Arc::ptr_eq(&other.level, &member.level));
        let others: u64 =
            others.filter(|other| !other.level.exempt).map(|other| u64::from(held(other))).sum();
        others + u64::from(wanted) <= seats
    }

    /// Takes seats for a request that cannot wait.
    pub(super) fn take_now(&mut self, level: &Level, seats: u32) -> Result<(), Refusal> {
        let member = self.members.get(&level.name).ok_or(Refusal::Cancelled)?;
        if !self.fits(member, seats, true) {
            return Err(Refusal::ConcurrencyLimit);
        }
        level.used.fetch_add(seats, SeqCst);
        Ok(())
    }

    /// Lets a request wait for its turn, which `answer` will be told.
    pub(super) fn join(
        &mut self,
        level: &Level,
        now: Nanos,
        hash: u64,
        seats: u32,
        answer: oneshot::Sender<Turn>,
    ) -> Result<Spot, Refusal> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.line_up(level, now, Waiter { ticket, hash, seats, answer })?;
        Ok(Spot { ticket })
    }

    fn line_up(&mut self, level: &Level, now: Nanos, waiter: Waiter) -> Result<(), Refusal> {
        let member = self.members.get_mut(&level.name).ok_or(Refusal::Cancelled)?;
        let queues = member.queues.as_mut().ok_or(Refusal::ConcurrencyLimit)?;
        let hand = queues::hand(waiter.hash, queues.count(), member.hand);
        let (ticket, seats) = (waiter.ticket, waiter.seats);
        let nominal = member.level.nominal.load(Relaxed);
        let spot = queues.join(now, nominal, &hand, seats, waiter).map_err(|_| Refusal::QueueFull)?;
        member.spots.insert(ticket, spot);
        member.level.waiting.fetch_add(1, SeqCst);
        self.waiting.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Takes a request out of the line; `false` if it no longer stands there.
    pub(super) fn leave(&mut self, level: &Level, spot: Spot) -> bool {
        let Some(member) = self.members.get_mut(&level.name) else { return false };
        let Some(spot) = member.spots.remove(&spot.ticket) else { return false };
        if member.queues.as_mut().and_then(|queues| queues.leave(spot)).is_none() {
            return false;
        }
        member.level.waiting.fetch_sub(1, SeqCst);
        self.waiting.fetch_sub(1, SeqCst);
        true
    }

    /// A request that had its turn has ended; its seats were given back before.
    pub(super) fn ended(&mut self, now: Nanos, turn: &Turn, seats: u32, took: Nanos) {
        let Some(member) = self.members.get_mut(&turn.level.name) else { return };
        if member.generation == turn.generation
            && let Some(queues) = &mut member.queues
        {
            queues.ended(now, member.level.nominal.load(Relaxed), turn.queue, seats, took);
        }
    }

    /// Gives out every turn that there are seats for: first to levels that have less than their part, then to those
    /// that borrow.
    pub(super) fn dispatch(&mut self, now: Nanos) {
        if self.waiting.load(SeqCst) == 0 {
            return;
        }
        for borrowing in [false, true] {
            while let Some(name) = self.ready(borrowing) {
                self.give(&name, now);
            }
        }
    }

    /// A level whose next request there are seats for; of several, the one that has the smallest part of what is its
    /// own.
    fn ready(&self, borrowing: bool) -> Option<String> {
        let part =
            |member: &Member| f64::from(member.used()) / f64::from(member.level.nominal.load(Relaxed).max(1));
        let fits = |member: &&Member| {
            let next = member.queues.as_ref().and_then(Queues::next_seats);
            next.is_some_and(|seats| self.fits(member, seats, borrowing))
        };
        let ready = self.members.values().filter(fits);
        ready.min_by(|a, b| part(a).total_cmp(&part(b))).map(|member| member.level.name.clone())
    }

    fn give(&mut self, level: &str, now: Nanos) {
        let Some(member) = self.members.get_mut(level) else { return };
        let nominal = member.level.nominal.load(Relaxed);
        let Some((queue, seats, waiter)) = member.queues.as_mut().and_then(|q| q.take(now, nominal)) else {
            return;
        };
        member.spots.remove(&waiter.ticket);
        member.level.waiting.fetch_sub(1, SeqCst);
        self.waiting.fetch_sub(1, SeqCst);
        member.level.used.fetch_add(seats, SeqCst);
        let turn = Turn { level: Arc::clone(&member.level), queue, generation: member.generation };
        if waiter.answer.send(turn).is_err() {
            // It has just given up.
            member.level.leave(seats);
            if let Some(queues) = &mut member.queues {
                queues.ended(now, nominal, queue, seats, 0);
            }
        }
    }

    /// Adds the seats of each level.
    pub(super) fn expose(&self, text: &mut Exposition) {
        type Read = fn(&Member) -> u32;
        let families: [(&str, &str, Read); 4] = [
            ("nominal_limit_seats", "Seats that are a level's own.", |m| m.level.nominal.load(Relaxed)),
            ("lower_limit_seats", "Seats that a level never lends.", |m| m.level.reserved.load(Relaxed)),
            ("upper_limit_seats", "The most seats that a level may have.", |m| m.most),
            ("current_limit_seats", "Seats that others leave to a level now.", Member::claim),
        ];
        for (name, help, read) in families {
            text.family(&format!("apiserver_flowcontrol_{name}"), Kind::Gauge, help);
            for member in self.members.values() {
                text.sample(&[("priority_level", &member.level.name)], f64::from(read(member)));
            }
        }
    }
}

#[cfg(test)]
#[path = "level_tests.rs"]
mod tests;
