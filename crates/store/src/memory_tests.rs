use super::*;
use crate::{Change, Expect};

fn write(key: &str, expect: Expect, change: Change) -> Vec<Write> {
    vec![Write { key: Key::new(key), expect, change, note: None }]
}

async fn done(store: &Memory, writes: Vec<Write>) -> Revision {
    match store.commit(writes).await.unwrap() {
        Outcome::Committed(revision) => revision,
        conflict => panic!("{conflict:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_leaves_what_was_durable() {
    let put = |text: &'static str, ttl| Change::Put { value: text.into(), ttl };
    let before = Memory::new();
    let first = done(&before, write("/a", Expect::Absent, put("1", None))).await;
    done(&before, write("/b", Expect::Absent, put("2", Some(Duration::from_secs(60))))).await;
    done(&before, write("/c", Expect::Absent, put("3", None))).await;
    let c = before.get(&Key::new("/c")).await.unwrap().unwrap().revision;
    let last = done(&before, write("/c", Expect::At(c), Change::Delete)).await;
    before.compact(last).await.unwrap();

    tokio::time::advance(Duration::from_secs(59)).await;
    let after = before.reopen().unwrap();
    assert!(matches!(before.get(&Key::new("/a")).await, Err(Error::Closed)));
    assert!(before.reopen().is_none());
    assert_eq!(after.get(&Key::new("/a")).await.unwrap().unwrap().revision, first);
    assert_eq!(after.get(&Key::new("/c")).await.unwrap(), None);
    // The newest entry was swept; its revision is not used again.
    assert_eq!(after.revision().await.unwrap(), last);
    assert!(matches!(after.watch("/".to_owned(), first).await, Err(Error::Compacted { .. })));
    assert!(after.get(&Key::new("/b")).await.unwrap().is_some());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(after.get(&Key::new("/b")).await.unwrap(), None, "its time goes on");
}
