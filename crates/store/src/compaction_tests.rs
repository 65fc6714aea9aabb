use bytes::Bytes;

use super::*;
use crate::{Change, Expect, Key, Memory, Outcome, Range, Write};

async fn create(store: &Memory, name: &str) -> Revision {
    let change = Change::Put { value: Bytes::new(), ttl: None };
    match store
        .commit(vec![Write { key: Key::new(name), expect: Expect::Absent, change, note: None }])
        .await
        .unwrap()
    {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict { .. } => panic!("conflict"),
    }
}

async fn floor(store: &Memory) -> Revision {
    match store.range(Range::default(), Some(Revision::ZERO)).await {
        Ok(_) => Revision::ZERO,
        Err(Error::Compacted { floor }) => floor,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn history_is_kept_once_and_at_most_twice_as_long() {
    let store = Arc::new(Memory::new());
    let task = tokio::spawn(run(store.clone(), KEEP));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let early = create(&store, "/early").await;
    tokio::time::sleep(KEEP).await;
    let late = create(&store, "/late").await;
    assert_eq!(floor(&store).await, Revision::ZERO);
    tokio::time::sleep(KEEP).await;
    // The late one is at most twice `KEEP` old, the early one is older than `KEEP`.
    assert_eq!(floor(&store).await, early);
    tokio::time::sleep(KEEP).await;
    assert_eq!(floor(&store).await, late);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_store() {
    let store = Arc::new(Memory::new());
    let task = tokio::spawn(run(store.clone(), KEEP));
    store.close();
    task.await.unwrap();
}
