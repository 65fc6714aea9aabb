//! Requests by their routes: how many, how long, how large.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tiphys_metrics::{Exposition, Histogram, Kind, Table};

use super::COMPONENT;

/// What requests that are counted together have in common, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route<'a> {
    /// In capitals: an HTTP method, or `LIST`, `WATCH`, `APPLY`, `CONNECT`.
    pub(crate) verb: &'static str,
    /// `All` or nothing.
    pub(crate) dry_run: &'static str,
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    /// `resource`, `namespace`, `cluster`, or nothing for a path that names no resource.
    pub(crate) scope: &'static str,
}

impl<'a> Route<'a> {
    /// In the order of [`NAMES`].
    pub(super) fn labels(&self) -> [&'a str; 7] {
        let Self { verb, dry_run, group, version, resource, subresource, scope } = *self;
        [verb, dry_run, group, version, resource, subresource, scope]
    }
}

const NAMES: [&str; 7] = ["verb", "dry_run", "group", "version", "resource", "subresource", "scope"];

/// The codes that are counted apart; all others are counted as 500.
const CODES: [u16; 25] = [
    101, 200, 201, 202, 204, 301, 302, 304, 307, 400, 401, 403, 404, 405, 406, 409, 410, 413, 415, 422, 429,
    500, 501, 503, 504,
];

const DURATIONS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
const SLI: [f64; 21] = [
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const SIZES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// The counters of one route.
#[derive(Debug)]
pub(crate) struct Requests {
    codes: [AtomicU64; CODES.len()],
    duration: Histogram,
    /// Without the time that the request waited for its turn.
    sli: Histogram,
    size: Histogram,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            codes: Default::default(),
            duration: Histogram::new(&DURATIONS),
            sli: Histogram::new(&SLI),
            size: Histogram::new(&SIZES),
        }
    }

    /// Counts an answer of `bytes`, which took `time`, of it `waited` for a turn.
    pub(crate) fn answered(&self, code: u16, time: Duration, waited: Duration, bytes: u64) {
        let code = CODES.binary_search(&code).or_else(|_| CODES.binary_search(&500));
        if let Ok(code) = code {
            self.codes[code].fetch_add(1, Relaxed);
        }
        self.duration.observe_time(time);
        self.sli.observe_time(time.saturating_sub(waited));
        self.size.observe(bytes as f64);
    }
}

pub(super) fn expose(table: &Table<7, Arc<Requests>>, text: &mut Exposition) {
    let entries = table.entries();
    text.family("apiserver_request_total", Kind::Counter, "Requests by route and the code of their answer.");
    for (labels, requests) in &entries {
        for (code, count) in CODES.iter().zip(&requests.codes) {
            let count = count.load(Relaxed);
            if count > 0 {
                let code = code.to_string();
                let labels: Vec<_> =
                    NAMES.into_iter().zip(*labels).chain([COMPONENT, ("code", &*code)]).collect();
                text.sample(&labels, count as f64);
            }
        }
    }
    text.family(
        "apiserver_request_duration_seconds",
        Kind::Histogram,
        "Time from a request to its answer's end.",
    );
    for (labels, requests) in &entries {
        let labels: Vec<_> = NAMES.into_iter().zip(*labels).chain([COMPONENT]).collect();
        text.histogram(&labels, &requests.duration);
    }
    // From here on without `dry_run`: a dry run is no service that anybody measures.
    let real: Vec<_> = entries
        .iter()
        .filter(|(labels, _)| labels[1].is_empty())
        .map(|(labels, requests)| {
            let named = NAMES.into_iter().zip(*labels).filter(|(name, _)| *name != "dry_run");
            (named.chain([COMPONENT]).collect::<Vec<_>>(), requests)
        })
        .collect();
    let help = "Time from a request to its answer's end, without the wait for its turn.";
    text.family("apiserver_request_sli_duration_seconds", Kind::Histogram, help);
    for (labels, requests) in &real {
        text.histogram(labels, &requests.sli);
    }
    text.family("apiserver_response_sizes", Kind::Histogram, "Bytes of answers to requests that read.");
    for (labels, requests) in real.iter().filter(|(labels, _)| matches!(labels[0].1, "GET" | "LIST")) {
        text.histogram(labels, &requests.size);
    }
}
