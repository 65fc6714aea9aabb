//! How often the store is asked for what, and how long that takes: under the names that upstream has for etcd, whatever
//! the engine is.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tiphys_metrics::{Exposition, Histogram, Kind, Table};
use tiphys_store::{Change, Expect, Write};

const SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// Operations by resource.
const SERIES: usize = 8192;

/// What was asked, by operation, group and resource.
pub(crate) struct Storage(Table<3, Calls>);

struct Calls {
    seconds: Histogram,
    errors: AtomicU64,
}

/// The clock of one call.
pub(crate) struct Call<'a>(&'a Calls, Instant);

impl Storage {
    pub(crate) fn new() -> Self {
        Self(Table::new(SERIES))
    }

    /// Begins a call that concerns `key`, or keys that begin so.
    pub(crate) fn call(&self, operation: &'static str, key: &str) -> Call<'_> {
        let (group, resource) = place(key);
        let make = || Calls { seconds: Histogram::new(&SECONDS), errors: AtomicU64::new(0) };
        Call(self.0.entry([operation, group, resource], make), Instant::now())
    }

    /// Begins a transaction; the first of its writes is the one that was asked for.
    pub(crate) fn commit(&self, writes: &[Write]) -> Call<'_> {
        let operation = writes.first().map(|write| match (&write.change, write.expect) {
            (Change::Put { .. }, Expect::Absent) => "create",
            (Change::Put { .. }, Expect::At(_)) => "update",
            (Change::Delete, _) => "delete",
        });
        self.call(operation.unwrap_or("update"), writes.first().map_or("", |write| write.key.as_str()))
    }

    pub(crate) fn expose(&self, text: &mut Exposition) {
        let all = self.0.entries();
        let help = "Time that the store took, by operation and resource.";
        text.family("etcd_request_duration_seconds", Kind::Histogram, help);
        for (of, calls) in &all {
            text.histogram(&labels(of), &calls.seconds);
        }
        text.family("etcd_requests_total", Kind::Counter, "What the store was asked for.");
        for (of, calls) in &all {
            text.sample(&labels(of), calls.seconds.count() as f64);
        }
        text.family("etcd_request_errors_total", Kind::Counter, "What the store has failed to do.");
        for (of, calls) in &all {
            text.sample(&labels(of), calls.errors.load(Relaxed) as f64);
        }
    }
}

impl Call<'_> {
    /// The store has answered.
    pub(crate) fn end<T, E>(self, answer: Result<T, E>) -> Result<T, E> {
        let Self(calls, begun) = self;
        calls.seconds.observe_time(begun.elapsed());
        if answer.is_err() {
            calls.errors.fetch_add(1, Relaxed);
        }
        answer
    }
}

fn labels<'a>(of: &[&'a str; 3]) -> [(&'static str, &'a str); 3] {
    let [operation, group, resource] = *of;
    [("operation", operation), ("group", group), ("resource", resource)]
}

/// Group and resource of a key `/registry/<group>/<resource>/…`; of other keys, what they begin with.
fn place(key: &str) -> (&str, &str) {
    let mut parts = key.trim_start_matches('/').split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("registry"), Some("core"), Some(resource)) => ("", resource),
        (Some("registry"), Some(group), Some(resource)) => (group, resource),
        (first, ..) => ("", first.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_resource() {
        for (key, place_of) in [
            ("/registry/core/pods/default/a", ("", "pods")),
            ("/registry/apps/deployments/default/a", ("apps", "deployments")),
            ("/claims/nodeports/30000", ("", "claims")),
            ("", ("", "")),
        ] {
            assert_eq!(place(key), place_of, "{key}");
        }
    }
}
