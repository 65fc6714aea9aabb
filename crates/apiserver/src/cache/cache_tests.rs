use std::time::Duration;

use serde_json::{Value, json};
use tiphys_api::selector::{FieldSelector, LabelSelector};
use tiphys_store::{Change as Put, Expect, Memory, Outcome, Write};

use super::*;
use crate::stored;

/// A store with a cache of pods and nodes over it.
struct Fixture {
    store: Arc<Memory>,
    cache: Arc<Cache>,
}

fn pods() -> Spec {
    let path = ["spec", "nodeName"].map(Into::into).to_vec();
    Spec {
        group: String::new(),
        resource: "pods".into(),
        namespaced: true,
        fields: vec![SelectableField { label: "spec.nodeName".into(), paths: vec![path], absent: "".into() }],
        indexed: vec!["spec.nodeName".into()],
    }
}

fn nodes() -> Spec {
    let (group, resource) = (String::new(), "nodes".into());
    Spec { group, resource, namespaced: false, fields: Vec::new(), indexed: Vec::new() }
}

/// A pod with one label, on a node.
fn pod(app: &str, node: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"labels": {"app": app}}, "spec": {"nodeName": node}})
}

impl Fixture {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let store = Arc::new(Memory::new());
        let cache = Cache::start(store.clone(), vec![pods(), nodes()], limits).await.unwrap();
        Self { store, cache }
    }

    fn pods(&self) -> Arc<Collection> {
        self.cache.collection("", "pods").unwrap()
    }

    /// Writes an object over whatever is there; `None` deletes it.
    async fn write(&self, spec: &Spec, namespace: &str, name: &str, object: Option<Value>) -> Revision {
        let key = spec.key(namespace, name);
        let expect =
            self.store.get(&key).await.unwrap().map_or(Expect::Absent, |record| Expect::At(record.revision));
        let change =
            object.map_or(Put::Delete, |object| Put::Put { value: stored::encode(&object), ttl: None });
        match self.store.commit(vec![Write { key, expect, change, note: None }]).await.unwrap() {
            Outcome::Committed(revision) => revision,
            Outcome::Conflict { key, .. } => panic!("conflict on {key}"),
        }
    }

    async fn pod(&self, namespace: &str, name: &str, app: &str, node: &str) -> Revision {
        self.write(&pods(), namespace, name, Some(pod(app, node))).await
    }

    async fn delete(&self, namespace: &str, name: &str) -> Revision {
        self.write(&pods(), namespace, name, None).await
    }

    async fn list(&self, at: At, filter: Filter, limit: u64) -> Result<(Vec<String>, Page), Error> {
        let mut page = self.pods().list(ListOptions { at, filter, limit }).await?;
        Ok((page.by_ref().map(|o| show(&o)).collect(), page))
    }

    async fn names(&self, filter: Filter) -> Vec<String> {
        self.list(At::Newest, filter, 0).await.unwrap().0
    }

    async fn watch(&self, start: Start, filter: Filter) -> Watch {
        self.pods().watch(WatchOptions { start, filter, bookmarks: true }).await.unwrap()
    }
}

/// `namespace/name@revision`, checked against the JSON.
fn show(object: &Object) -> String {
    let json: Value = serde_json::from_slice(object.json()).unwrap();
    assert_eq!(json["metadata"]["resourceVersion"], object.revision().to_string());
    assert!(json["spec"].is_object());
    format!("{}/{}@{}", object.namespace(), object.name(), object.revision())
}

fn tell(notice: &Notice) -> String {
    match notice {
        Notice::Object { change, object, .. } => format!("{change:?} {}", show(object)),
        Notice::Bookmark { revision, initial: true } => format!("Initial {revision}"),
        Notice::Bookmark { revision, initial: false } => format!("Bookmark {revision}"),
    }
}

/// The next `count` notices.
async fn next(watch: &mut Watch, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.extend(watch.next().await.unwrap().iter().map(tell));
    }
    assert_eq!(seen.len(), count, "{seen:?}");
    seen
}

fn namespace(namespace: &str) -> Filter {
    Filter { namespace: Some(namespace.into()), ..Filter::default() }
}

fn labels(selector: &str) -> Filter {
    Filter { labels: Arc::new(LabelSelector::parse(selector).unwrap()), ..Filter::default() }
}

fn fields(selector: &str) -> Filter {
    Filter { fields: Arc::new(FieldSelector::parse(selector).unwrap()), ..Filter::default() }
}

fn revision(number: u64) -> Revision {
    Revision::parse(&number.to_string()).unwrap()
}

#[tokio::test]
async fn a_read_after_a_write_sees_it() {
    let f = Fixture::new().await;
    for i in 0..50 {
        let written = f.pod("a", &format!("p{i}"), "x", "n").await;
        let object = f.pods().read(At::Newest, "a", &format!("p{i}")).await.unwrap().unwrap();
        assert_eq!(object.revision(), written);
        let (names, page) = f.list(At::NotOlderThan(written), Filter::default(), 0).await.unwrap();
        assert_eq!((names.len(), page.revision), (i + 1, written));
    }
    let gone = f.delete("a", "p7").await;
    assert!(f.pods().read(At::NotOlderThan(gone), "a", "p7").await.unwrap().is_none());
    assert!(f.pods().get("a", "p8").is_some());
}

#[tokio::test]
async fn a_list_is_in_the_order_of_keys_and_filtered() {
    let f = Fixture::new().await;
    f.pod("b", "1", "x", "n1").await;
    f.pod("a", "2", "y", "n2").await;
    f.pod("a-b", "1", "x", "n2").await;
    f.pod("a", "1", "x", "n1").await;
    assert_eq!(f.names(Filter::default()).await, ["a-b/1@3", "a/1@4", "a/2@2", "b/1@1"]);
    assert_eq!(f.names(namespace("a")).await, ["a/1@4", "a/2@2"]);
    assert_eq!(f.names(namespace("c")).await, [""; 0]);
    assert_eq!(f.names(labels("app=x")).await, ["a-b/1@3", "a/1@4", "b/1@1"]);
    assert_eq!(f.names(labels("app!=x")).await, ["a/2@2"]);
    assert_eq!(f.names(fields("spec.nodeName=n1")).await, ["a/1@4", "b/1@1"]);
    assert_eq!(f.names(fields("spec.nodeName!=n1")).await, ["a-b/1@3", "a/2@2"]);
    assert_eq!(f.names(fields("metadata.name=1")).await, ["a-b/1@3", "a/1@4", "b/1@1"]);
    assert_eq!(f.names(fields("metadata.namespace=a")).await, ["a/1@4", "a/2@2"]);
    let both = Filter { namespace: Some("a".into()), ..fields("metadata.name=2,spec.nodeName=n2") };
    assert_eq!(f.names(both).await, ["a/2@2"]);
    let other = Filter { namespace: Some("a".into()), ..fields("spec.nodeName=n1") };
    assert_eq!(f.names(other).await, ["a/1@4"]);
}

#[tokio::test]
async fn an_index_follows_changes() {
    let f = Fixture::new().await;
    let on = |node| f.pods().by_field("spec.nodeName", node).map(|o| show(&o)).collect::<Vec<_>>();
    f.pod("a", "1", "x", "").await;
    f.pod("a", "2", "x", "n1").await;
    f.cache.wait_newest().await.unwrap();
    assert_eq!((on("n1"), on("")), (vec!["a/2@2".into()], vec!["a/1@1".to_owned()]));
    f.pod("a", "1", "x", "n1").await;
    f.pod("a", "2", "y", "n1").await;
    f.cache.wait_newest().await.unwrap();
    assert_eq!((on("n1"), on("")), (vec!["a/1@3".into(), "a/2@4".into()], Vec::<String>::new()));
    f.delete("a", "1").await;
    f.cache.wait_newest().await.unwrap();
    assert_eq!(on("n1"), ["a/2@4"]);
    assert!(f.pods().by_field("spec.other", "").next().is_none());
}

#[tokio::test]
async fn pages_of_a_list_are_of_one_revision() {
    let f = Fixture::new().await;
    for i in 0..5 {
        f.pod("a", &i.to_string(), "x", "n").await;
    }
    let (names, page) = f.list(At::Newest, Filter::default(), 2).await.unwrap();
    assert_eq!((names, page.remaining), (vec!["a/0@1".to_owned(), "a/1@2".into()], Some(3)));
    f.delete("a", "2").await;
    f.pod("a", "3", "y", "n").await;
    f.pod("a", "9", "x", "n").await;
    let (names, page) = f.list(At::Continue(page.next.unwrap()), Filter::default(), 2).await.unwrap();
    assert_eq!((names, page.remaining), (vec!["a/2@3".to_owned(), "a/3@4".into()], Some(1)));
    assert_eq!(page.revision, revision(5));
    let (names, page) = f.list(At::Continue(page.next.unwrap()), Filter::default(), 2).await.unwrap();
    assert_eq!((names, page.remaining, page.next), (vec!["a/4@5".to_owned()], None, None));
    // A page that is full to the last object has no next one; a selector hides how many remain.
    assert!(f.list(At::Newest, Filter::default(), 5).await.unwrap().1.next.is_none());
    let (_, page) = f.list(At::Newest, labels("app=x"), 1).await.unwrap();
    assert!(page.next.is_some() && page.remaining.is_none());
    let (_, page) = f.list(At::Newest, namespace("a"), 1).await.unwrap();
    assert_eq!(page.remaining, Some(4));
}

#[tokio::test]
async fn an_expired_list_goes_on_inconsistently() {
    let f = Fixture::with(Limits { pins: 0, ring_events: 1, ..Limits::default() }).await;
    for i in 0..4 {
        f.pod("a", &i.to_string(), "x", "n").await;
    }
    let token = f.list(At::Newest, Filter::default(), 2).await.unwrap().1.next.unwrap();
    f.delete("a", "2").await;
    f.pod("a", "5", "x", "n").await;
    let at = At::Continue(token);
    f.cache.wait_newest().await.unwrap();
    let Err(Error::ContinueExpired { next }) = f.list(at, Filter::default(), 2).await else { panic!() };
    let (names, page) = f.list(At::Continue(next), Filter::default(), 1).await.unwrap();
    assert_eq!((names, page.revision), (vec!["a/3@4".to_owned()], revision(6)));
    let (names, _) = f.list(At::Continue(page.next.unwrap()), Filter::default(), 1).await.unwrap();
    assert_eq!(names, ["a/5@6"]);
}

#[tokio::test]
async fn a_token_is_for_its_own_list() {
    let f = Fixture::new().await;
    for name in ["1", "2"] {
        f.pod("a", name, "x", "n").await;
    }
    let token = f.list(At::Newest, namespace("a"), 1).await.unwrap().1.next.unwrap();
    let stolen = f.list(At::Continue(token), namespace("b"), 1).await;
    assert!(matches!(stolen, Err(Error::InvalidContinue(_))));
}

#[tokio::test]
async fn an_exact_revision_is_rebuilt() {
    let f = Fixture::with(Limits { ring_events: 4, ..Limits::default() }).await;
    f.pod("a", "1", "x", "n1").await;
    f.pod("a", "2", "x", "n1").await;
    f.pod("a", "1", "y", "n2").await;
    f.delete("a", "2").await;
    f.pod("a", "3", "x", "n1").await;
    f.cache.wait_newest().await.unwrap();
    let at = |number| f.list(At::Exact(revision(number)), Filter::default(), 0);
    assert_eq!(at(1).await.unwrap().0, ["a/1@1"]);
    assert_eq!(at(2).await.unwrap().0, ["a/1@1", "a/2@2"]);
    assert_eq!(at(3).await.unwrap().0, ["a/1@3", "a/2@2"]);
    let (names, page) = at(4).await.unwrap();
    assert_eq!((names, page.revision), (vec!["a/1@3".to_owned()], revision(4)));
    let on = f.list(At::Exact(revision(2)), fields("spec.nodeName=n1"), 0).await.unwrap();
    assert_eq!(on.0, ["a/1@1", "a/2@2"]);
    f.pod("a", "4", "x", "n1").await;
    f.cache.wait_newest().await.unwrap();
    assert!(matches!(at(1).await, Err(Error::Expired)));
}

#[tokio::test(start_paused = true)]
async fn the_future_is_waited_for_but_not_forever() {
    let f = Fixture::new().await;
    let now = f.pod("a", "1", "x", "n").await;
    let next = revision(now.get() + 1);
    let late = f.list(At::NotOlderThan(next), Filter::default(), 0).await;
    assert!(matches!(late, Err(Error::Future { asked, current }) if asked == next && current == now));
    let start = Start::After(next);
    let late = f.pods().watch(WatchOptions { start, filter: Filter::default(), bookmarks: false }).await;
    assert!(matches!(late, Err(Error::Future { .. })));

    let reading = f.list(At::Exact(next), Filter::default(), 0);
    let (read, written) = tokio::join!(reading, f.pod("a", "2", "x", "n"));
    assert_eq!((read.unwrap().0.len(), written), (2, next));
}

#[tokio::test]
async fn a_watch_resumes_without_a_gap() {
    let f = Fixture::new().await;
    f.pod("a", "1", "x", "n").await;
    f.pod("a", "1", "y", "n").await;
    f.delete("a", "1").await;
    f.pod("b", "1", "y", "n").await;
    let mut all = f.watch(Start::After(Revision::ZERO), Filter::default()).await;
    let mut late = f.watch(Start::After(revision(2)), Filter::default()).await;
    let mut one = f.watch(Start::After(Revision::ZERO), namespace("b")).await;
    let mut now = f.watch(Start::Now, Filter::default()).await;
    f.cache.wait_newest().await.unwrap();
    f.pod("b", "2", "x", "n").await;
    let expected = ["Added a/1@1", "Modified a/1@2", "Deleted a/1@3", "Added b/1@4", "Added b/2@5"];
    assert_eq!(next(&mut all, 5).await, expected);
    assert_eq!(next(&mut late, 3).await, expected[2..]);
    assert_eq!(next(&mut one, 2).await, expected[3..]);
    assert_eq!(*next(&mut now, 1).await.last().unwrap(), expected[4]);
}

#[tokio::test]
async fn leaving_a_filter_is_deletion_and_entering_it_addition() {
    let f = Fixture::new().await;
    let filters = [labels("app=x"), fields("spec.nodeName=n1")];
    for filter in filters {
        let start = f.store.revision().await.unwrap();
        let mut watch = f.watch(Start::After(start), filter.clone()).await;
        let base = start.get();
        f.pod("a", "1", "y", "n2").await;
        f.pod("a", "1", "x", "n1").await;
        f.pod("a", "1", "x", "n1").await;
        f.pod("a", "1", "y", "n2").await;
        f.pod("a", "1", "y", "n2").await;
        f.pod("a", "1", "x", "n1").await;
        f.delete("a", "1").await;
        let expected: Vec<_> = [("Added", 2), ("Modified", 3), ("Deleted", 4), ("Added", 6), ("Deleted", 7)]
            .map(|(change, at)| format!("{change} a/1@{}", base + at))
            .into();
        assert_eq!(next(&mut watch, 5).await, expected, "live, {filter:?}");
        let mut resumed = f.watch(Start::After(start), filter).await;
        assert_eq!(next(&mut resumed, 5).await, expected, "from the ring");
    }
}

/// What leaves a filter is told as it was before: the watcher never sees what it did not ask for.
#[tokio::test]
async fn what_leaves_is_told_as_it_was() {
    let f = Fixture::new().await;
    f.pod("a", "1", "x", "n1").await;
    let mut watch = f.watch(Start::After(revision(1)), labels("app=x")).await;
    f.pod("a", "1", "y", "n1").await;
    let notices = watch.next().await.unwrap();
    let [Notice::Object { change: Change::Deleted, object, .. }] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!((object.labels().get("app"), object.revision()), (Some("x"), revision(2)));
    assert!(String::from_utf8_lossy(object.json()).contains(r#""app":"x""#));
}

#[tokio::test]
async fn one_object_can_be_watched() {
    let f = Fixture::new().await;
    let only = Filter { namespace: Some("a".into()), ..fields("metadata.name=1") };
    let mut watch = f.watch(Start::Now, only).await;
    for (namespace, name) in [("a", "10"), ("b", "1"), ("a", "1")] {
        f.pod(namespace, name, "x", "n").await;
    }
    f.delete("a", "1").await;
    assert_eq!(next(&mut watch, 2).await, ["Added a/1@3", "Deleted a/1@4"]);
}

#[tokio::test]
async fn initial_events_come_first() {
    let f = Fixture::new().await;
    for i in 0..600 {
        f.pod("a", &format!("{i:03}"), "x", "n").await;
    }
    let mut watch = f.watch(Start::Initial(At::Newest), Filter::default()).await;
    let mut quiet = f.watch(Start::State(At::Newest), labels("app=x")).await;
    f.delete("a", "000").await;
    let seen = next(&mut watch, 602).await;
    assert_eq!((&*seen[0], &*seen[599]), ("Added a/000@1", "Added a/599@600"));
    assert_eq!(seen[600..], ["Initial 600", "Deleted a/000@601"]);
    assert_eq!(next(&mut quiet, 601).await[600], "Deleted a/000@601");

    // Nothing to begin with is told too.
    let mut watch = f.watch(Start::Initial(At::Any), namespace("none")).await;
    assert_eq!(next(&mut watch, 1).await, ["Initial 601"]);
    let start = Start::Initial(At::Any);
    let options = WatchOptions { start, filter: namespace("none"), bookmarks: false };
    let mut unmarked = f.pods().watch(options).await.unwrap();
    f.pod("none", "1", "x", "n").await;
    assert_eq!(next(&mut unmarked, 1).await, ["Added none/1@602"]);
}

#[tokio::test]
async fn a_watcher_that_cannot_keep_up_ends_and_can_resume() {
    let f = Fixture::with(Limits { watcher_bytes: 4000, ..Limits::default() }).await;
    let mut slow = f.watch(Start::Now, Filter::default()).await;
    let mut other = f.watch(Start::Now, namespace("b")).await;
    let mut last = Revision::ZERO;
    for i in 0..20 {
        last = f.pod("a", &i.to_string(), "x", "n").await;
    }
    f.pod("b", "1", "x", "n").await;
    f.cache.wait_newest().await.unwrap();
    assert!(matches!(slow.next().await, Err(Error::Slow)));
    assert!(matches!(slow.next().await, Err(Error::Slow)));
    assert_eq!(slow.collection.upgrade().unwrap().slow_watchers(), 1);
    assert_eq!(next(&mut other, 1).await, ["Added b/1@21"]);
    let mut again = f.watch(Start::After(revision(last.get() - 1)), namespace("a")).await;
    assert_eq!(next(&mut again, 1).await, ["Added a/19@20"]);
}

#[tokio::test]
async fn a_watch_from_before_the_ring_is_refused() {
    let f = Fixture::with(Limits { ring_events: 2, ..Limits::default() }).await;
    for i in 0..4 {
        f.pod("a", &i.to_string(), "x", "n").await;
    }
    f.cache.wait_newest().await.unwrap();
    let options =
        |at| WatchOptions { start: Start::After(revision(at)), filter: Filter::default(), bookmarks: false };
    let error = f.pods().watch(options(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "too old resource version: 1 (2)");
    let mut watch = f.pods().watch(options(2)).await.unwrap();
    assert_eq!(next(&mut watch, 2).await, ["Added a/2@3", "Added a/3@4"]);
}

#[tokio::test(start_paused = true)]
async fn the_window_closes_on_an_idle_cluster() {
    let f = Fixture::new().await;
    f.pod("a", "1", "x", "n").await;
    let last = f.pod("a", "1", "y", "n").await;
    let token = f.list(At::Newest, Filter::default(), 0).await.unwrap().1;
    assert!(token.next.is_none());
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(f.list(At::Exact(revision(1)), Filter::default(), 0).await.unwrap().0, ["a/1@1"]);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(matches!(f.list(At::Exact(revision(1)), Filter::default(), 0).await, Err(Error::Expired)));
    let after = |at| WatchOptions { start: Start::After(at), filter: Filter::default(), bookmarks: false };
    assert!(matches!(f.pods().watch(after(revision(1))).await, Err(Error::Gone { .. })));
    // The newest revision never gets old.
    assert!(f.pods().watch(after(last)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_paged_list_ends_with_the_window() {
    let f = Fixture::with(Limits { ring_events: 0, ..Limits::default() }).await;
    f.pod("a", "1", "x", "n").await;
    f.pod("a", "2", "x", "n").await;
    let token = f.list(At::Newest, Filter::default(), 1).await.unwrap().1.next.unwrap();
    f.delete("a", "2").await;
    let at = || At::Continue(token.clone());
    assert_eq!(f.list(at(), Filter::default(), 1).await.unwrap().0, ["a/2@2"]);
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert!(matches!(f.list(at(), Filter::default(), 1).await, Err(Error::ContinueExpired { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_paged_list_of_what_does_not_change_ends_with_the_window_once_others_change() {
    let f = Fixture::new().await;
    f.pod("a", "1", "x", "n").await;
    f.pod("a", "2", "x", "n").await;
    let token = f.list(At::Newest, Filter::default(), 1).await.unwrap().1.next.unwrap();
    let at = || At::Continue(token.clone());
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(f.list(at(), Filter::default(), 1).await.unwrap().0, ["a/2@2"]);
    f.write(&nodes(), "", "n", Some(json!({"kind": "Node", "apiVersion": "v1", "metadata": {}}))).await;
    tokio::time::sleep(Duration::from_secs(400)).await;
    let Err(Error::ContinueExpired { next }) = f.list(at(), Filter::default(), 1).await else { panic!() };
    assert_eq!(f.list(At::Continue(next), Filter::default(), 1).await.unwrap().0, ["a/2@2"]);
    // Who watches what does not change misses nothing.
    let after =
        WatchOptions { start: Start::After(revision(2)), filter: Filter::default(), bookmarks: false };
    assert!(f.pods().watch(after).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn bookmarks_tell_how_far_others_have_come() {
    let f = Fixture::new().await;
    let mut watch = f.watch(Start::Now, Filter::default()).await;
    let start = Start::Now;
    let options = WatchOptions { start, filter: Filter::default(), bookmarks: false };
    let mut plain = f.pods().watch(options).await.unwrap();
    let far =
        f.write(&nodes(), "", "n", Some(json!({"kind": "Node", "apiVersion": "v1", "metadata": {}}))).await;
    assert_eq!(next(&mut watch, 1).await, [format!("Bookmark {far}")]);
    f.pod("a", "1", "x", "n").await;
    assert_eq!(next(&mut plain, 1).await, ["Added a/1@2"]);
    // Resuming from a bookmark misses nothing.
    let mut resumed = f.watch(Start::After(far), Filter::default()).await;
    assert_eq!(next(&mut resumed, 1).await, ["Added a/1@2"]);
}

#[tokio::test]
async fn a_restart_keeps_the_window() {
    let f = Fixture::new().await;
    f.pod("a", "1", "x", "n").await;
    f.pod("a", "1", "y", "n").await;
    f.delete("a", "1").await;
    f.pod("a", "2", "x", "n").await;
    f.store.compact(revision(2)).await.unwrap();
    let cache = Cache::start(f.store.clone(), vec![pods()], Limits::default()).await.unwrap();
    let again = Fixture { store: f.store.clone(), cache };
    let mut watch = again.watch(Start::After(revision(2)), labels("app=y")).await;
    assert_eq!(next(&mut watch, 1).await, ["Deleted a/1@3"]);
    assert_eq!(again.names(Filter::default()).await, ["a/2@4"]);
    let options =
        WatchOptions { start: Start::After(revision(1)), filter: Filter::default(), bookmarks: false };
    assert!(matches!(again.pods().watch(options).await, Err(Error::Gone { .. })));
}

/// What the rings would not keep is not replayed.
#[tokio::test]
async fn a_restart_replays_no_more_than_the_rings_hold() {
    let f = Fixture::new().await;
    for i in 0..10 {
        f.pod("a", &i.to_string(), "x", "n").await;
    }
    let limits = Limits { ring_events: 4, ..Limits::default() };
    let cache = Cache::start(f.store.clone(), vec![pods()], limits).await.unwrap();
    let again = Fixture { store: f.store.clone(), cache };
    let after =
        |at| WatchOptions { start: Start::After(revision(at)), filter: Filter::default(), bookmarks: false };
    assert!(
        matches!(again.pods().watch(after(5)).await, Err(Error::Gone { oldest, .. }) if oldest == revision(6))
    );
    let mut watch = again.pods().watch(after(6)).await.unwrap();
    assert_eq!(next(&mut watch, 4).await[3], "Added a/9@10");
    assert_eq!(again.names(Filter::default()).await.len(), 10);
}

/// The store's log goes with the window.
#[tokio::test(start_paused = true)]
async fn history_goes_with_the_window() {
    let f = Fixture::new().await;
    f.pod("a", "1", "x", "n").await;
    f.pod("a", "1", "y", "n").await;
    tokio::time::sleep(Duration::from_secs(700)).await;
    let old = f.store.range(tiphys_store::Range::default(), Some(revision(1))).await;
    assert!(matches!(old, Err(tiphys_store::Error::Compacted { floor }) if floor == revision(2)));
}

#[tokio::test]
async fn collections_come_and_go() {
    let f = Fixture::new().await;
    let widgets = Spec { group: "example.com".into(), resource: "widgets".into(), ..nodes() };
    let widget =
        || Some(json!({"kind": "Widget", "apiVersion": "example.com/v1", "metadata": {}, "spec": {}}));
    f.write(&widgets, "", "old", widget()).await;
    assert!(f.cache.collection("example.com", "widgets").is_none());
    let collection = f.cache.add(widgets.clone()).await.unwrap();
    assert!(Arc::ptr_eq(&collection, &f.cache.add(widgets.clone()).await.unwrap()));
    let start = Start::State(At::Newest);
    let options = WatchOptions { start, filter: Filter::default(), bookmarks: false };
    let mut watch = collection.watch(options.clone()).await.unwrap();
    f.write(&widgets, "", "new", widget()).await;
    assert_eq!(next(&mut watch, 2).await, ["Added /old@1", "Added /new@2"]);
    f.cache.remove("example.com", "widgets").await;
    assert!(matches!(watch.next().await, Err(Error::Removed)));
    assert!(matches!(collection.watch(options).await, Err(Error::Unavailable)));
    assert!(f.cache.collection("example.com", "widgets").is_none());
}

/// A store that fails ends the cache: nothing is promised to be fresh any more.
#[tokio::test]
async fn the_cache_ends_with_its_store() {
    let f = Fixture::new().await;
    let written = f.pod("a", "1", "x", "n").await;
    f.cache.wait(written).await.unwrap();
    let mut watch = f.watch(Start::Now, Filter::default()).await;
    f.store.close();
    assert!(matches!(f.cache.ended().await, Error::Store(tiphys_store::Error::Closed)));
    assert!(matches!(watch.next().await, Err(Error::Store(_))));
    assert!(matches!(f.cache.wait_newest().await, Err(Error::Store(_))));
    assert!(matches!(f.cache.wait(revision(written.get() + 1)).await, Err(Error::Store(_))));
}

#[tokio::test]
async fn callers_are_told_of_changes() {
    let f = Fixture::new().await;
    let mut changes = f.pods().changes();
    f.write(&nodes(), "", "n", Some(json!({"kind": "Node", "apiVersion": "v1", "metadata": {}}))).await;
    let written = f.pod("a", "1", "x", "n").await;
    changes.changed().await.unwrap();
    assert_eq!(*changes.borrow_and_update(), written);
    assert_eq!(f.pods().iter(Some("a")).count(), 1);
    assert_eq!(f.pods().iter(Some("b")).count(), 0);
    assert_eq!(f.pods().iter(None).count(), 1);
}

#[tokio::test]
async fn a_damaged_record_harms_nothing() {
    let f = Fixture::new().await;
    f.pod("a", "1", "x", "n").await;
    let value = bytes::Bytes::from_static(b"\xff no object");
    let change = Put::Put { value, ttl: None };
    f.store
        .commit(vec![Write { key: pods().key("a", "2"), expect: Expect::Absent, change, note: None }])
        .await
        .unwrap();
    f.pod("a", "3", "x", "n").await;
    assert_eq!(f.names(Filter::default()).await, ["a/1@1", "a/3@3"]);
    let again = Cache::start(f.store.clone(), vec![pods()], Limits::default()).await.unwrap();
    assert_eq!(again.collection("", "pods").unwrap().iter(None).count(), 2);
}

#[tokio::test]
async fn a_frame_is_made_once_for_all_watchers() {
    let f = Fixture::new().await;
    let mut a = f.watch(Start::Now, Filter::default()).await;
    let mut b = f.watch(Start::Now, labels("app=x")).await;
    f.pod("a", "1", "x", "n").await;
    let mut made = 0;
    for watch in [&mut a, &mut b] {
        let notices = watch.next().await.unwrap();
        let [Notice::Object { frames, .. }] = &notices[..] else { panic!("{notices:?}") };
        for encoding in ["v1 cbor", "v1 protobuf", "v1 cbor"] {
            let frame = frames.get_or_make(encoding, || {
                made += 1;
                Ok::<_, Error>(encoding.as_bytes().into())
            });
            assert_eq!(frame.unwrap(), encoding);
        }
    }
    assert_eq!(made, 2);
}
