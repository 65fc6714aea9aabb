//! Many watchers of one busy resource.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    NAMESPACE,
    load::Load,
    wire::{self, Dialer, Lines, Wire},
};
use crate::objects;

/// A connection carries no more watches than servers allow streams.
const PER_CONNECTION: usize = 100;
/// Of how many watchers one tells its delays; all count what they get.
const SAMPLED: usize = 20;
const LASTS: Duration = Duration::from_secs(5);
/// How many objects are changed at once, one by each client: a single one would wait for the disk most of the time.
pub(super) const WRITERS: usize = 8;
/// Marks the moment in an object at which it was sent, in microseconds.
const MARK: &[u8] = b"sent-at-";
const DELETED: &[u8] = b"{\"type\":\"DELETED\"";

/// Changes some objects over and over while so many watch them all.
pub(crate) async fn measure(dialer: &Dialer, count: usize) -> Result<Load> {
    let collection = format!("{NAMESPACE}/configmaps");
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        let name = format!("watched-{count}-{n}");
        let mut object = objects::config_map(&name);
        object["metadata"]["labels"] = json!({"bench/watched": count.to_string()});
        let mut writer = dialer.connect().await?;
        writer.ask(wire::create(&collection, &object)).await?;
        writers.push((writer, format!("{collection}/{name}")));
    }
    let watch = format!("{collection}?watch=1&labelSelector=bench%2Fwatched%3D{count}");

    let epoch = Instant::now();
    let received = Arc::new(AtomicUsize::new(0));
    let mut watchers = JoinSet::new();
    for begin in (0..count).step_by(PER_CONNECTION) {
        let wire = dialer.connect().await?;
        let opened = (begin..count.min(begin + PER_CONNECTION)).map(|_| {
            let mut wire = wire.clone();
            let watch = &watch;
            async move { wire.follow(watch).await }
        });
        for (n, lines) in try_join_all(opened).await?.into_iter().enumerate() {
            let follow = Follow {
                lines,
                epoch,
                received: Arc::clone(&received),
                delays: n.is_multiple_of(SAMPLED).then(Vec::new),
            };
            watchers.spawn(follow.run());
        }
    }
    // The first events of each are the objects as they were.
    let before = WRITERS * count;
    while received.load(Ordering::Relaxed) < before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    let sent = AtomicUsize::new(0);
    let behind = || (before + sent.load(Ordering::Relaxed) * count) - received.load(Ordering::Relaxed);
    let write = async |(writer, path): &mut (Wire, String)| {
        while begun.elapsed() < LASTS {
            let mark = format!("sent-at-{}.", epoch.elapsed().as_micros());
            let change = json!({"metadata": {"annotations": {"bench/mark": mark}}});
            // Before the answer: the events may be faster than it.
            sent.fetch_add(1, Ordering::Relaxed);
            writer.ask(wire::patch(path, &change)).await?;
            // All that was sent is received before more is sent than a watcher may lag behind.
            while behind() > 20 * count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        anyhow::Ok(())
    };
    try_join_all(writers.iter_mut().map(write)).await?;
    while behind() > 0 && begun.elapsed() < 4 * LASTS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (lasted, events) = (begun.elapsed(), received.load(Ordering::Relaxed) - before);
    for (writer, path) in &mut writers {
        writer.ask(wire::delete(path)).await?;
    }
    let mut delays = Vec::new();
    // Each ends at the last deletion.
    while let Some(told) = watchers.join_next().await {
        delays.extend(told.context("a watcher")??);
    }
    Ok(Load::new(events, lasted, &mut delays))
}

struct Follow {
    lines: Lines,
    epoch: Instant,
    received: Arc<AtomicUsize>,
    delays: Option<Vec<u32>>,
}

impl Follow {
    /// Reads until all objects are deleted; answers the delays in microseconds, where they are wanted.
    async fn run(mut self) -> Result<Vec<u32>> {
        // Who tells no delay looks at no more than what happened.
        let most = if self.delays.is_some() { usize::MAX } else { DELETED.len() };
        let mut deleted = 0;
        while let Some(line) = self.lines.next(most).await? {
            if line.starts_with(DELETED) {
                deleted += 1;
                if deleted == WRITERS {
                    break;
                }
                continue;
            }
            self.received.fetch_add(1, Ordering::Relaxed);
            if let (Some(delays), Some(sent)) = (&mut self.delays, sent_at(line)) {
                let now = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
                delays.push(u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX));
            }
        }
        Ok(self.delays.unwrap_or_default())
    }
}

fn sent_at(line: &[u8]) -> Option<u64> {
    let at = line.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&line[at..at + digits]).ok()?.parse().ok()
}
