//! Clients that race for a few keys, and a checker that looks at what they were told.
//!
//! Every call notes a tick before and after it, so the checker knows which calls came strictly before which.
//! The committed revisions are the order that the engine claims; the checker shows that this order explains
//! every answer (linearizability), and that every watch saw exactly it.

mod support;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use proptest::prelude::*;
use tiphys_store::{
    Change, Embedded, Event, Expect, Key, Memory, Outcome, Record, Revision, Store, Write, embedded::Options,
};

/// What a client tries; it expects a key to be as it has seen it last.
#[derive(Clone, Debug)]
enum Op {
    Put(usize),
    Delete(usize),
    /// Two keys at once.
    Swap(usize, usize),
    Get(usize),
}

const KEYS: usize = 3;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0..KEYS).prop_map(Op::Put),
        2 => (0..KEYS).prop_map(Op::Delete),
        2 => (0..KEYS, 1..KEYS).prop_map(|(a, d)| Op::Swap(a, (a + d) % KEYS)),
        3 => (0..KEYS).prop_map(Op::Get),
    ]
}

fn key(n: usize) -> Key {
    Key::new(format!("/k/{n}"))
}

/// What a key is: nothing, or the record that a revision wrote.
type Seen = Option<(Revision, Bytes)>;

fn seen(record: Option<Record>) -> Seen {
    record.map(|r| (r.revision, r.value))
}

#[derive(Debug)]
enum Answer {
    Committed(Revision, Vec<Write>),
    Conflict(Vec<Write>, Key, Seen),
    Got(Key, Seen),
}

#[derive(Debug)]
struct Call {
    began: u64,
    ended: u64,
    answer: Answer,
}

/// Runs one client's calls.
async fn client(store: Arc<dyn Store>, ticks: Arc<AtomicU64>, who: usize, ops: Vec<Op>) -> Vec<Call> {
    let mut known: HashMap<Key, Seen> = HashMap::new();
    let mut calls = Vec::new();
    for (i, op) in ops.into_iter().enumerate() {
        let value = Bytes::from(format!("{who}.{i}"));
        let write = |key: Key, put: bool| {
            let expect = match known.get(&key) {
                Some(Some((revision, _))) => Expect::At(*revision),
                _ => Expect::Absent,
            };
            let put = put || expect == Expect::Absent;
            let change = if put { Change::Put { value: value.clone(), ttl: None } } else { Change::Delete };
            Write { key, expect, change, note: None }
        };
        let writes = match &op {
            Op::Put(k) => vec![write(key(*k), true)],
            Op::Delete(k) => vec![write(key(*k), false)],
            Op::Swap(a, b) => vec![write(key(*a), true), write(key(*b), false)],
            Op::Get(_) => Vec::new(),
        };
        let began = ticks.fetch_add(1, Ordering::SeqCst);
        let answer = if let Op::Get(k) = op {
            Answer::Got(key(k), seen(store.get(&key(k)).await.unwrap()))
        } else {
            match store.commit(writes.clone()).await.unwrap() {
                Outcome::Committed(revision) => Answer::Committed(revision, writes),
                Outcome::Conflict { key, current } => Answer::Conflict(writes, key, seen(current)),
            }
        };
        let ended = ticks.fetch_add(1, Ordering::SeqCst);
        match &answer {
            Answer::Committed(revision, writes) => {
                for write in writes {
                    known.insert(write.key.clone(), written(write).map(|value| (*revision, value)));
                }
            }
            Answer::Conflict(_, key, seen) | Answer::Got(key, seen) => {
                known.insert(key.clone(), seen.clone());
            }
        }
        calls.push(Call { began, ended, answer });
        // Let the others in between.
        if i % 3 == who % 3 {
            tokio::task::yield_now().await;
        }
    }
    calls
}

fn written(write: &Write) -> Option<Bytes> {
    match &write.change {
        Change::Put { value, .. } => Some(value.clone()),
        Change::Delete => None,
    }
}

/// Reads a watch up to `newest`.
async fn follow(store: Arc<dyn Store>, after: Revision, newest: Revision) -> Vec<Event> {
    let mut events = store.watch("/k/".into(), after).await.unwrap();
    let mut all = Vec::new();
    let mut at = after;
    while at < newest {
        let batch =
            tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap().unwrap().unwrap();
        assert!(
            batch.revision > at
                && batch.events.iter().all(|e| e.revision > at && e.revision <= batch.revision)
        );
        at = batch.revision;
        all.extend(batch.events);
    }
    all
}

/// Replays the commits in the order of their revisions and checks every call against it.
fn check(mut calls: Vec<Call>, watched: &[Event]) {
    // Each key's states: from which revision on, and what.
    let mut states: BTreeMap<Key, Vec<(Revision, Seen)>> =
        (0..KEYS).map(|k| (key(k), vec![(Revision::ZERO, None)])).collect();
    let mut events = Vec::new();
    // When each revision's commit began and ended.
    let mut spans: BTreeMap<Revision, (u64, u64)> = BTreeMap::new();
    calls.sort_by_key(|call| match &call.answer {
        Answer::Committed(revision, _) => *revision,
        _ => Revision::ZERO,
    });
    for Call { began, ended, answer } in &calls {
        let Answer::Committed(revision, writes) = answer else { continue };
        assert!(spans.insert(*revision, (*began, *ended)).is_none(), "revision {revision} twice");
        for write in writes {
            let states = states.get_mut(&write.key).unwrap();
            let current = states.last().unwrap().1.as_ref().map(|(revision, _)| *revision);
            let expected = match write.expect {
                Expect::Absent => None,
                Expect::At(revision) => Some(revision),
            };
            assert_eq!(current, expected, "{} at {revision} was not as expected", write.key);
            states.push((*revision, written(write).map(|value| (*revision, value))));
            events.push(Event { key: write.key.clone(), revision: *revision, value: written(write) });
        }
    }
    // Revisions follow real time: what had ended before another began is older.
    for (i, (a, (_, ended))) in spans.iter().enumerate() {
        for (b, (began, _)) in spans.iter().skip(i + 1) {
            assert!(spans[b].1 > spans[a].0, "{b} ended before {a} began: {began} {ended}");
        }
    }
    // No revision is missing. Etcd's first is that of nothing.
    let first = spans.keys().next().map_or(1, |r| r.get());
    assert!(first <= 2 && spans.keys().map(|r| r.get()).eq(first..first + spans.len() as u64));
    for call in &calls {
        match &call.answer {
            Answer::Committed(..) => {}
            Answer::Got(key, seen) => {
                assert!(explained(call, &states[key], &spans, |s| s == seen), "{call:?}");
            }
            Answer::Conflict(writes, key, seen) => {
                let expect = writes.iter().find(|w| w.key == *key).unwrap().expect;
                let fits = match (expect, seen) {
                    (Expect::Absent, None) => true,
                    (Expect::At(revision), Some((current, _))) => revision == *current,
                    _ => false,
                };
                assert!(!fits, "a conflict that is none: {call:?}");
                assert!(explained(call, &states[key], &spans, |s| s == seen), "{call:?}");
            }
        }
    }
    events.sort_by(|a, b| (a.revision, &a.key).cmp(&(b.revision, &b.key)));
    let mut watched = watched.to_vec();
    watched.sort_by(|a, b| (a.revision, &a.key).cmp(&(b.revision, &b.key)));
    assert_eq!(watched, events);
}

/// Whether the key was in such a state at some moment of the call.
fn explained(
    call: &Call,
    states: &[(Revision, Seen)],
    spans: &BTreeMap<Revision, (u64, u64)>,
    is: impl Fn(&Seen) -> bool,
) -> bool {
    states.iter().enumerate().any(|(i, (from, state))| {
        let began = spans.get(from).map_or(0, |span| span.0);
        let replaced = states.get(i + 1).map_or(u64::MAX, |(next, _)| spans[next].1);
        is(state) && began < call.ended && replaced > call.began
    })
}

async fn race(store: Arc<dyn Store>, histories: Vec<Vec<Op>>) {
    let ticks = Arc::new(AtomicU64::new(1));
    let clients: Vec<_> = histories
        .into_iter()
        .enumerate()
        .map(|(who, ops)| tokio::spawn(client(Arc::clone(&store), Arc::clone(&ticks), who, ops)))
        .collect();
    // One watcher from the beginning, while it happens.
    let mut live = store.watch("/k/".into(), Revision::ZERO).await.unwrap();
    let mut calls = Vec::new();
    for client in clients {
        calls.extend(client.await.unwrap());
    }
    let newest = store.revision().await.unwrap();
    let watched = follow(Arc::clone(&store), Revision::ZERO, newest).await;
    let mut seen = Vec::new();
    let mut at = Revision::ZERO;
    while at < newest {
        let batch = live.next().await.unwrap().unwrap();
        at = batch.revision;
        seen.extend(batch.events);
    }
    assert_eq!(seen, watched);
    // A watch from any revision sees the rest.
    let middle = Revision::parse(&(newest.get() / 2).to_string()).unwrap();
    let rest: Vec<_> = watched.iter().filter(|e| e.revision > middle).cloned().collect();
    assert_eq!(follow(Arc::clone(&store), middle, newest).await, rest);
    check(calls, &watched);
}

fn histories() -> impl Strategy<Value = Vec<Vec<Op>>> {
    prop::collection::vec(prop::collection::vec(op(), 1..40), 2..6)
}

fn run(race: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap()
        .block_on(race);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_linearizable(histories in histories()) {
        run(async { race(Arc::new(Memory::new()), histories).await });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn embedded_is_linearizable(histories in histories()) {
        let dir = tempfile::tempdir().unwrap();
        run(async { race(Arc::new(Embedded::open(dir.path(), Options::default()).unwrap()), histories).await });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 16, ..ProptestConfig::default() })]

    #[test]
    fn etcd_is_linearizable(histories in histories()) {
        let Some(server) = support::Server::start() else { return Ok(()) };
        run(async { race(Arc::new(server.open().await), histories).await });
    }
}
