//! What a server makes of the store under it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
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

/// Keys that differ would keep Secrets from each other, and put one server's authority over the other's.
#[tokio::test]
async fn a_server_with_other_keys_is_not_let_in() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [ours, others] = dirs.each_ref().map(|dir| Arc::new(tiphys_pki::Pki::open(dir.path()).unwrap()));
    let store = Arc::new(tiphys_store::Memory::new());
    let start = async |pki: &Arc<tiphys_pki::Pki>, at: &str| {
        let config = testing::config(pki.clone(), at.parse().unwrap());
        crate::ApiServer::start(crate::Config { shared: true, ..config }, store.clone()).await
    };
    let _one = start(&ours, "192.0.2.7:6443").await.unwrap();
    let _other = start(&ours, "192.0.2.8:6443").await.unwrap();
    let refused = start(&others, "192.0.2.9:6443").await.err().map(|error| error.to_string());
    assert!(refused.is_some_and(|told| told.contains("start this one with a copy of its pki")));
}

/// Two servers over one store: what one writes the other tells at once, neither gives out what the other has given,
/// and together they pass no quota.
#[tokio::test]
async fn two_servers_share_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Arc::new(tiphys_pki::Pki::open(dir.path()).unwrap());
    let store = Arc::new(tiphys_store::Memory::new());
    let start = async || {
        let config = testing::config(pki.clone(), ADVERTISED);
        // Fourteen addresses; one is the API's own.
        let config = crate::Config { service_range: "10.96.0.0/28".parse().unwrap(), ..config };
        let server = crate::ApiServer::start(config, store.clone()).await.unwrap();
        crate::aggregation::local::settled(server.registry()).await;
        server
    };
    let (one, other) = (start().await, start().await);
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}});
    let (code, made) = testing::json(&one, "POST", secrets, secret).await;
    assert_eq!(code, 201);
    assert_eq!(testing::json(&other, "GET", &format!("{secrets}/s"), Value::Null).await, (200, made));
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(merge(&other, &format!("{secrets}/s"), &patch).await, 200);
    let (_, list) = testing::json(&one, "GET", &format!("{secrets}?labelSelector=a%3Db"), Value::Null).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);

    let services = "/api/v1/namespaces/default/services";
    let service = |n: usize| {
        let port = json!({"port": 80});
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{n}")}, "spec": {"ports": [port]}})
    };
    let made = join_all((0..16).map(|n| {
        let server = if n % 2 == 0 { &one } else { &other };
        testing::json(server, "POST", services, service(n))
    }));
    let made: Vec<_> = made.await.into_iter().filter(|(code, _)| *code == 201).collect();
    let addresses: HashSet<_> = made.iter().map(|(_, s)| s["spec"]["clusterIP"].to_string()).collect();
    assert_eq!((made.len(), addresses.len()), (13, 13));

    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": {"count/configmaps": "5"}},
        "status": {"hard": {"count/configmaps": "5"}, "used": {"count/configmaps": "0"}}});
    assert_eq!(testing::json(&one, "POST", quotas, quota.clone()).await.0, 201);
    assert_eq!(merge(&one, &format!("{quotas}/q/status"), &json!({"status": quota["status"]})).await, 200);
    other.registry().cache().wait_newest().await.unwrap();
    let made = join_all((0..10).map(|n| {
        let server = if n % 2 == 0 { &one } else { &other };
        testing::json(server, "POST", MAPS, map(&format!("m{n}")))
    }));
    let codes: Vec<_> = made.await.into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 5, "{codes:?}");
    assert!(codes.iter().all(|code| [201, 403].contains(code)), "{codes:?}");
}

async fn merge(server: &crate::ApiServer, path: &str, patch: &Value) -> u16 {
    let headers = [("content-type", "application/merge-patch+json")];
    testing::ask(server, "PATCH", path, &headers, patch.to_string()).await.code
}
