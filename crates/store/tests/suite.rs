//! What every engine promises, tried on each of them.

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use tiphys_store::{
    Change, Embedded, Error, Event, Events, Expect, Key, Memory, Note, Outcome, Range, Record, Revision,
    Store, Write, embedded::Options,
};

/// The longest that an event may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

fn key(name: &str) -> Key {
    Key::new(name)
}

fn put(name: &str, expect: Expect, value: &str) -> Write {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Write { key: key(name), expect, change: Change::Put { value, ttl: None }, note: None }
}

fn delete(name: &str, at: Revision) -> Write {
    Write { key: key(name), expect: Expect::At(at), change: Change::Delete, note: None }
}

async fn commit(store: &dyn Store, writes: Vec<Write>) -> Revision {
    match store.commit(writes).await.unwrap() {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict { key, .. } => panic!("conflict on {key}"),
    }
}

async fn create(store: &dyn Store, name: &str, value: &str) -> Revision {
    commit(store, vec![put(name, Expect::Absent, value)]).await
}

async fn conflict(store: &dyn Store, writes: Vec<Write>) -> (Key, Option<Record>) {
    match store.commit(writes).await.unwrap() {
        Outcome::Conflict { key, current } => (key, current),
        Outcome::Committed(revision) => panic!("committed at {revision}"),
    }
}

/// `name=value` of a range, and its revision.
async fn range(store: &dyn Store, prefix: &str, at: Option<Revision>) -> (Vec<String>, Revision) {
    let range = Range { prefix: prefix.to_owned(), ..Range::default() };
    let page = store.range(range, at).await.unwrap();
    assert!(!page.more);
    (page.records.iter().map(show).collect(), page.revision)
}

fn show(record: &Record) -> String {
    format!("{}={}", record.key, String::from_utf8_lossy(&record.value))
}

/// `+name=value` or `-name`.
fn tell(event: &Event) -> String {
    match &event.value {
        Some(value) => format!("+{}={}", event.key, String::from_utf8_lossy(value)),
        None => format!("-{}", event.key),
    }
}

/// The next events, up to `revision`.
async fn until(events: &mut Events, revision: Revision) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let batch = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        seen.extend(batch.events);
        if batch.revision >= revision {
            return seen;
        }
    }
}

fn told(events: &[Event]) -> Vec<String> {
    events.iter().map(tell).collect()
}

macro_rules! engines {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(Arc::new(Memory::new())).await;
            })*
            use super::*;
        }
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                super::$name(Arc::new(Embedded::open(dir.path(), Options::default()).unwrap())).await;
            })*
            use super::*;
        }
        mod etcd {
            $(#[tokio::test]
            async fn $name() {
                let Some(server) = support::Server::start() else { return };
                super::$name(Arc::new(server.open().await)).await;
            })*
            use super::*;
        }
    };
}

engines! {
    a_write_happens_only_as_expected,
    a_transaction_is_all_or_nothing,
    a_key_stands_once_in_a_transaction,
    doing_nothing_takes_no_revision,
    ranges_are_ordered_and_paged,
    the_past_can_be_read,
    a_scan_reads_a_moment_in_pieces,
    who_made_a_change_is_told,
    a_watch_sees_what_happens,
    a_watch_starts_in_the_past,
    a_slow_watcher_misses_nothing,
    compaction_lets_the_past_go,
    what_expires_is_deleted,
    a_renewed_record_stays,
}

async fn a_write_happens_only_as_expected(store: Arc<dyn Store>) {
    let store = &*store;
    let first = create(store, "/a", "1").await;
    let (at, current) = conflict(store, vec![put("/a", Expect::Absent, "2")]).await;
    assert_eq!((at, current.map(|c| (show(&c), c.revision))), (key("/a"), Some(("/a=1".into(), first))));

    let second = commit(store, vec![put("/a", Expect::At(first), "2")]).await;
    assert!(second > first);
    let (_, current) = conflict(store, vec![put("/a", Expect::At(first), "3")]).await;
    assert_eq!(current.map(|c| c.revision), Some(second));

    let gone = commit(store, vec![delete("/a", second)]).await;
    assert_eq!(store.get(&key("/a")).await.unwrap(), None);
    assert_eq!(conflict(store, vec![delete("/a", second)]).await, (key("/a"), None));
    assert_eq!(store.revision().await.unwrap(), gone);

    let again = create(store, "/a", "4").await;
    let record = store.get(&key("/a")).await.unwrap().unwrap();
    assert_eq!((show(&record), record.revision), ("/a=4".into(), again));
}

async fn a_transaction_is_all_or_nothing(store: Arc<dyn Store>) {
    let store = &*store;
    let b = create(store, "/b", "1").await;
    let writes = vec![put("/a", Expect::Absent, "1"), put("/b", Expect::Absent, "2"), delete("/c", b)];
    assert_eq!(conflict(store, writes).await.0, key("/b"));
    assert_eq!(range(store, "/", None).await, (vec!["/b=1".into()], b));

    let both = commit(store, vec![put("/a", Expect::Absent, "1"), delete("/b", b)]).await;
    let a = store.get(&key("/a")).await.unwrap().unwrap();
    assert_eq!(a.revision, both);
    let mut events = store.watch("/".into(), b).await.unwrap();
    assert_eq!(told(&until(&mut events, both).await), ["+/a=1", "-/b"]);
}

async fn a_key_stands_once_in_a_transaction(store: Arc<dyn Store>) {
    let writes = vec![put("/a", Expect::Absent, "1"), put("/a", Expect::Absent, "2")];
    assert!(matches!(store.commit(writes).await, Err(Error::DuplicateKey { key }) if key.as_str() == "/a"));
    assert_eq!(store.get(&key("/a")).await.unwrap(), None);
}

async fn doing_nothing_takes_no_revision(store: Arc<dyn Store>) {
    let store = &*store;
    let first = create(store, "/a", "1").await;
    assert_eq!(commit(store, vec![]).await, first);
    let absent = Write { key: key("/b"), expect: Expect::Absent, change: Change::Delete, note: None };
    assert_eq!(commit(store, vec![absent]).await, first);
    assert!(create(store, "/b", "1").await > first);
}

async fn ranges_are_ordered_and_paged(store: Arc<dyn Store>) {
    let store = &*store;
    for name in ["/x/b", "/x/a/1", "/x/a-/1", "/y/a", "/x", "/w/z"] {
        create(store, name, "").await;
    }
    let page = |after: Option<&str>, limit| {
        let range = Range { prefix: "/x/".into(), after: after.map(Key::new), limit };
        async move {
            let page = store.range(range, None).await.unwrap();
            (page.records.iter().map(|r| r.key.to_string()).collect::<Vec<_>>(), page.more)
        }
    };
    assert_eq!(page(None, None).await, (vec!["/x/a-/1".into(), "/x/a/1".into(), "/x/b".into()], false));
    assert_eq!(page(None, Some(2)).await, (vec!["/x/a-/1".into(), "/x/a/1".into()], true));
    assert_eq!(page(Some("/x/a/1"), Some(2)).await, (vec!["/x/b".into()], false));
    assert_eq!(page(Some("/a"), Some(1)).await, (vec!["/x/a-/1".into()], true));
    assert_eq!(page(Some("/z"), None).await, (vec![], false));
}

async fn the_past_can_be_read(store: Arc<dyn Store>) {
    let store = &*store;
    assert_eq!(range(store, "/", Some(Revision::ZERO)).await, (vec![], Revision::ZERO));
    let a = create(store, "/a", "1").await;
    let b = create(store, "/b", "1").await;
    let a2 = commit(store, vec![put("/a", Expect::At(a), "2")]).await;
    let gone = commit(store, vec![delete("/b", b), put("/c", Expect::Absent, "1")]).await;
    let back = create(store, "/b", "2").await;

    assert_eq!(range(store, "/", Some(Revision::ZERO)).await, (vec![], Revision::ZERO));
    assert_eq!(range(store, "/", Some(a)).await, (vec!["/a=1".into()], a));
    assert_eq!(range(store, "/", Some(b)).await, (vec!["/a=1".into(), "/b=1".into()], b));
    assert_eq!(range(store, "/", Some(a2)).await, (vec!["/a=2".into(), "/b=1".into()], a2));
    assert_eq!(range(store, "/", Some(gone)).await, (vec!["/a=2".into(), "/c=1".into()], gone));
    assert_eq!(range(store, "/b", Some(gone)).await, (vec![], gone));
    assert_eq!(range(store, "/b", None).await, (vec!["/b=2".into()], back));

    let page = Range { prefix: "/".into(), after: Some(key("/a")), limit: Some(1) };
    let page = store.range(page, Some(b)).await.unwrap();
    assert_eq!((page.records.iter().map(show).collect::<Vec<_>>(), page.more), (vec!["/b=1".into()], false));
    let future = Revision::parse(&(back.get() + 1).to_string()).unwrap();
    let future = store.range(Range::default(), Some(future)).await;
    assert!(matches!(future, Err(Error::Future { newest }) if newest == back));
}

async fn a_scan_reads_a_moment_in_pieces(store: Arc<dyn Store>) {
    let store = &*store;
    let names: Vec<String> = (0..1500).map(|n| format!("/a/{n:04}")).collect();
    for group in names.chunks(100).rev() {
        commit(store, group.iter().map(|name| put(name, Expect::Absent, "1")).collect()).await;
    }
    let at = create(store, "/b", "1").await;
    let Record { revision, .. } = store.get(&key("/a/0003")).await.unwrap().unwrap();
    commit(store, vec![put("/a/0003", Expect::At(revision), "2"), delete("/b", at)]).await;

    let mut pieces = store.scan("/a/".into(), at).await.unwrap();
    let mut seen = pieces.next().await.unwrap().unwrap();
    assert!(seen.len() < names.len(), "the first piece is all there is");
    while let Some(piece) = pieces.next().await {
        seen.extend(piece.unwrap());
    }
    let expected: Vec<String> = names.iter().map(|name| format!("{name}=1")).collect();
    seen.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(seen.iter().map(show).collect::<Vec<_>>(), expected);

    // Much of the log lies between these, and the later of them stands before the other.
    create(store, "/far/2", "1").await;
    for n in 0..20 {
        create(store, &format!("/between/{n}"), "1").await;
    }
    let later = create(store, "/far/1", "1").await;
    let mut pieces = store.scan("/far/".into(), later).await.unwrap();
    let mut seen: Vec<String> = pieces.next().await.unwrap().unwrap().iter().map(show).collect();
    seen.sort();
    assert_eq!(seen, ["/far/1=1", "/far/2=1"]);

    assert!(
        store.scan("/none/".into(), store.revision().await.unwrap()).await.unwrap().next().await.is_none()
    );
    store.compact(store.revision().await.unwrap()).await.unwrap();
    assert!(matches!(store.scan("/".into(), at).await.err(), Some(Error::Compacted { .. })));
}

/// What goes while a store that is nobody else's is read was there when the scan began.
#[tokio::test]
async fn a_compaction_disturbs_no_scan() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(dir.path(), Options::default()).unwrap();
    let memory = Memory::new();
    for store in [&embedded as &dyn Store, &memory] {
        let names: Vec<String> = (0..1500).map(|n| format!("/a/{n:04}")).collect();
        let at = commit(store, names.iter().map(|name| put(name, Expect::Absent, "1")).collect()).await;
        commit(store, names.iter().map(|name| put(name, Expect::At(at), "2")).collect()).await;
        let mut pieces = store.scan("/a/".into(), at).await.unwrap();
        let mut seen = pieces.next().await.unwrap().unwrap();
        store.compact(store.revision().await.unwrap()).await.unwrap();
        while let Some(piece) = pieces.next().await {
            seen.extend(piece.unwrap());
        }
        let expected: Vec<String> = names.iter().map(|name| format!("{name}=1")).collect();
        assert_eq!(seen.iter().map(show).collect::<Vec<_>>(), expected);
    }
}

async fn a_watch_sees_what_happens(store: Arc<dyn Store>) {
    let mut events = store.watch("/a/".into(), Revision::ZERO).await.unwrap();
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move {
        let one = create(&*writer, "/a/1", "x").await;
        create(&*writer, "/b/1", "x").await;
        commit(&*writer, vec![put("/a/1", Expect::At(one), "y"), put("/a/2", Expect::Absent, "z")]).await;
        let page = writer.get(&key("/a/1")).await.unwrap().unwrap();
        commit(&*writer, vec![delete("/a/1", page.revision)]).await;
        // The last is not the watcher's business, but it is told how far the log has come.
        create(&*writer, "/b/2", "x").await
    });
    let last = writing.await.unwrap();
    let seen = until(&mut events, last).await;
    assert_eq!(told(&seen), ["+/a/1=x", "+/a/1=y", "+/a/2=z", "-/a/1"]);
    assert!(seen.is_sorted_by_key(|e| e.revision));
    assert_eq!(seen[1].revision, seen[2].revision);
}

async fn a_watch_starts_in_the_past(store: Arc<dyn Store>) {
    let store = &*store;
    let mut revisions = vec![Revision::ZERO];
    for i in 0..20 {
        revisions.push(create(store, &format!("/a/{i:02}"), "").await);
    }
    let newest = *revisions.last().unwrap();
    for (i, after) in revisions.iter().enumerate().take(20) {
        let mut events = store.watch("/a/".into(), *after).await.unwrap();
        let seen: Vec<_> = until(&mut events, newest).await.iter().map(|e| e.revision).collect();
        assert_eq!(seen, revisions[i + 1..]);
    }
    let future = Revision::parse(&(newest.get() + 1).to_string()).unwrap();
    let future = store.watch("/".into(), future).await;
    assert!(matches!(future.err(), Some(Error::Future { newest: n }) if n == newest));
}

async fn a_slow_watcher_misses_nothing(store: Arc<dyn Store>) {
    let store = &*store;
    let mut events = store.watch("/".into(), Revision::ZERO).await.unwrap();
    // More than the tail in memory holds.
    let value = "x".repeat(100_000);
    let mut newest = Revision::ZERO;
    for i in 0..60 {
        newest = create(store, &format!("/{i}"), &value).await;
    }
    let seen = until(&mut events, newest).await;
    let expected: Vec<_> = (0..60).map(|i| format!("/{i}")).collect();
    assert_eq!(seen.iter().map(|e| e.key.to_string()).collect::<Vec<_>>(), expected);
    assert!(seen.iter().all(|e| e.value.as_ref().is_some_and(|v| v.len() == value.len())));
}

async fn compaction_lets_the_past_go(store: Arc<dyn Store>) {
    let store = &*store;
    let a = create(store, "/a", "1").await;
    let b = create(store, "/b", "1").await;
    let a2 = commit(store, vec![put("/a", Expect::At(a), "2")]).await;
    let floor = commit(store, vec![delete("/b", b)]).await;
    let a3 = commit(store, vec![put("/a", Expect::At(a2), "3")]).await;
    let c = create(store, "/c", "1").await;
    let mut early = store.watch("/".into(), b).await.unwrap();

    store.compact(floor).await.unwrap();
    assert_eq!(range(store, "/", Some(floor)).await, (vec!["/a=2".into()], floor));
    assert_eq!(range(store, "/", Some(a3)).await, (vec!["/a=3".into()], a3));
    for gone in [Revision::ZERO, a2] {
        let gone = store.range(Range::default(), Some(gone)).await;
        assert!(matches!(gone, Err(Error::Compacted { floor: f }) if f == floor));
    }
    assert!(
        matches!(store.watch("/".into(), a2).await.err(), Some(Error::Compacted { floor: f }) if f == floor)
    );
    let mut events = store.watch("/".into(), floor).await.unwrap();
    assert_eq!(told(&until(&mut events, c).await), ["+/a=3", "+/c=1"]);
    // A watch that began earlier sees everything, or is told that it can't.
    match early.next().await.unwrap() {
        Ok(batch) => assert_eq!(told(&batch.events)[..2], ["+/a=2", "-/b"]),
        Err(error) => assert!(matches!(error, Error::Compacted { .. })),
    }

    // Neither back nor beyond the end.
    store.compact(a).await.unwrap();
    assert!(store.range(Range::default(), Some(floor)).await.is_ok());
    let last = store.revision().await.unwrap();
    let beyond = Revision::parse(&(last.get() + 1).to_string()).unwrap();
    assert!(matches!(store.compact(beyond).await, Err(Error::Future { newest }) if newest == last));
    store.compact(c).await.unwrap();
    assert_eq!(range(store, "/", None).await.0, ["/a=3", "/c=1"]);
    assert_eq!(range(store, "/", Some(c)).await, (vec!["/a=3".into(), "/c=1".into()], c));
}

/// Past versions are told with who made them, after a deletion and a compaction too.
async fn who_made_a_change_is_told(store: Arc<dyn Store>) {
    let noted = |mut write: Write, note: &'static str| {
        write.note = Note::new(note);
        vec![write]
    };
    let first = commit(&*store, noted(put("/a", Expect::Absent, "1"), "made")).await;
    let beat = commit(&*store, vec![put("/a", Expect::At(first), "2")]).await;
    let third = commit(&*store, noted(put("/a", Expect::At(beat), "3"), "changed")).await;
    let end = commit(&*store, noted(delete("/a", third), "deleted")).await;
    let again = commit(&*store, noted(put("/a", Expect::Absent, "4"), "made again")).await;
    create(&*store, "/ab", "another").await;
    store.compact(again).await.unwrap();
    let history = store.versions(&key("/a"), None, 10).await.unwrap();
    let told = history.versions.iter().map(|version| {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let note = version.note.as_ref().map(|note| text(note.text())).unwrap_or_default();
        (version.revision, version.value.as_ref().map(text).unwrap_or_default(), note)
    });
    let expected =
        [(again, "4", "made again"), (end, "", "deleted"), (third, "3", "changed"), (first, "1", "made")];
    assert_eq!(told.collect::<Vec<_>>(), expected.map(|(r, v, n)| (r, v.to_owned(), n.to_owned())));
}

fn expiring(name: &str, expect: Expect, ttl: Duration) -> Write {
    Write { key: key(name), expect, change: Change::Put { value: Bytes::new(), ttl: Some(ttl) }, note: None }
}

async fn what_expires_is_deleted(store: Arc<dyn Store>) {
    let store = &*store;
    let kept = create(store, "/a", "").await;
    let mut events = store.watch("/".into(), kept).await.unwrap();
    commit(store, vec![expiring("/b", Expect::Absent, Duration::from_millis(5))]).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let batch = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        seen.extend(told(&batch.events));
    }
    assert_eq!(seen, ["+/b=", "-/b"]);
    assert_eq!(range(store, "/", None).await.0, ["/a="]);
}

async fn a_renewed_record_stays(store: Arc<dyn Store>) {
    let store = &*store;
    let hour = Duration::from_secs(3600);
    let soon = Duration::from_millis(20);
    let short = commit(store, vec![expiring("/kept", Expect::Absent, soon)]).await;
    commit(store, vec![expiring("/kept", Expect::At(short), hour)]).await;
    let short = commit(store, vec![expiring("/forever", Expect::Absent, soon)]).await;
    let last = commit(store, vec![put("/forever", Expect::At(short), "")]).await;
    // When this one goes, the others would be gone too.
    let mut events = store.watch("/".into(), last).await.unwrap();
    commit(store, vec![expiring("/gone", Expect::Absent, soon)]).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let batch = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        seen.extend(told(&batch.events));
    }
    assert_eq!(seen, ["+/gone=", "-/gone"]);
    assert_eq!(range(store, "/", None).await.0, ["/forever=", "/kept="]);
}
