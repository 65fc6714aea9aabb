use bytes::Bytes;
use http::Request;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::ApiServer;
use crate::aggregation::tests::{GROUP_PATH, SERVICES, available, register};
use crate::openapi::V2_PROTOBUF;
use crate::outgoing::stranger::Stranger;
use crate::testing::{ask, json as send, server};

/// What the other server answers: code, tag, body.
type Answer = (u16, &'static str, String);

/// A server of one group that answers `/openapi/v2` as it is told to, and tells what it was asked with.
async fn wardle(answer: Arc<Mutex<Answer>>) -> (Stranger, mpsc::UnboundedReceiver<HeaderMap>) {
    let (tell, asked) = mpsc::unbounded_channel();
    let stranger = Stranger::start(&["api.default.svc"], move |request: Request<Bytes>| {
        let (tell, answer) = (tell.clone(), Arc::clone(&answer));
        async move {
            match request.uri().path() {
                GROUP_PATH => {
                    let list = json!({"kind": "APIResourceList", "groupVersion": "wardle.example.com/v1alpha1",
                                      "resources": []});
                    Response::new(Bytes::from(list.to_string()))
                }
                "/openapi/v2" => {
                    let (code, tag, body) = answer.lock().clone();
                    tell.send(request.headers().clone()).unwrap();
                    let known = request.headers().get("if-none-match").is_some_and(|known| known == tag);
                    let response = Response::builder().status(if known { 304 } else { code });
                    response.header("etag", tag).body(Bytes::from(body)).unwrap()
                }
                _ => Response::builder().status(404).body(Bytes::new()).unwrap(),
            }
        }
    });
    (stranger.await, asked)
}

/// A document that has a path of this name.
fn document(name: &str) -> String {
    let answers =
        json!({"200": {"description": "OK", "schema": {"$ref": "#/definitions/com.example.Flunder"}}});
    json!({
        "swagger": "2.0", "info": {"title": "Wardle", "version": "1"},
        "paths": {
            format!("{GROUP_PATH}/{name}"): {"get": {"operationId": name, "responses": answers}},
            "/apis/apps/v1/deployments": {"get": {"operationId": "mine", "responses": answers}},
        },
        "definitions": {"com.example.Flunder": {"type": "object", "pattern": name}},
    })
    .to_string()
}

/// Changes the APIService, so that its server is asked.
async fn touch(server: &ApiServer, n: usize) {
    let change = json!({"metadata": {"labels": {"n": n.to_string()}}});
    let path = format!("{SERVICES}/v1alpha1.wardle.example.com");
    let headers = [("content-type", "application/merge-patch+json")];
    assert_eq!(ask(server, "PATCH", &path, &headers, change.to_string()).await.code, 200);
}

async fn mentions(server: &ApiServer, what: &str) -> bool {
    let document = ask(server, "GET", "/openapi/v2", &[("accept", V2_PROTOBUF)], "").await;
    assert_eq!(document.code, 200);
    document.body.windows(what.len()).any(|window| window == what.as_bytes())
}

#[tokio::test]
async fn what_servers_say_is_in_openapi_v2_until_they_are_gone() {
    let answer = Arc::new(Mutex::new((200, "\"1\"", document("flunders"))));
    let (server, (wardle, mut asked)) = (server().await, wardle(Arc::clone(&answer)).await);
    let mut news = server.aggregation().follow_descriptions();
    let mut before = ask(&server, "GET", "/openapi/v2", &[], "").await.json();
    register(&server, &wardle).await;
    let headers = asked.recv().await.unwrap();
    assert_eq!(
        (headers["x-remote-user"].as_bytes(), headers["accept"].as_bytes()),
        (&b"system:aggregator"[..], &b"application/json"[..])
    );
    assert!(!headers.contains_key("x-remote-group") && !headers.contains_key("if-none-match"));
    news.changed().await.unwrap();

    let first = ask(&server, "GET", "/openapi/v2", &[], "").await;
    let merged = first.json();
    let path = format!("{GROUP_PATH}/flunders");
    assert_eq!(merged["paths"][&path]["get"]["operationId"], "flunders");
    assert_eq!(merged["definitions"]["com.example.Flunder"]["type"], "object");
    before["paths"][&path] = merged["paths"][&path].clone();
    before["definitions"]["com.example.Flunder"] = merged["definitions"]["com.example.Flunder"].clone();
    assert!(merged == before, "nothing else is changed");
    assert!(mentions(&server, "com.example.Flunder").await);
    let tag = first.headers["etag"].to_str().unwrap();
    assert_eq!(ask(&server, "GET", "/openapi/v2", &[("if-none-match", tag)], "").await.code, 304);

    // What is known already, and what nobody can read, changes nothing.
    for (n, wrong) in [None, Some("{"), Some(r#"{"swagger": "2.0", "paths": 7}"#)].into_iter().enumerate() {
        if let Some(wrong) = wrong {
            *answer.lock() = (200, "\"wrong\"", wrong.to_owned());
        }
        touch(&server, n).await;
        assert_eq!(asked.recv().await.unwrap()["if-none-match"], "\"1\"");
        assert!(ask(&server, "GET", "/openapi/v2", &[], "").await.headers["etag"] == *tag);
    }
    *answer.lock() = (200, "\"2\"", document("fischers"));
    touch(&server, 9).await;
    news.changed().await.unwrap();
    assert!(mentions(&server, "fischers").await && !mentions(&server, "flunders").await);

    // What a server said stays while it is away.
    assert_eq!(send(&server, "DELETE", "/api/v1/namespaces/default/services/api", Value::Null).await.0, 200);
    available(&server, "False").await;
    assert!(mentions(&server, "fischers").await);
    let path = format!("{SERVICES}/v1alpha1.wardle.example.com");
    assert_eq!(send(&server, "DELETE", &path, Value::Null).await.0, 200);
    news.changed().await.unwrap();
    assert!(!mentions(&server, "fischers").await);
}

fn backend(available: bool) -> Arc<Backend> {
    Arc::new(Backend {
        name: "v1.a.example.com".to_owned(),
        group: "a.example.com".to_owned(),
        version: "v1".to_owned(),
        group_priority: 0,
        version_priority: 0,
        available,
        endpoint: Err("nowhere".to_owned()),
    })
}

#[tokio::test(start_paused = true)]
async fn who_fails_is_asked_less_and_less_often() {
    let (backend, start) = (backend(true), Instant::now());
    let mut known = Known::new(&backend, start);
    assert!(known.turn(&backend, start));
    assert!(!known.turn(&backend, start + SELDOM), "it is being asked");
    let failure = || Err(Failure::Nowhere(String::new()));
    let mut waits = Vec::new();
    for _ in 0..8 {
        known.heard(&backend, failure());
        waits.push((known.due - start).as_secs() / 60);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert!(!known.turn(&backend, start) && known.turn(&backend, known.due));
    known.heard(&backend, Ok(None));
    assert_eq!(known.due - start, EVERY);
    known.heard(&backend, failure());
    assert_eq!(known.due - start, EVERY);
}

#[tokio::test(start_paused = true)]
async fn who_changes_is_asked_at_once() {
    let (first, away, back, now) = (backend(true), backend(false), backend(true), Instant::now());
    let mut known = Known::new(&first, now);
    assert!(known.turn(&first, now));
    known.heard(&first, Err(Failure::Nowhere(String::new())));
    assert!(!known.turn(&first, now) && !known.turn(&away, now) && known.turn(&back, now));
    // An answer of before the change does not put the next question off.
    assert!(!known.turn(&first, now));
    known.heard(&back, Ok(None));
    assert!(known.turn(&first, now));
}
