//! Many clients that each wait for their answer.

use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::future::try_join_all;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::{
    Tell,
    wire::{self, Dialer},
};
use crate::{
    idle,
    table::{Goal, measure},
};

const LASTS: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(300);

/// What came of a measure.
pub(crate) struct Load {
    /// Answers, or events, a second.
    pub(crate) rate: f64,
    /// The slowest but one in a hundred, in milliseconds.
    pub(crate) p99: f64,
}

impl Load {
    pub(crate) fn new(count: usize, lasted: Duration, delays: &mut [u32]) -> Self {
        delays.sort_unstable();
        let p99 = delays.get(delays.len() * 99 / 100).copied().unwrap_or_default();
        Self { rate: count as f64 / lasted.as_secs_f64(), p99: f64::from(p99) / 1e3 }
    }

    pub(crate) fn tell(&self, name: &str, tell: &mut Tell<'_>) {
        tell(measure(name, "/s", Goal::Times(8.)), self.rate);
        tell(measure(format!("{name}, p99"), "ms", Goal::Part(0.2)), self.p99);
    }

    /// Creates objects in a collection from 16 clients; answers the seconds that it took.
    pub(crate) async fn fill(
        dialer: &Dialer,
        collection: &str,
        numbers: Range<usize>,
        object: fn(usize) -> Value,
    ) -> Result<f64> {
        let (begun, next) = (Instant::now(), AtomicUsize::new(numbers.start));
        let work = async || {
            let mut wire = dialer.connect().await?;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= numbers.end {
                    return anyhow::Ok(());
                }
                wire.ask(wire::create(collection, &object(n))).await?;
            }
        };
        try_join_all((0..16).map(|_| work())).await?;
        Ok(begun.elapsed().as_secs_f64())
    }
}

/// How many answers a second so many clients get, and how long they wait for them.
pub(crate) async fn rate(
    dialer: &Dialer,
    clients: usize,
    request: impl Fn(usize) -> Request<Full<Bytes>>,
) -> Result<Load> {
    let number = AtomicUsize::new(0);
    let wires = try_join_all((0..clients).map(|_| dialer.connect())).await?;
    let ask = async |mut wire: wire::Wire, until: Instant| {
        let mut delays = Vec::new();
        while Instant::now() < until {
            let begun = Instant::now();
            wire.ask(request(number.fetch_add(1, Ordering::Relaxed))).await?;
            delays.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
        anyhow::Ok(delays)
    };
    let warm = Instant::now() + WARM_UP;
    try_join_all(wires.iter().map(|wire| ask(wire.clone(), warm))).await?;
    let begun = Instant::now();
    let delays = try_join_all(wires.into_iter().map(|wire| ask(wire, begun + LASTS))).await?;
    let lasted = begun.elapsed();
    let mut delays = delays.concat();
    Ok(Load::new(delays.len(), lasted, &mut delays))
}

/// Lists a collection: seconds, bytes, and the most memory that the servers had meanwhile, in MB.
pub(crate) async fn list(dialer: &Dialer, servers: &[u32], path: &str) -> Result<(f64, usize, f64)> {
    let mut wire = dialer.connect().await?;
    let begun = Instant::now();
    let mut body = wire.open(wire::get(path)).await?.into_body();
    let (mut bytes, mut peak, mut looked) = (0, idle::memory(servers)?, Instant::now());
    while let Some(frame) = body.frame().await {
        bytes += frame.context("reading a list")?.data_ref().map_or(0, Bytes::len);
        if looked.elapsed() > Duration::from_millis(100) {
            peak = peak.max(idle::memory(servers)?);
            looked = Instant::now();
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok((seconds, bytes, peak.max(idle::memory(servers)?)))
}

/// Waits until a collection can be read.
pub(crate) async fn until_served(dialer: &Dialer, path: &str) -> Result<()> {
    let mut wire = dialer.connect().await?;
    let begun = Instant::now();
    loop {
        match wire.ask(wire::get(path)).await {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > PATIENCE => bail!(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
