//! The queue between what changed and who looks at it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::{Debug, Display},
    future::Future,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tiphys_metrics::Histogram;
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tracing::debug;

use crate::metrics::{self, Reading, Watched};

/// The first retry comes after this long; each further one doubles it.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// No retry waits longer.
const LAST_RETRY: Duration = Duration::from_secs(1000);
/// A key that has changed while a worker had it waits this long, for it may change again at once: then one look
/// answers many changes, and whoever makes them need not compete with those looks' writes.
const REST: Duration = Duration::from_millis(20);

struct State<K> {
    ready: VecDeque<K>,
    /// Waiting or to be looked at again: what `ready` and `resting` hold, and what came back while `working`; since
    /// when.
    dirty: BTreeMap<K, Instant>,
    /// Since when.
    working: BTreeMap<K, Instant>,
    /// Changed while they were worked on; ready when they fall due.
    resting: BTreeSet<K>,
    /// When a key that is not yet due will be; the earlier of two wishes wins.
    delayed: BTreeMap<K, Instant>,
    /// The same, in the order they fall due.
    due: BTreeSet<(Instant, K)>,
    failures: BTreeMap<K, u32>,
    closed: bool,
    adds: u64,
    retries: u64,
    /// How long keys waited to be looked at, and how long they were.
    waited: Histogram,
    worked: Histogram,
}

/// Keys to look at: each at most once in the queue, never at two workers at once, and once more if it
/// changed while a worker had it. Memory is bounded by the number of distinct keys.
pub struct Queue<K> {
    state: Arc<Mutex<State<K>>>,
    wake: Arc<Notify>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), wake: self.wake.clone() }
    }
}

impl<K: Ord + Clone> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a worker says of a key it has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to do until the key is added again.
    Done,
    /// Done for now; look again after this long.
    After(Duration),
    /// Not now; look again soon, later each time, without calling it a failure.
    Again,
}

impl<K: Ord + Clone> Queue<K> {
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                ready: VecDeque::new(),
                dirty: BTreeMap::new(),
                working: BTreeMap::new(),
                resting: BTreeSet::new(),
                delayed: BTreeMap::new(),
                due: BTreeSet::new(),
                failures: BTreeMap::new(),
                closed: false,
                adds: 0,
                retries: 0,
                waited: Histogram::new(&metrics::DURATIONS),
                worked: Histogram::new(&metrics::DURATIONS),
            })),
            wake: Arc::new(Notify::new()),
        }
    }

    /// Adds a key now; a no-op if it waits already.
    pub fn add(&self, key: K) {
        let mut state = self.state.lock();
        if Self::enqueue(&mut state, key) {
            self.wake.notify_one();
        }
    }

    fn enqueue(state: &mut State<K>, key: K) -> bool {
        if state.closed || state.dirty.contains_key(&key) {
            return false;
        }
        state.adds += 1;
        state.dirty.insert(key.clone(), Instant::now());
        if state.working.contains_key(&key) {
            return false;
        }
        state.ready.push_back(key);
        true
    }

    /// Adds a key after a while; of several such wishes for one key, the earliest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        Self::delay(&mut self.state.lock(), key, delay);
        self.wake.notify_one();
    }

    fn delay(state: &mut State<K>, key: K, delay: Duration) {
        let due = Instant::now() + delay;
        match state.delayed.get(&key).copied() {
            Some(at) if at <= due => return,
            Some(at) => {
                state.due.remove(&(at, key.clone()));
            }
            None => {}
        }
        state.delayed.insert(key.clone(), due);
        state.due.insert((due, key));
    }

    /// Adds a key after its back-off, which doubles with each call until [`Queue::forget`].
    pub fn add_rate_limited(&self, key: K) {
        let failures = {
            let mut state = self.state.lock();
            state.retries += 1;
            let count = state.failures.entry(key.clone()).or_default();
            *count += 1;
            *count
        };
        let delay = FIRST_RETRY.saturating_mul(1 << (failures - 1).min(20)).min(LAST_RETRY);
        self.add_after(key, delay);
    }

    /// The key's next failure counts as its first.
    pub fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// How often in a row the key has failed.
    pub fn failures(&self, key: &K) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or_default()
    }

    /// Hands out the next key, to be returned by [`Queue::done`]; `None` once closed.
    pub async fn next(&self) -> Option<K> {
        loop {
            let woken = self.wake.notified();
            let due = {
                let mut state = self.state.lock();
                if state.closed {
                    return None;
                }
                let now = Instant::now();
                while state.due.first().is_some_and(|(at, _)| *at <= now)
                    && let Some((_, key)) = state.due.pop_first()
                {
                    state.delayed.remove(&key);
                    if state.resting.remove(&key) {
                        state.ready.push_back(key);
                    } else {
                        Self::enqueue(&mut state, key);
                    }
                }
                if let Some(key) = state.ready.pop_front() {
                    if let Some(since) = state.dirty.remove(&key) {
                        state.waited.observe_time(now.saturating_duration_since(since));
                    }
                    state.working.insert(key.clone(), now);
                    if !state.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                state.due.first().map(|(at, _)| *at)
            };
            match due {
                Some(due) => {
                    tokio::select! { () = woken => {}, () = tokio::time::sleep_until(due) => {} }
                }
                None => woken.await,
            }
        }
    }

    /// A worker is through with the key; if it was added meanwhile, it is handed out again after a moment.
    pub fn done(&self, key: &K) {
        let mut state = self.state.lock();
        if let Some(since) = state.working.remove(key) {
            state.worked.observe_time(since.elapsed());
        }
        if state.dirty.contains_key(key) && state.resting.insert(key.clone()) {
            Self::delay(&mut state, key.clone(), REST);
            self.wake.notify_one();
        }
    }

    /// Ends every [`Queue::next`], now and later.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_waiters();
        self.wake.notify_one();
    }

    /// How many keys wait to be looked at now.
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Ord + Send> Watched for Mutex<State<K>> {
    fn read(&self, look: &mut dyn FnMut(&Reading<'_>)) {
        let state = self.lock();
        let times = || state.working.values().map(Instant::elapsed);
        look(&Reading {
            depth: state.ready.len(),
            adds: state.adds,
            retries: state.retries,
            waited: &state.waited,
            worked: &state.worked,
            unfinished: times().sum(),
            longest: times().max().unwrap_or_default(),
        });
    }
}

impl<K: Ord + Clone + Display + Debug + Send + 'static> Queue<K> {
    /// Looks at keys with `workers` tasks until the future is dropped. An error means a retry with back-off. What the
    /// queue does is [shown](metrics::expose) under the controller's name.
    pub async fn run<F, Fut, E>(&self, controller: &'static str, workers: usize, look: F)
    where
        F: Fn(K) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Verdict, E>> + Send,
        E: Display,
    {
        let watched: Arc<dyn Watched> = self.state.clone();
        metrics::watch(controller, &watched);
        let mut tasks = JoinSet::new();
        for _ in 0..workers {
            let (queue, look) = (self.clone(), look.clone());
            tasks.spawn(async move {
                while let Some(key) = queue.next().await {
                    match look(key.clone()).await {
                        Ok(Verdict::Done) => queue.forget(&key),
                        Ok(Verdict::After(delay)) => {
                            queue.forget(&key);
                            queue.add_after(key.clone(), delay);
                        }
                        Ok(Verdict::Again) => queue.add_rate_limited(key.clone()),
                        Err(error) => {
                            debug!(controller, %key, %error, "will try again");
                            queue.add_rate_limited(key.clone());
                        }
                    }
                    queue.done(&key);
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
