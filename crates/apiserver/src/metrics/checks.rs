//! What health checks have found, for those who hold the server against its objectives (KEP-3466).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tiphys_metrics::{Exposition, Kind, Table};

const SERIES: usize = 256;

/// Checks by name and endpoint.
pub(crate) struct Checks(Table<2, Found>);

#[derive(Default)]
struct Found {
    fine: AtomicU64,
    failed: AtomicU64,
    /// What the last one found.
    last: AtomicBool,
}

impl Checks {
    pub(crate) fn new() -> Self {
        Self(Table::new(SERIES))
    }

    pub(crate) fn ended(&self, name: &str, endpoint: &str, fine: bool) {
        let found = self.0.entry([name, endpoint], Found::default);
        if fine { &found.fine } else { &found.failed }.fetch_add(1, Relaxed);
        found.last.store(fine, Relaxed);
    }

    pub(crate) fn expose(&self, text: &mut Exposition) {
        let help = "What a health check found when it was last made.";
        text.family("kubernetes_healthcheck", Kind::Gauge, help);
        for ([name, kind], found) in self.0.entries() {
            let last = if found.last.load(Relaxed) { 1.0 } else { 0.0 };
            text.sample(&[("name", name), ("type", kind)], last);
        }
        text.family("kubernetes_healthchecks_total", Kind::Counter, "What health checks have found.");
        for ([name, kind], found) in self.0.entries() {
            for (status, count) in [("success", &found.fine), ("error", &found.failed)] {
                let count = count.load(Relaxed) as f64;
                if count > 0.0 {
                    text.sample(&[("name", name), ("type", kind), ("status", status)], count);
                }
            }
        }
    }
}
