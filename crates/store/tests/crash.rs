//! `kill -9` at any moment under concurrent writes: every acknowledged write is there afterwards, revisions
//! never go back, and a watch that resumes misses nothing.
//!
//! The test runs itself as the child that writes. The child tells each acknowledgement on its standard output;
//! the parent reads them until it kills the child, and looks at what is on disk. Where the disk is not the
//! parent's, as in the virtual machine of `tiphys-testkit` that loses power, the next child looks itself: it is
//! given what its predecessors told.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use tiphys_store::{
    Batch, Change, Embedded, Expect, Key, Outcome, Range, Revision, Store, Write, embedded::Options,
};

const DIR: &str = "TIPHYS_CRASH_TEST_DIR";
/// A file with all that earlier children told, for a child that is to look at the disk before it writes.
const HISTORY: &str = "TIPHYS_CRASH_TEST_HISTORY";
const KILLS: u64 = 120;
/// A store lives through this many of them.
const LIVES: u64 = 40;
const WRITERS: usize = 8;
/// What lines of the child begin with, between whatever the test harness prints.
const ACK: &str = "acknowledged ";
const VERIFIED: &str = "verified ";

/// The child; does nothing when it is run as a test.
#[test]
fn child() {
    let Some(dir) = env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if let Some(path) = env::var_os(HISTORY) {
            let mut history = History::default();
            std::fs::read_to_string(path).unwrap().split_inclusive('\n').for_each(|l| history.learn(l));
            println!("{VERIFIED}{}", verify(dir.as_ref(), &history).await);
        }
        let store = Arc::new(Embedded::open(dir, Options::default()).unwrap());
        let writers: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(write(Arc::clone(&store), n))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

/// Writes two keys over and over, and now and then deletes one or compacts; tells what was acknowledged.
async fn write(store: Arc<Embedded>, who: usize) {
    // The parent resumes its watch from here, so this is as far as history may go.
    let opened = store.revision().await.unwrap();
    let keys = [Key::new(format!("/crash/{who}/a")), Key::new(format!("/crash/{who}/b"))];
    let mut revisions = [None, None];
    for (key, revision) in keys.iter().zip(&mut revisions) {
        *revision = store.get(key).await.unwrap().map(|r| r.revision);
    }
    for round in 0_u64.. {
        let at = |revision: Option<Revision>| revision.map_or(Expect::Absent, Expect::At);
        let length = if round % 16 == 3 { 12_000 } else { (round as usize * 37) % 300 };
        let value = Bytes::from(format!("{who} {round} {}", "x".repeat(length)));
        let put = Change::Put { value: value.clone(), ttl: None };
        let delete = round % 7 == 6 && revisions[1].is_some();
        let second = if delete { Change::Delete } else { put.clone() };
        let writes = vec![
            Write { key: keys[0].clone(), expect: at(revisions[0]), change: put, note: None },
            Write { key: keys[1].clone(), expect: at(revisions[1]), change: second, note: None },
        ];
        let Outcome::Committed(revision) = store.commit(writes).await.unwrap() else {
            panic!("nobody else writes these keys")
        };
        revisions = [Some(revision), (!delete).then_some(revision)];
        let line = format!("{ACK}{who} {revision} {} {}\n", u8::from(delete), value.len());
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        if who == 0 && round % 20 == 19 {
            store.compact(opened).await.unwrap();
        }
    }
}

/// One transaction that a child told of.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    who: usize,
    revision: Revision,
    deleted: bool,
    length: usize,
}

fn parse(line: &str) -> Option<Acknowledged> {
    let mut words = line.split_once(ACK)?.1.split(' ');
    Some(Acknowledged {
        who: words.next()?.parse().ok()?,
        revision: Revision::parse(words.next()?)?,
        deleted: words.next()? == "1",
        length: words.next()?.parse().ok()?,
    })
}

fn spawn(dir: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets a child write for a while after its first acknowledgement and kills it; returns what it told.
fn crash(dir: &Path, life: Duration) -> Vec<String> {
    let mut child = spawn(dir);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (first, began) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        let (mut all, mut line) = (Vec::new(), String::new());
        while output.read_line(&mut line).unwrap() > 0 {
            if line.contains(ACK) {
                all.push(std::mem::take(&mut line));
                if all.len() == 1 {
                    first.send(()).unwrap();
                }
            }
            line.clear();
        }
        all
    });
    began.recv_timeout(Duration::from_secs(60)).expect("the child acknowledges something");
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap()
}

/// What is known of a store over all of its lives.
#[derive(Debug, Default)]
struct History {
    /// The last that was acknowledged to each writer.
    last: BTreeMap<usize, Acknowledged>,
    /// How far the store was verified, and what was acknowledged since.
    verified: Revision,
    since: Vec<Acknowledged>,
}

impl History {
    fn learn(&mut self, line: &str) {
        // A line that was cut by the kill has no end.
        let Some(line) = line.strip_suffix('\n') else { return };
        if let Some(acknowledged) = parse(line) {
            self.last.insert(acknowledged.who, acknowledged);
            self.since.push(acknowledged);
        } else if let Some((_, revision)) = line.split_once(VERIFIED) {
            self.verified = Revision::parse(revision).unwrap();
            self.since.clear();
        }
    }
}

/// Looks whether the store is as its history says; returns its revision.
async fn verify(dir: &Path, history: &History) -> Revision {
    let resume = history.verified;
    let store = Embedded::open(dir, Options::default()).unwrap();
    let newest = store.revision().await.unwrap();
    let told = history.since.iter().map(|a| a.revision).fold(resume, Revision::max);
    assert!(newest >= told, "{newest} is older than what was acknowledged: {told}");

    let page = store.range(Range::default(), None).await.unwrap();
    let records: BTreeMap<_, _> = page.records.iter().map(|r| (r.key.as_str(), r)).collect();
    for a in history.last.values() {
        let record = records[&*format!("/crash/{}/a", a.who)];
        assert!(record.revision >= a.revision, "{a:?} is lost: {:?}", record.revision);
        if record.revision == a.revision {
            // Nothing newer: both keys are as they were acknowledged.
            assert_eq!(record.value.len(), a.length);
            let second = records.get(&*format!("/crash/{}/b", a.who));
            assert_eq!(second.map(|r| r.revision), (!a.deleted).then_some(a.revision));
        }
    }

    // Each revision since the last life is there, once, whole and in order.
    let mut watch = store.watch("/".into(), resume).await.unwrap();
    let (mut at, mut events) = (resume, Vec::new());
    while at < newest {
        let Batch { events: more, revision } = watch.next().await.unwrap().unwrap();
        at = revision;
        events.extend(more);
    }
    let steps: Vec<_> = events.chunk_by(|a, b| a.revision == b.revision).collect();
    let expected = resume.get() + 1..=newest.get();
    assert!(steps.iter().map(|s| s[0].revision.get()).eq(expected), "a gap after {resume}");
    assert!(steps.iter().all(|s| s.len() == 2), "half a transaction");
    for a in &history.since {
        let step = steps[(a.revision.get() - resume.get() - 1) as usize];
        assert_eq!(step[0].key.as_str(), format!("/crash/{}/a", a.who));
        assert_eq!(step[0].value.as_ref().map(Bytes::len), Some(a.length));
        assert_eq!(step[1].value.is_none(), a.deleted);
    }
    store.close().await;
    newest
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut count = 0;
    for start in (0..KILLS).step_by(LIVES as usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::default();
        for kill in start..start + LIVES {
            // Spread over the life of a few groups.
            let life = Duration::from_micros((kill * 7919) % 60_000);
            let told = crash(dir.path(), life);
            count += told.len();
            told.iter().for_each(|line| history.learn(line));
            let revision = runtime.block_on(verify(dir.path(), &history));
            history.learn(&format!("{VERIFIED}{revision}\n"));
        }
    }
    println!("{KILLS} kills, {count} acknowledged transactions");
}

/// Also the very first start can be cut short.
#[test]
fn a_first_start_can_be_killed() {
    for i in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = spawn(dir.path());
        std::thread::sleep(Duration::from_millis(2 * i));
        child.kill().unwrap();
        child.wait().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Embedded::open(dir.path(), Options::default()).unwrap();
            store.revision().await.unwrap();
        });
    }
}
