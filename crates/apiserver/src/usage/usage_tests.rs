use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::node_proxy::{NodeDialer, Stream};
use crate::testing::{ask, json as send, server};

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";
const SERVICE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io";

/// A node on which each reading is 0.3 seconds of processor time after the one before. From the second on it tells of
/// two more containers.
#[derive(Default)]
struct Kubelet(AtomicU32);

#[async_trait]
impl NodeDialer for Kubelet {
    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        let (ours, theirs) = tokio::io::duplex(1024);
        let before = f64::from(self.0.fetch_add(1, Ordering::Relaxed));
        let mut text = String::new();
        let mut tell = |pod: &str, container: &str, cpu: f64| {
            let labels = format!(r#"{{container="{container}",namespace="default",pod="{pod}"}}"#);
            text += &format!("container_cpu_usage_seconds_total{labels} {cpu}\n");
            text += &format!("container_memory_working_set_bytes{labels} 67108864\n");
        };
        tell("web", "c", 10.0 + 0.3 * before);
        tell("elsewhere", "c", 10.0 + 0.3 * before);
        if before > 0.0 {
            tell("web", "late", 0.3);
            tell("web", "unseen", 1000.0);
        }
        text += &format!(
            "node_cpu_usage_seconds_total {}\nnode_memory_working_set_bytes 1024\n",
            20.0 + 0.3 * before
        );
        let service = service_fn(move |request: http::Request<Incoming>| {
            assert_eq!(request.uri().path(), "/metrics/resource");
            let response = Response::new(Full::new(Bytes::from(text.clone())));
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(theirs), service));
        Ok(Box::new(ours))
    }
}

/// A server with two nodes, of which one can be read, and a pod on each.
async fn with_pods() -> ApiServer {
    let server = server().await;
    server.nodes().add("n1", std::sync::Arc::new(Kubelet::default()));
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    send(&server, "POST", "/api/v1/namespaces/default/serviceaccounts", account).await;
    for node in ["n1", "n2"] {
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": {"of": node}}});
        assert_eq!(send(&server, "POST", "/api/v1/nodes", node).await.0, 201);
    }
    server.registry().cache().wait_newest().await.unwrap();
    let pods = "/api/v1/namespaces/default/pods";
    for (name, node) in [("web", "n1"), ("elsewhere", "n2")] {
        let containers = ["c", "late", "unseen"].map(|name| json!({"name": name, "image": "i"}));
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": containers}});
        let (code, mut made) = send(&server, "POST", pods, pod).await;
        assert_eq!(code, 201, "{made}");
        let status = |name: &str, at: &str| {
            json!({"name": name, "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                   "state": {"running": {"startedAt": at}}})
        };
        made["status"]["containerStatuses"] =
            json!([status("late", "2100-01-01T00:00:00Z"), status("unseen", "2020-01-01T00:00:00Z")]);
        let (code, made) = send(&server, "PUT", &format!("{pods}/{name}/status"), made).await;
        assert_eq!(code, 200, "{made}");
    }
    server.registry().cache().wait_newest().await.unwrap();
    server
}

/// Nanoseconds of processor time that were used within the window.
fn spent(usage: &Value, window: &Value) -> f64 {
    let cpu: tiphys_api::quantity::Quantity = usage["cpu"].as_str().unwrap().parse().unwrap();
    let window = window.as_str().unwrap();
    let (minutes, seconds) = window.split_once('m').unwrap_or(("0", window));
    let seconds: f64 = seconds.trim_end_matches('s').parse().unwrap();
    let minutes: f64 = minutes.parse().unwrap();
    cpu.milli() as f64 * 1e6 * (seconds + 60.0 * minutes)
}

#[tokio::test]
async fn what_pods_and_nodes_use_is_found_out_when_somebody_asks() {
    let server = with_pods().await;
    let get = async |path: &str| send(&server, "GET", &format!("{METRICS}/{path}"), Value::Null).await;
    let (code, list) = get("pods").await;
    assert_eq!((code, &list["kind"]), (200, &json!("PodMetricsList")), "{list}");
    // A node cannot tell of pods that are not on it.
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    let pod = &list["items"][0];
    assert_eq!((&pod["kind"], &pod["apiVersion"]), (&json!("PodMetrics"), &json!("metrics.k8s.io/v1beta1")));
    let metadata = &pod["metadata"];
    assert_eq!((&metadata["name"], &metadata["namespace"]), (&json!("web"), &json!("default")));
    assert_eq!(metadata["labels"], json!({"app": "web"}));
    // Of a container that was not seen before, nobody knows since when it has used what it has.
    let names: Vec<_> = pod["containers"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["c", "late"]);
    for container in pod["containers"].as_array().unwrap() {
        let spent = spent(&container["usage"], &pod["window"]);
        assert!((2.9e8..3.2e8).contains(&spent), "{pod}");
        assert_eq!(container["usage"]["memory"], "64Mi");
    }

    let (code, one) = get("namespaces/default/pods/web").await;
    assert_eq!((code, &one["metadata"]["name"]), (200, &json!("web")));
    for selected in
        ["pods?labelSelector=app%3Dweb", "pods?fieldSelector=metadata.name%3Dweb", "namespaces/default/pods"]
    {
        assert_eq!(get(selected).await.1["items"].as_array().map(Vec::len), Some(1), "{selected}");
    }
    for none in
        ["pods?labelSelector=app%3Dx", "pods?fieldSelector=metadata.name%3Dx", "namespaces/kube-system/pods"]
    {
        assert_eq!(get(none).await.1["items"], json!([]), "{none}");
    }
    let (code, missing) = get("namespaces/default/pods/elsewhere").await;
    let message = "podmetrics.metrics.k8s.io \"default/elsewhere\" not found";
    assert_eq!((code, &missing["message"]), (404, &json!(message)));

    let (_, nodes) = get("nodes").await;
    assert_eq!(nodes["kind"], "NodeMetricsList");
    assert_eq!(nodes["items"].as_array().map(Vec::len), Some(1), "{nodes}");
    assert_eq!(nodes["items"][0]["metadata"]["labels"], json!({"of": "n1"}));
    assert!((2.9e8..3.2e8).contains(&spent(&nodes["items"][0]["usage"], &nodes["items"][0]["window"])));
    assert_eq!(get("nodes/n1").await.0, 200);
    assert_eq!(get("nodes/n2").await.1["message"], "nodemetrics.metrics.k8s.io \"n2\" not found");
    for nowhere in ["services", "pods/web", "namespaces/default/nodes", "namespaces/default/pods/web/log"] {
        assert_eq!(get(nowhere).await.0, 404, "{nowhere}");
    }
    assert_eq!(get("nodes?watch=true").await.0, 405);
    assert_eq!(send(&server, "DELETE", &format!("{METRICS}/nodes/n1"), Value::Null).await.0, 405);
    let accept = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let table = ask(&server, "GET", &format!("{METRICS}/nodes"), &accept, "").await.json();
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][2]), (&json!("Table"), &json!("1Ki")));
}

#[tokio::test]
async fn it_is_found_like_any_group_until_another_server_answers_it() {
    let server = server().await;
    let get = async |path: &str| send(&server, "GET", path, Value::Null).await;
    let (code, service) = get(SERVICE).await;
    assert_eq!((code, &service["status"]["conditions"][0]["reason"]), (200, &json!("Local")), "{service}");
    let resources = get(METRICS).await.1["resources"].take();
    assert_eq!(
        resources[1],
        json!({"name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics",
                                    "verbs": ["get", "list"]})
    );
    assert_eq!(get("/apis/metrics.k8s.io").await.1["preferredVersion"]["groupVersion"], "metrics.k8s.io/v1");
    let groups = get("/apis").await.1["groups"].take();
    assert_eq!(groups.as_array().unwrap().last().unwrap()["name"], "metrics.k8s.io");
    let aggregated = [("accept", crate::discovery::AGGREGATED_V2)];
    let list = ask(&server, "GET", "/apis", &aggregated, "").await.json();
    let own =
        list["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "metrics.k8s.io").unwrap();
    assert_eq!(own["versions"][0]["resources"][0]["resource"], "nodes");
    assert_eq!(
        get(&format!("{METRICS}/nodes")).await,
        (
            200,
            json!({"kind": "NodeMetricsList",
        "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": []})
        )
    );

    let ga = get("/apis/metrics.k8s.io/v1/nodes").await;
    assert_eq!((ga.0, &ga.1["apiVersion"]), (200, &json!("metrics.k8s.io/v1")));

    for version in ["v1", "v1beta1"] {
        let index = get("/openapi/v3").await.1["paths"].take();
        let url = index[format!("apis/metrics.k8s.io/{version}")]["serverRelativeURL"].clone();
        let (code, document) = get(url.as_str().unwrap()).await;
        assert_eq!(code, 200, "{url}");
        let schema = &document["components"]["schemas"][format!("io.k8s.metrics.{version}.PodMetrics")];
        assert_eq!(schema["properties"]["containers"]["items"]["required"], json!(["name", "usage"]));
        let path = format!("/apis/metrics.k8s.io/{version}/namespaces/{{namespace}}/pods/{{name}}");
        let methods: Vec<_> = document["paths"][&path].as_object().unwrap().keys().collect();
        assert_eq!(methods, ["get", "parameters"]);
    }
    let described = async || get("/openapi/v2").await.1["paths"]["/apis/metrics.k8s.io/v1/nodes"].is_object();
    assert!(described().await);

    let other = json!({"spec": {"service": {"namespace": "kube-system", "name": "metrics-server"}}});
    let patch = [("content-type", "application/merge-patch+json")];
    assert_eq!(ask(&server, "PATCH", SERVICE, &patch, other.to_string()).await.code, 200);
    server.registry().cache().wait_newest().await.unwrap();
    // There is no such Service: nobody stands in for the server that was to answer.
    assert_ne!(get(&format!("{METRICS}/nodes")).await.0, 200);
    assert_eq!(get("/apis/metrics.k8s.io/v1/nodes").await.0, 404, "the group has one server");
    assert_eq!(get("/openapi/v3/apis/metrics.k8s.io/v1").await.0, 404);
    assert!(!described().await);
    assert_eq!(send(&server, "DELETE", SERVICE, Value::Null).await.0, 200);
    server.registry().cache().wait_newest().await.unwrap();
    crate::aggregation::local::settled(server.registry()).await;
    assert_eq!(get(&format!("{METRICS}/nodes")).await.0, 200);
}
