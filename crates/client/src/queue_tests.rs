use super::*;

async fn next_or_none<K: Ord + Clone>(queue: &Queue<K>) -> Option<K> {
    tokio::time::timeout(Duration::from_micros(1), queue.next()).await.ok().flatten()
}

#[tokio::test(start_paused = true)]
async fn a_key_is_never_at_two_workers_and_comes_back_if_it_changed() {
    let queue = Queue::new();
    queue.add("a");
    queue.add("a");
    assert_eq!(next_or_none(&queue).await, Some("a"));
    assert_eq!(next_or_none(&queue).await, None, "added twice, handed out once");
    queue.add("a");
    assert_eq!(next_or_none(&queue).await, None, "still being worked on");
    let start = Instant::now();
    queue.done(&"a");
    queue.add("a");
    assert_eq!(next_or_none(&queue).await, None, "it rests, whoever adds it");
    assert_eq!(queue.next().await, Some("a"));
    assert!(start.elapsed() >= REST && start.elapsed() < REST * 2);
    queue.done(&"a");
    assert!(tokio::time::timeout(REST * 2, queue.next()).await.is_err(), "all changes were seen");
    queue.add("a");
    assert_eq!(next_or_none(&queue).await, Some("a"), "it has rested");
}

#[tokio::test(start_paused = true)]
async fn the_earliest_of_several_delays_counts() {
    let queue = Queue::new();
    queue.add_after("a", Duration::from_secs(60));
    queue.add_after("a", Duration::from_secs(5));
    queue.add_after("a", Duration::from_secs(30));
    let start = Instant::now();
    assert_eq!(queue.next().await, Some("a"));
    assert_eq!(start.elapsed().as_secs(), 5);
    queue.done(&"a");
    assert!(tokio::time::timeout(Duration::from_secs(600), queue.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn back_off_doubles_until_forgotten_and_has_an_end() {
    let queue = Queue::new();
    let mut delays = Vec::new();
    for _ in 0..25 {
        let start = Instant::now();
        queue.add_rate_limited("a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        delays.push(start.elapsed());
    }
    assert!(delays[0] >= FIRST_RETRY && delays[0] < FIRST_RETRY * 2);
    assert!(delays[3] >= FIRST_RETRY * 8 && delays[3] < FIRST_RETRY * 16);
    assert!(delays[24] >= LAST_RETRY && delays[24] < LAST_RETRY + Duration::from_secs(1));
    assert_eq!(queue.failures(&"a"), 25);
    queue.forget(&"a");
    assert_eq!(queue.failures(&"a"), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_waiting_workers() {
    let queue = Queue::<&str>::new();
    let waiting = [
        tokio::spawn({
            let q = queue.clone();
            async move { q.next().await }
        }),
        tokio::spawn({
            let q = queue.clone();
            async move { q.next().await }
        }),
    ];
    tokio::task::yield_now().await;
    queue.close();
    for worker in waiting {
        assert_eq!(worker.await.expect("a worker ends"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn run_retries_failures_and_obeys_verdicts() {
    let queue = Queue::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    queue.add("fails-twice".to_owned());
    queue.add("later".to_owned());
    let look = {
        let seen = seen.clone();
        move |key: String| {
            let seen = seen.clone();
            async move {
                let mut seen = seen.lock();
                seen.push(key.clone());
                let times = seen.iter().filter(|k| **k == key).count();
                match (key.as_str(), times) {
                    ("fails-twice", 1 | 2) => Err("no"),
                    ("later", 1) => Ok(Verdict::After(Duration::from_secs(10))),
                    _ => Ok(Verdict::Done),
                }
            }
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(3600), queue.run("test", 2, look)).await;
    assert!(end.is_err(), "run goes on until it is dropped");
    let seen = seen.lock();
    assert_eq!(seen.iter().filter(|k| *k == "fails-twice").count(), 3);
    assert_eq!(seen.iter().filter(|k| *k == "later").count(), 2);
}
