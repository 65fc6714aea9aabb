//! What a server makes of the store under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};
use tiphys_store::embedded::{Embedded, Faults, Options, Step};
use tiphys_store::{Change, Expect, Key, Write};
use tower_service::Service;

use crate::identity::Component;
use crate::stored;
use crate::testing::{self, ADVERTISED, server, server_on};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

/// A sync that fails is told to the client; the server then finds out what is on disk and goes on, and whoever
/// watches misses nothing.
#[tokio::test]
async fn a_failed_sync_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let faults: Faults = Arc::new(move |step| match step {
        Step::Sync if fails.swap(false, Ordering::SeqCst) => Err(std::io::Error::other("no sync")),
        _ => Ok(()),
    });
    let store = Arc::new(Embedded::open(dir.path(), Options { faults, ..Options::default() }).unwrap());
    let server = server_on(ADVERTISED, store.clone()).await;
    let (code, first) = testing::json(&server, "POST", MAPS, map("first")).await;
    assert_eq!(code, 201);
    let watch = Request::get(format!(
        "{MAPS}?watch=true&resourceVersion={}",
        first["metadata"]["resourceVersion"].as_str().unwrap()
    ));
    let watch = watch.body(Empty::new()).unwrap();
    let mut watch = server.connector(&Component::ApiServer).call(watch).await.unwrap().into_body();

    failing.store(true, Ordering::SeqCst);
    let (code, status) = testing::json(&server, "POST", MAPS, map("doubtful")).await;
    assert_eq!((code, &status["reason"]), (500, &json!("InternalError")));
    tiphys_store::Store::mended(&*store).await.unwrap();
    let (code, last) = testing::json(&server, "POST", MAPS, map("last")).await;
    assert_eq!(code, 201, "{last}");
    // The write that failed had reached the disk.
    assert_eq!(testing::json(&server, "GET", &format!("{MAPS}/doubtful"), Value::Null).await.0, 200);
    let mut seen = String::new();
    while !seen.contains("\"last\"") {
        let frame = tokio::time::timeout(Duration::from_secs(60), watch.frame()).await.unwrap();
        seen.push_str(std::str::from_utf8(frame.unwrap().unwrap().data_ref().unwrap()).unwrap());
    }
    let names = seen.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let names: Vec<_> = names.map(|event| event["object"]["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["doubtful", "last"]);
    server.stop();
}

/// A server that has lost its store says so; it does not go on without it.
#[tokio::test]
async fn a_server_fails_with_its_store() {
    let store = Arc::new(tiphys_store::Memory::new());
    let server = server_on(ADVERTISED, store.clone()).await;
    store.close();
    assert!(server.failed().await.to_string().contains("closed"));
    assert!(testing::json(&server, "POST", MAPS, map("a")).await.0 >= 400);
}

/// An object that was stored before its kind got a default can be changed: the default is no change of a field
/// that must not change.
#[tokio::test]
async fn what_is_stored_gets_defaults_before_it_is_compared() {
    let server = server().await;
    let metadata = json!({"name": "old", "namespace": "default", "uid": "u",
                          "creationTimestamp": "2020-01-01T00:00:00Z"});
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata});
    let write = Write {
        key: Key::new("/registry/core/secrets/default/old"),
        expect: Expect::Absent,
        change: Change::Put { value: stored::encode(&object), ttl: None },
        note: None,
    };
    server.registry().store().commit(vec![write]).await.unwrap();
    server.registry().cache().wait_newest().await.unwrap();
    let path = "/api/v1/namespaces/default/secrets/old";
    let patch = json!({"data": {"a": "Yg=="}}).to_string();
    let kind = [("content-type", "application/merge-patch+json")];
    let answer = testing::ask(&server, "PATCH", path, &kind, patch).await;
    assert_eq!((answer.code, &answer.json()["type"]), (200, &json!("Opaque")), "{}", answer.json());
}
