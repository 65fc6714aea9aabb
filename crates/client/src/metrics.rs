//! What work queues do and clients ask for, under upstream's names: `workqueue_` and `rest_client_`.
//!
//! As in every program of Kubernetes, these are counts of the process.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Request, Response};
use parking_lot::Mutex;
use tiphys_metrics::{Exposition, Histogram, Kind, Table};
use tower_service::Service;

/// The bounds of what queues take their time for, in seconds.
pub(crate) static DURATIONS: [f64; 12] =
    [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0];
/// The bounds of requests' durations, in seconds.
static ANSWERS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// Sets of labels that are counted apart.
const SERIES: usize = 1024;

/// What a queue has done so far, and what it is doing.
pub(crate) struct Reading<'a> {
    pub(crate) depth: usize,
    pub(crate) adds: u64,
    pub(crate) retries: u64,
    pub(crate) waited: &'a Histogram,
    pub(crate) worked: &'a Histogram,
    /// How long work that is not done has taken, all together and the longest.
    pub(crate) unfinished: Duration,
    pub(crate) longest: Duration,
}

/// A queue that can be read.
pub(crate) trait Watched: Send + Sync {
    fn read(&self, look: &mut dyn FnMut(&Reading<'_>));
}

type Named = (&'static str, Weak<dyn Watched>);

static QUEUES: Mutex<Vec<Named>> = Mutex::new(Vec::new());
static REQUESTS: LazyLock<Requests> =
    LazyLock::new(|| Requests { codes: Table::new(SERIES), durations: Table::new(SERIES) });

/// Shows a queue for as long as it is there; of several by one name, the last.
pub(crate) fn watch(name: &'static str, queue: &Arc<dyn Watched>) {
    let mut queues = QUEUES.lock();
    queues.retain(|(_, queue)| queue.strong_count() > 0);
    queues.push((name, Arc::downgrade(queue)));
}

/// Adds everything that was counted in this process.
pub fn expose(text: &mut Exposition) {
    let queues: BTreeMap<_, _> = {
        let queues = QUEUES.lock();
        queues.iter().filter_map(|(name, queue)| Some((*name, queue.upgrade()?))).collect()
    };
    type Read = fn(&Reading<'_>) -> f64;
    let singles: [(&str, Kind, &str, Read); 5] = [
        ("depth", Kind::Gauge, "Keys that wait in a queue.", |r| r.depth as f64),
        ("adds_total", Kind::Counter, "Keys that were added to a queue.", |r| r.adds as f64),
        ("retries_total", Kind::Counter, "Keys that were put back to be looked at again.", |r| {
            r.retries as f64
        }),
        ("unfinished_work_seconds", Kind::Gauge, "How long all keys that are looked at have been.", |r| {
            r.unfinished.as_secs_f64()
        }),
        ("longest_running_processor_seconds", Kind::Gauge, "How long one key has been looked at.", |r| {
            r.longest.as_secs_f64()
        }),
    ];
    for (name, kind, help, read) in singles {
        text.family(&format!("workqueue_{name}"), kind, help);
        for (name, queue) in &queues {
            queue.read(&mut |reading| text.sample(&[("name", name)], read(reading)));
        }
    }
    let waited: for<'a> fn(&Reading<'a>) -> &'a Histogram = |r| r.waited;
    let worked: for<'a> fn(&Reading<'a>) -> &'a Histogram = |r| r.worked;
    for (name, help, read) in [
        ("queue_duration_seconds", "How long keys waited in a queue.", waited),
        ("work_duration_seconds", "How long keys were looked at.", worked),
    ] {
        text.family(&format!("workqueue_{name}"), Kind::Histogram, help);
        for (name, queue) in &queues {
            queue.read(&mut |reading| text.histogram(&[("name", name)], read(reading)));
        }
    }
    REQUESTS.expose(text);
}

/// What clients have asked for.
struct Requests {
    /// By code, method and host.
    codes: Table<3, AtomicU64>,
    /// Until the head of the answer, by verb and host.
    durations: Table<2, Histogram>,
}

impl Requests {
    fn answered(&self, code: &str, method: &str, host: &str, time: Duration) {
        self.codes.entry([code, method, host], AtomicU64::default).fetch_add(1, Relaxed);
        self.durations.entry([method, host], || Histogram::new(&ANSWERS)).observe_time(time);
    }

    fn expose(&self, text: &mut Exposition) {
        text.family("rest_client_requests_total", Kind::Counter, "Requests of clients by what came of them.");
        for ([code, method, host], count) in self.codes.entries() {
            text.sample(&[("code", code), ("method", method), ("host", host)], count.load(Relaxed) as f64);
        }
        let help = "Time from a client's request to the head of its answer.";
        text.family("rest_client_request_duration_seconds", Kind::Histogram, help);
        for ([verb, host], histogram) in self.durations.entries() {
            text.histogram(&[("verb", verb), ("host", host)], histogram);
        }
    }
}

/// Counts the requests that go through a service to a host; `kube::Client::new` takes it.
#[derive(Clone)]
pub struct Counted<S> {
    service: S,
    host: Arc<str>,
}

impl<S> Counted<S> {
    pub fn new(service: S, host: impl Into<Arc<str>>) -> Self {
        Self { service, host: host.into() }
    }
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (method, host, begun) = (request.method().clone(), Arc::clone(&self.host), Instant::now());
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().map(Response::status);
            let code = code.as_ref().map_or("<error>", |code| code.as_str());
            REQUESTS.answered(code, method.as_str(), &host, begun.elapsed());
            answer
        })
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
