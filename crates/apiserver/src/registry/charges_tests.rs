//! Quotas, asked in process of a whole server.

use std::sync::Arc;

use futures::future::join_all;
use serde_json::{Value, json};
use tiphys_api::quota::Limited;

use crate::ApiServer;
use crate::testing::{json as send, server};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Makes a quota whose status says what the controller would.
async fn quota(server: &ApiServer, name: &str, spec: Value, used: Value) {
    let object =
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec});
    let (code, mut made) = send(server, "POST", QUOTAS, object).await;
    assert_eq!(code, 201, "{made}");
    made["status"] = json!({"hard": made["spec"]["hard"], "used": used});
    let (code, made) = send(server, "PUT", &format!("{QUOTAS}/{name}/status"), made).await;
    assert_eq!(code, 200, "{made}");
    server.registry().cache().wait_newest().await.unwrap();
}

async fn used(server: &ApiServer, name: &str) -> Value {
    send(server, "GET", &format!("{QUOTAS}/{name}"), Value::Null).await.1["status"]["used"].clone()
}

async fn map(server: &ApiServer, name: &str) -> (u16, Value) {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    send(server, "POST", MAPS, object).await
}

#[tokio::test]
async fn many_at_once_get_exactly_what_there_is() {
    let server = server().await;
    let spec = json!({"hard": {"configmaps": "5"}});
    quota(&server, "q", spec, json!({"configmaps": "1"})).await;
    let names: Vec<String> = (0..16).map(|i| format!("m{i}")).collect();
    let codes = join_all(names.iter().map(|name| map(&server, name))).await;
    assert_eq!(codes.iter().filter(|(code, _)| *code == 201).count(), 4);
    let refused: Vec<&Value> = codes.iter().filter(|(code, _)| *code == 403).map(|(_, body)| body).collect();
    assert_eq!(refused.len(), 12);
    let message = refused[0]["message"].as_str().unwrap();
    let want =
        "is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=5, limited: configmaps=5";
    assert!(message.starts_with("configmaps \"m") && message.ends_with(want), "{message}");
    assert_eq!(used(&server, "q").await, json!({"configmaps": "5"}));
}

#[tokio::test]
async fn what_is_not_made_costs_nothing() {
    let server = server().await;
    quota(&server, "q", json!({"hard": {"configmaps": "5"}}), json!({"configmaps": "0"})).await;
    assert_eq!(map(&server, "a").await.0, 201);
    assert_eq!(map(&server, "a").await.0, 409);
    let dry = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}});
    assert_eq!(send(&server, "POST", &format!("{MAPS}?dryRun=All"), dry).await.0, 201);
    quota(&server, "full", json!({"hard": {"configmaps": "0"}}), json!({"configmaps": "0"})).await;
    assert_eq!(map(&server, "c").await.0, 403);
    assert_eq!(used(&server, "q").await, json!({"configmaps": "1"}), "all quotas are charged or none");
}

#[tokio::test]
async fn a_charge_starts_from_what_a_controller_wrote_meanwhile() {
    let server = server().await;
    quota(&server, "q", json!({"hard": {"configmaps": "9"}}), json!({"configmaps": "0"})).await;
    let writes = async {
        for _ in 0..8 {
            let (_, mut now) = send(&server, "GET", &format!("{QUOTAS}/q"), Value::Null).await;
            now["metadata"].as_object_mut().unwrap().remove("resourceVersion");
            now["metadata"]["annotations"] =
                json!({"seen": now["metadata"]["uid"], "n": now["status"]["used"]["configmaps"]});
            send(&server, "PUT", &format!("{QUOTAS}/q"), now).await;
        }
    };
    let names: Vec<String> = (0..9).map(|i| format!("m{i}")).collect();
    let (codes, ()) = tokio::join!(join_all(names.iter().map(|name| map(&server, name))), writes);
    assert!(codes.iter().all(|(code, _)| *code == 201), "{codes:?}");
    assert_eq!(used(&server, "q").await, json!({"configmaps": "9"}));
}

#[tokio::test]
async fn what_is_limited_needs_a_quota() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = crate::testing::config(
        Arc::new(tiphys_pki::Pki::open(dir.path()).unwrap()),
        crate::testing::ADVERTISED,
    );
    let contains = vec!["count/".to_owned()];
    config.admission.limited = [Limited::new(String::new(), "secrets".to_owned(), contains, &[])].into();
    let server = ApiServer::start(config, Arc::new(tiphys_store::Memory::new())).await.unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    let path = "/api/v1/namespaces/default/secrets";
    let (code, refused) = send(&server, "POST", path, secret.clone()).await;
    let why = "secrets \"s\" is forbidden: insufficient quota to consume: count/secrets";
    assert_eq!((code, &refused["message"]), (403, &json!(why)));
    assert_eq!(map(&server, "a").await.0, 201);
    quota(&server, "q", json!({"hard": {"count/secrets": "1"}}), json!({"count/secrets": "0"})).await;
    assert_eq!(send(&server, "POST", path, secret).await.0, 201);
    assert_eq!(used(&server, "q").await, json!({"count/secrets": "1"}));
}

#[tokio::test]
async fn services_are_charged_for_what_they_become() {
    let server = server().await;
    let spec = json!({"hard": {"services": "2", "services.nodeports": "0"}});
    quota(&server, "q", spec, json!({"services": "0", "services.nodeports": "0"})).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    let path = "/api/v1/namespaces/default/services";
    let (code, mut made) = send(&server, "POST", path, service).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(used(&server, "q").await, json!({"services": "1", "services.nodeports": "0"}));
    made["spec"]["type"] = "NodePort".into();
    let (code, refused) = send(&server, "PUT", &format!("{path}/s"), made).await;
    assert_eq!(code, 403);
    assert!(refused["message"].as_str().unwrap().ends_with("limited: services.nodeports=0"), "{refused}");
}
