use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::{sweep::SWEEP, *};
use crate::{Range, Retention};

/// A medium that can be told to fail.
#[derive(Default)]
struct Brittle {
    broken: AtomicBool,
    appended: Mutex<Vec<Entry>>,
}

impl Medium for Brittle {
    const BLOCKS: bool = false;
    type View = Vec<Entry>;

    fn append(&self, entries: &[Entry]) -> Result<(), Error> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Error::damaged("appending", "broken"));
        }
        self.appended.lock().extend_from_slice(entries);
        Ok(())
    }
    fn view(&self) -> Vec<Entry> {
        self.appended.lock().clone()
    }
    fn raise_floor(&self, _: Revision) -> Result<(), Error> {
        Ok(())
    }
    fn forget(&self, useless: &[Useless], _: Progress) -> Result<(), Error> {
        let is_useless = |e: &Entry| useless.iter().any(|u| u.revision == e.revision && u.key == e.key);
        self.appended.lock().retain(|e| !is_useless(e));
        Ok(())
    }
}

impl View for Vec<Entry> {
    fn entry(&self, key: &Key, revision: Revision) -> Result<Option<Entry>, Error> {
        Ok(self.iter().find(|e| e.key == *key && e.revision == revision).cloned())
    }
    fn entries(&self, after: Revision, to: Revision) -> impl Iterator<Item = Result<Entry, Error>> {
        self.iter().filter(move |e| e.revision > after && e.revision <= to).cloned().map(Ok)
    }
    fn graves(&self, key: &Key) -> Result<Vec<Revision>, Error> {
        let graves = self.iter().rev().filter(|e| e.key == *key && e.is_grave());
        Ok(graves.map(|e| e.revision).collect())
    }
}

fn put(name: &str, expect: Expect) -> Vec<Write> {
    vec![Write {
        key: Key::new(name),
        expect,
        change: Change::Put { value: Bytes::new(), ttl: None },
        note: None,
    }]
}

fn delete(name: &str, at: u64) -> Vec<Write> {
    vec![Write { key: Key::new(name), expect: Expect::At(Revision(at)), change: Change::Delete, note: None }]
}

fn show(outcome: &Result<Outcome, Error>) -> String {
    match outcome {
        Ok(Outcome::Committed(revision)) => format!("at {revision}"),
        Ok(Outcome::Conflict { current, .. }) => {
            format!("conflict {:?}", current.as_ref().map(|c| c.revision.get()))
        }
        Err(error) => error.to_string(),
    }
}

/// In a group, later transactions see what earlier ones do, and nothing of those that conflicted.
#[test]
fn a_group_is_judged_in_order() {
    let engine = Engine::new(Brittle::default(), Recovered::default());
    let group = vec![
        put("/a", Expect::Absent),
        put("/a", Expect::Absent),
        put("/a", Expect::At(Revision(1))),
        [put("/b", Expect::Absent), put("/a", Expect::Absent)].concat(),
        put("/b", Expect::Absent),
        delete("/a", 2),
        put("/a", Expect::Absent),
    ];
    let outcomes = engine.commit(group, 0);
    let shown: Vec<_> = outcomes.iter().map(show).collect();
    let expected = ["at 1", "conflict Some(1)", "at 2", "conflict Some(2)", "at 3", "at 4", "at 5"];
    assert_eq!(shown, expected);
    assert_eq!(engine.newest().unwrap(), Revision(5));
}

/// After a write of which nobody knows whether it happened, nothing is acknowledged and no watch goes on.
#[tokio::test]
async fn a_failed_write_stops_the_engine() {
    let engine = Engine::new(Brittle::default(), Recovered::default());
    assert_eq!(show(&engine.commit(vec![put("/a", Expect::Absent)], 0)[0]), "at 1");
    let head = engine.head();
    engine.medium().unwrap().broken.store(true, Ordering::SeqCst);
    let outcomes = engine.commit(vec![put("/b", Expect::Absent), put("/a", Expect::Absent)], 0);
    // Even the conflict is not told: it may rest on a write of the same group.
    assert!(outcomes.iter().all(|o| matches!(o, Err(Error::Engine { .. }))));
    engine.medium().unwrap().broken.store(false, Ordering::SeqCst);
    assert!(matches!(engine.commit(vec![put("/c", Expect::Absent)], 0)[0], Err(Error::Poisoned)));
    assert!(matches!(head.borrow().revision(), Err(Error::Poisoned)));
    assert!(matches!(engine.compact(Revision(1), 0, Retention::default()).await, Err(Error::Poisoned)));
    assert!(engine.medium().unwrap().view().iter().all(|e| e.key.as_str() == "/a"));
    engine.suspend();
    assert!(matches!(engine.get(&Key::new("/a")), Err(Error::Poisoned)));
    assert!(matches!(engine.range(&Range::default(), None), Err(Error::Poisoned)));
}

fn poisoned() -> Arc<Engine<Brittle>> {
    let engine = Engine::new(Brittle::default(), Recovered::default());
    engine.commit(vec![put("/a", Expect::Absent), put("/b", Expect::Absent)], 0);
    engine.medium().unwrap().broken.store(true, Ordering::SeqCst);
    engine.commit(vec![put("/c", Expect::Absent)], 0);
    engine.suspend();
    engine
}

fn recovered(newest: u64) -> Recovered {
    let mut index = Index::default();
    index.reached(Revision(newest));
    Recovered { index, ..Recovered::default() }
}

#[test]
fn what_was_told_must_be_there_again() {
    let engine = poisoned();
    assert!(matches!(engine.resume(Brittle::default(), recovered(1)), Err(Error::Engine { .. })));
    assert!(matches!(engine.newest(), Err(Error::Poisoned)));
    engine.resume(Brittle::default(), recovered(3)).unwrap();
    assert_eq!(engine.newest().unwrap(), Revision(3));
    assert_eq!(show(&engine.commit(vec![put("/d", Expect::Absent)], 0)[0]), "at 4");
}

#[test]
fn an_end_is_an_end() {
    let engine = poisoned();
    engine.lose(Error::Closed);
    assert!(matches!(engine.commit(vec![put("/c", Expect::Absent)], 0)[0], Err(Error::Lost { .. })));
    engine.resume(Brittle::default(), recovered(3)).unwrap();
    assert!(matches!(engine.newest(), Err(Error::Lost { .. })));
    let engine = poisoned();
    engine.close();
    engine.resume(Brittle::default(), recovered(3)).unwrap();
    assert!(matches!(engine.newest(), Err(Error::Closed)));
}

/// What is left after a compaction is what the floor needs and what came later.
#[tokio::test]
async fn a_sweep_leaves_what_is_needed() {
    let engine = Engine::new(Brittle::default(), Recovered::default());
    let mut at = Expect::Absent;
    for revision in 1..=2 * SWEEP as u64 {
        engine.commit(vec![put("/a", at)], 0);
        at = Expect::At(Revision(revision));
    }
    let last = 2 * SWEEP as u64;
    engine.commit(vec![put("/b", Expect::Absent), delete("/b", last + 1), put("/c", Expect::Absent)], 0);
    let left = || {
        let view = engine.medium().unwrap().view();
        view.iter().map(|e| format!("{}{}", e.key, e.revision)).collect::<Vec<_>>()
    };
    engine.compact(Revision(last - 1), 0, Retention::default()).await.unwrap();
    assert_eq!(left()[..2], [format!("/a{}", last - 1), format!("/a{last}")]);
    assert_eq!(left().len(), 5);
    engine.compact(Revision(last + 3), 0, Retention::default()).await.unwrap();
    assert_eq!(left(), [format!("/a{last}"), format!("/c{}", last + 3)]);
}
