//! What reads, watches and commits cost through the watch cache.
//!
//! `cargo bench -p tiphys-apiserver --bench cache` prints one line a number. Objects are Pods of 4 KB.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::FutureExt;
use tiphys_api::{kind::Kinds, selector::FieldSelector, selector::LabelSelector};
use tiphys_apiserver::cache::{
    At, Cache, Collection, Filter, Limits, ListOptions, Spec, Start, WatchOptions,
};
use tiphys_store::{Change, Embedded, Expect, Memory, Outcome, Revision, Store, Write, embedded::Options};

const PODS: usize = 20_000;
const NODES: usize = 1_000;
const SIZE: usize = 4096;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        reads().await;
        fan_out().await;
        commits().await;
    });
}

fn spec() -> Spec {
    let kinds = Kinds::builtin();
    Spec::of(kinds.iter().find(|kind| kind.resource == "pods").unwrap()).unwrap()
}

/// A Pod as it lies in the store.
fn pod(n: usize, round: usize) -> Bytes {
    let head = format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"pod-{n}","namespace":"ns-{}","labels":{{"app":"app-{}","round":"{round}"}}}},"spec":{{"nodeName":"node-{}","containers":["#,
        n % 100,
        n % 50,
        n % NODES,
    );
    let mut json = head;
    while json.len() < SIZE - 120 {
        json.push_str(r#"{"name":"c","image":"registry.example/app:1","env":[{"name":"A","value":"b"}]},"#);
    }
    json.pop();
    json.push_str(r#"]},"status":{"phase":"Running"}}"#);
    json.into()
}

async fn write(store: &dyn Store, spec: &Spec, n: usize, round: usize, expect: Expect) -> Revision {
    let key = spec.key(&format!("ns-{}", n % 100), &format!("pod-{n}"));
    let change = Change::Put { value: pod(n, round), ttl: None };
    match store.commit(vec![Write { key, expect, change, note: None }]).await.unwrap() {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict { key, .. } => panic!("conflict on {key}"),
    }
}

fn report(what: &str, number: f64, unit: &str) {
    println!("{what:<58} {number:>12.1} {unit}");
}

/// Microseconds of one call, the fastest of some.
fn time<T>(mut call: impl FnMut() -> T) -> f64 {
    let once = |call: &mut dyn FnMut() -> T| {
        let start = Instant::now();
        std::hint::black_box(call());
        start.elapsed()
    };
    (0..20).map(|_| once(&mut call)).min().unwrap_or_default().as_secs_f64() * 1e6
}

fn resident_kb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|kb| kb.trim().strip_suffix(" kB")).and_then(|kb| kb.parse().ok()).unwrap_or_default()
}

fn labels(selector: &str) -> Filter {
    Filter { labels: Arc::new(LabelSelector::parse(selector).unwrap()), ..Filter::default() }
}

fn on(node: usize) -> Filter {
    let fields = FieldSelector::parse(&format!("spec.nodeName=node-{node}")).unwrap();
    Filter { fields: Arc::new(fields), ..Filter::default() }
}

async fn reads() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Arc::new(Embedded::open(dir.path(), Options::default()).unwrap());
    let spec = spec();
    let writers = (0..64).map(|who| {
        let (store, spec) = (Arc::clone(&store), spec.clone());
        tokio::spawn(async move {
            for n in (who..PODS).step_by(64) {
                write(&*store, &spec, n, 0, Expect::Absent).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let (before, start) = (resident_kb(), Instant::now());
    let limits = Limits { ring_events: 0, ..Limits::default() };
    let cache = Cache::start(store, vec![spec], limits).await.unwrap();
    report("loading 20,000 Pods", start.elapsed().as_secs_f64() * 1e3, "ms");
    let pods = cache.collection("", "pods").unwrap();
    let bytes: usize = pods.iter(None).map(|o| o.json().len()).sum();
    let overhead = (resident_kb() - before) * 1024.0 / PODS as f64 - (bytes / PODS) as f64;
    report("memory of an object besides its bytes (allocator included)", overhead, "B");

    report("get", time(|| pods.get("ns-7", "pod-7")) * 1e3, "ns");
    let list = |filter: Filter, limit| {
        let pods = Arc::clone(&pods);
        move || {
            let options = ListOptions { at: At::Any, filter: filter.clone(), limit };
            pods.list(options).now_or_never().unwrap().unwrap().map(|o| o.json().len()).sum::<usize>()
        }
    };
    report("list of 20,000", time(list(Filter::default(), 0)), "us");
    let namespace = Filter { namespace: Some("ns-7".into()), ..Filter::default() };
    report("list of a namespace of 200", time(list(namespace, 0)), "us");
    report("list of 400 by label", time(list(labels("app=app-7"), 0)), "us");
    report("list of 20 by node", time(list(on(7), 0)), "us");
    report("page of 500", time(list(Filter::default(), 500)), "us");
}

/// Events that watchers have got, a second.
async fn drain(
    pods: &Arc<Collection>,
    filters: Vec<Filter>,
    changes: usize,
    store: &dyn Store,
) -> (f64, f64) {
    let spec = spec();
    let mut revisions = Vec::new();
    for n in 0..NODES {
        revisions.push(write(store, &spec, n, 0, Expect::Absent).await);
    }
    let mut tasks = Vec::new();
    for filter in filters {
        let options =
            WatchOptions { start: Start::After(*revisions.last().unwrap()), filter, bookmarks: false };
        let mut watch = pods.watch(options).await.unwrap();
        tasks.push(tokio::spawn(async move {
            let mut seen = 0;
            while let Ok(Ok(notices)) = tokio::time::timeout(Duration::from_millis(500), watch.next()).await {
                seen += notices.len();
            }
            seen
        }));
    }
    let start = Instant::now();
    for i in 0..changes {
        let n = i % NODES;
        revisions[n] = write(store, &spec, n, i, Expect::At(revisions[n])).await;
    }
    let mut changed = pods.changes();
    changed.wait_for(|at| at >= revisions.iter().max().unwrap()).await.unwrap();
    let took = start.elapsed().as_secs_f64();
    let mut seen = 0;
    for task in tasks {
        seen += task.await.unwrap();
    }
    (changes as f64 / took, seen as f64 / took)
}

async fn fan_out() {
    let limits = Limits { watcher_bytes: usize::MAX, ..Limits::default() };
    for (what, filters) in [
        ("no watcher", Vec::new()),
        ("100 watchers of all Pods", vec![Filter::default(); 100]),
        ("100 watchers by label", (0..100).map(|n| labels(&format!("app=app-{}", n % 50))).collect()),
        ("1,000 watchers, each of a node's Pods", (0..NODES).map(on).collect()),
    ] {
        let store = Arc::new(Memory::new());
        let cache = Cache::start(store.clone(), vec![spec()], limits.clone()).await.unwrap();
        let pods = cache.collection("", "pods").unwrap();
        let (changes, events) = drain(&pods, filters, 20_000, &*store).await;
        report(&format!("{what}: changes applied"), changes, "/s");
        report(&format!("{what}: events told"), events, "/s");
    }
}

/// From the commit to the consistent read, on disk.
async fn commits() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store: Arc<dyn Store> = Arc::new(Embedded::open(dir.path(), Options::default()).unwrap());
    let cache = Cache::start(Arc::clone(&store), vec![spec()], Limits::default()).await.unwrap();
    let spec = spec();
    let mut times = Vec::new();
    for n in 0..500 {
        let revision = write(&*store, &spec, n, 0, Expect::Absent).await;
        let start = Instant::now();
        cache.wait(revision).await.unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    report("from the answer to a commit to its visibility, p50", times[times.len() / 2], "us");
    report("from the answer to a commit to its visibility, p99", times[times.len() * 99 / 100], "us");
}
