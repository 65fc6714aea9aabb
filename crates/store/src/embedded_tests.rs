use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;

use super::*;
use crate::{
    Change, Expect,
    engine::{Medium, View},
};

fn open(dir: &Path) -> Embedded {
    Embedded::open(dir, Options::default()).unwrap()
}

fn put(name: &str, expect: Expect, ttl: Option<Duration>) -> Vec<Write> {
    let value = Bytes::copy_from_slice(name.as_bytes());
    vec![Write { key: Key::new(name), expect, change: Change::Put { value, ttl }, note: None }]
}

async fn commit(store: &Embedded, writes: Vec<Write>) -> Revision {
    match store.commit(writes).await.unwrap() {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict { key, .. } => panic!("conflict on {key}"),
    }
}

async fn create(store: &Embedded, name: &str) -> Revision {
    commit(store, put(name, Expect::Absent, None)).await
}

async fn delete(store: &Embedded, name: &str, at: Revision) -> Revision {
    commit(
        store,
        vec![Write { key: Key::new(name), expect: Expect::At(at), change: Change::Delete, note: None }],
    )
    .await
}

async fn names(store: &Embedded, at: Option<Revision>) -> Vec<String> {
    let page = store.range(Range::default(), at).await.unwrap();
    page.records.iter().map(|r| r.key.to_string()).collect()
}

/// How the kernel schedules the threads of this process that have this name.
fn policies(name: &str) -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
    let named = stats.filter(|stat| stat.contains(&format!("({name})")));
    // The 41st field, counted from behind the name, which may have spaces.
    named
        .map(|stat| stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38).unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_writer_takes_no_processor_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "/a").await;
    let batch = nix::libc::SCHED_BATCH.to_string();
    assert!(policies("store-writer").contains(&batch), "{:?}", policies("store-writer"));
}

#[tokio::test]
async fn everything_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let a = create(&store, "/a").await;
    let b = create(&store, "/b").await;
    let gone = delete(&store, "/a", a).await;
    store.close().await;
    assert!(matches!(store.commit(put("/c", Expect::Absent, None)).await, Err(Error::Closed)));
    assert!(matches!(store.revision().await, Err(Error::Closed)));

    let store = open(dir.path());
    assert_eq!(store.revision().await.unwrap(), gone);
    assert_eq!(
        (names(&store, None).await, names(&store, Some(b)).await),
        (vec!["/b".into()], vec!["/a".into(), "/b".into()])
    );
    assert_eq!(store.get(&Key::new("/b")).await.unwrap().unwrap().revision, b);
    let mut events = store.watch("/".into(), b).await.unwrap();
    let batch = events.next().await.unwrap().unwrap();
    assert_eq!((batch.events.len(), batch.events[0].revision, batch.revision), (1, gone, gone));
    assert!(create(&store, "/a").await > gone);
}

/// A compaction may take the newest entry, a deletion; its revision is not used again.
#[tokio::test]
async fn revisions_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let a = create(&store, "/a").await;
    let gone = delete(&store, "/a", a).await;
    store.compact(gone).await.unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.revision().await.unwrap(), gone);
    assert!(matches!(store.watch("/".into(), a).await.err(), Some(Error::Compacted { .. })));
    assert!(create(&store, "/b").await > gone);
}

#[tokio::test]
async fn a_directory_has_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let second = Embedded::open(dir.path(), Options::default());
    assert!(matches!(second.err(), Some(OpenError::Locked { dir: d }) if d == dir.path()));
    store.close().await;
    open(dir.path());
}

#[tokio::test]
async fn a_foreign_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    create(&open(dir.path()), "/a").await;
    std::fs::write(dir.path().join("layout"), "tiphys store 99\n").unwrap();
    let error = Embedded::open(dir.path(), Options::default()).err();
    assert!(matches!(error, Some(OpenError::Layout { found, .. }) if found.contains("99")));
    std::fs::write(dir.path().join("layout"), "tiphys store 2\n").unwrap();
    assert_eq!(names(&open(dir.path()), None).await, ["/a"]);
}

/// A first start that was cut short leaves a directory that the next one can use.
#[tokio::test]
async fn a_half_made_directory_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    std::fs::remove_file(dir.path().join("layout")).unwrap();
    std::fs::remove_file(dir.path().join("db/version")).unwrap_or_default();
    let store = open(dir.path());
    create(&store, "/a").await;
    drop(store);
    assert_eq!(names(&open(dir.path()), None).await, ["/a"]);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_lets_deletions_through() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let told = Arc::clone(&free);
    let free_space: FreeSpace = Arc::new(move |_| Ok(told.load(Ordering::SeqCst)));
    let store =
        Embedded::open(dir.path(), Options { reserve: 1000, free_space, ..Options::default() }).unwrap();
    let a = create(&store, "/a").await;
    free.store(999, Ordering::SeqCst);
    let refused = store.commit(put("/b", Expect::Absent, None)).await;
    assert!(matches!(refused, Err(Error::NoSpace { free: 999, needed: 1000, .. })));
    assert_eq!(store.revision().await.unwrap(), a);
    delete(&store, "/a", a).await;
    free.store(1000, Ordering::SeqCst);
    let b = create(&store, "/b").await;
    free.store(10, Ordering::SeqCst);
    let delete =
        vec![Write { key: Key::new("/b"), expect: Expect::At(b), change: Change::Delete, note: None }];
    assert!(matches!(store.commit(delete).await, Err(Error::NoSpace { needed: 250, .. })));
    assert_eq!(names(&store, None).await, ["/b"]);
}

#[test]
fn free_space_is_that_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    assert!(space::free(dir.path()).unwrap() > 0);
    assert!(space::free(&dir.path().join("nowhere")).is_err());
}

/// A store whose next write fails at a step, and whose log can be opened again only when `mendable`.
struct Faulty {
    _dir: tempfile::TempDir,
    store: Embedded,
    fails: Arc<Mutex<Option<Step>>>,
    mendable: Arc<AtomicBool>,
}

impl Faulty {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (fails, mendable) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(true)));
        let (failing, is_mendable) = (Arc::clone(&fails), Arc::clone(&mendable));
        let faults: Faults = Arc::new(move |step| {
            let mut failing = failing.lock();
            if *failing == Some(step) {
                *failing = None;
                return Err(std::io::Error::other("no sync"));
            }
            match step {
                Step::Reopen if !is_mendable.load(Ordering::SeqCst) => Err(std::io::Error::other("no disk")),
                _ => Ok(()),
            }
        });
        let store = Embedded::open(dir.path(), Options { faults, ..Options::default() }).unwrap();
        Self { _dir: dir, store, fails, mendable }
    }

    async fn fail(&self, step: Step, writes: Vec<Write>) {
        *self.fails.lock() = Some(step);
        assert!(matches!(self.store.commit(writes).await, Err(Error::Engine { .. })));
    }
}

/// A write that failed may have happened or not. Once the store answers again, it is known, and who watched goes
/// on where he was.
#[tokio::test]
async fn a_failed_write_is_looked_up_on_disk() {
    for (step, there) in [(Step::Write, false), (Step::Sync, true)] {
        let f = Faulty::new();
        let a = create(&f.store, "/a").await;
        let mut events = f.store.watch("/".into(), a).await.unwrap();
        f.fail(step, put("/b", Expect::Absent, None)).await;
        f.store.mended().await.unwrap();
        let found = f.store.get(&Key::new("/b")).await.unwrap();
        assert_eq!(found.is_some(), there, "{step:?}");
        assert_eq!(f.store.revision().await.unwrap() > a, there);
        let c = create(&f.store, "/c").await;
        let mut seen = Vec::new();
        while !seen.contains(&"/c".to_owned()) {
            match events.next().await {
                Some(Ok(batch)) => seen.extend(batch.events.iter().map(|e| e.key.to_string())),
                // It has seen the failure before it was mended.
                Some(Err(Error::Poisoned)) => events = f.store.watch("/".into(), a).await.unwrap(),
                other => panic!("{other:?}"),
            }
        }
        let expected: &[&str] = if there { &["/b", "/c"] } else { &["/c"] };
        assert_eq!(seen, expected);
        f.store.compact(c).await.unwrap();
        assert_eq!(f.store.revision().await.unwrap(), c);
    }
}

/// Nothing is acknowledged before the log could be opened again.
#[tokio::test]
async fn a_poisoned_store_refuses_everything() {
    let f = Faulty::new();
    let a = create(&f.store, "/a").await;
    let mut events = f.store.watch("/".into(), a).await.unwrap();
    f.mendable.store(false, Ordering::SeqCst);
    f.fail(Step::Sync, put("/b", Expect::Absent, None)).await;
    assert!(matches!(f.store.commit(put("/c", Expect::Absent, None)).await, Err(Error::Poisoned)));
    assert!(matches!(f.store.get(&Key::new("/a")).await, Err(Error::Poisoned)));
    assert!(matches!(f.store.revision().await, Err(Error::Poisoned)));
    assert!(matches!(f.store.compact(a).await, Err(Error::Poisoned)));
    assert!(matches!(events.next().await, Some(Err(Error::Poisoned))));
    f.mendable.store(true, Ordering::SeqCst);
    f.store.mended().await.unwrap();
    assert_eq!(names(&f.store, None).await, ["/a", "/b"]);
    create(&f.store, "/c").await;
    // A store that is poisoned can be closed.
    f.mendable.store(false, Ordering::SeqCst);
    f.fail(Step::Write, put("/d", Expect::Absent, None)).await;
    f.store.close().await;
    assert!(matches!(f.store.mended().await, Err(Error::Closed)));
}

/// Time goes on while the store is closed.
#[tokio::test]
async fn what_expires_meanwhile_is_deleted_after_opening() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(1_000_000));
    let told = Arc::clone(&now);
    let clock: Clock = Arc::new(move || told.load(Ordering::SeqCst));
    let options = Options { clock, ..Options::default() };
    let store = Embedded::open(dir.path(), options.clone()).unwrap();
    let hour = Some(Duration::from_secs(3600));
    commit(&store, put("/short", Expect::Absent, hour)).await;
    now.fetch_add(1_000_000, Ordering::SeqCst);
    let last = commit(&store, put("/long", Expect::Absent, hour)).await;
    drop(store);
    now.fetch_add(3_000_000, Ordering::SeqCst);
    let store = Embedded::open(dir.path(), options).unwrap();
    let mut events = store.watch("/".into(), last).await.unwrap();
    let batch = events.next().await.unwrap().unwrap();
    assert_eq!((batch.events[0].key.as_str(), &batch.events[0].value), ("/short", &None));
    assert_eq!(names(&store, None).await, ["/long"]);
}

fn entries(store: &Embedded) -> usize {
    let medium = store.engine.medium().unwrap();
    medium.view().entries(Revision::ZERO, Revision(u64::MAX)).count()
}

/// Objects that change all the time don't make the log grow, and a sweep that was cut short is finished.
#[tokio::test]
async fn the_log_is_as_long_as_its_history() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut at = create(&store, "/lease").await;
    for _ in 0..1000 {
        at = commit(&store, put("/lease", Expect::At(at), None)).await;
    }
    assert_eq!(entries(&store), 1001);
    store.compact(at).await.unwrap();
    assert_eq!(entries(&store), 1);

    for _ in 0..10 {
        at = commit(&store, put("/lease", Expect::At(at), None)).await;
    }
    // The floor is raised, but nothing is swept when the process dies.
    store.engine.medium().unwrap().raise_floor(at).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(entries(&store), 11);
    let late = create(&store, "/b").await;
    store.compact(late).await.unwrap();
    assert_eq!(entries(&store), 2);
    assert_eq!(names(&store, None).await, ["/b", "/lease"]);
}

/// The past outlives the process, and makes room when the disk is short.
#[tokio::test]
async fn history_is_kept_while_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(2000));
    let told = Arc::clone(&free);
    let free_space: FreeSpace = Arc::new(move |_| Ok(told.load(Ordering::SeqCst)));
    let options = Options { reserve: 1000, free_space, ..Options::default() };
    let noted = |mut writes: Vec<Write>| {
        writes[0].note = crate::Note::new("n");
        writes
    };
    let store = Embedded::open(dir.path(), options.clone()).unwrap();
    let made = commit(&store, noted(put("/a", Expect::Absent, None))).await;
    let changed = commit(&store, noted(put("/a", Expect::At(made), None))).await;
    let end = Write { key: Key::new("/a"), expect: Expect::At(changed), change: Change::Delete, note: None };
    let end = commit(&store, noted(vec![end])).await;
    store.compact(end).await.unwrap();
    store.close().await;
    drop(store);

    let store = Embedded::open(dir.path(), options).unwrap();
    let revisions = async || {
        let history = store.versions(&Key::new("/a"), None, 9).await.unwrap();
        history.versions.iter().map(|version| version.revision).collect::<Vec<_>>()
    };
    store.compact(end).await.unwrap();
    assert_eq!(revisions().await, [end, changed, made]);
    free.store(1999, Ordering::SeqCst);
    store.compact(end).await.unwrap();
    assert!(!revisions().await.contains(&changed));
}
