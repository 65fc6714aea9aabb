use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use futures::{StreamExt, TryStreamExt, pin_mut};
use http::{Request as Asked, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use parking_lot::Mutex;
use serde_json::json;

use super::*;

type Pieces = Vec<Bytes>;

/// Answers requests with these bodies in turn, then never; and what was asked.
fn scripted(answers: Vec<(u16, Pieces)>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let (answers, asked) = (Arc::new(Mutex::new(VecDeque::from(answers))), Arc::<Mutex<Vec<_>>>::default());
    let told = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Asked<Body>| {
        told.lock().push(request.uri().query().unwrap_or_default().to_owned());
        let next = answers.lock().pop_front();
        async move {
            let Some((code, pieces)) = next else { return std::future::pending().await };
            let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
            let body = StreamBody::new(stream::iter(frames.collect::<Vec<_>>()));
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    });
    (Client::new(service, "ns"), asked)
}

fn map(name: &str, version: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "resourceVersion": version.to_string()}})
}

fn list(items: &[Value], version: u32, next: &str) -> (u16, Pieces) {
    let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "items": items,
        "metadata": {"resourceVersion": version.to_string(), "continue": next}});
    (200, vec![list.to_string().into()])
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn status(code: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "reason": "r",
        "message": "m", "code": code})
}

/// Each event as a word; `!` for an error.
async fn told(client: Client, count: usize) -> Vec<String> {
    let api = Api::<ConfigMap>::namespaced(client, "ns");
    let word = |event: Result<Event<ConfigMap>, Error>| {
        let (sign, object) = match event {
            Ok(Event::Init) => return "begin".to_owned(),
            Ok(Event::InitDone) => return "listed".to_owned(),
            Ok(Event::InitApply(object)) => ('=', object),
            Ok(Event::Apply(object)) => ('+', object),
            Ok(Event::Delete(object)) => ('-', object),
            Err(Error::WatchError(status)) => return format!("!{}", status.code),
            Err(Error::WatchStartFailed(ClientError::Api(status))) => {
                return format!("!start {}", status.code);
            }
            Err(Error::InitialListFailed(_)) => return "!list".to_owned(),
            Err(error) => return format!("!{error}"),
        };
        format!("{sign}{}", object.metadata.name.unwrap_or_default())
    };
    let events = follow(api, Config::default());
    pin_mut!(events);
    events.take(count).map(word).collect().await
}

#[tokio::test]
async fn it_lists_page_by_page_and_tells_each_change() {
    let (client, asked) = scripted(vec![
        list(&[map("a", 1)], 2, "more"),
        list(&[map("b", 2)], 2, ""),
        (200, vec![(event("ADDED", &map("c", 3)) + &event("DELETED", &map("a", 4))).into()]),
    ]);
    assert_eq!(told(client, 6).await, ["begin", "=a", "=b", "listed", "+c", "-a"]);
    let asked = asked.lock();
    assert!(asked[1].contains("continue=more"), "{asked:?}");
    assert!(asked[2].contains("watch=true") && asked[2].contains("resourceVersion=2"), "{asked:?}");
}

#[tokio::test]
async fn an_event_may_come_in_pieces_and_several_in_one() {
    let text =
        event("ADDED", &map("a", 1)) + &event("MODIFIED", &map("b", 2)) + &event("DELETED", &map("c", 3));
    for size in [1, 7, text.len() / 2, text.len()] {
        let pieces = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let (client, _) = scripted(vec![list(&[], 1, ""), (200, pieces)]);
        assert_eq!(told(client, 5).await, ["begin", "listed", "+a", "+b", "-c"], "pieces of {size}");
    }
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let bookmark = event("BOOKMARK", &map("", 9));
    let broken = &event("ADDED", &map("lost", 8))[..20];
    let (client, asked) = scripted(vec![
        list(&[], 1, ""),
        (200, vec![event("ADDED", &map("a", 7)).into(), Bytes::copy_from_slice(broken.as_bytes())]),
        (200, vec![bookmark.into()]),
        (503, vec![status(503).to_string().into()]),
        (200, vec![event("MODIFIED", &map("a", 10)).into()]),
    ]);
    assert_eq!(told(client, 5).await, ["begin", "listed", "+a", "!start 503", "+a"]);
    let from: Vec<_> = asked.lock()[1..]
        .iter()
        .map(|q| q.split("resourceVersion=").nth(1).unwrap().split('&').next().unwrap().to_owned())
        .collect();
    assert_eq!(from, ["1", "7", "9", "9"]);
}

#[tokio::test]
async fn what_the_server_does_not_know_any_more_is_listed_anew() {
    let (client, _) = scripted(vec![
        list(&[map("a", 1)], 1, ""),
        (200, vec![event("ERROR", &status(410)).into()]),
        (500, vec!["nonsense".into()]),
        list(&[map("b", 2)], 2, ""),
    ]);
    let expected = ["begin", "=a", "listed", "!410", "begin", "!list", "begin", "=b", "listed"];
    assert_eq!(told(client, expected.len()).await, expected);

    // Some servers say it before the watch begins.
    let (client, _) = scripted(vec![
        list(&[map("a", 1)], 1, ""),
        (410, vec![status(410).to_string().into()]),
        list(&[map("b", 2)], 2, ""),
    ]);
    let expected = ["begin", "=a", "listed", "!start 410", "begin", "=b", "listed"];
    assert_eq!(told(client, expected.len()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_its_server_forgets_is_given_up() {
    let silent = tower::service_fn(|request: Asked<Body>| async move {
        let listed = !request.uri().query().unwrap_or_default().contains("watch");
        let frames = listed.then(|| list(&[], 1, "").1).into_iter().flatten();
        let frames = frames.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let body = stream::iter(frames.collect::<Vec<_>>());
        let body = if listed { body.boxed() } else { body.chain(stream::pending()).boxed() };
        Ok::<_, Infallible>(Response::new(StreamBody::new(body)))
    });
    let client = Client::new(silent, "ns");
    let mut watch = Watch::begin(&client, "/api/v1/configmaps", &Config::default(), "1").await.unwrap();
    let begun = tokio::time::Instant::now();
    assert!(watch.next::<ConfigMap>().await.is_none());
    assert!(begun.elapsed() >= Duration::from_secs(LASTS.into()));
}

#[tokio::test]
async fn what_cannot_be_read_keeps_nobody_from_the_others() {
    let odd = json!({"metadata": {"name": "odd", "resourceVersion": "3"}, "data": 7});
    let nonsense = Bytes::from(event("ADDED", &odd) + &event("ADDED", &map("c", 4)));
    let (client, asked) = scripted(vec![
        list(&[map("a", 1), odd.clone()], 2, ""),
        (200, vec![nonsense]),
        list(&[map("b", 2), odd, map("c", 4)], 4, ""),
    ]);
    let events = told(client, 8).await;
    assert_eq!(events[..3], ["begin", "=a", "listed"]);
    assert!(events[3].starts_with('!'), "{events:?}");
    assert_eq!(events[4..], ["begin", "=b", "=c", "listed"]);
    assert!(!asked.lock()[2].contains("watch"));
}

#[tokio::test]
async fn conditions_may_leave_out_when_they_changed() {
    let service = |name: &str, condition: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "resourceVersion": "1"},
            "status": {"conditions": [condition]}})
    };
    let silent = service("silent", json!({"type": "A", "status": "True", "reason": "r", "message": "m"}));
    let null = service(
        "null",
        json!({"type": "A", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": null}),
    );
    let (client, _) = scripted(vec![list(&[silent], 1, ""), (200, vec![event("ADDED", &null).into()])]);
    let events = follow(Api::<Service>::namespaced(client, "ns"), Config::default());
    pin_mut!(events);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Event::InitApply(service) | Event::Apply(service) = events.try_next().await.unwrap().unwrap() {
            let condition = &service.status.unwrap().conditions.unwrap()[0];
            seen.push((service.metadata.name.unwrap(), json!(condition.last_transition_time)));
        }
    }
    let zero = json!("0001-01-01T00:00:00Z");
    assert_eq!(seen, [("silent".to_owned(), zero.clone()), ("null".to_owned(), zero)]);
}
