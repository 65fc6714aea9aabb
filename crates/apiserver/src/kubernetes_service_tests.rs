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
        let place = Place { service: [10, 96, 0, 1].into(), server: address.parse().unwrap(), keys: [1; 32] };
        let server = server.clone();
        async move { publish(server.registry(), place, &[]).await.unwrap() }
    };
    publish("192.0.2.7:6443").await;
    assert_eq!(get("/api/v1/namespaces/default/endpoints/kubernetes").await, endpoints);
    publish("192.0.2.8:7443").await;
    let moved = get("/api/v1/namespaces/default/endpoints/kubernetes").await;
    assert_eq!(moved["subsets"][0]["addresses"][0]["ip"], "192.0.2.8");
    assert_eq!(moved["subsets"][0]["ports"][0]["port"], 7443);
}

#[test]
fn all_servers_stand_behind_the_service() {
    let servers = ["192.0.2.7:6443", "192.0.2.8:6443", "192.0.2.8:7443"].map(|s| s.parse().unwrap());
    let endpoints = endpoints(&servers);
    let subset = |at: usize| {
        let addresses = endpoints["subsets"][at]["addresses"].as_array().unwrap();
        let ips: Vec<_> = addresses.iter().map(|address| address["ip"].as_str().unwrap()).collect();
        (endpoints["subsets"][at]["ports"][0]["port"].as_u64().unwrap(), ips)
    };
    assert_eq!(subset(0), (6443, vec!["192.0.2.7", "192.0.2.8"]));
    assert_eq!(subset(1), (7443, vec!["192.0.2.8"]));
    assert_eq!(slice(&servers)["endpoints"].as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_goes() {
    let store = tiphys_store::Memory::new();
    let place = |server: SocketAddr| Place { service: [10, 96, 0, 1].into(), server, keys: [1; 32] };
    let [one, other] = ["192.0.2.7:6443", "[2001:db8::8]:6443"].map(|s| s.parse().unwrap());
    assert_eq!(meet(&store, place(one)).await.unwrap(), [one]);
    tokio::time::sleep(RENEWAL).await;
    assert_eq!(meet(&store, place(other)).await.unwrap(), [one, other]);
    tokio::time::sleep(RENEWAL).await;
    assert_eq!(meet(&store, place(other)).await.unwrap(), [other], "the first has not come again");
}
