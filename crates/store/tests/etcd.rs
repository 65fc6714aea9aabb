//! What only the engine over etcd has: others who share the store, and servers that go away.

mod support;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use support::Server;
use tiphys_store::{
    Change, Error, Etcd, Event, Expect, Key, Note, Outcome, Range, Retention, Revision, Store, Write,
    etcd::Options,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn put(name: &str, expect: Expect, value: impl Into<Bytes>) -> Write {
    let change = Change::Put { value: value.into(), ttl: None };
    Write { key: Key::new(name), expect, change, note: None }
}

fn noted(write: Write, note: &'static str) -> Write {
    Write { note: Note::new(note), ..write }
}

async fn commit(store: &Etcd, write: Write) -> Revision {
    match store.commit(vec![write]).await.unwrap() {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict { key, .. } => panic!("conflict on {key}"),
    }
}

/// The events under `/` later than `after`, up to `newest`.
async fn follow(store: &Etcd, after: Revision, newest: Revision) -> Vec<Event> {
    let mut events = store.watch("/".into(), after).await.unwrap();
    let (mut at, mut seen) = (after, Vec::new());
    while at < newest {
        let batch = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        assert!(batch.revision > at);
        at = batch.revision;
        seen.extend(batch.events);
    }
    seen
}

/// `+value note` or `- note` of each version, the newest first.
async fn versions(store: &Etcd, name: &str) -> Vec<String> {
    let history = store.versions(&Key::new(name), None, 100).await.unwrap();
    assert!(!history.more);
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let tell = history.versions.iter().map(|version| {
        let note = version.note.as_ref().map(|note| text(note.text())).unwrap_or_default();
        match &version.value {
            Some(value) => format!("+{} {note}", text(value)),
            None => format!("- {note}"),
        }
    });
    tell.collect()
}

/// Writes one key again and again; returns what was acknowledged, until there are so many.
async fn write(
    store: Arc<Etcd>,
    who: usize,
    acknowledged: Arc<AtomicU64>,
    enough: u64,
) -> BTreeMap<Revision, Bytes> {
    let key = Key::new(format!("/w/{who}"));
    let (mut expect, mut told) = (Expect::Absent, BTreeMap::new());
    for round in 0.. {
        if acknowledged.load(Ordering::SeqCst) >= enough {
            break;
        }
        let value = Bytes::from(format!("{who} {round}"));
        match store.commit(vec![put(key.as_str(), expect, value.clone())]).await {
            Ok(Outcome::Committed(revision)) => {
                expect = Expect::At(revision);
                told.insert(revision, value);
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            // An earlier one of which nobody knew has happened after all.
            Ok(Outcome::Conflict { current, .. }) => {
                expect = current.map_or(Expect::Absent, |record| Expect::At(record.revision));
            }
            Err(Error::InDoubt { .. } | Error::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    told
}

/// Etcd is killed while it is written to: what was acknowledged is there, and watches go on without a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_etcd_loses_nothing() {
    let Some(mut server) = Server::start() else { return };
    let store = Arc::new(server.open().await);
    let mut live = store.watch("/w/".into(), Revision::ZERO).await.unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let reached = async |number| {
        while count.load(Ordering::SeqCst) < number {
            tokio::task::yield_now().await;
        }
    };
    let writers: Vec<_> =
        (0..4).map(|who| tokio::spawn(write(Arc::clone(&store), who, Arc::clone(&count), 400))).collect();
    for kill in 1..=3 {
        reached(kill * 100).await;
        server.kill();
        server.restart();
    }
    let mut told = BTreeMap::new();
    for writer in writers {
        told.extend(writer.await.unwrap());
    }

    let newest = store.revision().await.unwrap();
    let all = follow(&store, Revision::ZERO, newest).await;
    let there: BTreeMap<_, _> =
        all.iter().map(|event| (event.revision, event.value.clone().unwrap())).collect();
    assert_eq!(there.len(), all.len());
    for (revision, value) in &told {
        assert_eq!(there.get(revision), Some(value), "what was acknowledged at {revision}");
    }
    let (mut at, mut seen) = (Revision::ZERO, Vec::new());
    while at < newest {
        let batch = tokio::time::timeout(PATIENCE, live.next()).await.unwrap().unwrap().unwrap();
        at = batch.revision;
        seen.extend(batch.events);
    }
    assert_eq!(seen, all, "a watch that was there all the time");
}

#[tokio::test]
async fn two_servers_share_a_store() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (server.open().await, server.open().await);
    let first = commit(&one, put("/a", Expect::Absent, "1")).await;
    let mut events = other.watch("/".into(), first).await.unwrap();
    let second = commit(&other, put("/a", Expect::At(first), "2")).await;
    let third = commit(&one, put("/b", Expect::Absent, "1")).await;
    match one.commit(vec![put("/a", Expect::At(first), "3")]).await.unwrap() {
        Outcome::Conflict { current: Some(current), .. } => assert_eq!(current.revision, second),
        outcome => panic!("{outcome:?}"),
    }
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap().events);
    }
    assert_eq!(seen.iter().map(|event| event.revision).collect::<Vec<_>>(), [second, third]);

    // A cluster beside it sees nothing of that, and is not seen.
    let beside = support::open(Options { prefix: "/beside".into(), ..server.options() }).await.unwrap();
    let at = commit(&beside, put("/a", Expect::Absent, "beside")).await;
    let page = beside.range(Range::default(), None).await.unwrap();
    assert_eq!(page.records.iter().map(|record| record.key.as_str()).collect::<Vec<_>>(), ["/a"]);
    assert_eq!(follow(&beside, Revision::ZERO, at).await.len(), 1);
    assert_eq!(follow(&one, Revision::ZERO, at).await.len(), 3 + 1, "its own and the one under /beside");
}

/// All that was noted is told, wherever the compaction has come meanwhile, whoever makes it.
#[tokio::test]
async fn history_outlives_compaction() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (server.open().await, server.open().await);
    let made = commit(&one, noted(put("/a", Expect::Absent, "1"), "made")).await;
    let beat = commit(&one, put("/a", Expect::At(made), "beat")).await;
    let changed = commit(&other, noted(put("/a", Expect::At(beat), "2"), "changed")).await;
    let delete =
        Write { key: Key::new("/a"), expect: Expect::At(changed), change: Change::Delete, note: None };
    let end = commit(&other, noted(delete, "deleted")).await;
    let again = commit(&one, noted(put("/a", Expect::Absent, "3"), "again")).await;
    let last = commit(&one, put("/a", Expect::At(again), "now")).await;
    let expected = ["+now ", "+3 again", "- deleted", "+2 changed", "+1 made"];
    assert_eq!(versions(&other, "/a").await, expected, "nothing is written down");
    for floor in [made, changed, end, again, last] {
        let (a, b) = tokio::join!(one.compact(floor), other.compact(floor));
        a.and(b).unwrap();
        assert_eq!(versions(&one, "/a").await, expected, "after a compaction to {floor}");
    }
    let before = one.versions(&Key::new("/a"), Some(end), 2).await.unwrap();
    assert_eq!(before.versions.iter().map(|v| v.revision).collect::<Vec<_>>(), [end, changed]);
    assert!(before.more);
    // What nobody noted leaves no trace.
    let b = commit(&one, put("/b", Expect::Absent, "")).await;
    let delete = Write { key: Key::new("/b"), expect: Expect::At(b), change: Change::Delete, note: None };
    commit(&one, delete).await;
    assert_eq!(versions(&one, "/b").await, [""; 0]);
}

#[tokio::test]
async fn history_goes_when_it_is_too_old_or_too_much() {
    let Some(server) = Server::start() else { return };
    let now = Arc::new(AtomicU64::new(1_000_000));
    let clock = Arc::clone(&now);
    let history = Retention { period: Duration::from_secs(100), bytes: 3000 };
    let clock = Arc::new(move || clock.load(Ordering::SeqCst));
    let store = support::open(Options { history, clock, ..server.options() }).await.unwrap();
    let mut last = commit(&store, noted(put("/a", Expect::Absent, "0"), "0")).await;
    last = commit(&store, noted(put("/a", Expect::At(last), "1"), "1")).await;
    store.compact(last).await.unwrap();
    assert_eq!(versions(&store, "/a").await, ["+1 1", "+0 0"]);
    now.fetch_add(99_999, Ordering::SeqCst);
    last = commit(&store, noted(put("/a", Expect::At(last), "2"), "2")).await;
    store.compact(last).await.unwrap();
    assert_eq!(versions(&store, "/a").await, ["+2 2", "+1 1", "+0 0"]);
    now.fetch_add(1, Ordering::SeqCst);
    last = commit(&store, put("/a", Expect::At(last), "3")).await;
    store.compact(last).await.unwrap();
    assert_eq!(versions(&store, "/a").await, ["+3 ", "+2 2", "+1 1"], "the first is too old");

    let long = || "x".repeat(2000);
    for _ in 0..2 {
        last = commit(&store, noted(put("/b", Expect::Absent, long()), "long")).await;
        let delete =
            Write { key: Key::new("/b"), expect: Expect::At(last), change: Change::Delete, note: None };
        last = commit(&store, delete).await;
        store.compact(last).await.unwrap();
    }
    assert_eq!(versions(&store, "/a").await, ["+3 "], "others' history is younger");
    assert_eq!(store.versions(&Key::new("/b"), None, 9).await.unwrap().versions.len(), 2);
}

/// While etcd is away everybody is told so, and watches wait for it.
#[tokio::test]
async fn an_etcd_that_is_away_is_told_of() {
    let Some(mut server) = Server::start() else { return };
    let hasty = Options { patience: Duration::from_millis(100), ..server.options() };
    let store = support::open(hasty).await.unwrap();
    let first = commit(&store, put("/a", Expect::Absent, "1")).await;
    let mut events = store.watch("/".into(), first).await.unwrap();
    let watching = tokio::spawn(async move { events.next().await });
    server.kill();
    let away = |error: Error| matches!(error, Error::Unavailable { .. });
    // The first may find its connection broken under way.
    store.revision().await.unwrap_err();
    assert!(away(store.get(&Key::new("/a")).await.unwrap_err()));
    assert!(away(store.commit(vec![put("/b", Expect::Absent, "1")]).await.unwrap_err()));
    assert!(away(store.watch("/".into(), first).await.err().unwrap()));
    server.restart();
    store.mended().await.unwrap();
    let second = commit(&store, put("/a", Expect::At(first), "2")).await;
    let batch = tokio::time::timeout(PATIENCE, watching).await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!((batch.events.len(), batch.revision), (1, second));

    assert!(Etcd::open(Options { servers: vec!["no url".into()], ..server.options() }).await.is_err());
    store.close();
    assert!(matches!(store.get(&Key::new("/a")).await, Err(Error::Closed)));
}

/// One of several that are named is enough.
#[tokio::test]
async fn another_server_is_asked() {
    let Some(server) = Server::start() else { return };
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let servers = vec![format!("http://{nobody}"), server.url()];
    let store = support::open(Options { servers, ..server.options() }).await.unwrap();
    let first = commit(&store, put("/a", Expect::Absent, "1")).await;
    assert_eq!(follow(&store, Revision::ZERO, first).await.len(), 1);
}

/// A full etcd refuses writes and says why; what is there can be read, and history makes room.
#[tokio::test]
async fn a_full_etcd_refuses_writes() {
    let quota = |_: &_| vec!["--quota-backend-bytes".into(), (4 << 20).to_string()];
    let Some(server) = Server::start_with("http", quota) else { return };
    let store = server.open().await;
    let value = Bytes::from(vec![b'x'; 500_000]);
    let mut last = commit(&store, noted(put("/a", Expect::Absent, value.clone()), "first")).await;
    let error = loop {
        match store.commit(vec![noted(put("/a", Expect::At(last), value.clone()), "more")]).await {
            Ok(Outcome::Committed(revision)) => last = revision,
            Ok(outcome) => panic!("{outcome:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(store.get(&Key::new("/a")).await.unwrap().unwrap().revision, last);
    store.compact(last).await.unwrap();
    let floor = store.range(Range::default(), Some(Revision::ZERO)).await;
    assert!(matches!(floor, Err(Error::Compacted { floor }) if floor == last));
}

#[tokio::test]
async fn too_large_a_write_is_refused() {
    let Some(server) = Server::start() else { return };
    let store = server.open().await;
    for length in [1_600_000, 3_000_000] {
        let error = store.commit(vec![put("/a", Expect::Absent, vec![b'x'; length])]).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{length}: {error}");
    }
    commit(&store, put("/a", Expect::Absent, vec![b'x'; 1_500_000])).await;
}

/// Members that show a certificate and ask for one.
#[tokio::test]
async fn connections_are_mutually_authenticated() {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let leaf = |usages: &[rcgen::ExtendedKeyUsagePurpose]| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut leaf = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        leaf.extended_key_usages = usages.to_vec();
        (leaf.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    // Etcd asks itself through its gateway, with the certificate that it shows.
    let both = [rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let (certificate, key) = leaf(&both);
    let server = Server::start_with("https", |dir| {
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.into_os_string().into_string().unwrap()
        };
        let (ca, certificate) = (file("ca.crt", &ca_certificate.pem()), file("server.crt", &certificate));
        let key = file("server.key", &key);
        let flags =
            ["--client-cert-auth", "--trusted-ca-file", &ca, "--cert-file", &certificate, "--key-file", &key];
        flags.map(str::to_owned).to_vec()
    });
    let Some(server) = server else { return };
    let (certificate, key) = leaf(&[rcgen::ExtendedKeyUsagePurpose::ClientAuth]);
    let identity = Some((certificate.into_bytes(), key.into_bytes()));
    let authority = Some(ca_certificate.pem().into_bytes());
    let known = Options { authority: authority.clone(), identity: identity.clone(), ..server.options() };
    let store = support::open(known.clone()).await.unwrap();
    commit(&store, put("/a", Expect::Absent, "1")).await;

    let patience = Duration::ZERO;
    let unknown = Etcd::open(Options { identity: None, patience, ..known.clone() }).await;
    assert!(unknown.is_err(), "a client without a certificate");
    let untrusted = Etcd::open(Options { authority: None, patience, ..known }).await;
    assert!(untrusted.is_err(), "a server whom nobody vouches for");
}
