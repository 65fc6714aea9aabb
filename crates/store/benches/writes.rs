//! Durable writes a second, beside a bare write-ahead log on the same disk in the same run.
//!
//! `cargo bench -p tiphys-store` prints a row for each number of concurrent writers. The log appends the same
//! bytes to a file of allocated blocks and syncs each group with `fdatasync`: what no store can beat by much.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiphys_store::{Change, Embedded, Expect, Key, Outcome, Store, Write, embedded::Options};
use tokio::sync::oneshot;

const VALUE: usize = 2048;
const TIME: Duration = Duration::from_secs(2);
const WRITERS: [usize; 3] = [1, 16, 64];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{:>8} {:>14} {:>14} {:>7}", "writers", "store/s", "bare log/s", "ratio");
    for writers in WRITERS {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // Alternate, so that a noisy neighbour meets both.
        let (mut store, mut log) = (0.0, 0.0);
        for round in 0..2 {
            let dir = dir.path().join(round.to_string());
            std::fs::create_dir(&dir).unwrap();
            log += runtime.block_on(bare_log(&dir, writers)) / 2.0;
            store += runtime.block_on(embedded(&dir, writers)) / 2.0;
        }
        println!("{writers:>8} {store:>14.0} {log:>14.0} {:>7.2}", store / log);
    }
    println!("resident at most: {}", resident());
}

/// Runs writers for a while; answers writes a second.
async fn measure<F: Future<Output = ()> + Send>(
    writers: usize,
    write: impl Fn(usize, u64) -> F + Clone + Send + 'static,
) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|who| {
            let write = write.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while start.elapsed() < TIME {
                    write(who, count).await;
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut total = 0;
    for task in tasks {
        total += task.await.unwrap();
    }
    total as f64 / start.elapsed().as_secs_f64()
}

async fn embedded(dir: &Path, writers: usize) -> f64 {
    let store = Arc::new(Embedded::open(dir.join("store"), Options::default()).unwrap());
    let value = Bytes::from(vec![b'x'; VALUE]);
    measure(writers, move |who, count| {
        let (store, value) = (Arc::clone(&store), value.clone());
        async move {
            let key = Key::new(format!("/registry/core/pods/default/{who}-{count}"));
            let write =
                Write { key, expect: Expect::Absent, change: Change::Put { value, ttl: None }, note: None };
            assert!(matches!(store.commit(vec![write]).await.unwrap(), Outcome::Committed(_)));
        }
    })
    .await
}

async fn bare_log(dir: &Path, writers: usize) -> f64 {
    let (sender, queue) = mpsc::channel::<oneshot::Sender<()>>();
    let mut file = File::create(dir.join("log")).unwrap();
    file.set_len(64 << 20).unwrap();
    file.sync_all().unwrap();
    let thread = std::thread::spawn(move || {
        let record = vec![b'x'; VALUE + 64];
        while let Ok(first) = queue.recv() {
            let group: Vec<_> = std::iter::once(first).chain(queue.try_iter()).collect();
            file.write_all(&record.repeat(group.len())).unwrap();
            file.sync_data().unwrap();
            for answer in group {
                answer.send(()).unwrap();
            }
        }
    });
    let rate = measure(writers, move |_, _| {
        let sender = sender.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            sender.send(answer).unwrap();
            answered.await.unwrap();
        }
    })
    .await;
    thread.join().unwrap();
    rate
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |kb| kb.trim().to_owned())
}
