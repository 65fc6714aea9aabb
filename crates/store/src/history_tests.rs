//! The history of keys, against a model that remembers everything.

use std::{collections::BTreeMap, time::Duration};

use proptest::{prelude::*, sample::select};

use crate::{Change, Expect, Key, Memory, Note, Outcome, Retention, Revision, Store, Version, Write};

#[derive(Clone, Debug)]
enum Op {
    /// The key, the length of the value, whether it is noted.
    Put(usize, usize, bool),
    Delete(usize, bool),
    Compact,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_usize, 0..40_usize, any::<bool>()).prop_map(|(k, n, noted)| Op::Put(k, n, noted)),
        2 => (0..3_usize, any::<bool>()).prop_map(|(k, noted)| Op::Delete(k, noted)),
        2 => Just(Op::Compact),
    ]
}

/// All that ever happened to a key, the newest last.
type Model = BTreeMap<Key, Vec<Version>>;

/// What of it the history tells when nothing was too old.
fn told(all: &[Version]) -> Vec<Version> {
    let mut told = Vec::new();
    for (i, version) in all.iter().enumerate() {
        let is_now = i + 1 == all.len() && version.value.is_some();
        // The end of a life is told if any of that life was.
        let life = all[..i].iter().rev().take_while(|earlier| earlier.value.is_some());
        let is_end = version.value.is_none() && life.clone().any(|earlier| earlier.note.is_some());
        if version.note.is_some() || is_now || is_end {
            told.push(version.clone());
        }
    }
    told.reverse();
    told
}

async fn run(store: &Memory, ops: &[Op], model: &mut Model) {
    for (i, op) in ops.iter().enumerate() {
        let (k, change, noted) = match *op {
            Op::Put(k, n, noted) => (k, Change::Put { value: vec![b'x'; n].into(), ttl: None }, noted),
            Op::Delete(k, noted) => (k, Change::Delete, noted),
            Op::Compact => {
                store.compact(store.revision().await.unwrap()).await.unwrap();
                continue;
            }
        };
        let key = Key::new(format!("/{k}"));
        let versions = model.entry(key.clone()).or_default();
        let current = versions.last().filter(|version| version.value.is_some());
        let expect = current.map_or(Expect::Absent, |version| Expect::At(version.revision));
        if current.is_none() && matches!(change, Change::Delete) {
            continue;
        }
        let value = match &change {
            Change::Put { value, .. } => Some(value.clone()),
            Change::Delete => None,
        };
        let note = noted.then(|| Note::new(i.to_string()).unwrap());
        let write = Write { key, expect, change, note: note.clone() };
        let Outcome::Committed(revision) = store.commit(vec![write]).await.unwrap() else {
            panic!("nobody else writes")
        };
        versions.push(Version { revision, value, note });
    }
}

async fn versions(store: &Memory, key: &Key) -> Vec<Version> {
    let history = store.versions(key, None, usize::MAX).await.unwrap();
    assert!(!history.more);
    history.versions
}

fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test);
}

proptest! {
    /// Compaction takes nothing from the history of a key, and leaves nothing else.
    #[test]
    fn what_was_noted_is_told(ops in prop::collection::vec(op(), 0..60)) {
        paused(async {
            let (store, mut model) = (Memory::new(), Model::new());
            run(&store, &ops, &mut model).await;
            store.compact(store.revision().await.unwrap()).await.unwrap();
            for (key, all) in &model {
                assert_eq!(versions(&store, key).await, told(all), "{ops:?}");
            }
            let told: usize = model.values().map(|all| told(all).len()).sum();
            assert_eq!(store.entries(), told, "what nobody needs is gone: {ops:?}");
        });
    }

    /// When its time is over, history goes, and only what lives is left.
    #[test]
    fn what_is_too_old_goes(ops in prop::collection::vec(op(), 0..60), later in select(vec![false, true])) {
        paused(async {
            let period = Duration::from_secs(100);
            let store = Memory::keeping(Retention { period, bytes: u64::MAX });
            let mut model = Model::new();
            run(&store, &ops, &mut model).await;
            tokio::time::advance(period + Duration::from_secs(1)).await;
            let half = store.revision().await.unwrap();
            if later {
                run(&store, &ops, &mut model).await;
            }
            store.compact(store.revision().await.unwrap()).await.unwrap();
            for (key, all) in &model {
                let told = told(all);
                let found = versions(&store, key).await;
                if later {
                    assert!(found.iter().all(|version| told.contains(version)), "{ops:?}");
                    let mut young = told.iter().filter(|v| v.revision > half && v.note.is_some());
                    assert!(young.all(|version| found.contains(version)), "{ops:?}");
                } else {
                    let lives = all.last().filter(|version| version.value.is_some());
                    assert_eq!(found, lives.cloned().into_iter().collect::<Vec<_>>(), "{ops:?}");
                }
            }
        });
    }

    /// History never holds more bytes than it may once it was compacted.
    #[test]
    fn too_much_history_goes(ops in prop::collection::vec(op(), 0..80), bytes in 0..200_u64) {
        paused(async {
            let store = Memory::keeping(Retention { bytes, ..Retention::default() });
            let mut model = Model::new();
            run(&store, &ops, &mut model).await;
            store.compact(store.revision().await.unwrap()).await.unwrap();
            let mut held = 0;
            for (key, all) in &model {
                let found = versions(&store, key).await;
                let lives = all.last().is_some_and(|version| version.value.is_some());
                let superseded = found.iter().skip(usize::from(lives));
                held += superseded.filter_map(|v| v.value.as_ref()).map(|v| v.len() as u64).sum::<u64>();
                let told = told(all);
                assert_eq!(found[..], told[..found.len()], "the oldest go first: {ops:?}");
            }
            assert!(held <= bytes, "{held} bytes are held: {ops:?}");
        });
    }
}

/// Pages follow each other without a gap.
#[tokio::test]
async fn history_comes_in_pages() {
    let (store, mut model) = (Memory::new(), Model::new());
    let ops: Vec<_> =
        (0..10).map(|n| if n == 4 { Op::Delete(0, true) } else { Op::Put(0, n, true) }).collect();
    run(&store, &ops, &mut model).await;
    let key = Key::new("/0");
    let (mut until, mut pages) = (None, Vec::new());
    loop {
        let page = store.versions(&key, until, 3).await.unwrap();
        until = page.versions.last().map(|last| last.revision.earlier(1));
        pages.push(page.versions.len());
        if !page.more {
            break;
        }
        assert!(pages.iter().sum::<usize>() <= 10);
    }
    assert_eq!(pages, [3, 3, 3, 1]);
    assert_eq!(store.versions(&key, Some(Revision::ZERO), 3).await.unwrap().versions, []);
}
