use std::{collections::VecDeque, convert::Infallible};

use bytes::Bytes;
use futures::{
    channel::mpsc,
    stream::{self, BoxStream},
};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

fn config_map(name: &str, revision: u32, team: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": revision.to_string(),
            "labels": {"team": team}}})
}

fn list(items: &[Value], revision: u32) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMapList", "items": items,
        "metadata": {"resourceVersion": revision.to_string()}})
    .to_string()
}

fn event(kind: &str, object: Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

type Pieces = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

fn whole(body: String) -> Pieces {
    stream::iter([Ok(Frame::data(body.into()))]).boxed()
}

/// Answers requests with the scripted bodies in turn, then never.
fn scripted(answers: Vec<(u16, Pieces)>) -> Client {
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    Client::new(
        tower::service_fn(move |_: Request<Body>| {
            let next = answers.lock().pop_front();
            async move {
                match next {
                    Some((code, body)) => Ok::<_, Infallible>(
                        Response::builder().status(code).body(StreamBody::new(body)).expect("valid"),
                    ),
                    None => std::future::pending().await,
                }
            }
        }),
        "ns",
    )
}

fn team(map: &ConfigMap) -> Vec<String> {
    map.metadata.labels.iter().flatten().filter(|(k, _)| *k == "team").map(|(_, v)| v.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn it_follows_lists_and_watches_and_makes_up_for_what_a_broken_watch_swallowed() {
    let gone = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Expired",
        "message": "too old resource version", "code": 410, "metadata": {}});
    let client = scripted(vec![
        (200, whole(list(&[config_map("a", 1, "red"), config_map("b", 2, "red")], 2))),
        (200, whole(event("MODIFIED", config_map("b", 3, "blue")) + &event("ERROR", gone))),
        (200, whole(list(&[config_map("b", 3, "blue"), config_map("c", 5, "red")], 5))),
    ]);
    let mut informer =
        Informer::new(Api::<ConfigMap>::namespaced(client, "ns"), watcher::Config::default(), |m| m)
            .index("team", team);
    let reader = informer.reader();
    let changes = Arc::new(Mutex::new(Vec::new()));
    informer.on_change({
        let (changes, reader) = (changes.clone(), informer.reader());
        move |change| {
            assert_eq!(reader.get(&change.key).is_some(), change.new.is_some(), "readers see it first");
            let word = match (&change.old, &change.new) {
                (None, _) => "+",
                (_, None) => "-",
                _ => "~",
            };
            changes.lock().push(format!("{word}{}", change.key.name));
        }
    });
    let running = tokio::spawn(informer.run());
    reader.synced().await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(*changes.lock(), ["+a", "+b", "~b", "~b", "+c", "-a"]);
    let names = |maps: Vec<Arc<ConfigMap>>| -> Vec<String> {
        maps.iter().filter_map(|m| m.metadata.name.clone()).collect()
    };
    assert_eq!(names(reader.list()), ["b", "c"]);
    assert_eq!(names(reader.list_in("ns")), ["b", "c"]);
    assert_eq!(names(reader.list_in("other")), [""; 0]);
    assert_eq!(names(reader.indexed("team", "red")), ["c"]);
    assert_eq!(names(reader.indexed("team", "blue")), ["b"]);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn who_has_written_is_told_until_that_is_shown() {
    let (tell, told) = mpsc::unbounded();
    let there = list(&[config_map("a", 1, "red"), config_map("b", 2, "red")], 2);
    let client = scripted(vec![(200, whole(there)), (200, told.boxed())]);
    let informer =
        Informer::new(Api::<ConfigMap>::namespaced(client, "ns"), watcher::Config::default(), |m| m);
    let reader = informer.reader();
    let running = tokio::spawn(informer.run());
    reader.synced().await;
    let (a, b) = (ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
    let meta = |name: &str, revision: u32| -> ObjectMeta {
        serde_json::from_value(config_map(name, revision, "red")["metadata"].clone()).expect("metadata")
    };
    reader.wrote(&meta("a", 5));
    reader.wrote(&meta("b", 2));
    reader.wrote(&meta("never there", 6));
    assert!(reader.is_behind(&a));
    assert!(!reader.is_behind(&b), "that version is shown already");
    assert!(!reader.is_behind(&ObjectKey::new("ns", "never there")));
    let show = async |change: String| {
        tell.unbounded_send(Ok(Frame::data(change.into()))).expect("somebody watches");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    show(event("MODIFIED", config_map("a", 4, "blue"))).await;
    assert!(reader.is_behind(&a), "an older version is not the one that was written");
    show(event("MODIFIED", config_map("a", 7, "blue"))).await;
    assert!(!reader.is_behind(&a), "a later one will do");
    reader.wrote(&meta("a", 9));
    reader.wrote(&meta("b", 10));
    show(event("DELETED", config_map("a", 8, "blue"))).await;
    assert!(!reader.is_behind(&a), "what is gone comes no more");
    assert!(reader.is_behind(&b));
    tokio::time::sleep(LOST_AFTER).await;
    assert!(!reader.is_behind(&b), "a change that was lost is not waited for");
    running.abort();
}
