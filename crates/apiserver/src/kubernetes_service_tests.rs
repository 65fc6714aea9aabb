use crate::testing::{json as ask, server_at};

use super::*;

#[tokio::test]
async fn pods_find_the_server_behind_the_service() {
    let server = server_at("192.0.2.7:6443".parse().unwrap()).await;
    let get = |path: &'static str| {
        let server = server.clone();
        async move { ask(&server, "GET", path, Value::Null).await.1 }
    };
    let service = get("/api/v1/namespaces/default/services/kubernetes").await;
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 6443);
    let endpoints = get("/api/v1/namespaces/default/endpoints/kubernetes").await;
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "192.0.2.7");
    let slice = get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await;
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.7"]));

    // A server that has moved says so, and nothing is written for one that has not.
    let publish = |address: &str| {
        let place = Place { service: [10, 96, 0, 1].into(), server: address.parse().unwrap() };
        let server = server.clone();
        async move { publish(server.registry(), place).await.unwrap() }
    };
    publish("192.0.2.7:6443").await;
    assert_eq!(get("/api/v1/namespaces/default/endpoints/kubernetes").await, endpoints);
    publish("192.0.2.8:7443").await;
    let moved = get("/api/v1/namespaces/default/endpoints/kubernetes").await;
    assert_eq!(moved["subsets"][0]["addresses"][0]["ip"], "192.0.2.8");
    assert_eq!(moved["subsets"][0]["ports"][0]["port"], 7443);
}
