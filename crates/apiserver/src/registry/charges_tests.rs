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

#[tokio::test]
async fn a_new_quota_is_waited_for_and_lets_nothing_by() {
    let server = server().await;
    let object = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": {"configmaps": "1"}}});
    let (code, made) = send(&server, "POST", QUOTAS, object).await;
    assert_eq!(code, 201, "{made}");
    server.registry().cache().wait_newest().await.unwrap();
    let (code, refused) = map(&server, "a").await;
    let why = "configmaps \"a\" is forbidden: status unknown for quota: q, resources: configmaps";
    assert_eq!((code, &refused["message"]), (403, &json!(why)), "nobody counts");
    let counts = async {
        // Whether the request comes before or after, it gets what there is.
        let mut counted = made.clone();
        counted["status"] = json!({"hard": {"configmaps": "1"}, "used": {"configmaps": "0"}});
        assert_eq!(send(&server, "PUT", &format!("{QUOTAS}/q/status"), counted).await.0, 200);
    };
    let (a, b, ()) = tokio::join!(map(&server, "a"), map(&server, "b"), counts);
    let mut codes = [a.0, b.0];
    codes.sort_unstable();
    assert_eq!(codes, [201, 403], "{a:?} {b:?}");
    assert_eq!(used(&server, "q").await, json!({"configmaps": "1"}));
}

#[tokio::test]
async fn claims_to_devices_are_charged_by_all_names_of_their_class() {
    let server = server().await;
    let class = |resource: &str| {
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu"},
            "spec": {"extendedResourceName": resource}})
    };
    let classes = "/apis/resource.k8s.io/v1/deviceclasses";
    assert_eq!(send(&server, "POST", classes, class("example.com/card")).await.0, 201);
    let [own, implicit, explicit] = [
        "gpu.deviceclass.resource.k8s.io/devices",
        "requests.deviceclass.resource.kubernetes.io/gpu",
        "requests.example.com/card",
    ];
    let spec = json!({"hard": {own: "9", implicit: "9", explicit: "4"}});
    quota(&server, "q", spec, json!({own: "0", implicit: "0", explicit: "0"})).await;
    let claim = |name: &str| {
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu", "count": 3}}]}}})
    };
    let claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let (code, made) = send(&server, "POST", claims, claim("a")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(used(&server, "q").await, json!({own: "3", implicit: "3", explicit: "3"}));
    let (code, refused) = send(&server, "POST", claims, claim("b")).await;
    assert_eq!(code, 403);
    let end = format!("requested: {explicit}=3, used: {explicit}=3, limited: {explicit}=4");
    assert!(refused["message"].as_str().unwrap().ends_with(&end), "{refused}");

    let (code, changed) = send(&server, "PUT", &format!("{classes}/gpu"), class("example.com/other")).await;
    assert_eq!(code, 200, "{changed}");
    server.registry().cache().wait_newest().await.unwrap();
    assert_eq!(send(&server, "POST", claims, claim("b")).await.0, 201, "the class is another resource now");
    assert_eq!(used(&server, "q").await, json!({own: "6", implicit: "6", explicit: "3"}));
}
