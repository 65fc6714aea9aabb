//! What the server counts about itself, under upstream's names.
//!
//! Counting takes no lock and writes no text: a request finds its counters once, by the words of its route, and
//! `/metrics` makes the text when somebody asks.

mod access;
mod admission;
mod checks;
pub(crate) mod expressions;
mod reloads;
mod requests;
mod storage;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use tiphys_metrics::{Exposition, Histogram, Kind, Table, process};

use crate::registry::Call;

pub(crate) use access::{Access, Outcome};
pub(crate) use admission::{Admission, Phase};
pub(crate) use checks::Checks;
pub use reloads::Configuration;
pub(crate) use reloads::Reloads;
pub(crate) use requests::{Requests, Route};
pub(crate) use storage::Storage;

/// Adds the families of another part of this process to what `/metrics` shows.
pub type Source = Arc<dyn Fn(&mut Exposition) + Send + Sync>;

/// What the request path counts.
pub struct Metrics {
    requests: Table<7, Arc<Requests>>,
    /// Requests that go on for long and are under way, by verb, group, version, resource, subresource and scope.
    long: Table<6, Arc<AtomicI64>>,
    /// Events sent to watchers, by group, version and resource.
    watch_events: Table<3, Arc<AtomicU64>>,
    /// How long the initial events of watches took, by group, version, resource and scope.
    watch_lists: Table<4, Arc<Histogram>>,
    /// Versions on their way out that were asked for: group, version, resource, subresource, and the release that no
    /// longer has them.
    deprecated: Table<5, ()>,
    /// Requests under way that read, and that write.
    in_flight: [AtomicI64; 2],
    pub(crate) handshake_errors: AtomicU64,
    pub(crate) access: Access,
    pub(crate) checks: Checks,
    sources: Mutex<Vec<Source>>,
}

/// The bounds of [`Metrics::watch_lists`], in seconds.
const WATCH_LISTS: [f64; 17] =
    [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
/// The names of what [`Metrics::in_flight`] counts.
const REQUEST_KINDS: [&str; 2] = ["readOnly", "mutating"];
/// Sets of labels that are counted apart.
const SERIES: usize = 8192;

/// A count that is taken back when this is dropped.
pub(crate) struct Counted(Arc<Metrics>, Gauge);

enum Gauge {
    InFlight(usize),
    Long(Arc<AtomicI64>),
}

impl Counted {
    fn gauge(&self) -> &AtomicI64 {
        match &self.1 {
            Gauge::InFlight(kind) => &self.0.in_flight[*kind],
            Gauge::Long(gauge) => gauge,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge().fetch_sub(1, Relaxed);
    }
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            requests: Table::new(SERIES),
            long: Table::new(SERIES),
            watch_events: Table::new(SERIES),
            watch_lists: Table::new(SERIES),
            deprecated: Table::new(SERIES),
            in_flight: Default::default(),
            handshake_errors: AtomicU64::new(0),
            access: Access::new(),
            checks: Checks::new(),
            sources: Mutex::default(),
        })
    }

    /// Shows families of another part of this process, too.
    pub fn add(&self, source: Source) {
        self.sources.lock().push(source);
    }

    /// The counters of requests on a route.
    pub(crate) fn requests(&self, route: &Route<'_>) -> Arc<Requests> {
        Arc::clone(self.requests.entry(route.labels(), || Arc::new(Requests::new())))
    }

    /// Counts a request as being worked on.
    pub(crate) fn in_flight(self: &Arc<Self>, writes: bool) -> Counted {
        let counted = Counted(Arc::clone(self), Gauge::InFlight(usize::from(writes)));
        counted.gauge().fetch_add(1, Relaxed);
        counted
    }

    /// Counts a request as going on for long.
    pub(crate) fn long(self: &Arc<Self>, route: &Route<'_>) -> Counted {
        let [verb, _, rest @ ..] = route.labels();
        let [group, version, resource, subresource, scope] = rest;
        let labels = [verb, group, version, resource, subresource, scope];
        let counted =
            Counted(Arc::clone(self), Gauge::Long(Arc::clone(self.long.entry(labels, Arc::default))));
        counted.gauge().fetch_add(1, Relaxed);
        counted
    }

    /// The number of events that watchers of a resource were sent.
    pub(crate) fn watch_events(&self, group: &str, version: &str, resource: &str) -> Arc<AtomicU64> {
        Arc::clone(self.watch_events.entry([group, version, resource], Arc::default))
    }

    /// How long watches of what the call asks for take to tell what there is.
    pub(crate) fn watch_list(&self, call: &Call) -> Arc<Histogram> {
        let scope = match (call.name.is_empty(), call.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        let labels = [&call.kind.group, &*call.version, &call.kind.resource, scope];
        Arc::clone(self.watch_lists.entry(labels, || Arc::new(Histogram::new(&WATCH_LISTS))))
    }

    /// A version that is on its way out was asked for.
    pub(crate) fn deprecated(&self, labels: [&str; 5]) {
        self.deprecated.entry(labels, || ());
    }

    /// Adds everything that was counted.
    pub(crate) fn expose(&self, text: &mut Exposition) {
        requests::expose(&self.requests, text);
        self.access.expose(text);
        expressions::expose(text);
        let count = |value: &AtomicI64| value.load(Relaxed) as f64;

        let help = "Requests being worked on, long ones apart.";
        text.family("apiserver_current_inflight_requests", Kind::Gauge, help);
        for (kind, value) in REQUEST_KINDS.into_iter().zip(&self.in_flight) {
            text.sample(&[("request_kind", kind)], count(value));
        }
        let help = "Watches and streams that are being answered.";
        text.family("apiserver_longrunning_requests", Kind::Gauge, help);
        let long = self.long.entries();
        for (labels, value) in &long {
            let names = ["verb", "group", "version", "resource", "subresource", "scope"];
            let labels: Vec<_> = names.into_iter().zip(*labels).chain([COMPONENT]).collect();
            text.sample(&labels, count(value));
        }
        text.family("apiserver_registered_watchers", Kind::Gauge, "Watchers of a resource.");
        let mut watchers: std::collections::BTreeMap<[&str; 3], f64> = Default::default();
        for ([verb, group, version, resource, ..], value) in &long {
            if *verb == "WATCH" {
                *watchers.entry([group, version, resource]).or_default() += count(value);
            }
        }
        for (labels, value) in watchers {
            text.sample(&by_resource(labels), value);
        }
        text.family("apiserver_watch_events_total", Kind::Counter, "Events that watchers were sent.");
        for (labels, value) in self.watch_events.entries() {
            text.sample(&by_resource(labels), value.load(Relaxed) as f64);
        }
        let help = "How long watches took to tell what there was when they began.";
        text.family("apiserver_watch_list_duration_seconds", Kind::Histogram, help);
        for ([group, version, resource, scope], seconds) in self.watch_lists.entries() {
            let [group, version, resource] = by_resource([group, version, resource]);
            text.histogram(&[group, version, resource, ("scope", scope)], seconds);
        }
        let help = "Versions on their way out that somebody has asked for, always 1.";
        text.family("apiserver_requested_deprecated_apis", Kind::Gauge, help);
        for (labels, ()) in self.deprecated.entries() {
            let names = ["group", "version", "resource", "subresource", "removed_release"];
            let labels: Vec<_> = names.into_iter().zip(labels).collect();
            text.sample(&labels, 1.0);
        }
        let help = "Handshakes of clients that failed.";
        let errors = self.handshake_errors.load(Relaxed) as f64;
        text.single("apiserver_tls_handshake_errors_total", Kind::Counter, help, errors);

        let sources = self.sources.lock().clone();
        sources.iter().for_each(|source| source(text));
        process(text);
    }
}

/// Upstream's servers say which of them counted.
const COMPONENT: (&str, &str) = ("component", "apiserver");

fn by_resource([group, version, resource]: [&str; 3]) -> [(&'static str, &str); 3] {
    [("group", group), ("version", version), ("resource", resource)]
}
