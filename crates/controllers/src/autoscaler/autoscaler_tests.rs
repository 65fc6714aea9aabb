use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::testing::{Asked, client, list, refused};

fn autoscaler() -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "w", "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": "3"},
        "spec": {"minReplicas": 1, "maxReplicas": 9,
            "scaleTargetRef": {"apiVersion": "example.com/v1", "kind": "Wheel", "name": "w"},
            "metrics": [
                {"type": "External", "external": {"metric": {"name": "queue", "selector": {"matchLabels": {"q": "a"}}},
                    "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "Pods", "pods": {"metric": {"name": "hits"},
                    "target": {"type": "AverageValue", "averageValue": "10"}}}]}})
}

/// Has a kind of its own with a scale, which somebody else changes once, and adapters for both metrics.
#[derive(Default)]
struct Server {
    puts: Mutex<Vec<(String, Value)>>,
}

impl Server {
    fn answer(&self, asked: &Asked) -> (u16, Value) {
        const SCALE: &str = "/apis/example.com/v1/namespaces/ns/wheels/w/scale";
        if asked.method == Method::PUT {
            let mut puts = self.puts.lock();
            puts.push((asked.path.clone(), asked.body.clone()));
            return if puts.len() == 1 { refused(409, "Conflict") } else { (200, asked.body.clone()) };
        }
        let resource = |name: &str, kind: &str| json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"]});
        let value = |pod: &str, value: &str| json!({"describedObject": {"name": pod}, "timestamp": "2026-01-01T00:00:00Z", "value": value});
        match (&*asked.path, &*asked.query) {
            ("/apis/autoscaling/v2/horizontalpodautoscalers", _) => {
                list("autoscaling/v2", "HorizontalPodAutoscaler", &[autoscaler()])
            }
            ("/api/v1/pods", _) => {
                let pod = json!({"apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": "p", "namespace": "ns", "uid": "p", "labels": {"app": "w"}},
                    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
                list("v1", "Pod", &[pod])
            }
            ("/apis/example.com/v1", _) => (
                200,
                json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "example.com/v1",
                    "resources": [resource("wheels", "Wheel"), resource("wheels/scale", "Scale")]}),
            ),
            (SCALE, _) => {
                let version = self.puts.lock().len().to_string();
                let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
                    "metadata": {"name": "w", "namespace": "ns", "resourceVersion": version},
                    "spec": {"replicas": 1}, "status": {"replicas": 1, "selector": "app=w"}});
                (200, scale)
            }
            ("/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/queue", "labelSelector=q%3Da") => {
                (200, json!({"items": [value("", "15"), value("", "10")]}))
            }
            ("/apis/custom.metrics.k8s.io", _) => {
                (200, json!({"versions": [{"version": "v1beta1"}, {"version": "v1beta2"}]}))
            }
            ("/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods/%2A/hits", "labelSelector=app%3Dw") => {
                (200, json!({"items": [value("p", "40")]}))
            }
            (other, _) if other.contains("metrics.k8s.io") => refused(404, "NotFound"),
            _ => list("v1", "Any", &[]),
        }
    }
}

#[tokio::test]
async fn any_kind_with_a_scale_is_scaled_by_what_adapters_tell() {
    let server = Arc::new(Server::default());
    let asked = Arc::clone(&server);
    let client = client(move |request| asked.answer(request));
    let mut informers = Informers::new(&client);
    let (events, _sink) = Recorder::new(client.clone(), "test", "");
    let autoscalers = Autoscalers::new(Tools { client, events }, &mut informers);
    let mut tasks = JoinSet::new();
    informers.start(&mut tasks);
    autoscalers.synced().await;
    let key = ObjectKey::new("ns", "w");
    assert_eq!(autoscalers.look(&key).await.unwrap(), Verdict::After(PERIOD.unsigned_abs()));
    {
        let puts = server.puts.lock();
        let [(_, lost), (scale, won), (status, told)] = &puts[..] else { panic!("{puts:?}") };
        assert_eq!(scale, "/apis/example.com/v1/namespaces/ns/wheels/w/scale");
        // What was lost to somebody else is tried on what that one has made.
        let versions = [lost, won].map(|scale| &scale["metadata"]["resourceVersion"]);
        assert_eq!((versions, &won["spec"]["replicas"]), ([&json!("0"), &json!("1")], &json!(4)));
        assert_eq!(status, "/apis/autoscaling/v2/namespaces/ns/horizontalpodautoscalers/w/status");
        assert_eq!(told["metadata"]["resourceVersion"], "3");
        let told = &told["status"];
        assert_eq!((&told["desiredReplicas"], &told["currentReplicas"]), (&json!(4), &json!(1)));
        assert_eq!(told["currentMetrics"][1]["pods"]["current"]["averageValue"], "40");
    }
    // However soon it is to be looked at again, it waits its time.
    let Verdict::After(rest) = autoscalers.look(&key).await.unwrap() else { panic!("it was not put off") };
    assert!(rest <= PERIOD.unsigned_abs());
    assert_eq!(server.puts.lock().len(), 3);
    assert_eq!(autoscalers.look(&ObjectKey::new("ns", "gone")).await.unwrap(), Verdict::Done);
}
